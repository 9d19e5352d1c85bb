"""What a workspace's store tells of the use of images: when each was last used, and which of them stored runs name."""

import asyncio
import json
from collections.abc import Iterable

from stoker.core.environment.needed import words_in
from stoker.core.environment.stored import ENVIRONMENTS
from stoker.storage import layout, records
from stoker.storage.objects import ObjectStore

#: Requests under way at once.
_AT_A_TIME = 16


async def last_uses(store: ObjectStore) -> dict[str, float]:
    """A digest or a specKey in hex -> when something last spoke of its use (seconds since the epoch): a job, its build's log."""
    found: dict[str, float] = {}
    async for one in store.list(ENVIRONMENTS):
        if word := layout.used_word(one.key):
            found[word] = max(found.get(word, 0.0), one.modified)
    return found


async def note(store: ObjectStore, digest: str, by: str) -> None:
    """The image is used now. by: who says so, for people who look."""
    await store.put(layout.used(digest), json.dumps({"digest": digest, "by": by}).encode() + b"\n")


async def note_all(store: ObjectStore, digests: Iterable[str], by: str) -> None:
    """The same of many."""
    queue = iter(tuple(digests))

    async def work() -> None:
        for digest in queue:
            await note(store, digest, by)

    await asyncio.gather(*(work() for _ in range(_AT_A_TIME)))


async def forget(store: ObjectStore, digests: Iterable[str]) -> None:
    """There are no such images any more."""
    await store.delete([layout.used(digest) for digest in digests])


async def words_of_runs(store: ObjectStore) -> dict[str, frozenset[str]]:
    """Key of each stored run -> the keys and digests that its record names, in hex. Raises StoreError, BadRecord for a record
    that cannot be read: what it names is not known."""
    queue = iter(await records.job_keys(store))

    async def work() -> list[tuple[str, frozenset[str]]]:
        return [(key, await _words(store, key)) for key in queue]

    return dict(one for many in await asyncio.gather(*(work() for _ in range(_AT_A_TIME))) for one in many)


async def _words(store: ObjectStore, key: str) -> frozenset[str]:
    content = await store.get(layout.job_record(key))
    if content is None:
        return frozenset()
    try:
        json.loads(content)
    except ValueError as error:
        path = layout.job_record(key)
        raise records.BadRecord(
            f"{store.url}: {path} cannot be read, so what it names is not known: {error}"
        ) from error
    return words_in(content.decode())
