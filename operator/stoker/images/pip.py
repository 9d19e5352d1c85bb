"""Solves a list of pip requirements for a platform with uv: each package as one file, by URL and hash."""

import asyncio
import os
import re
import tomllib
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Any
from urllib.parse import unquote, urlsplit, urlunsplit

import uv
from packaging.requirements import InvalidRequirement, Requirement
from packaging.tags import Tag, compatible_tags, cpython_tags
from packaging.utils import InvalidWheelFilename, canonicalize_name, parse_wheel_filename

from stoker.core.environment.lock import Package
from stoker.images.failure import BuildFailed, disk_full, killed, out_of_memory

#: Old names of manylinux platforms, by the glibc that they stand for.
_LEGACY = {17: "manylinux2014", 12: "manylinux2010", 5: "manylinux1"}
#: The versions of glibc that uv knows as platforms, newest first.
_UV_GLIBC = (*range(40, 30, -1), 28, 17)
_MACHINES = {"linux/amd64": "x86_64", "linux/arm64": "aarch64"}
_SOLVE_SECONDS = 600
#: What uv says when another try may help.
_TRANSIENT = re.compile(
    r"error sending request|connect error|timed? ?out|dns error|connection (reset|refused|closed)|"
    r"HTTP status (server error|client error \(429)|failed to fetch",
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True)
class Target:
    """What packages must fit. platform: `linux/amd64`. python: `3.11` or `3.11.2`. glibc: (2, 36)."""

    platform: str
    python: str
    glibc: tuple[int, int]

    @property
    def machine(self) -> str:
        """As wheels name it; raises BuildFailed where there are no wheels for the platform."""
        try:
            return _MACHINES[self.platform]
        except KeyError:
            raise BuildFailed(
                "PlatformUnsupported", f"{self.platform}: environments are made for {' and '.join(_MACHINES)}"
            ) from None

    @property
    def uv_platform(self) -> str:
        newest = next((minor for minor in _UV_GLIBC if minor <= self.glibc[1]), 17)
        return f"{self.machine}-manylinux_2_{newest}"

    def tags(self) -> list[Tag]:
        """The tags of wheels that run there, best first (PEP 425, PEP 600)."""
        version = tuple(int(part) for part in self.python.split(".")[:2])
        short = "".join(map(str, version))
        platforms = []
        for minor in range(self.glibc[1], 4, -1):
            platforms.append(f"manylinux_2_{minor}_{self.machine}")
            if minor in _LEGACY and (minor == 17 or self.machine == "x86_64"):
                platforms.append(f"{_LEGACY[minor]}_{self.machine}")
        platforms.append(f"linux_{self.machine}")
        return [
            *cpython_tags(version, abis=[f"cp{short}"], platforms=platforms),
            *compatible_tags(version, interpreter=f"cp{short}", platforms=platforms),
        ]


@dataclass(frozen=True, slots=True)
class Indexes:
    """Where packages are looked up: default is a simple index's URL, extra come before it in uv's order."""

    default: str = ""
    extra: tuple[str, ...] = ()


def environment(indexes: Indexes, scratch: Path) -> dict[str, str]:
    """The variables of every call of uv: nothing of the pod's own configuration is heard but proxies, certificates
    and the netrc file with the indexes' credentials."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if name in ("PATH", "LANG", "NETRC", "SSL_CERT_FILE", "SSL_CERT_DIR") or name.lower().endswith("_proxy")
    }
    chosen = {"UV_DEFAULT_INDEX": indexes.default} if indexes.default else {}
    if indexes.extra:
        chosen["UV_INDEX"] = " ".join(indexes.extra)
    return (
        kept
        | chosen
        | {
            "HOME": str(scratch),
            "TMPDIR": str(scratch),
            "UV_CACHE_DIR": str(scratch / "uv"),
            "UV_NO_CONFIG": "1",
            "UV_NO_PROGRESS": "1",
            "UV_PYTHON_DOWNLOADS": "never",
            "NO_COLOR": "1",
        }
    )


async def solve(
    requirements: Sequence[str],
    target: Target,
    indexes: Indexes,
    scratch: Path,
    *,
    constraints: Sequence[str] = (),
    provided: Mapping[str, str] = MappingProxyType({}),
    buildable: bool = True,
    options: Sequence[str] = (),
) -> list[Package]:
    """Every package that the requirements need, pinned, sorted by name. Raises BuildFailed.

    provided: what is there already and stays as it is, name -> version; it is not among the packages. buildable: whether
    this Python may make wheels of source distributions for the target. The lock is always solved into nothing: uv keeps
    the pins of a file that it finds.
    """
    (scratch / "requirements.in").write_text("".join(f"{line}\n" for line in requirements))
    pinned = (f"{name}=={version}" for name, version in provided.items())
    (scratch / "constraints.in").write_text("".join(f"{line}\n" for line in (*constraints, *pinned)))
    compile = partial(_compile, requirements, target, indexes, scratch, buildable=buildable)
    try:
        document = await compile(options)
    except BuildFailed as error:
        if not provided or error.reason not in ("PackageNotFound", "PipUnsatisfiable"):
            raise
        # No index may have what conda brings, or that version of it: stand-ins let uv go on without one.
        document = await compile(
            (*options, "--find-links", str(await asyncio.to_thread(_stand_ins, provided, scratch)))
        )
    ranks = {tag: rank for rank, tag in reversed(list(enumerate(target.tags())))}
    entries = (one for one in document.get("packages", ()) if canonicalize_name(one["name"]) not in provided)
    return sorted((_chosen(entry, ranks, target) for entry in entries), key=lambda one: one.name)


def _stand_ins(provided: Mapping[str, str], scratch: Path) -> Path:
    """A folder of wheels with nothing in them, so that a solver takes it that these versions are to be had."""
    folder = scratch / "stand-ins"
    folder.mkdir(exist_ok=True)
    for name, version in provided.items():
        stem = f"{name.replace('-', '_')}-{version}"
        members = {
            "METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n",
            "WHEEL": "Wheel-Version: 1.0\nGenerator: stoker\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
            "RECORD": "",
        }
        with zipfile.ZipFile(folder / f"{stem}-py3-none-any.whl", "w") as wheel:
            for member, text in members.items():
                wheel.writestr(f"{stem}.dist-info/{member}", text)
    return folder


async def _compile(
    requirements: Sequence[str],
    target: Target,
    indexes: Indexes,
    scratch: Path,
    options: Sequence[str],
    *,
    buildable: bool,
) -> dict[str, Any]:
    """uv's answer to the files in the scratch folder: a pylock.toml. Raises BuildFailed."""
    # fmt: off
    command = [
        uv.find_uv_bin(), "pip", "compile", "--quiet", "--no-header", "--no-annotate", "--format", "pylock.toml",
        "--python-version", target.python, "--python-platform", target.uv_platform,
        "--constraints", "constraints.in", *options, *([] if buildable else ["--no-build"]), "requirements.in",
    ]
    # fmt: on
    child = await asyncio.create_subprocess_exec(
        *command,
        cwd=scratch,
        env=environment(indexes, scratch),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        async with asyncio.timeout(_SOLVE_SECONDS):
            out, err = await child.communicate()
    except TimeoutError:
        raise BuildFailed("Timeout", f"uv found no solution in {_SOLVE_SECONDS} s") from None
    finally:
        if child.returncode is None:
            child.kill()
            await child.wait()
    if child.returncode != 0:
        said = err.decode(errors="replace")
        raise out_of_memory("uv") if killed(child.returncode, said) else failure(said, requirements)
    return tomllib.loads(out.decode())


def failure(words: str, requirements: Sequence[str]) -> BuildFailed:
    """What uv's words mean."""
    words = "\n".join(line.strip() for line in words.strip().splitlines() if line.strip())
    words = re.sub(r"^error: ", "", words).replace("×", "").replace("╰─▶", "").strip()
    words = hide_credentials(words)
    if "No space left on device" in words:
        return disk_full(words)
    if re.search(r"\b(401|403)\b|Unauthorized|Forbidden", words):
        return BuildFailed(
            "IndexUnauthorized",
            f"{words}; put the index's credentials into the Secret that the Workspace's mirrors.secretRef names",
            where=where(words, requirements),
        )
    if "not found in the package registry" in words or "not found in the provided package locations" in words:
        return BuildFailed("PackageNotFound", words, where=where(words, requirements))
    if "No solution found" in words:
        if re.search(r"Python version \([^)]*\) does not satisfy", words):
            # uv speaks of a current Python, as if it were the one that it runs in.
            words += (
                "\nthe environment's Python is the base's, or comes with a conda part: another base, or `python=3.x` "
                "among conda's dependencies, brings another"
            )
        return BuildFailed("PipUnsatisfiable", words, where=where(words, requirements))
    if _TRANSIENT.search(words):
        return BuildFailed("IndexUnreachable", words, transient=True)
    return BuildFailed("PipUnsatisfiable", words or "uv failed and said nothing", where=where(words, requirements))


def where(words: str, requirements: Sequence[str], field: str = "pip.requirements") -> str:
    """The lines of the user's list whose packages the words name, at most three."""
    named = []
    for index, line in enumerate(requirements):
        try:
            name = Requirement(line.partition(" --")[0]).name
        except InvalidRequirement:
            continue
        pattern = re.escape(canonicalize_name(name)).replace(r"\-", "[-_.]+")
        if found := re.search(rf"(?<![\w.-]){pattern}(?![\w-])", words, re.IGNORECASE):
            named.append((found.start(), f"{field}[{index}]: {line}"))
    return ", ".join(text for _, text in sorted(named)[:3])


def hide_credentials(text: str) -> str:
    """The text with the user part of its URLs taken out."""
    return re.sub(r"(?<=://)[^/@\s]+@", "", text)


def _chosen(entry: Mapping[str, Any], ranks: Mapping[Tag, int], target: Target) -> Package:
    """The wheel that fits best, else the source distribution."""
    name, version = canonicalize_name(entry["name"]), str(entry.get("version", ""))
    fitting = []
    for wheel in entry.get("wheels", ()):
        file_name = _file_name(wheel)
        try:
            _, _, build, tags = parse_wheel_filename(file_name)
        except InvalidWheelFilename:
            continue
        if known := [ranks[tag] for tag in tags if tag in ranks]:
            # Of equal tags the higher build number wins, as with pip.
            fitting.append((min(known), -build[0] if build else 0, file_name, wheel))
    if fitting:
        _, _, file_name, wheel = min(fitting, key=lambda one: one[:3])
        tag = "-".join(file_name.removesuffix(".whl").split("-")[2:])
        return _package(name, version, tag, wheel, source=False)
    archive = entry.get("sdist") or entry.get("archive")
    if archive is None:
        kind = next((key for key in ("vcs", "directory") if key in entry), "")
        raise BuildFailed(
            "SourceOnlyPackage" if kind else "PipUnsatisfiable",
            f"{name} {version}: {'a ' + kind + ' requirement cannot be pinned by content' if kind else 'no file'} "
            f"that fits Python {target.python} on {target.platform}; publish it as a wheel",
        )
    return _package(name, version, "source", archive, source=True)


def _package(name: str, version: str, build: str, file: Mapping[str, Any], *, source: bool) -> Package:
    digest = file.get("hashes", {}).get("sha256")
    if not digest or not file.get("url"):
        raise BuildFailed(
            "HashMissing",
            f"{name} {version}: the index gives no sha256 or no URL for {_file_name(file)}; use an index that does",
        )
    # The simple API may hang anything on a URL; the fragment repeats the hash.
    url = urlunsplit(urlsplit(hide_credentials(file["url"]))._replace(fragment=""))
    size = int(file.get("size") or 0)
    return Package(
        kind="pypi", name=name, version=version, build=build, sha256=digest, url=url, size=size, source=source
    )


def _file_name(file: Mapping[str, Any]) -> str:
    return str(file.get("name") or unquote(urlsplit(file.get("url", "")).path.rpartition("/")[2]))
