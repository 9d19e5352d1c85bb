"""The images that a lab starts with, made from Debian packages because no image can be pulled from outside.

lab/base:1      Debian 12 with python3, venv, pip, numpy and scikit-learn; user root
lab/slim:1      Debian's C and C++ libraries, what a Python links to, and busybox: no Python, no OpenMP; made when asked for
lab/mpi:1       Debian 12 with Python's own modules and Open MPI; made when asked for
lab/distributed:1  Debian 12 with CPU PyTorch and Open MPI, 400 MB packed; made when asked for, by tools/try_torch.py alone
lab/busybox:1   one static file: has sh, has no python
lab/pause:1     what holds a pod's namespaces
"""

from __future__ import annotations

import gzip
import hashlib
import http.client
import io
import json
import os
import shutil
import subprocess
import tarfile
import time
from dataclasses import dataclass
from pathlib import Path

from lab.binaries import cache
from lab.host import LabError, Progress, locked, run

#: What dpkg leaves out.
LEFT_OUT = ("/usr/share/doc/*", "/usr/share/man/*", "/usr/share/info/*", "/usr/share/locale/*", "/usr/share/lintian/*")
#: Removed at the end, because every new node unpacks it: caches, the compiler that scikit-learn's dependencies bring (its
#: packages must be whole to install), Perl's modules beyond those that dpkg needs, the libraries' own tests.
_CLEAN_BASE = (
    'cd "$1" && rm -rf var/lib/apt/lists/* var/cache/apt/* var/log/* usr/include usr/lib/gcc usr/bin/x86_64-linux-gnu-*'
    " usr/lib/x86_64-linux-gnu/perl usr/share/perl usr/lib/x86_64-linux-gnu/lib[altu]*san.so*"
    " && find usr/lib -name '*.a' -delete && find usr/lib/python3 -type d -name tests -prune -exec rm -rf {} +"
)
_CLEAN_SLIM = 'cd "$1" && for applet in $(busybox --list); do [ -e bin/$applet ] || ln -s busybox bin/$applet; done'
_SUITE = "bookworm"
_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
_LAYER = "application/vnd.oci.image.layer.v1.tar+gzip"


@dataclass(frozen=True)
class Recipe:
    """An image of Debian packages. variant: mmdebstrap's. clean: a shell's words, with the root folder as $1. hook: when
    mmdebstrap runs them: a variant without installed packages is never customized."""

    name: str
    variant: str
    packages: tuple[str, ...]
    hook: str
    clean: str
    takes: str


BASE = Recipe(
    "base",
    "minbase",
    ("ca-certificates", "python3", "python3-venv", "python3-pip", "python3-numpy", "python3-sklearn"),
    "customize",
    _CLEAN_BASE,
    "about a minute",
)
# fmt: off
SLIM = Recipe(
    "slim",
    "extract",
    (
        "base-files", "busybox-static", "libc6", "libgcc-s1", "libstdc++6",
        "libbz2-1.0", "libcrypt1", "libffi8", "liblzma5", "libsqlite3-0", "libssl3", "libuuid1", "zlib1g",
    ),
    "extract",
    _CLEAN_SLIM,
    "about 15 s",
)
# fmt: on
MPI = Recipe("mpi", "minbase", ("python3", "openmpi-bin"), "customize", _CLEAN_BASE, "about 30 s")
TORCH = Recipe(
    "distributed",
    "minbase",
    ("ca-certificates", "python3", "python3-torch", "openmpi-bin"),
    "customize",
    _CLEAN_BASE,
    "about two minutes",
)


@dataclass(frozen=True)
class Layer:
    """One gzipped tar, and the digest of the tar inside, which the image's config must name."""

    file: Path
    digest: str
    tar_digest: str


def ensure(recipe: Recipe, progress: Progress) -> Layer:
    """The image's layer from the cache, made there when its recipe is new."""
    key = hashlib.sha256(repr((recipe.packages, LEFT_OUT, recipe.clean, _SUITE)).encode()).hexdigest()[:16]
    folder = cache() / "images" / f"{recipe.name}-{key}"
    if not folder.exists():
        with locked(cache() / "images.lock"):
            if not folder.exists():
                _make(recipe, folder, progress)
    return _read_layer(folder)


def _make(recipe: Recipe, folder: Path, progress: Progress) -> None:
    image = f"lab/{recipe.name}:1"
    new = folder.with_name(f".{folder.name}.{os.getpid()}")
    shutil.rmtree(new, ignore_errors=True)
    new.mkdir(parents=True)
    places = (Path("/etc/apt/sources.list"), *sorted(Path("/etc/apt/sources.list.d").glob("*.[ls][io]*")))
    sources = [
        str(path) for path in places if path.suffix in (".list", ".sources") and path.exists() and path.read_text()
    ]
    # fmt: off
    command = [
        "mmdebstrap", "--quiet", f"--variant={recipe.variant}", f"--include={','.join(recipe.packages)}",
        '--aptopt=APT::Install-Recommends "false"', *(f"--dpkgopt=path-exclude={pattern}" for pattern in LEFT_OUT),
        f"--{recipe.hook}-hook={recipe.clean}", "--format=tar", _SUITE, str(new / "layer.tar"), *sources,
    ]
    # fmt: on
    start = time.monotonic()
    child = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    while True:
        progress(f"image      {image} from Debian packages, {time.monotonic() - start:.0f} s ({recipe.takes}, once)")
        try:
            out, _ = child.communicate(timeout=5)
            break
        except subprocess.TimeoutExpired:
            continue
    if child.returncode != 0:
        raise LabError(f"{' '.join(command)} failed:\n{out[-1500:]}")
    progress(f"image      {image}: compressing")
    tar_digest, digest = hashlib.sha256(), hashlib.sha256()
    with (
        open(new / "layer.tar", "rb") as tar,
        open(new / "layer", "wb") as file,
        gzip.GzipFile(fileobj=file, mode="wb", compresslevel=4, mtime=0, filename="") as packed,
    ):
        while block := tar.read(1 << 20):
            tar_digest.update(block)
            packed.write(block)
    with open(new / "layer", "rb") as written:
        while block := written.read(1 << 20):
            digest.update(block)
    (new / "layer.tar").unlink()
    (new / "digests.json").write_text(
        json.dumps({"digest": f"sha256:{digest.hexdigest()}", "tar": f"sha256:{tar_digest.hexdigest()}"})
    )
    new.rename(folder)
    size = (folder / "layer").stat().st_size
    progress(f"image      {image}: {size / 1e6:.0f} MB in {time.monotonic() - start:.0f} s")


def _read_layer(folder: Path) -> Layer:
    digests = json.loads((folder / "digests.json").read_text())
    return Layer(folder / "layer", digests["digest"], digests["tar"])


def busybox_layer(folder: Path) -> Layer:
    """A root folder of one static program under all its names."""
    folder.mkdir(parents=True, exist_ok=True)
    program = Path("/bin/busybox")
    memory = io.BytesIO()
    with tarfile.open(fileobj=memory, mode="w") as tar:
        for name, mode in (("bin", 0o755), ("etc", 0o755), ("root", 0o700), ("tmp", 0o1777), ("var", 0o755)):
            entry = tarfile.TarInfo(name)
            entry.type, entry.mode = tarfile.DIRTYPE, mode
            tar.addfile(entry)
        for name, text in (
            ("etc/passwd", "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534::/:/bin/sh\n"),
            ("etc/group", "root:x:0:\nnogroup:x:65534:\n"),
        ):
            entry = tarfile.TarInfo(name)
            entry.size, entry.mode = len(text), 0o644
            tar.addfile(entry, io.BytesIO(text.encode()))
        entry = tarfile.TarInfo("bin/busybox")
        entry.size, entry.mode = program.stat().st_size, 0o755
        with open(program, "rb") as file:
            tar.addfile(entry, file)
        for applet in sorted(set(run(program, "--list").split()) - {"busybox"}):
            entry = tarfile.TarInfo(f"bin/{applet}")
            entry.type, entry.linkname = tarfile.SYMTYPE, "busybox"
            tar.addfile(entry)
    packed = gzip.compress(memory.getvalue(), 4, mtime=0)
    (folder / "layer").write_bytes(packed)
    return Layer(folder / "layer", _digest(packed), _digest(memory.getvalue()))


def _digest(content: bytes) -> str:
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


def push(registry: str, name: str, tag: str, layer: Layer, config: dict[str, object]) -> str:
    """Puts an image of one layer into the registry and returns `<registry>/<name>@<digest>`.

    The config names platform and digest of the tar: BuildKit refuses to build on an image without.
    """
    image = json.dumps(
        {
            "architecture": "amd64",
            "os": "linux",
            "config": {"Env": ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"], **config},
            "rootfs": {"type": "layers", "diff_ids": [layer.tar_digest]},
        },
        sort_keys=True,
    ).encode()
    size = layer.file.stat().st_size
    manifest = json.dumps(
        {
            "schemaVersion": 2,
            "mediaType": _MANIFEST,
            "config": {
                "mediaType": "application/vnd.oci.image.config.v1+json",
                "digest": _digest(image),
                "size": len(image),
            },
            "layers": [{"mediaType": _LAYER, "digest": layer.digest, "size": size}],
        },
        sort_keys=True,
    ).encode()
    with open(layer.file, "rb") as file:
        _push_blob(registry, name, layer.digest, file, size)
    _push_blob(registry, name, _digest(image), io.BytesIO(image), len(image))
    _request(registry, "PUT", f"/v2/{name}/manifests/{tag}", io.BytesIO(manifest), len(manifest), _MANIFEST)
    return f"{registry}/{name}@{_digest(manifest)}"


def _push_blob(registry: str, name: str, digest: str, content: io.BufferedIOBase, size: int) -> None:
    place = _request(registry, "POST", f"/v2/{name}/blobs/uploads/", io.BytesIO(), 0, "")
    path = place.partition(registry)[2] or place
    join = "&" if "?" in path else "?"
    _request(registry, "PUT", f"{path}{join}digest={digest}", content, size, "application/octet-stream")


def _request(registry: str, method: str, path: str, body: io.BufferedIOBase, size: int, kind: str) -> str:
    """One request; returns the Location header."""
    connection = http.client.HTTPConnection(registry, timeout=120, blocksize=1 << 20)
    try:
        headers = {"Content-Length": str(size), **({"Content-Type": kind} if kind else {})}
        connection.request(method, path, body=body, headers=headers)
        answer = connection.getresponse()
        text = answer.read()
        if answer.status >= 300:
            raise LabError(f"registry {registry}: {method} {path}: {answer.status} {text[:300]!r}")
        return answer.getheader("Location") or ""
    finally:
        connection.close()
