"""What a pool keeps ready, what it uses, and what it may use."""

from typing import Any

import msgspec
import pytest

from stoker.core import cluster as pools
from stoker.core.cluster import usage
from stoker.core.cluster.view import ClusterView, Demand, Meter, Rates, ScaleView
from tests.support import build
from tests.support.cloud import Cloud, cloud

PRICED = [{"name": "m", "resources": {"cpu": "4"}, "pricePerHour": "3.60"}]
#: build.T0 is a Tuesday, 22:13:20 UTC.
MIDNIGHT = 6400.0


def used(world: Cloud) -> dict[str, float]:
    usage = world.pool.status.usage
    assert usage is not None
    return {name: float(text) for name, text in msgspec.to_builtins(usage).items() if name not in ("at", "monthCosts")}


# -- Warm nodes.


def test_warm_nodes_are_kept_ready_and_come_anew_when_a_job_has_them() -> None:
    world = cloud(most=4, idle=0, warm={"instances": 2})
    world.settle(100)
    assert (len(world.nodes), world.pool.status.nodes.idle) == (2, 2)

    job = world.submit(2)
    world.operate(3)
    assert job in world.holdings
    world.settle(100)

    assert world.pool.status.nodes.idle == 2
    world.end(job)
    world.settle(200)
    assert len(world.alive) == 2


def test_warm_nodes_never_exceed_the_pool() -> None:
    world = cloud(most=3, warm={"instances": 2})
    for _ in range(2):
        world.submit(1)
    world.settle(300)

    assert world.peak == 3


@pytest.mark.parametrize(
    ("schedule", "after", "expected"),
    [
        ({"start": "22:00", "end": "23:00"}, 0, 1),
        ({"start": "22:00", "end": "23:00"}, 3600, 0),
        ({"start": "22:00", "end": "02:00"}, 3 * 3600, 1),
        ({"start": "22:00", "end": "02:00", "days": ["Tuesday"]}, 3 * 3600, 1),
        ({"start": "22:00", "end": "02:00", "days": ["Wednesday"]}, 3 * 3600, 0),
        ({"start": "00:00", "end": "00:00", "days": ["Wednesday"]}, MIDNIGHT, 1),
    ],
)
def test_a_schedule_says_when_nodes_are_warm(schedule: dict[str, Any], after: float, expected: int) -> None:
    world = cloud(idle=0, warm={"instances": 1, "schedule": [schedule]})
    world.now += after
    world.settle(100)

    assert len(world.alive) == expected


def test_a_plan_wakes_when_the_schedule_begins() -> None:
    warm = {"instances": 1, "schedule": [{"start": "22:20", "end": "23:00"}]}
    plan = pools.plan(ClusterView(build.cluster(warm=warm), scale=ScaleView(0)), build.T0)

    assert plan.plan.wake_at == build.T0 + 400


# -- Usage.


def test_nodes_are_counted_from_their_order_to_their_end_and_priced() -> None:
    """A job of 600 s on one node: 60 s of boot, then idle for 30 s and the last looks."""
    world = cloud(idle=30, instanceTypes=PRICED)
    job = world.submit(1)
    world.settle(64, every=1)
    world.settle(600, every=1)
    world.end(job)
    world.settle(400, every=1)

    hours = used(world)
    assert hours["bootNodeHours"] * 3600 == pytest.approx(60, abs=4)
    assert hours["idleNodeHours"] * 3600 == pytest.approx(36, abs=4)
    assert hours["busyNodeHours"] * 3600 == pytest.approx(600, abs=4)
    assert hours["nodeHours"] * 3600 == pytest.approx(60 + 600 + 36 + 4, abs=8)
    assert hours["cost"] == pytest.approx(3.6 * hours["nodeHours"], abs=0.001)
    assert hours["todayNodeHours"] == hours["nodeHours"]


def test_usage_goes_on_after_a_restart_and_today_begins_at_midnight() -> None:
    world = cloud(idle=100_000)
    world.submit(1)
    world.settle(3600, every=30)
    before = used(world)["nodeHours"]
    world.restart()
    world.settle(MIDNIGHT - 3600, every=30)
    world.settle(1800, every=30)

    assert used(world)["nodeHours"] == pytest.approx(before + (MIDNIGHT - 3600 + 1800) / 3600, abs=0.1)
    assert used(world)["todayNodeHours"] == pytest.approx(0.5, abs=0.1)


def test_usage_alone_is_written_every_five_minutes() -> None:
    world = cloud(idle=100_000)
    world.submit(1)
    world.settle(300)
    writes = 0
    for _ in range(300):
        before = world.pool.status
        world.operate()
        writes += world.pool.status != before
        world.pass_time(5)

    assert 4 <= writes <= 6


def test_a_meter_is_read_on_at_the_rates_of_its_last_look() -> None:
    meter = Meter(build.T0, nodes=100, busy=10, today_nodes=50, cost=1, rates=Rates(nodes=3, busy=2, idle=1, price=36))
    later = usage.read_on(meter, build.T0 + 100)

    assert (400, 210, 100, 350, 2) == (later.nodes, later.busy, later.idle, later.today_nodes, later.cost)
    assert 3 * 600 == usage.read_on(meter, build.T0 + MIDNIGHT + 600).today_nodes


@pytest.mark.parametrize(
    ("budget", "expected"),
    [
        (None, {}),
        ({"nodeHoursPerDay": "4"}, {"nodeHoursPerDay": 0.5}),
        ({"nodeHoursPerDay": "1", "costPerDay": "20"}, {"nodeHoursPerDay": 2.0, "costPerDay": 0.25}),
        ({"costPerDay": "0"}, {"costPerDay": 1.0}),
    ],
)
def test_how_much_of_a_budget_is_used(budget: dict[str, str] | None, expected: dict[str, float]) -> None:
    pool = build.cluster(**({"budget": budget} if budget else {}))

    assert expected == usage.of_budget(pool, Meter(build.T0, today_nodes=7200, today_cost=5))


# -- Budgets.


@pytest.mark.parametrize("budget", [{"nodeHoursPerDay": "0.5"}, {"costPerDay": "1.80"}], ids=["hours", "cost"])
def test_a_pool_over_its_budget_gives_no_more_nodes_until_midnight(budget: dict[str, str]) -> None:
    world = cloud(idle=0, instanceTypes=PRICED, budget={**budget, "action": "Queue"})
    first = world.submit(1)
    world.settle(2400, every=20)
    assert first in world.holdings, "no job is ended for a budget"
    second = world.submit(1)
    world.settle(40)
    assert world.plan is not None
    wait = world.plan.waits[second, 1]
    assert (wait.reason, "spec.budget" in wait.fix) == ("BudgetReached", True)
    assert {problem.reason for problem in world.pool.status.problems} == {"BudgetReached"}
    assert world.plan.plan.wake_at is not None
    world.end(first)

    world.settle(MIDNIGHT, every=20)

    assert second in world.holdings


def test_a_budget_that_only_warns_keeps_nobody_waiting() -> None:
    world = cloud(budget={"nodeHoursPerDay": "0.01"})
    world.submit(1)
    world.settle(300)
    second = world.submit(1)
    world.settle(200)

    assert second in world.holdings
    assert {problem.reason for problem in world.pool.status.problems} == {"BudgetReached"}


def test_a_plan_wakes_when_the_budget_is_used_up() -> None:
    view = ClusterView(
        build.cluster(budget={"nodeHoursPerDay": "1"}, idle=100_000), {"n0": build.node("n0")}, scale=ScaleView(1)
    )

    assert pools.plan(view, build.T0).plan.wake_at == build.T0 + 3600


# -- Resources that show late.


def test_a_node_is_preparing_until_it_shows_what_the_pool_waits_for() -> None:
    def plan(allocatable: dict[str, str], age: float) -> tuple[str, ...] | None:
        node = build.node("n0", created=-age, since=-age + 1, allocatable={"cpu": "4", "memory": "16Gi", **allocatable})
        view = ClusterView(
            build.cluster(readyResources=["vendor.example/efa"]), {"n0": node},
            (Demand("uid-a", "team", "a", 1, 1, 0.0),), scale=ScaleView(1),
        )  # fmt: skip
        made = pools.plan(view, build.T0)
        status = made.plan.status
        assert status is not None
        if "uid-a" not in {uid for uid, _ in made.assignments}:
            assert not [a for a in made.plan.actions if type(a).__name__ == "ScaleTo"] or age > 900
            return tuple(problem.reason for problem in status.problems) or ("preparing",)
        return None

    assert plan({"vendor.example/efa": "1"}, 20) is None
    assert plan({}, 20) == ("preparing",)
    assert plan({}, 1000) == ("ResourceMissing",)
