"""What a pool's nodes have used: node-hours in all, of them idle, with a job and booting, their cost, and today's share for budgets.

Times are seconds; moments are seconds since the epoch; a day is one of UTC.
"""

from dataclasses import replace
from decimal import Decimal, InvalidOperation

from stoker.api.computecluster import ComputeCluster, Usage
from stoker.core import times
from stoker.core.cluster.pool import Pool
from stoker.core.cluster.view import ClusterView, Meter, Rates, Wait

DAY, HOUR = 86400.0, 3600.0
#: While nothing else is written, what was used is shown anew after so long, in seconds.
SHOWN_EVERY = 300.0


def metered(view: ClusterView, pool: Pool, now: float) -> Meter:
    """The meter with what was used since it was last read, at the rates of then. After a restart these are not known: the
    nodes that are there now were there, for nobody else brings or removes them."""
    return read_on(view.meter or _read(view.cluster, rates_of(view, pool, frozenset()), now), now)


def read_on(known: Meter, now: float) -> Meter:
    """A meter as it stands now, if its pool has used the same since it was last read."""
    passed = max(0.0, now - known.at)
    rates = known.rates
    today = passed
    if int(now // DAY) != int(known.at // DAY):
        known, today = replace(known, today_nodes=0.0, today_cost=0.0), now % DAY
    return Meter(
        at=max(now, known.at), rates=rates,
        nodes=known.nodes + rates.nodes * passed,
        idle=known.idle + rates.idle * passed,
        busy=known.busy + rates.busy * passed,
        booting=known.booting + rates.booting * passed,
        cost=known.cost + rates.price / HOUR * passed,
        today_nodes=known.today_nodes + rates.nodes * today,
        today_cost=known.today_cost + rates.price / HOUR * today,
    )  # fmt: skip


def rates_of(view: ClusterView, pool: Pool, given: frozenset[str]) -> Rates:
    """What the pool uses from now on. given: idle nodes that this pass gives away."""
    spec = view.cluster.spec
    prices = {kind.name: float(_decimal(kind.price_per_hour)) for kind in spec.instance_types}
    if not spec.provider.owns_nodes:
        # It owns no node: what its jobs take is all that can be told.
        taken = sum(max(one.count, len(one.nodes)) for one in view.holdings if one.bound)
        return Rates(taken, busy=taken, price=taken * prices.get(spec.instance_types[0].name, 0.0))
    alive = [node for node in pool.nodes.values() if not node.counted_out]
    price = sum(prices.get(node.kind, 0.0) for node in alive)
    price += sum(prices.get(name, 0.0) * count for name, count in pool.coming.items())
    return Rates(
        nodes=len(alive) + pool.unseen,
        idle=sum(1 for node in alive if node.state == "Idle" and node.name not in given),
        busy=sum(1 for node in alive if node.state == "Running" or node.name in given),
        booting=pool.unseen + sum(1 for node in alive if node.state == "Preparing"),
        price=price,
    )


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
        return "BudgetReached", f"the pool has used {hours:.2f} of {limit} node-hours of today (UTC)"
    limit = budget.cost_per_day
    if limit is not None and meter.today_cost >= float(_decimal(limit)):
        return "BudgetReached", f"the pool has cost {meter.today_cost:.2f} of {limit} of today (UTC)"
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
        today_cost=f"{meter.today_cost:.4f}",
    )  # fmt: skip


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
    )  # fmt: skip


def _hours(seconds: float) -> str:
    return f"{seconds / HOUR:.4f}"


def _decimal(text: str | None) -> Decimal:
    try:
        found = Decimal(text or "0")
    except InvalidOperation:
        return Decimal(0)
    return found if found.is_finite() else Decimal(0)
