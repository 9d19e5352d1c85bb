"""spec.runPolicy PerName: a name runs once; what is not known is waited for."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stoker.api.trainingjob import TrainingJob
from stoker.core import trainingjob
from stoker.core.plan import Ask, Create, Found, NameHolder, Refused, Unavailable
from tests.support import build
from tests.support.build import Answering, job, view
from tests.support.world import Script, World

HOLDER = NameHolder("team", "iris", build.KEY, build.T0)
EARLIER = "iris-11111111"
RESULT = {
    "version": 1, "name": "iris", "namespace": "team", "uid": "11111111-0000", "key": EARLIER, "phase": "Completed",
    "reason": "Completed", "message": "", "exitCode": 0, "startedAt": build.stamp(-90), "finishedAt": build.stamp(-30),
    "timings": {"Running": 60.0}, "attempts": [{"number": 2, "reason": "Completed", "ranks": []}],
    "outputs": [{"path": "model.pkl", "size": 12, "sha256": "", "attempt": 2, "rank": 0}],
}  # fmt: skip
AWAY = Unavailable(
    "StorageUnavailable", "no answer from s3://runs", "see whether the object store answers", build.T0 + 30
)


def per_name(**spec: Any) -> TrainingJob:
    return job(runPolicy="PerName", **spec)


def holder(answer: Any) -> Answering:
    return Answering({HOLDER: answer})


@pytest.mark.parametrize("spec", [{}, {"cancel": True}, {"compute": "gone"}, {"limits": {"queueTimeoutSeconds": 1}}])
def test_a_name_that_ran_before_shows_that_runs_result_and_does_nothing(spec: dict[str, Any]) -> None:
    seen = view(per_name(**spec), answers=holder(Found({"key": EARLIER, "result": RESULT})), placed=["n0"])

    made = trainingjob.plan(seen, build.T0 + 20)

    assert made.actions == ()
    status = made.status
    assert status is not None
    assert (status.phase, status.exit_code, status.finished_at) == ("Completed", 0, build.stamp(-30))
    assert [output.path for output in status.outputs] == ["model.pkl"]
    assert status.key == EARLIER
    assert status.logs == f"s3://runs/team/jobs/{EARLIER}/attempts/2/0/logs/std_log.txt"
    assert status.message == f"spec.runPolicy PerName: the name ran before, as {EARLIER}, and does not run again"
    assert trainingjob.demand(seen, build.T0 + 20) is None


def test_a_failed_run_is_not_tried_again_under_its_name_either() -> None:
    failed = RESULT | {"phase": "Failed", "reason": "CommandFailed", "exitCode": 3, "message": "exit code 3"}

    made = trainingjob.plan(view(per_name(), answers=holder(Found({"key": EARLIER, "result": failed}))), build.T0 + 20)

    assert made.status is not None
    assert (made.status.phase, made.status.reason, made.status.exit_code) == ("Failed", "CommandFailed", 3)
    assert made.status.message.endswith("; exit code 3")


@pytest.mark.parametrize(
    ("answer", "reason", "phase"),
    [
        (AWAY, "WaitingForRecord", "Preparing"),
        (Refused("StorageRefused", "403", "check the credentials", build.T0 + 60), "WaitingForRecord", "Preparing"),
        (Unavailable("FormerRunEnding", "iris-11111111 ends", "use another name", build.T0 + 30), "FormerRunEnding", "Preparing"),
    ],
)  # fmt: skip
def test_while_the_record_is_out_of_reach_the_job_waits_and_says_so(answer: Any, reason: str, phase: str) -> None:
    seen = view(per_name(), answers=holder(answer), placed=["n0"])

    made = trainingjob.plan(seen, build.T0 + 20)

    assert not any(isinstance(action, Create) for action in made.actions)
    assert trainingjob.demand(seen, build.T0 + 20) is None
    assert made.status is not None
    assert made.status.waiting is not None
    assert (made.status.waiting.reason, made.status.phase) == (reason, phase)
    assert answer.message in made.status.waiting.message
    assert made.status.waiting.fix
    assert made.wake_at == answer.retry_at


def test_nothing_of_a_run_is_recorded_before_its_name_is_its_own() -> None:
    first = trainingjob.plan(view(per_name(), answers=Answering(silent=(NameHolder,))), build.T0 + 1)

    assert [action.question for action in first.actions if isinstance(action, Ask)] == [HOLDER]


def test_per_object_never_asks_for_the_name() -> None:
    made = trainingjob.plan(view(job(), answers={}), build.T0 + 1)

    assert not [
        action for action in made.actions if isinstance(action, Ask) and isinstance(action.question, NameHolder)
    ]


def test_a_canceled_job_has_its_name_before_its_end_is_recorded() -> None:
    world = World(build.cluster(provider="Static"))
    world.submit(per_name(cancel=True))

    world.run(60)

    assert world.phase(build.UID) == "Canceled"
    assert world.stored["NameHolder", "iris"] == build.KEY


@settings(max_examples=30, deadline=None)
@given(
    codes=st.sampled_from([(0,), (3,)]), again=st.lists(st.floats(0, 100), min_size=1, max_size=3), cancel=st.booleans()
)
def test_however_often_a_name_is_created_again_it_runs_once(
    codes: tuple[int, ...], again: list[float], cancel: bool
) -> None:
    """A finished TrainingJob is deleted and created again under other uids, as GitOps and restores do."""
    world = World(build.cluster())
    world.have_node("r0")
    world.submit(per_name(), Script(codes=codes, seconds=20))
    if cancel:
        world.later(10, lambda: world.cancel(build.UID))
    world.run(100)
    first = world.jobs[build.UID].status
    for number, pause in enumerate(again):
        world.jobs.clear()
        uid = f"{number + 2:08x}-0000-4000-8000-000000000001"
        world.run(pause)
        world.submit(per_name(uid=uid), Script(codes=(0,)))
        world.restart()
        world.run(60)
        shown = world.jobs[uid].status
        assert (shown.phase, shown.exit_code, shown.key) == (first.phase, first.exit_code, first.key)
        assert shown.outputs == first.outputs

    assert len(world.made) == 1
