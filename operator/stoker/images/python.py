"""A Python of the environment's own, for bases that have none: a build of python-build-standalone.

It is unpacked at the prefix, and packages go beside it: such builds run from wherever they lie.
"""

import asyncio
import json
import os
import re
import shutil
import tarfile
from collections.abc import Collection, Mapping, Sequence
from importlib.util import cache_from_source
from pathlib import Path
from typing import Any

import aiohttp
import uv

from stoker.core.environment.lock import Package
from stoker.images.compiling import Compiler, Source
from stoker.images.failure import BuildFailed
from stoker.images.layers import Entries, File, Folder, Link
from stoker.images.pip import Indexes, Target, environment, hide_credentials
from stoker.images.wheel import Layout

_MOST_LIST_BYTES = 64 << 20
#: What a list of Pythons calls machines.
_FAMILIES = {"x86_64": "x86_64", "aarch64": "aarch64"}


async def find(target: Target, list_url: str, session: aiohttp.ClientSession, scratch: Path) -> Package:
    """The newest build of the target's minor version. list_url: a list in uv's format; empty for uv's own.

    Raises BuildFailed.
    """
    try:
        if list_url:
            return choose(json.loads(await _read(session, list_url)), target)
        return await _of_uv(target, session, scratch)
    except (aiohttp.ClientError, TimeoutError) as error:
        place = hide_credentials(list_url or "uv's list of Pythons")
        raise BuildFailed("IndexUnreachable", f"{place}: {error or type(error).__name__}", transient=True) from error
    except (ValueError, KeyError, TypeError) as error:
        words = f"{hide_credentials(list_url)} is no list of Pythons in uv's format: {error}"
        raise BuildFailed("BadPythonList", words) from error


def choose(listed: Mapping[str, Mapping[str, Any]], target: Target) -> Package:
    """From a list in uv's format: name -> {name, arch, os, libc, major, minor, patch, url, sha256}."""
    major, minor = (int(part) for part in target.python.split(".")[:2])
    fitting = [
        entry
        for entry in listed.values()
        if (entry["name"], entry["major"], entry["minor"], entry["os"], entry["libc"], _family(entry["arch"]))
        == ("cpython", major, minor, "linux", "gnu", _FAMILIES[target.machine])
        and not entry.get("prerelease")
        and not entry.get("variant")
        and entry.get("sha256")
    ]
    if not fitting:
        raise _none(target)
    best = max(fitting, key=lambda entry: (int(entry["patch"]), str(entry.get("build") or ""), entry["url"]))
    return _package(f"{major}.{minor}.{best['patch']}", best["url"], best["sha256"])


async def _of_uv(target: Target, session: aiohttp.ClientSession, scratch: Path) -> Package:
    """uv knows where builds lie; their release says their hashes."""
    child = await asyncio.create_subprocess_exec(
        uv.find_uv_bin(),
        *("python", "list", "--only-downloads", "--all-arches", "--output-format", "json"),
        ".".join(target.python.split(".")[:2]),
        env=environment(Indexes(), scratch) | {"UV_PYTHON_DOWNLOADS": "automatic"},
        stdout=asyncio.subprocess.PIPE,
    )
    out, _ = await child.communicate()
    fitting = [
        entry
        for entry in json.loads(out)
        if (entry["implementation"], entry["os"], entry["libc"], entry["arch"], entry["variant"])
        == ("cpython", "linux", "gnu", target.machine, "default")
    ]
    if not fitting:
        raise _none(target)
    best = max(fitting, key=lambda entry: tuple(entry["version_parts"].values()))
    sums = await _read(session, best["url"].rpartition("/")[0] + "/SHA256SUMS")
    return _package(best["version"], best["url"], checksum(sums.decode(), best["url"]))


def checksum(sums: str, url: str) -> str:
    """The hash of a file in a release's SHA256SUMS; raises BuildFailed."""
    name = url.rpartition("/")[2].replace("%2B", "+")
    for line in sums.splitlines():
        digest, _, file = line.partition("  ")
        if file.strip().replace("%2B", "+") == name:
            return digest
    raise BuildFailed("HashMissing", f"{url}: the release's SHA256SUMS does not name it")


def _package(version: str, url: str, sha256: str) -> Package:
    return Package(
        kind="python",
        name="cpython",
        version=version,
        build="install_only",
        sha256=sha256,
        url=hide_credentials(url),
        size=0,
    )


def _none(target: Target) -> BuildFailed:
    return BuildFailed(
        "BaseWithoutPython",
        f"the base has no Python, and there is no Python {target.python} for {target.platform} to bring; "
        "use a base that has one, or give the environment a conda part with `python`",
        where="image",
    )


def _family(arch: Any) -> str:
    return str(arch["family"] if isinstance(arch, Mapping) else arch)


async def _read(session: aiohttp.ClientSession, url: str) -> bytes:
    async with session.get(url, raise_for_status=True) as response:
        content = await response.content.read(_MOST_LIST_BYTES)
        while not response.content.at_eof() and len(content) < _MOST_LIST_BYTES:
            content += await response.content.read(_MOST_LIST_BYTES - len(content))
        return content


class PythonContent:
    """The files of one build, by path in the image."""

    bound = False

    def __init__(self, entries: Entries, modules: Sequence[tuple[Source, str]], compiler: Compiler | None) -> None:
        self._entries = entries
        self._code = asyncio.create_task(compiler.compile(None, modules)) if compiler is not None else None

    @property
    def files(self) -> Collection[str]:
        return self._entries.keys()

    async def entries(self) -> Entries:
        code = await self._code if self._code is not None else {}
        made = {cache_from_source(path, optimization="").lstrip("/"): file for path, file in code.items()}
        return {**self._entries, **made}

    def close(self) -> None:
        if self._code is not None:
            self._code.cancel()


async def opened(archive: Path, layout: Layout, scratch: Path, compiler: Compiler | None) -> PythonContent:
    """Unpacks a build. Raises BuildFailed for what is none."""
    folder = scratch / f"python-{archive.parent.name}"
    try:
        await asyncio.to_thread(_unpack, archive, folder)
    except tarfile.TarError as error:
        raise BuildFailed("BadPackage", f"{archive.name} is not a Python that can be unpacked: {error}") from error
    root = folder / "python" if (folder / "python").is_dir() else folder
    entries = dict(_entries(root, layout))
    if f"{layout.prefix}/bin/python{layout.python}".lstrip("/") not in entries:
        raise BuildFailed("BadPackage", f"{archive.name} has no bin/python{layout.python}")
    for name in ("python", "python3"):
        entries.setdefault(f"{layout.prefix}/bin/{name}".lstrip("/"), Link(f"python{layout.python}"))
    below = f"{layout.prefix}/lib/".lstrip("/")
    modules = [
        (str(root / path.removeprefix(layout.prefix.lstrip("/") + "/")), f"/{path}")
        for path, entry in entries.items()
        if path.startswith(below) and path.endswith(".py") and isinstance(entry, File)
    ]
    return PythonContent(entries, modules, compiler)


def _unpack(archive: Path, folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    with tarfile.open(archive) as tar:
        # Pythons that have filters ask which; each member has been looked at by then.
        tar.extraction_filter = lambda member, _: member
        for member in tar:
            _check(member, folder)
            tar.extract(member, folder)


def _check(member: tarfile.TarInfo, folder: Path) -> None:
    """Raises TarError for what would write outside of the folder. As tarfile's own `data` filter, which the Python 3.11
    of Debian 12 does not have."""
    places = [folder / member.name]
    if member.issym():
        places.append(folder / member.name / ".." / member.linkname)
    elif member.islnk():
        places.append(folder / member.linkname)
    elif not (member.isreg() or member.isdir()):
        raise tarfile.TarError(f"{member.name} is neither file, folder nor link")
    root = os.path.realpath(folder)
    for place in places:
        # Not by the words alone: a link that was unpacked before may lead elsewhere.
        if os.path.commonpath([root, os.path.realpath(place)]) != root:
            raise tarfile.TarError(f"{member.name} lies outside of the archive's folder")


def _entries(root: Path, layout: Layout) -> Mapping[str, File | Link | Folder]:
    found: dict[str, File | Link | Folder] = {layout.site_packages.lstrip("/"): Folder()}
    library = f"lib/python{layout.python}"
    for path in sorted(root.rglob("*")):
        below = str(path.relative_to(root))
        # Packages are the lock's business; the mark forbids pip to add any; libraries to link against are not for running.
        if (
            below.startswith(f"{library}/site-packages/")
            or path.name == "EXTERNALLY-MANAGED"
            or path.suffix in (".a", ".pyc")
        ):
            continue
        place = f"{layout.prefix}/{below}".lstrip("/")
        if path.is_symlink():
            found[place] = Link(str(path.readlink()))
        elif path.is_file():
            executable = bool(path.stat().st_mode & 0o111)
            if re.fullmatch(r"_sysconfigdata_.*\.py", path.name):
                # Built for /install, says where headers and libraries are.
                content = path.read_bytes().replace(b"/install/", f"{layout.prefix}/".encode())
                path.write_bytes(content.replace(b"'/install'", repr(layout.prefix).encode()))
            found[place] = File.at(path, executable=executable)
    return found
