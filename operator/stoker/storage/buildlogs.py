"""The logs of a build's tries, as they are stored."""

from dataclasses import dataclass

from stoker.storage import layout
from stoker.storage.objects import ObjectStore, Stored


@dataclass(frozen=True, slots=True)
class TryLog:
    """key: where it lies. size: in bytes. began: when the try began (RFC 3339); empty where it is not known (yet)."""

    key: str
    size: int
    began: str


async def tries(store: ObjectStore, spec_key: str) -> tuple[TryLog, ...]:
    """Oldest first; raises LayoutError. The newest one's log is copied to one place while it runs, and to a place of its
    own once it has ended: until then its content tells that it is another one than the last of these."""
    ended = sorted([one async for one in store.list(layout.try_logs(spec_key))], key=lambda one: one.key)
    found = [TryLog(one.key, one.size, layout.began_of(one.key)) for one in ended]
    newest = await store.head(layout.build_log(spec_key))
    if newest is not None and not (ended and await _same(store, ended[-1], newest)):
        found.append(TryLog(newest.key, newest.size, ""))
    return tuple(found)


async def _same(store: ObjectStore, one: Stored, other: Stored) -> bool:
    return one.size == other.size and await store.get(one.key) == await store.get(other.key)
