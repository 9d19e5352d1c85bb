"""Asks a registry what an image reference means on a platform.

Three outcomes besides the digest: the registry says there is no such image (404, and only that), it does not let us
look, or it cannot be asked now.
"""

import asyncio
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping
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
    """The registry answered 404, or what is there is no image."""


class PlatformMissing(RegistryError):
    """The image is there, and not for the platform. fix: what a person can do."""

    def __init__(self, reference: Reference, platform: str, offered: Iterable[str]) -> None:
        have = ", ".join(sorted(set(offered))) or "nothing that runs"
        super().__init__(f"image {reference}: it is there for {have}, and not for {platform}")
        self.fix = f"use an image for {platform}, or a pool whose instance types have another `architecture`"


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
        Raises BadReference, BaseImageNotFound, PlatformMissing, BaseImageUnauthorized and RegistryUnreachable.
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
            return await self._manifest_of(reference, platform, self.client(keyring))
        except Unauthorized as error:
            raise BaseImageUnauthorized(f"image {reference}: {error}", error.fix) from error
        except RegistryUnreachable as error:
            raise RegistryUnreachable(f"image {reference}: {error}", error.retry_at) from error
        except (DigestMismatch, Refused) as error:
            raise self._unreadable(reference, str(error)) from error
        except (msgspec.MsgspecError, AttributeError, TypeError, KeyError) as error:
            problem = f"the registry {reference.registry} sent a manifest that cannot be read"
            raise self._unreadable(reference, problem) from error

    async def _manifest_of(self, reference: Reference, platform: str, client: RegistryClient) -> str:
        """The digest of the platform's manifest."""
        manifest = await client.get_manifest(reference.name, reference.target)
        if manifest is None:
            raise BaseImageNotFound(f"image {reference}: the registry {reference.registry} has no such image")
        document = manifest.document()
        if manifest.media_type in INDEX_TYPES or "manifests" in document:
            return _pick(document, reference, platform)
        if manifest.media_type not in MANIFEST_TYPES and "config" not in document:
            raise BaseImageNotFound(
                f"image {reference}: the registry offers it only as {manifest.media_type or 'an unknown type'}; "
                "push it again with a current tool"
            )
        if (config := (document.get("config") or {}).get("digest")) is not None:
            content = await client.get_blob(reference.name, str(config))
            if content is None:
                problem = f"the registry {reference.registry} has its manifest and lacks its config; push it again"
                raise self._unreadable(reference, problem)
            _check(content, reference, platform)
        return manifest.digest

    def _unreadable(self, reference: Reference, problem: str) -> RegistryUnreachable:
        return RegistryUnreachable(f"image {reference}: {problem}", self._clock() + RETRY_SECONDS)


def _pick(index: Mapping[str, Any], reference: Reference, platform: str) -> str:
    """The digest of the platform's manifest in an index; raises PlatformMissing with what there is instead."""
    offered = []
    for entry in index["manifests"]:
        have = _place(entry.get("platform") or {})
        if _fits(have, platform):
            return str(entry["digest"])
        if have[0] not in ("", "unknown"):  # attestations are listed as unknown/unknown
            offered.append("/".join(filter(None, have)))
    raise PlatformMissing(reference, platform, offered)


def _check(config: bytes, reference: Reference, platform: str) -> None:
    """An image without an index is for the one platform that its config names; some tools leave the name out, and such an
    image is believed. Raises PlatformMissing."""
    have = _place(msgspec.json.decode(config, type=dict[str, Any]))
    if have[1] and not _fits((have[0] or "linux", *have[1:]), platform):
        raise PlatformMissing(reference, platform, ["/".join(filter(None, have))])


def _place(told: Mapping[str, Any]) -> tuple[str, str, str]:
    return told.get("os") or "", told.get("architecture") or "", told.get("variant") or ""


def _fits(have: tuple[str, str, str], platform: str) -> bool:
    wanted = tuple(platform.split("/"))
    return have[: len(wanted)] == wanted
