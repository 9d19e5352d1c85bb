"""A conda channel of packages made on the spot: no conda channel can be reached from a lab.

python 3.11.x     this machine's own interpreter, with its prefix as the placeholder
pip               the one that Python brings along; noarch
tiny-conda        1.0 and 2.0, noarch Python with an entry point and a module
native-conda      platform's own: a text file and a binary file with a placeholder, a link, a module with bytecode
renamed-conda     brings the Python distribution stoker-other 3.0, which has another name
post-link-conda   writes a file with its post-link script
needs-old, needs-new   depend on library 1 and library 2: they exclude each other
"""

from __future__ import annotations

import ensurepip
import gzip
import hashlib
import io
import json
import os
import platform
import sys
import tarfile
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import zstandard
from rattler.index import index_fs

#: As long as the placeholders of real packages: a binary file keeps its length when a shorter prefix replaces it.
PLACEHOLDER = "/" + "placehold_" * 25
SUBDIR = {"x86_64": "linux-64", "aarch64": "linux-aarch64"}.get(platform.machine(), "linux-64")
_STAMP = 1_600_000_000_000
#: Parts of the standard library that no test needs.
_LEFT_OUT = {"test", "idlelib", "tkinter", "turtledemo", "site-packages", "__pycache__", "lib2to3", "pydoc_data"}


@dataclass(frozen=True)
class File:
    """placeholder: the prefix inside that an install replaces; mode: how."""

    content: bytes
    executable: bool = False
    placeholder: str = ""
    mode: str = "text"
    link: str = ""


@dataclass(frozen=True)
class Recipe:
    name: str
    version: str
    files: Mapping[str, File]
    depends: Sequence[str] = ()
    noarch: bool = False
    entry_points: Sequence[str] = ()
    build: str = "0"
    constrains: Sequence[str] = field(default=())


def make_channel(folder: Path) -> None:
    """Writes the packages and the index of the channel."""
    for recipe in recipes():
        write_package(folder, recipe)
    index(folder)


def index(folder: Path) -> None:
    """Without shards: a plain file server's 304 makes the second solve fail with them."""
    import asyncio

    (folder / "noarch").mkdir(parents=True, exist_ok=True)
    asyncio.run(index_fs(folder, write_zst=True, write_shards=False))


def recipes() -> list[Recipe]:
    minor = f"{sys.version_info.major}.{sys.version_info.minor}"
    python = f"python >={minor},<{sys.version_info.major}.{sys.version_info.minor + 1}.0a0"
    library = {version: {f"share/library-{version}": File(b"x")} for version in ("1.0", "2.0")}
    post_link = b'#!/bin/sh\necho "linked into $PREFIX" > "$PREFIX/share/post-link.txt"\n'
    return [
        _python(minor),
        _pip(),
        *(
            Recipe(
                "tiny-conda",
                version,
                {
                    "site-packages/tiny_conda/__init__.py": File(
                        f"VERSION = {version!r}\n\n\ndef main():\n    print(VERSION)\n".encode()
                    )
                },
                ("python",),
                noarch=True,
                entry_points=("tiny-conda = tiny_conda:main",),
            )
            for version in ("1.0", "2.0")
        ),
        Recipe(
            "native-conda",
            "1.0",
            {
                "etc/native.conf": File(f"root={PLACEHOLDER}/share\n".encode(), placeholder=PLACEHOLDER),
                "lib/native.bin": File(
                    b"\x7fELF" + f"{PLACEHOLDER}/lib".encode() + b"\0rest\0", placeholder=PLACEHOLDER, mode="binary"
                ),
                "lib/native.so": File(b"", link="native.bin"),
                f"lib/python{minor}/site-packages/native_conda.py": File(b"NATIVE = 1\n"),
                "bin/native-conda": File(f"#!{PLACEHOLDER}/bin/python\nprint('native')\n".encode(), True, PLACEHOLDER),
            },
            (python,),
            build="py311_0",
        ),
        Recipe(
            "post-link-conda",
            "1.0",
            {"share/before.txt": File(b"before\n"), "bin/.post-link-conda-post-link.sh": File(post_link, True)},
        ),
        Recipe(
            "renamed-conda",
            "1.0",
            {
                "site-packages/stoker_other.py": File(b"VERSION = '3.0'\n"),
                "site-packages/stoker_other-3.0.dist-info/METADATA": File(
                    b"Metadata-Version: 2.1\nName: stoker-other\nVersion: 3.0\n"
                ),
                "site-packages/stoker_other-3.0.dist-info/RECORD": File(b""),
            },
            ("python",),
            noarch=True,
        ),
        Recipe("library", "1.0", library["1.0"]),
        Recipe("library", "2.0", library["2.0"]),
        Recipe("needs-old", "1.0", {"share/needs-old": File(b"x")}, ("library <2",)),
        Recipe("needs-new", "1.0", {"share/needs-new": File(b"x")}, ("library >=2",)),
    ]


def _python(minor: str) -> Recipe:
    """The interpreter that runs this, as a package."""
    root = Path(sys.base_prefix).resolve()
    files: dict[str, File] = {}
    taken = [root / "bin" / f"python{minor}", *root.glob("lib/libpython*.so*"), root / f"include/python{minor}"]
    library = root / "lib" / f"python{minor}"
    for start in (*taken, *(one for one in library.iterdir() if one.name not in _LEFT_OUT)):
        for path in [start] if not start.is_dir() else sorted(start.rglob("*")):
            below = path.relative_to(root)
            if (
                path.is_dir()
                or _LEFT_OUT & set(below.parts)
                or "config-" in str(below)
                or path.suffix in (".a", ".pyc")
            ):
                continue
            files[str(below)] = _taken(path, str(root))
    files["bin/python"] = File(b"", link=f"python{minor}")
    files["bin/python3"] = File(b"", link=f"python{minor}")
    version = ".".join(map(str, sys.version_info[:3]))
    return Recipe("python", version, files, ("__glibc >=2.17",), build="lab_0_cpython")


def make_python(folder: Path) -> Path:
    """A Python of its own, this machine's, as python-build-standalone packs them: one tar whose root is `python`."""
    minor = f"{sys.version_info.major}.{sys.version_info.minor}"
    version = ".".join(map(str, sys.version_info[:3]))
    target = folder / f"cpython-{version}-{platform.machine()}-unknown-linux-gnu-install_only.tar.gz"
    files = {f"python/{path}": file for path, file in _python(minor).files.items()}
    with gzip.GzipFile(target, "wb", compresslevel=1, mtime=0) as packed, tarfile.open(fileobj=packed, mode="w") as tar:
        _add(tar, files)
    return target


def _taken(path: Path, root: str) -> File:
    if path.is_symlink():
        return File(b"", link=os.readlink(path))
    content = path.read_bytes()
    executable = bool(path.stat().st_mode & 0o111)
    if root.encode() not in content:
        return File(content, executable)
    if b"\0" not in content:
        return File(content, executable, root)
    # Programs look for their libraries beside themselves. The prefix in them is no placeholder: the linker lets other
    # strings, such as Python's version, begin in the middle of it. Python finds its prefix by where it lies.
    library = f"{root}/lib".encode()
    beside = b"$ORIGIN/../lib".ljust(len(library), b"\0")
    return File(content.replace(library + b"\0", beside + b"\0"), executable)


def bundled_pip() -> Path:
    """The wheel of pip that Python brings along."""
    return next((Path(ensurepip.__file__).parent / "_bundled").glob("pip-*.whl"))


def _pip() -> Recipe:
    bundled = bundled_pip()
    with zipfile.ZipFile(bundled) as wheel:
        files = {f"site-packages/{name}": File(wheel.read(name)) for name in wheel.namelist() if not name.endswith("/")}
    points = ("pip = pip._internal.cli.main:main", "pip3 = pip._internal.cli.main:main")
    return Recipe("pip", bundled.name.split("-")[1], files, ("python",), noarch=True, entry_points=points)


def write_package(channel: Path, recipe: Recipe) -> Path:
    """One .conda file: a zip of two zstd tars, the files and what is known of them."""
    subdir = "noarch" if recipe.noarch else SUBDIR
    stem = f"{recipe.name}-{recipe.version}-{recipe.build}"
    paths = []
    for path, file in sorted(recipe.files.items()):
        entry: dict[str, object] = {
            "_path": path,
            "path_type": "softlink" if file.link else "hardlink",
            "sha256": hashlib.sha256(file.content).hexdigest(),
            "size_in_bytes": len(file.content),
        }
        if file.placeholder:
            entry |= {"prefix_placeholder": file.placeholder, "file_mode": file.mode}
        paths.append(entry)
    about: dict[str, object] = {
        "name": recipe.name,
        "version": recipe.version,
        "build": recipe.build,
        "build_number": 0,
        "depends": list(recipe.depends),
        "constrains": list(recipe.constrains),
        "subdir": subdir,
        "timestamp": _STAMP,
        **({"noarch": "python"} if recipe.noarch else {"arch": platform.machine(), "platform": "linux"}),
    }
    info = {
        "info/index.json": File(json.dumps(about).encode()),
        "info/paths.json": File(json.dumps({"paths": paths, "paths_version": 1}).encode()),
        "info/files": File("".join(f"{path}\n" for path in sorted(recipe.files)).encode()),
    }
    if recipe.noarch:
        link = {"noarch": {"type": "python", "entry_points": list(recipe.entry_points)}, "package_metadata_version": 1}
        info["info/link.json"] = File(json.dumps(link).encode())
    folder = channel / subdir
    folder.mkdir(parents=True, exist_ok=True)
    target = folder / f"{stem}.conda"
    with zipfile.ZipFile(target, "w", zipfile.ZIP_STORED) as archive:
        for name, content in (
            ("metadata.json", b'{"conda_pkg_format_version": 2}'),
            (f"pkg-{stem}.tar.zst", _tar(recipe.files)),
            (f"info-{stem}.tar.zst", _tar(info)),
        ):
            archive.writestr(zipfile.ZipInfo(name, (1980, 1, 2, 0, 0, 0)), content)
    return target


def _tar(files: Mapping[str, File]) -> bytes:
    memory = io.BytesIO()
    with tarfile.open(fileobj=memory, mode="w") as tar:
        _add(tar, files)
    return zstandard.ZstdCompressor(level=3).compress(memory.getvalue())


def _add(tar: tarfile.TarFile, files: Mapping[str, File]) -> None:
    for path, file in sorted(files.items()):
        entry = tarfile.TarInfo(path)
        entry.mtime, entry.mode = _STAMP // 1000, 0o755 if file.executable else 0o644
        if file.link:
            entry.type, entry.linkname = tarfile.SYMTYPE, file.link
            tar.addfile(entry)
        else:
            entry.size = len(file.content)
            tar.addfile(entry, io.BytesIO(file.content))
