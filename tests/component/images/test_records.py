"""Records are found in a real registry in two requests, and only what is not there is a miss."""

from collections.abc import AsyncIterator, Iterator
from functools import partial

import msgspec
import pytest

from stoker.core.environment.keys import short
from stoker.core.plan import KnownImage, RegistryPlace
from stoker.images.auth import Credential, Keyring
from stoker.images.client import MANIFEST_TYPES, RegistryClient, digest_of
from stoker.images.errors import RegistryUnreachable, Unauthorized
from stoker.images.records import LOCK_TYPE, BadRecord, Records
from stoker.images.registry import Registry
from tests.support.registries import RunningRegistry, registry

SPEC, DEFINITION, LOCK = "a" * 64, "b" * 64, "c" * 64
CONTENT = b'{"packages": []}'


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningRegistry]:
    with registry(tmp_path_factory.mktemp("registry"), password=True) as found:
        yield found


@pytest.fixture
async def known(running: RunningRegistry) -> AsyncIterator[Registry]:
    async with Registry(insecure=frozenset({running.address}), user_agent="test/1") as found:
        yield found


def records_of(known: Registry) -> Records:
    return Records(lambda place, keyring: known.client(keyring))


def place_of(running: RunningRegistry, path: str) -> RegistryPlace:
    return RegistryPlace(f"{running.address}/{path}")


async def put(client: RegistryClient, place: RegistryPlace, *, image: bool = True, **told: str) -> str:
    """A record as a builder leaves it, and the image that it names."""
    repository = f"{place.url}/environments"
    for content in (b"{}", CONTENT):
        await client.push_blob(repository, digest_of(content), len(content), content)
    config = {"mediaType": "application/vnd.oci.image.config.v1+json", "digest": digest_of(b"{}"), "size": 2}
    made = msgspec.json.encode({"schemaVersion": 2, "mediaType": MANIFEST_TYPES[0], "config": config, "layers": []})
    digest = await client.put_manifest(repository, "lock-x", made, MANIFEST_TYPES[0]) if image else "sha256:" + "0" * 64
    annotations = {
        "dev.stoker.spec-key": SPEC, "dev.stoker.definition-key": DEFINITION, "dev.stoker.lock-key": LOCK,
        "dev.stoker.image-digest": digest, "dev.stoker.image-size": "7", "dev.stoker.refresh": "one",
        **{f"dev.stoker.{name.replace('_', '-')}": value for name, value in told.items()},
    }  # fmt: skip
    layer = {"mediaType": LOCK_TYPE, "digest": digest_of(CONTENT), "size": len(CONTENT)}
    record = {
        "schemaVersion": 2,
        "mediaType": MANIFEST_TYPES[0],
        "config": config,
        "layers": [layer],
        "annotations": annotations,
    }
    await client.put_manifest(repository, f"spec-{short(SPEC)}", msgspec.json.encode(record), MANIFEST_TYPES[0])
    return digest


async def test_a_record_names_its_image_and_keeps_its_lock(running: RunningRegistry, known: Registry) -> None:
    place = place_of(running, "found/team")
    digest = await put(known.client(running.keyring), place)

    found = await records_of(known).find(place, SPEC, DEFINITION, running.keyring, source="workspace")

    assert KnownImage(f"{place.url}/environments@{digest}", "workspace", LOCK, 7) == found
    assert CONTENT == await records_of(known).lock(place, SPEC, running.keyring)


async def test_a_record_of_an_image_that_nobody_signed_is_a_miss_where_images_are_signed(
    running: RunningRegistry, known: Registry
) -> None:
    bare, signed = place_of(running, "bare"), place_of(running, "signed")
    await put(known.client(running.keyring), bare)
    await put(known.client(running.keyring), signed, signed_by="sha256:1")
    look = partial(records_of(known).find, spec_key=SPEC, definition_key=DEFINITION, keyring=running.keyring)

    assert None is await look(bare, source="workspace", signed=True)
    assert (await look(bare, source="workspace")) is not None
    found = await look(signed, source="workspace", signed=True)
    assert "sha256:1" == (found.signed_by if found else "")


@pytest.mark.parametrize(
    ("path", "told", "refresh"),
    [
        ("other-spec", {"spec_key": "d" * 64}, ""),
        ("other-definition", {"definition_key": "d" * 64}, ""),
        ("other-refresh", {}, "two"),
    ],
)
async def test_a_record_of_something_else_is_a_miss(
    running: RunningRegistry, known: Registry, path: str, told: dict[str, str], refresh: str
) -> None:
    place = place_of(running, path)
    await put(known.client(running.keyring), place, **told)

    assert None is await records_of(known).find(
        place, SPEC, DEFINITION, running.keyring, source="workspace", refresh=refresh
    )


async def test_a_record_whose_image_has_gone_is_a_miss(running: RunningRegistry, known: Registry) -> None:
    place = place_of(running, "gone")
    await put(known.client(running.keyring), place, image=False)

    assert None is await records_of(known).find(place, SPEC, DEFINITION, running.keyring, source="workspace")


async def test_a_record_that_names_no_image_is_told(running: RunningRegistry, known: Registry) -> None:
    place = place_of(running, "bad")
    await put(known.client(running.keyring), place, image_digest="latest")

    with pytest.raises(BadRecord):
        await records_of(known).find(place, SPEC, DEFINITION, running.keyring, source="workspace")


async def test_anything_but_404_is_not_a_miss(running: RunningRegistry, known: Registry) -> None:
    wrong = Keyring(((running.address, Credential("pusher", "no")),))
    for keyring in (wrong, Keyring()):
        with pytest.raises(Unauthorized):
            await records_of(known).find(place_of(running, "x"), SPEC, DEFINITION, keyring, source="workspace")
    with pytest.raises(RegistryUnreachable):
        await records_of(known).find(RegistryPlace("127.0.0.1:1/x"), SPEC, DEFINITION, Keyring(), source="workspace")
