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
from stoker.core.plan import Answer, Found, ImageDigest, Refused
from stoker.core.trainingjob.view import WorkspaceView
from stoker.images.auth import Keyring
from stoker.images.registry import Registry
from tests.support.registries import RunningRegistry, registry


@pytest.fixture(scope="module")
def mirror(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningRegistry]:
    with registry(tmp_path_factory.mktemp("registry")) as found:
        yield found


async def asked(mirror: RunningRegistry, path: str, platform: str = "linux/amd64") -> Answer:
    """What the operator finds out of docker.io's python:3.11 at the namespace's mirror."""
    means = Means(mirrors=Mirrors(images={"docker.io": f"{mirror.address}/{path}"}))
    views = {"team": WorkspaceView("s3://runs", means=means)}

    async def no_secrets(namespace: str, names: tuple[str, ...]) -> Keyring:
        return Keyring()

    async with Registry(insecure=frozenset({mirror.address}), user_agent="test/1") as known:
        workspaces, secrets = SimpleNamespace(view=views.__getitem__), SimpleNamespace(keyring=no_secrets)
        asking = Asking(cast(Any, workspaces), known, cast(Any, secrets))
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
