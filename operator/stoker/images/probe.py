"""What a base image brings: its Python, and its C library, which decide which packages fit.

The config's variables are asked first; then the layers' tar headers are read as they stream by, and nothing is kept of
them but a few names. The answer is stored beside the images, so that a base is read once (`probe_key`).
"""

import io
import re
import tarfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from gzip import BadGzipFile
from posixpath import join, normpath
from typing import IO, Any

import msgspec
import zstandard
from isal import igzip_threaded, isal_zlib

from stoker.core.environment.layering import digest
from stoker.images.compose import DEFAULT_PATH

PROBE_VERSION = "1"
PROBE_TYPE = "application/vnd.stoker.environment.probe.v1+json"
#: Where interpreters lie though PATH does not say so.
_MORE_FOLDERS = ("/usr/local/bin", "/usr/bin", "/opt/conda/bin")
_INTERPRETER = re.compile(r"(?:.*/)?bin/python(3(?:\.\d+)?)?\Z")
_VERSIONED = re.compile(r"(.*/bin)/python(3\.\d+)\Z")
_GLIBC = re.compile(r"(?:usr/)?lib(?:64)?/(?:[a-z0-9_]+-linux-gnu/)?libc\.so\.6\Z")
_MUSL = re.compile(r"(?:usr/)?lib/ld-musl-[a-z0-9_]+\.so\.1\Z")
_GLIBC_WORDS = re.compile(rb"GNU C Library [^\n]*version (\d+)\.(\d+)")
_DPKG = re.compile(r"(?:\./)?var/lib/dpkg/(?:status|status\.d/[^/]+)\Z")
_DPKG_PYTHON = re.compile(
    rb"^Package: (?:lib)?python(3\.\d+)-minimal$.*?^Version: (3\.\d+\.\d+)", re.DOTALL | re.MULTILINE
)
_CONDA_PYTHON = re.compile(r"conda-meta/python-(\d+\.\d+\.\d+)-[^/]+\.json\Z")
_MOST_READ = 16 << 20
#: What a layer raises that is no tar, or not packed as it should be.
BROKEN: tuple[type[Exception], ...] = (tarfile.TarError, EOFError, BadGzipFile, isal_zlib.error, zstandard.ZstdError)  # type: ignore[assignment]


class Interpreter(msgspec.Struct, frozen=True):
    """path: absolute. version: `3.11.2`, or `3.11` where the rest is not to be found out."""

    path: str
    version: str

    @property
    def minor(self) -> str:
        return ".".join(self.version.split(".")[:2])


class Probe(msgspec.Struct, frozen=True):
    """interpreters: best first, in the order of PATH. glibc: [2, 36], empty without one. musl: whether it is its libc."""

    interpreters: tuple[Interpreter, ...] = ()
    glibc: tuple[int, ...] = ()
    musl: bool = False


def probe_key(base_digest: str) -> str:
    """Names the answer for a base: hex."""
    return digest("env-probe/v1", [base_digest, PROBE_VERSION])


@dataclass
class Findings:
    """What the layers read so far hold; a later layer covers an earlier one."""

    files: set[str] = field(default_factory=set)
    links: dict[str, str] = field(default_factory=dict)
    glibc: tuple[int, ...] = ()
    musl: bool = False
    versions: dict[str, str] = field(default_factory=dict)

    def read(self, layer: IO[bytes]) -> None:
        """Reads one layer to its end."""
        with unpacked(layer) as plain, tarfile.open(fileobj=plain, mode="r|", bufsize=1 << 16) as tar:
            for member in tar:
                self._note(tar, member)
            # What follows the last member is read for its sums: they say whether what was read is what was packed.
            while plain.read(1 << 20):
                pass

    def _note(self, tar: tarfile.TarFile, member: tarfile.TarInfo) -> None:
        path = normpath(member.name).lstrip("/")
        folder, _, name = path.rpartition("/")
        if name == ".wh..wh..opq":
            self._forget(folder)
        elif name.startswith(".wh."):
            self._forget(join(folder, name.removeprefix(".wh.")))
        elif _INTERPRETER.match(path):
            self._forget(path)
            if member.issym():
                self.links[path] = member.linkname
            elif member.isfile() or member.islnk():
                self.files.add(path)
        elif _GLIBC.match(path) and member.isfile():
            if found := _GLIBC_WORDS.search(_content(tar, member)):
                self.glibc = (int(found[1]), int(found[2]))
        elif _MUSL.match(path):
            self.musl = True
        elif _DPKG.match(path) and member.isfile():
            for minor, version in _DPKG_PYTHON.findall(_content(tar, member)):
                self.versions[f"usr/bin/python{minor.decode()}"] = version.decode()
        elif found_conda := _CONDA_PYTHON.search(path):
            root = path[: found_conda.start()]
            self.versions[f"{root}bin/python{'.'.join(found_conda[1].split('.')[:2])}"] = found_conda[1]

    def _forget(self, path: str) -> None:
        self.files = {one for one in self.files if one != path and not one.startswith(f"{path}/")}
        self.links = {one: to for one, to in self.links.items() if one != path and not one.startswith(f"{path}/")}

    def interpreters(self, config: Mapping[str, Any]) -> Iterable[Interpreter]:
        """In the order in which a shell finds them."""
        variables = environment(config)
        folders = [*(variables.get("PATH") or DEFAULT_PATH).split(":"), *_MORE_FOLDERS]
        seen: set[str] = set()
        for folder in folders:
            names = ["python3", "python", *sorted(self._versioned(folder), reverse=True, key=_by_minor)]
            for name in names:
                path = self._resolve(join(folder, name).lstrip("/"))
                if path is None or path in seen:
                    continue
                seen.add(path)
                if (versioned := _VERSIONED.match(f"/{path}")) is not None:
                    yield Interpreter(f"/{path}", self._version(path, versioned[2], variables))

    def _versioned(self, folder: str) -> list[str]:
        start = folder.lstrip("/") + "/python3."
        return [path.rpartition("/")[2] for path in (*self.files, *self.links) if path.startswith(start)]

    def _resolve(self, path: str) -> str | None:
        for _ in range(8):
            if path in self.files:
                return path
            if path not in self.links:
                return None
            path = normpath(join("/", path, "..", self.links[path])).lstrip("/")
        return None

    def _version(self, path: str, minor: str, variables: Mapping[str, str]) -> str:
        # Images of docker-library say the version of what lies in /usr/local.
        named = variables.get("PYTHON_VERSION", "")
        if path.startswith("usr/local/") and named.startswith(f"{minor}."):
            return re.sub(r"(a|b|rc)\d+$", "", named)
        return self.versions.get(path, minor)


def environment(config: Mapping[str, Any]) -> dict[str, str]:
    """The variables of an image's config."""
    lines = (config.get("config") or {}).get("Env") or []
    return {name: value for name, _, value in (line.partition("=") for line in lines)}


def conclude(findings: Findings, config: Mapping[str, Any]) -> Probe:
    """What all layers together say."""
    return Probe(tuple(findings.interpreters(config)), findings.glibc, findings.musl and not findings.glibc)


def unpacked(layer: IO[bytes]) -> IO[bytes]:
    """The tar inside; close it. The kind is told by the first bytes: media types lie now and then."""
    buffered = layer if isinstance(layer, io.BufferedReader) else io.BufferedReader(layer, 1 << 20)  # type: ignore[type-var]
    start = buffered.peek(4)[:4]
    if start[:2] == b"\x1f\x8b":
        # ISA-L inflates in less than half the time that zlib takes, and here beside the thread that reads the tar.
        return igzip_threaded.open(buffered, "rb", threads=1)  # type: ignore[no-any-return, no-untyped-call]
    if start == b"\x28\xb5\x2f\xfd":
        return zstandard.ZstdDecompressor().stream_reader(buffered, read_across_frames=True)
    return buffered


def _content(tar: tarfile.TarFile, member: tarfile.TarInfo) -> bytes:
    file = tar.extractfile(member)
    return file.read(_MOST_READ) if file is not None else b""


def _by_minor(name: str) -> int:
    digits = name.rpartition(".")[2]
    return int(digits) if digits.isdigit() else -1
