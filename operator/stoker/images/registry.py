"""Asks a registry what an image reference means on a platform.

Three outcomes besides the digest: the registry says there is no such image (404, and only that), it does not let us
look, or it cannot be asked now.
"""

import asyncio
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from types import MappingProxyType, TracebackType
from typing import Any, Self

import msgspec

from stoker.core.reference import Reference, mirrored, parse
from stoker.images.auth import Keyring
from stoker.images.client import INDEX_TYPES, MANIFEST_TYPES, RegistryClient
from stoker.images.connections import RETRY_SECONDS, Connections
from stoker.images.errors import DigestMismatch, Refused, RegistryError, RegistryUnreachable, Unauthorized

#: What a tag meant is good for so long; what a digest means never changes.
TAG_SECONDS = 60.0
MOST_CACHED = 4096


class BaseImageNotFound(RegistryError):
    """The registry answered 404, or the image has nothing for the platform."""


class BaseImageUnauthorized(RegistryError):
    """The registry answered 401 or 403. fix: what a person can do."""

    def __init__(self, message: str, fix: str) -> None:
        super().__init__(message)
        self.fix = fix


class Registry:
    """A client for all registries, with a cache and one flight per question.

    insecure: `host:port` of registries that speak http. addresses: host as in references -> `host:port` that is connected
    to instead. Close it, or use it as an async context manager.
    """

    def __init__(
        self,
        *,
        insecure: frozenset[str] = frozenset(),
        user_agent: str,
        addresses: Mapping[str, str] | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.connections = Connections(
            user_agent=user_agent, insecure=insecure, addresses=addresses, clock=clock, silences=1
        )
        self._client = RegistryClient(self.connections)
        self._clock = clock
        self._cache: OrderedDict[tuple[str, str, Keyring], tuple[str, float]] = OrderedDict()
        self._flights: dict[tuple[str, str, Keyring], asyncio.Task[str]] = {}

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        await self.connections.close()

    def client(self, keyring: Keyring = Keyring()) -> RegistryClient:  # noqa: B008 (immutable)
        """Repositories with these credentials, over the same sockets."""
        return self._client.with_keyring(keyring)

    async def resolve(
        self,
        text: str,
        platform: str,
        keyring: Keyring = Keyring(),  # noqa: B008 (immutable)
        mirrors: Mapping[str, str] = MappingProxyType({}),
    ) -> str:
        """The reference pinned to the platform's manifest: `registry/repository@sha256:...`.

        platform: `os/architecture[/variant]`. An index is resolved to the platform's manifest even where it was given
        by digest: the digest that a job records is the one that its nodes run. mirrors: as `reference.mirrored` has them;
        a mirror is asked instead, with its own credentials, and the name that comes back stays the one that was asked for.
        Raises BadReference, BaseImageNotFound, BaseImageUnauthorized and RegistryUnreachable.
        """
        reference = parse(text)
        asked = mirrored(reference, mirrors)
        question = (str(asked), platform, keyring)
        cached = self._cache.get(question)
        if cached is not None and cached[1] > self._clock():
            return reference.pinned(cached[0])
        flight = self._flights.get(question)
        if flight is None:
            flight = self._flights[question] = asyncio.create_task(self._resolve(asked, platform, keyring))
            flight.add_done_callback(lambda _: self._flights.pop(question, None))
        # Shielded: one who gives up must not end the flight of the others.
        digest = await asyncio.shield(flight)
        lasting = float("inf") if reference.digest else TAG_SECONDS
        self._cache[question] = (digest, self._clock() + lasting)
        while len(self._cache) > MOST_CACHED:
            self._cache.popitem(last=False)
        return reference.pinned(digest)

    async def _resolve(self, reference: Reference, platform: str, keyring: Keyring) -> str:
        try:
            manifest = await self.client(keyring).get_manifest(reference.name, reference.target)
        except Unauthorized as error:
            raise BaseImageUnauthorized(f"image {reference}: {error}", error.fix) from error
        except RegistryUnreachable as error:
            raise RegistryUnreachable(f"image {reference}: {error}", error.retry_at) from error
        except (DigestMismatch, Refused) as error:
            raise self._unreadable(reference, str(error)) from error
        if manifest is None:
            raise BaseImageNotFound(f"image {reference}: the registry {reference.registry} has no such image")
        try:
            document = manifest.document()
            if manifest.media_type in INDEX_TYPES or "manifests" in document:
                return _pick(document, reference, platform)
        except (msgspec.DecodeError, TypeError, KeyError) as error:
            problem = f"the registry {reference.registry} sent a manifest that cannot be read"
            raise self._unreadable(reference, problem) from error
        if manifest.media_type not in MANIFEST_TYPES and "config" not in document:
            raise BaseImageNotFound(
                f"image {reference}: the registry offers it only as {manifest.media_type or 'an unknown type'}; "
                "push it again with a current tool"
            )
        return manifest.digest

    def _unreadable(self, reference: Reference, problem: str) -> RegistryUnreachable:
        return RegistryUnreachable(f"image {reference}: {problem}", self._clock() + RETRY_SECONDS)


def _pick(index: Mapping[str, Any], reference: Reference, platform: str) -> str:
    """The digest of the platform's manifest in an index; raises BaseImageNotFound with what there is instead."""
    wanted = tuple(platform.split("/"))
    offered = []
    for entry in index["manifests"]:
        place = entry.get("platform") or {}
        have = (place.get("os", ""), place.get("architecture", ""), place.get("variant", ""))
        if have[: len(wanted)] == wanted:
            return str(entry["digest"])
        if have[0] not in ("", "unknown"):  # attestations are listed as unknown/unknown
            offered.append("/".join(filter(None, have)))
    raise BaseImageNotFound(
        f"image {reference}: it has no {platform}, only {', '.join(sorted(set(offered))) or 'nothing that runs'}; "
        "use an image for that platform, or a pool of another architecture"
    )
