"""`stoker logs`: what a run printed, while it runs and long after."""

import sys
from typing import Any

import click

from stoker.cli.jobs import where
from stoker.cli.options import Common, common
from stoker.errors import BadInput, StokerError
from stoker.sdk import readlogs
from stoker.sdk.runrecords import ClusterRun, LocalRun, Run, record_of
from stoker.sdk.runs import resolve


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
    if wait and isinstance(found, ClusterRun) and not readlogs.has_ended(found):
        return _follow(common, found)
    record = record_of(found)
    if wait and isinstance(found, LocalRun):
        record = readlogs.follow_local(found, sys.stdout.fileno())
    else:
        _print_stored(common, found, record, rank, attempt)
    if not wait:
        return 0
    from stoker.sdk.outcome import exit_code

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


def _follow(common: Common, found: ClusterRun) -> int:
    from stoker.cli.cluster_run import follow

    assert found.job is not None
    return follow(common, found.cluster, found.job)


def _print_stored(common: Common, found: Run, record: dict[str, Any], rank: int | None, attempt: int | None) -> None:
    chosen = readlogs.ranks(found, record, rank, attempt)
    if common.output.form != "table":
        texts = [
            {
                "attempt": number,
                "rank": which,
                "text": b"".join(readlogs.pieces(found, number, which)).decode("utf-8", "replace"),
            }
            for number, which in chosen
        ]
        common.output.emit({"name": found.name, "logs": texts}, lambda: None, [found.name])
        return
    readlogs.write(found, chosen, sys.stdout.fileno())
