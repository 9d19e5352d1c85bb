"""From a request and what the base brings to a lock: which Python, which packages."""

import re
import shlex
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import aiohttp

from stoker.core.environment.lock import Lock, Package, layer_format
from stoker.core.environment.request import BuildRequest
from stoker.images import pip, python
from stoker.images.failure import BuildFailed
from stoker.images.probe import Interpreter, Probe
from stoker.images.source import buildable
from stoker.images.wheel import Layout

if TYPE_CHECKING:
    from stoker.images.conda import Channels, CondaSolution

#: Python that an environment gets when nothing says which: bytecode for it can be made here.
DEFAULT_PYTHON = f"{sys.version_info.major}.{sys.version_info.minor}"
OLDEST_PYTHON = (3, 8)


@dataclass(frozen=True, slots=True)
class Solved:
    """lock: what the image holds. interpreter: the base's Python that a venv stands on, None where the environment
    brings its own. indexes: where builds of source distributions look."""

    lock: Lock
    layout: Layout
    target: pip.Target
    interpreter: Interpreter | None = None
    indexes: pip.Indexes = field(default_factory=pip.Indexes)
    conda: "CondaSolution | None" = None
    channels: "Channels | None" = None


def pip_indexes(request: BuildRequest, lines: Sequence[str] = ()) -> tuple[pip.Indexes, tuple[str, ...]]:
    """Where uv looks, and what else it is told: the definition's lines; the Workspace's mirror instead of PyPI."""
    default, extra, options = "", [], []
    for line in lines:
        option, _, value = line.partition(" ")
        if option == "--index-url":
            default = value
        elif option == "--extra-index-url":
            extra.append(value)
        elif option == "--pre":
            options += ["--prerelease", "allow"]
        elif option != "--require-hashes":  # every file is checked against the lock's hash anyway
            options += shlex.split(line)
    if not default or urlsplit(default).hostname in ("pypi.org", "pypi.python.org"):
        default = request.mirrors.pypi or default
    return pip.Indexes(default, tuple(extra)), tuple(options)


async def solve_pip(request: BuildRequest, probe: Probe, scratch: Path, session: aiohttp.ClientSession) -> Solved:
    """The lock of a definition without a conda part. Raises BuildFailed."""
    glibc = glibc_of(request, probe)
    interpreter = base_python(probe)
    own: list[Package] = []
    if interpreter is None:
        target = pip.Target(request.platform, DEFAULT_PYTHON, glibc)
        own = [await python.find(target, request.mirrors.python, session, scratch)]
    version = own[0].version if interpreter is None else interpreter.version
    layout = Layout(request.prefix, ".".join(version.split(".")[:2]), own_python=interpreter is None)
    target = pip.Target(request.platform, version, glibc)
    packages, indexes = await pip_packages(request, target, scratch)
    lock = Lock(
        platform=request.platform,
        python=version,
        prefix=request.prefix,
        layer_format=layer_format(request.bytecode),
        packages=(*own, *packages),
    )
    return Solved(lock, layout, target, interpreter, indexes)


async def pip_packages(
    request: BuildRequest, target: pip.Target, scratch: Path, provided: Mapping[str, str] = MappingProxyType({})
) -> tuple[list[Package], pip.Indexes]:
    """What the definition's pip part needs. provided: what a conda part has brought already, name -> version."""
    wanted = request.pip or {}
    lines = (*wanted.get("index", ()), *wanted.get("options", ()))
    indexes, options = pip_indexes(request, lines)
    packages = await pip.solve(
        wanted.get("requirements", ()),
        target,
        indexes,
        scratch,
        constraints=wanted.get("constraints", ()),
        provided=provided,
        buildable=buildable(target),
        options=options,
    )
    unfit = next((one for one in packages if one.source and not buildable(target)), None)
    if unfit is not None:
        raise BuildFailed(
            "SourceOnlyPackage",
            f"{unfit.name} {unfit.version} has no wheel for Python {target.python} on {target.platform}, and this "
            f"builder makes wheels for Python {DEFAULT_PYTHON} of its own machine only; use a version with wheels",
            where=pip.where(unfit.name, wanted.get("requirements", ())),
        )
    return packages, indexes


async def solve_conda(request: BuildRequest, probe: Probe, scratch: Path, cuda: str) -> Solved:
    """The lock of a definition with a conda part, its pip part on conda's Python. Raises BuildFailed.

    cuda: version that the base brings, or empty.
    """
    # Most environments have no conda part, and its solver takes as long to load as all the rest.
    from stoker.images import conda

    glibc = glibc_of(request, probe)
    wanted = request.conda or {}
    channels = conda.Channels(wanted.get("channels", ()), request.mirrors.conda)
    dependencies = tuple(wanted.get("dependencies", ()))
    solve = partial(conda.solve, channels=channels, platform=request.platform, glibc=glibc, scratch=scratch, cuda=cuda)
    solution = await solve(dependencies)
    if request.pip and not solution.python:
        # pip's packages need some Python, and an environment of conda has its own.
        solution = await solve((*dependencies, "python"))
    minor = ".".join(solution.python.split(".")[:2])
    layout = Layout(request.prefix, minor, own_python=True)
    target = pip.Target(request.platform, solution.python, glibc)
    packages, indexes = list(solution.packages), pip.Indexes()
    if request.pip:
        provided = await conda.provided(solution, channels)
        found, indexes = await pip_packages(request, target, scratch, provided)
        packages += found
    lock = Lock(
        platform=request.platform,
        python=solution.python,
        prefix=request.prefix,
        layer_format=layer_format(request.bytecode),
        packages=tuple(packages),
    )
    return Solved(lock, layout, target, None, indexes, solution, channels)


def glibc_of(request: BuildRequest, probe: Probe) -> tuple[int, int]:
    """Raises BuildFailed where packages as they are published cannot run on the base."""
    if not probe.glibc:
        library = "musl" if probe.musl else "no C library"
        raise BuildFailed(
            "BaseImageUnsupported",
            f"{request.base} has {library}, and packages need glibc; use a base of Debian, Ubuntu, Red Hat or SUSE",
            where="image",
        )
    return probe.glibc[0], probe.glibc[1]


def base_python(probe: Probe) -> Interpreter | None:
    """The first on PATH that packages still support."""
    usable = (one for one in probe.interpreters if _version(one.version) >= OLDEST_PYTHON)
    return next(usable, None)


def _version(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", text)[:3])
