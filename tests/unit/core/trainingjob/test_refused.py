"""A Job or pods that the API server will not have: they must not keep nodes from those who can use them."""

from typing import Any

import pytest

from stoker.api.trainingjob import TrainingJobStatus
from stoker.core import trainingjob
from stoker.core.plan import Create, Delete, Plan, Posted, Refused
from stoker.core.trainingjob.seen import PULL_PATIENCE
from stoker.core.trainingjob.view import JobView
from tests.support import build
from tests.support.build import Answering, child, job, pod, view

CHILD = "iris-0c0ffee0-1"
WORDS = 'volumeMounts[1].name: Not found: "nope"'
NO_ACCOUNT = 'Error creating: pods "iris-0c0ffee0-1-0-abcde" is forbidden: serviceaccount "none" not found'


def refused(kind: str = "Job", placed: list[str] | None = None, nodes: int = 1) -> JobView:
    no = Refused("PodsRejected", WORDS, "", build.T0 + 30)
    return view(job(nodes=nodes), answers=Answering({Posted(kind, build.NAMESPACE, CHILD): no}), placed=placed)


@pytest.mark.parametrize("kind", ["Job", "Service"])
def test_a_child_that_is_refused_wants_no_nodes(kind: str) -> None:
    assert trainingjob.demand(view(), build.T0) is not None
    assert trainingjob.demand(refused(kind), build.T0) is None


def test_it_is_tried_again_without_nodes_and_without_being_made() -> None:
    plan = trainingjob.plan(refused(nodes=2), build.T0)

    created = [action for action in plan.actions if isinstance(action, Create)]
    assert [("Service", True), ("Job", True)] == [(one.manifest["kind"], one.trial) for one in created]
    assert plan.status is not None
    assert ("Pending", "PodsRejected") == (plan.status.phase, plan.status.waiting and plan.status.waiting.reason)


def test_once_it_would_be_taken_the_run_asks_for_nodes_and_makes_it() -> None:
    assert trainingjob.demand(view(), build.T0) is not None

    made = [one for one in trainingjob.plan(view(placed=["n0"]), build.T0).actions if isinstance(one, Create)]

    assert [False] == [one.trial for one in made]


def of_pods(at: float, **more: Any) -> Plan[TrainingJobStatus]:
    seen = view(children=(child(),), events=(build.rejected(NO_ACCOUNT),), **more)
    return trainingjob.plan(seen, at)


def test_pods_that_are_refused_end_their_attempt_after_a_while_and_its_nodes_are_free() -> None:
    due = build.T0 + 1.0 + PULL_PATIENCE

    before = of_pods(due - 1)
    ended = of_pods(due)

    assert due == before.wake_at
    assert before.status is None or not before.status.attempts[-1].reason
    assert ended.status is not None
    assert "PodsRejected" == ended.status.attempts[-1].reason
    recorded = job(status={"attempts": [{"number": 1, "reason": "PodsRejected", "child": CHILD}]})
    assert [CHILD] == [
        action.name
        for action in of_pods(due, of=recorded).actions
        if isinstance(action, Delete) and action.kind == "Job"
    ]


def test_pods_that_came_after_all_go_on() -> None:
    later = of_pods(build.T0 + 2 * PULL_PATIENCE, pods=(pod(started=3),))

    assert later.status is None or not later.status.attempts[-1].reason


def test_the_end_says_what_the_api_server_said() -> None:
    of = job(status={"attempts": [{"number": 1, "reason": "PodsRejected", "child": CHILD}]})
    seal = build.seal(0, None)
    ended = view(of, answers=Answering(seals={0: {**seal, "complete": False}}), events=(build.rejected(NO_ACCOUNT),))

    plan = trainingjob.plan(ended, build.T0 + 700)

    assert plan.status is not None
    assert ("Failed", "PodsRejected") == (plan.status.phase, plan.status.reason)
    assert (
        'the API server refused its pods for 10m: Error creating: pods is forbidden: serviceaccount "none" not found'
        in plan.status.message
    )
