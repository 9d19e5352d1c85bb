"""limits.queueTimeoutSeconds: how long a job may wait for nodes, and what its end says."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stoker.core import trainingjob
from stoker.core.plan import ImageDigest, Refused, Seals
from tests.support import build
from tests.support.build import Answering, job, pod, seal, view
from tests.support.world import Script, World

LIMITS = {"queueTimeoutSeconds": 60}


def without_nodes(**spec: Any) -> World:
    """A job on a pool that has no node and makes none."""
    world = World(build.cluster(provider="Static"))
    world.submit(build.job(limits=LIMITS, **spec), Script(seconds=30))
    return world


def test_a_job_that_waits_for_nodes_too_long_fails_with_a_record_and_a_result() -> None:
    world = without_nodes()
    world.run(59)
    assert world.phase(build.UID) == "Queued"

    world.run(10)

    status = world.jobs[build.UID].status
    assert (status.phase, status.reason) == ("Failed", "QueueTimedOut")
    assert status.message.startswith("no nodes within 1m of its submission (limits.queueTimeoutSeconds)")
    assert "; last: NotEnoughNodes: cpu has fewer" in status.message
    assert status.duration == ""
    assert {kind for kind, _ in world.stored} == {"Recorded", "ResultWritten"}
    assert world.made == []


def test_a_plan_looks_again_when_the_time_is_up() -> None:
    made = trainingjob.plan(view(job(limits=LIMITS)), build.T0 + 20)

    assert made.wake_at == build.T0 + 60


def test_without_the_limit_a_job_waits_for_ever() -> None:
    world = World(build.cluster(provider="Static"))
    world.submit(build.job())

    assert world.run(10**6).phase(build.UID) == "Queued"


def test_the_limit_does_not_concern_an_attempt_that_has_its_nodes() -> None:
    world = World(build.cluster())
    world.have_node("r0")
    world.submit(build.job(limits=LIMITS), Script(seconds=300))

    assert world.run(400).phase(build.UID) == "Completed"


def test_time_in_which_a_job_is_suspended_does_not_count() -> None:
    world = without_nodes(suspend=True)
    world.run(500)
    assert world.phase(build.UID) == "Suspended"

    world.suspend(build.UID, False)
    world.run(58)
    assert world.phase(build.UID) == "Queued"
    world.run(10)

    status = world.jobs[build.UID].status
    assert (status.phase, status.reason) == ("Failed", "QueueTimedOut")
    assert status.message.startswith("no nodes within 1m of its resumption")


@pytest.mark.parametrize("after", [2, 20])
def test_a_suspended_job_never_waits_too_long(after: float) -> None:
    """Also before anybody has shown that it is suspended."""
    made = trainingjob.plan(view(job(suspend=True, limits={"queueTimeoutSeconds": 1})), build.T0 + after)

    assert (made.actions, made.wake_at) == ((), build.T0 + 5 if after < 5 else None)
    assert made.status is None or made.status.phase == "Suspended"


def test_after_an_attempt_the_wait_counts_anew() -> None:
    world = World(build.cluster(provider="Static"))
    world.have_node("r0")
    world.submit(build.job(limits=LIMITS), Script(seconds=1000))
    world.later(100, lambda: world.lose_node("r0"))

    world.run(100 + 15 + 55)
    assert [entry.reason for entry in world.jobs[build.UID].status.attempts] == ["NodeLost"]
    assert world.phase(build.UID) == "Queued"
    world.run(60)

    status = world.jobs[build.UID].status
    assert (status.phase, status.reason) == ("Failed", "QueueTimedOut")
    assert "of the end of attempt 1" in status.message


def test_a_pool_that_owns_no_nodes_is_waited_for_no_longer_either() -> None:
    """There the attempt is made first, and its pods wait for a node."""
    waiting = {"children": (build.child(nodes=()),), "pods": (pod(on=""),), "on": build.cluster(provider="External")}
    before = trainingjob.plan(view(job(limits=LIMITS), **waiting), build.T0 + 59)
    assert before.wake_at == build.T0 + 60

    made = trainingjob.plan(view(job(limits=LIMITS), **waiting), build.T0 + 60)

    assert made.status is not None
    assert made.status.attempts[0].reason == "QueueTimedOut"
    recorded = job(limits=LIMITS, status=made.status)
    lost = seal(0, None, complete=False, reason="PodLost", at=62)
    end = trainingjob.plan(view(recorded, answers=Answering(seals={0: lost})), build.T0 + 70)
    assert end.status is not None
    assert (end.status.phase, end.status.reason) == ("Failed", "QueueTimedOut")
    assert "limits.queueTimeoutSeconds" in end.status.message


def test_a_pod_that_has_its_node_is_not_timed_out() -> None:
    placed = {"children": (build.child(nodes=()),), "pods": (pod(on="n0"),), "on": build.cluster(provider="External")}

    made = trainingjob.plan(view(job(limits=LIMITS), **placed), build.T0 + 100)

    assert made.status is not None
    assert [entry.reason for entry in made.status.attempts] == [""]


def test_an_attempt_that_nobody_remembers_is_looked_for_before_the_job_is_failed() -> None:
    """The operator was away while the whole run went by: the run has ended, it did not wait."""
    unknown = trainingjob.plan(view(job(limits=LIMITS), answers=Answering(silent=(Seals,))), build.T0 + 9000)
    assert [type(action.question) for action in unknown.actions] == [Seals]  # type: ignore[union-attr]

    known = trainingjob.plan(view(job(limits=LIMITS), answers=Answering(seals={0: seal()})), build.T0 + 9000)
    assert known.status is not None
    assert known.status.phase == "Completed"


def test_what_only_a_person_can_mend_counts_as_waiting() -> None:
    world = without_nodes()
    question = ImageDigest("team", build.IMAGE, "linux/amd64")
    world.refusals[question] = Refused("BaseImageNotFound", f"{build.IMAGE}: not found", "push it")

    world.run(100)

    status = world.jobs[build.UID].status
    assert (status.phase, status.reason) == ("Failed", "QueueTimedOut")
    assert "BaseImageNotFound" in status.message


def test_a_cancel_wins() -> None:
    world = without_nodes(cancel=True)

    assert world.run(200).jobs[build.UID].status.phase == "Canceled"


@pytest.mark.parametrize("limit", [1, 30, 3600])
@settings(max_examples=20, deadline=None)
@given(comes=st.floats(0, 4000), seconds=st.floats(1, 60))
def test_a_run_fails_so_exactly_if_its_nodes_come_too_late(limit: int, comes: float, seconds: float) -> None:
    world = World(build.cluster(provider="Static"))
    world.submit(build.job(limits={"queueTimeoutSeconds": limit}), Script(seconds=seconds))
    world.later(comes, lambda: world.add_node("late"))

    world.run(9000)

    status = world.jobs[build.UID].status
    in_time = comes < limit - 1  # the planners need some tenths of a second between node and child
    assert status.phase in ("Completed", "Failed")
    if in_time:
        assert status.phase == "Completed"
    if comes >= limit:
        assert (status.phase, status.reason, world.made) == ("Failed", "QueueTimedOut", [])
