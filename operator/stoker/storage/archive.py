"""The zip of a snapshot: same entries, same zlib, same bytes. Sorted, one fixed date, modes 0644 and 0755 only.

It carries exactly what the manifest names: a file whose content is no longer that of its entry is an error.
"""

import hashlib
import io
import os
import stat
import unicodedata
import zipfile
import zlib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import IO

from stoker.runtime.wire import Entry
from stoker.storage.hashing import changed
from stoker.storage.listing import SnapshotError

_DATE = (1980, 1, 1, 0, 0, 0)
#: zlib's: 1 costs three quarters of the CPU time of 6 and 3 % more bytes.
LEVEL = 1
_UNIX = 3
_SMALL = 4 << 20
_PIECE = 1 << 20
#: Content that this much of it does not shrink below 95 % is stored as it is (bytes).
_SAMPLE = 64 << 10


def write_zip(root: Path | str, entries: Iterable[Entry], out: IO[bytes], *, level: int = LEVEL) -> int:
    """Write the zip of these entries and return its size (bytes). out: a binary file, seekable.

    level: zlib's, 0 to store everything; it changes the zip's bytes, never the snapshot's digest. Raises SnapshotError
    naming the file when one is gone or its content is not the entry's.
    """
    base = Path(root)
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED, compresslevel=level) as archive:
        for entry in sorted(entries, key=lambda one: one.path.encode()):
            if entry.is_link:
                archive.writestr(_info(entry, stat.S_IFLNK | 0o777, zipfile.ZIP_STORED), entry.target.encode())
            elif entry.size <= _SMALL:
                _write_small(archive, base, entry, level)
            else:
                _write_large(archive, base, entry, level)
    return out.tell()


def zip_texts(contents: Mapping[str, bytes], entries: Iterable[Entry]) -> bytes:
    """The zip of entries whose contents are in memory: the bytes that `write_zip` makes of the same files."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED, compresslevel=LEVEL) as archive:
        for entry in sorted(entries, key=lambda one: one.path.encode()):
            _write_bytes(archive, entry, contents[entry.path], LEVEL)
    return out.getvalue()


def _info(entry: Entry, mode: int, method: int) -> zipfile.ZipInfo:
    info = zipfile.ZipInfo(entry.path, _DATE)
    info.create_system = _UNIX
    info.external_attr = mode << 16
    info.compress_type = method
    return info


def _mode(entry: Entry) -> int:
    return stat.S_IFREG | (0o755 if entry.executable else 0o644)


def _write_small(archive: zipfile.ZipFile, base: Path, entry: Entry, level: int) -> None:
    try:
        with open(on_disk(base, entry.path), "rb") as file:
            content = file.read(entry.size + 1)
    except OSError as error:
        raise SnapshotError(f"{entry.path}: {error.strerror}") from error
    _write_bytes(archive, entry, content, level)


def _write_bytes(archive: zipfile.ZipFile, entry: Entry, content: bytes, level: int) -> None:
    if len(content) != entry.size or hashlib.sha256(content).hexdigest() != entry.sha256:
        raise changed(entry.path)
    method = zipfile.ZIP_DEFLATED if _shrinks(content[:_SAMPLE], level) else zipfile.ZIP_STORED
    archive.writestr(_info(entry, _mode(entry), method), content, compresslevel=level)


def _write_large(archive: zipfile.ZipFile, base: Path, entry: Entry, level: int) -> None:
    digest, size = hashlib.sha256(), 0
    try:
        with open(on_disk(base, entry.path), "rb") as file:
            content = file.read(_PIECE)
            shrinks = _shrinks(content[:_SAMPLE], level)
            info = _info(entry, _mode(entry), zipfile.ZIP_DEFLATED if shrinks else zipfile.ZIP_STORED)
            info.file_size = entry.size  # known beforehand, so that only files over 2 GiB get a zip64 field
            info._compresslevel = level  # type: ignore[attr-defined]
            with archive.open(info, "w") as packed:
                while content and size <= entry.size:
                    digest.update(content)
                    size += len(content)
                    packed.write(content)
                    content = file.read(_PIECE)
    except OSError as error:
        raise SnapshotError(f"{entry.path}: {error.strerror}") from error
    if size != entry.size or digest.hexdigest() != entry.sha256:
        raise changed(entry.path)


def _shrinks(sample: bytes, level: int) -> bool:
    return bool(sample) and level > 0 and len(zlib.compress(sample, level)) < len(sample) * 0.95


def on_disk(base: Path, path: str) -> str:
    """The file that a manifest's path names: the system may spell the same name in another Unicode form."""
    plain = os.path.join(base, *path.split("/"))
    if path.isascii() or os.path.lexists(plain):
        return plain
    here = os.fspath(base)
    for part in path.split("/"):
        names = os.listdir(here) if os.path.isdir(here) else []
        here = os.path.join(here, next((one for one in names if unicodedata.normalize("NFC", one) == part), part))
    return here
