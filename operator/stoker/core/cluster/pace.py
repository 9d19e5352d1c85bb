"""How fast a pool shrinks: not soon after it has grown, and only so many nodes at a time."""

from stoker.core import times
from stoker.core.cluster.pool import Pool
from stoker.core.cluster.view import ClusterView


def not_before(view: ClusterView, pool: Pool) -> float | None:
    """Until when no node goes, because one was added lately (seconds since the epoch); None: for no such reason."""
    paced = view.cluster.spec.scale_down
    if paced is None or not paced.delay_after_add_seconds or view.cluster.metadata.deletion_timestamp is not None:
        return None
    created = (times.seconds(one.node.metadata.creation_timestamp) for one in pool.nodes.values())
    added = [moment for moment in created if moment is not None]
    added += [machine.launched_at for machine in (view.machines.machines if view.machines is not None else ())]
    return max(added) + paced.delay_after_add_seconds if added else None


def most_at_a_time(view: ClusterView) -> int | None:
    """How many nodes may leave at a time; None: any number."""
    paced = view.cluster.spec.scale_down
    return paced.max_parallel if paced is not None else None


def may_go(view: ClusterView, pool: Pool, going: list[str], now: float) -> list[str]:
    """Those of the nodes that are to go that may go now, by name: whoever is on the way out already comes first."""
    until = not_before(view, pool)
    if until is not None and now < until:
        return []
    most = most_at_a_time(view)
    if most is None:
        return going
    left = sum(1 for node in pool.nodes.values() if node.counted_out)
    begun = sorted(going, key=lambda name: pool.nodes[name].leaving_since is None)
    return begun[: max(0, most - left)]
