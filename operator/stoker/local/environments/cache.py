"""Where environments lie: `<cache>/environments/<definition>/<lock>`, and beside them the locks.

<definition>/lock-<machine>.json   what was chosen, so that it stays what it was
<definition>/<lock>/               an environment; whole when it has its marker, which is written last
<definition>.lock                  held by whoever makes or removes something in it
"""

import contextlib
import os
import shutil
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from stoker.core.environment.keys import short
from stoker.local.environments import lock as locks
from stoker.local.environments import machine
from stoker.local.locks import try_lock

#: In an environment's folder: its lock, and by its time the last use.
MARKER = "stoker-environment.json"
#: Takes one line of progress.
Say = Callable[[str], None]


def folder() -> Path:
    """The folder of all environments, in the user's cache directory."""
    from stoker.storage.hashing import cache_folder

    return cache_folder().parent / "environments"


@dataclass(frozen=True)
class Place:
    """Where the environments of one definition lie. key: hex. machine: as `machine.name` says."""

    key: str
    machine: str

    @property
    def folder(self) -> Path:
        return folder() / short(self.key)

    def environment(self, lock: locks.LocalLock) -> Path:
        return self.folder / lock.folder

    def read(self) -> locks.LocalLock | None:
        """What was chosen for this machine; None when nothing was, or another version of Stoker cannot be read."""
        try:
            found = locks.decode(self._file.read_bytes())
        except (OSError, locks.LockUnreadable):
            return None
        # 8 digits name the machine, the whole of it is compared.
        return found if found.machine == self.machine and found.definition_key == self.key else None

    def write(self, lock: locks.LocalLock) -> None:
        """Replace what was chosen."""
        self.folder.mkdir(parents=True, exist_ok=True)
        _put(self._file, locks.encode(lock))

    @property
    def _file(self) -> Path:
        return self.folder / f"lock-{machine.short(self.machine)}.json"

    @contextlib.contextmanager
    def held(self, waiting: Say) -> Iterator[None]:
        """Held by one process at a time; the system frees it when its holder dies. waiting: told before a wait."""
        self.folder.parent.mkdir(parents=True, exist_ok=True)
        with self.folder.with_name(f"{self.folder.name}.lock").open("a+b") as file:
            if not try_lock(file.fileno(), wait=False):
                waiting("another stoker makes the same environment: waiting for it")
                try_lock(file.fileno(), wait=True)
            yield


def is_whole(environment: Path) -> bool:
    """Whether an environment is there to its last file, and its Python still exists."""
    if not (environment / MARKER).is_file():
        return False
    return runs(environment) or (is_conda(environment) and not has_python(environment))


def has_python(environment: Path) -> bool:
    """Whether the environment was made with a Python: a link counts also when what it leads to is gone."""
    return os.path.lexists(python_in(environment))


def runs(environment: Path) -> bool:
    """Whether its Python is there: a venv's is a link to one outside, which may have been removed."""
    return python_in(environment).exists()


def python_in(environment: Path) -> Path:
    """The environment's interpreter, of a venv or of conda."""
    if sys.platform != "win32":
        return environment / "bin" / "python"
    return environment / "python.exe" if is_conda(environment) else environment / "Scripts" / "python.exe"


def is_conda(environment: Path) -> bool:
    """Whether conda packages made it."""
    return (environment / "conda-meta").is_dir()


def complete(environment: Path, lock: locks.LocalLock) -> None:
    """Say that the environment is whole."""
    _put(environment / MARKER, locks.encode(lock))


def used(environment: Path) -> None:
    """Note a use: what `stoker gc` goes by."""
    with contextlib.suppress(OSError):
        os.utime(environment / MARKER)


@contextlib.contextmanager
def in_use(environment: Path) -> Iterator[None]:
    """While inside, `is_idle` says no. On Windows one user can say so, and files that run cannot be removed anyway."""
    with _use_file(environment).open("a+b") as file:
        try_lock(file.fileno(), wait=False, shared=True)
        yield


def is_idle(environment: Path) -> bool:
    """Whether no run of this machine uses the environment now."""
    try:
        with _use_file(environment).open("a+b") as file:
            return try_lock(file.fileno(), wait=False)
    except OSError:
        return False


def _use_file(environment: Path) -> Path:
    return environment.with_name(f"{environment.name}.use")


def remove(environment: Path) -> None:
    """Remove an environment, whole or not; raises OSError when something of it stays."""
    if not environment.exists():
        return
    # First under another name: what is half removed must never be taken for whole, and Windows refuses this while it runs.
    going = environment.with_name(f".{environment.name}.{os.getpid()}")
    environment.rename(going)
    shutil.rmtree(going)


def _put(place: Path, content: bytes) -> None:
    incoming = place.with_name(f".{place.name}.{os.getpid()}")
    incoming.write_bytes(content)
    incoming.replace(place)
