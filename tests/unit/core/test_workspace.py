"""What a Workspace shows: whether its settings can be used, and which promises its store keeps."""

from collections.abc import Mapping

import msgspec
import pytest

from stoker.api.common import Condition
from stoker.api.kube import ObjectMeta
from stoker.api.workspace import Retention, Workspace, WorkspaceSpec, WorkspaceStatus
from stoker.core import workspace as workspace_core
from stoker.core.environment import cleaning
from stoker.core.plan import (
    Answer,
    Ask,
    Cleaned,
    Found,
    Plan,
    Question,
    Refused,
    Retained,
    StoragePreflight,
    Unavailable,
)
from stoker.core.retention import Report
from stoker.core.trainingjob.view import WorkspaceView

URL = "s3://bucket/team"
QUESTION = StoragePreflight("team", URL)
NOW = 1_800_000_000.0
MISSING = Refused("PromisesMissing", "signed-length does not hold: took more bytes", "use another store", NOW + 3600)
AWAY = Unavailable("StorageUnreachable", "connection refused", "see whether it answers", NOW + 3600)


def workspace(*conditions: Condition, generation: int = 1) -> Workspace:
    meta = ObjectMeta(name="default", namespace="team", uid="u", generation=generation)
    return Workspace(metadata=meta, status=WorkspaceStatus(observed_generation=1, conditions=conditions))


def retaining(*conditions: Condition, **retention: int) -> Workspace:
    return msgspec.structs.replace(workspace(*conditions), spec=WorkspaceSpec(retention=Retention(**retention)))


def retention_of(answer: Answer, seen: Workspace) -> Condition | None:
    answers: Mapping[Question, Answer] = {Retained("team", URL): answer} if answer is not None else {}
    plan = workspace_core.plan(seen, WorkspaceView(URL), answers, NOW)
    assert plan.status is not None
    return next((one for one in plan.status.conditions if one.type == "Retention"), None)


@pytest.mark.parametrize(
    ("answer", "expected", "words"),
    [
        (Found(Report(NOW)), ("True", "Applied"), "keepLast 3, keepDays 7; nothing had to go yet"),
        (
            Found(Report(NOW, ("a-1", "b-2"), 1, 300)), ("True", "Applied"),
            "keepLast 3, keepDays 7; removed at 2027-01-15T08:00:00Z: 2 runs (a-1, b-2), 1 snapshots, 300 bytes",
        ),
        (Found(Report(NOW, tuple(f"r{n}" for n in range(12)))), ("True", "Applied"), "r9 and 2 more)"),
        (Found(Report(NOW, held="the record of x cannot be read")), ("False", "Held"), "the record of x cannot be read"),
        (Unavailable("StorageUnavailable", "503", "see"), ("False", "StorageUnavailable"), "503; see"),
    ],
)  # fmt: skip
def test_what_retention_removed_is_told(answer: Answer, expected: tuple[str, str], words: str) -> None:
    shown = retention_of(answer, retaining(keep_last=3, keep_days=7))

    assert shown is not None
    assert (expected, True) == ((shown.status, shown.reason), words in shown.message)


def test_a_look_that_removes_nothing_is_no_news_and_costs_no_write() -> None:
    removed = retention_of(Found(Report(NOW, ("a-1",))), retaining(keep_last=3))
    assert removed is not None
    told = retaining(removed, keep_last=3)

    for answer in (None, Found(Report(NOW + 9))):
        assert removed == retention_of(answer, told)
    away = retention_of(Unavailable("StorageUnavailable", "503"), told)
    assert away is not None
    assert "nothing had to go yet" in getattr(
        retention_of(Found(Report(NOW)), retaining(away, keep_last=3)), "message", ""
    )


def test_without_retention_nothing_is_said_of_it() -> None:
    assert retention_of(Found(Report(NOW, ("a-1",))), workspace()) is None


def planned(
    answer: Answer = None, *, seen: Workspace | None = None, view: WorkspaceView | None = None, now: float = NOW
) -> Plan[WorkspaceStatus]:
    answers: Mapping[Question, Answer] = {QUESTION: answer} if answer is not None else {}
    return workspace_core.plan(seen or workspace(), view or WorkspaceView(URL), answers, now)


def preflight(plan: Plan[WorkspaceStatus]) -> Condition | None:
    assert plan.status is not None
    return next((one for one in plan.status.conditions if one.type == "StoragePreflight"), None)


def test_a_store_that_nobody_tried_is_asked_for_and_nothing_is_said_of_it() -> None:
    plan = planned()

    assert (Ask(QUESTION),) == plan.actions
    assert preflight(plan) is None


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (Found(True), ("True", "AllHold")),
        (MISSING, ("False", "PromisesMissing")),
        (AWAY, ("False", "StorageUnreachable")),
        (Unavailable("InternalError", "ZeroDivisionError", "", NOW + 30), ("Unknown", "InternalError")),
    ],
)
def test_what_was_found_is_the_condition(answer: Answer, expected: tuple[str, str]) -> None:
    plan = planned(answer)
    shown = preflight(plan)

    assert shown is not None
    assert expected == (shown.status, shown.reason)
    assert () == plan.actions


def test_the_message_names_what_does_not_hold_and_what_to_do() -> None:
    shown = preflight(planned(MISSING))

    assert shown is not None
    assert shown.message == "signed-length does not hold: took more bytes; use another store"


def test_a_store_that_keeps_its_promises_is_not_asked_again() -> None:
    plan = planned(Found(True), now=NOW + 1e6)

    assert ((), None) == (plan.actions, plan.wake_at)


@pytest.mark.parametrize("answer", [MISSING, AWAY])
def test_one_that_does_not_is_asked_again_after_the_hour_and_not_before(answer: Answer) -> None:
    assert ((), NOW + 3600) == (planned(answer).actions, planned(answer).wake_at)

    later = planned(answer, now=NOW + 3600)
    assert (Ask(QUESTION),) == later.actions
    assert preflight(later) is not None


@pytest.mark.parametrize(("generation", "kept"), [(1, True), (2, False)])
def test_what_the_operator_before_found_stays_until_the_settings_change(generation: int, kept: bool) -> None:
    former = Condition(
        type="StoragePreflight", status="True", reason="AllHold", message="m",
        last_transition_time="2026-01-02T03:04:05Z", observed_generation=1,
    )  # fmt: skip
    shown = preflight(planned(seen=workspace(former, generation=generation)))

    assert kept is (shown is not None)
    assert not kept or shown == former


def test_a_workspace_without_storage_asks_nothing_and_has_no_such_condition() -> None:
    plan = planned(Found(True), view=WorkspaceView("", problem=("StorageUrlTaken", "it is team-b's")))

    assert () == plan.actions
    assert preflight(plan) is None


def test_ready_does_not_wait_for_the_store() -> None:
    plan = planned(AWAY)

    assert plan.status is not None
    assert {"Ready": "True"}.items() <= {one.type: one.status for one in plan.status.conditions}.items()


def images_of(answer: Answer, seen: Workspace) -> Condition | None:
    answers: Mapping[Question, Answer] = {Cleaned("team"): answer} if answer is not None else {}
    plan = workspace_core.plan(seen, WorkspaceView(URL), answers, NOW)
    assert plan.status is not None
    return next((one for one in plan.status.conditions if one.type == "EnvironmentRetention"), None)


@pytest.mark.parametrize(
    ("answer", "expected", "words"),
    [
        (Found(cleaning.Report(NOW)), ("True", "Applied"), "images stay 30 days after their last use; nothing had to go yet"),
        (
            Found(cleaning.Report(NOW, ("lock-a", "lock-b"), 5, 300)), ("True", "Applied"),
            "removed at 2027-01-15T08:00:00Z: 2 images (lock-a, lock-b), 3 others, 300 bytes",
        ),
        (Unavailable("Held", "Job team/b builds an image", ""), ("False", "Held"), "Job team/b builds an image"),
        (Refused("DeletionRefused", "405", "let it delete"), ("False", "DeletionRefused"), "405; let it delete"),
    ],
)  # fmt: skip
def test_what_went_of_the_registry_is_told(answer: Answer, expected: tuple[str, str], words: str) -> None:
    shown = images_of(answer, retaining(environment_days=30))

    assert shown is not None
    assert (expected, True) == ((shown.status, shown.reason), words in shown.message)


def test_a_look_at_the_registry_that_removes_nothing_is_no_news() -> None:
    removed = images_of(Found(cleaning.Report(NOW, ("lock-a",), 1)), retaining(environment_days=30))
    assert removed is not None

    seen = retaining(removed, environment_days=30)
    assert removed == images_of(Found(cleaning.Report(NOW + 9)), seen)
    assert removed == images_of(None, seen), "nor is a restart of the operator"
    assert images_of(Found(cleaning.Report(NOW)), retaining(removed, keep_last=1)) is None
