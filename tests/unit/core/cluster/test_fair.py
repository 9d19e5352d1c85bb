"""Namespaces share a pool: the one with the fewest nodes comes next, and nobody waits for ever."""

import os
import sys
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import replace
from fractions import Fraction
from random import Random
from types import FrameType, MappingProxyType
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stoker.api.trainingjob import Priority
from stoker.core import cluster as pools
from stoker.core.cluster.assign import in_order
from stoker.core.cluster.view import ClusterView, Demand, Holding
from tests.support import build, crowd

Jobs = list[tuple[str, int, int]]  # namespace, nodes, seconds


def demand(namespace: str, n: int, count: int = 1, *, priority: Priority = "Medium") -> Demand:
    return Demand(f"uid-{namespace}-{n}", namespace, f"job-{n}", 1, count, float(n), priority=priority)


def starts(jobs: Jobs, size: int, until: int, weights: Mapping[str, int] = MappingProxyType({})) -> dict[int, int]:
    """Job -> second of its start, on a pool of this many nodes that plans each second; all jobs wait from the start."""
    nodes = {f"n{n}": build.node(f"n{n}") for n in range(size)}
    waiting = {demand(namespace, n, count).uid: n for n, (namespace, count, _) in enumerate(jobs)}
    demands = {n: demand(namespace, n, count) for n, (namespace, count, _) in enumerate(jobs)}
    running: dict[int, Holding] = {}
    started: dict[int, int] = {}
    view = ClusterView(
        build.cluster(provider="Static", most=size), nodes, freed_at=dict.fromkeys(nodes, build.T0), weights=weights
    )
    for second in range(until):
        running = {n: held for n, held in running.items() if started[n] + jobs[n][2] > second}
        view = replace(view, demands=tuple(demands.values()), holdings=tuple(running.values()))
        plan = pools.plan(view, build.T0 + second)
        for (uid, attempt), given_nodes in plan.assignments.items():
            n = waiting[uid]
            running[n] = Holding(uid, attempt, given_nodes, namespace=demands.pop(n).namespace)
            started[n] = second
        view = replace(view, freed_at=plan.freed_at, first=plan.first)
        if not demands:
            break
    return started


def test_what_a_namespace_was_given_counts_for_those_behind() -> None:
    running = Counter({"a": 1})
    served = []
    for one in in_order([*(demand("a", n) for n in range(3)), *(demand("b", n) for n in range(3, 6))], running):
        served.append(one.namespace)
        running[one.namespace] += one.count

    assert served == ["b", "a", "b", "a", "b", "a"]


def test_two_thousand_jobs_of_one_namespace_do_not_delay_ten_of_another() -> None:
    jobs: Jobs = [("a", 1, 30)] * 2000 + [("b", 1, 30)] * 10

    started = starts(jobs, size=20, until=3)

    assert [started.get(n) for n in range(2000, 2010)] == [0] * 10
    assert sum(started[n] == 0 for n in started) == 20


def test_a_gang_as_large_as_the_pool_keeps_its_place_when_shares_become_equal() -> None:
    jobs: Jobs = [("a", 1, 3 + n % 4) for n in range(60)] + [("b", 4, 5)]

    assert starts(jobs, size=4, until=40).get(60) is not None


WEIGHTS = st.dictionaries(st.sampled_from("abc"), st.integers(1, 1000))


@given(st.lists(st.tuples(st.sampled_from("abc"), st.integers(1, 4), st.integers(1, 6)), max_size=12), WEIGHTS)
def test_every_job_is_served_when_jobs_end(jobs: Jobs, weights: dict[str, int]) -> None:
    assert sorted(starts(jobs, size=4, until=200, weights=weights)) == list(range(len(jobs)))


def served(demands: list[Demand], running: Counter[str], weights: Mapping[str, int], most: int) -> list[Demand]:
    """The first in order, each counted for its namespace as a plan counts it."""
    found = []
    for one in in_order(demands, running, weights):
        found.append(one)
        running[one.namespace] += one.count
        if len(found) == most:
            break
    return found


@given(st.integers(1, 5), st.integers(1, 5), st.integers(1, 20))
def test_nodes_are_given_in_proportion_to_the_weights(a: int, b: int, rounds: int) -> None:
    """As long as both want more: after each round of a + b nodes exactly a and b of them."""
    demands = [demand(namespace, n) for namespace in "ab" for n in range(rounds * 5)]

    given_to = Counter(one.namespace for one in served(demands, Counter(), {"a": a, "b": b}, rounds * (a + b)))

    assert (given_to["a"], given_to["b"]) == (rounds * a, rounds * b)


@given(
    st.lists(st.tuples(st.sampled_from("abc"), st.integers(1, 4)), min_size=1, max_size=20),
    st.dictionaries(st.sampled_from("abc"), st.integers(0, 20)),
    WEIGHTS,
    st.randoms(use_true_random=False),
)
def test_the_namespace_with_the_fewest_nodes_per_weight_comes_next_and_in_it_the_oldest(
    jobs: list[tuple[str, int]], running: dict[str, int], weights: dict[str, int], random: Random
) -> None:
    left = [demand(namespace, n, count) for n, (namespace, count) in enumerate(jobs)]
    random.shuffle(left)
    nodes = Counter(running)

    for one in served(left, Counter(running), weights, len(jobs)):
        mine = Fraction(nodes[one.namespace], weights.get(one.namespace, 1))
        for other in left:
            theirs = Fraction(nodes[other.namespace], weights.get(other.namespace, 1))
            assert (mine, one.since) <= (theirs, other.since)
        left.remove(one)
        nodes[one.namespace] += one.count


@given(
    st.lists(st.tuples(st.sampled_from("abc"), st.integers(1, 4)), max_size=20),
    st.fixed_dictionaries(dict.fromkeys("abc", st.integers(1, 100))),
    st.integers(2, 10),
)
def test_only_the_ratio_of_weights_counts(jobs: list[tuple[str, int]], weights: dict[str, int], times: int) -> None:
    demands = [demand(namespace, n, count) for n, (namespace, count) in enumerate(jobs)]
    larger = {namespace: weight * times for namespace, weight in weights.items()}

    assert served(demands, Counter(), weights, len(jobs)) == served(demands, Counter(), larger, len(jobs))


def test_a_higher_priority_comes_first_whosever_it_is() -> None:
    running = Counter({"busy": 9})
    demands = [demand("idle", 1), demand("busy", 2, priority="High"), demand("idle", 0, priority="Low")]

    assert ["High", "Medium", "Low"] == [one.priority for one in in_order(demands, running)]


def test_a_gang_keeps_its_place_against_its_equals_and_not_against_a_higher_priority() -> None:
    gang, equal, higher = demand("a", 5, 4), demand("b", 1), demand("b", 9, priority="High")

    served = [one.uid for one in in_order([equal, higher, gang], Counter(a=3), first=[(gang.uid, gang.attempt)])]

    assert served == [higher.uid, gang.uid, equal.uid]


def test_nodes_that_were_kept_for_a_low_gang_go_to_a_high_job() -> None:
    nodes = {name: build.node(name) for name in ("n0", "n1")}
    gang, higher = demand("a", 0, 2, priority="Low"), demand("b", 1, priority="High")
    held = (Holding("other", 1, ("n0",), namespace="c"),)
    pool = build.cluster(provider="Static", most=2)
    before = pools.plan(ClusterView(pool, nodes, (gang,), held), build.T0)
    assert before.first == ((gang.uid, 1),)

    after = pools.plan(ClusterView(pool, nodes, (gang, higher), held, first=before.first), build.T0)

    assert after.assignments == {(higher.uid, 1): ("n1",)}


@given(
    st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from(["Low", "Medium", "High"])), max_size=20),
    st.dictionaries(st.sampled_from("abc"), st.integers(0, 5)),
)
def test_nobody_is_served_before_a_higher_priority_and_everybody_once(
    jobs: list[tuple[str, Priority]], running: dict[str, int]
) -> None:
    demands = [demand(namespace, n, priority=priority) for n, (namespace, priority) in enumerate(jobs)]
    served = list(in_order(demands, running, first=[(one.uid, 1) for one in demands[::3]]))

    ranks = [["High", "Medium", "Low"].index(one.priority) for one in served]
    assert ranks == sorted(ranks)
    assert sorted(one.uid for one in served) == sorted(one.uid for one in demands)


def told(*demands: Demand, holdings: tuple[Holding, ...], **more: Any) -> dict[str, str]:
    """Job -> why it waits, on a full pool of as many nodes as are held."""
    nodes = {name: build.node(name) for holding in holdings for name in holding.nodes}
    pool = build.cluster(provider="Static", most=len(nodes))
    plan = pools.plan(ClusterView(pool, nodes, demands, holdings, **more), build.T0)
    names = {(one.uid, one.attempt): f"{one.namespace}/{one.name}" for one in demands}
    return {names[key]: wait.message for key, wait in plan.waits.items()}


A_HAS_TWO = (Holding("h0", 1, ("n0",), namespace="a"), Holding("h1", 1, ("n1",), namespace="a"))


@pytest.mark.parametrize(
    ("first", "more", "why"),
    [
        (demand("a", 9, priority="High"), {}, "first is a/job-9, which waits for 1 node: its priority is High, this one's Medium"),
        (demand("b", 9), {}, "first is b/job-9, which waits for 1 node: b has 0 nodes, a has 2"),
        (
            demand("b", 9, 2), {"weights": {"b": 3}},
            "first is b/job-9, which waits for 2 nodes: b has 0 nodes at weight 3, a has 2 at weight 1",
        ),
        (demand("a", 0), {}, "first is a/job-0, which waits for 1 node: it is older"),
        (demand("a", 9), {"first": (("uid-a-9", 1),)}, "first is a/job-9, which waits for 1 node: its turn came before"),
    ],
    ids=["priority", "share", "weight", "age", "kept"],
)  # fmt: skip
def test_who_waits_for_a_turn_is_told_who_is_first_and_why(first: Demand, more: dict[str, Any], why: str) -> None:
    messages = told(first, demand("a", 1), holdings=A_HAS_TWO, **more)

    assert messages["a/job-1"] == f"place 2 of 2 in line of cpu; {why}"


def test_places_are_those_of_the_order_in_which_all_would_be_served() -> None:
    jobs = [demand("a", n) for n in range(3)] + [demand("b", n) for n in range(3, 6)]
    held = (*A_HAS_TWO, Holding("h2", 1, ("n2",), namespace="b"))

    messages = told(*jobs, holdings=held)

    places = {name: message.split()[1] for name, message in messages.items() if message.startswith("place")}
    # b is first for it has fewer, then equal shares go to the oldest of the two, in turn.
    assert "waiting for 1 node of cpu" in messages["b/job-3"]
    assert places == {"a/job-0": "2", "b/job-4": "3", "a/job-1": "4", "b/job-5": "5", "a/job-2": "6"}


def test_a_pool_that_owns_no_nodes_tells_places_too() -> None:
    held = (Holding("h0", 1, (), count=1, namespace="a"),)
    view = ClusterView(build.cluster(provider="External", most=1), {}, (demand("a", 1), demand("b", 2)), held)

    waits = pools.plan(view, build.T0).waits

    assert waits["uid-b-2", 1].reason == "PoolFull"
    assert waits["uid-a-1", 1].message == (
        "place 2 of 2 in line of cpu; first is b/job-2, which waits for 1 node: b has 0 nodes, a has 1"
    )


def lines_run(work: Callable[[], object]) -> int:
    """How many lines of stoker.core run while `work` does: a measure of its cost that no other load changes."""
    count = 0

    def in_core(frame: FrameType, event: str, _: object) -> Any:
        nonlocal count
        if "/stoker/core/" not in frame.f_code.co_filename.replace(os.sep, "/"):
            return None
        if event == "line":
            count += 1
        return in_core

    before = sys.gettrace()
    sys.settrace(in_core)
    try:
        work()
    finally:
        sys.settrace(before)
    return count


def full_pool(many: int, few: int, size: int) -> ClusterView:
    nodes = {f"n{n}": build.node(f"n{n}") for n in range(size)}
    demands = [demand("a", n) for n in range(many)] + [demand("b", many + n) for n in range(few)]
    held = tuple(Holding(f"h{n}", 1, (f"n{n}",), namespace="a") for n in range(size))
    return ClusterView(build.cluster(provider="Static", most=size), nodes, tuple(demands), held)


def test_a_plan_costs_a_bounded_number_of_steps_per_job_and_node_that_does_not_grow_with_them() -> None:
    """2,010 jobs on 200 nodes: what costs more than in proportion shows beside a tenth of it."""
    small, large = full_pool(200, 1, 20), full_pool(2000, 10, 200)

    few = lines_run(lambda: pools.plan(small, build.T0))
    many = lines_run(lambda: pools.plan(large, build.T0))

    assert many <= 120 * (2010 + 200)
    assert many <= 11 * few


@pytest.mark.parametrize("shown", sorted(crowd.views(1, 1)))
def test_a_decision_costs_in_proportion_to_the_gangs_and_the_nodes(shown: str) -> None:
    small, large = crowd.views(100, 10)[shown], crowd.views(1000, 100)[shown]

    few = lines_run(lambda: pools.plan(small, crowd.NOW))
    many = lines_run(lambda: pools.plan(large, crowd.NOW))

    assert many <= 11 * few
    assert many <= 150 * 1100
