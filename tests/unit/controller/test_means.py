"""What a namespace finds and builds images with: what its Workspace says."""

import msgspec

from stoker.api.workspace import WorkspaceSpec
from stoker.controller.config import Config
from stoker.controller.means import means_of

CONFIG = Config(agent_image="agent", server_url="http://server")


def test_images_are_signed_where_the_workspace_names_a_secret_and_nowhere_else() -> None:
    signing = msgspec.convert({"signing": {"secretRef": {"name": "cosign"}}}, WorkspaceSpec)

    assert "cosign" == means_of("team", signing, CONFIG).signing_secret
    assert "" == means_of("team", WorkspaceSpec(), CONFIG).signing_secret
