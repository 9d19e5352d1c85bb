"""The digest of a listing, at the cost of a stat for what has not changed.

The cache trusts a file whose times, size and inode are those of the last hashing, unless it was written so shortly
before that a later write could carry the same times: git calls that racily clean, and hashes again, as we do.
"""

import contextlib
import hashlib
import os
import sys
import time
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import msgspec

from stoker.runtime.wire import Entry, encode_manifest, manifest_digest
from stoker.storage.listing import File, Listing, SnapshotError

_CACHE_VERSION = 1
#: Two writes nearer than this may carry one time stamp (ns): a clock tick, or a second where a file system counts those.
_TICK, _WHOLE_SECONDS = 100_000_000, 2_000_000_000
_PIECE = 1 << 20
#: Files below this size (bytes) are read by one thread: the interpreter's lock eats what more would give.
_LARGE = 256 << 10

_Row = tuple[str, int, int, int, int, str]


class _CacheFile(msgspec.Struct, array_like=True):
    version: int
    root: str
    rows: list[_Row]


class Hashed(NamedTuple):
    """A listing with its contents. digest: `sha256:<hex>` of the manifest. read: how many files had to be read."""

    entries: tuple[Entry, ...]
    manifest: bytes
    digest: str
    read: int


@dataclass
class StatCache:
    """What the last hashing of one folder found, in a file of the user's cache directory. A file that cannot be read
    or written costs time, never the digest."""

    path: Path | None
    root: str = ""
    known: dict[str, tuple[int, int, int, int, str]] = field(default_factory=dict)

    @classmethod
    def open(cls, root: Path, folder: Path | None = None) -> "StatCache":
        """The cache for a root. folder: where caches lie, else the user's own."""
        where = os.path.realpath(root)
        name = hashlib.sha256(where.encode("utf-8", "surrogateescape")).hexdigest()[:32]
        where = where.encode("utf-8", "backslashreplace").decode()  # a folder's name may be any bytes
        cache = cls((folder or cache_folder()) / f"{name}.msgpack", where)
        with contextlib.suppress(OSError, msgspec.MsgspecError):
            found = msgspec.msgpack.decode(cache.path.read_bytes() if cache.path else b"", type=_CacheFile)
            if found.version == _CACHE_VERSION and found.root == where:
                cache.known = {path: (*status, sha256) for path, *status, sha256 in found.rows}  # type: ignore[misc]
        return cache

    def sha256(self, file: File) -> str | None:
        row = self.known.get(file.on_disk)
        return row[4] if row is not None and row[:4] == file.status else None

    def save(self, rows: Iterable[_Row]) -> None:
        """Replace what is known. Errors are left: the next hashing reads the files again."""
        rows = list(rows)
        known = {row[0]: row[1:] for row in rows}
        if self.path is None or known == self.known:
            return
        content = msgspec.msgpack.encode(_CacheFile(_CACHE_VERSION, self.root, rows))
        incoming = self.path.with_name(f"{self.path.name}.{os.getpid()}")
        with contextlib.suppress(OSError):
            self.path.parent.mkdir(parents=True, exist_ok=True)
            incoming.write_bytes(content)
            incoming.replace(self.path)


def cache_folder() -> Path:
    """Where the stat caches lie: `stoker/snapshots` in the user's cache directory (XDG_CACHE_HOME, ~/Library/Caches,
    %LOCALAPPDATA%)."""
    base = os.environ.get("XDG_CACHE_HOME", "")
    if os.path.isabs(base):  # a relative one is to be ignored, says the XDG specification
        folder = Path(base)
    elif sys.platform == "win32":
        folder = Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local")
    elif sys.platform == "darwin":
        folder = Path.home() / "Library" / "Caches"
    else:
        folder = Path.home() / ".cache"
    return folder / "stoker" / "snapshots"


def hash_files(listing: Listing, cache: StatCache | None = None) -> Hashed:
    """Entries, manifest and digest of a listing. Raises SnapshotError for a file that is gone, unreadable, or has
    changed since the scan. cache: StatCache.open(listing.root); without one every file is read."""
    started = time.time_ns()
    known = {file.path: _link_sha256(file) for file in listing.files if file.target}
    if cache is not None:
        for file in listing.files:
            if not file.target and (sha256 := cache.sha256(file)) is not None:
                known[file.path] = sha256
    unread = [file for file in listing.files if file.path not in known]
    known.update(_read(listing.root, unread))
    entries = tuple(Entry(one.path, one.size, known[one.path], one.executable, one.target) for one in listing.files)
    if cache is not None:
        cache.save(
            (file.on_disk, *file.status, known[file.path])
            for file in listing.files
            if not file.target and not _racy(file, started)
        )
    manifest = encode_manifest(entries)
    return Hashed(entries, manifest, manifest_digest(manifest), len(unread))


def _racy(file: File, now: int) -> bool:
    modified, changed = file.status[0], file.status[1]
    tick = _WHOLE_SECONDS if modified % 1_000_000_000 == 0 else _TICK
    return max(modified, changed) + tick > now


def _link_sha256(file: File) -> str:
    return hashlib.sha256(file.target.encode()).hexdigest()


def _read(root: Path, files: Sequence[File]) -> dict[str, str]:
    base = os.fspath(root)
    found = {file.path: _hash_file(base, file) for file in files if file.size < _LARGE}
    large = [file for file in files if file.size >= _LARGE]
    if len(large) == 1:
        found[large[0].path] = _hash_file(base, large[0])
    elif large:
        with ThreadPoolExecutor(min(8, (os.cpu_count() or 1) + 1)) as pool:
            hashes = pool.map(lambda file: _hash_file(base, file), large)
            found.update(zip((file.path for file in large), hashes, strict=True))
    return found


def _hash_file(base: str, file: File) -> str:
    flags = os.O_RDONLY | getattr(os, "O_BINARY", 0) | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_CLOEXEC", 0)
    try:
        descriptor = os.open(f"{base}{os.sep}{file.on_disk}", flags)
        try:
            before = os.fstat(descriptor)
            content = os.read(descriptor, min(file.size + 1, _PIECE))
            digest, size = hashlib.sha256(content), len(content)
            while content and size >= _PIECE:
                content = os.read(descriptor, _PIECE)
                digest.update(content)
                size += len(content)
            after = os.fstat(descriptor)
        finally:
            os.close(descriptor)
    except OSError as error:
        raise SnapshotError(f"{file.path}: {error.strerror}; make it readable or ignore it") from error
    if size != file.size or (before.st_mtime_ns, before.st_size) != (after.st_mtime_ns, after.st_size):
        raise changed(file.path)
    return digest.hexdigest()


def changed(path: str) -> SnapshotError:
    return SnapshotError(f"{path}: changed while it was read; wait until nothing writes to it, or ignore it")
