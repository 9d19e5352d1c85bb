"""What is believed of pods, nodes and seals, and when."""

from typing import Any

import msgspec
import pytest

from stoker.core import trainingjob
from stoker.core.plan import Ask, CloseRank, Delete, Found, NameHolder, Posted, Refused, Seals
from stoker.core.trainingjob import attempts
from stoker.core.trainingjob.seen import look
from stoker.core.trainingjob.stands import STANDS, where
from tests.support import build
from tests.support.build import Answering, child, job, node, pod, seal, view
from tests.support.kueue import queued, queues


def stand(after: float = 20.0, **members: Any) -> str:
    return where(look(view(**members), build.T0 + after)).name


def asked(after: float = 20.0, **members: Any) -> list[Any]:
    made = trainingjob.plan(view(**members), build.T0 + after)
    return [action.question for action in made.actions if isinstance(action, Ask)]


NO_SEALS = {"silent": (Seals, CloseRank)}


CLOSED = {"number": 1, "reason": "PodLost", "counted": "Interruption", "endedAt": build.stamp(15)}
HOLDER = NameHolder("team", "iris", build.KEY, build.T0)
POSTED = Posted("Job", "team", "iris-0c0ffee0-1")
#: What is seen, and where the job stands then: one line at least for each line of the table.
PLACES: list[tuple[dict[str, Any], str]] = [
    ({}, "Queued"),
    ({"placed": ["n0"]}, "Granted"),
    ({"of": job(cancel=True)}, "CanceledBeforeStart"),
    ({"without_cluster": True}, "Hindered"),
    ({"answers": {}}, "Preparing"),
    ({"children": (child(),)}, "Starting"),
    ({"children": (child(),), "pods": (pod(),)}, "Starting"),
    ({"children": (child(),), "pods": (pod(started=3),)}, "Running"),
    ({"children": (child(),), "pods": (pod(started=3, saving=12),)}, "Saving"),
    ({"children": (child(),), "pods": (pod(started=3, exit_code=0),)}, "Sealing"),
    ({"children": (child(ended="Failed"),)}, "Sealing"),
    ({"pods": (pod(started=3),)}, "Running"),
    ({"children": (child(),), "pods": (pod(started=3),), "of": job(cancel=True)}, "Canceling"),
    ({"children": (child(),), "pods": (pod(started=3),), "nodes": [node("other")]}, "Stopping"),
    (
        {"children": (child(),), "pods": (pod(started=3, exit_code=0),), "answers": Answering(seals={0: seal()})},
        "Completed",
    ),
    (
        {"children": (child(),), "pods": (pod(started=3, exit_code=3),), "answers": Answering(seals={0: seal(0, 3)})},
        "Failed",
    ),
    (
        {
            "of": job(retry={"limit": 1}),
            "children": (child(),),
            "pods": (pod(started=3, exit_code=3),),
            "answers": Answering(seals={0: seal(0, 3)}),
        },
        "Retrying",
    ),
    (
        {
            "of": job(runPolicy="PerName"),
            "answers": Answering({HOLDER: Found({"key": "iris-11111111", "result": {"phase": "Completed"}})}),
        },
        "RanBefore",
    ),
    ({"of": job(limits={"queueTimeoutSeconds": 20})}, "QueueTimedOut"),
    ({"answers": Answering({POSTED: Refused("PodsRejected", "quota")}), "placed": ["n0"]}, "Refused"),
    ({"of": job(suspend=True), "placed": ["n0"]}, "Suspended"),
    ({"of": job(suspend=True), "children": (child(),), "pods": (pod(started=3),)}, "Stopping"),
    ({"of": job(status={"attempts": [CLOSED | {"counted": "Failure"}], "failures": 1})}, "BackingOff"),
    ({"of": job(status={"attempts": [CLOSED]}), "children": (child(),)}, "Clearing"),
    ({"of": job(queue={"name": "vision"}), "queues": queues()}, "Queueing"),
    ({"of": job(queue={"name": "vision"}), "queues": queues(), "children": (queued(),)}, "InQueue"),
    ({"of": job(status={"attempts": [CLOSED | {"reason": "NotQueued", "counted": "Neither"}]})}, "NotQueued"),
    ({"of": job(status={"phase": "Completed"})}, "Finished"),
    ({"of": job(status={"phase": "Failed"}, cancel=True), "children": (child(),)}, "Finished"),
    (
        {
            "of": job(status={"attempts": [{"number": 1, "reason": "Canceled"}]}),
            "children": (child(),),
            "pods": (pod(started=3, exit_code=143),),
            "answers": Answering(seals={0: seal(0, 143)}),
        },
        "Canceled",
    ),
]


@pytest.mark.parametrize(("members", "name"), PLACES, ids=[f"{name}-{n}" for n, (_, name) in enumerate(PLACES)])
def test_what_is_seen_says_where_the_job_stands(members: dict[str, Any], name: str) -> None:
    assert name == stand(**members)


def test_no_line_of_the_table_is_out_of_reach() -> None:
    assert {stand.name for stand in STANDS} == {name for _, name in PLACES}


def test_a_gang_runs_once_every_rank_has_started() -> None:
    gang = job(nodes=2)
    one = (pod(0, gang, started=3), pod(1, gang))
    both = (pod(0, gang, started=3), pod(1, gang, started=5))

    assert stand(of=gang, children=(child(gang),), pods=one) == "Starting"
    assert stand(of=gang, children=(child(gang),), pods=both) == "Running"
    made = trainingjob.plan(view(gang, children=(child(gang),), pods=both), build.T0 + 6)
    assert made.status is not None
    assert made.status.started_at == build.stamp(5)


@pytest.mark.parametrize(
    ("ready", "after", "lost"),
    [("True", 999, False), ("Unknown", 14, False), ("Unknown", 15, True), ("False", 59, False), ("False", 60, True)],
)
def test_a_node_is_lost_after_it_was_silent_or_unready_for_long_enough(ready: str, after: float, lost: bool) -> None:
    nodes = [node("n0", ready=ready, since=100)]
    members: dict[str, Any] = {"children": (child(),), "pods": (pod(started=3),), "nodes": nodes}

    assert (stand(100 + after, **members) == "Stopping") == lost
    if not lost and ready != "True":
        made = trainingjob.plan(view(**members), build.T0 + 100 + after)
        assert made.wake_at == build.T0 + 100 + (15 if ready == "Unknown" else 60)


def test_an_attempt_is_ended_one_way_first_recorded_then_deleted_then_closed() -> None:
    lost: dict[str, Any] = {"children": (child(),), "pods": (pod(started=3),), "nodes": [node("other")]}

    first = trainingjob.plan(view(**lost, answers=Answering(silent=(CloseRank, Seals))), build.T0 + 20)
    assert first.actions == ()
    assert first.status is not None
    assert [entry.reason for entry in first.status.attempts] == ["NodeLost"]

    recorded = job(status=first.status)
    second = trainingjob.plan(view(recorded, **lost, answers=Answering(silent=(CloseRank, Seals))), build.T0 + 21)
    assert second.actions[0] == Delete("Job", "team", "iris-0c0ffee0-1", "uid-iris-0c0ffee0-1")

    gone: dict[str, Any] = {"pods": (), "nodes": [node("other")]}
    third = asked(22, of=recorded, **gone, answers=Answering(silent=(CloseRank,)))
    assert [(type(question), question.reason) for question in third] == [(CloseRank, "PodLost")]


def test_a_rank_that_is_sealed_is_never_closed() -> None:
    """Its child went with its time to live while nobody looked: the seals tell the whole story."""
    recorded = job(status={"attempts": [{"number": 1}], "phase": "Running"})

    made = trainingjob.plan(view(recorded, answers=Answering(seals={0: seal()})), build.T0 + 9000)

    assert made.status is not None
    assert made.status.phase == "Completed"


def test_a_forgotten_attempt_is_found_by_its_seals_and_not_made_again() -> None:
    """The child was made, ran and went before any status of it was written."""
    made = trainingjob.plan(view(answers=Answering(seals={0: seal()}), placed=["n0"]), build.T0 + 9000)

    assert made.actions == ()
    assert made.status is not None
    assert made.status.phase == "Completed"


def test_a_job_that_nobody_saw_is_looked_up_before_it_asks_for_nodes() -> None:
    silent = view(answers=Answering(silent=(Seals,)))

    assert trainingjob.demand(silent, build.T0 + 1) is not None
    assert trainingjob.demand(silent, build.T0 + 9000) is None


def test_a_pod_that_ended_without_a_seal_is_closed_after_the_patience() -> None:
    members: dict[str, Any] = {
        "children": (child(),), "pods": (pod(started=3, exit_code=0, ended=12),), "answers": Answering(silent=(CloseRank,))
    }  # fmt: skip

    assert asked(12 + attempts.SEAL_PATIENCE - 1, **members) == []
    (question,) = asked(12 + attempts.SEAL_PATIENCE, **members)
    assert (question.rank, question.reason) == (0, "OutputsNotSaved")


def test_a_rank_that_ship_could_not_seal_is_closed_with_ships_list_of_files() -> None:
    said = "OutputsNotSaved: the seal was not accepted: no route; not saved: outputs/a, outputs/b"
    ended = pod(
        started=3, exit_code=125, ended=12,
        ship={"terminated": {"exitCode": 1, "finishedAt": build.stamp(13), "message": said}},
    )  # fmt: skip

    (question,) = asked(
        12 + attempts.SEAL_PATIENCE, children=(child(),), pods=(ended,), answers=Answering(silent=(CloseRank,))
    )

    assert ("OutputsNotSaved", said) == (question.reason, question.message)


@pytest.mark.parametrize(("rank", "expected"), [({}, "TimedOut"), ({"saving": 50}, ""), ({"exit_code": 0}, "")])
def test_a_run_that_only_saves_is_not_ended_by_its_timeout(rank: dict[str, Any], expected: str) -> None:
    """How long saving may take is saveStallSeconds' matter."""
    of = job(limits={"timeoutSeconds": 60, "graceSeconds": 20})
    seen = view(of, children=(child(),), pods=(pod(started=3, **rank),), answers=Answering(silent=(Seals, CloseRank)))

    at = look(seen, build.T0 + 90)

    assert expected == at.stop
    if not expected:
        wake = trainingjob.plan(seen, build.T0 + 90).wake_at
        assert wake is None or wake > build.T0 + 90, "what is over is nothing to wake up for"


def test_missing_seals_are_looked_for_again_and_again_but_ever_less_often() -> None:
    seen = view(
        children=(child(),), pods=(pod(started=3, exit_code=0, ended=12),), answers=Answering(silent=(CloseRank,))
    )
    looks: set[str] = set()
    now = build.T0 + 12
    for _ in range(10):
        attempt = look(seen, now).attempt
        assert attempt is not None
        assert attempt.question is not None
        looks.add(attempt.question.seen)
        assert attempt.look_at is not None
        assert attempt.look_at > now
        now = attempt.look_at

    assert len(looks) == 10
    assert now - build.T0 - 12 > 200


def test_seals_are_asked_for_anew_when_the_pods_change() -> None:
    running = {"children": (child(),), "answers": Answering(silent=(Seals,))}

    (first,) = asked(13, **running, pods=(pod(started=3, exit_code=0, ended=12, phase="Running"),))
    (second,) = asked(13, **running, pods=(pod(started=3, exit_code=0, ended=12),))

    assert isinstance(first, Seals)
    assert first.seen != second.seen


def test_an_answer_that_is_no_seal_is_not_believed() -> None:
    first = view(children=(child(),), pods=(pod(started=3, exit_code=0, ended=12),), answers=Answering(silent=(Seals,)))
    (ask,) = trainingjob.plan(first, build.T0 + 13).actions
    assert isinstance(ask, Ask)
    for forged in ("complete", {0: "complete"}, {0: {"complete": "yes", "exit": {"code": 0}}}, {0: {"complete": True}}):
        answers = Answering({ask.question: Found(forged)}, silent=(Seals, CloseRank))
        made = trainingjob.plan(view(children=first.children, pods=first.pods, answers=answers), build.T0 + 13)
        assert made.status is None or made.status.phase != "Completed"


def test_holdings_are_rebuilt_from_objects_alone() -> None:
    gang = job(nodes=2)
    waiting = child(gang, nodes=("n0", "n1"))

    assert trainingjob.holdings([waiting], [])["cpu"][0].nodes == ("n0", "n1")
    assert trainingjob.holdings([waiting], [])["cpu"][0].since == build.T0 + 1
    done = [pod(rank, gang, on=f"n{rank}", started=3, exit_code=0) for rank in range(2)]
    assert trainingjob.holdings([waiting], done) == {}
    still = [pod(0, gang, on="n0", started=3), done[1]]
    assert trainingjob.holdings([], still)["cpu"][0].nodes == ("n0",)
    assert trainingjob.holdings([child(gang, ended="Failed")], []) == {}


def test_a_demand_stands_only_while_nothing_else_is_missing() -> None:
    now = build.T0 + 1
    wanted = trainingjob.demand(view(job(nodes=3)), now)
    assert wanted is not None
    assert (wanted.count, wanted.attempt, wanted.since) == (3, 1, build.T0)
    assert trainingjob.demand(view(answers={}), now) is None
    assert trainingjob.demand(view(job(cancel=True)), now) is None
    assert trainingjob.demand(view(children=(child(),)), now) is None
    assert trainingjob.demand(view(job(status={"phase": "Failed"})), now) is None
    assert trainingjob.demand(view(without_cluster=True), now) is None


def test_pods_that_still_end_keep_their_nodes_when_their_job_is_gone() -> None:
    """Its name may be created again meanwhile: the new run gets other nodes."""
    old = pod(of=job(uid="11111111-0000-4000-8000-000000000001"), started=3)
    metadata = msgspec.structs.replace(old.metadata, deletion_timestamp=build.stamp(20))
    ending = msgspec.structs.replace(old, metadata=metadata)

    (held,) = trainingjob.holdings([], [ending])["cpu"]
    assert (held.uid, held.nodes) == ("11111111-0000-4000-8000-000000000001", ("n0",))
    assert trainingjob.holdings([], [pod(of=job(), started=3, exit_code=143)]) == {}
    assert stand(of=job(), pods=(), children=()) == "Queued"
