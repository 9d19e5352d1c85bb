"""Which run has a name, where a name runs once for ever (runPolicy PerName)."""

import json

from stoker.core.plan import Answer, Found, NameHolder, Unavailable
from stoker.core.times import rfc3339
from stoker.storage import layout, records
from stoker.storage.objects import ObjectStore

#: After the longest grace period of a run that was deleted, its last seal may still come for so long (seconds).
STRAGGLERS_SECONDS = 120.0
#: A run that has no result yet is looked at again after so long (seconds).
AGAIN_SECONDS = 10.0


async def name_holder(store: ObjectStore, question: NameHolder, now: float) -> Answer:
    """Take the name unless another run has it; that run's key and result, once it has one. Raises StoreError.

    A name whose run left no record is free: that run never began, or it was removed by hand.
    """
    place = layout.by_name(question.name)
    mine = records.encode({"version": records.VERSION, "name": question.name, "key": question.key})
    if await store.put(place, mine, only_if_absent=True):
        return Found({"key": question.key})
    key = _key(await store.get(place) or b"", place)
    if key == question.key:
        return Found({"key": key})
    result = await records.read_result(store, key)
    if result is not None:
        return Found({"key": key, "result": result})
    job = await records.read_job(store, key)
    if job is None:
        await store.put(place, mine)
        return Found({"key": question.key})
    ends_at = question.since + job["limits"]["graceSeconds"] + STRAGGLERS_SECONDS
    if now < ends_at:
        return Unavailable(
            "FormerRunEnding",
            f"the name {question.name} belongs to run {key}, whose TrainingJob was deleted before its end; its pods may save "
            f"until {rfc3339(ends_at)}",
            "with spec.runPolicy PerName a name runs once; for another run use another name",
            min(now + AGAIN_SECONDS, ends_at),
        )
    return Found({"key": key, "result": await _cut_off(store, job, now)})


async def _cut_off(store: ObjectStore, job: records.JobRecord, now: float) -> records.ResultRecord:
    """The result of a run that lost its object before its end; written once, as every result."""
    result: records.ResultRecord = {
        "version": records.VERSION,
        "name": job["name"], "namespace": job["namespace"], "uid": job["uid"], "key": job["key"],
        "phase": "Canceled", "reason": "Deleted",
        "message": f"TrainingJob/{job['name']} was deleted before the run ended; what it saved stays",
        "exitCode": None, "startedAt": None, "finishedAt": rfc3339(now), "timings": {}, "attempts": [], "outputs": [],
    }  # fmt: skip
    if await records.write_result(store, result):
        return result
    return await records.read_result(store, job["key"]) or result


def _key(content: bytes, place: str) -> str:
    try:
        key = json.loads(content)["key"]
    except (ValueError, KeyError, TypeError) as error:
        raise records.BadRecord(f"{place}: not the record of a name: {error}") from error
    if not isinstance(key, str) or not layout.is_job_key(key):
        raise records.BadRecord(f"{place}: key {key!r} is not a run's key")
    return key
