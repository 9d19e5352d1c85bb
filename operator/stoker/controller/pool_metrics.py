"""What the operator tells Prometheus of each pool of nodes.

Only the replica that leads plans pools, so only it tells of them: every figure is there once. What a deleted pool had goes
with it. Seconds; moments are seconds since the epoch.
"""

import time
from collections import Counter as Count
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import get_args

from prometheus_client import Histogram
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from stoker.api.computecluster import ComputeCluster, NodeCounts
from stoker.core.cluster import boots, usage
from stoker.core.cluster.machines import LaunchFault, MachinesView
from stoker.core.cluster.pool import State
from stoker.core.cluster.view import ClusterPlan, ClusterView, Demand, Meter

_DECISION = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5)
_BOOT = (5, 10, 20, 30, 45, 60, 90, 120, 180, 240, 300, 420, 600, 900, 1800, 3600)
#: Pool, instance type, tier, fault.
Refusal = tuple[str, str, str, LaunchFault]


@dataclass(slots=True)
class _Pool:
    """What the last pass over a pool left. failures: those that are counted already, by token and moment."""

    meter: Meter | None = None
    machines: MachinesView | None = None
    waits: tuple[tuple[str, Demand], ...] = ()
    seen: boots.Seen | None = None
    failures: frozenset[tuple[str, float]] = frozenset()


class _Families:
    """The families of one scrape, empty at first."""

    def __init__(self) -> None:
        of, gauge, counter = ("pool",), GaugeMetricFamily, CounterMetricFamily
        self.ready = gauge(
            "stoker_pool_ready", "1 while the pool can do its work, else 0: condition Ready of its status.", labels=of
        )
        self.nodes = gauge("stoker_pool_nodes", "Nodes by state; Preparing: ordered or booting.", labels=(*of, "state"))
        self.target = gauge("stoker_pool_target_nodes", "Nodes wanted.", labels=of)
        self.most = gauge("stoker_pool_max_nodes", "Nodes that the pool may have: spec.maxInstances.", labels=of)
        self.machines = gauge(
            "stoker_pool_machines",
            "Machines that the provider lists, by its own state; only where it launches single ones.",
            labels=(*of, "state", "instance_type", "tier"),
        )
        self.gangs = gauge(
            "stoker_pool_pending_gangs",
            "Jobs that wait for their nodes here, by the reason that `stoker why` tells.",
            labels=(*of, "reason"),
        )
        self.wanted = gauge("stoker_pool_pending_nodes", "Nodes that these jobs wait for.", labels=of)
        self.oldest = gauge(
            "stoker_pool_oldest_pending_gang_seconds",
            "Age of the oldest of these jobs since it was made; 0 without any.",
            labels=of,
        )
        self.seconds = counter(
            "stoker_pool_node_seconds",
            "Node-seconds used, by what the nodes did: Idle; Running, with a job; Preparing, ordered or booting; Unusable, "
            "none of these.",
            labels=(*of, "state"),
        )
        self.cost = counter(
            "stoker_pool_cost",
            "Price of the pool's nodes in the currency of pricePerHour; only where a type has a price.",
            labels=of,
        )
        self.budget = gauge(
            "stoker_pool_budget_used_ratio",
            "Part of today's budget (UTC) that is used, 1 for all of it; only where spec.budget sets that limit.",
            labels=(*of, "limit"),
        )
        self.refused = counter(
            "stoker_pool_launch_failures",
            "Launches that the provider refused or did not do in full, by the class of its answer.",
            labels=(*of, "instance_type", "tier", "fault"),
        )

    def __iter__(self) -> Iterator[Metric]:
        return iter(vars(self).values())


class PoolMetrics(Collector):
    """Every metric of pools. Told of each pass; `read` says where the pools are and whether this replica leads."""

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        self._clock = clock
        self._pools: dict[str, _Pool] = {}
        self._refused: Count[Refusal] = Count()
        self._clusters: Callable[[], Iterable[ComputeCluster]] = tuple
        boot = (
            "stoker_pool_node_boot_seconds",
            "From the order of a node until it could take a job for the first time.",
            ("pool", "instance_type"),
        )
        decision = ("stoker_pool_decision_seconds", "Processor time of one plan of the pool.", ("pool",))
        self._boot = Histogram(*boot, buckets=_BOOT, registry=None)
        self._decision = Histogram(*decision, buckets=_DECISION, registry=None)
        self._histograms = [HistogramMetricFamily(*one[:2], labels=one[2]) for one in (boot, decision)]

    def read(self, clusters: Callable[[], Iterable[ComputeCluster]]) -> None:
        """clusters: asked at each scrape; none on a replica that does not lead."""
        self._clusters = clusters

    def planned(self, view: ClusterView, plan: ClusterPlan, spent: float, now: float) -> None:
        """A pass over a pool. spent: processor time of its plan."""
        name = view.cluster.metadata.name
        pool = self._pools.setdefault(name, _Pool())
        self._decision.labels(name).observe(spent)
        pool.seen, came = boots.came(pool.seen, view, plan, now)
        for boot in came:
            self._boot.labels(name, boot.instance_type).observe(boot.seconds)
        pool.meter, pool.machines = plan.meter, view.machines
        demands = {(one.uid, one.attempt): one for one in view.demands}
        pool.waits = tuple((wait.reason, demands[key]) for key, wait in plan.waits.items() if key in demands)
        self._count_failures(pool, view)

    def _count_failures(self, pool: _Pool, view: ClusterView) -> None:
        """A failure is in the view at every pass until what came of it stands in the status."""
        orders = {intent.token: intent for intent in view.cluster.status.intents}
        for failure in view.launch_failures:
            order = orders.get(failure.token)
            if order is not None and (failure.token, failure.at) not in pool.failures:
                name = view.cluster.metadata.name
                self._refused[name, order.instance_type, order.tier, failure.fault] += 1
        pool.failures = frozenset((failure.token, failure.at) for failure in view.launch_failures)

    def _forget_all_but(self, names: Iterable[str]) -> None:
        for name in self._pools.keys() - set(names):
            del self._pools[name]
            self._boot.remove_by_labels({"pool": name})
            self._decision.remove_by_labels({"pool": name})
            self._refused = Count({key: count for key, count in self._refused.items() if key[0] != name})

    # -- What Prometheus asks for.

    def describe(self) -> Iterator[Metric]:
        yield from _Families()
        yield from self._histograms

    def collect(self) -> Iterator[Metric]:
        now, families = self._clock(), _Families()
        clusters = sorted(self._clusters(), key=lambda one: one.metadata.name)
        self._forget_all_but(one.metadata.name for one in clusters)
        for cluster in clusters:
            _shown(families, cluster)
            if (pool := self._pools.get(cluster.metadata.name)) is not None:
                _used(families, cluster, pool, now)
                self._refusals(families, cluster, pool)
        yield from families
        yield from self._boot.collect()
        yield from self._decision.collect()

    def _refusals(self, families: _Families, cluster: ComputeCluster, pool: _Pool) -> None:
        """Zeros too: Prometheus sees no increase in a series that begins with a one."""
        name = cluster.metadata.name
        counts: dict[Refusal, int] = {}
        if pool.machines is not None:
            kinds = [(kind.name, kind.tier) for kind in cluster.spec.instance_types]
            counts = {(name, *kind, fault): 0 for kind in kinds for fault in get_args(LaunchFault)}
        counts |= {key: count for key, count in self._refused.items() if key[0] == name}
        for key, count in counts.items():
            families.refused.add_metric(key, count)


def _shown(families: _Families, cluster: ComputeCluster) -> None:
    """What the pool's status shows."""
    name, status = cluster.metadata.name, cluster.status
    ready = any(one.type == "Ready" and one.status == "True" for one in status.conditions)
    families.ready.add_metric((name,), ready)
    for state in get_args(State):
        families.nodes.add_metric((name, state), _count(status.nodes, state))
    families.target.add_metric((name,), status.target_nodes)
    families.most.add_metric((name,), cluster.spec.max_instances)


def _count(counts: NodeCounts, state: str) -> int:
    found: int = getattr(counts, state.lower())
    return found


def _used(families: _Families, cluster: ComputeCluster, pool: _Pool, now: float) -> None:
    """What the last pass left, read on until now."""
    name = cluster.metadata.name
    for reason, count in sorted(Count(reason for reason, _ in pool.waits).items()):
        families.gangs.add_metric((name, reason), count)
    families.wanted.add_metric((name,), sum(demand.count for _, demand in pool.waits))
    oldest = min((demand.since for _, demand in pool.waits), default=now)
    families.oldest.add_metric((name,), max(0.0, now - oldest))
    if pool.machines is not None:
        machines = Count((one.state, one.instance_type, one.tier) for one in pool.machines.machines)
        for key, count in sorted(machines.items()):
            families.machines.add_metric((name, *key), count)
    if pool.meter is None:
        return
    meter = usage.read_on(pool.meter, now)
    other = max(0.0, meter.nodes - meter.idle - meter.busy - meter.booting)
    states = {"Idle": meter.idle, "Running": meter.busy, "Preparing": meter.booting, "Unusable": other}
    for state, seconds in states.items():
        families.seconds.add_metric((name, state), seconds)
    if any(kind.price_per_hour for kind in cluster.spec.instance_types):
        families.cost.add_metric((name,), meter.cost)
    for limit, ratio in usage.of_budget(cluster, meter).items():
        families.budget.add_metric((name, limit), ratio)
