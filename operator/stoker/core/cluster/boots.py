"""How long nodes took from being asked for until they could take a job.

Seconds; moments are seconds since the epoch.
"""

from dataclasses import dataclass

from stoker.core.cluster.pool import machines_by_node
from stoker.core.cluster.view import ClusterPlan, ClusterView


@dataclass(frozen=True, slots=True)
class Seen:
    """The nodes of a pool that are there and could take a job at some look. since: the first look."""

    since: float
    ready: frozenset[str]


@dataclass(frozen=True, slots=True)
class Boot:
    """One node's way from its order to its first use."""

    instance_type: str
    seconds: float


def came(seen: Seen | None, view: ClusterView, plan: ClusterPlan, now: float) -> tuple[Seen, tuple[Boot, ...]]:
    """Nodes that can take a job for the first time. seen: what the last look left; None: there was none.

    A machine's time counts from its launch. A pool that only has a number tells nobody which node came for which order:
    there the oldest order is taken for the first node. Nodes that were there at the first look, or ordered before it
    without a launch on record, are not counted: nobody knows since when.
    """
    if seen is None:
        return Seen(now, frozenset(plan.ready)), ()
    new = [(name, kind) for name, kind in plan.ready.items() if name not in seen.ready]
    machines = machines_by_node(view) if new else {}
    orders = view.rhythm.asked if view.rhythm is not None else ()
    asked = iter([at for at, count in orders for _ in range(count)])
    boots = []
    for name, kind in new:
        if (machine := machines.get(name)) is not None:
            boots.append(Boot(kind, max(0.0, now - machine.launched_at)))
        elif view.machines is None and (at := next(asked, None)) is not None and at > seen.since:
            boots.append(Boot(kind, max(0.0, now - at)))
    return Seen(seen.since, (seen.ready | plan.ready.keys()) & view.nodes.keys()), tuple(boots)
