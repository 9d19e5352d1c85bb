"""Who gets which nodes: whole gangs, in order, on nodes that can take them."""

from typing import Any

import pytest

from stoker.api.kube import Node
from stoker.core import cluster as pools
from stoker.core.cluster.view import ClusterPlan, ClusterView, Demand, Holding, ScaleView
from stoker.core.plan import ScaleTo
from tests.support import build

T0 = build.T0


def demand(
    name: str = "a", count: int = 1, *, since: float = 0.0, kind: str | None = None, avoid: tuple[str, ...] = ()
) -> Demand:
    return Demand(
        uid=f"uid-{name}", namespace="team", name=name, attempt=1, count=count, since=since, instance_type=kind,
        avoid=frozenset(avoid),
    )  # fmt: skip


def view(
    *demands: Demand,
    nodes: list[Node] | None = None,
    replicas: int | None = None,
    holdings: tuple[Holding, ...] = (),
    problem: tuple[str, str] | None = None,
    **pool: Any,
) -> ClusterView:
    """A pool with these nodes; replicas: as many as there are nodes unless said."""
    given = {node.metadata.name: node for node in nodes or []}
    cluster = build.cluster(**pool)
    scale = ScaleView(len(given) if replicas is None else replicas, problem)
    return ClusterView(
        cluster=cluster, nodes=given, demands=demands, holdings=holdings,
        freed_at=dict.fromkeys(given, T0),
        scale=scale if cluster.spec.provider.type == "Scale" else None,
    )  # fmt: skip


def given_to(plan: ClusterPlan, name: str = "a") -> tuple[str, ...] | None:
    return plan.assignments.get((f"uid-{name}", 1))


def reason_for(plan: ClusterPlan, name: str = "a") -> str | None:
    wait = plan.waits.get((f"uid-{name}", 1))
    return wait.reason if wait else None


def scaled_to(plan: ClusterPlan) -> list[tuple[int, int]]:
    return [(a.from_replicas, a.replicas) for a in plan.plan.actions if isinstance(a, ScaleTo)]


def test_a_gang_gets_all_its_nodes_or_none() -> None:
    nodes = [build.node("n0"), build.node("n1")]

    plan = pools.plan(view(demand("a", 3), demand("b", 1, since=1), nodes=nodes, most=2, replicas=2), T0)

    assert given_to(plan, "a") is None
    assert reason_for(plan, "a") == "GangLargerThanPool"
    assert given_to(plan, "b") is not None


def test_the_deficit_of_a_gang_is_asked_for_once() -> None:
    before = view(demand(count=3), nodes=[build.node("n0")])

    assert scaled_to(pools.plan(before, T0)) == [(1, 3)]
    after = view(demand(count=3), nodes=[build.node("n0")], replicas=3)
    assert scaled_to(pools.plan(after, T0)) == []
    assert reason_for(pools.plan(after, T0)) == "NodesBooting"


def test_booting_nodes_are_promised_to_one_gang_only() -> None:
    plan = pools.plan(view(demand("a", 2), demand("b", 2, since=1), replicas=2, nodes=[], most=4), T0)

    assert scaled_to(plan) == [(2, 4)]


def test_the_older_job_comes_first_and_keeps_what_is_free_for_its_gang() -> None:
    nodes = [build.node("n0"), build.node("n1")]
    held = (Holding("other", 1, ("n0",)),)

    plan = pools.plan(
        view(demand("young", 1, since=5), demand("old", 2, since=1), nodes=nodes, holdings=held, most=2), T0
    )

    assert plan.assignments == {}
    assert (reason_for(plan, "old"), reason_for(plan, "young")) == ("PoolFull", "WaitingForTurn")
    assert "team/old" in plan.waits["uid-young", 1].message


def test_the_newest_freed_node_is_taken_so_that_the_oldest_can_go() -> None:
    nodes = [build.node("n0"), build.node("n1"), build.node("n2")]
    seen = view(demand(), nodes=nodes)
    seen = ClusterView(
        seen.cluster, seen.nodes, seen.demands, (), {"n0": T0, "n1": T0 + 9, "n2": T0 + 5}, scale=seen.scale
    )

    assert given_to(pools.plan(seen, T0 + 10)) == ("n1",)


@pytest.mark.parametrize(
    "unfit",
    [
        build.node("n0", ready="False", since=-50.0),
        build.node("n0", ready="Unknown"),
        build.node("n0", cordoned=True),
        build.node("n0", annotations={"cluster.x-k8s.io/delete-machine": "2"}),
        *(build.node("n0", pressure=short_of) for short_of in build.PRESSURES),
    ],
    ids=["not-ready", "silent", "cordoned", "counted-out", *build.PRESSURES],
)
def test_a_node_that_cannot_take_a_job_is_not_given(unfit: Node) -> None:
    plan = pools.plan(view(demand(), nodes=[unfit], replicas=1), T0)

    assert plan.assignments == {}


def test_a_node_under_pressure_is_shown_with_what_it_lacks() -> None:
    (shown,) = pools.plan(view(nodes=[build.node("n0", pressure="DiskPressure")]), T0).plan.status.problems  # type: ignore[union-attr]

    assert (shown.reason, "n0 has DiskPressure" in shown.message) == ("NodeUnderPressure", True)


def test_a_node_that_the_last_attempt_could_not_use_is_left_to_others() -> None:
    nodes = [build.node("n0"), build.node("n1")]

    plan = pools.plan(view(demand("a", avoid=("n0",)), demand("b", since=1.0), nodes=nodes), T0)

    assert (given_to(plan, "a"), given_to(plan, "b")) == (("n1",), ("n0",))


def test_another_node_is_brought_for_one_that_is_avoided_where_the_pool_may_grow() -> None:
    plan = pools.plan(view(demand(avoid=("n0",)), nodes=[build.node("n0")], most=2), T0)

    assert (given_to(plan), reason_for(plan), scaled_to(plan)) == (None, "NodesBooting", [(1, 2)])


def test_an_avoided_node_is_better_than_none() -> None:
    plan = pools.plan(view(demand(avoid=("n0",)), nodes=[build.node("n0")], most=1), T0)

    assert given_to(plan) == ("n0",)


def test_a_late_gpu_is_a_reason_to_wait_and_not_for_a_second_node() -> None:
    promised = {"cpu": "4", "memory": "16Gi", "nvidia.com/gpu": "1"}
    late = build.node("n0", created=-30.0, since=-10.0)

    plan = pools.plan(view(demand(), nodes=[late], replicas=1, resources=promised), T0)

    assert (given_to(plan), reason_for(plan), scaled_to(plan)) == (None, "NodesBooting", [])


def test_a_dead_node_does_not_count_as_one_of_the_gangs() -> None:
    dead = build.node("n0", ready="Unknown")

    assert scaled_to(pools.plan(view(demand(), nodes=[dead], replicas=1), T0)) == [(1, 2)]


def test_an_assignment_without_a_child_is_carried_over() -> None:
    nodes = [build.node("n0"), build.node("n1")]
    loose = (Holding("uid-b", 1, ("n1",), bound=False),)

    plan = pools.plan(view(demand("a"), demand("b", since=9), nodes=nodes, holdings=loose), T0)

    assert (given_to(plan, "a"), given_to(plan, "b")) == (("n0",), ("n1",))


@pytest.mark.parametrize(
    ("loose", "demands"),
    [
        (Holding("uid-b", 1, ("gone",), bound=False), [demand("b")]),
        (Holding("uid-b", 1, ("n0",), bound=False), []),
        (Holding("uid-b", 1, ("n0",), bound=False), [demand("b", 2)]),
    ],
    ids=["node-gone", "job-gone", "another-size"],
)
def test_an_assignment_that_no_longer_holds_is_dropped(loose: Holding, demands: list[Demand]) -> None:
    plan = pools.plan(view(*demands, nodes=[build.node("n0")], holdings=(loose,)), T0)

    assert given_to(plan, "b") in (None, ("n0",))
    assert "gone" not in (given_to(plan, "b") or ())
    assert len(given_to(plan, "b") or ()) == (1 if demands and demands[0].count == 1 else 0)


def test_a_demand_whose_child_is_seen_gets_nothing_more() -> None:
    held = (Holding("uid-a", 1, ("n0",)),)

    plan = pools.plan(view(demand("a"), nodes=[build.node("n0"), build.node("n1")], holdings=held), T0)

    assert plan.assignments == {}


def test_what_the_provider_says_is_why_the_gang_waits() -> None:
    plan = pools.plan(view(demand(), nodes=[], problem=("Forbidden", "may not read NodePool/cpu")), T0)

    assert reason_for(plan) == "Forbidden"
    assert scaled_to(plan) == []


def test_a_static_pool_gives_what_it_has_and_says_what_it_lacks() -> None:
    nodes = [build.node("n0"), build.node("n1", ready="Unknown")]

    plan = pools.plan(view(demand("a", 2), demand("b", 1, since=1), nodes=nodes, provider="Static"), T0)

    assert (reason_for(plan, "a"), given_to(plan, "b")) == ("NotEnoughNodes", ("n0",))


def test_a_type_is_told_by_label_or_by_what_fits() -> None:
    kinds = [{"name": "s", "resources": {"cpu": "2"}}, {"name": "l", "resources": {"cpu": "8"}}]
    nodes = [
        build.node("small", allocatable={"cpu": "2"}, labels={"node.kubernetes.io/instance-type": "s"}),
        build.node("large", allocatable={"cpu": "9"}, labels={"node.kubernetes.io/instance-type": "l"}),
    ]

    plan = pools.plan(view(demand("a", kind="l"), demand("b"), nodes=nodes, provider="Static", instanceTypes=kinds), T0)

    assert (given_to(plan, "a"), given_to(plan, "b")) == (("large",), ("small",))


def test_a_pool_that_owns_no_nodes_grants_up_to_its_max() -> None:
    held = (Holding("other", 1, (), count=2),)

    plan = pools.plan(view(demand("a", 2), demand("b", 1, since=1), holdings=held, provider="External", most=4), T0)

    assert given_to(plan, "a") == ()
    assert reason_for(plan, "b") == "PoolFull"


def test_ten_thousand_gangs_are_ordered_in_a_second() -> None:
    import time

    demands = tuple(demand(f"j{n}", 1 + n % 4, since=float(n)) for n in range(10_000))
    nodes = [build.node(f"n{n}") for n in range(1000)]
    begun = time.process_time()

    plan = pools.plan(view(*demands, nodes=nodes, most=1000), T0)

    assert time.process_time() - begun < 2.0
    assert sum(len(given) for given in plan.assignments.values()) <= 1000
