"""What a pool's nodes have used: node-hours in all, of them idle, with a job and booting, their cost; today's share of it
for budgets, and for quotas what each namespace's jobs cost this month.

Times are seconds; moments are seconds since the epoch; days and months are those of UTC.
"""

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import replace
from decimal import Decimal, InvalidOperation

from stoker.api.computecluster import ComputeCluster, NamespaceCost, Usage
from stoker.core import times
from stoker.core.cluster.pool import Pool
from stoker.core.cluster.view import ClusterView, Meter, Rates, Wait

DAY, HOUR = 86400.0, 3600.0
#: While nothing else is written, what was used is shown anew after so long, in seconds.
SHOWN_EVERY = 300.0
#: Namespaces of which a status shows what they cost.
_MOST_NAMESPACES = 500
#: The reason of whoever waits for the next day.
REACHED = "BudgetReached"


def metered(view: ClusterView, pool: Pool, now: float) -> Meter:
    """The meter with what was used since it was last read, at the rates of then. After a restart these are not known: the
    nodes that are there now were there, for nobody else brings or removes them."""
    return read_on(view.meter or _read(view.cluster, rates_of(view, pool, {}), now), now)


def read_on(known: Meter, now: float) -> Meter:
    """A meter as it stands now, if its pool has used the same since it was last read."""
    passed = max(0.0, now - known.at)
    rates = known.rates
    today = passed
    if int(now // DAY) != int(known.at // DAY):
        known, today = replace(known, today_nodes=0.0, today_cost=0.0), now % DAY
    month_costs, of_month = known.month_costs, passed
    if (began := times.month(now)[0]) > known.at:
        month_costs, of_month = {}, now - began
    if rates.prices and of_month:
        earned = {name: price / HOUR * of_month for name, price in rates.prices.items()}
        month_costs = {**month_costs, **{name: month_costs.get(name, 0.0) + cost for name, cost in earned.items()}}
    return Meter(
        at=max(now, known.at), rates=rates,
        nodes=known.nodes + rates.nodes * passed,
        idle=known.idle + rates.idle * passed,
        busy=known.busy + rates.busy * passed,
        booting=known.booting + rates.booting * passed,
        cost=known.cost + rates.price / HOUR * passed,
        today_nodes=known.today_nodes + rates.nodes * today,
        today_cost=known.today_cost + rates.price / HOUR * today,
        month_costs=month_costs,
    )  # fmt: skip


def rates_of(view: ClusterView, pool: Pool, assigned: Mapping[tuple[str, int], tuple[str, ...]]) -> Rates:
    """What the pool uses from now on. assigned: nodes that this pass gives away, by job uid and attempt."""
    spec = view.cluster.spec
    prices = prices_of(view.cluster)
    by_namespace = dict(_prices_of_jobs(view, pool, assigned))
    if not spec.provider.owns_nodes:
        # It owns no node: what its jobs take is all that can be told.
        taken = sum(max(one.count, len(one.nodes)) for one in view.holdings if one.bound)
        price = taken * prices.get(spec.instance_types[0].name, 0.0)
        return Rates(taken, busy=taken, price=price, prices=by_namespace)
    given = frozenset(name for nodes in assigned.values() for name in nodes)
    alive = [node for node in pool.nodes.values() if not node.counted_out]
    price = sum(prices.get(node.kind, 0.0) for node in alive)
    price += sum(prices.get(name, 0.0) * count for name, count in pool.coming.items())
    return Rates(
        nodes=len(alive) + pool.unseen,
        idle=sum(1 for node in alive if node.state == "Idle" and node.name not in given),
        busy=sum(1 for node in alive if node.state == "Running" or node.name in given),
        booting=pool.booting,
        price=price,
        prices=by_namespace,
    )


def prices_of(cluster: ComputeCluster) -> Mapping[str, float]:
    """What one node costs an hour, by type."""
    return {kind.name: float(_decimal(kind.price_per_hour)) for kind in cluster.spec.instance_types}


def _prices_of_jobs(
    view: ClusterView, pool: Pool, assigned: Mapping[tuple[str, int], tuple[str, ...]]
) -> Iterator[tuple[str, float]]:
    """What the nodes of each namespace's jobs cost an hour, where they cost anything."""
    prices, first = prices_of(view.cluster), view.cluster.spec.instance_types[0].name
    demands = {(one.uid, one.attempt): one for one in view.demands}
    taken = [(one.namespace, one.nodes, one.count) for one in view.holdings if one.bound and not one.ending]
    taken += [(demands[key].namespace, nodes, demands[key].count) for key, nodes in assigned.items() if key in demands]
    found: dict[tuple[str, str], float] = {}
    # Jobs that share a node pay for it in equal parts.
    heads = Counter(name for _, nodes, _ in taken for name in nodes)
    for namespace, nodes, count in taken:
        for name in nodes:
            kind = pool.nodes[name].kind if name in pool.nodes else first
            found[namespace, kind] = found.get((namespace, kind), 0.0) + 1 / heads[name]
        # Where nodes have no names, or pods none yet.
        found[namespace, first] = found.get((namespace, first), 0.0) + max(0, count - len(nodes))
    sums: dict[str, float] = {}
    for (namespace, kind), part in found.items():
        sums[namespace] = sums.get(namespace, 0.0) + part * prices.get(kind, 0.0)
    return ((namespace, price) for namespace, price in sums.items() if price)


def of_month(cluster: ComputeCluster, meter: Meter | None, now: float) -> Mapping[str, float]:
    """What each namespace's jobs cost on a pool this month. meter: of its last pass; None: as its status keeps it."""
    return read_on(meter or _read(cluster, Rates(), now), now).month_costs


def amount(text: str | None) -> float | None:
    """An amount that a spec names; None where it names none."""
    return float(_decimal(text)) if text is not None else None


def of_budget(cluster: ComputeCluster, meter: Meter) -> dict[str, float]:
    """Which part of today's budget is used, 1 for all of it, by the field that limits it."""
    budget = cluster.spec.budget
    if budget is None:
        return {}
    limits = {
        "nodeHoursPerDay": (meter.today_nodes / HOUR, budget.node_hours_per_day),
        "costPerDay": (meter.today_cost, budget.cost_per_day),
    }
    most = {name: (used, float(_decimal(limit))) for name, (used, limit) in limits.items() if limit is not None}
    return {name: used / limit if limit > 0 else 1.0 for name, (used, limit) in most.items()}


def used_up(cluster: ComputeCluster, meter: Meter) -> tuple[str, str] | None:
    """Which limit of the day is reached: a reason and a message."""
    budget = cluster.spec.budget
    if budget is None:
        return None
    hours, limit = meter.today_nodes / HOUR, budget.node_hours_per_day
    if limit is not None and hours >= float(_decimal(limit)):
        return REACHED, f"the pool has used {hours:.2f} of {limit} node-hours of today (UTC)"
    limit = budget.cost_per_day
    if limit is not None and meter.today_cost >= float(_decimal(limit)):
        return REACHED, f"the pool has cost {meter.today_cost:.2f} of {limit} of today (UTC)"
    return None


def queues(cluster: ComputeCluster, meter: Meter) -> Wait | None:
    """Why no further job gets nodes today."""
    told = used_up(cluster, meter)
    if told is None or cluster.spec.budget is None or cluster.spec.budget.action != "Queue":
        return None
    return Wait(*told, f"raise spec.budget of ComputeCluster/{cluster.metadata.name}, or wait for midnight in UTC")


def reached_at(cluster: ComputeCluster, meter: Meter) -> float | None:
    """When to look again for the budget's sake: when it is used up at these rates, or when the next day begins."""
    budget = cluster.spec.budget
    if budget is None:
        return None
    midnight = (meter.at // DAY + 1) * DAY
    if used_up(cluster, meter) is not None:
        return midnight
    moments = [midnight]
    if budget.node_hours_per_day is not None and meter.rates.nodes:
        left = float(_decimal(budget.node_hours_per_day)) * HOUR - meter.today_nodes
        moments.append(meter.at + left / meter.rates.nodes)
    if budget.cost_per_day is not None and meter.rates.price:
        left = float(_decimal(budget.cost_per_day)) - meter.today_cost
        moments.append(meter.at + left / meter.rates.price * HOUR)
    return min(moments)


def shown(meter: Meter) -> Usage:
    return Usage(
        at=times.rfc3339(meter.at), node_hours=_hours(meter.nodes), idle_node_hours=_hours(meter.idle),
        busy_node_hours=_hours(meter.busy),
        boot_node_hours=_hours(meter.booting), cost=f"{meter.cost:.4f}", today_node_hours=_hours(meter.today_nodes),
        today_cost=f"{meter.today_cost:.4f}", month_costs=_shown_month(meter.month_costs),
    )  # fmt: skip


def _shown_month(costs: Mapping[str, float]) -> tuple[NamespaceCost, ...]:
    most = sorted(costs.items(), key=lambda one: (-one[1], one[0]))[:_MOST_NAMESPACES]
    return tuple(NamespaceCost(namespace=name, cost=f"{cost:.4f}") for name, cost in sorted(most))


def _read(cluster: ComputeCluster, rates: Rates, now: float) -> Meter:
    """What the status keeps."""
    kept = cluster.status.usage
    at = times.seconds(kept.at) if kept is not None else None
    if kept is None or at is None:
        return Meter(at=now)
    return Meter(
        at=min(at, now), nodes=float(_decimal(kept.node_hours)) * HOUR, idle=float(_decimal(kept.idle_node_hours)) * HOUR,
        busy=float(_decimal(kept.busy_node_hours)) * HOUR,
        booting=float(_decimal(kept.boot_node_hours)) * HOUR, cost=float(_decimal(kept.cost)), rates=rates,
        today_nodes=float(_decimal(kept.today_node_hours)) * HOUR, today_cost=float(_decimal(kept.today_cost)),
        month_costs={one.namespace: float(_decimal(one.cost)) for one in kept.month_costs},
    )  # fmt: skip


def _hours(seconds: float) -> str:
    return f"{seconds / HOUR:.4f}"


def _decimal(text: str | None) -> Decimal:
    try:
        found = Decimal(text or "0")
    except InvalidOperation:
        return Decimal(0)
    return found if found.is_finite() else Decimal(0)
