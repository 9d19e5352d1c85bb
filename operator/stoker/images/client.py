"""A registry's repositories: manifests, blobs, tags and referrers (OCI distribution specification 1.1).

What is not there is None or False, and only a 404 says so. Everything else that is not yes is one of images/errors.
"""

import asyncio
import hashlib
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, quote, urlsplit

import aiohttp
import msgspec

from stoker.images.auth import Keyring
from stoker.images.connections import Connections, Place, Wanted
from stoker.images.errors import DeletionDisabled, DigestMismatch, Refused, RegistryUnreachable, RepositoryMissing

INDEX_TYPES = (
    "application/vnd.oci.image.index.v1+json",
    "application/vnd.docker.distribution.manifest.list.v2+json",
)
MANIFEST_TYPES = (
    "application/vnd.oci.image.manifest.v1+json",
    "application/vnd.docker.distribution.manifest.v2+json",
)
ACCEPT = ", ".join(INDEX_TYPES + MANIFEST_TYPES)
#: A manifest is at most 4 MiB by the specification's advice.
MOST_MANIFEST_BYTES = 4 << 20
#: Blobs that are read into memory (configs, records) are at most so large.
MOST_BLOB_BYTES = 16 << 20
TAGS_AT_A_TIME = 1000
_BLOCK = 1 << 20

#: Makes a blob's bytes, anew for each try.
Source = bytes | Path | Callable[[], AsyncIterator[bytes]]


@dataclass(frozen=True, slots=True)
class Manifest:
    """content hashes to digest. media_type: as the registry says it, else as the document does."""

    digest: str
    media_type: str
    content: bytes

    def document(self) -> dict[str, Any]:
        """The parsed JSON; raises msgspec.DecodeError."""
        return msgspec.json.decode(self.content, type=dict[str, Any])


@dataclass(frozen=True, slots=True)
class Head:
    """What is known of a manifest without fetching it. digest is empty where the registry does not say it."""

    digest: str
    media_type: str
    size: int


def digest_of(content: bytes) -> str:
    return "sha256:" + hashlib.sha256(content).hexdigest()


class RegistryClient:
    """All registries, with one keyring. place: `host[:port]/path` of a repository.

    Every method raises Unauthorized (PushDenied where it writes) and RegistryUnreachable.
    """

    def __init__(self, connections: Connections, keyring: Keyring = Keyring()) -> None:  # noqa: B008 (immutable)
        self._connections = connections
        self._keyring = keyring

    def with_keyring(self, keyring: Keyring) -> "RegistryClient":
        """The same sockets and tokens, other credentials."""
        return RegistryClient(self._connections, keyring)

    # -- manifests

    async def get_manifest(self, place: str, target: str) -> Manifest | None:
        """target: a tag or a digest. Raises DigestMismatch where other bytes come than the digest names."""
        where = Place.of(place)
        url = self._connections.url(where, f"manifests/{target}")
        async with self._request(Wanted(where), "GET", url, headers={"Accept": ACCEPT}) as response:
            if response.status == 404:
                return None
            _expect(response, where, 200)
            content = await _read(response, MOST_MANIFEST_BYTES)
            if content is None:
                raise Refused(f"{place}: the manifest {target} has over {MOST_MANIFEST_BYTES} bytes")
            digest = digest_of(content)
            if target.startswith("sha256:") and digest != target.lower():
                raise DigestMismatch(f"{place}: the registry sent a manifest that hashes to {digest}, not to {target}")
            return Manifest(digest, response.content_type, content)

    async def head_manifest(self, place: str, target: str) -> Head | None:
        where = Place.of(place)
        url = self._connections.url(where, f"manifests/{target}")
        async with self._request(Wanted(where), "HEAD", url, headers={"Accept": ACCEPT}) as response:
            if response.status == 404:
                return None
            _expect(response, where, 200)
            size = int(response.headers.get("Content-Length") or 0)
            return Head(response.headers.get("Docker-Content-Digest", ""), response.content_type, size)

    async def put_manifest(self, place: str, target: str, content: bytes, media_type: str) -> str:
        """Returns the digest. What has a `subject` is listed as its referrer, also where the registry has no referrers API."""
        where = Place.of(place)
        url = self._connections.url(where, f"manifests/{target}")
        async with self._request(
            Wanted(where, push=True), "PUT", url, headers={"Content-Type": media_type}, body=lambda: content
        ) as response:
            await self._pushed(response, where, 201, 200)
            lists_itself = "OCI-Subject" in response.headers
        subject = msgspec.json.decode(content, type=dict[str, Any]).get("subject")
        if subject and not lists_itself:
            await self._add_to_fallback(place, str(subject["digest"]), content, media_type)
        return digest_of(content)

    async def delete_manifest(self, place: str, target: str) -> bool:
        """Whether it was there. Raises DeletionDisabled where the registry deletes nothing."""
        where = Place.of(place)
        url = self._connections.url(where, f"manifests/{target}")
        async with self._request(Wanted(where, push=True), "DELETE", url) as response:
            if response.status == 404:
                return False
            words = (await response.read())[:300].decode(errors="replace").strip()
            if response.status == 405 or "UNSUPPORTED" in words:
                raise DeletionDisabled(f"{where}: the registry does not delete: it answered {response.status}: {words}")
            _expect(response, where, 200, 202)
            return True

    # -- blobs

    async def blob_size(self, place: str, digest: str) -> int | None:
        """Bytes of a blob; None where the repository does not have it."""
        where = Place.of(place)
        async with self._request(Wanted(where), "HEAD", self._connections.url(where, f"blobs/{digest}")) as response:
            if response.status == 404:
                return None
            _expect(response, where, 200)
            return int(response.headers.get("Content-Length") or 0)

    async def get_blob(self, place: str, digest: str, most: int = MOST_BLOB_BYTES) -> bytes | None:
        """A small blob, whole and checked."""
        found = bytearray()
        async for block in self.stream_blob(place, digest):
            found += block
            if len(found) > most:
                raise Refused(f"{place}: the blob {digest} has over {most} bytes")
        return bytes(found) if found or digest == digest_of(b"") else None

    async def stream_blob(self, place: str, digest: str) -> AsyncIterator[bytes]:
        """A blob's bytes; nothing for one that is not there. Raises DigestMismatch after the last byte."""
        where = Place.of(place)
        url = self._connections.url(where, f"blobs/{digest}")
        seen = hashlib.sha256()
        async with self._request(Wanted(where), "GET", url, streams=True) as response:
            if response.status == 404:
                return
            _expect(response, where, 200)
            try:
                async for block in response.content.iter_chunked(_BLOCK):
                    seen.update(block)
                    yield block
            except (aiohttp.ClientError, TimeoutError) as error:
                raise self._connections.unreachable(where, f"broke off in {digest}: {error}") from error
        if digest.startswith("sha256:") and seen.hexdigest() != digest.removeprefix("sha256:"):
            raise DigestMismatch(f"{place}: the blob {digest} came with other bytes")

    async def push_blob(self, place: str, digest: str, size: int, source: Source) -> None:
        """Upload a blob in one piece. source: its bytes, its file, or what makes them; read again for another try."""
        where, wanted = Place.of(place), Wanted(Place.of(place), push=True)
        headers = {"Content-Type": "application/octet-stream", "Content-Length": str(size)}
        for last in (False, True):
            url = _with_digest(await self._begin(wanted), digest)
            # The place of an upload is good for one: another try begins another upload.
            try:
                async with self._request(
                    wanted, "PUT", url, headers=headers, body=lambda: _body(source), streams=True, once=True
                ) as response:
                    if response.status == 404 and not last:
                        continue  # the upload went, as in a registry that was started again
                    await self._pushed(response, where, 201, 204)
                    return
            except RegistryUnreachable:
                if last:
                    raise

    async def mount_blob(self, place: str, digest: str, source: str) -> bool:
        """Take a blob over from another repository of the same registry (`source`: its path); False where the registry did not."""
        where = Place.of(place)
        url = self._connections.url(where, f"blobs/uploads/?mount={quote(digest)}&from={quote(source, safe='')}")
        async with self._request(Wanted(where, push=True, source=source), "POST", url) as response:
            await self._pushed(response, where, 201, 202)
            if response.status == 201:
                return True
            begun = response.headers.get("Location", "")
        await self._abandon(Wanted(where, push=True), begun)
        return False

    async def _begin(self, wanted: Wanted) -> str:
        async with self._request(
            wanted, "POST", self._connections.url(wanted.place, "blobs/uploads/"), headers={"Content-Length": "0"}
        ) as response:
            await self._pushed(response, wanted.place, 202)
            return str(response.headers["Location"])

    async def _abandon(self, wanted: Wanted, begun: str) -> None:
        """Give an upload up; a registry that does not know how drops it in its own time."""
        if begun:
            async with self._request(wanted, "DELETE", begun):
                return

    # -- tags and referrers

    async def tags(self, place: str) -> list[str] | None:
        """All tags; None where there is no such repository."""
        where = Place.of(place)
        url, found = self._connections.url(where, f"tags/list?n={TAGS_AT_A_TIME}"), list[str]()
        while url:
            async with self._request(Wanted(where), "GET", url) as response:
                if response.status == 404:
                    return None
                _expect(response, where, 200)
                found += msgspec.json.decode(await response.read(), type=dict[str, Any]).get("tags") or []
                url = _next(response.headers.get("Link", ""))
        return found

    async def referrers(self, place: str, digest: str) -> list[dict[str, Any]]:
        """Descriptors of what has the manifest `digest` as its subject."""
        where = Place.of(place)
        async with self._request(Wanted(where), "GET", self._connections.url(where, f"referrers/{digest}")) as response:
            if response.status == 200 and response.content_type == INDEX_TYPES[0]:
                index = msgspec.json.decode(await response.read(), type=dict[str, Any])
                return list(index.get("manifests") or [])
            _expect(response, where, 200, 400, 404, 405)
        listed = await self.get_manifest(place, fallback_tag(digest))
        return list(listed.document().get("manifests") or []) if listed else []

    async def _add_to_fallback(self, place: str, subject: str, content: bytes, media_type: str) -> None:
        """Where the registry has no referrers API, an index under a tag made of the subject's digest lists them."""
        document = msgspec.json.decode(content, type=dict[str, Any])
        config = document.get("config") or {}
        entry = {
            "mediaType": media_type,
            "digest": digest_of(content),
            "size": len(content),
            "artifactType": document.get("artifactType") or config.get("mediaType"),
            **({"annotations": document["annotations"]} if document.get("annotations") else {}),
        }
        listed = await self.get_manifest(place, fallback_tag(subject))
        manifests = list(listed.document().get("manifests") or []) if listed else []
        if any(one.get("digest") == entry["digest"] for one in manifests):
            return
        index = {"schemaVersion": 2, "mediaType": INDEX_TYPES[0], "manifests": [*manifests, entry]}
        await self.put_manifest(place, fallback_tag(subject), msgspec.json.encode(index), INDEX_TYPES[0])

    # -- requests

    def _request(
        self, wanted: Wanted, method: str, url: str, **options: Any
    ) -> AbstractAsyncContextManager[aiohttp.ClientResponse]:
        return self._connections.request(wanted, self._keyring, method, url, **options)

    async def _pushed(self, response: aiohttp.ClientResponse, where: Place, *expected: int) -> None:
        if response.status in expected:
            return
        words = (await response.read())[:300].decode(errors="replace").strip()
        if response.status == 404 and "NAME_UNKNOWN" in words:
            raise RepositoryMissing(
                f"the registry {where.registry} has no repository {where.repository} and makes none on a push: {words}; "
                f"create it (on AWS: `aws ecr create-repository --repository-name {where.repository}`), or let the registry "
                "create what is pushed (on AWS: a repository creation template)"
            )
        raise Refused(f"{where}: the registry answered {response.status}: {words}")


def _expect(response: aiohttp.ClientResponse, where: Place, *expected: int) -> None:
    if response.status not in expected:
        raise Refused(f"{where}: the registry answered {response.status}")


async def _read(response: aiohttp.ClientResponse, most: int) -> bytes | None:
    content = await response.content.read(most + 1)
    while not response.content.at_eof() and len(content) <= most:
        content += await response.content.read(most + 1 - len(content))
    return content if len(content) <= most else None


def _body(source: Source) -> Any:
    if isinstance(source, bytes):
        return source
    return _blocks(source) if isinstance(source, Path) else source()


async def _blocks(path: Path) -> AsyncIterator[bytes]:
    """A file's bytes, read beside the event loop."""
    file = await asyncio.to_thread(path.open, "rb")
    try:
        while block := await asyncio.to_thread(file.read, _BLOCK):
            yield block
    finally:
        file.close()


def _with_digest(location: str, digest: str) -> str:
    return f"{location}{'&' if urlsplit(location).query else '?'}digest={quote(digest)}"


def _next(link: str) -> str:
    """The path of a Link header's next page (RFC 8288), empty for none."""
    if 'rel="next"' not in link:
        return ""
    target = link.partition("<")[2].partition(">")[0]
    parts = urlsplit(target)
    return f"{parts.path}?{parts.query}" if "last" in parse_qs(parts.query) else ""


def fallback_tag(digest: str) -> str:
    """The tag under which referrers of a manifest are listed where the registry has no way to ask for them."""
    return digest.replace(":", "-")


def same_registry(one: str, other: str) -> bool:
    """Whether a blob can be mounted from one place into the other."""
    return Place.of(one).registry == Place.of(other).registry
