"""Looks environments up in registries: the record that a build left under a specKey, and the image that it names.

A hit takes two requests: the record's manifest, whose annotations are compared whole, and the image's head. Only a 404 is
a miss.
"""

from collections.abc import Callable
from typing import Any

import msgspec

from stoker.core.plan import KnownImage, RegistryPlace
from stoker.images.auth import Keyring
from stoker.images.client import RegistryClient
from stoker.images.errors import RegistryError
from stoker.images.recordnames import (
    DEFINITION_KEY,
    IMAGE_DIGEST,
    IMAGE_SIZE,
    LOCK_KEY,
    LOCK_TYPE,
    REFRESH,
    SIGNED_BY,
    SPEC_KEY,
    record_tag,
)

REPOSITORY = "environments"


class BadRecord(RegistryError):
    """What lies under a record's tag is none, or is of something else; the message names the place."""


class Records:
    """client: makes a client of a place with a keyring."""

    def __init__(self, client: Callable[[RegistryPlace, Keyring], RegistryClient]) -> None:
        self._client = client

    async def find(
        self,
        place: RegistryPlace,
        spec_key: str,
        definition_key: str,
        keyring: Keyring,
        *,
        source: str,
        refresh: str = "",
        signed: bool = False,
    ) -> KnownImage | None:
        """The image under a specKey; None where there is none, or one of another `refresh` than a given one, or of an
        image that nobody signed where it has to be `signed`. source: what to call the place. Raises BadRecord and RegistryError."""
        client, repository = self._client(place, keyring), f"{place.url}/{REPOSITORY}"
        document = await _record(client, repository, spec_key)
        if document is None:
            return None
        told = {str(name): str(value) for name, value in (document.get("annotations") or {}).items()}
        if told.get(SPEC_KEY) != spec_key or told.get(DEFINITION_KEY) != definition_key:
            # The tag is a shortened key: another environment may have it, and must not be taken for this one.
            return None
        if refresh and told.get(REFRESH, "") != refresh:
            return None
        if signed and not told.get(SIGNED_BY):
            return None
        digest = told.get(IMAGE_DIGEST, "")
        if not digest.startswith("sha256:"):
            raise BadRecord(f"{repository}: the record of {spec_key} names no image: {digest!r}")
        if await client.head_manifest(repository, digest) is None:
            return None
        size = told.get(IMAGE_SIZE, "0")
        return KnownImage(
            f"{repository}@{digest}",
            source,
            told.get(LOCK_KEY, ""),
            int(size) if size.isdecimal() else 0,
            told.get(SIGNED_BY, ""),
        )

    async def lock(self, place: RegistryPlace, spec_key: str, keyring: Keyring) -> bytes | None:
        """lock.json as the record has it; None where there is no record. Raises BadRecord and RegistryError."""
        client, repository = self._client(place, keyring), f"{place.url}/{REPOSITORY}"
        document = await _record(client, repository, spec_key)
        if document is None:
            return None
        digest = next(
            (one.get("digest") for one in document.get("layers") or () if one.get("mediaType") == LOCK_TYPE), ""
        )
        content = await client.get_blob(repository, str(digest)) if digest else None
        if content is None:
            raise BadRecord(f"{repository}: the record of {spec_key} has no lock")
        return content


async def _record(client: RegistryClient, repository: str, spec_key: str) -> dict[str, Any] | None:
    manifest = await client.get_manifest(repository, record_tag(spec_key))
    if manifest is None:
        return None
    try:
        return manifest.document()
    except msgspec.DecodeError as error:
        raise BadRecord(f"{repository}: the record of {spec_key} cannot be read: {error}") from error
