"""How many nodes a scalable pool should have, and which ones go: never one with a job or anyone else's pod.

A node goes in three looks: tainted, so that nothing new lands on it; looked at again, with its pods listed anew, at
least 5 s later; then marked as the one to go while the replicas are lowered.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from stoker.core.cluster import backoff, pace
from stoker.core.cluster.assign import Growth
from stoker.core.cluster.pool import Pool, PoolNode, fell_silent
from stoker.core.cluster.view import ClusterView
from stoker.core.plan import Action, KeepNode, MarkForDeletion, ScaleTo, TaintLeaving

#: Between a node's taint and the last look at its pods, in seconds; one more, for the taint's time is cut to the second.
LAST_LOOK_AFTER = 5.0 + 1.0


#: When more nodes than this, and than this part of them, fell silent, none is removed: then it is not the nodes.
SILENT_COUNT, SILENT_PART = 3, 0.45


@dataclass(frozen=True, slots=True)
class Resize:
    """What to do with the pool's size. replicas: what it will be. wake_at: when the next node may be due. halted: why
    nothing is removed: a reason and a message."""

    actions: tuple[Action, ...] = ()
    replicas: int = 0
    wake_at: float | None = None
    halted: tuple[str, str] | None = None


def resize(
    view: ClusterView, pool: Pool, needed: frozenset[str], growth: Sequence[Growth], idle_seconds: float, now: float
) -> Resize:
    """One decision: grow for the gangs that wait, or let go what has been idle for long enough.

    needed: nodes that a gang has or is promised. growth: nodes to be added for gangs. idle_seconds: how long is enough.
    """
    if pool.replicas is None:
        return Resize(replicas=len(pool.nodes))
    free = free_nodes(view, pool, needed)
    # While its machines are replaced, the object lets go of old ones first, whichever we mean.
    rollout = view.scale is not None and view.scale.rollout
    halted = too_many_silent(pool)
    going = [] if rollout or halted else pace.may_go(view, pool, going_nodes(view, pool, free, idle_seconds, now), now)
    wake_at = wake_of(view, pool, free, idle_seconds, now)
    keeping = tuple(
        KeepNode(view.cluster.metadata.name, node.name)
        for node in pool.nodes.values()
        if node.leaving_since is not None and not node.counted_out and node.name not in going
    )
    wanted = _grown(view, pool, growth, now)
    if wanted > pool.replicas:
        scale = ScaleTo(view.cluster.metadata.name, pool.replicas, wanted)
        return Resize((*keeping, scale), wanted, wake_at, halted)
    leaving, lowered = _leave(view, pool, [pool.nodes[name] for name in going], now)
    return Resize((*keeping, *leaving), lowered, wake_at, halted)


def too_many_silent(pool: Pool) -> tuple[str, str] | None:
    """Why nothing is removed now: so much trouble at once is not the nodes'."""
    owned = [node for node in pool.nodes.values() if not node.counted_out]
    silent = sum(1 for node in owned if fell_silent(node))
    if silent <= max(SILENT_COUNT, SILENT_PART * len(owned)):
        return None
    return "TooManyUnready", f"{silent} of {len(owned)} nodes fell silent at once; none is removed until fewer are"


def _grown(view: ClusterView, pool: Pool, growth: Sequence[Growth], now: float) -> int:
    """The replicas that gangs and minInstances ask for, within maxInstances; never lower than now."""
    assert pool.replicas is not None, "asked only of a pool whose replicas are known"
    spec = view.cluster.spec
    paced_growth = sum(one.count for one in paced(view, pool, growth, now))
    wanted = min(pool.replicas + paced_growth, spec.max_instances)
    # A node that was counted out is told by its mark being above the replicas. Growing past a mark while that node
    # still stands would make it look as if it were yet to be counted out.
    marks = [node.marked for node in pool.nodes.values() if node.counted_out and node.marked is not None]
    return max(pool.replicas, min([wanted, *(mark - 1 for mark in marks)]))


def least_of(view: ClusterView) -> int:
    """The nodes that the pool keeps without a job; none any more once it is being deleted."""
    return view.cluster.spec.min_instances if view.cluster.metadata.deletion_timestamp is None else 0


def paced(view: ClusterView, pool: Pool, growth: Sequence[Growth], now: float) -> list[Growth]:
    """What may be asked for now of what gangs and minInstances miss: as much as may boot at a time."""
    spec = view.cluster.spec
    assert pool.replicas is not None, "asked only of a pool whose size is known"
    missing = least_of(view) - pool.replicas - sum(one.count for one in growth)
    stands = view.cluster.status.backoff
    kind = next((one.name for one in spec.instance_types if not backoff.standing(stands, one, now)), None)
    # One by one: what nobody waits for may come in parts.
    least = [Growth(("", 0), kind, 1)] * max(0, missing) if kind else []
    most = spec.scale_up.max_parallel
    if most is None:
        return [*growth, *least]
    booting = pool.unseen + len(pool.of("Preparing"))
    found = []
    for one in (*growth, *least):
        # A gang's nodes come together or not at all; more than may boot at a time, once nothing else boots.
        if booting + one.count <= most or not booting:
            found.append(one)
            booting += one.count
    return found


def going_nodes(view: ClusterView, pool: Pool, free: list[PoolNode], idle_seconds: float, now: float) -> list[str]:
    """Those of the free nodes that may go now, by name: unusable ones and those taken back first, then the longest idle."""
    counted = [node for node in pool.nodes.values() if not node.counted_out]
    surplus = len(counted) + pool.unseen - view.cluster.spec.max_instances
    spare = sum(1 for node in counted if node.state in ("Idle", "Running")) - least_of(view)
    going: list[str] = []
    for node in sorted(free, key=_leaving_order):
        expired = node.state == "Preempted"
        expired = expired or (node.free_since is not None and now >= node.free_since + idle_seconds)
        if not expired and len(going) >= surplus:
            continue
        if node.state == "Idle":
            if spare <= 0:
                continue
            spare -= 1
        going.append(node.name)
    return going


def _leave(view: ClusterView, pool: Pool, going: list[PoolNode], now: float) -> tuple[tuple[Action, ...], int]:
    """The next look for each node that goes, and the replicas after it."""
    assert pool.replicas is not None, "asked only of a pool whose replicas are known"
    cluster, replicas = view.cluster.metadata.name, pool.replicas
    first = [TaintLeaving(cluster, node.name, int(now)) for node in going if node.leaving_since is None]
    last = [n for n in going if n.leaving_since is not None and now >= n.leaving_since + LAST_LOOK_AFTER]
    if not last:
        return tuple(first), replicas
    marks = [MarkForDeletion(cluster, node.name, replicas) for node in last if node.marked != replicas]
    lowered = max(0, replicas - len(last))
    return (*first, *marks, ScaleTo(cluster, replicas, lowered)), lowered


def free_nodes(view: ClusterView, pool: Pool, needed: frozenset[str]) -> list[PoolNode]:
    """Nodes that nobody has, is promised, or has pods on.

    One that is taken back counts to the replicas: were it not let go, another would come in its place for nobody. Where
    the provider knows single machines it does not count, and goes by itself unless it was not the provider who takes it.
    """
    held = {name for holding in view.holdings for name in holding.nodes}
    machines = view.machines.machines if view.machines is not None else ()
    staying = {one.id for one in machines if one.state == "Running"}
    taken_back = [
        node
        for node in pool.of("Preempted")
        if node.name not in held and (view.machines is None or node.machine in staying)
    ]
    return [
        node
        for node in (*pool.of("Idle", "Unusable"), *taken_back)
        if node.name not in needed and node.name not in view.occupied and not node.counted_out
    ]


def _leaving_order(node: PoolNode) -> tuple[bool, float, str]:
    return node.state not in ("Unusable", "Preempted"), node.free_since or 0.0, node.name


def wake_of(view: ClusterView, pool: Pool, free: list[PoolNode], idle_seconds: float, now: float) -> float | None:
    """When the next node is due for its next look."""
    if free and (until := pace.not_before(view, pool)) is not None and until > now:
        return until
    moments = [node.free_since + idle_seconds for node in free if node.free_since is not None]
    moments += [n.leaving_since + LAST_LOOK_AFTER for n in pool.nodes.values() if n.leaving_since is not None]
    return min((moment for moment in moments if moment > now), default=None)
