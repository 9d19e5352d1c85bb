"""What the environment of a former run had in it, as far as this machine still knows."""

from pathlib import Path

from stoker.core.environment.keys import short
from stoker.local.environments import cache, lock


def locked(definition_key: str, lock_key: str) -> dict[str, str] | None:
    """Version by name of the packages of an environment; None where this machine does not know it any more."""
    if not definition_key or not lock_key:
        return None
    place = cache.folder() / short(definition_key)
    files = [place / short(lock_key) / cache.MARKER, *place.glob("lock-*.json")]
    found = next((one for file in files if (one := _read(file)) is not None and one.key == lock_key), None)
    return {one.name: one.version for one in found.packages} if found is not None else None


def _read(file: Path) -> lock.LocalLock | None:
    try:
        return lock.decode(file.read_bytes())
    except (OSError, lock.LockUnreadable):
        return None
