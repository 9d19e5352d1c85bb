"""What is tried again: tables of how attempts end, and whole lives in a simulated cluster."""

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from stoker.api.trainingjob import FINISHED, Retry, TrainingJobStatus
from stoker.core import times, trainingjob
from stoker.core.plan import Ask, Create, Delete, Seals
from stoker.core.trainingjob import attempts
from stoker.core.trainingjob.ending import Failure
from stoker.core.trainingjob.retry import counts_as, verdict
from stoker.core.trainingjob.seen import back_off_seconds, look
from stoker.core.trainingjob.stands import where
from tests.support import build
from tests.support.build import Answering, child, exit_record, job, node, pod, seal, view
from tests.support.world import Script, World

OWN_DISK = 'Usage of EmptyDir volume "stoker-scratch" exceeds the limit "1Gi".'
NODE_SHORT = "The node was low on resource: ephemeral-storage."


@pytest.mark.parametrize(
    ("reason", "code", "words", "retry", "expected"),
    [
        *(
            (reason, None, "", Retry(), "Interruption")
            for reason in ("NodeLost", "PodLost", "Evicted", "Preempted", "PodStopped")
        ),
        ("Evicted", None, NODE_SHORT, Retry(limit=1), "Interruption"),
        ("Evicted", None, OWN_DISK, Retry(), None),
        ("Evicted", None, OWN_DISK, Retry(limit=1), "Failure"),
        ("Evicted", None, OWN_DISK, Retry(limit=1, causes=("OOMKilled",)), None),
        ("Evicted", None, OWN_DISK, Retry(limit=1, causes=("Evicted",)), "Failure"),
        ("OOMKilled", 137, "", Retry(), None),
        ("OOMKilled", 137, "", Retry(limit=1), "Failure"),
        ("OOMKilled", 137, "", Retry(limit=1, causes=("OOMKilled",)), "Failure"),
        ("OOMKilled", 137, "", Retry(limit=1, exit_codes=(75,)), None),
        ("OOMKilled", 137, "", Retry(limit=1, exit_codes=(137,)), "Failure"),
        ("NoProgress", 143, "", Retry(), None),
        ("NoProgress", 143, "", Retry(limit=1), "Failure"),
        ("NoProgress", 143, "", Retry(limit=1, causes=("NoProgress",)), "Failure"),
        ("NoProgress", 143, "", Retry(limit=1, causes=("OOMKilled",)), None),
        ("NoProgress", 0, "", Retry(limit=1, exit_codes=(75,)), None),
        ("CommandFailed", 75, "", Retry(), None),
        ("CommandFailed", 75, "", Retry(limit=1), "Failure"),
        ("CommandFailed", 75, "", Retry(limit=1, exit_codes=(75,)), "Failure"),
        ("CommandFailed", 1, "", Retry(limit=1, exit_codes=(75,)), None),
        ("CommandFailed", 75, "", Retry(limit=1, causes=("OOMKilled",)), None),
        *(
            (reason, None, "", Retry(limit=5), None)
            for reason in ("TimedOut", "OutputsNotSaved", "FetchFailed", "ImagePullFailed", "PackagesNotInImage")
        ),
    ],
)
def test_an_end_counts_by_its_cause(reason: str, code: int | None, words: str, retry: Retry, expected: str) -> None:
    assert expected == counts_as(retry, Failure("Failed", reason, words, code), suspect=False)


@pytest.mark.parametrize(
    ("retry", "expected"),
    [
        (Retry(), None),
        (Retry(limit=1), "Failure"),
        (Retry(limit=1, causes=("NodeLost",)), "Failure"),
        (Retry(limit=1, exit_codes=(75,)), None),
    ],
)
def test_a_suspect_node_loss_counts_as_the_commands(retry: Retry, expected: str | None) -> None:
    assert expected == counts_as(retry, Failure("Failed", "NodeLost", "", None), suspect=True)


@pytest.mark.parametrize("code", [143, 0])
def test_a_command_that_stood_still_is_tried_again_whatever_it_exits_with(code: int) -> None:
    words = "no new log line and no new file for 900 s (limits.noProgressSeconds)"
    stood = seal(exit=exit_record(code, reason="NoProgress", message=words))
    pods = (pod(started=3, exit_code=code, ended=12),)

    once = told(stood, pods=pods, retry={"limit": 1, "causes": ["NoProgress"]})
    never = told(stood, pods=pods)

    assert (once.again, once.reason, once.counted) == (True, "NoProgress", "Failure")
    assert (never.again, never.reason) == (False, "NoProgress")


def test_back_off_doubles_from_10_s_to_5_min() -> None:
    assert [10, 20, 40, 80, 160, 300, 300] == [back_off_seconds(failures) for failures in range(1, 8)]
    assert 300 == back_off_seconds(100)


def told(*seals: dict[str, Any], pods: Any = None, status: Any = None, after: float = 20.0, **spec: Any) -> Any:
    """The verdict on attempt 1 with these seals."""
    run = job(nodes=len(seals), status=status, **spec)
    given = [pod(rank, run, started=3, exit_code=1, ended=12) for rank in range(len(seals))] if pods is None else pods
    answers = Answering(seals={entry["rank"]: entry for entry in seals})
    seen = look(view(run, children=(child(run, ended="Failed"),), pods=tuple(given), answers=answers), build.T0 + after)
    assert seen.attempt is not None
    assert seen.attempt.sealed
    return verdict(seen, seen.attempt)


@pytest.mark.parametrize(
    ("disruption", "reason"),
    [
        ("PreemptionByScheduler", "Preempted"),
        ("EvictionByEvictionAPI", "Evicted"),
        ("TerminationByKubelet", "Evicted"),
        ("DeletionByTaintManager", "NodeLost"),
        ("DeletionByPodGC", "NodeLost"),
    ],
)
def test_kubernetes_own_word_for_why_it_stopped_a_pod_is_the_reason(disruption: str, reason: str) -> None:
    target = {
        "type": "DisruptionTarget", "status": "True", "reason": disruption, "lastTransitionTime": build.stamp(10),
    }  # fmt: skip
    stopped = pod(started=3, exit_code=143, ended=12, conditions=(target,))

    found = told(seal(exit=exit_record(143, reason="Stopped")), pods=[stopped])

    assert (found.again, found.reason, found.counted) == (True, reason, "Interruption")


TAKEN_BACK = {"key": "stoker.dev/preempted", "effect": "NoExecute"}


@pytest.mark.parametrize(
    ("after", "ready", "stop"),
    [(20, "True", "Preempted"), (20, "Unknown", "Preempted"), (14, "True", "Preempted")],
    ids=["noticed", "lost meanwhile", "at once"],
)
def test_a_node_that_is_taken_back_ends_the_attempt_as_preempted(after: float, ready: str, stop: str) -> None:
    node = build.node("n0", taints=[TAKEN_BACK], ready=ready)
    seen = look(view(children=(child(),), pods=(pod(started=3),), nodes=(node,)), build.T0 + after)

    assert stop == seen.stop


def test_a_command_that_is_done_is_not_stopped_for_its_node() -> None:
    node = build.node("n0", taints=[TAKEN_BACK])
    seen = look(view(children=(child(),), pods=(pod(started=3, saving=12),), nodes=(node,)), build.T0 + 13)

    assert "" == seen.stop


@pytest.mark.parametrize("early", [0, 5])
def test_a_preemption_is_an_interruption_however_often_it_comes_early(early: int) -> None:
    """A lost node is suspected of the command after three times; one that its provider takes back never."""
    run = job(status={"earlyNodeLosses": early, "attempts": [{"number": 1, "reason": "Preempted"}]})
    sealed = seal(exit=exit_record(143, reason="Stopped"))
    seen = look(
        view(run, children=(child(run, deleting=True),), pods=(), answers=Answering(seals={0: sealed})), build.T0 + 20
    )
    assert seen.attempt is not None
    found = verdict(seen, seen.attempt)

    assert (found.again, found.reason, found.counted, found.early) == (True, "Preempted", "Interruption", False)


def test_a_pod_that_went_before_its_attempt_was_told_to_end_is_preempted_too() -> None:
    target = {
        "type": "DisruptionTarget", "status": "True", "reason": "DeletionByTaintManager",
        "lastTransitionTime": build.stamp(10),
    }  # fmt: skip
    stopped = pod(started=3, exit_code=143, ended=12, conditions=(target,))
    node = build.node("n0", taints=[TAKEN_BACK])
    answers = Answering(seals={0: seal(exit=exit_record(143, reason="Stopped"))})
    seen = look(view(children=(child(ended="Failed"),), pods=(stopped,), nodes=(node,), answers=answers), build.T0 + 14)
    assert seen.attempt is not None

    assert "Preempted" == verdict(seen, seen.attempt).reason


@pytest.mark.parametrize(("taken_at", "reason", "again"), [(8, "Preempted", True), (13, "CommandFailed", False)])
def test_a_rank_that_was_taken_away_is_to_blame_for_what_the_others_then_say(
    taken_at: float, reason: str, again: bool
) -> None:
    target = {
        "type": "DisruptionTarget", "status": "True", "reason": "PreemptionByScheduler",
        "lastTransitionTime": build.stamp(taken_at),
    }  # fmt: skip
    gang = job(nodes=2)
    pods = [
        pod(0, gang, started=3, exit_code=1, ended=12),
        pod(1, gang, started=3, exit_code=143, ended=14, conditions=(target,)),
    ]

    found = told(
        seal(0, exit=exit_record(1, at=12)), seal(1, exit=exit_record(143, reason="Stopped", at=14)), pods=pods
    )

    assert (found.reason, found.again) == (reason, again)


@pytest.mark.parametrize(
    ("status", "retry", "again", "words"),
    [
        ({"failures": 1}, {"limit": 2}, True, ""),
        ({"failures": 2}, {"limit": 2}, False, "this was failure 3; spec.retry.limit is 2"),
        ({"failures": 40}, {"limit": 41}, True, ""),
    ],
)
def test_failures_are_counted_in_status(status: dict[str, int], retry: dict[str, int], again: bool, words: str) -> None:
    found = told(seal(exit=exit_record(1)), status=status, retry=retry)

    assert (found.again, found.words) == (again, words)


def test_a_cancel_that_comes_while_an_interruption_is_sealed_keeps_another_attempt_from_following() -> None:
    lost = seal(code=None, complete=False, reason="PodLost")

    assert told(lost).again
    assert not told(lost, cancel=True).again


@pytest.mark.parametrize("losses", [0, 1, 2])
@pytest.mark.parametrize(("lost_at", "early"), [(500.0, True), (700.0, False)])
def test_from_the_third_on_an_early_node_loss_counts_as_the_commands(losses: int, lost_at: float, early: bool) -> None:
    found = told(
        seal(code=None, complete=False, reason="NodeLost", at=lost_at), status={"earlyNodeLosses": losses},
        retry={"limit": 1}, after=2000,
    )  # fmt: skip

    assert found.early == early
    assert found.counted == ("Failure" if early and losses == 2 else "Interruption")


def test_a_suspect_node_loss_that_is_not_tried_again_says_so() -> None:
    found = told(
        seal(code=None, complete=False, reason="NodeLost", at=30), status={"earlyNodeLosses": 2}, after=40
    )  # fmt: skip

    assert not found.again
    assert "the 3. node lost within 10m of an attempt's start" in found.words


# -- Whole lives.


def world_of(*scripts: Script, ready: int = 1, nodes: int = 1, **spec: Any) -> World:
    world = World(build.cluster())
    for number in range(ready):
        world.have_node(f"r{number}")
    world.submit(build.job(nodes=nodes, **spec), *scripts)
    return world


def status_of(world: World) -> TrainingJobStatus:
    return world.jobs[build.UID].status


def lose_its_node(world: World) -> None:
    """Power off a node on which the job's newest pod runs."""
    newest = max(world.pods.values(), key=lambda pod: attempts.attempt_of(pod.metadata.labels))
    world.lose_node(newest.spec.node_name)


def test_a_run_that_loses_its_node_completes_in_its_second_attempt() -> None:
    world = world_of(Script(seconds=100), ready=2)
    world.later(30, lambda: lose_its_node(world))

    world.run(600)

    status = status_of(world)
    assert (status.phase, status.failures, status.interruptions) == ("Completed", 0, 1)
    assert [(a.number, a.child, a.nodes, a.reason, a.counted) for a in status.attempts] == [
        (1, "iris-0c0ffee0-1", ("r1",), "NodeLost", "Interruption"),
        (2, "iris-0c0ffee0-2", ("r0",), "Completed", None),
    ]
    assert all(a.started_at and a.ended_at for a in status.attempts)
    assert ("delete Job", "iris-0c0ffee0-1") in world.writes
    result = world.stored["ResultWritten", build.KEY]
    assert [(a["number"], a["reason"], a["ranks"][0]["reason"]) for a in result["attempts"]] == [
        (1, "NodeLost", "NodeLost"),
        (2, "Completed", None),
    ]
    assert {output["attempt"] for output in result["outputs"]} == {2}
    assert set(result["timings"]) == {"FormerAttempts", "Queued", "Starting", "Running", "Finalizing"}


def test_a_node_loss_costs_no_wait_for_pods_that_never_end() -> None:
    world = world_of(Script(seconds=600), ready=2)
    world.later(30, lambda: lose_its_node(world))

    world.run(90, until=lambda world: "iris-0c0ffee0-2" in world.made)

    assert "iris-0c0ffee0-2" in world.made
    assert world.now - build.T0 < 30 + attempts.SILENT_SECONDS + 5


@pytest.mark.parametrize("nodes", [1, 2])
def test_an_exit_code_that_asks_for_another_try_gets_one(nodes: int) -> None:
    world = world_of(
        Script(codes=(75,)), Script(), ready=nodes, nodes=nodes, retry={"limit": 1, "exitCodes": [75]}
    ).run(300)  # fmt: skip

    status = status_of(world)
    assert (status.phase, status.failures, status.interruptions) == ("Completed", 1, 0)
    services = [name for what, name in world.writes if what == "delete Service"]
    assert services == ([] if nodes == 1 else ["iris-0c0ffee0-1", "iris-0c0ffee0-2"])


def test_another_exit_code_ends_the_run_at_once() -> None:
    world = world_of(Script(codes=(1,)), retry={"limit": 3, "exitCodes": [75]}).run(300)

    assert (status_of(world).phase, status_of(world).reason, world.made) == (
        "Failed", "CommandFailed", ["iris-0c0ffee0-1"],
    )  # fmt: skip
    assert "retry" not in status_of(world).message


def test_a_used_up_limit_is_told_with_the_last_failure() -> None:
    world = world_of(Script(codes=(1,)), Script(codes=(2,)), Script(codes=(3,)), retry={"limit": 2}).run(600)

    status = status_of(world)
    assert (status.phase, status.reason, status.exit_code, status.failures) == ("Failed", "CommandFailed", 3, 2)
    assert status.message == "the command ended with exit code 3 (this was failure 3; spec.retry.limit is 2)"
    assert len(world.made) == 3


def test_a_used_up_interruption_limit_is_told() -> None:
    world = world_of(Script(vanish=20, seconds=600), retry={"interruptionLimit": 1}).run(900)

    status = status_of(world)
    assert (status.phase, status.reason, status.interruptions) == ("Failed", "PodLost", 1)
    assert "this was interruption 2; spec.retry.interruptionLimit is 1" in status.message
    assert len(world.made) == 2


def test_more_attempts_than_status_lists_are_counted_all_the_same() -> None:
    world = world_of(Script(vanish=5, seconds=600), retry={"interruptionLimit": 40}).run(7200)

    status = status_of(world)
    assert (status.phase, status.interruptions, len(world.made)) == ("Failed", 40, 41)
    assert [entry.number for entry in status.attempts] == list(range(10, 42))


def test_the_time_of_the_next_try_is_shown_and_kept_and_no_node_is_asked_for_before() -> None:
    world = world_of(Script(codes=(1,), seconds=10), Script(), retry={"limit": 1})
    world.run(200, until=lambda world: status_of(world).failures == 1)

    status = status_of(world)
    due = build.stamp(11.7 + 10)
    assert (status.phase, status.waiting.reason) == ("Queued", "RetryBackoff")  # type: ignore[union-attr]
    assert due in status.waiting.message  # type: ignore[union-attr]
    assert trainingjob.demand(world.view(build.UID), world.now) is None
    world.run(200, until=lambda world: len(world.made) == 2)
    assert 10 <= world.now - (times.seconds(status.attempts[0].ended_at) or 0) < 11


def test_a_timeout_is_never_tried_again() -> None:
    world = world_of(Script(starts=False), retry={"limit": 5}, limits={"timeoutSeconds": 60, "graceSeconds": 20})

    world.run(600)

    assert (status_of(world).reason, len(world.made)) == ("TimedOut", 1)


def test_a_timeout_is_each_attempts_own() -> None:
    """Two attempts that together take longer than the timeout, each shorter."""
    world = world_of(
        Script(codes=(1,), seconds=50), Script(seconds=50), retry={"limit": 1},
        limits={"timeoutSeconds": 60, "graceSeconds": 10},
    ).run(600)  # fmt: skip

    assert status_of(world).phase == "Completed"


def test_a_cancel_while_the_next_try_is_awaited_ends_the_run_with_its_attempt_in_the_record() -> None:
    world = world_of(Script(codes=(1,)), retry={"limit": 1})
    world.run(200, until=lambda world: status_of(world).failures == 1)
    world.cancel(build.UID)

    world.run(200)

    status = status_of(world)
    assert (status.phase, status.reason) == ("Canceled", "Canceled")
    assert status.message == "canceled by spec.cancel after attempt 1, before the next had started"
    assert [(a.number, a.reason) for a in status.attempts] == [(1, "CommandFailed")]
    result = world.stored["ResultWritten", build.KEY]
    assert [(a["number"], a["reason"], a["ranks"][0]["exitCode"]) for a in result["attempts"]] == [
        (1, "CommandFailed", 1)
    ]
    assert len(world.made) == 1


def test_a_job_that_was_canceled_is_not_tried_again() -> None:
    world = world_of(Script(seconds=600), ready=2)
    world.later(30, lambda: world.cancel(build.UID))

    world.run(300)

    assert (status_of(world).phase, len(world.made)) == ("Canceled", 1)


CLOSED = {"number": 1, "reason": "PodLost", "counted": "Interruption", "endedAt": build.stamp(20)}
BETWEEN = {"phase": "Queued", "attempts": [CLOSED], "interruptions": 1}


@pytest.mark.parametrize(
    ("members", "after", "name"),
    [
        ({"placed": ["n0"]}, 21, "Granted"),
        # What is left of an attempt that is closed is not believed, whatever it says.
        ({"pods": (pod(started=3),), "placed": ["n0"]}, 21, "Granted"),
        ({"pods": (pod(started=3, exit_code=0),)}, 21, "Queued"),
        ({"children": (child(ended="Failed"),)}, 21, "Queued"),
        ({"children": (child(),), "placed": ["n0"]}, 21, "Clearing"),
        ({"children": (child(deleting=True),), "placed": ["n0"]}, 21, "Granted"),
        ({"children": (child(attempt=2),)}, 21, "Starting"),
    ],
)
def test_a_closed_attempt_is_over_whatever_is_still_seen_of_it(
    members: dict[str, Any], after: float, name: str
) -> None:
    assert name == where(look(view(job(status=BETWEEN), **members), build.T0 + after)).name


def test_a_former_child_that_nobody_finishes_is_deleted_by_its_uid_before_the_next_is_made() -> None:
    seen = view(job(status=BETWEEN), children=(child(),), placed=["n0"])

    early = trainingjob.plan(seen, build.T0 + 22)
    late = trainingjob.plan(seen, build.T0 + 25)

    assert (early.actions, early.wake_at) == ((), build.T0 + 25)
    assert late.actions == (Delete("Job", "team", "iris-0c0ffee0-1", "uid-iris-0c0ffee0-1"),)


def test_the_next_attempt_is_made_under_its_own_name() -> None:
    (made,) = trainingjob.plan(view(job(status=BETWEEN), placed=["n0"]), build.T0 + 21).actions

    assert isinstance(made, Create)
    assert made.manifest["metadata"]["name"] == "iris-0c0ffee0-2"


def test_a_next_attempt_that_was_made_and_forgotten_is_not_made_again() -> None:
    """The operator was away, and the child of attempt 2 went with its time to live: its seals are there."""
    looking = trainingjob.plan(view(job(status=BETWEEN), placed=["n0"], answers={}), build.T0 + 9000)
    question = Seals("team", build.KEY, 2, 1, "before")
    assert Ask(question) in looking.actions

    seen = look(view(job(status=BETWEEN), answers=Answering(seals={0: seal(attempt=2)})), build.T0 + 9000)

    assert seen.attempt is not None
    assert (seen.attempt.number, where(seen).name) == (2, "Completed")


def test_the_decision_is_the_same_as_often_as_it_is_made() -> None:
    """The write of the status was lost: the same is decided from the same seals."""
    seen = view(
        job(retry={"limit": 1}), children=(child(ended="Failed"),), pods=(pod(started=3, exit_code=1, ended=12),),
        answers=Answering(seals={0: seal(exit=exit_record(1))}),
    )  # fmt: skip

    first, second = (trainingjob.plan(seen, build.T0 + after) for after in (14, 300))

    assert first.status is not None
    assert second.status is not None
    assert first.status.attempts == second.status.attempts
    assert (first.status.failures, second.status.failures) == (1, 1)


# -- The operator killed at any time.


def lives() -> dict[str, Callable[[], World]]:
    def losing() -> World:
        world = world_of(Script(seconds=60), ready=2)
        world.later(30, lambda: lose_its_node(world))
        return world

    return {
        "node lost": losing,
        "failures": lambda: world_of(Script(codes=(1,)), Script(codes=(1,)), Script(), retry={"limit": 2}),
        "gang": lambda: world_of(Script(codes=(0, 9)), Script(), ready=2, nodes=2, retry={"limit": 1}),
        "pod lost": lambda: world_of(Script(vanish=8), Script()),
    }


@pytest.mark.parametrize("name", lives())
def test_an_operator_that_forgets_everything_between_any_two_steps_ends_the_run_alike(name: str) -> None:
    undisturbed = lives()[name]().run(900)
    world = lives()[name]()
    seconds = [world.later(at / 2, world.restart) for at in range(1, 400)]
    assert len(seconds) == 399

    world.run(900)

    assert status_of(world).phase == status_of(undisturbed).phase == "Completed"
    assert world.made == undisturbed.made
    assert [(a.number, a.reason, a.counted) for a in status_of(world).attempts] == [
        (a.number, a.reason, a.counted) for a in status_of(undisturbed).attempts
    ]


SCRIPTS = st.builds(
    Script,
    codes=st.lists(st.sampled_from([0, 0, 1, 75]), min_size=1, max_size=2).map(tuple),
    seconds=st.floats(0.1, 40),
    sealing=st.sampled_from(["complete", "complete", "complete", "incomplete", "never"]),
    vanish=st.none() | st.floats(0.1, 30),
)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    scripts=st.lists(SCRIPTS, min_size=1, max_size=4),
    nodes=st.integers(1, 2),
    retry=st.fixed_dictionaries(
        {"limit": st.integers(0, 2), "interruptionLimit": st.integers(0, 2)},
        optional={"exitCodes": st.just([75]), "causes": st.just(["OOMKilled"])},
    ),
    restarts=st.lists(st.floats(0, 200), max_size=6),
    losses=st.lists(st.tuples(st.sampled_from(["r0", "r1", "n0001"]), st.floats(1, 200)), max_size=2),
    canceled=st.none() | st.floats(1, 200),
)
def test_a_run_has_one_attempt_at_a_time_and_an_end(
    scripts: list[Script],
    nodes: int,
    retry: dict[str, Any],
    restarts: list[float],
    losses: list[tuple[str, float]],
    canceled: float | None,
) -> None:
    """The world itself refuses a child that is made twice or beside an open one, and a round of plans without end."""
    world = world_of(*scripts, nodes=nodes, ready=2, retry=retry, limits={"timeoutSeconds": 300, "graceSeconds": 10})
    for at in restarts:
        world.later(at, world.restart)
    for name, at in losses:
        world.later(at, lambda name=name: world.lose_node(name))  # type: ignore[misc]
    if canceled is not None:
        world.later(canceled, lambda: world.cancel(build.UID))

    world.run(9000)

    status = status_of(world)
    assert status.phase in FINISHED
    assert status.failures <= retry["limit"]
    assert status.interruptions <= retry["interruptionLimit"]
    assert [entry.number for entry in status.attempts] == list(range(1, len(world.made) + 1))
    assert len(world.made) <= 1 + status.failures + status.interruptions
    assert trainingjob.plan(world.view(build.UID), world.now).status is None
    if status.phase == "Completed":
        last = world.seals[build.KEY, len(world.made)]
        assert all(one["complete"] and one["exit"]["code"] == 0 for one in last.values())


def test_the_lost_node_is_not_asked_for_again() -> None:
    seen = view(job(status=BETWEEN), nodes=[node("n0", ready="Unknown")], pods=(pod(started=3),), placed=["n1"])

    (made,) = trainingjob.plan(seen, build.T0 + 21).actions

    assert isinstance(made, Create)
    assert made.manifest["metadata"]["name"].endswith("-2")
