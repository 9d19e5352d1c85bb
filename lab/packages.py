"""A package index and a conda channel, made on this machine and served on loopback or on the lab's bridge.

PyPI part: the wheels of numpy, pandas, scikit-learn, lightgbm and what they need, downloaded once by pip into the lab's
cache, pip as this machine's Python brings it, and packages made on the spot: stoker-tiny (a wheel with a console script
and data; versions 1.0 and 2.0), stoker-other and stoker-needs-other, which needs it (the channel has stoker-other, too, in
another version) and stoker-source (a source distribution only, without build requirements).

    python -m lab.packages serve --host 127.0.0.1 --port 0
"""

from __future__ import annotations

import argparse
import base64
import hashlib
import http.server
import io
import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
import threading
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote, urlsplit

from lab.binaries import cache
from lab.channel import bundled_pip, make_channel, make_python
from lab.host import LabError, Progress, locked

#: What pip downloads, for this machine's kind and Python 3.11.
DOWNLOADED = ("numpy>=2,<3", "pandas>=2.2,<3", "scikit-learn>=1.6,<2", "lightgbm>=4,<5")
_PYTHON = "3.11"
_GLIBC = ("manylinux_2_28", "manylinux_2_27", "manylinux_2_24", "manylinux_2_17", "manylinux2014")
_RECIPE = 3
_TIME = (1980, 1, 2, 0, 0, 0)


@dataclass(frozen=True)
class Packages:
    """A served index. pypi: URL of the simple index. channel: URL of the conda channel `lab`."""

    url: str

    @property
    def pypi(self) -> str:
        return f"{self.url}/simple"

    @property
    def channel(self) -> str:
        return f"{self.url}/conda/lab"

    @property
    def pythons(self) -> str:
        """URL of a list of managed Pythons in uv's format."""
        return f"{self.url}/pythons/list.json"


def ensure(progress: Progress) -> Path:
    """The folder that is served: files/, simple/ and conda/lab, made when the recipe is new."""
    recipe = hashlib.sha256(repr((DOWNLOADED, _PYTHON, _GLIBC, _RECIPE)).encode()).hexdigest()[:16]
    folder = cache() / "packages" / recipe
    if not folder.exists():
        with locked(cache() / "packages.lock"):
            if not folder.exists():
                new = folder.with_name(f".{recipe}.{os.getpid()}")
                shutil.rmtree(new, ignore_errors=True)
                (new / "files").mkdir(parents=True)
                _download(new / "files", progress)
                make_own(new / "files")
                write_index(new)
                make_channel(new / "conda" / "lab")
                _list_pythons(new)
                new.rename(folder)
    return folder


def _download(files: Path, progress: Progress) -> None:
    progress(f"packages   {', '.join(DOWNLOADED)} from the Python package index (about 100 MB, once)")
    platforms = [f"--platform={name}_{os.uname().machine}" for name in _GLIBC]
    command = [
        *(sys.executable, "-m", "pip", "download", "--quiet", "--only-binary=:all:", f"--python-version={_PYTHON}"),
        *(*platforms, "--dest", str(files), *DOWNLOADED),
    ]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode != 0:
        raise LabError(f"cannot download the lab's packages:\n{done.stderr[-1500:]}")


def make_own(files: Path) -> None:
    """Writes the packages that are made on the spot."""
    for version in ("1.0", "2.0"):
        make_wheel(
            files,
            "stoker-tiny",
            version,
            {"stoker_tiny/__init__.py": f"VERSION = {version!r}\n\n\ndef main():\n    print('tiny', VERSION)\n"},
            scripts={"stoker-tiny": "stoker_tiny:main"},
            data={"data/share/stoker-tiny/notes.txt": "notes\n", "scripts/stoker-tiny-old": "#!python\nprint('old')\n"},
        )
    make_wheel(files, "stoker-other", "3.5", {"stoker_other.py": "VERSION = '3.5'\n"})
    make_wheel(files, "stoker-needs-other", "1.0", {"stoker_needs_other.py": ""}, requires=("stoker-other>=3",))
    make_source(files, "stoker-source", "1.0")
    shutil.copy(bundled_pip(), files)


def make_wheel(
    files: Path,
    name: str,
    version: str,
    modules: Mapping[str, str],
    *,
    scripts: Mapping[str, str] = {},
    data: Mapping[str, str] = {},
    requires: tuple[str, ...] = (),
    tag: str = "py3-none-any",
    python: str = "",
) -> Path:
    """A wheel of text files. scripts: console scripts. data: path below the wheel's .data folder -> text. python: the
    versions that it is for, such as >=3.9."""
    stem = f"{name.replace('-', '_')}-{version}"
    metadata = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"
    metadata += f"Requires-Python: {python}\n" if python else ""
    metadata += "".join(f"Requires-Dist: {one}\n" for one in requires)
    members = {**modules, **{f"{stem}.data/{path}": text for path, text in data.items()}}
    members[f"{stem}.dist-info/METADATA"] = metadata
    members[f"{stem}.dist-info/WHEEL"] = f"Wheel-Version: 1.0\nGenerator: lab\nRoot-Is-Purelib: true\nTag: {tag}\n"
    if scripts:
        points = "".join(f"{script} = {target}\n" for script, target in scripts.items())
        members[f"{stem}.dist-info/entry_points.txt"] = f"[console_scripts]\n{points}"
    record = f"{stem}.dist-info/RECORD"
    rows = [f"{path},sha256={_urlsafe(text.encode())},{len(text.encode())}" for path, text in members.items()]
    members[record] = "\n".join([*rows, f"{record},,"]) + "\n"
    wheel = files / f"{stem}-{tag}.whl"
    with zipfile.ZipFile(wheel, "w", zipfile.ZIP_DEFLATED) as archive:
        for path, text in members.items():
            entry = zipfile.ZipInfo(path, _TIME)
            entry.external_attr = 0o100644 << 16
            archive.writestr(entry, text)
    return wheel


_BACKEND = """\
import base64, hashlib, zipfile


def build_wheel(directory, config_settings=None, metadata_directory=None):
{first}    stem = "{stem}"
    members = {{
        "{module}.py": "BUILT = True\\n",
        stem + ".dist-info/METADATA": "Metadata-Version: 2.1\\nName: {name}\\nVersion: {version}\\n",
        stem + ".dist-info/WHEEL": "Wheel-Version: 1.0\\nGenerator: own\\nRoot-Is-Purelib: true\\nTag: py3-none-any\\n",
    }}
    rows = []
    with zipfile.ZipFile(directory + "/" + stem + "-py3-none-any.whl", "w") as archive:
        for path, text in members.items():
            archive.writestr(zipfile.ZipInfo(path, (1980, 1, 2, 0, 0, 0)), text)
            digest = base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).rstrip(b"=").decode()
            rows.append(path + ",sha256=" + digest + "," + str(len(text)))
        record = stem + ".dist-info/RECORD"
        archive.writestr(zipfile.ZipInfo(record, (1980, 1, 2, 0, 0, 0)), "\\n".join(rows + [record + ",,"]) + "\\n")
    return stem + "-py3-none-any.whl"
"""


def make_source(files: Path, name: str, version: str, *, first: str = "") -> None:
    """A source distribution whose build backend lies inside and needs nothing (PEP 517, backend-path). first: a line of
    Python that it runs before anything else."""
    module = name.replace("-", "_")
    stem = f"{module}-{version}"
    members = {
        "pyproject.toml": '[build-system]\nrequires = []\nbuild-backend = "backend"\nbackend-path = ["."]\n'
        f'[project]\nname = "{name}"\nversion = "{version}"\n',
        "backend.py": _BACKEND.format(
            stem=stem, module=module, name=name, version=version, first=f"    {first}\n" if first else ""
        ),
        "PKG-INFO": f"Metadata-Version: 2.2\nName: {name}\nVersion: {version}\n",
    }
    with tarfile.open(files / f"{stem}.tar.gz", "w:gz") as archive:
        for path, text in members.items():
            entry = tarfile.TarInfo(f"{stem}/{path}")
            entry.size = len(text)
            archive.addfile(entry, io.BytesIO(text.encode()))


def _list_pythons(folder: Path) -> None:
    """pythons/: one archive; its list is made when it is asked for, because it names the server."""
    (folder / "pythons").mkdir()
    archive = make_python(folder / "pythons")
    major, minor, patch = sys.version_info[:3]
    entry = {
        "name": "cpython",
        "arch": {"family": os.uname().machine, "variant": None},
        "os": "linux",
        "libc": "gnu",
        "major": major,
        "minor": minor,
        "patch": patch,
        "prerelease": "",
        "url": f"@SERVER@/pythons/{archive.name}",
        "sha256": _sha256(archive),
        "variant": None,
    }
    key = f"cpython-{major}.{minor}.{patch}-linux-{os.uname().machine}-gnu"
    (folder / "pythons" / "list.json").write_text(json.dumps({key: entry}))


def write_index(folder: Path) -> None:
    """simple/<project>/index.json (PEP 691, PEP 658) for everything in files/."""
    projects: dict[str, list[dict[str, object]]] = {}
    for path in sorted((folder / "files").iterdir()):
        if path.suffix == ".metadata":
            continue
        name = re.sub(r"[-_.]+", "-", path.name.partition("-")[0]).lower()
        entry: dict[str, object] = {
            "filename": path.name,
            "url": f"../../files/{path.name}",
            "hashes": {"sha256": _sha256(path)},
            "size": path.stat().st_size,
        }
        if path.suffix == ".whl":
            with zipfile.ZipFile(path) as wheel:
                member = next(one for one in wheel.namelist() if re.fullmatch(r"[^/]+\.dist-info/METADATA", one))
                metadata = wheel.read(member)
            path.with_name(f"{path.name}.metadata").write_bytes(metadata)
            entry["core-metadata"] = {"sha256": hashlib.sha256(metadata).hexdigest()}
            if found := re.search(rb"^Requires-Python: (.+)$", metadata, re.MULTILINE):
                entry["requires-python"] = found[1].decode().strip()
        projects.setdefault(name, []).append(entry)
    for name, entries in projects.items():
        page = folder / "simple" / name / "index.json"
        page.parent.mkdir(parents=True, exist_ok=True)
        page.write_text(json.dumps({"meta": {"api-version": "1.1"}, "name": name, "files": entries}))


class _Handler(http.server.SimpleHTTPRequestHandler):
    """Files as they lie; a project's page as PEP 691 has it. With a password set, everything asks for it."""

    protocol_version = "HTTP/1.1"
    login: str = ""

    def do_GET(self) -> None:
        if self.login and self.headers.get("Authorization") != f"Basic {self.login}":
            self.send_response(401)
            self.send_header("WWW-Authenticate", 'Basic realm="packages"')
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        if self.path == "/pythons/list.json":
            self._send_list()
            return
        super().do_GET()

    def _send_list(self) -> None:
        listed = Path(self.translate_path(self.path)).read_text()
        content = listed.replace("@SERVER@", f"http://{self.headers['Host']}").encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def translate_path(self, path: str) -> str:
        found = re.fullmatch(r"/simple/([^/]+)/?", unquote(urlsplit(path).path))
        return super().translate_path(f"/simple/{found[1]}/index.json" if found else path)

    def guess_type(self, path: str | os.PathLike[str]) -> str:
        if str(path).endswith("index.json"):
            return "application/vnd.pypi.simple.v1+json"
        return "application/octet-stream"

    def log_message(self, format: str, *args: object) -> None:
        pass


def server(folder: Path, host: str, port: int, *, login: str = "") -> http.server.ThreadingHTTPServer:
    """login: `user:password` that every request must bring, or empty."""
    members = {"login": base64.b64encode(login.encode()).decode() if login else ""}
    handler = type("Handler", (_Handler,), members)
    return http.server.ThreadingHTTPServer(
        (host, port),
        lambda *args: handler(*args, directory=str(folder)),
    )


@contextmanager
def serving(folder: Path, host: str = "127.0.0.1", port: int = 0, *, login: str = "") -> Iterator[Packages]:
    """The folder on a server of this process."""
    opened = server(folder, host, port, login=login)
    thread = threading.Thread(target=opened.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield Packages(f"http://{host}:{opened.server_address[1]}")
    finally:
        opened.shutdown()
        opened.server_close()
        thread.join()


def _sha256(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _urlsafe(content: bytes) -> str:
    return base64.urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=").decode()


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m lab.packages", description="A package index for tests.")
    parser.add_argument("command", choices=("ensure", "serve"))
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--folder", type=Path, help="what `ensure` printed (default: ensured now)")
    given = parser.parse_args()
    folder = given.folder or ensure(lambda line: print(line, file=sys.stderr, flush=True))
    if given.command == "ensure":
        print(folder)
        return 0
    opened = server(folder, given.host, given.port)
    print(f"http://{given.host}:{opened.server_address[1]}", flush=True)
    opened.serve_forever()
    return 0


if __name__ == "__main__":
    sys.exit(main())
