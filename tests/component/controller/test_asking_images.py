"""What an image means is asked where the namespace's Workspace says, with the Secrets as they are."""

import base64
import json
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from lab.images import Layer, _digest, push
from stoker.controller.asking import Asking
from stoker.controller.pull_secrets import PullSecrets
from stoker.core.environment.means import Means
from stoker.core.environment.request import Mirrors
from stoker.core.plan import Answer, Found, ImageDigest, Refused
from stoker.core.trainingjob.view import WorkspaceView
from stoker.images.registry import Registry
from tests.support.registries import PASSWORD, USER, RunningRegistry, registry


@pytest.fixture(scope="module")
def mirror(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningRegistry]:
    with registry(tmp_path_factory.mktemp("registry")) as found:
        yield found


async def asked(mirror: RunningRegistry, path: str, platform: str = "linux/amd64") -> Answer:
    """What the operator finds out of docker.io's python:3.11 at the namespace's mirror."""
    means = Means(mirrors=Mirrors(images={"docker.io": f"{mirror.address}/{path}"}))
    views = {"team": WorkspaceView("s3://runs", means=means)}

    async with Registry(insecure=frozenset({mirror.address}), user_agent="test/1") as known:
        workspaces = SimpleNamespace(view=views.__getitem__)
        asking = Asking(cast(Any, workspaces), known, PullSecrets(cast(Any, None)))
        return await asking(ImageDigest("team", "python:3.11", platform, ()))


def pushed(mirror: RunningRegistry, folder: Path) -> str:
    """The digest of an image for linux/amd64, as a tool without indexes pushes it."""
    (folder / "layer").write_bytes(b"layer")
    layer = Layer(folder / "layer", _digest(b"layer"), _digest(b"layer"))
    return push(mirror.address, "hub/library/python", "3.11", layer, {}).partition("@")[2]


async def test_an_image_of_another_architecture_is_no_missing_image(mirror: RunningRegistry, tmp_path: Path) -> None:
    pushed(mirror, tmp_path)

    answer = await asked(mirror, "hub", "linux/arm64")

    assert isinstance(answer, Refused)
    assert "ArchitectureMismatch" == answer.reason
    assert "it is there for linux/amd64, and not for linux/arm64" in answer.message
    assert answer.fix


@pytest.mark.parametrize(("path", "expected"), [("hub", Found), ("elsewhere", Refused)])
async def test_an_image_is_looked_up_at_the_namespace_s_mirror(
    mirror: RunningRegistry, tmp_path: Path, path: str, expected: type
) -> None:
    digest = pushed(mirror, tmp_path)

    answer = await asked(mirror, path)

    assert isinstance(answer, expected)
    if isinstance(answer, Found):
        assert f"docker.io/library/python@{digest}" == answer.value
    else:
        assert f"{mirror.address}/elsewhere/library/python:3.11" in cast(Refused, answer).message


async def test_a_secret_that_is_mended_counts_at_the_next_question(tmp_path: Path) -> None:
    """What a registry has refused is not kept, though Secrets are."""
    (tmp_path / "layer").write_bytes(b"layer")
    layer, read = Layer(tmp_path / "layer", _digest(b"layer"), _digest(b"layer")), []
    with registry(tmp_path) as open_to_all:
        push(open_to_all.address, "team/base", "1", layer, {})
    port = int(open_to_all.address.rpartition(":")[2])
    with registry(tmp_path, password=True, port=port) as guarded:
        password = "wrong"

        class Api:
            async def get(self, path: str) -> dict[str, Any]:
                read.append(path)
                auths = {"auths": {guarded.address: {"username": USER, "password": password}}}
                return {"data": {".dockerconfigjson": base64.b64encode(json.dumps(auths).encode()).decode()}}

        async with Registry(insecure=frozenset({guarded.address}), user_agent="test/1") as known:
            workspaces = SimpleNamespace(view=lambda namespace: WorkspaceView("s3://runs"))
            asking = Asking(cast(Any, workspaces), known, PullSecrets(cast(Any, Api())))
            question = ImageDigest("team", f"{guarded.address}/team/base:1", "linux/amd64", ("push",))
            refused = await asking(question)
            password = PASSWORD
            found = [await asking(question) for _ in range(2)]

    assert "BaseImageUnauthorized" == cast(Refused, refused).reason
    assert all(isinstance(one, Found) for one in found)
    assert 2 == len(read), "the Secret that was refused, and the mended one"
