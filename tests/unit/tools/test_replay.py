"""Replays of traces: the optimum is one, the decision is the product's own, and it keeps what it promises."""

import itertools
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stoker.api.kube import Node
from stoker.core import cluster as pools
from stoker.core.cluster.decide import Decision
from stoker.core.cluster.view import ClusterView, Holding, ScaleView
from stoker.core.plan import AdoptNode
from tests.support import build
from tools import replay
from tools.replaying import optimum, trace
from tools.replaying.pool import START, Replay, cluster
from tools.replaying.trace import Job

PHILLY = Path(replay.__file__).parent / "data/philly-4vc.csv"

JOBS = st.lists(
    st.builds(Job, st.just("j"), st.integers(0, 60).map(float), st.integers(1, 3), st.integers(1, 20).map(float)),
    min_size=1, max_size=5,
)  # fmt: skip


@given(JOBS, st.sampled_from([1.0, 5.0, 20.0]))
def test_no_sizing_of_a_pool_is_cheaper_than_the_optimum(jobs: list[Job], boot: float) -> None:
    """All the sizings there are, by dynamic programming over the moments at which the demand changes."""
    changes = trace.changes(jobs)
    used, costs = 0, {0: 0.0}
    for (at, change), following in itertools.zip_longest(changes, (at for at, _ in changes[1:])):
        used += change
        after: dict[int, float] = {}
        for size, cost in costs.items():
            for new in range(used, trace.peak(jobs) + 1):
                paid = cost + boot * max(0, new - size) + (following - at if following is not None else 0.0) * new
                after[new] = min(after.get(new, float("inf")), paid)
        costs = after

    assert optimum.total([optimum.levels(jobs)], boot) == pytest.approx(costs[0])


@given(JOBS)
def test_a_timer_that_waits_as_long_as_a_boot_pays_at_most_twice_the_optimum(jobs: list[Job]) -> None:
    seen = optimum.levels(jobs)

    assert optimum.timer_waste(seen, 20.0, 20.0) <= 2 * optimum.least_waste(seen, 20.0)


class Checked(Replay):
    """Makes each decision a second time by the whole plan, from Node objects and holdings by name."""

    decided = 0

    def _decide(self) -> Decision:
        made = super()._decide()
        short = self.view(len(self.waiting))
        holdings = tuple(
            Holding(f"{number:08d}", 1, nodes, namespace=self.pool.metadata.name) for number, nodes in self.busy.items()
        )
        nodes = {name: self._node(name) for name in itertools.chain(self.idle, *self.busy.values())}
        plan = pools.plan(
            ClusterView(
                self.pool, nodes, short.demands, holdings, self.freed(), scale=ScaleView(len(self.machines)),
                first=short.first, kept_since=short.kept_since, rhythm=short.rhythm,
            ),
            self.now,
        )  # fmt: skip
        assert plan.assignments == made.assigned.nodes
        assert tuple(a for a in plan.plan.actions if not isinstance(a, AdoptNode)) == made.sizing.actions
        assert (plan.rhythm, plan.first, plan.plan.wake_at) == (made.rhythm, tuple(made.assigned.first), made.wake_at)
        self.decided += 1
        return made

    def freed(self) -> dict[str, float]:
        return {name: machine.free_since for name, machine in self.idle.items()}

    def _node(self, name: str) -> Node:
        leaving = self.machines[name].leaving_since
        taints = [] if leaving is None else [build.leaving(leaving - START)]
        return build.node(name, pool=self.pool.metadata.name, taints=taints, created=self.machines[name].asked - START)


@pytest.mark.parametrize("idle", [None, 120.0], ids=["learned", "fixed"])
@pytest.mark.parametrize("most", [100, 4], ids=["free", "capped"])
def test_a_replay_decides_as_the_plan_does(idle: float | None, most: int) -> None:
    jobs = trace.read(PHILLY)["vc3"][:80]

    checked = Checked(cluster("vc3", most, idle), jobs, 300.0, cancels=False)
    outcome = checked.run()

    assert outcome.unstarted == 0
    assert len(outcome.waits) == 80
    assert checked.decided > 150


BURSTS = st.lists(
    st.builds(Job, st.just("j"), st.integers(0, 3000).map(float), st.integers(1, 4), st.integers(1, 4000).map(float)),
    min_size=1, max_size=30,
)  # fmt: skip


@settings(max_examples=60, deadline=None)
@given(BURSTS, st.integers(4, 9), st.sampled_from([None, 0.0, 120.0]), st.sampled_from([30.0, 900.0]))
def test_under_a_cap_every_gang_starts_and_no_node_is_kept_in_vain(
    jobs: list[Job], most: int, idle: float | None, boot: float
) -> None:
    jobs = sorted(jobs, key=lambda job: job.submitted)

    outcome = Replay(cluster("p", most, idle), jobs, boot).run()

    assert (outcome.unstarted, len(outcome.waits)) == (0, len(jobs))
    assert outcome.peak <= most
    assert outcome.over_held == 0.0


def test_a_pool_pays_for_its_boots_its_jobs_and_its_idle_time() -> None:
    """One job of 100 s on one node: 30 s of boot, 100 s of work, 50 s of idle time, and 6 s for the last looks."""
    outcome = Replay(cluster("p", 4, 50.0), [Job("a", 0.0, 1, 100.0)], 30.0).run()

    assert (outcome.waits, outcome.node_seconds) == ([30.0], 186.0)


def test_the_report_has_the_figures_of_the_trace(tmp_path: Path) -> None:
    path = tmp_path / "trace.csv"
    lines = ["submit_time_s,n_nodes,duration_s,user,job", "0,1,100,a,x", "1000,1,100,a,y", "0,2,50,b,z"]
    path.write_text("\n".join(lines) + "\n")

    report = replay.replay(path, 30.0, 0.0)

    assert report["busyNodeHours"] == pytest.approx(300 / 3600, abs=0.005)
    assert report["optimumNodeHours"] == pytest.approx((300 + 3 * 30 + 30) / 3600, abs=0.005)
    assert report["meanWaitSeconds"] == 30.0
    # Four nodes stay for the six seconds of the last looks; one of the boots was a choice.
    assert report["costRatio"] == pytest.approx((30 + 4 * 6) / 30)
    assert report["starved"] == 0


def test_a_trace_without_its_columns_is_refused_with_the_line(tmp_path: Path) -> None:
    path = tmp_path / "trace.csv"
    path.write_text("submit_time_s,n_nodes,duration_s,user,job\n0,one,100,a,x\n")

    with pytest.raises(SystemExit, match="line 2"):
        trace.read(path)
