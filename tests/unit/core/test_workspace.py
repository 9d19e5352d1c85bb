"""What a Workspace shows: whether its settings can be used, and which promises its store keeps."""

from collections.abc import Mapping

import pytest

from stoker.api.common import Condition
from stoker.api.kube import ObjectMeta
from stoker.api.workspace import Workspace, WorkspaceStatus
from stoker.core import workspace as workspace_core
from stoker.core.plan import Answer, Ask, Found, Plan, Question, Refused, StoragePreflight, Unavailable
from stoker.core.trainingjob.view import WorkspaceView

URL = "s3://bucket/team"
QUESTION = StoragePreflight("team", URL)
NOW = 1_800_000_000.0
MISSING = Refused("PromisesMissing", "signed-length does not hold: took more bytes", "use another store", NOW + 3600)
AWAY = Unavailable("StorageUnreachable", "connection refused", "see whether it answers", NOW + 3600)


def workspace(*conditions: Condition, generation: int = 1) -> Workspace:
    meta = ObjectMeta(name="default", namespace="team", uid="u", generation=generation)
    return Workspace(metadata=meta, status=WorkspaceStatus(observed_generation=1, conditions=conditions))


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
