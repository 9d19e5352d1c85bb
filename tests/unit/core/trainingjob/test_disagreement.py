"""A scheduler that will not place pods on the nodes they were given: others are tried, a few times, and it counts as nothing."""

from typing import Any

import pytest

from stoker.api.trainingjob import TrainingJob
from stoker.core import trainingjob
from stoker.core.plan import Delete
from tests.support import build
from tests.support.build import Answering, child, job, pod, view

#: From here on the scheduler has disagreed for long enough.
DUE = build.T0 + 2.0 + 10.0


def refused(message: str = "0/1 nodes are available: 1 node(s) had untolerated taint(s)") -> dict[str, str]:
    """What the scheduler says of a pod since T0 + 2."""
    since = build.stamp(2)
    return {"type": "PodScheduled", "status": "False", "message": message, "lastTransitionTime": since}


def entry(number: int, reason: str = "SchedulerDisagrees", **more: Any) -> dict[str, Any]:
    """An attempt that is over and that another follows."""
    counted = "Neither" if reason == "SchedulerDisagrees" else "Interruption"
    return {
        "number": number, "reason": reason, "counted": counted, "nodes": [f"n{number}"], "endedAt": build.stamp(0), **more,
    }  # fmt: skip


def after(*former: dict[str, Any]) -> TrainingJob:
    """A job with these attempts behind it."""
    return job(status={"phase": "Starting", "attempts": list(former)})


def stopped(plan: Any) -> str:
    """Why a plan ends the newest attempt, if it does."""
    return plan.status.attempts[-1].reason if plan.status is not None and plan.status.attempts else ""


def open_attempt(of: TrainingJob, number: int = 1, **told: Any) -> dict[str, Any]:
    where = {"attempt": number, "created": 2.0}
    return {
        "children": (child(of, attempt=number, nodes=[f"n{number}"]),),
        "pods": (pod(0, of, on="", conditions=[told or refused()], **where),),
    }


def test_it_is_looked_at_again_when_the_patience_is_over() -> None:
    of = job()

    plan = trainingjob.plan(view(of, **open_attempt(of)), DUE - 1)

    assert (stopped(plan), plan.actions, plan.wake_at) == ("", (), DUE)


def test_an_attempt_that_is_not_placed_ends_the_one_way_and_counts_as_nothing() -> None:
    of = job()
    first = trainingjob.plan(view(of, **open_attempt(of)), DUE)
    assert first.status is not None
    assert stopped(first) == "SchedulerDisagrees"

    recorded = job(status=first.status)
    second = trainingjob.plan(view(recorded, **open_attempt(recorded)), DUE + 1)
    assert second.actions == (Delete("Job", "team", "iris-0c0ffee0-1", "uid-iris-0c0ffee0-1"),)

    closed = build.seal(complete=False, reason="PodLost", exit=None)
    third = trainingjob.plan(view(recorded, answers=Answering(seals={0: closed})), DUE + 5)
    assert third.status is not None
    assert (third.status.failures, third.status.interruptions) == (0, 0)
    assert [(one.reason, one.counted) for one in third.status.attempts] == [("SchedulerDisagrees", "Neither")]


def test_the_next_attempt_asks_for_other_nodes() -> None:
    wanted = trainingjob.demand(view(after(entry(1), entry(2))), build.T0 + 600)

    assert wanted is not None
    assert (wanted.attempt, wanted.avoid) == (3, {"n1", "n2"})


@pytest.mark.parametrize(("seconds", "avoided"), [(59.0, {"n1"}), (61.0, set())])
def test_a_node_that_evicted_is_avoided_until_it_says_itself_that_it_is_short(
    seconds: float, avoided: set[str]
) -> None:
    wanted = trainingjob.demand(view(after(entry(1, "Evicted"))), build.T0 + seconds)

    assert wanted is not None
    assert wanted.avoid == avoided


def test_what_no_node_takes_is_told_and_not_tried_for_ever() -> None:
    of = after(entry(1), entry(2), entry(3))
    seen = view(of, **open_attempt(of, 4))

    plan, waiting = trainingjob.plan(seen, DUE + 60), trainingjob.why(seen, DUE + 60)

    assert plan.actions == ()
    assert [one.number for one in of.status.attempts] == [1, 2, 3]
    assert waiting is not None
    assert (waiting.reason, "untolerated taint" in waiting.message) == ("SchedulerDisagrees", True)


def test_both_figures_are_told_what_a_pod_asks_for_and_what_the_node_offers() -> None:
    asks = {"resources": {"requests": {"cpu": "2", "memory": "1Gi"}}}
    of = job(command=asks, status={"phase": "Starting", "attempts": [entry(1), entry(2), entry(3)]})
    nodes = [build.node("n4", allocatable={"cpu": "1930m", "memory": "3Gi"})]

    waiting = trainingjob.why(view(of, nodes=nodes, **open_attempt(of, 4)), DUE)

    assert waiting is not None
    assert waiting.message.endswith(
        "untolerated taint(s); a pod asks for cpu 2050m, memory 1088Mi in all, n4 offers cpu 1930m, memory 3Gi to all its pods"
    )


def test_an_attempt_that_ran_in_between_makes_the_count_new() -> None:
    of = after(entry(1), entry(2), entry(3), entry(4, "NodeLost"))

    assert stopped(trainingjob.plan(view(of, **open_attempt(of, 5)), DUE)) == "SchedulerDisagrees"


def test_a_volume_that_is_not_there_yet_is_waited_for() -> None:
    of = job()
    seen = view(of, **open_attempt(of, **refused("pod has unbound immediate PersistentVolumeClaims")))

    assert stopped(trainingjob.plan(seen, DUE + 60)) == ""


def test_a_pool_that_owns_no_nodes_chose_none_that_could_be_wrong() -> None:
    of = job()
    seen = view(of, on=build.cluster(provider="External"), **open_attempt(of))

    assert stopped(trainingjob.plan(seen, DUE + 60)) == ""
