"""What is written of a job, and when: little, whole, and the same for the same view."""

from typing import Any

import pytest

from stoker.api.trainingjob import TrainingJobStatus
from stoker.core import trainingjob
from stoker.core.plan import Plan, Seals, SnapshotPresent
from stoker.core.trainingjob.view import Placement
from tests.support import build
from tests.support.build import Answering, child, job, pod, view

BOOTING = Placement(reason="NodesBooting", message="waiting for 1 node of cpu")
LOOKING = Answering(silent=(SnapshotPresent,))


def planned(after: float, **members: Any) -> Plan[TrainingJobStatus]:
    return trainingjob.plan(view(**members), build.T0 + after)


@pytest.mark.parametrize(
    ("members", "began"),
    [
        ({"answers": LOOKING}, 0.0),
        ({"placement": BOOTING}, 0.0),
        ({"children": (child(created=1),)}, 1.0),
        ({"children": (child(),), "pods": (pod(started=3, exit_code=0, ended=12),)}, 12.0),
    ],
    ids=["Preparing", "Queued", "Starting", "Finalizing"],
)
def test_a_phase_around_running_is_shown_once_it_has_lasted(members: dict[str, Any], began: float) -> None:
    silent = {"answers": Answering(silent=(Seals,)), **members}

    early = planned(began + 4.9, **silent)
    assert early.status is None
    assert early.wake_at is not None
    assert early.wake_at <= build.T0 + began + 5
    late = planned(began + 5, **silent)
    assert late.status is not None


def test_running_is_shown_at_once() -> None:
    made = planned(3, children=(child(),), pods=(pod(started=3),))

    assert made.status is not None
    assert (made.status.phase, made.status.started_at) == ("Running", build.stamp(3))
    assert made.status.attempts[0].nodes == ("n0",)
    assert made.status.logs == "s3://runs/team/jobs/iris-0c0ffee0/attempts/1/0/logs/std_log.txt"
    assert (made.status.snapshot, made.status.environment.image) == (build.SNAPSHOT, build.PINNED)  # type: ignore[union-attr]


def test_an_equal_status_is_no_write_however_often_it_is_planned() -> None:
    first = planned(3, children=(child(),), pods=(pod(started=3),)).status

    for after in (3, 4, 60, 3600):
        again = planned(after, of=job(status=first), children=(child(),), pods=(pod(started=3),))
        assert again.status is None


def test_what_was_pinned_stays_when_answers_are_lost() -> None:
    first = planned(3, children=(child(),), pods=(pod(started=3),)).status

    again = planned(4, of=job(status=first), children=(child(),), pods=(pod(started=3),), answers={})

    assert again.status is None


def test_since_stays_while_the_reason_does_and_moves_with_it() -> None:
    first = planned(5, placement=BOOTING).status
    assert first is not None
    assert first.waiting is not None
    assert first.waiting.since == build.stamp(0)

    other = Placement(reason="PoolFull", message="others have them")
    soon = planned(9, of=job(status=first), placement=other)
    assert soon.status is not None
    assert soon.status.waiting is not None
    assert soon.status.waiting.since == build.stamp(9)

    sooner = planned(10, of=job(status=soon.status), placement=BOOTING)
    assert sooner.status is None
    assert sooner.wake_at == build.T0 + 14


def test_a_transition_time_is_kept_while_the_status_of_its_condition_is() -> None:
    first = planned(5, placement=BOOTING).status
    second = planned(40, of=job(status=first), children=(child(created=30),), pods=(pod(started=39),)).status
    assert first is not None
    assert second is not None
    times = {entry.type: entry.last_transition_time for entry in second.conditions}

    assert times["SnapshotReady"] == build.stamp(5)
    assert times["Ready"] == build.stamp(40)


def test_every_condition_has_a_reason_and_is_there_once() -> None:
    for members in ({}, {"placed": ["n0"]}, {"children": (child(),), "pods": (pod(started=3),)}):
        status = planned(50, **members).status
        if status is None:
            continue
        kinds = [entry.type for entry in status.conditions]
        assert kinds == sorted(set(kinds))
        assert all(entry.reason and entry.observed_generation == 1 for entry in status.conditions)


def test_ready_reconciling_and_stalled_tell_kstatus_where_a_run_is() -> None:
    def facts(**members: Any) -> tuple[str, str, str]:
        status = planned(50, **members).status
        assert status is not None
        by_type = {entry.type: entry.status for entry in status.conditions}
        return by_type["Ready"], by_type["Reconciling"], by_type["Stalled"]

    assert facts(placement=BOOTING) == ("False", "True", "False")
    assert facts(without_cluster=True) == ("False", "False", "True")
    assert facts(children=(child(),), pods=(pod(started=3),)) == ("True", "False", "False")
