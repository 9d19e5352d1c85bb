"""Runs and snapshots taken out of a store, in an order that a kill at any point leaves mendable.

A run: a note that it is being removed, what its ranks left, job.json, result.json, the note. (What is left alone does not
tell: a job that ended before it began has a result and no job.json.) A snapshot: the manifest, then the zip, so that what
is left does not count as stored and the next push completes it.
"""

import asyncio
import json
import re
from collections.abc import Iterable
from dataclasses import dataclass, replace

from stoker.core.retention import Plan, Policy, Run, Snapshot, is_young, plan
from stoker.core.times import seconds
from stoker.storage import layout, records
from stoker.storage.objects import ObjectStore, StoreError

#: Reads under way at once.
_AT_A_TIME = 16
#: A rank's last words may come while we remove: so often is the list read again.
_ROUNDS = 3
_DIGEST = re.compile(rb"sha256:[0-9a-f]{64}")
_SNAPSHOT = re.compile(re.escape(layout.SNAPSHOTS) + r"(?P<hex>[0-9a-f]{64})\.(?:zip|manifest)\Z")


@dataclass(frozen=True, slots=True)
class Removed:
    """What was removed of a run. size: bytes. uploads: unfinished ones that were aborted, None where the store could not
    be asked for them."""

    key: str
    objects: int
    size: int
    uploads: int | None


@dataclass(frozen=True, slots=True)
class Contents:
    """What a store holds. namespaces: of the runs that a cluster ran."""

    runs: tuple[Run, ...]
    snapshots: tuple[Snapshot, ...]
    namespaces: frozenset[str] = frozenset()


async def contents(store: ObjectStore) -> Contents:
    """Every run and snapshot of a store."""
    # Snapshots first: one that is pushed in between is not among them, and a run that is made in between is.
    snapshots = await stored_snapshots(store)
    queue = iter(await records.job_keys(store))

    async def work() -> list[tuple[Run, str | None]]:
        return [found for key in queue if (found := await run_of(store, key)) is not None]

    found = [one for many in await asyncio.gather(*(work() for _ in range(_AT_A_TIME))) for one in many]
    runs = tuple(sorted((run for run, _ in found), key=lambda run: run.key))
    return Contents(runs, snapshots, frozenset(place for _, place in found if place is not None))


async def run_of(store: ObjectStore, key: str) -> tuple[Run, str | None] | None:
    """A run as it is stored, and the namespace of the cluster that ran it; None when the key holds nothing that tells of a run."""
    job = await store.get(layout.job_record(key))
    result = await store.get(layout.job_result(key))
    removing = await store.head(layout.job_removing(key)) is not None
    if job is None and result is None and not removing:
        return None
    run = Run(key, finished_at=_finished_at(result, key), removing=removing)
    if job is None:
        return run, None  # it ended before it began, or its removal was cut off: it names nothing
    run = replace(run, snapshots=digests_in(job), readable=_is_json(job))
    try:
        record = records.decode(job, records.JobRecord, layout.job_record(key))
    except records.BadRecord:
        return replace(run, finished_at=None), None  # whose it is, and of which experiment, nobody knows
    return replace(run, experiment=record.get("experiment")), record["namespace"] if _is_clusters(record) else None


def _is_clusters(record: records.JobRecord) -> bool:
    return record["compute"] != "local"


def _finished_at(result: bytes | None, key: str) -> float | None:
    """When a run finished; None when it has not, or when nobody can read it."""
    if result is None:
        return None
    try:
        return seconds(records.decode(result, records.ResultRecord, layout.job_result(key))["finishedAt"])
    except records.BadRecord:
        return None


def _is_json(content: bytes) -> bool:
    try:
        json.loads(content)
    except ValueError:
        return False
    return True


def digests_in(content: bytes) -> frozenset[str]:
    """Every digest that a record or an object names, as code or as an input; too many do no harm."""
    return frozenset(found.decode() for found in _DIGEST.findall(content))


async def stored_snapshots(store: ObjectStore) -> tuple[Snapshot, ...]:
    """The snapshots of a store, also those of which only a part is there. modified: of the part that was written last."""
    found: dict[str, Snapshot] = {}
    async for stored in store.list(layout.SNAPSHOTS):
        if (match := _SNAPSHOT.match(stored.key)) is not None:
            digest = f"sha256:{match['hex']}"
            known = found.get(digest, Snapshot(digest, stored.modified))
            found[digest] = Snapshot(digest, max(known.modified, stored.modified), known.size + stored.size)
    return tuple(found.values())


async def with_sizes(store: ObjectStore, found: Plan) -> Plan:
    """The plan with the bytes of the runs that go."""
    sizes = [await _size(store, one.what) for one in found.runs]
    return replace(found, runs=tuple(replace(one, size=size) for one, size in zip(found.runs, sizes, strict=True)))


async def _size(store: ObjectStore, key: str) -> int:
    return sum([one.size async for one in store.list(layout.job_prefix(key))])


async def last_written(store: ObjectStore, key: str) -> float | None:
    """When anything of a run was last written, None when there is nothing."""
    return max([one.modified async for one in store.list(layout.job_prefix(key))], default=None)


async def remove_run(store: ObjectStore, key: str) -> Removed:
    """Remove all that is stored of a run; nothing there is no error. Raises StoreError when the store will not, or when
    somebody goes on writing: then the record is still there."""
    prefix, note = layout.job_prefix(key), layout.job_removing(key)
    last = (layout.job_record(key), layout.job_result(key), note)
    if not await _any(store, prefix):
        return Removed(key, 0, 0, await store.drop_leftovers(prefix))
    await store.put(note, b"{}\n")
    objects = size = 0
    for _ in range(_ROUNDS):
        found = [one async for one in store.list(prefix) if one.key not in last]
        if not found:
            break
        await store.delete(one.key for one in found)
        objects, size = objects + len(found), size + sum(one.size for one in found)
    else:
        raise StoreError(f"{store.url}: {prefix}: somebody goes on writing there; end the run first: stoker cancel")
    uploads = await store.drop_leftovers(prefix)
    for record in last[:2]:
        if (stored := await store.head(record)) is not None:
            await store.delete([record])
            objects, size = objects + 1, size + stored.size
    await store.delete([note])
    await store.drop_leftovers(prefix)
    return Removed(key, objects, size, uploads)


async def _any(store: ObjectStore, prefix: str) -> bool:
    async for _ in store.list(prefix):
        return True
    return False


async def remove_snapshot(store: ObjectStore, digest: str, now: float) -> bool:
    """Remove a snapshot. False: it was written again since the plan was made, and stays."""
    parts = (layout.snapshot_manifest(digest), layout.snapshot_zip(digest))
    heads = [await store.head(part) for part in parts]
    if any(head is not None and is_young(head.modified, now) for head in heads):
        return False
    for part in parts:
        await store.delete([part])
    return True


async def make_plan(
    store: ObjectStore, found: Contents, policy: Policy, now: float, live: Iterable[str], named: Iterable[str]
) -> Plan:
    """What of these contents goes, with its bytes."""
    return await with_sizes(
        store, plan(found.runs, found.snapshots, policy, now, live=frozenset(live), named=frozenset(named))
    )
