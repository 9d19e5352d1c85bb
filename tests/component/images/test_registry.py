"""What each of a registry's answers means, against a registry in this process."""

import asyncio
import base64
import hashlib
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
from aiohttp import web

from stoker.images import connections
from stoker.images.auth import Credential, Keyring
from stoker.images.client import INDEX_TYPES, MANIFEST_TYPES, RegistryClient
from stoker.images.errors import RegistryUnreachable
from stoker.images.registry import BaseImageNotFound, BaseImageUnauthorized, PlatformMissing, Registry

AMD64 = "linux/amd64"


def digest_of(content: bytes) -> str:
    return "sha256:" + hashlib.sha256(content).hexdigest()


class FakeRegistry:
    """Manifests by tag and digest; `auth` is none, basic or bearer; `answers` are sent first."""

    def __init__(self) -> None:
        self.manifests: dict[str, tuple[bytes, str]] = {}
        self.blobs: dict[str, bytes] = {}
        self.auth = "none"
        self.answers: list[int] = []
        self.asked: list[str] = []
        self.tokens = 0
        self.host = ""

    def push(self, tag: str, document: dict[str, Any], media_type: str = MANIFEST_TYPES[0]) -> str:
        content = json.dumps(document).encode()
        self.manifests[tag] = self.manifests[digest_of(content)] = (content, media_type)
        return digest_of(content)

    def push_image(self, tag: str, **config: str) -> str:
        """An image without an index."""
        content = json.dumps(config).encode()
        self.blobs[digest_of(content)] = content
        return self.push(tag, {"config": {"digest": digest_of(content), "size": len(content)}})

    def push_index(self, tag: str, **platforms: str) -> str:
        entries = [
            {"digest": digest, "platform": dict(zip(("os", "architecture"), place.split("_"), strict=True))}
            for place, digest in platforms.items()
        ]
        return self.push(tag, {"manifests": entries}, INDEX_TYPES[0])

    async def start(self) -> web.AppRunner:
        app = web.Application()
        app.router.add_get("/v2/{name:.*}/manifests/{target}", self._manifest)
        app.router.add_get("/v2/{name:.*}/blobs/{digest}", self._blob)
        app.router.add_get("/token", self._token)
        runner = web.AppRunner(app, access_log=None)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        self.host = f"127.0.0.1:{runner.addresses[0][1]}"
        return runner

    async def _manifest(self, request: web.Request) -> web.Response:
        self.asked.append(request.match_info["target"])
        if self.answers:
            return web.Response(status=self.answers.pop(0))
        sent = request.headers.get("Authorization")
        basic = "Basic " + base64.b64encode(b"me:secret").decode()
        if self.auth == "basic" and sent != basic:
            return web.Response(status=401, headers={"Www-Authenticate": 'Basic realm="here"'})
        if self.auth == "bearer" and sent != "Bearer good":
            challenge = f'Bearer realm="http://{self.host}/token",service="reg",scope="repository:team/train:pull"'
            return web.Response(status=401, headers={"Www-Authenticate": challenge})
        found = self.manifests.get(request.match_info["target"])
        if found is None:
            return web.Response(status=404)
        return web.Response(body=found[0], content_type=found[1])

    async def _blob(self, request: web.Request) -> web.Response:
        found = self.blobs.get(request.match_info["digest"])
        return web.Response(status=404) if found is None else web.Response(body=found)

    async def _token(self, request: web.Request) -> web.Response:
        self.tokens += 1
        if request.headers.get("Authorization") != "Basic " + base64.b64encode(b"me:secret").decode():
            return web.Response(status=401)
        assert dict(request.query) == {"service": "reg", "scope": "repository:team/train:pull"}
        return web.json_response({"token": "good", "expires_in": 300})

    @property
    def keyring(self) -> Keyring:
        return Keyring(((self.host, Credential("me", "secret")),))


@pytest.fixture
async def fake(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[FakeRegistry]:
    monkeypatch.setattr(connections, "BACKOFF_SECONDS", 0.001)
    found = FakeRegistry()
    runner = await found.start()
    yield found
    await runner.cleanup()


@pytest.fixture
async def client(fake: FakeRegistry) -> AsyncIterator[Registry]:
    async with Registry(insecure=frozenset({fake.host}), user_agent="test/1") as found:
        yield found


async def test_a_tag_becomes_the_digest_of_its_manifest(fake: FakeRegistry, client: Registry) -> None:
    digest = fake.push("1", {"config": {}})

    assert await client.resolve(f"{fake.host}/team/train:1", AMD64) == f"{fake.host}/team/train@{digest}"


async def test_an_index_becomes_the_manifest_of_the_platform(fake: FakeRegistry, client: Registry) -> None:
    one, other = fake.push("a", {"config": {"a": 1}}), fake.push("b", {"config": {"b": 1}})
    index = fake.push_index("1", linux_amd64=one, linux_arm64=other)

    for reference in (f"{fake.host}/team/train:1", f"{fake.host}/team/train@{index}"):
        assert (await client.resolve(reference, "linux/arm64")).endswith(other)


async def test_an_image_for_other_platforms_is_told_with_those(fake: FakeRegistry, client: Registry) -> None:
    one, two = fake.push("a", {"config": {}}), fake.push("b", {"config": {"b": 1}})
    fake.push_index("1", linux_arm64=one, windows_amd64=two, unknown_unknown="sha256:0")

    with pytest.raises(PlatformMissing, match="there for linux/arm64, windows/amd64, and not for linux/amd64") as told:
        await client.resolve(f"{fake.host}/team/train:1", AMD64)

    assert "use an image for linux/amd64, or a pool" in told.value.fix


@pytest.mark.parametrize(
    ("config", "platform"),
    [
        ({"os": "linux", "architecture": "amd64"}, AMD64),
        ({"os": "linux", "architecture": "arm64", "variant": "v8"}, "linux/arm64"),
        ({"architecture": "amd64"}, AMD64),
        ({"os": "linux"}, AMD64),
        ({}, "linux/arm64"),
    ],
)
async def test_an_image_without_an_index_is_for_the_platform_that_its_config_names(
    fake: FakeRegistry, client: Registry, config: dict[str, str], platform: str
) -> None:
    """`crane append` names none: such an image is taken for any."""
    digest = fake.push_image("1", **config)

    assert (await client.resolve(f"{fake.host}/team/train:1", platform)).endswith(digest)


@pytest.mark.parametrize(
    ("config", "have"),
    [
        ({"os": "linux", "architecture": "arm64", "variant": "v8"}, "linux/arm64/v8"),
        ({"os": "windows", "architecture": "amd64"}, "windows/amd64"),
    ],
)
async def test_an_image_without_an_index_for_another_platform_is_told_with_it(
    fake: FakeRegistry, client: Registry, config: dict[str, str], have: str
) -> None:
    digest = fake.push_image("1", **config)

    for reference in (f"{fake.host}/team/train:1", f"{fake.host}/team/train@{digest}"):
        with pytest.raises(PlatformMissing, match=f"there for {have}, and not for linux/amd64"):
            await client.resolve(reference, AMD64)


async def test_an_image_without_its_config_is_not_taken_for_good(fake: FakeRegistry, client: Registry) -> None:
    fake.push_image("1", architecture="amd64")
    fake.blobs.clear()

    with pytest.raises(RegistryUnreachable, match="lacks its config"):
        await client.resolve(f"{fake.host}/team/train:1", AMD64)


@pytest.mark.parametrize(
    "document",
    [{"manifests": [7]}, {"manifests": [{"platform": {"os": "linux", "architecture": "amd64"}}]}, {"config": 7}],
)
async def test_a_manifest_that_makes_no_sense_is_waited_for(
    fake: FakeRegistry, client: Registry, document: dict[str, Any]
) -> None:
    fake.push("1", document)

    with pytest.raises(RegistryUnreachable, match="cannot be read"):
        await client.resolve(f"{fake.host}/team/train:1", AMD64)


async def test_404_is_the_only_miss(fake: FakeRegistry, client: Registry) -> None:
    with pytest.raises(BaseImageNotFound, match="has no such image"):
        await client.resolve(f"{fake.host}/team/none:1", AMD64)


@pytest.mark.parametrize("status", [500, 502, 503, 429, 400, 418])
async def test_anything_else_is_unreachable_with_a_time(fake: FakeRegistry, client: Registry, status: int) -> None:
    fake.answers = [status] * 3
    with pytest.raises(RegistryUnreachable, match=str(status)) as told:
        await client.resolve(f"{fake.host}/team/train:1", AMD64)

    assert told.value.retry_at > 0


async def test_passing_troubles_are_tried_again(fake: FakeRegistry, client: Registry) -> None:
    digest = fake.push("1", {"config": {}})
    fake.answers = [503, 429]

    assert (await client.resolve(f"{fake.host}/team/train:1", AMD64)).endswith(digest)


async def test_a_host_that_is_not_there_is_unreachable(client: Registry) -> None:
    with pytest.raises(RegistryUnreachable, match="cannot be reached"):
        await client.resolve("127.0.0.1:1/team/train:1", AMD64)


@pytest.mark.parametrize("silences", [1, 2])
async def test_a_registry_that_says_nothing_is_told_of_after_so_many_silences(
    monkeypatch: pytest.MonkeyPatch, silences: int
) -> None:
    """As one that is frozen, or behind a wall that drops what it gets."""
    monkeypatch.setattr(connections, "REQUEST_SECONDS", 0.2)
    heard = 0

    async def listen(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal heard
        heard += 1
        await reader.read(-1)
        writer.close()

    async with await asyncio.start_server(listen, "127.0.0.1") as server:
        host = f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
        sockets = connections.Connections(user_agent="test", insecure=frozenset({host}), silences=silences)
        with pytest.raises(RegistryUnreachable, match="did not answer within"):
            await RegistryClient(sockets).head_manifest(f"{host}/team/train", "1")
        await sockets.close()
    assert silences == heard


@pytest.mark.parametrize("auth", ["basic", "bearer"])
async def test_a_challenge_is_answered_with_the_pull_secret(fake: FakeRegistry, client: Registry, auth: str) -> None:
    fake.auth = auth
    digest = fake.push("1", {"config": {}})

    assert (await client.resolve(f"{fake.host}/team/train:1", AMD64, fake.keyring)).endswith(digest)


@pytest.mark.parametrize("auth", ["basic", "bearer"])
async def test_without_credentials_the_fix_is_a_pull_secret(fake: FakeRegistry, client: Registry, auth: str) -> None:
    fake.auth = auth
    fake.push("1", {"config": {}})
    with pytest.raises(BaseImageUnauthorized, match="without credentials") as told:
        await client.resolve(f"{fake.host}/team/train:1", AMD64)

    assert "name a pull secret" in told.value.fix


async def test_a_token_is_used_again(fake: FakeRegistry, client: Registry) -> None:
    fake.auth = "bearer"
    for tag in "12":
        fake.push(tag, {"config": {"tag": tag}})
        await client.resolve(f"{fake.host}/team/train:{tag}", AMD64, fake.keyring)

    assert fake.tokens == 1


async def test_many_who_ask_at_once_are_one_request(fake: FakeRegistry, client: Registry) -> None:
    fake.push("1", {"config": {}})
    reference = f"{fake.host}/team/train:1"
    await asyncio.gather(*(client.resolve(reference, AMD64) for _ in range(20)))
    await client.resolve(reference, AMD64)

    assert fake.asked == ["1"]


async def test_a_manifest_that_is_not_what_its_digest_says_is_refused(fake: FakeRegistry, client: Registry) -> None:
    wrong = "sha256:" + "0" * 64
    fake.manifests[wrong] = (b'{"config":{}}', MANIFEST_TYPES[0])

    with pytest.raises(RegistryUnreachable, match="hashes to"):
        await client.resolve(f"{fake.host}/team/train@{wrong}", AMD64)


async def test_a_mirror_is_asked_and_the_name_stays(fake: FakeRegistry, client: Registry) -> None:
    digest = fake.push("3.11", {"config": {}})

    resolved = await client.resolve("python:3.11", AMD64, mirrors={"docker.io": f"{fake.host}/hub"})

    assert f"docker.io/library/python@{digest}" == resolved


async def test_a_mirror_that_lacks_the_image_is_named(fake: FakeRegistry, client: Registry) -> None:
    with pytest.raises(BaseImageNotFound, match=f"{fake.host}/hub/library/python:9"):
        await client.resolve("python:9", AMD64, mirrors={"docker.io": f"{fake.host}/hub"})
