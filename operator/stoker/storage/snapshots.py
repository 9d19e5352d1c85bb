"""Snapshots in the object store: pushed once, found by digest.

The zip goes first and the manifest last, each by a conditional PUT: a manifest that is there says that the snapshot
is complete, and whoever comes second finds the work done.
"""

import asyncio
import hashlib
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from stoker.core.retention import GRACE
from stoker.runtime.unpack import UnpackRefused, check_manifest, largest_archive, unpack
from stoker.runtime.wire import Entry, WireError, decode_manifest, encode_manifest, manifest_digest, path_problem
from stoker.storage import layout
from stoker.storage.archive import write_zip, zip_texts
from stoker.storage.hashing import Hashed
from stoker.storage.listing import SnapshotError
from stoker.storage.objects import NoSuchObject, ObjectStore, StoreError

#: The most that inline code may have (bytes): what fits into an object of the API server with room to spare.
MAX_INLINE_BYTES = 200 << 10


class SnapshotCorrupt(StoreError):
    """What the store holds under a digest does not hash to it: someone wrote there by other means."""


@dataclass(frozen=True, slots=True)
class Pushed:
    """digest: of the snapshot. sent: whether anything went; zip_bytes: how much of it (0 when nothing did)."""

    digest: str
    sent: bool
    zip_bytes: int = 0


async def present(store: ObjectStore, digest: str) -> bool:
    """Whether the store holds this snapshot, whole. Raises SnapshotCorrupt when its manifest is not the digest's."""
    return await manifest_text(store, digest) is not None


async def claim(store: ObjectStore, digest: str) -> bool:
    """`present`, for one who is about to use it: an old snapshot is made young again, so that no sweep takes it before
    the record that names it is written (core.retention)."""
    content = await manifest_text(store, digest)
    if content is None:
        return False
    key = layout.snapshot_manifest(digest)
    found = await store.head(key)
    if found is None or time.time() - found.modified > GRACE / 2:
        await store.put(key, content)
        # A sweep may have been at it just now. A zip that is gone is sent again.
        return await store.head(layout.snapshot_zip(digest)) is not None
    return True


async def read_manifest(store: ObjectStore, digest: str) -> tuple[Entry, ...] | None:
    """The entries of a stored snapshot, None if there is none; raises SnapshotCorrupt."""
    content = await manifest_text(store, digest)
    try:
        return None if content is None else decode_manifest(content)
    except WireError as error:
        raise SnapshotCorrupt(f"{store.url}: {layout.snapshot_manifest(digest)}: {error}") from error


async def manifest_text(store: ObjectStore, digest: str) -> bytes | None:
    """The manifest of a stored snapshot as it was written, None if there is none; raises SnapshotCorrupt."""
    key = layout.snapshot_manifest(digest)
    content = await store.get(key)
    if content is not None and manifest_digest(content) != digest:
        raise SnapshotCorrupt(f"{store.url}: {key} does not hash to its name; delete it and push again")
    return content


async def push(store: ObjectStore, root: Path, hashed: Hashed) -> Pushed:
    """Make the store hold the snapshot of a folder; sends nothing when it does. Raises SnapshotError when a file
    changed since it was hashed, StoreError when the store will not."""
    if await claim(store, hashed.digest):
        return Pushed(hashed.digest, False)
    with tempfile.TemporaryDirectory(prefix="stoker-") as folder:
        packed = Path(folder, "snapshot.zip")
        size = await asyncio.to_thread(_pack, root, hashed, packed)
        await store.put(layout.snapshot_zip(hashed.digest), packed, only_if_absent=True)
    await put_manifest(store, hashed.digest, hashed.manifest)
    return Pushed(hashed.digest, True, size)


def _pack(root: Path, hashed: Hashed, packed: Path) -> int:
    with packed.open("w+b") as out:
        return write_zip(root, hashed.entries, out)


async def put_manifest(store: ObjectStore, digest: str, manifest: bytes) -> None:
    """Write the manifest of a snapshot whose zip is stored. One that is there already must be the same."""
    if manifest_digest(manifest) != digest:
        raise SnapshotCorrupt(f"a manifest was offered that does not hash to {digest}")
    if not await store.put(layout.snapshot_manifest(digest), manifest, only_if_absent=True):
        await present(store, digest)


async def unpack_to(store: ObjectStore, digest: str, folder: Path) -> tuple[Entry, ...]:
    """Write the tree of a stored snapshot into an existing, empty folder and return its entries.

    Raises NoSuchObject when the store does not hold it, SnapshotCorrupt when what it holds is not what the digest
    says, and StoreError; what was written by then must not be used.
    """
    manifest = await manifest_text(store, digest)
    if manifest is None:
        raise NoSuchObject(f"{store.url}: there is no snapshot {digest}")
    with tempfile.TemporaryDirectory(prefix="stoker-") as work:
        packed = Path(work, "snapshot.zip")
        try:
            await _download(store, digest, packed, largest_archive(check_manifest(manifest, digest)))
            return await asyncio.to_thread(unpack, manifest, str(packed), str(folder), digest)
        except UnpackRefused as error:
            kind = SnapshotCorrupt if error.reason == "SnapshotCorrupt" else StoreError
            raise kind(f"{store.url}: {digest}: {error}") from error


async def _download(store: ObjectStore, digest: str, packed: Path, most: int) -> None:
    size = 0
    file = await asyncio.to_thread(packed.open, "wb")
    try:
        async for piece in store.stream(layout.snapshot_zip(digest)):
            size += len(piece)
            if size > most:
                raise SnapshotCorrupt(
                    f"{store.url}: {digest}: the zip is larger than its manifest allows ({most} bytes)"
                )
            await asyncio.to_thread(file.write, piece)
    finally:
        await asyncio.to_thread(file.close)


def inline_snapshot(files: Mapping[str, str]) -> tuple[Hashed, bytes]:
    """Code given as text (`code.inline`) as an ordinary snapshot: what `push` needs, and the zip's bytes.

    Raises SnapshotError for a path that no snapshot may hold and for more than 200 KiB.
    """
    contents = {path: text.encode() for path, text in files.items()}
    total = sum(map(len, contents.values()))
    if total > MAX_INLINE_BYTES:
        raise SnapshotError(f"code.inline: {total} bytes; at most {MAX_INLINE_BYTES}: push a folder instead")
    for path in contents:
        if problem := path_problem(path):
            raise SnapshotError(f"code.inline: {path!r}: {problem}")
    entries = tuple(
        Entry(path, len(content), hashlib.sha256(content).hexdigest(), content.startswith(b"#!"))
        for path, content in sorted(contents.items(), key=lambda one: one[0].encode())
    )
    manifest = encode_manifest(entries)
    try:
        decode_manifest(manifest)
    except WireError as error:
        raise SnapshotError(f"code.inline: {error}") from error
    return Hashed(entries, manifest, manifest_digest(manifest), len(entries)), zip_texts(contents, entries)


async def push_inline(store: ObjectStore, files: Mapping[str, str]) -> Pushed:
    """`push` for code given as text."""
    hashed, packed = inline_snapshot(files)
    if await claim(store, hashed.digest):
        return Pushed(hashed.digest, False)
    await store.put(layout.snapshot_zip(hashed.digest), packed, only_if_absent=True)
    await put_manifest(store, hashed.digest, hashed.manifest)
    return Pushed(hashed.digest, True, len(packed))
