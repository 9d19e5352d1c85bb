"""What a scrape shows of pools, as text: pools of simulated machines in virtual time, told to the metrics pass by pass."""

import math

import msgspec
import pytest
from prometheus_client import generate_latest
from prometheus_client.parser import text_string_to_metric_families

from stoker.api.computecluster import ComputeCluster
from stoker.controller.metrics import Metrics
from stoker.controller.pool_metrics import PoolMetrics
from stoker.core import cluster as pools
from stoker.core.cluster.view import ClusterView, Holding
from tests.support import build
from tests.support.cloud import BOOT, ENDING, Cloud, cloud

PRICED = [
    {"name": "spot", "tier": "Spot", "resources": {"cpu": "4", "memory": "16Gi"}, "pricePerHour": "1.80"},
    {"name": "solid", "resources": {"cpu": "4", "memory": "16Gi"}, "pricePerHour": "3.60"},
]
#: build.T0 is a Tuesday, 22:13:20 UTC.
MIDNIGHT = 6400.0


class Page:
    """The metrics of one pool and what Prometheus is told of it."""

    def __init__(self, world: Cloud) -> None:
        self.world = world
        self.clusters: list[ComputeCluster] | None = None
        self.metrics = Metrics()
        self.registry = self.metrics.registry
        self.registry.unregister(self.metrics.pools)
        self.pools = PoolMetrics(lambda: self.world.now)
        self.registry.register(self.pools)
        self.pools.read(lambda: [self.world.pool] if self.clusters is None else self.clusters)

    def settle(self, seconds: float, *, every: float = 1.0) -> None:
        for _ in range(int(seconds / every)):
            view = self.world.view()
            self.world.operate()
            assert self.world.plan is not None
            self.pools.planned(view, self.world.plan, 0.004, self.world.now)
            self.world.pass_time(every)

    def text(self) -> str:
        return generate_latest(self.registry).decode()

    def lines(self, metric: str) -> dict[str, float]:
        """The series of a metric, as they stand on the page."""
        found = [
            line.rpartition(" ") for line in self.text().splitlines() if line.startswith((f"{metric}{{", f"{metric} "))
        ]
        return {series.removeprefix(metric): float(value) for series, _, value in found}

    def value(self, metric: str, **labels: str) -> float:
        """One series, by some of its labels."""
        wanted = {f'{name}="{value}"' for name, value in labels.items()}
        (found,) = [
            value for series, value in self.lines(metric).items() if wanted <= set(series.strip("{}").split(","))
        ]
        return found


def test_nodes_by_state_wanted_and_allowed() -> None:
    page = Page(cloud(most=4))
    page.world.submit(2)
    page.settle(10)

    assert {
        '{pool="cpu",state="Idle"}': 0, '{pool="cpu",state="Running"}': 0, '{pool="cpu",state="Preparing"}': 2,
        '{pool="cpu",state="Unusable"}': 0, '{pool="cpu",state="Leaving"}': 0, '{pool="cpu",state="Preempted"}': 0,
    } == page.lines("stoker_pool_nodes")  # fmt: skip
    assert {'{pool="cpu"}': 2} == page.lines("stoker_pool_target_nodes")
    assert {'{pool="cpu"}': 4} == page.lines("stoker_pool_max_nodes")

    page.settle(80)
    assert 2 == page.value("stoker_pool_nodes", state="Running")
    page.world.preempt(next(iter(page.world.machines)))
    page.settle(2)
    assert 1 == page.value("stoker_pool_nodes", state="Preempted")


def test_a_pool_whose_provider_does_not_answer_is_not_ready_and_shows_no_machines() -> None:
    page = Page(cloud(least=1))
    page.settle(10)
    assert {'{pool="cpu"}': 1} == page.lines("stoker_pool_ready")
    assert page.lines("stoker_pool_machines")

    page.world.unlisted = True
    page.settle(2)

    assert {'{pool="cpu"}': 0} == page.lines("stoker_pool_ready")
    assert {} == page.lines("stoker_pool_machines")


def test_machines_as_the_provider_lists_them() -> None:
    page = Page(cloud(least=1, instanceTypes=PRICED, idle=0))
    page.settle(10)
    assert {'{instance_type="spot",pool="cpu",state="Booting",tier="Spot"}': 1} == page.lines("stoker_pool_machines")

    page.settle(BOOT)
    page.world.submit(1, kind="solid")
    page.settle(10)
    assert 1 == page.value("stoker_pool_machines", state="Running", instance_type="spot")
    assert 1 == page.value("stoker_pool_machines", state="Booting", instance_type="solid", tier="Dedicated")


def test_jobs_that_wait_how_many_nodes_for_and_for_how_long() -> None:
    page = Page(cloud(most=3))
    page.settle(1)
    assert {} == page.lines("stoker_pool_pending_gangs")
    assert {'{pool="cpu"}': 0} == page.lines("stoker_pool_oldest_pending_gang_seconds")

    page.world.submit(1)
    page.world.submit(5)
    page.settle(30)

    reasons = page.lines("stoker_pool_pending_gangs")
    assert {'{pool="cpu",reason="GangLargerThanPool"}': 1, '{pool="cpu",reason="NodesBooting"}': 1} == reasons
    assert {'{pool="cpu"}': 6} == page.lines("stoker_pool_pending_nodes")
    assert {'{pool="cpu"}': 30} == page.lines("stoker_pool_oldest_pending_gang_seconds")

    page.world.end("job2")
    page.settle(BOOT)
    assert {} == page.lines("stoker_pool_pending_gangs")
    assert {'{pool="cpu"}': 0} == page.lines("stoker_pool_pending_nodes")


def test_node_seconds_by_what_nodes_did_and_their_cost() -> None:
    """A job of 600 s: 60 s of boot, then 30 s idle and the last looks."""
    page = Page(cloud(idle=30, instanceTypes=PRICED[1:]))
    job = page.world.submit(1)
    page.settle(64)
    page.settle(600)
    page.world.end(job)
    page.settle(400)

    used = {
        state: page.value("stoker_pool_node_seconds_total", state=state) for state in ("Idle", "Running", "Preparing")
    }
    assert {"Idle": 36, "Running": 600, "Preparing": 60} == pytest.approx(used, abs=4)
    assert 0 == page.value("stoker_pool_node_seconds_total", state="Unusable")
    assert 700 / 1000 == pytest.approx(page.value("stoker_pool_cost_total"), abs=0.01)


def test_usage_counts_on_while_nothing_happens_to_the_pool() -> None:
    """A job may run for hours in which its pool is not planned."""
    page = Page(cloud(instanceTypes=PRICED[1:]))
    page.world.submit(1)
    page.settle(100)
    before = page.value("stoker_pool_node_seconds_total", state="Running")
    cost = page.value("stoker_pool_cost_total")
    page.world.pass_time(5000)

    assert before + 5000 == pytest.approx(page.value("stoker_pool_node_seconds_total", state="Running"))
    assert cost + 5.0 == pytest.approx(page.value("stoker_pool_cost_total"))


def test_nodes_that_are_of_no_use_are_counted_as_that() -> None:
    page = Page(cloud(least=1, idle=100_000))
    page.settle(100)
    page.world.silence(next(iter(page.world.nodes)))
    page.settle(50)

    assert 50 == pytest.approx(page.value("stoker_pool_node_seconds_total", state="Unusable"), abs=2)


def test_a_pool_without_a_price_tells_no_cost() -> None:
    page = Page(cloud(least=1))
    page.settle(10)

    assert {} == page.lines("stoker_pool_cost_total")


def test_how_much_of_todays_budget_is_used() -> None:
    page = Page(
        cloud(least=1, idle=100_000, instanceTypes=PRICED, budget={"nodeHoursPerDay": "2", "costPerDay": "7.2"})
    )
    page.settle(3600, every=30)

    assert 0.5 == pytest.approx(page.value("stoker_pool_budget_used_ratio", limit="nodeHoursPerDay"), abs=0.02)
    assert 0.25 == pytest.approx(page.value("stoker_pool_budget_used_ratio", limit="costPerDay"), abs=0.02)
    page.world.pass_time(MIDNIGHT - 3600)
    assert 0 == pytest.approx(page.value("stoker_pool_budget_used_ratio", limit="nodeHoursPerDay"), abs=0.02)


def test_boots_by_instance_type() -> None:
    page = Page(cloud(most=4, instanceTypes=PRICED))
    page.world.submit(2)
    page.settle(120)

    labels = {"instance_type": "spot", "pool": "cpu"}
    assert 2 == page.value("stoker_pool_node_boot_seconds_count", **labels)
    assert 2 * BOOT == page.value("stoker_pool_node_boot_seconds_sum", **labels)
    assert 2 == page.value("stoker_pool_node_boot_seconds_bucket", le="60.0", **labels)
    assert 0 == page.value("stoker_pool_node_boot_seconds_bucket", le="45.0", **labels)


def test_launches_that_fail_are_counted_once_each_and_every_class_is_there_from_the_start() -> None:
    page = Page(cloud(most=4, instanceTypes=PRICED))
    page.settle(1)
    zeros = page.lines("stoker_pool_launch_failures_total")
    assert (2 * 6, {0.0}) == (len(zeros), set(zeros.values()))

    page.world.faults["spot"] = "Quota"
    page.world.submit(1, kind="spot")
    page.settle(20)
    assert 1 == page.value("stoker_pool_launch_failures_total", instance_type="spot", tier="Spot", fault="Quota")

    page.settle(60)  # the next try is after 24 to 36 s
    series = {"instance_type": "spot", "fault": "Quota"}
    tries = len(page.world.launches)
    assert tries > 1
    assert tries == page.value("stoker_pool_launch_failures_total", **series)
    assert tries == sum(page.lines("stoker_pool_launch_failures_total").values())


def test_a_failure_that_is_seen_again_because_the_status_was_not_written_is_the_same_one() -> None:
    page = Page(cloud(instanceTypes=PRICED))
    page.world.faults["spot"] = "Auth"
    page.world.submit(1, kind="spot")
    while not page.world.failures:
        page.settle(1)
    view = page.world.view()
    assert view.launch_failures
    for _ in range(3):
        page.pools.planned(view, pools.plan(view, page.world.now), 0.004, page.world.now)

    assert 1 == page.value("stoker_pool_launch_failures_total", instance_type="spot", fault="Auth")


def test_a_pool_that_launches_nothing_has_no_launches_to_fail() -> None:
    page = Page(cloud())
    page.clusters = [build.cluster("static", provider="Static")]
    view = ClusterView(page.clusters[0], nodes={"a": build.node("a")}, holdings=(Holding("h", 1, ("a",)),))
    page.pools.planned(view, pools.plan(view, page.world.now), 0.004, page.world.now)
    page.world.now += 10

    assert {} == page.lines("stoker_pool_launch_failures_total")
    assert {} == page.lines("stoker_pool_machines")
    assert 10 == page.value("stoker_pool_node_seconds_total", pool="static", state="Running")


def test_what_planning_costs() -> None:
    page = Page(cloud())
    page.settle(5)

    assert 5 == page.value("stoker_pool_decision_seconds_count", pool="cpu")
    assert 0.02 == pytest.approx(page.value("stoker_pool_decision_seconds_sum", pool="cpu"))
    assert 5 == page.value("stoker_pool_decision_seconds_bucket", pool="cpu", le="0.005")


def test_a_pool_that_was_not_planned_yet_shows_its_status() -> None:
    page = Page(cloud())
    page.clusters = [build.cluster("new", status={"nodes": {"idle": 3}})]

    assert 3 == page.value("stoker_pool_nodes", pool="new", state="Idle")
    assert {} == page.lines("stoker_pool_node_seconds_total")
    assert {} == page.lines("stoker_pool_pending_nodes"), "nobody knows yet who waits"


def busy() -> Page:
    """A pool that has every series there is."""
    page = Page(cloud(most=4, instanceTypes=PRICED, budget={"costPerDay": "100"}))
    page.world.faults["solid"] = "Capacity"
    page.world.submit(1, kind="spot")
    page.settle(100)
    page.world.submit(1, kind="solid")
    page.settle(5)
    return page


def test_a_deleted_pool_takes_its_series_along() -> None:
    page = busy()
    other = msgspec.structs.replace(page.world.pool.metadata, name="other")
    page.clusters = [msgspec.structs.replace(page.world.pool, metadata=other)]

    assert 'pool="cpu"' not in page.text()
    assert 'pool="other"' in page.text()


def test_a_pool_of_the_same_name_begins_anew() -> None:
    page = busy()
    assert 1 <= page.value("stoker_pool_launch_failures_total", instance_type="solid", fault="Capacity")
    page.clusters = []
    page.text()
    page.clusters = None
    page.world = cloud(most=4, instanceTypes=PRICED)
    page.settle(1)

    assert 0 == page.value("stoker_pool_launch_failures_total", instance_type="solid", fault="Capacity")
    assert 1 == page.value("stoker_pool_decision_seconds_count", pool="cpu")


def test_a_replica_that_does_not_lead_tells_of_no_pool() -> None:
    """Two replicas that both told would make every sum twice what it is."""
    page = busy()
    page.clusters = []

    assert "pool=" not in page.text()


def test_every_series_names_its_pool_and_labels_are_bounded() -> None:
    allowed = {"pool", "state", "instance_type", "tier", "fault", "reason", "limit", "le"}
    seen = set()
    for family in text_string_to_metric_families(busy().text()):
        if not family.name.startswith("stoker_pool_"):
            continue
        assert family.samples, f"{family.name} is on no page: nothing above tests it"
        for sample in family.samples:
            seen |= sample.labels.keys()
            assert "pool" in sample.labels, sample
            assert math.isfinite(sample.value), sample
    assert allowed == seen


def test_machines_that_end_are_shown_until_they_have_gone() -> None:
    page = Page(cloud(least=1, idle=0))
    page.settle(BOOT + 5)
    spec = msgspec.structs.replace(page.world.pool.spec, min_instances=0)
    page.world.pool = msgspec.structs.replace(page.world.pool, spec=spec)
    page.settle(15)
    assert 1 == page.value("stoker_pool_machines", state="Terminating")

    page.settle(ENDING + 5)
    assert {} == page.lines("stoker_pool_machines")
