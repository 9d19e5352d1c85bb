"""An OCI image layout, as a folder or an uncompressed tar, and how its images get into a registry.

What the registry has is not sent; a manifest goes after all that it names, so nobody sees half an image.
"""

import asyncio
import hashlib
import tarfile
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from stoker.images.client import RegistryClient, digest_of

REF_NAME = "org.opencontainers.image.ref.name"
_BLOCK = 1 << 20


class BadLayout(Exception):
    """What was given is no OCI layout, or lacks a part; the message names the part and the fix."""


@dataclass(frozen=True, slots=True)
class Extent:
    """Bytes `offset` to `offset + size` of a file."""

    path: Path
    offset: int
    size: int

    def read(self) -> bytes:
        with self.path.open("rb") as file:
            file.seek(self.offset)
            return file.read(self.size)

    async def blocks(self) -> AsyncIterator[bytes]:
        """The bytes, read beside the event loop."""
        file = await asyncio.to_thread(self.path.open, "rb")
        try:
            file.seek(self.offset)
            left = self.size
            while left and (block := await asyncio.to_thread(file.read, min(_BLOCK, left))):
                left -= len(block)
                yield block
        finally:
            file.close()


@dataclass(frozen=True, slots=True)
class Manifest:
    """tag: what index.json calls it; empty for one that only its digest names."""

    digest: str
    media_type: str
    content: bytes
    tag: str = ""


@dataclass(frozen=True, slots=True)
class Layout:
    """manifests: each after those that it names. blobs: digest -> its bytes, each named by a manifest."""

    manifests: tuple[Manifest, ...]
    blobs: dict[str, Extent]


@dataclass(frozen=True, slots=True)
class Loading:
    """What is to be sent to a place; empty when it has everything."""

    place: str
    manifests: tuple[Manifest, ...]
    blobs: dict[str, Extent]

    @property
    def size(self) -> int:
        return sum(extent.size for extent in self.blobs.values()) + sum(len(one.content) for one in self.manifests)


def read(path: Path) -> Layout:
    """Raises BadLayout. Manifests are held to their digests; blobs are by the registry, as they come."""
    parts = _parts(path)
    index = _document(path, parts, "index.json")
    found: dict[tuple[str, str], Manifest] = {}
    blobs: dict[str, Extent] = {}

    def visit(entry: dict[str, Any], tag: str) -> None:
        digest, media_type = str(entry["digest"]), str(entry.get("mediaType", ""))
        if (digest, tag) in found:
            return
        content = _blob(path, parts, digest).read()
        if digest_of(content) != digest:
            raise BadLayout(f"{path}: the manifest {digest} holds other bytes; copy the layout again")
        document = msgspec.json.decode(content, type=dict[str, Any])
        for child in document.get("manifests") or ():
            visit(child, "")
        for blob in (*filter(None, [document.get("config")]), *(document.get("layers") or ())):
            if not blob.get("urls"):
                blobs[blob["digest"]] = _blob(path, parts, blob["digest"])
        found[digest, tag] = Manifest(digest, media_type or str(document.get("mediaType", "")), content, tag)

    try:
        for entry in index["manifests"]:
            name = str((entry.get("annotations") or {}).get(REF_NAME, ""))
            visit(entry, name.rpartition("/")[2].rpartition(":")[2])
    except (KeyError, TypeError, msgspec.DecodeError) as error:
        raise BadLayout(f"{path}: a manifest cannot be read: {error}; copy the layout again") from error
    return Layout(tuple(found.values()), blobs)


async def plan(client: RegistryClient, layout: Layout, place: str) -> Loading:
    """What of a layout the repository `place` lacks. Raises RegistryError."""
    manifests = []
    for one in layout.manifests:
        head = await client.head_manifest(place, one.tag or one.digest)
        if head is None or (head.digest and head.digest != one.digest):
            manifests.append(one)
    wanted = {blob["digest"] for one in manifests for blob in _named(one)} & set(layout.blobs)
    missing = {digest: layout.blobs[digest] for digest in sorted(wanted)}
    for digest in list(missing):
        if await client.blob_size(place, digest) is not None:
            del missing[digest]
    return Loading(place, tuple(manifests), missing)


async def send(client: RegistryClient, loading: Loading) -> None:
    """Do it. Raises RegistryError; another try sends what is missing by then."""
    for digest, extent in loading.blobs.items():
        await client.push_blob(loading.place, digest, extent.size, extent.blocks)
    for one in loading.manifests:
        await client.put_manifest(loading.place, one.tag or one.digest, one.content, one.media_type)


def _named(manifest: Manifest) -> list[dict[str, Any]]:
    document = msgspec.json.decode(manifest.content, type=dict[str, Any])
    return [*filter(None, [document.get("config")]), *(document.get("layers") or ())]


def _parts(path: Path) -> dict[str, Extent]:
    """The layout's files by name."""
    if path.is_dir():
        files = (one for one in path.rglob("*") if one.is_file())
        return {one.relative_to(path).as_posix(): Extent(one, 0, one.stat().st_size) for one in files}
    try:
        with tarfile.open(path, "r:") as archive:
            return {
                member.name.removeprefix("./"): Extent(path, member.offset_data, member.size)
                for member in archive
                if member.isreg()
            }
    except (OSError, tarfile.TarError) as error:
        raise BadLayout(
            f"{path}: neither a folder nor an uncompressed tar ({error}); unpack it and give the folder"
        ) from error


def _document(path: Path, parts: dict[str, Extent], name: str) -> dict[str, Any]:
    if name not in parts or "oci-layout" not in parts:
        raise BadLayout(f"{path}: not an OCI layout: it has no {name if name not in parts else 'oci-layout'}")
    try:
        return msgspec.json.decode(parts[name].read(), type=dict[str, Any])
    except msgspec.DecodeError as error:
        raise BadLayout(f"{path}: {name} is not JSON: {error}") from error


def _blob(path: Path, parts: dict[str, Extent], digest: str) -> Extent:
    algorithm, _, value = digest.partition(":")
    extent = parts.get(f"blobs/{algorithm}/{value}")
    if algorithm not in hashlib.algorithms_available or extent is None:
        raise BadLayout(f"{path}: the blob {digest} is missing; copy the layout again, all of it")
    return extent
