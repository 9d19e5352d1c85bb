"""What a namespace may have at a time and spend in a month: its gangs wait, nobody waits for them, no job is ended."""

from dataclasses import replace
from typing import Any, cast

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stoker.api.computecluster import ComputeClusterStatus
from stoker.api.workspace import Workspace
from stoker.controller.ledger import Ledger
from stoker.controller.pools import Pools
from stoker.core import cluster as pools
from stoker.core.cluster.usage import read_on
from stoker.core.cluster.view import (
    ClusterPlan,
    ClusterView,
    Demand,
    Holding,
    Meter,
    Quota,
    Rates,
    RoomRequest,
    RoomsView,
    ScaleView,
)
from stoker.core.plan import Plan, TakeBack
from stoker.kube.store import Store
from tests.support import build
from tests.support.cloud import cloud

GPU = {"cpu": "4", "nvidia.com/gpu": "2"}


def demand(name: str, count: int, namespace: str = "team") -> Demand:
    return Demand(f"uid-{name}", namespace, name, 1, count, float(ord(name)))


def pool(*demands: Demand, held: int = 0, quota: Quota | None = None, **spec: Any) -> ClusterView:
    """Six nodes, of which `team` has the first `held`."""
    resources = spec.pop("resources", {"cpu": "4", "memory": "16Gi"})
    nodes = {f"n{n}": build.node(f"n{n}", allocatable=resources) for n in range(6)}
    holdings = tuple(Holding(f"h{n}", 1, (f"n{n}",), namespace="team") for n in range(held))
    return ClusterView(
        build.cluster(most=6, resources=resources, **spec), nodes, demands, holdings, scale=ScaleView(6),
        quotas={"team": quota} if quota is not None else {},
    )  # fmt: skip


def reason(plan: ClusterPlan, name: str) -> str | None:
    wait = plan.waits.get((f"uid-{name}", 1))
    return wait.reason if wait is not None else None


@pytest.mark.parametrize(
    ("quota", "held", "expected"),
    [
        (Quota(max_nodes=3), 2, "QuotaReached"),
        (Quota(max_nodes=4), 2, None),
        (Quota(max_nodes=4, nodes_elsewhere=1), 2, "QuotaReached"),
        (Quota(max_nodes=1), 0, "LargerThanQuota"),
        (Quota(max_gpus=7), 2, "QuotaReached"),
        (Quota(max_gpus=8), 2, None),
        (Quota(max_gpus=8, gpus_elsewhere=1), 2, "QuotaReached"),
        (Quota(max_gpus=3), 0, "LargerThanQuota"),
        (Quota(), 4, None),
    ],
)
def test_a_gang_beyond_its_namespaces_quota_waits(quota: Quota, held: int, expected: str | None) -> None:
    plan = pools.plan(pool(demand("a", 2), held=held, quota=quota, resources=GPU), build.T0)

    assert reason(plan, "a") == expected
    assert ("uid-a", 1) in plan.assignments or expected


def test_others_do_not_wait_for_a_namespace_that_has_its_quota() -> None:
    plan = pools.plan(
        pool(demand("a", 2), demand("b", 1), demand("c", 4, "other"), held=1, quota=Quota(max_nodes=2)), build.T0
    )

    assert [reason(plan, name) for name in "abc"] == ["QuotaReached", None, None]
    assert "spec.quota.maxNodes of Workspace/default in team" in plan.waits["uid-a", 1].fix
    assert plan.plan.wake_at == build.T0 + 5


@given(
    st.lists(st.tuples(st.sampled_from(["team", "other"]), st.integers(1, 3)), max_size=8), st.integers(0, 5),
    st.integers(0, 3),
)  # fmt: skip
def test_no_plan_gives_a_namespace_more_than_its_quota(jobs: list[tuple[str, int]], most: int, held: int) -> None:
    demands = tuple(demand(chr(97 + n), count, namespace) for n, (namespace, count) in enumerate(jobs))
    plan = pools.plan(pool(*demands, held=held, quota=Quota(max_nodes=most)), build.T0)

    given_to = {one.uid: one.namespace for one in demands}
    taken = sum(len(nodes) for (uid, _), nodes in plan.assignments.items() if given_to[uid] == "team")
    assert taken == 0 or held + taken <= most


def test_what_was_given_and_has_no_child_yet_counts() -> None:
    view = pool(demand("a", 2), demand("b", 1), quota=Quota(max_nodes=2))
    loose = Holding("uid-b", 1, ("n5",), bound=False, namespace="team")

    plan = pools.plan(replace(view, holdings=(loose,)), build.T0)

    assert (plan.assignments, reason(plan, "a")) == ({("uid-b", 1): ("n5",)}, "QuotaReached")


async def test_a_pool_knows_the_quota_of_a_workspace_and_what_other_pools_give() -> None:
    store = Store()
    ledger = Ledger(store, lambda _: None)
    metadata = {"name": "default", "namespace": "team", "uid": "ws", "resourceVersion": "1"}
    quota = {"maxNodes": 5, "maxGPUs": 9}
    store.put("Workspace", msgspec.convert({"metadata": metadata, "spec": {"quota": quota}}, Workspace))
    store.put("ComputeCluster", build.cluster("cpu", provider="Static"))
    store.put("ComputeCluster", build.cluster("gpu", provider="Static", resources=GPU))
    ledger.want("uid-a", "gpu", demand("a", 2))
    given_nodes = pools.plan(pool(demand("a", 2)), build.T0)
    ledger.planned("gpu", given_nodes)

    view = await Pools(store, ledger, cast(Any, None)).view("cpu")

    assert view is not None
    assert view.quotas == {"team": Quota(5, 9, nodes_elsewhere=2, gpus_elsewhere=4)}


# -- What a namespace may spend in a month.

#: build.T0 is 2023-11-14, 22:13:20 UTC.
DECEMBER = 1701388800.0
PRICED = [{"name": "m", "resources": {"cpu": "4", "memory": "16Gi"}, "pricePerHour": "3.60"}]
FREE = {"name": "own", "resources": {"cpu": "4", "memory": "16Gi"}}


def spending(here: float, *, price: str | None = "3.60", quota: Quota, provider: str = "Scale") -> ClusterPlan:
    """The plan for one job of `team`, whose jobs have spent so much in this pool."""
    kinds = [{**PRICED[0], "pricePerHour": price}] if price is not None else [FREE]
    view = pool(demand("a", 2), quota=quota, instanceTypes=kinds, provider=provider)
    if provider in ("External", "ProvisioningRequest"):
        view = replace(view, nodes={}, scale=None, rooms=RoomsView() if provider == "ProvisioningRequest" else None)
    return pools.plan(replace(view, meter=Meter(build.T0, month_costs={"team": here, "other": 1e6})), build.T0)


@pytest.mark.parametrize(
    ("here", "quota", "expected"),
    [
        (99.99, Quota(cost_per_month=100), None),
        (100.0, Quota(cost_per_month=100), "QuotaReached"),
        (60.0, Quota(cost_per_month=100, cost_elsewhere=40), "QuotaReached"),
        (60.0, Quota(cost_per_month=100, cost_elsewhere=39), None),
        (0.0, Quota(cost_per_month=0), "LargerThanQuota"),
        (1e9, Quota(), None),
    ],
)
def test_a_namespace_that_has_spent_its_month_gets_no_further_nodes(
    here: float, quota: Quota, expected: str | None
) -> None:
    plan = spending(here, quota=quota)

    assert reason(plan, "a") == expected
    assert ("uid-a", 1) in plan.assignments or expected


def test_it_is_told_what_was_spent_the_limit_and_when_it_ends() -> None:
    wait = spending(120.5, quota=Quota(cost_per_month=100)).waits["uid-a", 1]

    assert wait.message == (
        "jobs of team have cost 120.50 of the 100.00 of this month (UTC); it ends at 2023-12-01T00:00:00Z"
    )
    assert wait.fix == (
        "wait until 2023-12-01T00:00:00Z, or raise spec.quota.costPerMonth of Workspace/default in team"
    )


def test_nodes_without_a_price_are_given_all_the_same() -> None:
    assert reason(spending(500, price=None, quota=Quota(cost_per_month=100)), "a") is None
    assert reason(spending(500, price="0", quota=Quota(cost_per_month=0)), "a") is None


def test_a_gang_gets_the_type_that_its_namespace_may_still_have() -> None:
    view = pool(demand("a", 2), quota=Quota(cost_per_month=100), provider="Static", instanceTypes=[PRICED[0], FREE])
    label = "node.kubernetes.io/instance-type"
    kinds = {f"n{n}": "m" if n < 3 else "own" for n in range(6)}
    nodes = {
        name: build.node(name, allocatable={"cpu": "4", "memory": "16Gi"}, labels={label: kind})
        for name, kind in kinds.items()
    }
    view = replace(view, nodes=nodes, meter=Meter(build.T0, month_costs={"team": 100.0}))

    (given_nodes,) = pools.plan(view, build.T0).assignments.values()

    assert {kinds[name] for name in given_nodes} == {"own"}


@pytest.mark.parametrize("provider", ["External", "ProvisioningRequest"])
@pytest.mark.parametrize(
    ("quota", "expected"),
    [
        (Quota(cost_per_month=100), "QuotaReached"),
        (Quota(max_nodes=1), "LargerThanQuota"),
        (Quota(max_nodes=3, nodes_elsewhere=2), "QuotaReached"),
    ],
)
def test_a_pool_that_owns_no_nodes_keeps_the_quota_too(provider: str, quota: Quota, expected: str) -> None:
    plan = spending(100, quota=quota, provider=provider)

    assert (plan.assignments, plan.plan.actions, reason(plan, "a")) == ({}, (), expected)
    assert plan.plan.wake_at == (build.T0 + 5 if expected == "QuotaReached" else None)
    assert reason(spending(100, quota=Quota(max_nodes=2), provider="External"), "a") is None


def test_room_that_was_asked_for_is_given_back_when_the_quota_is_reached() -> None:
    request = RoomRequest("team", "a-1", "uid-1")
    view = pool(demand("a", 2), quota=Quota(max_nodes=1), provider="ProvisioningRequest")
    view = replace(view, nodes={}, scale=None, rooms=RoomsView({("uid-a", 1): request}))

    assert pools.plan(view, build.T0).plan.actions == (TakeBack("cpu", "team", "a-1", "uid-1"),)


@pytest.mark.parametrize("provider", ["External", "ProvisioningRequest"])
def test_gangs_that_are_granted_together_share_the_quota(provider: str) -> None:
    rooms = RoomsView() if provider == "ProvisioningRequest" else None
    view = pool(demand("a", 2), demand("b", 2), quota=Quota(max_nodes=3), provider=provider)
    plan = pools.plan(replace(view, nodes={}, scale=None, rooms=rooms), build.T0)

    assert reason(plan, "b") == "QuotaReached"
    assert len(plan.assignments) + len(plan.plan.actions) == 1


def test_spending_is_counted_while_jobs_have_nodes_kept_over_restarts_and_ends_with_the_month() -> None:
    """One node at 3.60 an hour, two of which the quota allows: the job that has it goes on, the next one waits."""
    world = cloud(idle=60, instanceTypes=PRICED)
    world.quotas = {"team": Quota(cost_per_month=7.2)}
    first = world.submit(1)
    world.settle(100)
    began = world.now
    assert first in world.holdings
    for _ in range(4):
        world.settle(1800, every=20)
        world.restart()
    second = world.submit(1)
    world.settle(600, every=20)

    assert first in world.holdings, "no job is ended"
    assert second in world.waiting
    assert world.plan is not None
    assert world.plan.waits[second, 1].reason == "QuotaReached"
    usage = world.pool.status.usage
    assert usage is not None
    (entry,) = usage.month_costs
    assert entry.namespace == "team"
    assert float(entry.cost) == pytest.approx(3.6 * (world.now - began) / 3600, abs=0.35)
    world.end(first)
    world.settle(DECEMBER - world.now + 600, every=600)
    world.settle(200)

    assert second in world.holdings
    usage = world.pool.status.usage
    assert usage is not None
    assert sum(float(one.cost) for one in usage.month_costs) < 1


@given(st.lists(st.floats(0, 40 * 86400), min_size=1, max_size=12), st.floats(0, 50))
def test_how_often_a_meter_is_read_changes_nothing(moments: list[float], price: float) -> None:
    meter = Meter(build.T0, month_costs={"team": 2.0}, rates=Rates(nodes=1, price=price, prices={"team": price}))
    at_once = read_on(meter, build.T0 + max(moments)).month_costs
    for moment in sorted(moments):
        meter = read_on(meter, build.T0 + moment)

    assert meter.month_costs.get("team", 0.0) == pytest.approx(at_once.get("team", 0.0), abs=1e-6)


@given(st.lists(st.tuples(st.sampled_from(["a", "b"]), st.integers(1, 2)), max_size=3))
def test_what_namespaces_pay_is_the_price_of_the_nodes_that_their_jobs_have(jobs: list[tuple[str, int]]) -> None:
    names, holdings = [f"n{n}" for n in range(6)], []
    for number, (namespace, count) in enumerate(jobs):
        own, names = names[:count], names[count:]
        holdings.append(Holding(f"h{number}", 1, tuple(own), namespace=namespace))
    view = replace(pool(demand("z", 1, "c"), instanceTypes=PRICED), holdings=tuple(holdings))

    meter = pools.plan(view, build.T0).meter

    assert meter is not None
    paid = {name: 3.6 * sum(count for one, count in jobs if one == name) for name in ("a", "b")}
    given_now = {"c": 3.6} if names else {}
    assert meter.rates.prices == pytest.approx({**{name: price for name, price in paid.items() if price}, **given_now})


async def test_a_pool_knows_what_other_pools_have_cost_a_namespace_this_month() -> None:
    store = Store()
    ledger = Ledger(store, lambda _: None)
    metadata = {"name": "default", "namespace": "team", "uid": "ws", "resourceVersion": "1"}
    store.put(
        "Workspace", msgspec.convert({"metadata": metadata, "spec": {"quota": {"costPerMonth": "50"}}}, Workspace)
    )
    store.put("ComputeCluster", build.cluster("cpu", provider="Static"))
    for name, at in (("new", "2023-11-14T22:00:00Z"), ("old", "2023-10-31T22:00:00Z")):
        costs = [{"namespace": "team", "cost": "12.5"}, {"namespace": "other", "cost": "1"}]
        spec = build.cluster(name, provider="Static", instanceTypes=PRICED)
        status = msgspec.convert({"usage": {"at": at, "monthCosts": costs}}, ComputeClusterStatus)
        store.put("ComputeCluster", msgspec.structs.replace(spec, status=status))
    store.put("ComputeCluster", build.cluster("live", provider="Static", instanceTypes=PRICED))
    meter = Meter(build.T0 - 3600, month_costs={"team": 1.0}, rates=Rates(prices={"team": 3.6}))
    ledger.planned("live", ClusterPlan(Plan(), meter=meter))

    view = await Pools(store, ledger, cast(Any, None), lambda: build.T0).view("cpu")

    assert view is not None
    assert view.quotas["team"].cost_per_month == 50
    assert view.quotas["team"].cost_elsewhere == pytest.approx(12.5 + 1.0 + 3.6)
