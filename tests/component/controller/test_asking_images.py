"""What an image means is asked where the namespace's Workspace says."""

from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from lab.images import Layer, _digest, push
from stoker.controller.asking import Asking
from stoker.core.environment.means import Means
from stoker.core.environment.request import Mirrors
from stoker.core.plan import Found, ImageDigest, Refused
from stoker.core.trainingjob.view import WorkspaceView
from stoker.images.auth import Keyring
from stoker.images.registry import Registry
from tests.support.registries import RunningRegistry, registry


@pytest.fixture(scope="module")
def mirror(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningRegistry]:
    with registry(tmp_path_factory.mktemp("registry")) as found:
        yield found


@pytest.mark.parametrize(("path", "expected"), [("hub", Found), ("elsewhere", Refused)])
async def test_an_image_is_looked_up_at_the_namespace_s_mirror(
    mirror: RunningRegistry, tmp_path: Path, path: str, expected: type
) -> None:
    (tmp_path / "layer").write_bytes(b"layer")
    layer = Layer(tmp_path / "layer", _digest(b"layer"), _digest(b"layer"))
    digest = push(mirror.address, "hub/library/python", "3.11", layer, {}).partition("@")[2]
    means = Means(mirrors=Mirrors(images={"docker.io": f"{mirror.address}/{path}"}))
    views = {"team": WorkspaceView("s3://runs", means=means)}

    async def no_secrets(namespace: str, names: tuple[str, ...]) -> Keyring:
        return Keyring()

    async with Registry(insecure=frozenset({mirror.address}), user_agent="test/1") as known:
        workspaces, secrets = SimpleNamespace(view=views.__getitem__), SimpleNamespace(keyring=no_secrets)
        asking = Asking(cast(Any, workspaces), known, cast(Any, secrets))
        answer = await asking(ImageDigest("team", "python:3.11", "linux/amd64", ()))

    assert isinstance(answer, expected)
    if isinstance(answer, Found):
        assert f"docker.io/library/python@{digest}" == answer.value
    else:
        assert f"{mirror.address}/elsewhere/library/python:3.11" in cast(Refused, answer).message
