"""Jobs that share nodes: parts that fit, gangs whole, whole-node jobs alone, and nothing promised twice."""

import time
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import replace
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stoker.api.kube import Node
from stoker.core import cluster as pools
from stoker.core import podrequests, podspec, units
from stoker.core.cluster import share
from stoker.core.cluster.view import ClusterPlan, ClusterView, Demand, Holding, Quota, ScaleView
from stoker.core.plan import ScaleTo, TaintLeaving
from tests.support import build

T0 = build.T0


def demand(name: str, cpu: str | None = "1", count: int = 1, **more: Any) -> Demand:
    """A job that asks for so many CPUs and 1 GiB on each node; None: for whole nodes."""
    requests = (("cpu", cpu), ("memory", "1Gi")) if cpu is not None else ()
    return Demand(f"uid-{name}", "team", name, 1, count, float(ord(name[0])), requests=requests, **more)


def held(of: Demand, *nodes: str, bound: bool = True) -> Holding:
    return Holding(of.uid, of.attempt, nodes, bound, of.count, namespace=of.namespace, requests=of.requests)


def view(
    *demands: Demand, nodes: Iterable[Node] = (), holdings: tuple[Holding, ...] = (), replicas: int | None = None,
    seen: Mapping[str, Any] | None = None, **pool: Any,
) -> ClusterView:  # fmt: skip
    there = {node.metadata.name: node for node in nodes}
    return ClusterView(
        build.cluster(**{"sharing": "Requests", **pool}), there, demands, holdings, dict.fromkeys(there, T0 - 1),
        scale=ScaleView(len(there) if replicas is None else replicas), **(seen or {}),
    )  # fmt: skip


def plan(*demands: Demand, **shown: Any) -> ClusterPlan:
    return pools.plan(view(*demands, **shown), T0)


def given_to(made: ClusterPlan, name: str) -> tuple[str, ...] | None:
    return made.assignments.get((f"uid-{name}", 1))


def wait_of(made: ClusterPlan, name: str) -> tuple[str, str]:
    wait = made.waits[f"uid-{name}", 1]
    return wait.reason, wait.message


def grown(made: ClusterPlan) -> int:
    return sum(a.replicas - a.from_replicas for a in made.plan.actions if isinstance(a, ScaleTo))


def test_two_jobs_share_a_node_and_a_third_is_told_what_it_lacks() -> None:
    made = plan(demand("a"), demand("b"), demand("c", "2"), nodes=[build.node()], most=1)

    assert (given_to(made, "a"), given_to(made, "b"), given_to(made, "c")) == (("n0",), ("n0",), None)
    reason, message = wait_of(made, "c")
    assert reason == "PoolFull"
    # 4 CPUs less 200m for daemons and twice 1050m, of which c needs 2 and 50m for what runs beside it.
    assert "n0 comes closest, with 1700m of 2050m cpu" in message


def test_a_pool_that_does_not_share_gives_each_job_a_node() -> None:
    made = plan(demand("a"), demand("b"), nodes=[build.node()], most=1, sharing="WholeNode")

    assert (given_to(made, "a"), given_to(made, "b")) == (("n0",), None)


def test_a_job_of_whole_nodes_takes_one_alone() -> None:
    sharer, alone = demand("s"), demand("w", None)

    behind = plan(alone, nodes=[build.node()], holdings=(held(sharer, "n0"),), most=1)
    before = plan(sharer, nodes=[build.node()], holdings=(held(alone, "n0"),), most=1)

    assert (given_to(behind, "w"), given_to(before, "s")) == (None, None)


def test_who_has_a_node_and_is_not_known_has_all_of_it() -> None:
    assert given_to(plan(demand("a"), nodes=[build.node()], holdings=(Holding("x", 1, ("n0",)),), most=1), "a") is None


def test_the_fullest_node_is_filled_first_so_that_others_fall_empty() -> None:
    nodes = [build.node("n0"), build.node("n1"), build.node("n2")]
    holdings = (held(demand("x"), "n0"), held(demand("y", "2"), "n1"))

    assert given_to(plan(demand("a"), nodes=nodes, holdings=holdings), "a") == ("n1",)


def test_the_pods_of_a_gang_are_on_different_nodes_and_a_gang_gets_all_or_none() -> None:
    nodes, holdings = [build.node("n0"), build.node("n1")], (held(demand("x", "3"), "n1"),)

    assert sorted(given_to(plan(demand("g", "1500m", 2), nodes=nodes), "g") or ()) == ["n0", "n1"]
    made = plan(demand("g", "1500m", 2), nodes=nodes, holdings=holdings, most=2)
    assert (made.assignments, wait_of(made, "g")[0]) == ({}, "PoolFull")


def test_what_daemons_ask_for_is_not_given_away() -> None:
    asked = {"others": {"n0": (("cpu", "1500m"), ("pods", "3"))}}

    assert given_to(plan(demand("a", "3"), nodes=[build.node()], most=1), "a") == ("n0",)
    assert given_to(plan(demand("a", "3"), nodes=[build.node()], most=1, seen=asked), "a") is None


def test_a_node_takes_no_more_pods_than_it_says() -> None:
    node = build.node(allocatable={"cpu": "4", "memory": "16Gi", "pods": "4"})
    made = plan(demand("a"), demand("b"), nodes=[node], most=1, seen={"others": {"n0": (("pods", "3"),)}})

    assert (given_to(made, "a"), given_to(made, "b")) == (("n0",), None)
    assert "0 of 1 pods" in wait_of(made, "b")[1]


def test_nodes_are_brought_for_as_many_jobs_as_fit_on_them_and_once() -> None:
    jobs = [demand(name) for name in "abcdefg"]  # three fit on one node

    assert grown(plan(*jobs, most=9)) == 3
    again = plan(*jobs, most=9, replicas=3)
    assert (grown(again), {wait_of(again, name)[0] for name in "abcdefg"}) == (0, {"NodesBooting"})


def test_a_booting_node_is_promised_to_several_but_not_to_too_many() -> None:
    booting = build.node(ready="False", reason="NodeStatusNeverUpdated", since=-1, created=-1)
    made = plan(*[demand(name) for name in "abcd"], nodes=[booting], most=9)

    assert (grown(made), made.assignments) == (1, {})


def test_what_fits_on_no_empty_node_is_told_and_holds_up_nobody() -> None:
    made = plan(demand("a", "3900m"), demand("b"), nodes=[build.node()])

    assert given_to(made, "b") == ("n0",)
    reason, message = wait_of(made, "a")
    assert (reason, "3800m of 3950m cpu" in message) == ("RequestsLargerThanNode", True)


def test_a_node_that_offers_more_than_its_type_says_takes_what_fits() -> None:
    large = build.node(allocatable={"cpu": "8", "memory": "16Gi"})

    assert given_to(plan(demand("a", "6"), nodes=[large], most=1), "a") == ("n0",)


def test_small_jobs_do_not_starve_one_that_waits_for_more() -> None:
    holdings = (held(demand("x", "2"), "n0"),)
    made = plan(demand("a", "3"), demand("b", "500m"), nodes=[build.node()], holdings=holdings, most=1)

    assert (made.assignments, wait_of(made, "b")[0]) == ({}, "WaitingForTurn")


def test_an_assignment_without_a_child_keeps_its_part() -> None:
    loose, later = demand("l", "2"), demand("a", "2")
    made = plan(loose, later, nodes=[build.node()], holdings=(held(loose, "n0", bound=False),), most=1)

    assert (given_to(made, "l"), given_to(made, "a")) == (("n0",), None)


def test_an_assignment_whose_part_others_have_by_now_is_dropped() -> None:
    loose = demand("l", "2")
    holdings = (held(loose, "n0", bound=False), held(demand("x", "3"), "n0"))

    assert given_to(plan(loose, nodes=[build.node()], holdings=holdings, most=1), "l") is None


def test_a_node_is_idle_only_when_nothing_is_on_it() -> None:
    shared = plan(nodes=[build.node()], holdings=(held(demand("x", "100m"), "n0"),), idle=0)
    empty = plan(nodes=[build.node()], idle=0)

    leaving = [[a.node for a in made.plan.actions if isinstance(a, TaintLeaving)] for made in (shared, empty)]
    assert leaving == [[], ["n0"]]


def test_a_node_beyond_a_lowered_maximum_gets_no_further_job_and_falls_empty() -> None:
    nodes, holdings = [build.node("n0"), build.node("n1")], (held(demand("x"), "n0"), held(demand("y", "2"), "n1"))

    made = plan(demand("a", "1"), demand("b", "2"), nodes=nodes, holdings=holdings, most=1)

    assert (given_to(made, "a"), given_to(made, "b")) == (("n1",), None)


def test_the_node_says_how_many_share_it() -> None:
    made = plan(demand("a"), nodes=[build.node()], holdings=(held(demand("x"), "n0"),))

    assert made.plan.status is not None
    (member,) = made.plan.status.members
    assert (member.reason, member.message.startswith("2 jobs share it")) == ("HasJob", True)


def test_gpus_of_a_quota_are_those_that_are_asked_for() -> None:
    kind = {"cpu": "32", "memory": "64Gi", "nvidia.com/gpu": "8"}
    node = build.node(allocatable=kind)
    jobs = [
        Demand(f"uid-{name}", "team", name, 1, 1, 1.0, requests=(("nvidia.com/gpu", "2"),)) for name in ("a", "b", "c")
    ]
    made = plan(*jobs, nodes=[node], resources=kind, seen={"quotas": {"team": Quota(max_gpus=4)}})

    assert (given_to(made, "b"), wait_of(made, "c")) == (
        ("n0",),
        ("QuotaReached", "team has 4 of its 4 GPUs, and the job needs 2 more"),
    )


def test_jobs_that_share_a_node_pay_for_it_in_equal_parts() -> None:
    priced = [{"name": "m", "resources": {"cpu": "4", "memory": "16Gi"}, "pricePerHour": "3.00"}]
    ours, theirs = demand("x"), Demand("uid-y", "other", "y", 1, 1, 1.0, requests=(("cpu", "1"),))
    made = plan(nodes=[build.node()], holdings=(held(ours, "n0"), held(theirs, "n0")), instanceTypes=priced)

    assert made.meter is not None
    assert made.meter.rates.prices == {"team": 1.5, "other": 1.5}


# -- What a pod takes is what Kubernetes reckons.


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        ({"containers": [{"resources": {"requests": {"cpu": "1"}}}, {}]}, {"cpu": Fraction(1)}),
        (
            {
                "initContainers": [
                    {"resources": {"requests": {"cpu": "3"}}},
                    {"restartPolicy": "Always", "resources": {"requests": {"cpu": "1"}}},
                    {"resources": {"requests": {"cpu": "1"}}},
                ],
                "containers": [{"resources": {"requests": {"cpu": "1500m"}}}],
            },
            {"cpu": Fraction(3)},
        ),
        (
            {"containers": [{"resources": {"requests": {"cpu": "1"}}}], "overhead": {"cpu": "250m"}},
            {"cpu": Fraction(5, 4)},
        ),
        (
            {"containers": [{"resources": {"requests": {"cpu": "1"}}}], "resources": {"requests": {"cpu": "2"}}},
            {"cpu": Fraction(2)},
        ),
    ],
    ids=["containers", "init", "overhead", "whole-pod"],
)
def test_a_pod_asks_for_what_its_containers_need_at_a_time(spec: Any, expected: Any) -> None:
    assert podrequests.of_pod(spec) == expected


def test_the_part_that_is_reckoned_with_is_what_the_made_pod_asks_for() -> None:
    job = build.job(command={"resources": {"requests": {"cpu": "10m", "memory": "2Gi", "nvidia.com/gpu": "1"}}})
    child = podspec.ChildPlan(job, {}, 1, build.cluster(sharing="Requests"), "agent", "http://server", nodes=("n0",))
    pod = podspec.make_child(child)["spec"]["template"]["spec"]

    asked = tuple(sorted(child.command.resources.requests.items()))
    amounts = {name: int(amount * 1000) for name, amount in podrequests.of_pod(pod).items()}
    assert share.wanted(asked) == {"pods": 1000, **amounts}


# -- What holds whatever comes.

NAMES = ("n0", "n1", "n2", "n3")
CPUS = st.sampled_from([None, "100m", "250m", "333m", "1", "1500m", "2", "3", "3750m", "3800m", "9"])
MEMORIES = st.sampled_from(["1Mi", "1Gi", "3Gi", "7.5Gi", "15Gi", "16Gi"])


@st.composite
def requests_of_a_job(draw: st.DrawFn) -> tuple[tuple[str, str], ...]:
    cpu = draw(CPUS)
    if cpu is None:
        return ()
    gpu = (("nvidia.com/gpu", draw(st.sampled_from(["1", "2"]))),) if draw(st.integers(0, 4)) == 0 else ()
    return (("cpu", cpu), ("memory", draw(MEMORIES)), *gpu)


@st.composite
def views(draw: st.DrawFn) -> ClusterView:
    """Any pool that jobs share, with what jobs have there within what its nodes offer."""
    nodes, others, holdings, free = {}, {}, [], dict[str, dict[str, Fraction]]()
    for name in NAMES[: draw(st.integers(0, 4))]:
        offered = {
            "cpu": draw(st.sampled_from(["4", "3920m", "2"])),
            "memory": "16Gi",
            "pods": str(draw(st.integers(1, 9))),
        }
        offered |= {"nvidia.com/gpu": "2"} if draw(st.booleans()) else {}
        ready = draw(st.sampled_from(["True", "True", "True", "False", "Unknown"]))
        nodes[name] = build.node(
            name, allocatable=offered, ready=ready, since=draw(st.floats(-900, 0)), created=draw(st.floats(-900, 0)),
            taints=[build.leaving(-3)] if draw(st.integers(0, 9)) == 0 else [],
        )  # fmt: skip
        if draw(st.booleans()):
            others[name] = (("cpu", draw(st.sampled_from(["100m", "700m"]))), ("pods", "1"))
        free[name] = left_on(nodes[name], others.get(name, ()))
    for number in range(draw(st.integers(0, 5))):
        requests, count = draw(requests_of_a_job()), draw(st.integers(1, 2))
        mine = tuple(draw(st.lists(st.sampled_from(NAMES), unique=True, min_size=count, max_size=count)))
        whole = not requests and any(set(one.nodes) & set(mine) for one in holdings)
        after = any(set(one.nodes) & set(mine) and not one.requests for one in holdings)
        need = needed(requests)
        if whole or after or not all(name in free and fits(free[name], need) for name in mine):
            continue
        for name in mine:
            for what, amount in need.items():
                free[name][what] = free[name].get(what, Fraction(0)) - amount
        holdings.append(
            Holding(f"h{number}", 1, mine, True, count, draw(st.integers(0, 5)) == 0, "team", requests=requests)
        )
    demands = []
    for number in range(draw(st.integers(0, 7))):
        one = Demand(
            f"d{number}", draw(st.sampled_from(["team", "other"])), f"d{number}", 1, draw(st.integers(1, 3)), T0 + number,
            priority=draw(st.sampled_from(["High", "Medium"])), requests=draw(requests_of_a_job()),
            avoid=frozenset(draw(st.lists(st.sampled_from(NAMES), max_size=1))),
        )  # fmt: skip
        demands.append(one)
        if draw(st.integers(0, 3)) == 0:
            mine = tuple(draw(st.lists(st.sampled_from(NAMES), unique=True, min_size=one.count, max_size=one.count)))
            holdings.append(Holding(one.uid, 1, mine, False, one.count, namespace=one.namespace, requests=one.requests))
    cluster = build.cluster(
        provider=draw(st.sampled_from(["Scale", "Static"])), sharing="Requests", most=draw(st.integers(1, 5)),
        least=0, idlePolicy=draw(st.sampled_from(["Fixed", "Learned"])),
    )  # fmt: skip
    scale = ScaleView(len(nodes) + draw(st.integers(0, 2)))
    freed = {name: T0 - draw(st.floats(0, 500)) for name in nodes}
    return ClusterView(cluster, nodes, tuple(demands), tuple(holdings), freed, scale=scale, others=others)


def needed(requests: tuple[tuple[str, str], ...]) -> dict[str, Fraction]:
    """What one pod takes: the command, or fetch before it, and ship beside it."""
    if not requests:
        return {}
    need = {"cpu": Fraction(50, 1000), "memory": Fraction(64 * 1024**2), "pods": Fraction(1)}
    for name, amount in requests:
        agent = need.get(name, Fraction(0))
        need[name] = agent + max(agent, units.parse(amount))
    return need


def left_on(node: Node, others: tuple[tuple[str, str], ...]) -> dict[str, Fraction]:
    """Allocatable less what others ask for, or less what is kept for daemons (200m, 256Mi) where that is more."""
    asked = {name: units.parse(amount) for name, amount in others}
    reserve = {"cpu": Fraction(200, 1000), "memory": Fraction(256 * 1024**2)}
    none = Fraction(0)
    return {
        name: units.parse(amount) - max(asked.get(name, none), reserve.get(name, none))
        for name, amount in node.status.allocatable.items()
    }


def fits(free: Mapping[str, Fraction], need: Mapping[str, Fraction]) -> bool:
    return all(amount <= free.get(name, 0) for name, amount in need.items())


@settings(max_examples=250, deadline=None)
@given(views())
def test_no_resource_of_a_node_is_ever_promised_twice(view: ClusterView) -> None:
    made = pools.plan(view, T0)

    demands = {(one.uid, one.attempt): one for one in view.demands}
    taken = [(one.nodes, one.requests) for one in view.holdings if one.bound]
    for key, nodes in made.assignments.items():
        assert len(nodes) == len(set(nodes)) == demands[key].count, "a gang is whole, on different nodes"
        taken.append((nodes, demands[key].requests))
    given_away = {name for nodes in made.assignments.values() for name in nodes}
    assert given_away <= view.nodes.keys()
    for name in given_away:
        there = [requests for nodes, requests in taken if name in nodes]
        assert len(there) == 1 or all(there), "a job of whole nodes is alone on its own"
        used = Counter[str]()
        for requests in there:
            for what, amount in needed(requests).items():
                used[what] += amount  # type: ignore[assignment]
        assert fits(left_on(view.nodes[name], view.others.get(name, ())), used), "no more than there is"  # type: ignore[arg-type]
        ready = next(one for one in view.nodes[name].status.conditions if one.type == "Ready")
        assert ready.status == "True"
    for key in demands.keys() - made.assignments.keys():
        assert made.waits[key].message, "whoever waits is told why"
    going = {a.node for a in made.plan.actions if isinstance(a, TaintLeaving)}
    # Pods that are being deleted on a node that has died will never say that they are gone.
    dead = {name for one in view.holdings if one.ending for name in one.nodes}
    assert not going & ({name for nodes, _ in taken for name in nodes} - dead), "a node goes only when nothing is on it"
    assert view.scale is not None
    assert grown(made) <= max(0, view.cluster.spec.max_instances - view.scale.replicas)


@settings(max_examples=80, deadline=None)
@given(views())
def test_where_nodes_are_not_shared_requests_change_nothing(view: ClusterView) -> None:
    def unshared(requests: bool) -> ClusterPlan:
        asked = [one if requests else replace(one, requests=()) for one in view.demands]
        holdings = [one if requests else replace(one, requests=()) for one in view.holdings]
        pool = build.cluster(most=view.cluster.spec.max_instances, sharing="WholeNode")
        others = view.others if requests else {}
        seen = replace(view, cluster=pool, demands=tuple(asked), holdings=tuple(holdings), others=others)
        return pools.plan(seen, T0)

    assert unshared(True) == unshared(False)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(st.sampled_from(["100m", "1", "1500m", "2", "3"]), st.integers(1, 2)), min_size=1, max_size=8)
)
def test_nodes_are_asked_for_until_every_job_runs_and_not_beyond(jobs: list[tuple[str, int]]) -> None:
    """Asked again and again, with the nodes that it asks for: it settles, every job has its parts, and no node is empty."""
    waiting = {name: demand(name, cpu, count) for name, (cpu, count) in zip("abcdefgh", jobs, strict=False)}
    running: list[Holding] = []
    replicas = 0
    for _ in range(20):
        nodes = [build.node(f"n{number}") for number in range(replicas)]
        made = plan(*waiting.values(), nodes=nodes, holdings=tuple(running), most=30)
        given_away = {name: mine for name in waiting if (mine := given_to(made, name)) is not None}
        running += [held(waiting.pop(name), *mine) for name, mine in given_away.items()]
        replicas += grown(made)
        if not waiting:
            break
    assert not waiting
    used = {name for one in running for name in one.nodes}
    assert len(used) == replicas


@pytest.mark.parametrize(
    "kinds", [["1"], ["100m", "1", "3"], [f"{n}m" for n in range(50, 3700, 7)]], ids=["same", "three", "all-different"]
)
def test_ten_thousand_jobs_on_a_thousand_shared_nodes_are_placed_in_a_second(kinds: list[str]) -> None:
    jobs = tuple(
        Demand(
            f"u{n}", f"team{n % 7}", f"j{n}", 1, 1 + n % 3, float(n), requests=(("cpu", kinds[n * 37 % len(kinds)]),)
        )
        for n in range(10_000)
    )
    seen = view(*jobs, nodes=[build.node(f"n{n:04d}") for n in range(1000)], most=1000)
    begun = time.process_time()

    made = pools.plan(seen, T0)

    assert time.process_time() - begun < 2.0  # 1 s on a machine that does nothing else
    assert len(made.assignments) > 500
