"""The command line in a folder of its own, and packages made on the spot."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.cli import Cli
from tests.support.packages import Channel, served, wheel


@pytest.fixture
def cli(tmp_path: Path) -> Cli:
    """`stoker` in an empty folder with an empty cache."""
    folder, cache = tmp_path / "project", tmp_path / "cache"
    folder.mkdir()
    cache.mkdir()
    return Cli(folder, cache)


@pytest.fixture
def wheels(tmp_path: Path) -> Path:
    """A folder with one tiny wheel, `stokertiny` 1.0."""
    folder = tmp_path / "wheels"
    wheel(
        folder,
        "stokertiny",
        "1.0",
        {"stokertiny.py": "VALUE = 42\ndef main():\n    print(VALUE)\n"},
        script="stokertiny:main",
    )
    return folder


@pytest.fixture
def offline(cli: Cli, wheels: Path) -> Cli:
    """A project that needs the wheel."""
    cli.env = {"UV_OFFLINE": "1"}
    cli.write(
        requirements__txt=f"--no-index\n--find-links {wheels}\nstokertiny==1.0\n",
        train__py="import stokertiny, sys\nprint(stokertiny.VALUE, sys.prefix)\n",
    )
    return cli


@pytest.fixture
def channel(tmp_path: Path) -> Channel:
    """A conda channel with this machine's Python and `stokerconda` 1.0 and 2.0."""
    channel = Channel(tmp_path / "channel")
    channel.add_python()
    channel.add_module("stokerconda", "1.0")
    channel.add_module("stokerconda", "2.0")
    channel.index()
    return channel


@pytest.fixture
def served_channel(channel: Channel) -> Iterator[tuple[str, list[str]]]:
    """The channel's URL on loopback, and what was asked of it."""
    with served(channel.folder) as found:
        yield found


@pytest.fixture
def conda(cli: Cli, served_channel: tuple[str, list[str]], wheels: Path) -> Cli:
    """A project with a conda file: a conda package, and a pip section."""
    cli.env = {"UV_NO_INDEX": "1", "UV_FIND_LINKS": str(wheels), "RATTLER_CACHE_DIR": str(cli.cache / "rattler")}
    cli.write(
        conda__yaml=f"channels: [{served_channel[0]}]\ndependencies: [stokerconda, pip: [stokertiny==1.0]]\n",
        train__py="import stokerconda, stokertiny, sys\nprint(stokerconda.VERSION, stokertiny.VALUE, sys.prefix)\n",
    )
    return cli
