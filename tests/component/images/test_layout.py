"""An OCI layout gets into a real registry whole, and what is there is not sent again."""

import json
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from stoker.cli.app import run
from stoker.images.client import INDEX_TYPES, MANIFEST_TYPES, RegistryClient, digest_of
from stoker.images.connections import Connections
from tests.support.registries import RunningRegistry, registry

LAYER = b"a layer" * 300_000  # more than one block


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningRegistry]:
    with registry(tmp_path_factory.mktemp("registry")) as found:
        yield found


def write(folder: Path, content: bytes, media_type: str) -> dict[str, object]:
    """A blob of the layout, and its descriptor."""
    digest = digest_of(content)
    path = folder / "blobs" / "sha256" / digest.removeprefix("sha256:")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return {"mediaType": media_type, "digest": digest, "size": len(content)}


@pytest.fixture
def layout(tmp_path: Path) -> Path:
    """An index of one image, tagged `3.12`."""
    folder = tmp_path / "layout"
    config = write(folder, b"{}", "application/vnd.oci.image.config.v1+json")
    layer = write(folder, LAYER, "application/vnd.oci.image.layer.v1.tar")
    image = {"schemaVersion": 2, "mediaType": MANIFEST_TYPES[0], "config": config, "layers": [layer]}
    entry = write(folder, json.dumps(image).encode(), MANIFEST_TYPES[0])
    entry["platform"] = {"os": "linux", "architecture": "amd64"}
    index = {"schemaVersion": 2, "mediaType": INDEX_TYPES[0], "manifests": [entry]}
    top = write(folder, json.dumps(index).encode(), INDEX_TYPES[0])
    top["annotations"] = {"org.opencontainers.image.ref.name": "example.com/python:3.12"}
    (folder / "index.json").write_text(json.dumps({"schemaVersion": 2, "manifests": [top]}))
    (folder / "oci-layout").write_text('{"imageLayoutVersion": "1.0.0"}')
    return folder


def load(capsys: pytest.CaptureFixture[str], *words: object) -> tuple[int, dict[str, object], str]:
    code = run(["registry", "load", *map(str, words), "--insecure", "-o", "json"])
    told = capsys.readouterr()
    return code, json.loads(told.out) if told.out else {}, told.err


async def pulled(running: RunningRegistry, place: str) -> bytes:
    """The layer's bytes of the image behind the tag's index."""
    connections = Connections(user_agent="test", insecure=frozenset({running.address}))
    try:
        client = RegistryClient(connections)
        index = await client.get_manifest(place, "3.12")
        assert index is not None
        image = await client.get_manifest(place, index.document()["manifests"][0]["digest"])
        assert image is not None
        return b"".join([block async for block in client.stream_blob(place, image.document()["layers"][0]["digest"])])
    finally:
        await connections.close()


@pytest.mark.parametrize("form", ["folder", "tar"])
def test_what_is_loaded_can_be_pulled_and_is_not_sent_again(
    running: RunningRegistry, layout: Path, capsys: pytest.CaptureFixture[str], form: str
) -> None:
    import asyncio

    place, given = f"{running.address}/curated/{form}", layout
    if form == "tar":
        given = layout.with_suffix(".tar")
        with tarfile.open(given, "w") as archive:
            archive.add(layout, ".")
    first, again = load(capsys, given, place), load(capsys, given, place)

    assert (0, 0) == (first[0], again[0])
    assert LAYER == asyncio.run(pulled(running, place))
    assert (2, 0, 0) == (len(first[1]["sentBlobs"]), len(again[1]["sentBlobs"]), again[1]["sentBytes"])


def test_a_dry_run_sends_nothing(running: RunningRegistry, layout: Path, capsys: pytest.CaptureFixture[str]) -> None:
    place = f"{running.address}/curated/dry"
    first, again = (load(capsys, layout, place, "--dry-run") for _ in range(2))

    assert first[1] == again[1]
    assert 2 == len(first[1]["sentBlobs"])


def test_a_missing_blob_is_named_before_anything_is_sent(
    running: RunningRegistry, layout: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    digest = digest_of(LAYER)
    (layout / "blobs" / "sha256" / digest.removeprefix("sha256:")).unlink()
    code, _, told = load(capsys, layout, f"{running.address}/curated/broken")

    assert 0 != code
    assert f"the blob {digest} is missing" in told


def test_a_destination_with_a_tag_is_refused(layout: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, _, told = load(capsys, layout, "registry.example.com/base:1")

    assert (2, True) == (code, "the layout has the tags" in told)
