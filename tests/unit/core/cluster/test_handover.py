"""Where somebody else makes room: a gang is handed over whole, granted once it has room, and taken back when unwanted."""

from typing import Any

import pytest

from stoker.core import cluster as pools
from stoker.core import times
from stoker.core.cluster.handover import AGAIN
from stoker.core.cluster.view import ClusterPlan, ClusterView, Demand, Holding, RoomRequest, RoomsView
from stoker.core.plan import HandOver, TakeBack
from tests.support import build

T0 = build.T0
GANG = Demand("a", "team", "gang", 1, 2, T0, requests=(("cpu", "2"),))
KEY = ("a", 1)
ASK = HandOver("cpu", "team", "gang", "a", 1, 2, None, (("cpu", "2"),))


def request(answer: Any = "Waiting", since: float = 0.0, **given: Any) -> RoomRequest:
    return RoomRequest("team", "gang-a-1", "uid-1", answer, since=T0 + since, **given)


def plan(
    *demands: Demand, now: float = 0.0, most: int = 4, holdings: tuple[Holding, ...] = (), problem: Any = None,
    requests: dict[tuple[str, int], RoomRequest] | None = None, **pool: Any,
) -> ClusterPlan:  # fmt: skip
    view = ClusterView(
        cluster=build.cluster(provider="ProvisioningRequest", most=most, **pool), demands=demands, holdings=holdings,
        rooms=RoomsView(requests or {}, problem),
    )  # fmt: skip
    return pools.plan(view, T0 + now)


def test_a_gang_is_handed_over_and_waits() -> None:
    made = plan(GANG)

    assert (ASK,) == made.plan.actions
    assert {} == made.assignments
    assert "HandingOver" == made.waits[KEY].reason


def test_it_waits_in_the_words_of_whoever_was_asked() -> None:
    made = plan(GANG, requests={KEY: request(reason="CapacityIsNotFound", message="no room in any zone")})

    assert () == made.plan.actions
    assert "WaitingForRoom" == made.waits[KEY].reason
    assert (
        "ProvisioningRequest team/gang-a-1 for 2 nodes is not provisioned yet (CapacityIsNotFound): no room in any zone"
        == made.waits[KEY].message
    )


def test_room_is_granted_without_naming_a_node() -> None:
    made = plan(GANG, requests={KEY: request("Provisioned")})

    assert {KEY: ()} == made.assignments
    assert {} == made.waits
    assert () == made.plan.actions


def test_a_request_that_failed_is_made_anew_after_a_while() -> None:
    failed = {KEY: request("Failed", 10, reason="BookingExpired", message="nobody came")}
    early = plan(GANG, now=10 + AGAIN - 1, requests=failed)
    assert () == early.plan.actions
    assert "RoomRefused" == early.waits[KEY].reason
    assert "failed (BookingExpired): nobody came" in early.waits[KEY].message
    assert early.plan.wake_at is not None
    assert early.plan.wake_at <= T0 + 10 + AGAIN

    late = plan(GANG, now=10 + AGAIN, requests=failed)
    assert (TakeBack("cpu", "team", "gang-a-1", "uid-1"),) == late.plan.actions


@pytest.mark.parametrize("answer", ["Waiting", "Provisioned", "Failed"])
def test_what_nobody_wants_is_taken_back(answer: str) -> None:
    made = plan(requests={KEY: request(answer)})

    assert (TakeBack("cpu", "team", "gang-a-1", "uid-1"),) == made.plan.actions


@pytest.mark.parametrize("answer", ["Provisioned", "Failed"])
def test_the_request_of_a_run_stays_until_it_has_ended(answer: str) -> None:
    """Its booking expires while it runs: that is how it is meant."""
    running = Holding("a", 1, ("n0", "n1"), count=2, namespace="team")
    made = plan(holdings=(running,), requests={KEY: request(answer)})

    assert () == made.plan.actions


def test_no_more_is_asked_for_than_the_pool_may_have() -> None:
    other = Demand("b", "team", "other", 1, 2, T0 + 1)
    made = plan(GANG, other, most=3)

    assert (ASK,) == made.plan.actions
    assert "PoolFull" == made.waits[("b", 1)].reason


def test_a_paused_pool_asks_for_nothing_and_takes_back_what_it_asked() -> None:
    made = plan(GANG, paused=True, requests={KEY: request()})

    assert (TakeBack("cpu", "team", "gang-a-1", "uid-1"),) == made.plan.actions


def test_while_requests_cannot_be_read_nothing_is_granted_made_or_taken_back() -> None:
    made = plan(GANG, problem=("Forbidden", "provisioningrequests is forbidden"))

    assert () == made.plan.actions
    assert {} == made.assignments
    assert "Forbidden" == made.waits[KEY].reason
    assert made.plan.status is not None
    assert ["Forbidden"] == [one.reason for one in made.plan.status.problems]
    ready = next(one for one in made.plan.status.conditions if one.type == "Ready")
    assert ("False", "Forbidden") == (ready.status, ready.reason)


def test_a_status_says_how_many_nodes_the_runs_have() -> None:
    made = plan(holdings=(Holding("a", 1, (), count=2, namespace="team"),), requests={KEY: request("Provisioned")})

    assert made.plan.status is not None
    assert 2 == made.plan.status.nodes.running
    assert times.seconds(made.plan.status.usage.at if made.plan.status.usage else None) is not None
