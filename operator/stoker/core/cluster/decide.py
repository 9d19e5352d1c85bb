"""The decision itself: who gets which nodes and how many there should be, on a pool that was seen.

`plan` makes it from what the API server says; `tools/replay.py` makes the same one in virtual time.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace

from stoker.api.computecluster import ComputeCluster
from stoker.core.cluster import assign, launch, learned, resize
from stoker.core.cluster.pool import Pool
from stoker.core.cluster.view import ClusterView

#: A pass that asks for nodes looks again after so long, to see what was asked for; in seconds.
LOOK_AGAIN = 1.0


@dataclass(frozen=True, slots=True)
class Decision:
    """idle_seconds: how long a node may be idle now. orders: on a pool of machines. The rest as in a ClusterPlan."""

    assigned: assign.Assigned
    sizing: resize.Resize
    idle_seconds: float
    freed_at: Mapping[str, float]
    kept_since: Mapping[assign.Key, float]
    rhythm: learned.Rhythm
    wake_at: float | None
    orders: launch.Orders | None = None


def decide(view: ClusterView, pool: Pool, kept: Mapping[assign.Key, tuple[str, ...]], now: float) -> Decision:
    """kept: assignments of earlier plans that still hold."""
    view = launch.learn(view, now)
    assigned = assign.assign(view, pool, kept, now)
    kept_since = {key: view.kept_since.get(key, now) for key in assigned.first}
    hold = view.cluster.spec.scale_up.partial_hold_seconds
    # Past that, nodes that wait in vain for the rest of a gang are idle like others; the gang keeps its place in the line.
    saved = [nodes for key, nodes in assigned.saved.items() if now < kept_since[key] + hold]
    given = frozenset(name for nodes in assigned.nodes.values() for name in nodes)
    needed = frozenset(node.name for node in pool.of("Running")).union(given, assigned.needed, *saved)
    rhythm = _rhythm(view, pool, assigned, now)
    idle = idle_seconds(view.cluster, rhythm)
    learns = view.cluster.spec.idle_policy == "Learned"
    sized = _by_level(pool, rhythm, given) if learns else pool
    if view.machines is not None:
        unwanted = _unwanted(view, pool, assigned, given, rhythm, now - idle) if learns else {}
        orders = launch.order(view, sized, needed, assigned.growth, unwanted, idle, now)
        sizing = orders.sizing
    else:
        orders, sizing = None, resize.resize(view, sized, needed, assigned.growth, idle, now)
    releases = [kept_since[key] + hold for key in assigned.saved]
    grows = pool.replicas is not None and sizing.replicas > pool.replicas
    wakes = [sizing.wake_at, *releases, now + LOOK_AGAIN if grows else None]
    return Decision(
        assigned, sizing, idle,
        freed_at={
            node.name: node.free_since
            for node in pool.nodes.values()
            if node.free_since is not None and node.name not in given
        },
        kept_since=kept_since, rhythm=rhythm,
        wake_at=min((moment for moment in wakes if moment is not None and moment > now), default=None),
        orders=orders,
    )  # fmt: skip


def _unwanted(
    view: ClusterView,
    pool: Pool,
    assigned: assign.Assigned,
    given: frozenset[str],
    rhythm: learned.Rhythm,
    since: float,
) -> Mapping[str, int]:
    """Nodes on their way, by type, that nobody waits for and that would be let go if they were there already: more than
    the levels that fell free after `since`, less what is idle."""
    spared = sum(count for at, count in rhythm.freed if at > since)
    idle = sum(1 for node in pool.of("Idle") if node.name not in given | assigned.needed)
    assert pool.replicas is not None or not assigned.unclaimed, "what is on its way was counted"
    above_least = (pool.replicas or 0) - view.cluster.spec.min_instances
    most = min(sum(assigned.unclaimed.values()) - max(0, spared - idle), above_least)
    found: dict[str, int] = {}
    for name, count in assigned.unclaimed.items():
        if (part := min(count, most - sum(found.values()))) > 0:
            found[name] = part
    return found


def idle_seconds(cluster: ComputeCluster, rhythm: learned.Rhythm | None) -> float:
    """How long a node of the pool may be idle before it goes."""
    return learned.idle_seconds(cluster.spec, rhythm or remembered(cluster), resize.LAST_LOOK_AFTER)


def remembered(cluster: ComputeCluster) -> learned.Rhythm:
    """What the status keeps of the pool's rhythm."""
    kept = cluster.status.learned
    return learned.read(kept.memory) if kept is not None else learned.Rhythm()


def _by_level(pool: Pool, rhythm: learned.Rhythm, given: frozenset[str]) -> Pool:
    """The pool with each idle node idle since its level fell free."""
    free = [
        (node.free_since, node) for node in pool.of("Idle") if node.free_since is not None and node.name not in given
    ]
    free.sort(key=lambda one: one[0], reverse=True)
    since = learned.idle_since(rhythm, [at for at, _ in free])
    moved = {node.name: replace(node, free_since=at) for (_, node), at in zip(free, since, strict=True)}
    return replace(pool, nodes={**pool.nodes, **moved})


def _rhythm(view: ClusterView, pool: Pool, assigned: assign.Assigned, now: float) -> learned.Rhythm:
    coming = pool.unseen + len(pool.of("Preparing"))
    busy = min(assigned.wanted, view.cluster.spec.max_instances)
    before = view.rhythm or remembered(view.cluster)
    return learned.booted(learned.demanded(before, busy, now), coming, now)
