"""Reads a few small files of a stored snapshot without fetching the whole zip."""

import asyncio
import hashlib
import io
import zipfile
from collections.abc import Iterable

from stoker.storage import layout, snapshots
from stoker.storage.objects import NoSuchObject, ObjectStore, StoreError
from stoker.storage.snapshots import SnapshotCorrupt

#: A definition's file has at most so many bytes.
MOST_TEXT_BYTES = 1 << 20
#: So much is read at a time (bytes).
_PIECE = 256 << 10


class NotText(StoreError):
    """A file is no UTF-8 text, is a link, or is larger than a definition may be; the message names it."""


async def read_texts(store: ObjectStore, digest: str, paths: Iterable[str]) -> dict[str, str | None]:
    """The texts of files, None for those that are not there. Raises NoSuchObject when the store has no such snapshot,
    NotText, SnapshotCorrupt, StoreError."""
    entries = await snapshots.read_manifest(store, digest)
    if entries is None:
        raise NoSuchObject(f"{store.url}: there is no snapshot {digest}")
    known = {entry.path: entry for entry in entries}
    wanted = [known[path] for path in paths if path in known]
    for entry in wanted:
        if entry.target or entry.size > MOST_TEXT_BYTES:
            what = (
                "is a link" if entry.target else f"has {entry.size} bytes, and a definition at most {MOST_TEXT_BYTES}"
            )
            raise NotText(f"{entry.path} {what}")
    found: dict[str, str | None] = dict.fromkeys(paths)
    contents = await _members(store, layout.snapshot_zip(digest), [entry.path for entry in wanted])
    for entry in wanted:
        content = contents[entry.path]
        if hashlib.sha256(content).hexdigest() != entry.sha256:
            raise SnapshotCorrupt(f"{store.url}: {digest}: {entry.path} is not what the manifest says")
        try:
            found[entry.path] = content.decode()
        except UnicodeDecodeError as error:
            raise NotText(f"{entry.path} is no UTF-8 text: {error.reason} at byte {error.start}") from error
    return found


async def _members(store: ObjectStore, key: str, names: list[str]) -> dict[str, bytes]:
    if not names:
        return {}
    stored = await store.head(key)
    if stored is None:
        raise NoSuchObject(f"{store.url}: there is no {key}")
    window = _Window(stored.size)
    while True:
        try:
            return await asyncio.to_thread(_read, window, names)
        except _Missing as missing:
            content = await store.get(key, missing.start, missing.end)
            if content is None or len(content) != missing.end - missing.start:
                raise NoSuchObject(f"{store.url}: {key} has gone or was cut") from None
            window.pieces[missing.start] = content
        except (zipfile.BadZipFile, KeyError, EOFError, NotImplementedError, RuntimeError) as error:
            raise SnapshotCorrupt(f"{store.url}: {key}: {error}") from error


def _read(window: "_Window", names: list[str]) -> dict[str, bytes]:
    window.seek(0)
    with zipfile.ZipFile(window) as archive:
        return {name: archive.read(name) for name in names}


class _Missing(Exception):
    """A part of the zip that is not here yet: the bytes [start, end)."""

    def __init__(self, start: int, end: int) -> None:
        super().__init__(start, end)
        self.start, self.end = start, end


class _Window(io.RawIOBase):
    """A file of which only some pieces are here; reading another raises _Missing."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self._size, self._at = size, 0
        #: By where they begin, a multiple of _PIECE.
        self.pieces: dict[int, bytes] = {}

    def seekable(self) -> bool:
        return True

    def readable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        start = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._size}[whence]
        self._at = max(0, start + offset)
        return self._at

    def read(self, size: int = -1) -> bytes:
        end = self._size if size is None or size < 0 else min(self._size, self._at + size)
        parts = []
        while self._at < end:
            begin = self._at // _PIECE * _PIECE
            piece = self.pieces.get(begin)
            if piece is None:
                raise _Missing(begin, min(self._size, begin + _PIECE))
            part = piece[self._at - begin : end - begin]
            parts.append(part)
            self._at += len(part)
        return b"".join(parts)
