"""Writes a layer: a tar with everything in it decided here, compressed with zstd.

Two builds of one package give the same bytes: paths sorted, owner 0:0, one time of change, modes 644 and 755, each
folder once and before what lies in it. Only additions: no whiteouts.
"""

import hashlib
import tarfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import IO

import zstandard

LAYER_TYPE = "application/vnd.oci.image.layer.v1.tar+zstd"
#: 1980-01-02: a zip cannot hold anything older than 1980, and tools zip what is installed.
MTIME = 315619200
LEVEL = 3
_BLOCK = 1 << 20
#: What fits into the fields of a plain header: bytes of a file, and owners.
_USTAR_SIZES, _USTAR_OWNERS = 1 << 33, 1 << 21


@dataclass(frozen=True, slots=True)
class File:
    """content: the bytes, or what gives them in blocks; then size says how many there are. owner: uid and gid. mode: permission bits;
    None: 755 for what is executable, else 644."""

    content: bytes | Callable[[], Iterable[bytes]]
    size: int
    executable: bool = False
    owner: tuple[int, int] = (0, 0)
    mode: int | None = None

    @classmethod
    def at(cls, path: Path, *, executable: bool = False) -> "File":
        """A file of this machine, read when it is written into the layer."""
        return cls(partial(blocks, path), path.stat().st_size, executable)

    @classmethod
    def of(cls, content: bytes, *, executable: bool = False) -> "File":
        return cls(content, len(content), executable)


def blocks(path: Path) -> Iterator[bytes]:
    """A file's content."""
    with open(path, "rb") as file:
        while block := file.read(_BLOCK):
            yield block


@dataclass(frozen=True, slots=True)
class Link:
    """A symbolic link."""

    target: str
    owner: tuple[int, int] = (0, 0)


@dataclass(frozen=True, slots=True)
class Folder:
    """A folder that would be empty, or whose parents no file names."""

    owner: tuple[int, int] = (0, 0)
    mode: int = 0o755


#: Path in the image, without the leading slash.
Entries = Mapping[str, "File | Link | Folder"]


@dataclass(frozen=True, slots=True)
class Layer:
    """One layer's blob: digest and size as compressed, diff_id of the tar inside. created_by: for the history."""

    media_type: str
    digest: str
    size: int
    diff_id: str
    created_by: str = ""


def write_layer(entries: Entries, out: Path, *, root: str, created_by: str = "") -> Layer:
    """Writes the entries to `out`. root: folder below which parents are written too, itself included.

    The folders above it are the base's: one of them may be a symbolic link there, which an entry would replace.
    """
    with open(out, "wb") as file:
        packing = _Packing(file)
        for path, entry in sorted(_with_parents(entries, root).items()):
            packing.write(header(path, entry))
            if isinstance(entry, File):
                _write_content(packing, path, entry)
        packing.write(bytes(2 * tarfile.BLOCKSIZE))
        packing.write(bytes(-packing.plain_size % tarfile.RECORDSIZE))
        packing.finish()
    return Layer(LAYER_TYPE, packing.digest, packing.size, packing.diff_id, created_by)


def _with_parents(entries: Entries, root: str) -> dict[str, File | Link | Folder]:
    everything = dict(entries)
    root = root.strip("/")
    for path in entries:
        parent = path.rpartition("/")[0]
        while (parent == root or parent.startswith(f"{root}/")) and parent not in everything:
            everything[parent] = Folder()
            parent = parent.rpartition("/")[0]
    return everything


def header(path: str, entry: File | Link | Folder) -> bytes:
    """What `tarfile` writes ahead of an entry in its PAX format, in a quarter of the time for the names that most have."""
    kind, size, link, mode = tarfile.REGTYPE, 0, "", 0
    match entry:
        case Folder():
            kind, mode = tarfile.DIRTYPE, entry.mode
        case Link(target):
            kind, mode, link = tarfile.SYMTYPE, 0o777, target
        case File(_, size, executable):
            mode = entry.mode if entry.mode is not None else 0o755 if executable else 0o644
    name = f"{path}/" if kind == tarfile.DIRTYPE else path
    plain = name.isascii() and link.isascii() and max(len(name), len(link)) <= tarfile.LENGTH_NAME
    if plain and size < _USTAR_SIZES and max(entry.owner) < _USTAR_OWNERS:
        return _ustar(name, kind, mode, entry.owner, size, link)
    other = tarfile.TarInfo(path)
    other.type, other.mode, other.size, other.linkname = kind, mode, size, link
    other.mtime, (other.uid, other.gid) = MTIME, entry.owner
    return other.tobuf(tarfile.PAX_FORMAT)


def _ustar(name: str, kind: bytes, mode: int, owner: tuple[int, int], size: int, link: str) -> bytes:
    """A block of 512 bytes, as POSIX.1-1988 has it."""
    numbers = b"%07o\0%07o\0%07o\0%011o\0%011o\0" % (mode & 0o7777, *owner, size, MTIME)
    before = name.encode().ljust(100, b"\0") + numbers
    after = (kind + link.encode().ljust(100, b"\0") + tarfile.POSIX_MAGIC).ljust(512 - len(before) - 8, b"\0")
    return b"%b%06o\0 %b" % (before, sum(before) + sum(after) + 8 * ord(" "), after)


def _write_content(packing: "_Packing", path: str, entry: File) -> None:
    content = [entry.content] if isinstance(entry.content, bytes) else entry.content()
    written = sum(map(packing.write, content))
    if written != entry.size:
        raise OSError(f"{path} has {written} bytes instead of {entry.size}")
    packing.write(bytes(-written % tarfile.BLOCKSIZE))


class _Packing:
    """Compresses what is written into a file, and hashes it before and after, in large blocks: those leave other threads
    their turn.

    plain_size: bytes before, size: after.
    """

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self._compressor = zstandard.ZstdCompressor(level=LEVEL, write_checksum=True).compressobj()
        self._plain, self._packed = hashlib.sha256(), hashlib.sha256()
        self._waiting: list[bytes] = []
        self._waiting_size = 0
        self.plain_size = self.size = 0

    def write(self, content: bytes) -> int:
        self._waiting.append(content)
        self._waiting_size += len(content)
        self.plain_size += len(content)
        if self._waiting_size >= _BLOCK:
            self._pack()
        return len(content)

    def finish(self) -> None:
        self._pack()
        self._keep(self._compressor.flush())

    def _pack(self) -> None:
        block = b"".join(self._waiting)
        self._waiting.clear()
        self._waiting_size = 0
        self._plain.update(block)
        self._keep(self._compressor.compress(block))

    def _keep(self, packed: bytes) -> None:
        self._packed.update(packed)
        self._file.write(packed)
        self.size += len(packed)

    @property
    def digest(self) -> str:
        return f"sha256:{self._packed.hexdigest()}"

    @property
    def diff_id(self) -> str:
        return f"sha256:{self._plain.hexdigest()}"


def merge(parts: Iterable[Entries]) -> dict[str, File | Link | Folder]:
    """The entries of several packages as one: the later one wins, as with installs one after the other."""
    together: dict[str, File | Link | Folder] = {}
    for part in parts:
        together.update(part)
    return together
