"""spec.suspend: nothing starts, what runs ends the one way and goes on later, and it counts for neither limit."""

from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from stoker.api.trainingjob import FINISHED, TrainingJob
from stoker.core import trainingjob
from stoker.core.plan import Create, Delete
from tests.support import build
from tests.support.build import Answering, child, job, pod, seal, view
from tests.support.world import Script, World


def facts(of: TrainingJob, kind: str) -> list[tuple[str, str]]:
    """Status and reason of a job's condition, if it has it."""
    return [(entry.status, entry.reason) for entry in of.status.conditions if entry.type == kind]


def one_node(script: Script, **spec: Any) -> World:
    world = World(build.cluster())
    world.have_node("r0")
    world.submit(build.job(**spec), script)
    return world


def test_a_job_that_is_submitted_suspended_asks_for_nothing_and_says_so() -> None:
    seen = view(job(suspend=True), placed=["n0"])

    made = trainingjob.plan(seen, build.T0 + 20)

    assert made.actions == ()
    assert made.status is not None
    assert made.status.phase == "Suspended"
    assert made.status.waiting is not None
    assert made.status.waiting.reason == "Suspended"
    assert "spec.suspend" in made.status.waiting.fix
    assert trainingjob.demand(seen, build.T0 + 20) is None


def test_a_resumed_job_runs_and_its_condition_says_when_it_was_resumed() -> None:
    world = one_node(Script(seconds=10), suspend=True)
    world.run(60)
    assert (world.phase(build.UID), world.made, world.stored) == ("Suspended", [], {})
    assert facts(world.jobs[build.UID], "Suspended") == [("True", "Suspended")]

    world.suspend(build.UID, False)
    world.run(2)

    assert facts(world.jobs[build.UID], "Suspended") == [("False", "Resumed")]
    world.run(60)
    assert world.phase(build.UID) == "Completed"
    assert len(world.made) == 1


def test_a_suspended_attempt_ends_the_one_way_and_counts_as_nothing() -> None:
    running: dict[str, Any] = {"children": (child(),), "pods": (pod(started=3),)}
    stopped = job(suspend=True, status={"phase": "Running", "attempts": [{"number": 1}]})

    first = trainingjob.plan(view(stopped, **running), build.T0 + 20)
    assert first.actions == ()
    assert first.status is not None
    assert [entry.reason for entry in first.status.attempts] == ["Suspended"]

    recorded = job(suspend=True, status=first.status)
    second = trainingjob.plan(view(recorded, **running), build.T0 + 21)
    assert second.actions == (Delete("Job", "team", "iris-0c0ffee0-1", "uid-iris-0c0ffee0-1"),)

    halted = seal(exit=build.exit_record(143, reason="Stopped"))
    third = trainingjob.plan(view(recorded, answers=Answering(seals={0: halted})), build.T0 + 30)
    assert third.status is not None
    assert (third.status.phase, third.status.failures, third.status.interruptions) == ("Suspended", 0, 0)
    assert [(entry.reason, entry.counted) for entry in third.status.attempts] == [("Suspended", "Neither")]


def test_what_a_former_attempt_left_goes_also_while_suspended() -> None:
    failed = {"number": 1, "reason": "CommandFailed", "counted": "Failure", "endedAt": build.stamp(15)}
    former = job(suspend=True, retry={"limit": 1}, status={"phase": "Suspended", "failures": 1, "attempts": [failed]})

    made = trainingjob.plan(view(former, children=(child(),)), build.T0 + 100)

    assert made.actions == (Delete("Job", "team", "iris-0c0ffee0-1", "uid-iris-0c0ffee0-1"),)


def test_a_run_goes_on_in_the_next_attempt_at_once_when_it_is_resumed() -> None:
    world = one_node(Script(seconds=100), retry={"interruptionLimit": 0})
    world.later(30, lambda: world.suspend(build.UID, True))
    world.run(120)
    assert (world.phase(build.UID), world.made) == ("Suspended", ["iris-0c0ffee0-1"])

    world.suspend(build.UID, False)
    resumed = world.now
    world.run(until=lambda world: len(world.made) == 2)

    assert world.now - resumed < 2
    world.run()
    status = world.jobs[build.UID].status
    assert (status.phase, status.failures, status.interruptions) == ("Completed", 0, 0)


def test_a_suspended_run_keeps_no_node() -> None:
    world = one_node(Script(seconds=1000))
    world.later(30, lambda: world.suspend(build.UID, True))

    world.run(600)

    assert (world.phase(build.UID), world.replicas, world.nodes) == ("Suspended", 0, {})


def test_a_run_whose_command_has_ended_is_not_suspended_any_more() -> None:
    """What is left is saving: to cut that off would lose outputs and win nothing."""
    late = job(suspend=True, status={"phase": "Running", "attempts": [{"number": 1}]})
    saving = view(late, children=(child(),), pods=(pod(started=3, saving=12),))

    made = trainingjob.plan(saving, build.T0 + 20)

    assert made.actions == ()
    assert made.status is not None
    assert [entry.reason for entry in made.status.attempts] == [""]
    done = view(
        late, children=(child(),), pods=(pod(started=3, exit_code=0),), answers=Answering(seals={0: seal()})
    )  # fmt: skip
    after = trainingjob.plan(done, build.T0 + 30)
    assert after.status is not None
    assert after.status.phase == "Completed"


def test_a_suspended_run_can_be_canceled() -> None:
    world = one_node(Script(seconds=100))
    world.later(30, lambda: world.suspend(build.UID, True))
    world.later(80, lambda: world.cancel(build.UID))

    world.run(300)

    status = world.jobs[build.UID].status
    assert (status.phase, status.message) == (
        "Canceled",
        "canceled by spec.cancel after attempt 1, before the next had started",
    )
    assert facts(world.jobs[build.UID], "Suspended") == [("False", "Ended")]


def test_a_cancel_while_the_attempt_is_being_suspended_is_a_cancel() -> None:
    recorded = job(suspend=True, cancel=True, status={"attempts": [{"number": 1, "reason": "Suspended"}]})
    halted = seal(exit=build.exit_record(143, reason="Stopped"))

    made = trainingjob.plan(view(recorded, answers=Answering(seals={0: halted})), build.T0 + 30)

    assert made.status is not None
    assert (made.status.phase, made.status.attempts[0].counted) == ("Canceling", "Neither")


def test_a_resume_before_the_attempt_has_ended_still_ends_it_and_goes_on() -> None:
    world = one_node(Script(seconds=100))
    world.later(30, lambda: world.suspend(build.UID, True))
    world.later(31, lambda: world.suspend(build.UID, False))

    world.run(400)

    assert world.phase(build.UID) == "Completed"
    assert [(one.number, one.counted) for one in world.jobs[build.UID].status.attempts] == [(1, "Neither"), (2, None)]


@pytest.mark.parametrize("suspended", [True, False])
def test_a_finished_run_is_not_touched_by_suspend(suspended: bool) -> None:
    world = one_node(Script(seconds=1)).run(60)
    before = list(world.writes)

    world.suspend(build.UID, suspended)
    world.run(300)

    assert before == world.writes


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    moments=st.lists(st.floats(0.5, 150), max_size=6),
    codes=st.sampled_from([(0,), (3,)]),
    nodes=st.integers(1, 2),
    lost=st.none() | st.floats(5, 100),
    restarts=st.lists(st.floats(0.5, 150), max_size=2),
)
def test_suspending_and_resuming_at_any_moment_loses_nothing(
    moments: list[float], codes: tuple[int, ...], nodes: int, lost: float | None, restarts: list[float]
) -> None:
    """While suspended nothing is created (the world's children never grow); once resumed the run comes to its own end,
    and suspends count for neither limit (each limit would end it at the first)."""
    world = World(build.cluster())
    for number in range(nodes):
        world.have_node(f"r{number}")
    world.submit(build.job(nodes=nodes, retry={"limit": 0}), Script(codes=codes, seconds=40))
    for number, moment in enumerate(sorted(moments)):
        world.later(moment, lambda number=number: world.suspend(build.UID, number % 2 == 0))  # type: ignore[misc]
    for moment in restarts:
        world.later(moment, world.restart)
    if lost is not None:
        world.later(lost, lambda: world.lose_node("r0"))

    world.run(900)

    if len(moments) % 2 and world.phase(build.UID) not in FINISHED:
        assert world.phase(build.UID) == "Suspended"
        assert world.children == {}
        made = trainingjob.plan(world.view(build.UID), world.now)
        assert not [action for action in made.actions if isinstance(action, Create)]
        world.suspend(build.UID, False)
        world.run(900)
    status = world.jobs[build.UID].status
    assert status.phase == ("Failed" if any(codes) else "Completed")
    counted = [entry.counted for entry in status.attempts[:-1]]
    assert (status.failures, status.interruptions) == (0, counted.count("Interruption"))
