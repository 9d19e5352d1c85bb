"""Bases, requests and unpacked images, for tests of the builder against a real registry."""

import asyncio
import gzip
import hashlib
import io
import json
import os
import subprocess
import sys
import sysconfig
import tarfile
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import msgspec
import zstandard

from lab import packages
from stoker.core.environment import keys, lock
from stoker.core.environment.request import BuildRequest, BuildResult, Mirrors
from stoker.images.client import RegistryClient
from stoker.images.connections import Connections
from tests.support.registries import RunningRegistry

T = TypeVar("T")

PLATFORM = "linux/amd64"
MANIFEST_TYPE = "application/vnd.oci.image.manifest.v1+json"
GLIBC_WORDS = b"GNU C Library (Debian GLIBC 2.36-9) stable release version 2.36.\n"
#: The least that a base has: a Python of this test's version, and a C library.
FILES: Mapping[str, bytes] = {
    "usr/local/bin/python3.11": b"not a program",
    "usr/lib/x86_64-linux-gnu/libc.so.6": b"\x7fELF" + GLIBC_WORDS,
    "etc/base": b"base\n",
}


def digest(content: bytes) -> str:
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


def tar(files: Mapping[str, bytes], links: Mapping[str, str] = {}) -> bytes:
    memory = io.BytesIO()
    with tarfile.open(fileobj=memory, mode="w") as archive:
        for path, content in files.items():
            entry = tarfile.TarInfo(path)
            entry.size, entry.mode = len(content), 0o755
            archive.addfile(entry, io.BytesIO(content))
        for path, target in links.items():
            entry = tarfile.TarInfo(path)
            entry.type, entry.linkname = tarfile.SYMTYPE, target
            archive.addfile(entry)
    return memory.getvalue()


def with_client(registry: RunningRegistry, work: Callable[[RegistryClient], Awaitable[T]]) -> T:
    async def run() -> T:
        connections = Connections(user_agent="test", insecure=frozenset([registry.address]))
        try:
            return await work(RegistryClient(connections, registry.keyring))
        finally:
            await connections.close()

    return asyncio.run(run())


def push_base(
    registry: RunningRegistry,
    name: str = "bases/small",
    files: Mapping[str, bytes] = FILES,
    env: tuple[str, ...] = ("PATH=/usr/local/bin:/usr/bin", "PYTHON_VERSION=3.11.7"),
) -> str:
    """Pushes an image of one gzipped layer and returns it pinned by digest."""
    plain = tar(files, {"usr/local/bin/python3": "python3.11"} if "usr/local/bin/python3.11" in files else {})
    layer = gzip.compress(plain, mtime=0)
    config = json.dumps(
        {
            "architecture": "amd64",
            "os": "linux",
            "config": {"Env": list(env)},
            "rootfs": {"type": "layers", "diff_ids": [digest(plain)]},
            "history": [{"created_by": "base"}],
        }
    ).encode()
    manifest = json.dumps(
        {
            "schemaVersion": 2,
            "mediaType": "application/vnd.docker.distribution.manifest.v2+json",
            "config": {
                "mediaType": "application/vnd.docker.container.image.v1+json",
                "digest": digest(config),
                "size": len(config),
            },
            "layers": [
                {
                    "mediaType": "application/vnd.docker.image.rootfs.diff.tar.gzip",
                    "digest": digest(layer),
                    "size": len(layer),
                }
            ],
        }
    ).encode()
    place = f"{registry.address}/{name}"

    async def push(client: RegistryClient) -> None:
        for content in (layer, config):
            await client.push_blob(place, digest(content), len(content), content)
        media_type = "application/vnd.docker.distribution.manifest.v2+json"
        await client.put_manifest(place, "1", manifest, media_type)

    with_client(registry, push)
    return f"{place}@{digest(manifest)}"


def request(running: RunningRegistry, base: str, served: packages.Packages, /, **changes: Any) -> BuildRequest:
    """A request for an ordinary pip environment in the repository `team`."""
    ordinary = BuildRequest(
        definition_key="d" * 64,
        spec_key=hashlib.sha256(repr(sorted(changes.items())).encode()).hexdigest(),
        steps_key=keys.steps_key((), None, base, PLATFORM),
        platform=PLATFORM,
        base=base,
        registry=f"{running.address}/team",
        mirrors=Mirrors(pypi=served.pypi, conda={"lab": served.channel}, python=served.pythons),
        insecure=(running.address,),
        prefix=keys.PREFIX,
    )
    return msgspec.structs.replace(ordinary, **changes)


@dataclass
class Built:
    """What a run of the builder left: its exit code, its answer, its log."""

    code: int
    result: BuildResult
    log: str = field(repr=False)


def as_user(writable: Path) -> tuple[str, ...]:
    """Words before a command: user 1000, in a root that is read-only but for one folder."""
    mounts = f"mount --bind {writable} {writable} && mount -o remount,bind,ro / && cd /"
    keep = 'exec setpriv --reuid 1000 --regid 1000 --clear-groups --no-new-privs --inh-caps=-all -- "$@"'
    return ("unshare", "--mount", "sh", "-c", f'here=$PWD && {mounts} && cd "$here" && {keep}', "sh")


def build(
    wanted: BuildRequest, folder: Path, *, within: Sequence[str] = (), python: str = sys.executable, **env: str
) -> Built:
    """Runs `python -m stoker.images.build` as its pod does, with nothing but its own variables. within: words before
    the command."""
    answer = folder / "termination-log"
    answer.unlink(missing_ok=True)
    (folder / "scratch").mkdir(exist_ok=True)
    done = subprocess.run(
        [*within, python, "-m", "stoker.images.build"],
        env={
            "PATH": os.environ["PATH"],
            # Also for a Python that is not this venv's own.
            "PYTHONPATH": os.pathsep.join(["operator", sysconfig.get_path("purelib")]),
            "TMPDIR": str(folder / "scratch"),
            "HOME": "/nonexistent",
            "STOKER_TERMINATION_LOG": str(answer),
            "STOKER_BUILD": msgspec.json.encode(wanted).decode(),
            **env,
        },
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        timeout=300,
    )
    log = done.stdout + done.stderr
    assert answer.exists(), log
    return Built(done.returncode, msgspec.json.decode(answer.read_bytes(), type=BuildResult), log)


def manifest_of(registry: RunningRegistry, image: str) -> dict[str, Any]:
    place, _, wanted = image.partition("@")

    async def get(client: RegistryClient) -> dict[str, Any]:
        found = await client.get_manifest(place, wanted)
        assert found is not None, image
        return found.document()

    return with_client(registry, get)


def blob(registry: RunningRegistry, place: str, wanted: str) -> bytes:
    async def get(client: RegistryClient) -> bytes:
        found = await client.get_blob(place, wanted, most=1 << 30)
        assert found is not None, wanted
        return found

    return with_client(registry, get)


def config_of(registry: RunningRegistry, image: str) -> dict[str, Any]:
    place = image.partition("@")[0]
    found: dict[str, Any] = json.loads(blob(registry, place, manifest_of(registry, image)["config"]["digest"]))
    return found


def unpack(registry: RunningRegistry, image: str, root: Path) -> Path:
    """Applies the image's layers to a folder, as a runtime does, but for owners."""
    place = image.partition("@")[0]
    for layer in manifest_of(registry, image)["layers"]:
        content = blob(registry, place, layer["digest"])
        plain = (
            zstandard.ZstdDecompressor().stream_reader(content).read()
            if layer["mediaType"].endswith("+zstd")
            else gzip.decompress(content)
        )
        with tarfile.open(fileobj=io.BytesIO(plain)) as archive:
            archive.extractall(root, filter="fully_trusted")
    return root


def lock_of(registry: RunningRegistry, built: Built, spec_key: str) -> lock.Lock:
    """The lock in the record of a spec."""
    place = built.result.image.partition("@")[0]
    record = manifest_of(registry, f"{place}@spec-{keys.short(spec_key)}")
    return lock.decode(blob(registry, place, record["layers"][0]["digest"]))


def installed(root: Path) -> dict[str, str]:
    """Every file below a folder: mode and content's hash, or a link's target."""
    found = {}
    for path in sorted(root.rglob("*")):
        name = str(path.relative_to(root))
        if path.is_symlink():
            found[name] = f"-> {os.readlink(path)}"
        elif path.is_file():
            executable = "x" if path.stat().st_mode & 0o111 else "-"
            found[name] = f"{executable} {hashlib.sha256(path.read_bytes()).hexdigest()}"
    return found


def at_its_prefix(root: Path, *commands: str) -> list[str]:
    """Runs commands with an unpacked environment where it belongs, in a namespace of mounts of their own: nothing is
    left on the machine. Returns the lines that they print."""
    mounts = f"mount -t tmpfs none /opt && mkdir -p {keys.PREFIX} && mount --bind {root}{keys.PREFIX} {keys.PREFIX}"
    done = subprocess.run(
        ["unshare", "--mount", "sh", "-c", " && ".join([mounts, *commands])],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()
