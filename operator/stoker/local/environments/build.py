"""From a lock to an environment: made at its place, because conda writes its path into files, and whole once it is marked."""

import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

from stoker.local.environments import cache, uv
from stoker.local.environments.lock import LocalLock
from stoker.local.environments.solve import flags, lines

Say = Callable[[str], None]
_MOST_NAMES = 6


def build(lock: LocalLock, environment: Path, options: Sequence[str], say: Say, *, quiet: bool = False) -> None:
    """Make the environment of a lock; the caller holds its place. options: lines of a requirements file that say where
    packages come from. Raises PackagesNotInstalled, and leaves nothing behind then."""
    # Of a process that was killed: its marker is missing.
    cache.remove(environment)
    environment.parent.mkdir(parents=True, exist_ok=True)
    try:
        if lock.conda:
            from stoker.local.environments import conda

            say(f"installing {words(lock, 'conda')} from conda channels")
            conda.install(lock.conda, environment)
        with tempfile.TemporaryDirectory(prefix="stoker-install-") as work:
            if not lock.conda:
                # No seed: what the definition does not name is not there in a cluster either.
                uv.run(["venv", "--no-project", "--python", lock.python, str(environment)], Path(work), "make a venv")
            if lock.requirements:
                say(f"installing {words(lock, 'pypi')} with uv")
                _install_pip(lock, environment, options, Path(work), shows=not quiet)
        cache.complete(environment, lock)
    except BaseException:
        cache.remove(environment)
        raise


def _install_pip(lock: LocalLock, environment: Path, options: Sequence[str], work: Path, *, shows: bool) -> None:
    listed = work / "requirements.txt"
    listed.write_text("\n".join(lines(options)) + "\n" + lock.requirements, encoding="utf-8")
    # Hard links into uv's cache are its default and keep an environment small; its files are never written by us.
    command = ["pip", "install", "--python", str(cache.python_in(environment)), "--no-deps", *flags(options)]
    if lock.conda:
        # Conda marks its Python as one that others should leave alone; this one is ours alone.
        command.append("--break-system-packages")
    uv.run([*command, "-r", str(listed)], work, "install the packages", shows=shows)


def words(lock: LocalLock, kind: str) -> str:
    """The packages of one kind, for people: names and versions, cut when many."""
    named = [f"{pin.name}=={pin.version}" for pin in lock.packages if pin.kind == kind]
    more = len(named) - _MOST_NAMES
    return ", ".join(named[:_MOST_NAMES]) + (f" and {more} more" if more > 0 else "")
