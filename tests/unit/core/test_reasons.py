"""Every reason why something waits comes with what a person can do, even if that is to wait: a new one without fails."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import stoker
from stoker.core.plan import ImageDigest, Posted, Recorded, Refused, Seals, SnapshotPresent, Unavailable
from stoker.core.trainingjob import why
from stoker.core.trainingjob.view import JobView, Placement, WorkspaceView
from tests.support import build
from tests.support.build import Answering, child, job, pod, view

SOURCE = Path(stoker.__file__).parent
#: Who makes a reason, with the place of the fix among its arguments.
MAKERS = {"Wait": 2, "Refused": 2, "Unavailable": 2, "_refused": 2, "_unavailable": 2, "_answered": 4}


def made() -> Iterator[tuple[str, ast.expr | None]]:
    """Every place where a reason is made: where, and its fix."""
    for folder in ("core", "controller"):
        for path in sorted((SOURCE / folder).rglob("*.py")):
            for call in ast.walk(ast.parse(path.read_text())):
                if not isinstance(call, ast.Call):
                    continue
                name = call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")
                place = MAKERS.get(name)
                # Of a class that is an error here, and of what another has made and is only passed on, there is no fix.
                if place is None or path.name == "errors.py" or any(isinstance(arg, ast.Starred) for arg in call.args):
                    continue
                named = next((one.value for one in call.keywords if one.arg == "fix"), None)
                yield (
                    f"{path.relative_to(SOURCE)}:{call.lineno} {ast.unparse(call)[:60]}",
                    (call.args[place] if len(call.args) > place else named),
                )


def test_every_reason_is_made_with_a_fix() -> None:
    found = list(made())
    without = [
        where for where, fix in found if fix is None or (isinstance(fix, ast.Constant) and not str(fix.value).strip())
    ]

    assert len(found) > 50, "the search finds nothing any more"
    assert [] == without


STARTED = pod(started=3)
UNPLACED = {"type": "PodScheduled", "status": "False", "message": "0/1 nodes", "lastTransitionTime": build.stamp(2)}
CODE = SnapshotPresent(build.NAMESPACE, build.SNAPSHOT)
CANCELED = job(cancel=True)
SUSPENDED = job(suspend=True)
CLOSED = job(
    retry={"limit": 2},
    status={
        "phase": "Queued", "failures": 1,
        "attempts": [{"number": 1, "reason": "OOMKilled", "endedAt": build.stamp(7), "counted": "Failure"}],
    },
)  # fmt: skip

#: What only time mends, or nobody gave a fix for: here `why` itself must have one.
WAITS: list[tuple[str, JobView, float]] = [
    ("Canceling", view(CANCELED), 1),
    ("Suspended", view(SUSPENDED), 1),
    ("RetryBackoff", view(CLOSED), 8),
    ("StorageUrlTaken", view(workspace=WorkspaceView("s3://x", problem=("StorageUrlTaken", "s3://x is b's"))), 1),
    ("SnapshotNotFound", view(answers=Answering({CODE: Refused("SnapshotNotFound", "no")})), 1),
    ("SnapshotUnavailable", view(answers=Answering({CODE: Unavailable("SnapshotUnavailable", "away")})), 1),
    (
        "RegistryUnreachable",
        view(
            answers=Answering(
                {ImageDigest(build.NAMESPACE, build.IMAGE, "linux/amd64"): Unavailable("RegistryUnreachable", "away")}
            )
        ),
        1,
    ),
    (
        "RecordRefused",
        view(answers=Answering({Recorded(build.NAMESPACE, build.KEY): Refused("RecordRefused", "no")}), placed=["n0"]),
        1,
    ),
    (
        "ApiServerUnavailable",
        view(
            answers=Answering(
                {Posted("Job", build.NAMESPACE, "iris-0c0ffee0-1"): Unavailable("ApiServerUnavailable", "away")}
            ),
            placed=["n0"],
        ),
        1,
    ),
    ("Preparing", view(answers=Answering(silent=(SnapshotPresent,))), 1),
    ("CreatingPods", view(placed=["n0"]), 1),
    ("WaitingForNodes", view(), 1),
    ("PodsStarting", view(children=(child(),), pods=(pod(),)), 3),
    ("SavingOutputs", view(children=(child(),), pods=(pod(started=3, saving=12),)), 20),
    (
        "WaitingForAutoscaler",
        view(
            children=(child(),), pods=(pod(on="", conditions=[UNPLACED]),), on=build.cluster(provider="External")
        ),
        20,
    ),
]  # fmt: skip


@pytest.mark.parametrize(("reason", "seen", "after"), WAITS, ids=[row[0] for row in WAITS])
def test_what_a_job_waits_for_comes_with_cause_and_fix(reason: str, seen: JobView, after: float) -> None:
    told = why(seen, build.T0 + after)

    assert told is not None
    assert (reason, True, True) == (told.reason, bool(told.message), bool(told.fix))


def test_a_pools_reason_without_a_fix_gets_one() -> None:
    told = why(view(placement=Placement(reason="ScaleRefused", message="403", fix="")), build.T0 + 1)

    assert told is not None
    assert told.fix


def test_seals_that_cannot_be_read_come_with_a_fix() -> None:
    ended = pod(started=3, exit_code=0, ended=12)
    silent = view(children=(child(),), pods=(ended,), answers=Answering(silent=(Seals,)))
    from stoker.core.trainingjob import plan

    (ask,) = [action.question for action in plan(silent, build.T0 + 13).actions]  # type: ignore[union-attr]
    away = Answering({ask: Unavailable("StorageUnavailable", "503")}, silent=(Seals,))
    told = why(view(children=(child(),), pods=(ended,), answers=away), build.T0 + 13)

    assert told is not None
    assert ("StorageUnavailable", True) == (told.reason, bool(told.fix))
