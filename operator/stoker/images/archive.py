"""Reads a wheel's zip. ISA-L inflates in less than half the time that zlib takes, and most of what a layer is made from is
inflated once: so it counts.
"""

import mmap
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from isal import isal_zlib

from stoker.images.failure import BuildFailed

#: Bytes that are inflated at once; what comes out of them is at most a thousand times as many.
_BLOCK = 1 << 18
_HEADER, _SIGNATURE = 30, b"PK\x03\x04"
_ENCRYPTED = 1


class Archive(zipfile.ZipFile):
    """A zip of which members are opened when they are read, and read by several threads at once. Raises BadZipFile."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        with open(path, "rb") as file:
            self._bytes = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)

    def close(self) -> None:
        super().close()
        if hasattr(self, "_bytes"):
            self._bytes.close()

    def open(self, name: str | zipfile.ZipInfo, *arguments: Any, **more: Any) -> IO[bytes]:
        member = name if isinstance(name, zipfile.ZipInfo) else self.getinfo(name)
        return _Member(self, member)  # type: ignore[return-value]

    def blocks(self, name: str) -> Iterator[bytes]:
        """The content of a member, checked. Raises BuildFailed (BadPackage) where the zip is broken."""
        member = self.getinfo(name)
        try:
            place = self.place(name)
            if place is None:
                with super().open(member) as stream:
                    while block := stream.read(_BLOCK):
                        yield block
                return
            check = 0
            inflater = isal_zlib.decompressobj(-15) if place[2] else None
            for packed in self._packed(*place[:2]):
                block = inflater.decompress(packed) if inflater is not None else packed
                check = isal_zlib.crc32(block, check)
                yield block
        except (zipfile.BadZipFile, isal_zlib.error, NotImplementedError, RuntimeError) as error:  # type: ignore[misc]
            raise self._broken(name, str(error)) from error
        if check != member.CRC:
            raise self._broken(name, "its checksum is another one")

    def place(self, name: str) -> tuple[int, int, bool] | None:
        """Where a member's bytes are: start, size, whether they are deflated. None for one that needs more to be read.
        Raises BuildFailed (BadPackage)."""
        member = self.getinfo(name)
        if member.compress_type not in (zipfile.ZIP_DEFLATED, zipfile.ZIP_STORED) or member.flag_bits & _ENCRYPTED:
            return None
        header = self._bytes[member.header_offset : member.header_offset + _HEADER]
        if header[:4] != _SIGNATURE:
            raise self._broken(name, "no file begins where the directory says")
        names = int.from_bytes(header[26:28], "little") + int.from_bytes(header[28:30], "little")
        return (
            member.header_offset + _HEADER + names,
            member.compress_size,
            member.compress_type == zipfile.ZIP_DEFLATED,
        )

    def _packed(self, start: int, size: int) -> Iterator[bytes]:
        for offset in range(start, start + size, _BLOCK):
            yield self._bytes[offset : min(offset + _BLOCK, start + size)]

    def _broken(self, name: str, problem: str) -> BuildFailed:
        file = Path(self.filename or "").name
        return BuildFailed("BadPackage", f"{file}: {name} cannot be read: {problem}")


class _Member:
    """A member as an open file: most are asked for their names only."""

    def __init__(self, archive: Archive, member: zipfile.ZipInfo) -> None:
        self._archive = archive
        self._member = member
        self._stream: IO[bytes] | None = None
        self.name = member.filename

    def __enter__(self) -> "_Member":
        return self

    def __exit__(self, *error: object) -> None:
        if self._stream is not None:
            self._stream.close()

    def __getattr__(self, name: str) -> Any:
        if self._stream is None:
            self._stream = zipfile.ZipFile.open(self._archive, self._member)
        return getattr(self._stream, name)
