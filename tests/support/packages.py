"""Packages made on the spot: wheels, and a conda channel of hand-written .conda files, served on loopback."""

import asyncio
import functools
import hashlib
import io
import json
import os
import platform
import sys
import tarfile
import threading
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import zstandard


def wheel(
    folder: Path, name: str, version: str, files: Mapping[str, str], requires: Sequence[str] = (), script: str = ""
) -> Path:
    """A pure wheel. script: `module:function` of a console script named as the package."""
    info = f"{name}-{version}.dist-info"
    metadata = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n" + "".join(
        f"Requires-Dist: {r}\n" for r in requires
    )
    texts = {
        **files,
        f"{info}/METADATA": metadata,
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    if script:
        texts[f"{info}/entry_points.txt"] = f"[console_scripts]\n{name} = {script}\n"
    record = "".join(f"{path},,\n" for path in [*texts, f"{info}/RECORD"])
    folder.mkdir(parents=True, exist_ok=True)
    place = folder / f"{name}-{version}-py3-none-any.whl"
    with zipfile.ZipFile(place, "w") as out:
        for path, text in {**texts, f"{info}/RECORD": record}.items():
            out.writestr(path, text)
    return place


class Channel:
    """A conda channel in a folder. `index` after the last package."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        for subdir in ("noarch", subdir_here()):
            (folder / subdir).mkdir(parents=True, exist_ok=True)

    def add(
        self, name: str, version: str, files: Mapping[str, str], *, depends: Sequence[str] = (), noarch: str | None = None,
        links: Mapping[str, str] | None = None, prefixed: Sequence[str] = (), script: str = "",
    ) -> None:  # fmt: skip
        """A package. links: symbolic links by path. prefixed: files in which conda puts the prefix for PLACEHOLDER."""
        subdir, build = "noarch" if noarch else subdir_here(), "py_0" if noarch else "0"
        about = {"name": name, "version": version, "build": build, "build_number": 0, "depends": list(depends), "subdir": subdir,
                 "timestamp": 1_700_000_000_000, **({"noarch": noarch} if noarch else {})}  # fmt: skip
        paths = [
            {"_path": path, "path_type": "hardlink", "sha256": hashlib.sha256(text.encode()).hexdigest(),
             "size_in_bytes": len(text), **({"prefix_placeholder": PLACEHOLDER, "file_mode": "text"} if path in prefixed else {})}
            for path, text in files.items()
        ] + [{"_path": path, "path_type": "softlink"} for path in links or ()]  # fmt: skip
        told = {
            "info/index.json": json.dumps(about),
            "info/paths.json": json.dumps({"paths_version": 1, "paths": paths}),
        }
        if noarch == "python":
            entry = [f"{name} = {script}"] if script else []
            told["info/link.json"] = json.dumps(
                {"package_metadata_version": 1, "noarch": {"type": "python", "entry_points": entry}}
            )
        stem = f"{name}-{version}-{build}"
        with zipfile.ZipFile(self.folder / subdir / f"{stem}.conda", "w", zipfile.ZIP_STORED) as out:
            out.writestr("metadata.json", '{"conda_pkg_format_version": 2}')
            out.writestr(f"pkg-{stem}.tar.zst", _packed(files, links or {}))
            out.writestr(f"info-{stem}.tar.zst", _packed(told, {}))

    def add_python(self) -> None:
        """A `python` of this machine's version: links to the interpreter that runs the tests, and what makes it take the
        prefix for its own."""
        base, version = Path(os.path.realpath(sys.executable)), platform.python_version()
        minor = "python" + ".".join(version.split(".")[:2])
        home = f"home = {base.parent}\ninclude-system-site-packages = false\nversion = {version}\n"
        links = {f"bin/{minor}": str(base), "bin/python3": minor, "bin/python": minor}
        self.add("python", version, {"pyvenv.cfg": home}, links=links)

    def add_module(self, name: str, version: str, depends: Sequence[str] = ("python",)) -> None:
        """A noarch package of one module, whose VERSION is its version, and a console script that prints it."""
        info = f"site-packages/{name}-{version}.dist-info"
        files = {
            f"site-packages/{name}.py": f"VERSION = {version!r}\ndef main():\n    print(VERSION)\n",
            f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n",
            f"{info}/INSTALLER": "conda\n",
            f"{info}/RECORD": "",
        }
        self.add(name, version, files, depends=depends, noarch="python", script=f"{name}:main")

    def index(self) -> None:
        from rattler.index import index_fs

        # Sharded repodata and a plain file server that answers 304 make a second solve fail.
        asyncio.run(index_fs(self.folder, write_shards=False))


PLACEHOLDER = "/placeholder" * 16


def subdir_here() -> str:
    """This machine's conda platform."""
    import rattler

    return str(rattler.Subdir.current())


def _packed(files: Mapping[str, str], links: Mapping[str, str]) -> bytes:
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w") as archive:
        for path, text in files.items():
            entry = tarfile.TarInfo(path)
            entry.size, entry.mode = len(text.encode()), 0o755 if path.startswith("bin/") else 0o644
            archive.addfile(entry, io.BytesIO(text.encode()))
        for path, target in links.items():
            entry = tarfile.TarInfo(path)
            entry.type, entry.linkname = tarfile.SYMTYPE, target
            archive.addfile(entry)
    return zstandard.compress(content.getvalue())


class _Handler(SimpleHTTPRequestHandler):
    asked: list[str]

    def do_GET(self) -> None:
        self.asked.append(self.path)
        super().do_GET()

    def log_message(self, *_: object) -> None:
        return


@contextmanager
def served(folder: Path) -> Iterator[tuple[str, list[str]]]:
    """A folder on loopback: its URL, and the paths that were asked for so far."""
    asked: list[str] = []
    handler = functools.partial(type("Handler", (_Handler,), {"asked": asked}), directory=str(folder))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}", asked
        finally:
            server.shutdown()
