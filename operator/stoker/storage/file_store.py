"""Objects as files below a folder: written whole or not at all, and once where that is asked for.

A write goes to a file of its own under `.incoming/` first. Rename makes it visible; where it must be the first, a hard
link does, which fails when the name is taken (rename would overwrite on POSIX).
"""

import asyncio
import contextlib
import errno
import itertools
import os
import secrets
import shutil
import time
from collections.abc import AsyncIterator, Iterable, Iterator
from pathlib import Path

from stoker.storage.objects import (
    NoSuchObject,
    Stored,
    StoreError,
    StoreRefused,
    StoreUnavailable,
    check_key,
    check_prefix,
)

_INCOMING = ".incoming"
_PIECE = 1 << 20
#: Older files under `.incoming/` are what a killed writer left (seconds).
_LEFT_BEHIND = 86_400.0
_PASSING = {errno.EIO, errno.ETIMEDOUT, errno.ESTALE, errno.EAGAIN, errno.EBUSY, errno.EMFILE, errno.ENFILE}


class FileStore:
    """An ObjectStore over a local folder, which is made at the first write."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._swept = False

    @property
    def url(self) -> str:
        return self._root.as_uri()

    def path(self, key: str) -> Path:
        """The file that holds an object."""
        check_key(key)
        if key.split("/", 1)[0] == _INCOMING:
            raise StoreRefused(f"{key!r}: {_INCOMING}/ is the store's own folder", "BadKey")
        return self._root.joinpath(*key.split("/"))

    async def head(self, key: str) -> Stored | None:
        return await asyncio.to_thread(self._head, key)

    async def get(self, key: str, start: int = 0, end: int | None = None) -> bytes | None:
        return await asyncio.to_thread(self._get, key, start, end)

    async def stream(self, key: str, start: int = 0, end: int | None = None) -> AsyncIterator[bytes]:
        position = start
        while end is None or position < end:
            upto = position + _PIECE if end is None else min(position + _PIECE, end)
            piece = await asyncio.to_thread(self._get, key, position, upto)
            if piece is None:
                raise NoSuchObject(f"{self.url}: there is no {key}")
            if not piece:
                return
            position += len(piece)
            yield piece

    async def put(self, key: str, content: bytes | Path, *, only_if_absent: bool = False) -> bool:
        return await asyncio.to_thread(self._put, key, content, only_if_absent)

    async def list(self, prefix: str = "") -> AsyncIterator[Stored]:
        check_prefix(prefix)
        for stored in await asyncio.to_thread(lambda: sorted(self._walk(prefix), key=lambda one: one.key.encode())):
            yield stored

    async def folders(self, prefix: str = "") -> tuple[str, ...]:
        check_prefix(prefix)
        return await asyncio.to_thread(self._folders, prefix)

    async def delete(self, keys: Iterable[str]) -> None:
        await asyncio.to_thread(self._delete, tuple(keys))

    async def drop_leftovers(self, prefix: str) -> int | None:
        check_prefix(prefix)
        await asyncio.to_thread(self._drop_empty, prefix)
        return 0

    def _drop_empty(self, prefix: str) -> None:
        base = self._root.joinpath(*prefix.rstrip("/").split("/"))
        for folder, _, _ in os.walk(base, topdown=False):
            try:
                os.rmdir(folder)
            except OSError as error:
                if error.errno not in (errno.ENOTEMPTY, errno.EEXIST, errno.ENOENT):
                    raise self._store_error(prefix, error) from error

    def _head(self, key: str) -> Stored | None:
        path = self.path(key)
        try:
            status = path.stat()
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            raise self._store_error(key, error) from error
        return Stored(key, status.st_size, status.st_mtime) if path.is_file() else None

    def _get(self, key: str, start: int, end: int | None) -> bytes | None:
        try:
            with self.path(key).open("rb") as file:
                file.seek(start)
                return file.read() if end is None else file.read(max(0, end - start))
        except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
            return None
        except OSError as error:
            raise self._store_error(key, error) from error

    def _put(self, key: str, content: bytes | Path, only_if_absent: bool) -> bool:
        path = self.path(key)
        if only_if_absent and path.exists():
            return False
        try:
            with self._incoming() as incoming:
                if isinstance(content, Path):
                    shutil.copyfile(content, incoming)
                else:
                    incoming.write_bytes(content)
                return self._publish(incoming, path, only_if_absent)
        except OSError as error:
            raise self._store_error(key, error) from error

    def _publish(self, incoming: Path, path: Path, only_if_absent: bool) -> bool:
        path.parent.mkdir(parents=True, exist_ok=True)
        if not only_if_absent:
            incoming.replace(path)
            return True
        try:
            if os.name == "nt":
                incoming.rename(path)  # fails there when the name is taken
            else:
                os.link(incoming, path)
        except FileExistsError:
            return False
        return True

    @contextlib.contextmanager
    def _incoming(self) -> Iterator[Path]:
        folder = self._root / _INCOMING
        folder.mkdir(parents=True, exist_ok=True)
        self._sweep(folder)
        path = folder / f"{os.getpid()}-{secrets.token_hex(8)}"
        try:
            yield path
        finally:
            path.unlink(missing_ok=True)

    def _sweep(self, folder: Path) -> None:
        if self._swept:
            return
        self._swept = True
        for left in folder.iterdir():
            with contextlib.suppress(FileNotFoundError):
                if left.stat().st_mtime < time.time() - _LEFT_BEHIND:
                    left.unlink()

    def _walk(self, prefix: str) -> Iterator[Stored]:
        base = self._root.joinpath(*prefix.split("/"))
        for folder, names, files in os.walk(base):
            if folder == str(self._root):
                names[:] = [name for name in names if name != _INCOMING]
            relative = Path(folder).relative_to(self._root).as_posix()
            for name in files:
                with contextlib.suppress(FileNotFoundError):  # removed while we look
                    status = os.stat(os.path.join(folder, name))
                    key = name if relative == "." else f"{relative}/{name}"
                    yield Stored(key, status.st_size, status.st_mtime)

    def _folders(self, prefix: str) -> tuple[str, ...]:
        try:
            with os.scandir(self._root.joinpath(*prefix.split("/"))) as entries:
                # A link is no part of the store: local runs leave `jobs/<name>` for people, and a name may look like a key.
                folders = (one.name for one in entries if one.is_dir(follow_symlinks=False))
                return tuple(sorted(name for name in folders if name != _INCOMING))
        except (FileNotFoundError, NotADirectoryError):
            return ()
        except OSError as error:
            raise self._store_error(prefix, error) from error

    def _delete(self, keys: tuple[str, ...]) -> None:
        for key in keys:
            path = self.path(key)
            try:
                path.unlink(missing_ok=True)
                # An empty folder is no object: S3 would not list it either.
                for parent in itertools.takewhile(lambda one: one != self._root, path.parents):
                    parent.rmdir()
            except NotADirectoryError:
                continue
            except OSError as error:
                if error.errno not in (errno.ENOTEMPTY, errno.EEXIST, errno.ENOENT):
                    raise self._store_error(key, error) from error

    def _store_error(self, key: str, error: OSError) -> StoreError:
        text = f"{self.url}: {key}: {error.strerror or error}"
        if error.errno in _PASSING:
            return StoreUnavailable(text)
        return StoreRefused(text, errno.errorcode.get(error.errno or 0, ""))
