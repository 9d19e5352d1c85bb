"""Who may start on idle nodes ahead of the gang that is first in line: only where this one loses nothing that it was told."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stoker.api import names
from stoker.core import cluster as pools
from stoker.core import times
from stoker.core.cluster.machines import Capabilities, Machine, MachinesView
from stoker.core.cluster.view import ClusterPlan, ClusterView, Demand, Holding, ScaleView
from tests.support import build

T0 = build.T0
SIZE = 6
NODES = {f"n{n}": build.node(f"n{n}") for n in range(SIZE)}
POOL = build.cluster(provider="Static", most=SIZE)


def gang(name: str, count: int, seconds: float | None = None, *, since: float = 0.0, team: str = "team") -> Demand:
    return Demand(f"uid-{name}", team, name, 1, count, since, seconds=seconds)


def held(name: str, *nodes: str, ends: float | None = None) -> Holding:
    return Holding(f"uid-{name}", 1, nodes, namespace="team", ends_at=None if ends is None else T0 + ends)


def planned(*demands: Demand, holdings: Sequence[Holding], size: int = 4, provider: str = "Static") -> ClusterPlan:
    nodes = {f"n{n}": build.node(f"n{n}") for n in range(size)}
    scale = ScaleView(size) if provider == "Scale" else None
    freed = dict.fromkeys(nodes, T0)
    pool = build.cluster(provider=provider, most=size)
    return pools.plan(ClusterView(pool, nodes, demands, tuple(holdings), freed, scale=scale), T0)


def started(plan: ClusterPlan) -> set[str]:
    return {uid.removeprefix("uid-") for uid, _ in plan.assignments}


def of_machines(*types: str) -> ClusterView:
    """Four machines of the first type, and the same who wait and run."""
    nodes = {f"n{n}": build.node(f"n{n}") for n in range(4)}
    listed = tuple(Machine(f"m{n}", types[0], "Dedicated", "Running", T0 - 500, node=f"n{n}") for n in range(4))
    pool = build.cluster(provider="Kwok", most=4, instanceTypes=[{"name": name} for name in types])
    return ClusterView(
        pool, nodes, (FIRST, gang("later", 2, 9, since=1)), (RUNS,), dict.fromkeys(nodes, T0),
        machines=MachinesView(listed, Capabilities(atomic=True), at=T0),
    )  # fmt: skip


# Two nodes have a job, two are idle; the first in line needs three.
RUNS = held("runs", "n0", "n1", ends=1000)
FIRST = gang("first", 3)


@pytest.mark.parametrize("provider", ["Static", "Scale"])
@pytest.mark.parametrize(
    ("later", "runs", "goes"),
    [
        (gang("later", 2, 1000, since=1), RUNS, True),
        (gang("later", 2, 1001, since=1), RUNS, False),
        (gang("later", 1, None, since=1), RUNS, True),
        (gang("later", 1, 5000, since=1), RUNS, True),
        (gang("later", 2, None, since=1), RUNS, False),
        (gang("later", 1, 10, since=1), held("runs", "n0", "n1"), False),
        (gang("later", 2, 10, since=1), held("runs", "n0", "n1", ends=-5), False),
        (gang("later", 3, 10, since=1), RUNS, False),
    ],
    ids=[
        "ends-in-time", "a-second-too-long", "no-limit-on-what-is-left-over", "long-on-what-is-left-over",
        "no-limit-and-more-than-is-left-over", "nobody-knows-when-the-first-starts", "the-first-may-start-at-any-moment",
        "more-than-is-idle",
    ],
)  # fmt: skip
def test_a_later_gang_goes_ahead_only_where_the_first_loses_nothing(
    later: Demand, runs: Holding, goes: bool, provider: str
) -> None:
    plan = planned(FIRST, later, holdings=[runs], provider=provider)

    assert started(plan) == ({"later"} if goes else set())


def test_what_is_left_over_is_given_once() -> None:
    plan = planned(FIRST, gang("b", 1, since=1), gang("c", 1, since=2), gang("d", 1, 1000, since=3), holdings=[RUNS])

    assert started(plan) == {"b", "d"}


def test_who_goes_ahead_goes_in_the_order_of_the_line_and_the_rest_stays_in_it() -> None:
    plan = planned(FIRST, gang("c", 2, 9, since=2), gang("b", 2, 9, since=1), holdings=[RUNS])

    assert started(plan) == {"b"}
    assert plan.waits["uid-c", 1].message.startswith("place 2 of 2 in line of cpu")


def test_a_node_that_it_could_not_use_before_is_not_given_ahead_of_others() -> None:
    one = replace(gang("later", 1, 9, since=1), avoid=frozenset({"n3"}))

    assert planned(FIRST, one, holdings=[RUNS]).assignments == {("uid-later", 1): ("n2",)}
    assert started(planned(FIRST, replace(one, avoid=frozenset({"n2", "n3"})), holdings=[RUNS])) == set()


def test_a_gang_of_any_of_several_types_that_come_and_go_has_no_reservation() -> None:
    """Which of its types it gets depends on who ends first: what goes ahead on one could delay the other."""
    assert [started(pools.plan(of_machines(*types), T0)) for types in (("s", "m"), ("s",))] == [set(), {"later"}]


@pytest.mark.parametrize(("seconds", "goes"), [(400, True), (401, False)])
def test_where_nodes_are_scrubbed_between_jobs_there_must_be_time_for_it(seconds: float, goes: bool) -> None:
    clean = {names.ANNOTATION_SCRATCH: "clean /scratch"}
    nodes = {f"n{n}": build.node(f"n{n}", annotations=clean) for n in range(4)}
    pool = build.cluster(provider="Static", most=4, storage={"scratchPath": "/scratch", "scrub": "OnJobEnd"})
    demands = (FIRST, gang("later", 2, seconds, since=1))

    plan = pools.plan(ClusterView(pool, nodes, demands, (held("runs", "n0", "n1", ends=4000),), scrubs=()), T0)

    assert started(plan) == ({"later"} if goes else set())


def test_both_are_told_why() -> None:
    plan = planned(FIRST, gang("later", 2, 1000, since=1), gang("last", 2, since=2), holdings=[RUNS])

    by = times.rfc3339(T0 + 1000)
    assert f"other jobs have them until {by} at the latest, by their limits" in plan.waits["uid-first", 1].message
    assert f"first is team/first, which waits for 3 nodes until {by}" in plan.waits["uid-last", 1].message
    assert plan.ahead == {
        (
            "uid-later",
            1,
        ): "it goes ahead of team/first, which is first in line: it ends before enough nodes for that one "
        f"are free, at {by}"
    }
    status = plan.plan.status
    assert status is not None
    shown = {one.name: (one.reason, one.message) for one in status.members}
    assert shown["n3"] == ("Backfilled", f"a job has it: {plan.ahead['uid-later', 1]}")
    assert shown["n0"][0] == "HasJob"


def test_why_it_went_ahead_is_still_told_before_and_after_its_child_is_there() -> None:
    for bound in (False, True):
        later = Holding("uid-later", 1, ("n2", "n3"), bound=bound, namespace="team", ahead="it goes ahead of team/x")
        demands = [FIRST] if bound else [FIRST, gang("later", 2, 1000, since=1)]

        plan = planned(*demands, holdings=[RUNS, later])

        assert plan.plan.status is not None
        assert {"n2", "n3"} == {one.name for one in plan.plan.status.members if one.reason == "Backfilled"}
        assert plan.ahead == ({} if bound else {("uid-later", 1): "it goes ahead of team/x"})


# -- Whole runs: jobs come, run and end; at each event the pool is planned.


@dataclass(frozen=True)
class Job:
    """runs: for how long it has its nodes. limit: the longest that it may; None: not said."""

    at: int
    count: int
    limit: int | None
    runs: int
    team: str = "a"


@dataclass
class Yard:
    """told: whether the pool knows the limits. Where it does not, nobody goes ahead of the first in line."""

    jobs: Sequence[Job]
    told: bool = True
    now: int = 0
    started: dict[int, int] = field(default_factory=dict)
    nodes: dict[int, tuple[str, ...]] = field(default_factory=dict)
    ahead: dict[int, int] = field(default_factory=dict)
    first: tuple[tuple[str, int], ...] = ()
    freed_at: Mapping[str, float] = field(default_factory=dict)

    def copy(self, *, told: bool) -> "Yard":
        return replace(self, told=told, started=dict(self.started), nodes=dict(self.nodes), ahead=dict(self.ahead))

    def plan(self) -> ClusterPlan:
        """Plan at this moment, and start whom it gives nodes."""
        waiting = {f"uid-{n}": n for n, job in enumerate(self.jobs) if job.at <= self.now and n not in self.started}
        demands = [
            gang(str(n), self.jobs[n].count, self._limit(n), since=float(n), team=self.jobs[n].team)
            for n in waiting.values()
        ]
        running = [n for n, at in self.started.items() if at + self.jobs[n].runs > self.now]
        holdings = [
            Holding(
                f"uid-{n}", 1, self.nodes[n], namespace=self.jobs[n].team,
                ends_at=None if self._limit(n) is None else T0 + self.started[n] + self.jobs[n].limit,
            )
            for n in running
        ]  # fmt: skip
        view = ClusterView(POOL, NODES, tuple(demands), tuple(holdings), self.freed_at, first=self.first)
        plan = pools.plan(view, T0 + self.now)
        for (uid, _), given_nodes in plan.assignments.items():
            self.started[waiting[uid]], self.nodes[waiting[uid]] = self.now, given_nodes
        for uid, _ in plan.ahead:
            self.ahead[waiting[uid]] = self.now
        self.first, self.freed_at = plan.first, plan.freed_at
        return plan

    def go_on(self) -> bool:
        """To the next moment at which a job comes or ends; False after the last."""
        moments = [job.at for job in self.jobs] + [at + self.jobs[n].runs for n, at in self.started.items()]
        later = [moment for moment in moments if moment > self.now]
        self.now = min(later, default=self.now)
        return bool(later)

    def run(self) -> "Yard":
        while True:
            self.plan()
            if not self.go_on():
                return self

    def _limit(self, n: int) -> int | None:
        return self.jobs[n].limit if self.told else None


@st.composite
def days(draw: st.DrawFn, *, early: bool) -> list[Job]:
    """early: whether jobs may end before their limits; those without a limit end when they like."""
    jobs, at = [], 0
    for _ in range(draw(st.integers(2, 14))):
        at += draw(st.integers(0, 8))
        limit = draw(st.none() | st.integers(1, 40))
        longest = limit or 60
        runs = draw(st.integers(1, longest)) if early or limit is None else limit
        jobs.append(Job(at, draw(st.integers(1, SIZE)), limit, runs, draw(st.sampled_from("ab"))))
    return jobs


def promise(plan: ClusterPlan) -> tuple[int, float] | None:
    """Who is first in line, and by when it was told to have its nodes."""
    for uid, attempt in plan.first:
        found = re.search(r"until (\S+) at the latest", plan.waits[uid, attempt].message)
        if found is not None:
            at = times.seconds(found[1])
            assert at is not None
            return int(uid.removeprefix("uid-")), at - T0
    return None


@settings(max_examples=60, deadline=None)
@given(days(early=True))
def test_the_first_in_line_starts_no_later_than_it_was_told_whatever_ends_early(jobs: list[Job]) -> None:
    yard, told = Yard(jobs), dict[int, float]()
    while True:
        plan = yard.plan()
        if (made := promise(plan)) is not None:
            n, by = made
            assert by <= told.get(n, by), f"job {n} was told {told[n]} and later {by}"
            told[n] = by
        if not yard.go_on():
            break

    assert {n: (yard.started[n], by) for n, by in told.items() if yard.started[n] > by} == {}


@settings(max_examples=40, deadline=None)
@given(days(early=False))
def test_where_jobs_use_their_limits_the_first_in_line_starts_as_early_as_if_nobody_went_ahead(jobs: list[Job]) -> None:
    yard, expected = Yard([replace(job, limit=job.limit or job.runs) for job in jobs]), dict[int, int]()
    while True:
        before = yard.copy(told=False)
        plan = yard.plan()
        for uid, _ in plan.first:
            n = int(uid.removeprefix("uid-"))
            if n not in expected:
                expected[n] = before.copy(told=False).run().started[n]
        if not yard.go_on():
            break

    assert {n: (yard.started[n], at) for n, at in expected.items() if yard.started[n] > at} == {}


@settings(max_examples=60, deadline=None)
@given(days(early=True))
def test_everybody_starts_and_without_limits_nobody_is_passed(jobs: list[Job]) -> None:
    yard = Yard(jobs).run()

    assert set(yard.started) == set(range(len(jobs)))
    assert Yard(jobs, told=False).run().ahead == {}


def test_small_jobs_that_never_stop_coming_do_not_starve_a_large_one() -> None:
    jobs = [Job(0, 4, 100, 100), Job(1, SIZE, 50, 50), *(Job(at, 1, 10, 10) for at in range(2, 400, 4))]

    yard = Yard(jobs).run()

    assert yard.started[1] == 100
    assert len([n for n, at in yard.ahead.items() if at < 100]) >= 15


def test_idle_nodes_are_used_that_would_have_waited_for_the_first_in_line() -> None:
    jobs = [Job(0, 5, 100, 100), Job(1, 2, 50, 50), *(Job(at, 1, 20, 20) for at in range(2, 90, 20))]

    ahead, behind = Yard(jobs).run(), Yard(jobs, told=False).run()

    assert ahead.started[1] == behind.started[1] == 100
    assert [ahead.started[n] for n in (2, 3, 4, 5)] == [2, 22, 42, 62]
    assert min(behind.started[n] for n in (2, 3, 4, 5)) == 100
