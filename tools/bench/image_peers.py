"""The peers that Stoker's layer assembler is measured beside, each told to install one locked list of packages.

buildkit-pip    one RUN with pip
buildkit-uv     one RUN with uv and a cache mount, warm daemon, zstd layers, registry cache: the usual best practice
buildkit-empty  the same on a daemon with empty state, as in a fresh pod
crane           uv into a folder, one layer appended to the base by `crane append`
"""

import os
import shutil
import subprocess
import sys
from dataclasses import dataclass, replace
from pathlib import Path

from lab.binaries import cache
from tools.bench.image_ground import Ground, Spent

CRANE = "github.com/google/go-containerregistry/cmd/crane@v0.22.1"
#: The virtual environment's place in all images.
PLACE = "/opt/env"

_UV = """FROM {base}
ARG ROUND
{before}
RUN --mount=type=bind,from=tools,target=/tools --mount=type=bind,source=requirements.txt,target=/requirements.txt \\
    {mount} echo $ROUND && python3 -m venv --without-pip {place} \\
 && UV_LINK_MODE=copy /tools/uv pip install {flags} --no-config --python {place}/bin/python \\
      --default-index {index} -r /requirements.txt
ENV PATH={place}/bin:$PATH
"""
_PIP = """FROM {base}
ARG ROUND
{before}
RUN --mount=type=bind,source=requirements.txt,target=/requirements.txt echo $ROUND && python3 -m venv {place} \\
 && {place}/bin/pip install --no-cache-dir {flags} --disable-pip-version-check --index-url {index} -r /requirements.txt
ENV PATH={place}/bin:$PATH
"""


@dataclass(frozen=True)
class Wanted:
    """requirements: pinned. repository: where to push, below the registry. busting: another text reruns the RUN line.
    before: Dockerfile lines ahead of it."""

    requirements: tuple[str, ...]
    repository: str
    busting: str
    before: str = ""


@dataclass(frozen=True)
class BuildKit:
    """A contender. empty: the daemon's state is emptied before each build."""

    ground: Ground
    index: str
    pip: bool = False
    empty: bool = False
    bytecode: bool = True

    def build(self, wanted: Wanted) -> Spent:
        ground = self.ground
        if self.empty:
            self._buildctl("prune", "--all")
        context = ground.folder / "context"
        shutil.rmtree(context, ignore_errors=True)
        context.mkdir()
        (context / "requirements.txt").write_text("\n".join(wanted.requirements) + "\n")
        mount = "--mount=type=cache,target=/root/.cache/uv" if not self.empty else "UV_NO_CACHE=1"
        flags = (
            ("--compile-bytecode" if not self.pip else "") if self.bytecode else ("--no-compile" if self.pip else "")
        )
        mount = f"{mount} \\\n   " if mount.startswith("--") else ""
        text = (_PIP if self.pip else _UV).format(
            base=ground.base, before=wanted.before, place=PLACE, index=self.index, mount=mount, flags=flags
        )
        (context / "Dockerfile").write_text(text)
        target = f"{ground.registry}/{wanted.repository}"
        command = [
            ground.bin["buildctl"], f"--addr={ground.buildkit}", "build", "--progress=plain", "--frontend=dockerfile.v0",
            f"--local=context={context}", f"--local=dockerfile={context}", f"--opt=build-arg:ROUND={wanted.busting}",
            "--opt=context:tools=local:tools", f"--local=tools={_tools(ground)}",
            f"--output=type=image,name={target}:1,push=true,oci-mediatypes=true,compression=zstd",
        ]  # fmt: skip
        if not self.pip:
            command.append(
                f"--export-cache=type=registry,ref={target}:cache,mode=max,compression=zstd,oci-mediatypes=true"
            )
        return ground.run(command)

    def _buildctl(self, *words: str) -> None:
        subprocess.run(
            [str(self.ground.bin["buildctl"]), f"--addr={self.ground.buildkit}", *words],
            check=True,
            capture_output=True,
        )


@dataclass(frozen=True)
class Crane:
    ground: Ground
    index: str
    bytecode: bool = True

    def build(self, wanted: Wanted) -> Spent:
        ground = self.ground
        folder = ground.folder / "crane"
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        (folder / "requirements.txt").write_text("\n".join(wanted.requirements) + "\n")
        target = f"{ground.registry}/{wanted.repository}:1"
        compile_ = "--compile-bytecode" if self.bytecode else ""
        script = (
            f"{sys.executable} -m venv --without-pip root{PLACE} && {_uv()} pip install {compile_} --no-config --link-mode copy"
            f" --python root{PLACE}/bin/python --default-index {self.index} -r requirements.txt"
            f" && tar --zstd -C root -cf layer.tar.zst . && {crane()} append --insecure -b {ground.base} -f layer.tar.zst -t {target}"
        )
        return ground.run(["sh", "-c", f"cd {folder} && {script}"], UV_CACHE_DIR=str(ground.folder / "uv-cache"))


def crane() -> Path:
    """The program, built once from the Go module."""
    folder = cache() / f"crane-{CRANE.rpartition('@')[2]}"
    if not (folder / "crane").exists():
        subprocess.run(
            ["go", "install", CRANE],
            check=True,
            env={**os.environ, "GOBIN": str(folder), "GOFLAGS": "", "CGO_ENABLED": "0"},
        )
    return folder / "crane"


def _uv() -> Path:
    from uv import find_uv_bin

    return Path(find_uv_bin())


def _tools(ground: Ground) -> Path:
    """A folder with uv alone, for the build's context."""
    folder = ground.folder / "tools"
    if not folder.exists():
        folder.mkdir()
        shutil.copy2(_uv(), folder / "uv")
    return folder


def warm(peer: BuildKit, wanted: Wanted) -> None:
    """Fill the daemon's caches: base unpacked, wheels in the cache mount."""
    spent = peer.build(replace(wanted, busting="warm"))
    if spent.failed:
        raise SystemExit(f"buildkit could not warm up:\n{spent.words}")
