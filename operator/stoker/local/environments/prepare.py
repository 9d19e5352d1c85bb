"""What a command runs in on this machine: this Python, an environment of the cache, or one that is made now."""

import os
import sys
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path

from stoker.local.environments import cache, machine
from stoker.local.environments.build import build
from stoker.local.environments.cache import Place
from stoker.local.environments.lock import LocalLock
from stoker.local.environments.solve import solve
from stoker.local.environments.wanted import Wanted, python_fits
from stoker.local.interpreter import Interpreter, this_python

Say = Callable[[str], None]


@dataclass(frozen=True)
class Ready:
    """What there is to run in. detail: how it came about, for the plan. definition_key, lock_key: hex, empty for the
    Python that runs stoker. source: system, cache, or built. place: the environment's folder."""

    interpreter: Interpreter
    detail: str
    source: str
    definition_key: str = ""
    lock_key: str = ""
    place: Path | None = None

    def in_use(self) -> AbstractContextManager[None]:
        """While inside, `stoker gc` leaves it alone."""
        return cache.in_use(self.place) if self.place is not None else nullcontext()

    @property
    def record(self) -> dict[str, str]:
        """What job.json says of it; a key that there is none of is left out."""
        told = {"definitionKey": self.definition_key, "lockKey": self.lock_key, "source": self.source}
        return {name: text for name, text in told.items() if text}


def find(wanted: Wanted) -> Ready | None:
    """What is there without anything being solved or installed; None when something has to be made."""
    if wanted.system:
        return Ready(this_python(), "system", "system", wanted.key)
    if this_python_serves(wanted):
        count = len(wanted.pip)
        said = f"has the {count} package{'s' * (count != 1)}, nothing is installed" if count else "nothing is needed"
        return Ready(this_python(), said, "system", wanted.key)
    return _hit(wanted, _place(wanted))


def prepare(wanted: Wanted, say: Say, *, fresh: bool = False, quiet: bool = False) -> Ready:
    """What there is to run in; solved and installed into the user's cache when there is none.

    fresh: have the packages chosen anew. say: takes one line of progress. Raises PackagesNotInstalled and BadInput.
    """
    if (not fresh or wanted.system) and (found := find(wanted)):
        return found
    place = _place(wanted)
    with place.held(say):
        if not fresh and (found := _hit(wanted, place)):
            return found
        begun = time.monotonic()
        lock = None if fresh else _known(wanted, place)
        solved = ""
        if lock is None:
            lock = solve(wanted, place.machine, say)
            place.write(lock)
            solved = f"solved in {time.monotonic() - begun:.1f} s, "
        environment = place.environment(lock)
        if cache.is_whole(environment):
            return _ready(wanted, lock, environment, f"{solved}the same as before", "cache")
        begun = time.monotonic()
        build(lock, environment, wanted.options, say, quiet=quiet)
        return _ready(wanted, lock, environment, f"{solved}built in {time.monotonic() - begun:.1f} s", "built")


def this_python_serves(wanted: Wanted) -> bool:
    """Whether the Python that runs stoker has all that is wanted: only asked where pip alone is."""
    from stoker.runtime import packages

    # Versions are compared and files are not: who names hashes or constraints wants more than that.
    if wanted.needs_conda or wanted.constraints or any("--hash" in line for line in wanted.pip):
        return False
    return python_fits(wanted.python) and not packages.missing(list(wanted.pip))


def _place(wanted: Wanted) -> Place:
    clause = "" if wanted.needs_conda or python_fits(wanted.python) else wanted.python
    return Place(wanted.key, machine.name(wanted.needs_conda, clause, wanted.folders))


def _known(wanted: Wanted, place: Place) -> LocalLock | None:
    """The lock that holds: solved for this `refresh`, and of a Python that is still there."""
    lock = place.read()
    if lock is None or lock.refresh != wanted.refresh:
        return None
    return lock if lock.conda or Path(lock.python).exists() else None


def _hit(wanted: Wanted, place: Place) -> Ready | None:
    lock = _known(wanted, place)
    if lock is None or not cache.is_whole(environment := place.environment(lock)):
        return None
    return _ready(wanted, lock, environment, "found in the cache", "cache")


def _ready(wanted: Wanted, lock: LocalLock, environment: Path, detail: str, source: str) -> Ready:
    cache.used(environment)
    return Ready(
        _interpreter(lock, environment), f"{lock.folder[:8]} {detail}", source, wanted.key, lock.key, environment
    )


def _interpreter(lock: LocalLock, environment: Path) -> Interpreter:
    python = cache.python_in(environment)
    count = len(lock.packages)
    words = f"environment of {count} package{'s' * (count != 1)}"
    if not lock.conda:
        return Interpreter(python, (python.parent,), words, {"VIRTUAL_ENV": str(environment)})
    if not cache.has_python(environment):
        python, words = Path(sys.executable), f"{words}, with the Python that runs stoker"
    return Interpreter(python, _conda_folders(environment), words, {"CONDA_PREFIX": str(environment)})


def _conda_folders(prefix: Path) -> tuple[Path, ...]:
    """What conda puts on PATH."""
    if os.name != "nt":
        return (prefix / "bin",)
    library = prefix / "Library"
    return (
        prefix, library / "mingw-w64" / "bin", library / "usr" / "bin", library / "bin", prefix / "Scripts",
    )  # fmt: skip
