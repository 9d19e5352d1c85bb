"""Strict unpacking of a snapshot: the manifest says what may be written, the zip only brings the bytes.

Every check that needs no content comes before the first write, so a bomb, a slip or an overlap is a mismatch and not
a special case. Python's own archive filters are not relied on.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import shutil
import zipfile
import zlib
from typing import BinaryIO, Dict, Iterator, List, Optional, Sequence, Tuple

from stoker.runtime import wire

_CHUNK = 256 * 1024
_METHODS = {0: "stored", 8: "deflate"}
_KNOWN_METHODS = {9: "deflate64", 12: "bzip2", 14: "lzma", 93: "zstd", 95: "xz"}
_HAS_DIR_FD = {os.open, os.mkdir, os.symlink} <= os.supports_dir_fd and hasattr(os, "O_NOFOLLOW")
_WINDOWS_NAME = re.compile(r'[<>:"|?*]|[ .]\Z|(?:con|prn|aux|nul|com\d|lpt\d)(?:\.|\Z)', re.IGNORECASE)


class UnpackRefused(ValueError):
    """A snapshot that is not unpacked. reason: `SnapshotCorrupt`, or `ScratchTooSmall` when the disk is."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


def unpack(manifest: bytes, archive: str, destination: str, digest: Optional[str] = None) -> Tuple[wire.Entry, ...]:
    """Write the tree of a snapshot into an existing folder and return its entries.

    manifest: canonical bytes; digest: `sha256:<hex>` that they must have. archive: path of the zip. Files get mode
    0644 or 0755 less the umask. Raises UnpackRefused; then nothing was written outside of `destination`, and what
    was written inside is incomplete and must not be used.
    """
    entries = check_manifest(manifest, digest)
    try:
        with open(archive, "rb") as file, zipfile.ZipFile(file) as package:
            members = _check_members(package, entries, os.path.getsize(archive))
            _check_space(entries, destination)
            with contextlib.ExitStack() as stack:
                tree = stack.enter_context(_FdTree(destination)) if _HAS_DIR_FD else _PathTree(destination)
                for entry in entries:
                    if not entry.is_link:
                        _write_file(tree, package, members[entry.path], entry)
                # Links last: no file can then be written through one.
                for entry in entries:
                    if entry.is_link:
                        tree.link(entry.path, entry.target)
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, UnicodeDecodeError) as error:
        raise UnpackRefused("SnapshotCorrupt", "the snapshot's zip cannot be read: %s" % error) from None
    except FileExistsError as error:
        raise UnpackRefused("SnapshotCorrupt", "%s is there already" % error.filename) from None
    return entries


def check_manifest(manifest: bytes, digest: Optional[str]) -> Tuple[wire.Entry, ...]:
    """The entries of a manifest that has this digest; raises UnpackRefused."""
    if digest is not None and wire.manifest_digest(manifest) != digest:
        raise UnpackRefused(
            "SnapshotCorrupt", "the stored manifest is %s and not %s" % (wire.manifest_digest(manifest), digest)
        )
    try:
        return wire.decode_manifest(manifest)
    except wire.WireError as error:
        raise UnpackRefused("SnapshotCorrupt", "the manifest is not valid: %s" % error) from None


def largest_archive(entries: Sequence[wire.Entry]) -> int:
    """Most bytes that an honest zip of these entries can have: stored blocks, two headers and two names per entry."""
    names = sum(len(entry.path.encode("utf-8")) + len(entry.target.encode("utf-8")) for entry in entries)
    return sum(entry.size + entry.size // 1000 for entry in entries) + 2 * names + 512 * len(entries) + 65_536


def _check_members(
    package: zipfile.ZipFile, entries: Sequence[wire.Entry], archive_bytes: int
) -> Dict[str, zipfile.ZipInfo]:
    by_path = {entry.path: entry for entry in entries}
    members: Dict[str, zipfile.ZipInfo] = {}
    if archive_bytes > largest_archive(entries):
        raise _corrupt("the zip has %d bytes, more than its manifest can explain" % archive_bytes)
    for info in package.infolist():
        # Not .filename: zipfile cuts that at a NUL byte and changes separators.
        name = info.orig_filename
        entry = by_path.get(name)
        if entry is None:
            raise _corrupt("%r is in the zip and not in the manifest" % name)
        if name in members:
            raise _corrupt("%r is in the zip twice" % name)
        if info.flag_bits & 0x1:
            raise _corrupt("%r is encrypted" % name)
        if info.compress_type not in _METHODS:
            method = _KNOWN_METHODS.get(info.compress_type, "method %d" % info.compress_type)
            raise _corrupt("%r is packed with %s; only stored and deflate are read here" % (name, method))
        size = len(entry.target.encode("utf-8")) if entry.is_link else entry.size
        if info.file_size != size:
            raise _corrupt("%r has %d bytes in the zip and %d in the manifest" % (name, info.file_size, size))
        members[name] = info
    for entry in entries:
        # A link is whole in the manifest; a zip may carry it or not.
        if entry.path not in members and not entry.is_link:
            raise _corrupt("%r is in the manifest and not in the zip" % entry.path)
    _check_overlap(package, list(members.values()))
    return members


def _check_overlap(package: zipfile.ZipFile, members: List[zipfile.ZipInfo]) -> None:
    end = 0
    for info in sorted(members, key=lambda member: member.header_offset):
        if info.header_offset < end:
            raise _corrupt("%r shares bytes of the zip with another entry" % info.orig_filename)
        # 30 bytes: a local header without its extra field, whose length only the local header knows.
        end = info.header_offset + 30 + len(info.orig_filename.encode("utf-8")) + info.compress_size
    if end > package.start_dir:
        raise _corrupt("an entry reaches into the zip's directory")


def _check_space(entries: Sequence[wire.Entry], destination: str) -> None:
    need = sum((entry.size + 4095) // 4096 * 4096 for entry in entries)
    free = shutil.disk_usage(destination).free
    if need > free:
        raise UnpackRefused(
            "ScratchTooSmall",
            "the snapshot needs %d bytes and %s has %d free; ask for more scratch or send less"
            % (need, destination, free),
        )


def _write_file(tree: "_Tree", package: zipfile.ZipFile, info: zipfile.ZipInfo, entry: wire.Entry) -> None:
    digest, written = hashlib.sha256(), 0
    with package.open(info) as source, tree.create(entry.path, entry.executable) as target:
        while True:
            chunk = source.read(_CHUNK)
            if not chunk:
                break
            written += len(chunk)
            if written > entry.size:
                raise _corrupt("%r unpacks to more than its %d bytes" % (entry.path, entry.size))
            digest.update(chunk)
            target.write(chunk)
    if written != entry.size or digest.hexdigest() != entry.sha256:
        raise _corrupt("%r does not have the content that the manifest names" % entry.path)


def _corrupt(message: str) -> UnpackRefused:
    return UnpackRefused("SnapshotCorrupt", message)


class _Tree:
    """Where entries are written. Folders are made as needed; nothing that exists is followed or replaced."""

    def create(self, path: str, executable: bool) -> "contextlib.AbstractContextManager[BinaryIO]":
        raise NotImplementedError

    def link(self, path: str, target: str) -> None:
        raise NotImplementedError


class _FdTree(_Tree):
    """Writes relative to open folders, so that no name on the way can be swapped for a link."""

    def __init__(self, root: str) -> None:
        self._root = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        # The chain of folders of the last entry: entries come sorted, so most share it.
        self._chain: List[Tuple[str, int]] = []

    def __enter__(self) -> "_FdTree":
        return self

    def __exit__(self, *_: object) -> None:
        self._shorten(0)
        os.close(self._root)

    @contextlib.contextmanager
    def create(self, path: str, executable: bool) -> Iterator[BinaryIO]:
        folder, name = self._folder(path)
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        with os.fdopen(os.open(name, flags, 0o755 if executable else 0o644, dir_fd=folder), "wb") as file:
            yield file

    def link(self, path: str, target: str) -> None:
        folder, name = self._folder(path)
        os.symlink(target, name, dir_fd=folder)

    def _folder(self, path: str) -> Tuple[int, str]:
        parts = path.split("/")
        shared = 0
        while shared < min(len(self._chain), len(parts) - 1) and self._chain[shared][0] == parts[shared]:
            shared += 1
        self._shorten(shared)
        for part in parts[shared:-1]:
            parent = self._chain[-1][1] if self._chain else self._root
            with contextlib.suppress(FileExistsError):
                os.mkdir(part, 0o755, dir_fd=parent)
            flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
            try:
                self._chain.append((part, os.open(part, flags, dir_fd=parent)))
            except OSError as error:
                raise _corrupt("%r: %r is no folder: %s" % (path, part, error.strerror)) from None
        return (self._chain[-1][1] if self._chain else self._root), parts[-1]

    def _shorten(self, length: int) -> None:
        while len(self._chain) > length:
            os.close(self._chain.pop()[1])


class _PathTree(_Tree):
    """For systems without directory descriptors: every folder on the way is checked not to be a link."""

    def __init__(self, root: str) -> None:
        self._root = root

    @contextlib.contextmanager
    def create(self, path: str, executable: bool) -> Iterator[BinaryIO]:
        with open(self._place(path), "xb") as file:
            yield file

    def link(self, path: str, target: str) -> None:
        try:
            os.symlink(target.replace("/", os.sep), self._place(path))
        except OSError as error:
            raise UnpackRefused(
                "SnapshotCorrupt", "%r is a link and links cannot be made here: %s" % (path, error)
            ) from None

    def _place(self, path: str) -> str:
        here, parts = self._root, path.split("/")
        if os.name == "nt" and any(_WINDOWS_NAME.search(part) for part in parts):
            raise _corrupt("%r is not a name that Windows allows" % path)
        for part in parts[:-1]:
            here = os.path.join(here, part)
            os.makedirs(here, exist_ok=True)
            if os.path.islink(here):
                raise _corrupt("%r: %r is a link" % (path, part))
        return os.path.join(here, parts[-1])
