"""Namespaces share a pool: the one with the fewest nodes comes next, and nobody waits for ever."""

from collections import Counter
from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from stoker.api.trainingjob import Priority
from stoker.core import cluster as pools
from stoker.core.cluster.assign import in_order
from stoker.core.cluster.view import ClusterView, Demand, Holding
from tests.support import build

Jobs = list[tuple[str, int, int]]  # namespace, nodes, seconds


def demand(namespace: str, n: int, count: int = 1, *, priority: Priority = "Medium") -> Demand:
    return Demand(f"uid-{namespace}-{n}", namespace, f"job-{n}", 1, count, float(n), priority=priority)


def starts(jobs: Jobs, size: int, until: int) -> dict[int, int]:
    """Job -> second of its start, on a pool of this many nodes that plans each second; all jobs wait from the start."""
    nodes = {f"n{n}": build.node(f"n{n}") for n in range(size)}
    waiting = {demand(namespace, n, count).uid: n for n, (namespace, count, _) in enumerate(jobs)}
    demands = {n: demand(namespace, n, count) for n, (namespace, count, _) in enumerate(jobs)}
    running: dict[int, Holding] = {}
    started: dict[int, int] = {}
    view = ClusterView(build.cluster(provider="Static", most=size), nodes, freed_at=dict.fromkeys(nodes, build.T0))
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


@given(st.lists(st.tuples(st.sampled_from("abc"), st.integers(1, 4), st.integers(1, 6)), max_size=12))
def test_every_job_is_served_when_jobs_end(jobs: Jobs) -> None:
    assert sorted(starts(jobs, size=4, until=200)) == list(range(len(jobs)))


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
    served = list(in_order(demands, running, [(one.uid, 1) for one in demands[::3]]))

    ranks = [["High", "Medium", "Low"].index(one.priority) for one in served]
    assert ranks == sorted(ranks)
    assert sorted(one.uid for one in served) == sorted(one.uid for one in demands)
