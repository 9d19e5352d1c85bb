"""`stoker why --plan` tells the plan and its facts as plain data, and nothing that may be secret."""

import json
from dataclasses import fields
from typing import Any, get_args

import pytest

from stoker.core import trainingjob
from stoker.core.plan import (
    Action,
    Answer,
    Ask,
    BuildLog,
    Cleaned,
    CloseRank,
    EnvironmentRecord,
    Found,
    ImageDigest,
    InlineSnapshot,
    InputFiles,
    LockCopy,
    NameHolder,
    Plan,
    Posted,
    Question,
    Recorded,
    Refused,
    RegistryPlace,
    ResultWritten,
    Retained,
    Seals,
    SnapshotEntries,
    SnapshotFiles,
    SnapshotPresent,
    SnapshotUrl,
    StoragePreflight,
    Unavailable,
)
from stoker.core.trainingjob.explain import explain
from stoker.core.trainingjob.view import JobView, Placement
from tests.support import build

CANARY = "hunter2-canary"
QUESTIONS: tuple[Question, ...] = (
    SnapshotPresent("team", build.SNAPSHOT),
    InlineSnapshot("team", (("train.py", CANARY),)),
    InputFiles("team", "s3://b/x/", False),
    ImageDigest("team", build.IMAGE, "linux/amd64", ("pull",)),
    SnapshotFiles("team", build.SNAPSHOT, ("conda.yaml",)),
    SnapshotEntries("team", build.SNAPSHOT),
    SnapshotUrl("team", build.SNAPSHOT, 3600, "env-x-1"),
    EnvironmentRecord("team", "a" * 64, "b" * 64, (RegistryPlace("registry.example.com/ml/team", "push"),)),
    BuildLog("team", "a" * 64, "env-x-1-abcde", "end", build.stamp(1)),
    LockCopy("team", "a" * 64, RegistryPlace("registry.example.com/ml/team")),
    Recorded("team", build.KEY, CANARY),
    NameHolder("team", "iris", build.KEY, build.T0),
    Seals("team", build.KEY, 1, 1, "x"),
    CloseRank("team", build.KEY, 1, 0, "NodeLost", CANARY),
    ResultWritten("team", build.KEY, CANARY),
    StoragePreflight("team", build.STORAGE),
    Retained("team", build.STORAGE),
    Cleaned("team"),
    Posted("Job", "team", "iris-1"),
)


def explained(view: JobView, at: float = 5.0) -> dict[str, Any]:
    now = build.T0 + at
    told = explain(view, trainingjob.plan(view, now), trainingjob.demand(view, now), now)
    return json.loads(json.dumps(told))  # type: ignore[no-any-return]


def test_a_job_that_may_start_shows_the_child_it_would_make() -> None:
    told = explained(build.view(placed=["n0"]))

    child = next(one for one in told["plan"]["actions"] if one.get("kind") == "Job")
    assert ("Create", ["n0"]) == (child["action"], child["nodes"])
    assert build.PINNED == child["images"]["main"]
    assert {"granted": True, "nodes": ["n0"], "reason": "", "message": "", "fix": ""} == told["facts"]["placement"]


def test_a_job_that_waits_for_nodes_shows_its_pool_and_what_it_wants() -> None:
    waiting = Placement(reason="WaitingForTurn", message="others are first", fix="wait")
    told = explained(build.view(build.job(nodes=2), placement=waiting))

    assert {"attempt": 1, "nodes": 2, "instanceType": None} == told["facts"]["wants"]
    assert "WaitingForTurn" == told["facts"]["placement"]["reason"] == told["plan"]["status"]["waiting"]["reason"]
    assert ("cpu", 4) == (told["facts"]["pool"]["name"], told["facts"]["pool"]["maxInstances"])


def test_a_running_job_shows_its_child_pods_and_nodes() -> None:
    view = build.view(children=(build.child(),), pods=(build.pod(started=4.0),))
    facts = explained(view)["facts"]

    assert [("n0", 0, 1, "Running")] == [
        (one["node"], one["rank"], one["attempt"], one["phase"]) for one in facts["pods"]
    ]
    assert [("n0", "True"), ("n1", "True")] == [(one["name"], one["ready"]) for one in facts["nodes"]]
    assert [(1, None, False)] == [(one["attempt"], one["ended"], one["deleting"]) for one in facts["children"]]


def test_what_lost_ranks_left_is_shown_with_who_saves_it() -> None:
    claim, saving = build.claim(), build.salvage()
    told = explained(build.view(children=(build.child(ended="Failed"),), claims=(claim,), salvages=(saving,)), 22)

    assert told["facts"]["claims"] == [
        {
            "name": claim.metadata.name,
            "attempt": 1,
            "rank": 0,
            "phase": "Bound",
            "owners": ["TrainingJob"],
            "deleting": False,
        }
    ]
    assert [(one["name"], one["ended"]) for one in told["facts"]["salvages"]] == [(saving.metadata.name, False)]


def test_a_pool_that_is_not_there_is_told_with_those_that_are() -> None:
    pool = explained(build.view(build.job(compute="gone"), without_cluster=True))["facts"]["pool"]

    assert {"name": "gone", "exists": False, "others": ["cpu", "gpu"]} == pool


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (Found(True), {"answer": "Found", "value": True}),
        (Found({"env": {"TOKEN": CANARY}}), {"answer": "Found", "value": None}),
        (
            Refused("Denied", "no", "ask", build.T0 + 60),
            {"answer": "Refused", "reason": "Denied", "fix": "ask", "askAgainAt": build.stamp(60)},
        ),
        (Unavailable("Away", "no answer"), {"answer": "Unavailable", "reason": "Away"}),
    ],
)
def test_answers_are_told_with_when_they_are_asked_for_again(answer: Answer, expected: dict[str, Any]) -> None:
    told = explained(build.view(answers={QUESTIONS[0]: answer}))["facts"]["answers"][0]

    assert expected == {name: told[name] for name in expected}
    assert ("SnapshotPresent", {"digest": build.SNAPSHOT}) == (told["question"], told["about"])


def test_every_question_and_action_can_be_told_and_none_tells_a_secret() -> None:
    assert {type(one) for one in QUESTIONS} == set(get_args(Question)), "a new question belongs into this test"
    env = [{"name": "TOKEN", "value": CANARY}]
    view = build.view(
        build.job(command={"env": env}), placed=["n0"],
        answers=build.Answering({question: Found(CANARY_RECORD) for question in QUESTIONS}),
    )  # fmt: skip
    actions = tuple(_one_of(kind, view) for kind in get_args(Action)) + tuple(map(Ask, QUESTIONS))
    now = build.T0 + 5
    told = json.dumps(explain(view, Plan(actions), trainingjob.demand(view, now), now))

    assert CANARY not in told
    for kind in (*get_args(Action), *get_args(Question)):
        assert f'"{kind.__name__}"' in told


CANARY_RECORD = {"env": {"TOKEN": CANARY}}


def _one_of(kind: Any, view: JobView) -> Any:
    """An action of a kind; the Create is the child that the view's plan makes."""
    if kind.__name__ == "Create":
        made = trainingjob.plan(build.view(view.job, placed=["n0"]), build.T0 + 5).actions
        return next(action for action in made if isinstance(action, kind))
    if kind is Ask:
        return Ask(QUESTIONS[0])
    return kind(*(1 if field.type in ("int", int) else "x" for field in fields(kind)))
