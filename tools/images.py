#!/usr/bin/env python3
"""Build and push Stoker's images, and lock what the operator's image holds.

    python tools/images.py build --registry registry.example.com/stoker [--tag 0.1.0] [--builder buildkit|docker|podman]
    python tools/images.py lab --name stoker      # into a lab's registry, without a network; prints {target: reference}
    python tools/images.py lock                   # operator/requirements-operator.txt, anew from pyproject.toml

`lab` builds a target only when something that it is made of has changed. `build` reads these variables, all optional:

    BUILDER                        as --builder
    INSECURE_REGISTRY=1            the registry speaks http, or https with a certificate that nobody knows
    PYTHON_IMAGE, GOLANG_IMAGE     base images other than Docker Hub's
    WHEELS, VERSITYGW, DISTRIBUTION, BUILDCTL
                                   folders with the wheels of the lock, and with the binaries `versitygw`, `registry` and
                                   `buildctl`: the build then downloads nothing but base images
"""

import argparse
import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
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
    "registry": ("Dockerfile", ".dockerignore"),
}
#: The folder whose Dockerfile makes an image with what the example imports.
EXAMPLE = ROOT / "examples" / "iris"
#: Folders and files that .dockerignore keeps out of the images.
_IGNORED = {"__pycache__", "cli", "local", "sdk"}
#: Packages of the base dependencies that the image needs too; the others belong to the CLI.
_SHARED = ("msgspec", "obstore", "packaging", "py-rattler", "pyyaml", "rfc8785", "uv")
#: kopf would import it for its login, and it costs 60 MB and a second at start.
_UNWANTED = "kubernetes"


class ImageError(Exception):
    """Images cannot be built; the message says what is missing and what to do."""


@dataclass(frozen=True)
class Building:
    """How `build` builds and pushes. platform: such as linux/amd64,linux/arm64; None: this machine's."""

    builder: str = "auto"
    platform: str | None = None
    build_args: Mapping[str, str] = field(default_factory=dict)
    contexts: Mapping[str, Path] = field(default_factory=dict)
    insecure: bool = False

    @classmethod
    def of(cls, variables: Mapping[str, str], builder: str | None = None, platform: str | None = None) -> "Building":
        """As the variables say that the head of this file lists; empty ones count as missing."""
        given = {name: value for name, value in variables.items() if value}
        contexts = {name: Path(given[name.upper()]).resolve() for name in _CONTEXTS if name.upper() in given}
        for name, folder in contexts.items():
            if not folder.is_dir():
                raise ImageError(f"{name.upper()}={folder} is no folder")
        return cls(
            builder=builder or given.get("BUILDER", "auto"),
            platform=platform,
            build_args={name: given[name] for name in _BUILD_ARGS if name in given},
            contexts=contexts,
            insecure=given.get("INSECURE_REGISTRY", "0") != "0",
        )


#: Builders and their programs, the usual first.
_TOOLS = {"docker": "docker", "podman": "podman", "buildkit": "buildctl"}
#: What a build may be given instead of what the Dockerfile would fetch.
_BUILD_ARGS = ("PYTHON_IMAGE", "GOLANG_IMAGE")
_CONTEXTS = ("wheels", "versitygw", "distribution", "buildctl")


def lab_images(lab: Lab, progress: Progress = print) -> dict[str, str]:
    """The images in a lab's registry by target, built if need be: `{"stoker": "<registry>/stoker/stoker@sha256:…"}`."""
    record = lab.state_dir / "stoker-images.json"
    known: dict[str, dict[str, str]] = json.loads(record.read_text()) if record.exists() else {}
    programs = {"versitygw": "versitygw", "distribution": "registry", "buildctl": "buildctl"}
    binaries = {name: (lab.bin / program).resolve() for name, program in programs.items()}
    base = lab.images["base"]
    for target, sources in TARGETS.items():
        made_of = _hash([CONTEXT / source for source in sources], [base, *map(str, binaries.values())])
        if known.get(target, {}).get("hash") == made_of:
            continue
        progress(f"  building image {target}")
        reference = lab.build(
            CONTEXT,
            tag=f"stoker/{target}:{made_of[:12]}",
            target=target,
            # BuildKit looks the Go image up although the stage that needs it is replaced; any image will do.
            build_args={"PYTHON_IMAGE": base, "GOLANG_IMAGE": base},
            contexts={"wheels": wheels(progress), **{name: binary.parent for name, binary in binaries.items()}},
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


def build(
    registry: str, tag: str, how: Building, *, example: bool = False, progress: Progress = print
) -> dict[str, str]:
    """Build all targets (and the example's image) with a builder of this machine and push them; references by name.

    Raises ImageError.
    """
    tool = _builder(how.builder)
    built = {}
    for name in [*TARGETS, *(["example"] if example else [])]:
        reference = f"{registry.rstrip('/')}/{name}:{tag}"
        progress(f"building {reference} with {tool}")
        for command in _commands(tool, name, reference, how):
            _run(command)
        built[name] = reference
    return built


def tag_of_sources(how: Building) -> str:
    """A tag that changes with what the images are made of, so that no node takes an older one for it."""
    sources = {CONTEXT / source for sources in TARGETS.values() for source in sources}
    return f"{stoker.__version__}-{_hash(sorted(sources), [*sorted(how.build_args.values())])[:12]}"


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
    if asked not in ("auto", *_TOOLS):
        raise ImageError(f"no builder {asked!r}; there are: {', '.join(_TOOLS)}")
    # Who says where BuildKit listens means BuildKit.
    order = sorted(_TOOLS, key=lambda name: name != "buildkit") if os.environ.get("BUILDKIT_HOST") else list(_TOOLS)
    for name in [asked] if asked != "auto" else order:
        if shutil.which(_TOOLS[name]):
            return name
    needed = _TOOLS.get(asked, "docker, podman or buildctl")
    raise ImageError(f"{needed} is not on PATH: install it, or name another with --builder")


def _commands(tool: str, name: str, reference: str, how: Building) -> Iterator[list[str]]:
    """What builds and pushes the image `name`: a target of operator/Dockerfile, or `example`."""
    folder = CONTEXT if name in TARGETS else EXAMPLE
    contexts = how.contexts if name in TARGETS else {}
    target = [name] if name in TARGETS else []
    platform = [how.platform] if how.platform else []
    if tool == "buildkit":
        yield [
            *("buildctl", "build", "--frontend=dockerfile.v0", f"--local=context={folder}"),
            f"--local=dockerfile={folder}",
            *(f"--opt=target={value}" for value in target),
            *(f"--opt=platform={value}" for value in platform),
            *(f"--opt=build-arg:{key}={value}" for key, value in how.build_args.items()),
            *(f"--opt=context:{key}=local:{key}" for key in contexts),
            *(f"--local={key}={path}" for key, path in contexts.items()),
            f"--output=type=image,name={reference},push=true" + (",registry.insecure=true" if how.insecure else ""),
        ]
        return
    options = [
        *(f"--platform={value}" for value in platform),
        *(f"--target={value}" for value in target),
        *(f"--build-arg={key}={value}" for key, value in how.build_args.items()),
        *(f"--build-context={key}={path}" for key, path in contexts.items()),
        f"--tag={reference}",
    ]
    if tool == "docker":
        push = "--output=type=image,push=true,registry.insecure=true" if how.insecure else "--push"
        yield ["docker", "buildx", "build", *options, push, str(folder)]
        return
    yield ["podman", "build", *options, str(folder)]
    yield ["podman", "push", *(["--tls-verify=false"] if how.insecure else []), reference]


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
        "--registry",
        required=True,
        help="where to push: REGISTRY/stoker, REGISTRY/agent, REGISTRY/store, REGISTRY/registry",
    )
    building.add_argument("--tag", default=stoker.__version__)
    building.add_argument("--builder", choices=["auto", *_TOOLS], help="default: the first that is on PATH")
    building.add_argument("--platform", help="such as linux/amd64,linux/arm64; default: this machine's")
    building.add_argument(
        "--example", action="store_true", help="also REGISTRY/example, in which examples/iris can be trained"
    )
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
            how = Building.of(os.environ, options.builder, options.platform)
            print(json.dumps(build(options.registry, options.tag, how, example=options.example, progress=say)))
    except (ImageError, LabError) as error:
        print(f"images: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
