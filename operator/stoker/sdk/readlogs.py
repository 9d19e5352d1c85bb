"""What a run printed: from its pods while they run, from the store at any time."""

from collections.abc import Iterator, Sequence
from typing import Any

from stoker.api.names import FINISHED
from stoker.errors import BadInput
from stoker.sdk import stopping
from stoker.sdk.follow import LABEL_ATTEMPT, LABEL_RANK, LABEL_UID, LogSink
from stoker.sdk.runrecords import ClusterRun, LocalRun, Run, record_of

#: A local run's log grows in its store about once a second.
_PAUSE = 0.25


def has_ended(found: ClusterRun) -> bool:
    """Whether nothing of the run is to come."""
    return found.job is None or (found.job.get("status") or {}).get("phase") in FINISHED


def follow_local(found: LocalRun, descriptor: int) -> dict[str, Any]:
    """Write the log of a local run to a file descriptor until the run ends; its record."""
    sink, offset = LogSink(descriptor, prefixed=False), 0
    while True:
        stopping.check()
        record = record_of(found)
        content, complete = found.kept.log(found.key, 1, 0, offset)
        sink.write(0, content)
        offset += len(content)
        if not content and (complete or record["result"] is not None):
            if record["result"] is not None:
                return record
            stopping.pause(_PAUSE)
        elif not content:
            stopping.pause(_PAUSE)


def write(found: Run, chosen: Sequence[tuple[int, int]], descriptor: int) -> None:
    """Write what these (attempt, rank) printed so far to a file descriptor; several ranks are told apart."""
    sink = LogSink(descriptor, prefixed=len(chosen) > 1)
    for attempt, rank in chosen:
        for piece in pieces(found, attempt, rank):
            sink.write(rank, piece)
        sink.end(rank)


def ranks(found: Run, record: dict[str, Any], rank: int | None, attempt: int | None) -> list[tuple[int, int]]:
    """(attempt, rank) of the logs to print."""
    count = int(record["job"].get("instanceCount") or 1)
    known = [one["number"] for one in (record.get("result") or {}).get("attempts") or ()]
    if not known and isinstance(found, ClusterRun) and found.job is not None:
        known = [one["number"] for one in (found.job.get("status") or {}).get("attempts", ())]
    last = max(known, default=1)
    if attempt is not None and attempt > last:
        raise BadInput("--attempt", f"{attempt}: {found.name} has {last}", f"use 1 to {last}")
    if rank is not None and rank >= count:
        raise BadInput("--rank", f"{rank}: {found.name} has {count}", f"use 0 to {count - 1}")
    return [(attempt or last, one) for one in (range(count) if rank is None else [rank])]


def pieces(found: Run, attempt: int, rank: int) -> Iterator[bytes]:
    """A rank's log, from its pod while that runs, else from the store. In pieces: a log may have a gigabyte."""
    if isinstance(found, ClusterRun) and not has_ended(found):
        live = _from_pod(found, attempt, rank)
        if live is not None:
            yield live
            return
    source: Any = found.kept if isinstance(found, LocalRun) else found.cluster.server()
    offset, complete = 0, False
    while not complete:
        piece: bytes
        piece, complete = source.log(found.key, attempt, rank, offset)
        if not piece:
            return
        offset += len(piece)
        yield piece


def _from_pod(found: ClusterRun, attempt: int, rank: int) -> bytes | None:
    assert found.job is not None
    uid = found.job["metadata"]["uid"]
    kube, namespace = found.cluster.kube, found.cluster.namespace
    selector = f"{LABEL_UID}={uid},{LABEL_ATTEMPT}={attempt},{LABEL_RANK}={rank}"
    pods = kube.get(f"/api/v1/namespaces/{namespace}/pods", labelSelector=selector)["items"]
    if not pods:
        return None
    path = f"/api/v1/namespaces/{namespace}/pods/{pods[0]['metadata']['name']}/log"
    with kube.lines_of(path, container="main") as response:
        live: bytes | None = response.read() if response.status < 400 else None
    return live
