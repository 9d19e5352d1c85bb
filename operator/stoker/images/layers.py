"""Writes a layer: a tar with everything in it decided here, compressed with zstd.

Two builds of one package give the same bytes: paths sorted, owner 0:0, one time of change, modes 644 and 755, each
folder once and before what lies in it. Only additions: no whiteouts.
"""

import hashlib
import io
import tarfile
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, cast

import zstandard

LAYER_TYPE = "application/vnd.oci.image.layer.v1.tar+zstd"
#: 1980-01-02: a zip cannot hold anything older than 1980, and tools zip what is installed.
MTIME = 315619200
LEVEL = 3
_BLOCK = 1 << 20


@dataclass(frozen=True, slots=True)
class File:
    """content: the bytes, or what opens them; then size says how many there are. owner: uid and gid. mode: permission bits;
    None: 755 for what is executable, else 644."""

    content: bytes | Callable[[], IO[bytes]]
    size: int
    executable: bool = False
    owner: tuple[int, int] = (0, 0)
    mode: int | None = None

    @classmethod
    def at(cls, path: Path, *, executable: bool = False) -> "File":
        """A file of this machine, read when it is written into the layer."""
        return cls(lambda: open(path, "rb"), path.stat().st_size, executable)

    @classmethod
    def of(cls, content: bytes, *, executable: bool = False) -> "File":
        return cls(content, len(content), executable)


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
        packed = _Tee(file)
        compressor = zstandard.ZstdCompressor(level=LEVEL, write_checksum=True)
        with compressor.stream_writer(cast(IO[bytes], packed), closefd=False) as stream:
            plain = _Tee(stream)
            with tarfile.TarFile(fileobj=plain, mode="w", format=tarfile.PAX_FORMAT, copybufsize=_BLOCK) as tar:
                for path, entry in sorted(_with_parents(entries, root).items()):
                    _add(tar, path, entry)
    return Layer(LAYER_TYPE, packed.digest, packed.size, plain.digest, created_by)


def _with_parents(entries: Entries, root: str) -> dict[str, File | Link | Folder]:
    everything = dict(entries)
    root = root.strip("/")
    for path in entries:
        parent = path.rpartition("/")[0]
        while (parent == root or parent.startswith(f"{root}/")) and parent not in everything:
            everything[parent] = Folder()
            parent = parent.rpartition("/")[0]
    return everything


def _add(tar: tarfile.TarFile, path: str, entry: File | Link | Folder) -> None:
    header = tarfile.TarInfo(path)
    header.mtime, (header.uid, header.gid) = MTIME, entry.owner
    match entry:
        case Folder():
            header.type, header.mode = tarfile.DIRTYPE, entry.mode
            tar.addfile(header)
        case Link(target):
            header.type, header.linkname, header.mode = tarfile.SYMTYPE, target, 0o777
            tar.addfile(header)
        case File(content, size, executable):
            header.size = size
            header.mode = entry.mode if entry.mode is not None else 0o755 if executable else 0o644
            with io.BytesIO(content) if isinstance(content, bytes) else content() as stream:
                tar.addfile(header, stream)


class _Tee(io.RawIOBase):
    """Passes on what is written, and counts and hashes it."""

    def __init__(self, target: IO[bytes]) -> None:
        self._target = target
        self._hash = hashlib.sha256()
        self.size = 0

    def writable(self) -> bool:
        return True

    def write(self, content: bytes) -> int:  # type: ignore[override]
        self._hash.update(content)
        self.size += len(content)
        self._target.write(content)
        return len(content)

    def tell(self) -> int:
        return self.size

    @property
    def digest(self) -> str:
        return f"sha256:{self._hash.hexdigest()}"


def merge(parts: Iterable[Entries]) -> dict[str, File | Link | Folder]:
    """The entries of several packages as one: the later one wins, as with installs one after the other."""
    together: dict[str, File | Link | Folder] = {}
    for part in parts:
        together.update(part)
    return together
