"""What the client does with a real registry, and with one that answers badly."""

import hashlib
import json
import os
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from stoker.images import client as client_module
from stoker.images import connections
from stoker.images.auth import Credential, Keyring
from stoker.images.client import INDEX_TYPES, MANIFEST_TYPES, RegistryClient, digest_of
from stoker.images.connections import Connections
from stoker.images.errors import DigestMismatch, PushDenied, RegistryUnreachable, RepositoryMissing, Unauthorized
from tests.support.registries import RunningRegistry, registry

EMPTY = b"{}"


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningRegistry]:
    with registry(tmp_path_factory.mktemp("registry"), password=True) as found:
        yield found


@pytest.fixture
async def client(running: RunningRegistry) -> AsyncIterator[RegistryClient]:
    sockets = Connections(user_agent="test", insecure=frozenset({running.address}))
    yield RegistryClient(sockets, running.keyring)
    await sockets.close()


def manifest(*layers: bytes, **more: Any) -> bytes:
    document = {
        "schemaVersion": 2,
        "mediaType": MANIFEST_TYPES[0],
        "config": {"mediaType": "application/vnd.oci.empty.v1+json", "digest": digest_of(EMPTY), "size": len(EMPTY)},
        "layers": [
            {"mediaType": "application/octet-stream", "digest": digest_of(layer), "size": len(layer)}
            for layer in layers
        ],
        **more,
    }
    return json.dumps(document).encode()


async def pushed(client: RegistryClient, place: str, tag: str, *layers: bytes, **more: Any) -> bytes:
    for blob in (EMPTY, *layers):
        await client.push_blob(place, digest_of(blob), len(blob), blob)
    content = manifest(*layers, **more)
    await client.put_manifest(place, tag, content, MANIFEST_TYPES[0])
    return content


async def test_what_was_pushed_comes_back(client: RegistryClient, running: RunningRegistry) -> None:
    place = f"{running.address}/team/pushed"
    content = await pushed(client, place, "1", b"layer")

    found, head = await client.get_manifest(place, "1"), await client.head_manifest(place, digest_of(content))

    assert found is not None
    assert (content, MANIFEST_TYPES[0], digest_of(content)) == (found.content, found.media_type, found.digest)
    assert head is not None
    assert (digest_of(content), len(content)) == (head.digest, head.size)
    assert b"layer" == await client.get_blob(place, digest_of(b"layer"))
    assert ["1"] == await client.tags(place)


async def test_what_is_not_there_is_none(client: RegistryClient, running: RunningRegistry) -> None:
    place = f"{running.address}/team/nothing"

    assert await client.get_manifest(place, "1") is None
    assert await client.head_manifest(place, "1") is None
    assert await client.blob_size(place, digest_of(b"x")) is None
    assert await client.get_blob(place, digest_of(b"x")) is None
    assert await client.tags(place) is None


async def test_a_file_is_sent_without_being_held_in_memory(
    client: RegistryClient, running: RunningRegistry, tmp_path: Path
) -> None:
    place, path, content = f"{running.address}/team/file", tmp_path / "blob", os.urandom(3 << 20)
    path.write_bytes(content)

    await client.push_blob(place, digest_of(content), len(content), path)

    assert len(content) == await client.blob_size(place, digest_of(content))
    seen = hashlib.sha256()
    async for block in client.stream_blob(place, digest_of(content)):
        seen.update(block)
    assert digest_of(content) == "sha256:" + seen.hexdigest()


async def test_a_blob_is_taken_over_from_another_repository(client: RegistryClient, running: RunningRegistry) -> None:
    there, here = f"{running.address}/team/there", f"{running.address}/team/here"
    await client.push_blob(there, digest_of(b"shared"), 6, b"shared")

    assert await client.mount_blob(here, digest_of(b"shared"), "team/there")
    assert not await client.mount_blob(here, digest_of(b"unknown"), "team/there")
    assert 6 == await client.blob_size(here, digest_of(b"shared"))
    assert await client.blob_size(here, digest_of(b"unknown")) is None


async def test_a_referrer_is_listed_and_can_be_deleted(client: RegistryClient, running: RunningRegistry) -> None:
    place = f"{running.address}/team/referred"
    content = await pushed(client, place, "1", b"layer")
    subject = {"mediaType": MANIFEST_TYPES[0], "digest": digest_of(content), "size": len(content)}

    for kind in ("application/spdx+json", "application/vnd.in-toto+json"):
        about = manifest(b"layer", subject=subject, artifactType=kind)
        await client.put_manifest(place, digest_of(about), about, MANIFEST_TYPES[0])
        await client.put_manifest(place, digest_of(about), about, MANIFEST_TYPES[0])

    listed = await client.referrers(place, digest_of(content))
    assert ["application/spdx+json", "application/vnd.in-toto+json"] == sorted(one["artifactType"] for one in listed)
    assert await client.delete_manifest(place, listed[0]["digest"])
    assert not await client.delete_manifest(place, listed[0]["digest"])


async def test_many_tags_are_all_listed(
    client: RegistryClient, running: RunningRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = f"{running.address}/team/tags"
    content = await pushed(client, place, "t0", b"layer")
    for number in range(1, 7):
        await client.put_manifest(place, f"t{number}", content, MANIFEST_TYPES[0])

    monkeypatch.setattr(client_module, "TAGS_AT_A_TIME", 3)

    assert [f"t{number}" for number in range(7)] == sorted(await client.tags(place) or [])


async def test_without_credentials_it_says_whose_are_missing(running: RunningRegistry) -> None:
    sockets = Connections(user_agent="test", insecure=frozenset({running.address}))
    nobody, stranger = RegistryClient(sockets), RegistryClient(sockets, wrong(running.address))
    try:
        with pytest.raises(Unauthorized, match="without credentials") as told:
            await nobody.get_manifest(f"{running.address}/team/pushed", "1")
        assert "imagePullSecrets" in told.value.fix
        with pytest.raises(PushDenied, match="with the given credentials when asked to push to team/pushed") as denied:
            await stranger.push_blob(f"{running.address}/team/pushed", digest_of(b"x"), 1, b"x")
        assert "may write" in denied.value.fix
    finally:
        await sockets.close()


def wrong(address: str) -> Keyring:
    return Keyring(((address, Credential("pusher", "guessed")),))


async def test_a_look_up_of_a_known_image_takes_milliseconds(client: RegistryClient, running: RunningRegistry) -> None:
    place = f"{running.address}/team/quick"
    content = await pushed(client, place, "1", b"layer")
    await client.get_manifest(place, "1")

    started = time.perf_counter()
    await client.get_manifest(place, "1")
    await client.head_manifest(place, digest_of(content))

    # Far above what it takes (about 3 ms), and far below what one more connection or challenge would not change.
    assert time.perf_counter() - started < 1.0


class Faulty:
    """A registry that gives each of `answers` in turn, whatever is asked; then 404."""

    def __init__(self) -> None:
        self.answers: list[web.Response] = []
        self.asked: list[str] = []
        self.host = ""

    async def start(self) -> web.AppRunner:
        app = web.Application()
        app.router.add_route("*", "/{path:.*}", self._answer)
        runner = web.AppRunner(app, access_log=None)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        self.host = f"127.0.0.1:{runner.addresses[0][1]}"
        return runner

    async def _answer(self, request: web.Request) -> web.Response:
        await request.read()
        self.asked.append(f"{request.method} {request.path_qs}")
        return self.answers.pop(0) if self.answers else web.Response(status=404)


@pytest.fixture
async def faulty(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[tuple[Faulty, RegistryClient]]:
    monkeypatch.setattr(connections, "BACKOFF_SECONDS", 0.001)
    server = Faulty()
    runner = await server.start()
    sockets = Connections(user_agent="test", insecure=frozenset({server.host}), clock=lambda: 1000.0)
    yield server, RegistryClient(sockets)
    await sockets.close()
    await runner.cleanup()


@pytest.mark.parametrize("status", [429, 500, 502, 503, 504])
async def test_a_registry_in_trouble_is_neither_a_hit_nor_a_miss(
    faulty: tuple[Faulty, RegistryClient], status: int
) -> None:
    server, client = faulty
    server.answers = [web.Response(status=status) for _ in range(3)]

    with pytest.raises(RegistryUnreachable, match=f"answered {status}") as told:
        await client.get_manifest(f"{server.host}/team/x", "1")

    assert (3, 1020.0) == (len(server.asked), told.value.retry_at)


async def test_one_fault_is_tried_over(faulty: tuple[Faulty, RegistryClient]) -> None:
    server, client = faulty
    server.answers = [web.Response(status=503), web.Response(body=b"{}", content_type=INDEX_TYPES[0])]

    found = await client.get_manifest(f"{server.host}/team/x", "1")

    assert found is not None
    assert b"{}" == found.content


async def test_a_registry_that_asks_for_patience_gets_it(faulty: tuple[Faulty, RegistryClient]) -> None:
    server, client = faulty
    server.answers = [web.Response(status=429, headers={"Retry-After": "90"})]

    with pytest.raises(RegistryUnreachable) as told:
        await client.get_manifest(f"{server.host}/team/x", "1")

    assert (1, 1090.0) == (len(server.asked), told.value.retry_at)


async def test_other_bytes_than_asked_for_are_refused(faulty: tuple[Faulty, RegistryClient]) -> None:
    server, client = faulty
    server.answers = [web.Response(body=b"other") for _ in range(2)]

    with pytest.raises(DigestMismatch, match="other bytes"):
        await client.get_blob(f"{server.host}/team/x", digest_of(b"wanted"))
    with pytest.raises(DigestMismatch, match="hashes to"):
        await client.get_manifest(f"{server.host}/team/x", digest_of(b"wanted"))


async def test_an_upload_that_went_is_begun_anew(faulty: tuple[Faulty, RegistryClient]) -> None:
    server, client = faulty
    begun = {"Location": "/v2/team/x/blobs/uploads/1"}
    server.answers = [
        web.Response(status=202, headers=begun), web.Response(status=404),
        web.Response(status=202, headers={"Location": "/v2/team/x/blobs/uploads/2?state=s"}), web.Response(status=201),
    ]  # fmt: skip

    await client.push_blob(f"{server.host}/team/x", digest_of(b"x"), 1, b"x")

    assert [
        "POST /v2/team/x/blobs/uploads/",
        f"PUT /v2/team/x/blobs/uploads/1?digest={digest_of(b'x')}",
        "POST /v2/team/x/blobs/uploads/",
        f"PUT /v2/team/x/blobs/uploads/2?state=s&digest={digest_of(b'x')}",
    ] == [line.replace("%3A", ":") for line in server.asked]


async def test_a_repository_that_must_be_made_first_is_named(faulty: tuple[Faulty, RegistryClient]) -> None:
    server, client = faulty
    server.answers = [web.json_response({"errors": [{"code": "NAME_UNKNOWN"}]}, status=404)]

    with pytest.raises(RepositoryMissing, match="has no repository team/x"):
        await client.push_blob(f"{server.host}/team/x", digest_of(b"x"), 1, b"x")


async def test_another_address_than_the_name_says_is_connected_to(running: RunningRegistry) -> None:
    named = "registry.example.com"
    sockets = Connections(user_agent="test", insecure=frozenset({named}), addresses={named: running.address})
    keyring = Keyring(((named, running.keyring.credentials[0][1]),))
    try:
        await pushed(RegistryClient(sockets, keyring), f"{named}/team/named", "1", b"layer")
        assert ["1"] == await RegistryClient(sockets, keyring).tags(f"{named}/team/named")
    finally:
        await sockets.close()
