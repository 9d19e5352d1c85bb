"""Environments of the cache that nobody used for a while, and their removal.

Locks stay: an environment that is wanted again is made of the very packages it had.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from stoker.local.environments import cache
from stoker.local.locks import try_lock

#: How long an environment is kept that nobody uses, in days, when nobody says otherwise.
DAYS = 30.0
_DAY_SECONDS = 86400.0


@dataclass(frozen=True)
class Unused:
    """An environment that may go. size: bytes that its removal frees: what it shares with a cache of packages by hard
    links stays. used: when it was last used, seconds since the epoch. whole: no build was cut off."""

    path: Path
    size: int
    used: float
    whole: bool

    @property
    def name(self) -> str:
        """For people: where it lies below stoker's folder in the user's cache directory, long names cut."""
        return "/".join(part[:12] for part in self.path.relative_to(cache.folder().parent).parts)

    def reason(self, now: float) -> str:
        """Why it may go."""
        if not self.whole:
            return "its build was cut off"
        return f"not used for {(now - self.used) / _DAY_SECONDS:.0f} days"


def unused(now: float, days: float) -> list[Unused]:
    """What nobody used for so many days, oldest first, and what killed builds left; nothing that is in use or being made."""
    found = [
        Unused(path, _freed(path), used, whole)
        for path, used, whole in _environments()
        if (not whole or now - used >= days * _DAY_SECONDS) and _is_free(path)
    ]
    return sorted(found, key=lambda one: (one.used, one.name))


def remove(one: Unused) -> bool:
    """Remove it, unless somebody came to use it meanwhile: False then. Raises OSError."""
    if one.path.parent.parent != cache.folder():
        cache.remove(one.path)
        return True
    with _held(one.path) as held:
        if not held or not cache.is_idle(one.path) or _used(one.path) > one.used:
            return False
        cache.remove(one.path)
    return True


def _environments() -> Iterator[tuple[Path, float, bool]]:
    """Each environment, when it was last used, and whether it is whole."""
    for path in sorted(cache.folder().glob("*/*")):
        # What a removal that was cut off has renamed begins with a dot.
        if path.is_dir():
            yield path, _used(path), not path.name.startswith(".") and (path / cache.MARKER).is_file()
    # Venvs of earlier versions of Stoker, which are not used any more; their own time is that of their last use.
    for path in sorted((cache.folder().parent / "venvs").glob("*")):
        if (path / "pyvenv.cfg").is_file():
            yield path, path.stat().st_mtime, True


def _used(path: Path) -> float:
    marker = path / cache.MARKER
    try:
        return (marker if marker.exists() else path).stat().st_mtime
    except FileNotFoundError:
        return 0.0


def _is_free(path: Path) -> bool:
    if path.parent.parent != cache.folder():
        return True
    with _held(path) as held:
        return held and cache.is_idle(path)


@contextmanager
def _held(path: Path) -> Iterator[bool]:
    """With the lock of an environment's definition; False while another has it."""
    with path.parent.with_name(f"{path.parent.name}.lock").open("a+b") as file:
        yield try_lock(file.fileno(), wait=False)


def _freed(path: Path) -> int:
    """Bytes of the files that have no other name."""
    total = 0
    for base, _, names in os.walk(path):
        for name in names:
            status = os.lstat(os.path.join(base, name))
            total += status.st_size if status.st_nlink == 1 else 0
    return total
