"""The conda part: solved and linked by rattler, with the user's own proxies and credentials."""

import asyncio
import os
import tempfile
from collections.abc import Coroutine, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from stoker.local.environments.lock import Pin
from stoker.local.environments.uv import PackagesNotInstalled

if TYPE_CHECKING:
    from rattler import RepoDataRecord

T = TypeVar("T")
_ALIAS = "CONDA_CHANNEL_ALIAS"
_ENVIRONMENT = "default"


def solve(channels: Sequence[str], specs: Sequence[str]) -> "list[RepoDataRecord]":
    """The packages that meet the specs on this machine; raises PackagesNotInstalled in the solver's words.

    A channel by name is looked for where conda would: below CONDA_CHANNEL_ALIAS, else https://conda.anaconda.org.
    """
    import rattler
    from rattler.exceptions import (
        FetchRepoDataError,
        GatewayError,
        InvalidChannelError,
        InvalidMatchSpecError,
        SolverError,
    )

    alias = os.environ.get(_ALIAS, "")
    config = rattler.ChannelConfig(channel_alias=alias.rstrip("/") + "/") if alias else rattler.ChannelConfig()
    try:
        # Strict parsing refuses what conda files have every day, such as python=3.11.*.
        wanted = [rattler.MatchSpec(spec, strict=False) for spec in specs]
        sources = [rattler.Channel(name, config) for name in channels]
        return _run(
            rattler.solve(
                sources, wanted, gateway=rattler.Gateway(client=rattler.Client.default_client()),
                virtual_packages=rattler.VirtualPackage.detect(),
            )
        )  # fmt: skip
    except SolverError as error:
        raise PackagesNotInstalled(
            f"environment: no set of conda packages meets all of conda.dependencies; change one of them:\n{error}"
        ) from error
    except (InvalidMatchSpecError, InvalidChannelError) as error:
        raise PackagesNotInstalled(f"environment: conda.dependencies or conda.channels: {error}") from error
    except (GatewayError, FetchRepoDataError, OSError) as error:
        raise PackagesNotInstalled(
            f"environment: conda channel {', '.join(channels)} could not be read ({error}); check its name and the "
            f"network, or set {_ALIAS} to a mirror"
        ) from error


def install(locked: str, prefix: Path) -> None:
    """Make `prefix` of a lock's packages. The path is written into them: it can never move. Raises PackagesNotInstalled."""
    import rattler
    from rattler.exceptions import ExtractError, InstallerError, IoError, LinkError, TransactionError

    try:
        _run(
            rattler.install(
                _records(locked), prefix, client=rattler.Client.default_client(), show_progress=False,
                # What conda itself does; an image is made by the same scripts.
                execute_link_scripts=True,
            )
        )  # fmt: skip
    except (InstallerError, ExtractError, LinkError, TransactionError, IoError, OSError) as error:
        raise PackagesNotInstalled(f"environment: conda packages could not be installed: {error}") from error


def pins(records: "Sequence[RepoDataRecord]") -> tuple[Pin, ...]:
    """What is chosen, for people and for the lock's key."""
    found = [
        Pin(
            kind="conda", name=one.name.normalized, version=str(one.version), build=str(one.build),
            sha256=one.sha256.hex() if one.sha256 else "",
        )
        for one in records
    ]  # fmt: skip
    return tuple(sorted(found, key=lambda pin: pin.name))


def distributions(records: "Sequence[RepoDataRecord]") -> tuple[Pin, ...]:
    """What pip finds of the packages once they are installed. Raises PackagesNotInstalled."""
    from stoker.images.distributions import brought

    try:
        found = _run(brought(records))
    except OSError as error:
        raise PackagesNotInstalled(f"environment: conda package {error}") from error
    return tuple(Pin(kind="conda", name=name, version=version) for name, version in sorted(found.items()))


def locked(records: "Sequence[RepoDataRecord]", channels: Sequence[str]) -> str:
    """The text of a rattler lock file."""
    import rattler

    platform = rattler.LockPlatform(str(rattler.Subdir.current()))
    lock = rattler.LockFile([platform])
    lock.set_channels(_ENVIRONMENT, [rattler.LockChannel(one) for one in channels])
    for record in records:
        lock.add_conda_package(_ENVIRONMENT, platform, record)
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder, "conda.lock")
        lock.to_path(place)
        return place.read_text(encoding="utf-8")


def _records(locked: str) -> "list[RepoDataRecord]":
    import rattler

    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder, "conda.lock")
        place.write_text(locked, encoding="utf-8")
        lock = rattler.LockFile.from_path(place)
    environment = lock.environment(_ENVIRONMENT)
    assert environment is not None
    return [
        record
        for platform in lock.platforms()
        for record in environment.conda_repodata_records_for_platform(platform) or ()
    ]


def _run(work: Coroutine[Any, Any, T]) -> T:
    return asyncio.run(work)
