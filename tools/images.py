#!/usr/bin/env python3
"""Build and push Stoker's images, and lock what the operator's image holds.

    python tools/images.py build --registry registry.example.com/stoker [--tag 0.1.0] [--builder buildkit|docker|podman]
    python tools/images.py lab --name stoker      # into a lab's registry, without a network; prints {target: reference}
    python tools/images.py lock                   # operator/requirements-operator.txt, anew from pyproject.toml

`lab` builds a target only when something that it is made of has changed.
"""

import argparse
import hashlib
import json
import shutil
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "operator")]

import stoker  # noqa: E402
from lab import Lab, LabError  # noqa: E402
from lab.binaries import cache  # noqa: E402

Progress = Callable[[str], None]
CONTEXT = ROOT / "operator"
LOCK = CONTEXT / "requirements-operator.txt"
#: Python of the images, for which wheels are fetched.
PYTHON = "3.11"
#: What each target is made of, below operator/.
TARGETS = {
    "stoker": ("Dockerfile", ".dockerignore", "requirements-operator.txt", "stoker"),
    "agent": ("Dockerfile", ".dockerignore", "stoker/__init__.py", "stoker/runtime"),
    "store": ("Dockerfile", ".dockerignore"),
}
#: Folders and files that .dockerignore keeps out of the images.
_IGNORED = {"__pycache__", "cli", "local", "sdk"}
#: Packages of the base dependencies that the image needs too; the others belong to the CLI.
_SHARED = ("msgspec", "obstore", "pyyaml")
#: kopf would import it for its login, and it costs 60 MB and a second at start.
_UNWANTED = "kubernetes"


class ImageError(Exception):
    """Images cannot be built; the message says what is missing and what to do."""


def lab_images(lab: Lab, progress: Progress = print) -> dict[str, str]:
    """The images in a lab's registry by target, built if need be: `{"stoker": "<registry>/stoker/stoker@sha256:…"}`."""
    record = lab.state_dir / "stoker-images.json"
    known: dict[str, dict[str, str]] = json.loads(record.read_text()) if record.exists() else {}
    versitygw = (lab.bin / "versitygw").resolve()
    base = lab.images["base"]
    for target, sources in TARGETS.items():
        made_of = _hash([CONTEXT / source for source in sources], [base, str(versitygw)])
        if known.get(target, {}).get("hash") == made_of:
            continue
        progress(f"  building image {target}")
        reference = lab.build(
            CONTEXT,
            tag=f"stoker/{target}:{made_of[:12]}",
            target=target,
            # BuildKit looks the Go image up although the stage that needs it is replaced; any image will do.
            build_args={"PYTHON_IMAGE": base, "GOLANG_IMAGE": base},
            contexts={"wheels": wheels(progress), "versitygw": versitygw.parent},
        )
        known[target] = {"hash": made_of, "reference": reference}
        record.write_text(json.dumps(known, indent=1))
    return {target: known[target]["reference"] for target in TARGETS}


def wheels(progress: Progress = print) -> Path:
    """A folder with the wheels of the lock, downloaded once by pip. Raises ImageError with pip's words."""
    folder = cache() / f"wheels-{_hash([LOCK], [PYTHON])[:16]}"
    if folder.exists():
        return folder
    progress("  downloading the operator's packages")
    folder.parent.mkdir(parents=True, exist_ok=True)
    fresh = Path(tempfile.mkdtemp(dir=folder.parent, prefix=".wheels-"))
    try:
        _run(
            [
                *(sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--require-hashes"),
                *("--only-binary=:all:", "--implementation", "cp", "--python-version", PYTHON),
                *("-r", str(LOCK), "-d", str(fresh)),
            ]
        )
        fresh.chmod(0o755)
        fresh.rename(folder)
    except OSError:
        if not folder.exists():  # else someone else was quicker
            raise
    finally:
        shutil.rmtree(fresh, ignore_errors=True)
    return folder


def build(registry: str, tag: str, builder: str, platform: str | None, progress: Progress = print) -> dict[str, str]:
    """Build all targets with a builder of this machine and push them; references by target. Raises ImageError."""
    tool = _builder(builder)
    built = {}
    for target in TARGETS:
        reference = f"{registry.rstrip('/')}/{target}:{tag}"
        progress(f"building {reference} with {tool}")
        for command in _commands(tool, target, reference, platform):
            _run(command)
        built[target] = reference
    return built


def lock() -> None:
    """Write the lock of the operator's image from pyproject.toml: versions and hashes, no host of an index."""
    wanted = "\n".join(requirements(tomllib.loads((ROOT / "pyproject.toml").read_text())))
    _run(
        [
            *("uv", "pip", "compile", "--quiet", "--generate-hashes", "--no-emit-index-url", "--no-emit-find-links"),
            *("--no-header", "--no-annotate", "--python-version", PYTHON, "--python-platform", "linux"),
            *("-", "-o", str(LOCK)),
        ],
        text=wanted,
    )
    if any(line.startswith(f"{_UNWANTED}==") for line in LOCK.read_text().splitlines()):
        raise ImageError(f"{LOCK.name} has the package {_UNWANTED}: find out what asks for it; kopf would import it")


def requirements(project: Mapping[str, object]) -> list[str]:
    """What pyproject.toml asks for in the operator's image: both extras, and of the base what these parts share."""
    table = project["project"]
    assert isinstance(table, dict)
    extras = [*table["optional-dependencies"]["operator"], *table["optional-dependencies"]["server"]]
    base = [line for line in table["dependencies"] if line.lower().startswith(_SHARED)]
    return sorted({*extras, *base}, key=str.lower)


def _builder(asked: str) -> str:
    tools = {"docker": "docker", "podman": "podman", "buildkit": "buildctl"}
    for name in [asked] if asked != "auto" else list(tools):
        if shutil.which(tools[name]):
            return name
    needed = tools.get(asked, "docker, podman or buildctl")
    raise ImageError(f"{needed} is not on PATH: install it, or name another with --builder")


def _commands(tool: str, target: str, reference: str, platform: str | None) -> Iterator[list[str]]:
    if tool == "buildkit":
        yield [
            *("buildctl", "build", "--frontend=dockerfile.v0", f"--local=context={CONTEXT}"),
            *(
                f"--local=dockerfile={CONTEXT}",
                f"--opt=target={target}",
                *([f"--opt=platform={platform}"] if platform else []),
            ),
            f"--output=type=image,name={reference},push=true",
        ]
        return
    chosen = [f"--platform={platform}"] if platform else []
    if tool == "docker":
        yield ["docker", "buildx", "build", *chosen, "--target", target, "-t", reference, "--push", str(CONTEXT)]
        return
    yield ["podman", "build", *chosen, "--target", target, "-t", reference, str(CONTEXT)]
    yield ["podman", "push", reference]


def _hash(paths: Sequence[Path], words: Sequence[str]) -> str:
    """A hash of files (folders with all below them that goes into an image) and words."""
    digest = hashlib.sha256()
    for path in paths:
        below = sorted(path.rglob("*")) if path.is_dir() else [path]
        for file in below:
            if file.is_file() and not _IGNORED.intersection(file.relative_to(CONTEXT).parts):
                digest.update(f"{file.relative_to(CONTEXT)}\0{file.stat().st_mode & 0o111}\0".encode())
                digest.update(hashlib.sha256(file.read_bytes()).digest())
    for word in words:
        digest.update(f"\0{word}".encode())
    return digest.hexdigest()


def _run(command: Sequence[str], text: str | None = None) -> None:
    try:
        done = subprocess.run(command, input=text, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    except FileNotFoundError:
        raise ImageError(f"{command[0]} is not on PATH: install it") from None
    if done.returncode != 0:
        raise ImageError(f"{' '.join(command[:4])} … failed:\n{done.stdout[-4000:]}")


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parts = parser.add_subparsers(dest="part", required=True)
    building = parts.add_parser("build", help="build with this machine's builder and push")
    building.add_argument(
        "--registry", required=True, help="where to push: REGISTRY/stoker, REGISTRY/agent, REGISTRY/store"
    )
    building.add_argument("--tag", default=stoker.__version__)
    building.add_argument("--builder", default="auto", choices=["auto", "buildkit", "docker", "podman"])
    building.add_argument("--platform", help="such as linux/amd64,linux/arm64; default: this machine's")
    inside = parts.add_parser("lab", help="build into a lab's registry")
    inside.add_argument("--name", default="stoker", help="name of the lab")
    parts.add_parser("lock", help="lock the operator's packages anew")
    options = parser.parse_args(arguments)

    def say(line: str) -> None:
        print(line, file=sys.stderr, flush=True)

    try:
        if options.part == "lock":
            lock()
        elif options.part == "lab":
            print(json.dumps(lab_images(Lab.load(options.name), say)))
        elif not options.registry:
            raise ImageError("--registry is empty: make images REGISTRY=registry.example.com/stoker")
        else:
            print(json.dumps(build(options.registry, options.tag, options.builder, options.platform, say)))
    except (ImageError, LabError) as error:
        print(f"images: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
