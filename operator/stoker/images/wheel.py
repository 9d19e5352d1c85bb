"""What installing a wheel puts where, read straight from its zip: nothing is unpacked on the way into a layer.

The rules are those of the binary distribution format, as PyPI's `installer` applies them.
"""

import base64
import csv
import hashlib
import io
import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from importlib.util import cache_from_source
from pathlib import Path
from typing import Any, BinaryIO
from zipfile import BadZipFile

import installer
from installer.destinations import WheelDestination
from installer.exceptions import InstallerError
from installer.records import RecordEntry
from installer.scripts import Script
from installer.sources import WheelFile
from installer.utils import Scheme, fix_shebang

from stoker.images.archive import Archive
from stoker.images.compiling import Source
from stoker.images.failure import BuildFailed
from stoker.images.layers import File, Folder, Link

#: Written by installers about themselves: they say nothing of the package, and make two installs differ.
_LEFT_OUT = ("INSTALLER", "REQUESTED", "direct_url.json")


@dataclass(frozen=True, slots=True)
class Layout:
    """Where an environment's files go. prefix: absolute. python: `3.11`. own_python: it has an
    interpreter of its own, and no base's: then headers lie beside that one's."""

    prefix: str
    python: str
    own_python: bool = False

    @property
    def interpreter(self) -> str:
        return f"{self.prefix}/bin/python"

    @property
    def site_packages(self) -> str:
        return f"{self.prefix}/lib/python{self.python}/site-packages"

    def place(self, scheme: str, distribution: str) -> str:
        """The absolute folder of an install scheme."""
        if scheme in ("purelib", "platlib"):
            return self.site_packages
        if scheme == "scripts":
            return f"{self.prefix}/bin"
        if scheme == "headers":
            site = "" if self.own_python else "site/"
            return f"{self.prefix}/include/{site}python{self.python}/{distribution}"
        return self.prefix


class InstalledWheel:
    """The files of one wheel, by path in the image without the leading slash. Keep it open while layers are written."""

    def __init__(self, path: Path, layout: Layout) -> None:
        """Raises BuildFailed (BadPackage) for what is not a wheel."""
        self.path = path
        self.entries: dict[str, File | Link | Folder] = {}
        #: Modules to compile: (name in the wheel, absolute path in the image).
        self._modules: list[tuple[str, str]] = []
        #: Their folder depends on whose Python it is (`Layout.own_python`).
        self.has_headers = False
        self._layout = layout
        self._records: list[tuple[str, str, str]] = []
        try:
            self._zip = Archive(path)
            installer.install(WheelFile(self._zip), _Destination(self._zip, layout, self), {})
        except (InstallerError, BadZipFile, KeyError, ValueError) as error:
            raise BuildFailed("BadPackage", f"{path.name} is not a wheel that can be installed: {error}") from error

    def close(self) -> None:
        self._zip.close()

    def compiled(self, code: Mapping[str, File]) -> dict[str, File | Link | Folder]:
        """All files, bytecode and RECORD included. code: a module's path in the image -> its bytecode."""
        entries = dict(self.entries)
        records = list(self._records)
        for module, file in code.items():
            path = cache_from_source(module, optimization="")
            entries[path.lstrip("/")] = file
            records.append((self._relative(path), "", ""))
        record_path = next(path for path, _, _ in records if path.endswith(".dist-info/RECORD"))
        entries[f"{self._layout.site_packages}/{record_path}".lstrip("/")] = File.of(_record(records))
        return entries

    def modules(self) -> Iterator[tuple[Source, str]]:
        """Those to compile: where their sources are, and their absolute paths in the image."""
        for member, path in self._modules:
            if (place := self._zip.place(member)) is not None:
                yield place, path

    def add_module(self, member: str, path: str) -> None:
        self._modules.append((member, path))

    def add(self, path: str, entry: File, digest: str) -> None:
        """Notes a file. path: absolute, in the image. digest: as RECORD has it."""
        self.entries[path.lstrip("/")] = entry
        self._records.append((self._relative(path), digest, str(entry.size)))

    def finish(self, record_path: str) -> None:
        self._records.append((record_path, "", ""))

    def _relative(self, path: str) -> str:
        """As RECORD has it: relative to site-packages."""
        below = f"{self._layout.site_packages}/"
        if path.startswith(below):
            return path.removeprefix(below)
        return "../../../" + path.removeprefix(f"{self._layout.prefix}/")


class _Destination(WheelDestination):
    """Notes what `installer` would write instead of writing it."""

    def __init__(self, archive: Archive, layout: Layout, wheel: InstalledWheel) -> None:
        self._archive = archive
        self._layout = layout
        self._wheel = wheel
        source = WheelFile(archive)
        self._distribution = source.distribution
        rows = csv.reader(source.read_dist_info("RECORD").splitlines())
        self._digests = {row[0]: row[1] for row in rows if len(row) == 3}

    def write_script(self, name: str, module: str, attr: str, section: Any) -> RecordEntry:
        file_name, content = Script(name, module, attr, section).generate(self._layout.interpreter, "posix")
        return self._add(_inside(f"{self._layout.prefix}/bin", file_name), File.of(content, executable=True))

    def write_file(
        self, scheme: Scheme, path: str | os.PathLike[str], stream: BinaryIO, is_executable: bool
    ) -> RecordEntry:
        place = _inside(self._layout.place(scheme, self._distribution), str(path))
        self._wheel.has_headers |= scheme == "headers"
        folder, _, name = place.rpartition("/")
        if name in _LEFT_OUT and folder.endswith(".dist-info"):
            return RecordEntry(str(path), None, None)
        if scheme == "scripts":
            with fix_shebang(stream, self._layout.interpreter) as fixed:
                return self._add(place, File.of(fixed.read(), executable=True))
        member = stream.name
        if name.endswith(".py") and place.startswith(self._layout.site_packages):
            self._wheel.add_module(member, place)
        size = self._archive.getinfo(member).file_size
        return self._add(
            place, File(partial(self._archive.blocks, member), size, is_executable), self._digests.get(member)
        )

    def finalize_installation(
        self, scheme: Scheme, record_file_path: str, records: Iterable[tuple[Scheme, RecordEntry]]
    ) -> None:
        self._wheel.finish(record_file_path)

    def _add(self, path: str, entry: File, digest: str | None = None) -> RecordEntry:
        if digest is None and isinstance(entry.content, bytes):
            digest = _sha256(entry.content)
        self._wheel.add(path, entry, digest or "")
        return RecordEntry(path, None, entry.size)


def _inside(folder: str, path: str) -> str:
    """Raises ValueError for a path that leaves the folder."""
    parts = path.split("/")
    if path.startswith("/") or ".." in parts or "\\" in path:
        raise ValueError(f"{path!r} lies outside of the package's folder")
    return f"{folder}/{'/'.join(part for part in parts if part not in ('', '.'))}"


def _sha256(content: bytes) -> str:
    return "sha256=" + base64.urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=").decode()


def _record(rows: list[tuple[str, str, str]]) -> bytes:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(sorted(rows))
    return text.getvalue().encode()
