"""`stoker logs`: what a run printed, while it runs and long after."""

import sys
import time
from collections.abc import Iterator
from typing import Any

import click

from stoker.api.names import FINISHED
from stoker.cli.jobs import record_of, where
from stoker.cli.options import Common, common
from stoker.cli.references import ClusterRun, LocalRun, Run, resolve
from stoker.errors import BadInput, StokerError
from stoker.sdk.follow import LogSink

#: A local run's log grows in its store about once a second.
_PAUSE = 0.25


@click.command(
    epilog="\b\nExamples:\n  stoker logs @last\n  stoker logs iris-7f3k --wait\n  stoker logs iris-7f3k --rank 1 --attempt 2"
)
@click.argument("run", metavar="RUN")
@click.option(
    "-f", "--wait", "--follow", "wait", is_flag=True, help="Follow to the end and exit with the run's own code."
)
@click.option("--rank", type=click.IntRange(0), help="Only this rank; else all, told apart by [r1].")
@click.option("--attempt", type=click.IntRange(1), help="This attempt; else the last.")
@click.option("--build", is_flag=True, help="The log of the build of the run's image instead.")
@where
@common
def logs(
    common: Common,
    run: str,
    wait: bool,
    rank: int | None,
    attempt: int | None,
    build: bool,
    compute: str | None,
    storage: str | None,
) -> int:
    """Print the log of RUN; also after its pods, its node and its TrainingJob are gone."""
    found = resolve(common, run, compute, storage)
    if build:
        return _print_build(common, found, wait)
    if wait and isinstance(found, ClusterRun) and not _has_ended(found):
        return _follow(common, found)
    record = record_of(found)
    if wait and isinstance(found, LocalRun):
        record = _follow_local(common, found, record)
    else:
        _print_stored(common, found, record, rank, attempt)
    if not wait:
        return 0
    from stoker.cli.run import exit_code

    return exit_code(record["result"])


def _print_build(common: Common, found: Run, wait: bool) -> int:
    """The log of the build that the run waits for, or that made its image."""
    from stoker.cli.env import buildlog

    if isinstance(found, LocalRun):
        raise BadInput(
            "--build", f"{found.name} ran on this machine", "its environment was made by `stoker run` itself"
        )
    key = _spec_key(found)
    if not key:
        raise BadInput("--build", f"the image of {found.name} was not built by content", "it was run as it is")
    server = found.cluster.server()
    if common.output.form != "table":
        text = b"".join(buildlog.pieces(server, key)).decode("utf-8", "replace")
        common.output.emit({"name": found.name, "specKey": key, "text": text}, lambda: None, [found.name])
        return 0
    if wait:
        buildlog.follow(server, key, lambda: _is_being_built(found), buildlog.to_stdout)
        return 0
    empty = True
    for piece in buildlog.pieces(server, key):
        empty = False
        buildlog.to_stdout(piece)
    if empty:
        raise BadInput("--build", f"no build of {found.name}'s image left a log here", "the image was found, not built")
    return 0


def _spec_key(found: ClusterRun) -> str:
    told = ((found.job or {}).get("status") or {}).get("environment") or {}
    if key := str(told.get("specKey") or ""):
        return key
    try:
        record = record_of(found)["job"].get("environment") or {}
    except StokerError:
        return ""
    return str(record.get("specKey") or "")


def _is_being_built(found: ClusterRun) -> bool:
    """Whether the run still waits for its image."""
    job = found.cluster.find(found.name)
    conditions = ((job or {}).get("status") or {}).get("conditions") or ()
    return any(one["type"] == "ImageReady" and one["reason"] in ("Building", "BuildQueued") for one in conditions)


def _has_ended(found: ClusterRun) -> bool:
    return found.job is None or (found.job.get("status") or {}).get("phase") in FINISHED


def _follow(common: Common, found: ClusterRun) -> int:
    from stoker.cli.cluster_run import follow

    assert found.job is not None
    return follow(common, found.cluster, found.job)


def _source(found: Run) -> Any:
    return found.kept if isinstance(found, LocalRun) else found.cluster.server()


def _follow_local(common: Common, found: LocalRun, record: dict[str, Any]) -> dict[str, Any]:
    sink = LogSink(sys.stdout.fileno(), prefixed=False)
    offset = 0
    while True:
        ended = record["result"] is not None
        content, complete = found.kept.log(found.key, 1, 0, offset)
        sink.write(0, content)
        offset += len(content)
        if not content and (complete or ended):
            return record if ended else record_of(found)
        if not content:
            time.sleep(_PAUSE)
        record = record_of(found)


def _print_stored(common: Common, found: Run, record: dict[str, Any], rank: int | None, attempt: int | None) -> None:
    chosen = _ranks(found, record, rank, attempt)
    source = _source(found)
    if common.output.form != "table":
        texts = [
            {
                "attempt": number,
                "rank": which,
                "text": b"".join(_pieces(found, source, number, which)).decode("utf-8", "replace"),
            }
            for number, which in chosen
        ]
        common.output.emit({"name": found.name, "logs": texts}, lambda: None, [found.name])
        return
    sink = LogSink(sys.stdout.fileno(), prefixed=len(chosen) > 1)
    for number, which in chosen:
        for piece in _pieces(found, source, number, which):
            sink.write(which, piece)
        sink.end(which)


def _ranks(found: Run, record: dict[str, Any], rank: int | None, attempt: int | None) -> list[tuple[int, int]]:
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


def _pieces(found: Run, source: Any, attempt: int, rank: int) -> Iterator[bytes]:
    """A rank's log, from its pod while that runs, else from the store. In pieces: a log may have a gigabyte."""
    if isinstance(found, ClusterRun) and not _has_ended(found):
        live = _from_pod(found, attempt, rank)
        if live is not None:
            yield live
            return
    offset, complete = 0, False
    while not complete:
        piece: bytes
        piece, complete = source.log(found.key, attempt, rank, offset)
        if not piece:
            return
        offset += len(piece)
        yield piece


def _from_pod(found: ClusterRun, attempt: int, rank: int) -> bytes | None:
    from stoker.sdk.follow import LABEL_ATTEMPT, LABEL_RANK, LABEL_UID

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
