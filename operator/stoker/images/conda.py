"""Solves conda's part of an environment with py-rattler."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

from rattler import Channel, Gateway, GenericVirtualPackage, MatchSpec, PackageName, RepoDataRecord, Subdir
from rattler import Version as CondaVersion
from rattler import solve as rattler_solve
from rattler.exceptions import GatewayError, SolverError
from rattler.package import BuildString

from stoker.core.environment.lock import Package
from stoker.images import distributions
from stoker.images.failure import BuildFailed
from stoker.images.pip import hide_credentials

SUBDIRS = {"linux/amd64": "linux-64", "linux/arm64": "linux-aarch64"}
_ARCHITECTURES = {"linux/amd64": "x86_64", "linux/arm64": "aarch64"}
#: Conda asks for some kernel; nodes run newer ones than any package asks for.
_KERNEL = "5.10"


@dataclass(frozen=True, slots=True)
class CondaSolution:
    """records: by name. python: full version of the interpreter among them, empty without one."""

    records: Mapping[str, RepoDataRecord]
    packages: tuple[Package, ...]
    python: str


class Channels:
    """A definition's channels and where a Workspace has them served instead."""

    def __init__(self, names: Sequence[str], mirrors: Mapping[str, str]) -> None:
        self.names = tuple(names)
        self._mirrored = [(name, self._mirror(name, mirrors).rstrip("/")) for name in names]

    @staticmethod
    def _mirror(name: str, mirrors: Mapping[str, str]) -> str:
        for spelling in (name, name.rstrip("/"), f"{name.rstrip('/')}/", Channel(name).base_url.rstrip("/")):
            if spelling in mirrors:
                return mirrors[spelling]
        return Channel(name).base_url

    @property
    def sources(self) -> list[Channel]:
        return [Channel(url) for _, url in self._mirrored]

    def canonical(self, url: str) -> str:
        """A package's URL as if no mirror were between: what a lock says does not depend on who serves it."""
        url = hide_credentials(url)
        for name, served in self._mirrored:
            hidden = hide_credentials(served)
            if url.startswith(f"{hidden}/"):
                return hide_credentials(Channel(name).base_url.rstrip("/")) + url.removeprefix(hidden)
        return url

    def where(self, words: str) -> str:
        """The channel of which an error speaks."""
        for index, (name, served) in enumerate(self._mirrored):
            if served in words:
                return f"conda.channels[{index}]: {hide_credentials(name)}"
        return ""


async def solve(
    dependencies: Sequence[str],
    channels: Channels,
    platform: str,
    glibc: tuple[int, int],
    scratch: Path,
    *,
    cuda: str = "",
) -> CondaSolution:
    """Raises BuildFailed. cuda: version that the base promises, empty for none."""
    if platform not in SUBDIRS:
        raise BuildFailed("PlatformUnsupported", f"{platform}: conda environments are made for {' and '.join(SUBDIRS)}")
    try:
        records = await rattler_solve(
            channels.sources,
            [MatchSpec(text, strict=False) for text in dependencies],
            gateway=Gateway(cache_dir=scratch / "repodata"),
            platforms=[Subdir(SUBDIRS[platform]), Subdir("noarch")],
            virtual_packages=_virtual(platform, glibc, cuda),
        )
    except (SolverError, GatewayError) as error:
        raise failure(error, dependencies, channels) from error
    by_name = {record.name.normalized: record for record in records}
    packages = tuple(_package(record, channels) for _, record in sorted(by_name.items()))
    python = by_name.get("python")
    return CondaSolution(by_name, packages, str(python.version) if python is not None else "")


async def provided(solution: CondaSolution, channels: Channels) -> dict[str, str]:
    """The Python distributions that the packages bring: PEP 503 name -> version. Raises BuildFailed."""
    try:
        return await distributions.brought(solution.records.values())
    except OSError as error:
        raise failure(GatewayError(str(error)), (), channels) from error


def failure(error: Exception, dependencies: Sequence[str], channels: Channels) -> BuildFailed:
    """What rattler's words mean."""
    words = hide_credentials(str(error)).removeprefix("Cannot solve the request because of: ").strip()
    if isinstance(error, GatewayError):
        place = channels.where(str(error))
        if re.search(r"\b404\b|could not find subdir", words):
            return BuildFailed("ChannelNotFound", f"{words}; check the channel's name", where=place)
        if re.search(r"\b(401|403)\b", words):
            fix = "put its credentials into the Secret that the Workspace's mirrors.secretRef names"
            return BuildFailed("IndexUnauthorized", f"{words}; {fix}", where=place)
        return BuildFailed("IndexUnreachable", words, where=place, transient=True)
    if found := re.fullmatch(r"No candidates were found for (\S+) \*\.?", words):
        searched = ", ".join(map(hide_credentials, channels.names))
        message = f"no channel of this definition has {found[1]} for this platform; searched: {searched}"
        return BuildFailed("PackageNotFound", message, where=where(words, dependencies))
    return BuildFailed("CondaUnsatisfiable", words, where=where(words, dependencies))


def where(words: str, dependencies: Sequence[str]) -> str:
    """The lines of the user's list whose packages the words name, at most three."""
    named = []
    for index, text in enumerate(dependencies):
        name = MatchSpec(text, strict=False).name
        if name is None:
            continue
        if found := re.search(rf"(?<![\w.-]){re.escape(str(getattr(name, 'normalized', name)))}(?![\w-])", words):
            named.append((found.start(), f"conda.dependencies[{index}]: {text}"))
    return ", ".join(text for _, text in sorted(named)[:3])


def _virtual(platform: str, glibc: tuple[int, int], cuda: str) -> list[GenericVirtualPackage]:
    """What the system brings: of the base and the platform, never of the machine that solves."""
    found = {
        "__unix": ("0", "0"),
        "__linux": (_KERNEL, "0"),
        "__glibc": (".".join(map(str, glibc)), "0"),
        "__archspec": ("1", _ARCHITECTURES[platform]),
    }
    if cuda:
        found["__cuda"] = (cuda, "0")
    return [
        GenericVirtualPackage(PackageName(name), CondaVersion(version), BuildString(build))
        for name, (version, build) in found.items()
    ]


def _package(record: RepoDataRecord, channels: Channels) -> Package:
    if not record.sha256:
        raise BuildFailed("HashMissing", f"{record.name.normalized}: its channel gives no sha256; use one that does")
    url = channels.canonical(str(record.url))
    return Package(
        kind="conda",
        name=record.name.normalized,
        version=str(record.version),
        build=str(record.build),
        sha256=record.sha256.hex(),
        url=urlunsplit(urlsplit(url)._replace(fragment="")),
        size=int(record.size or 0),
    )
