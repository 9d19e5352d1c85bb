"""The decision itself: who gets which nodes and how many there should be, on a pool that was seen.

`plan` makes it from what the API server says; `tools/replay.py` makes the same one in virtual time.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace

from stoker.api.computecluster import ComputeCluster
from stoker.core.cluster import ahead, assign, launch, learned, quota, resize, share, usage, warm
from stoker.core.cluster.pool import Pool
from stoker.core.cluster.view import ClusterView, Meter

#: A pass that asks for nodes looks again after so long, to see what was asked for; in seconds.
LOOK_AGAIN = 1.0
#: A pool where a gang waits for its namespace's quota looks again after so long, in seconds.
QUOTA_AGAIN = 5.0


@dataclass(frozen=True, slots=True)
class Decision:
    """idle_seconds: how long a node may be idle now. warm: nodes that are kept for jobs to come. unwanted: nodes on their
    way, by type, that are to be ended where the provider can. orders: on a pool of machines. The rest as in a
    ClusterPlan."""

    assigned: assign.Assigned
    sizing: resize.Resize
    idle_seconds: float
    freed_at: Mapping[str, float]
    kept_since: Mapping[assign.Key, float]
    rhythm: learned.Rhythm
    wake_at: float | None
    unwanted: Mapping[str, int]
    meter: Meter
    warm: frozenset[str] = frozenset()
    orders: launch.Orders | None = None


def decide(
    view: ClusterView, pool: Pool, kept: Mapping[assign.Key, tuple[str, ...]], now: float, *, ends_boots: bool
) -> Decision:
    """kept: assignments of earlier plans that still hold. ends_boots: whether the provider can end a boot that nobody waits
    for any more; only then it pays to bring nodes ahead of a burst."""
    view = launch.learn(view, now)
    meter = usage.metered(view, pool, now)
    shut = assign.closed(view) or usage.queues(view.cluster, meter)
    assigned = assign.assign(view, pool, kept, shut, now, meter.month_costs)
    kept_since = {key: view.kept_since.get(key, now) for key in assigned.first}
    spec = view.cluster.spec
    hold = spec.scale_up.partial_hold_seconds
    # Past that, nodes that wait in vain for the rest of a gang are idle like others; the gang keeps its place in the line.
    saved = [nodes for key, nodes in assigned.saved.items() if now < kept_since[key] + hold]
    given = frozenset(name for nodes in assigned.nodes.values() for name in nodes)
    needed = frozenset(node.name for node in pool.of("Running")).union(given, assigned.needed, *saved)
    learns = spec.idle_policy == "Learned"
    bursts = learns and ends_boots
    # How many nodes jobs with parts of them will need is not told by their number.
    packed = share.is_allowed(view.cluster)
    whole = [demand for demand in view.demands if not demand.requests] if packed else view.demands
    spare = 0 if shut is not None else warm.instances(spec.warm, now)
    if bursts and shut is None:
        spare = max(spare, ahead.nodes(whole, now))
    kept_warm, warmed = _warm(view, pool, assigned, needed, spare)
    needed |= kept_warm
    growth = [*assigned.growth, *warmed]
    rhythm = _rhythm(view, pool, assigned, now)
    idle = idle_seconds(view.cluster, rhythm)
    sized = _by_level(pool, rhythm, given) if learns else pool
    unwanted = _unwanted(view, pool, assigned, given, rhythm, now - idle, spare) if bursts else {}
    if view.machines is not None:
        orders = launch.order(view, sized, needed, growth, unwanted, idle, now)
        sizing = orders.sizing
    else:
        orders, sizing = None, resize.resize(view, sized, needed, growth, idle, now)
    releases = [kept_since[key] + hold for key in assigned.saved]
    grows = pool.replicas is not None and sizing.replicas > pool.replicas
    meter = replace(meter, rates=usage.rates_of(view, pool, assigned.nodes))
    wakes = [sizing.wake_at, *releases, warm.changes_at(spec.warm, now), usage.reached_at(view.cluster, meter)]
    wakes.append(now + LOOK_AGAIN if grows else None)
    wakes.append(ahead.changes_at(whole, now) if bursts else None)
    # A job of another pool ends without a word to this one.
    held_back = any(wait.reason == quota.REACHED for wait in assigned.waits.values())
    wakes.append(now + QUOTA_AGAIN if held_back else None)
    return Decision(
        assigned, sizing, idle,
        freed_at={
            node.name: node.free_since
            for node in pool.nodes.values()
            if node.free_since is not None and node.name not in given
        },
        kept_since=kept_since, rhythm=rhythm,
        wake_at=min((moment for moment in wakes if moment is not None and moment > now), default=None),
        unwanted=unwanted, meter=meter, warm=kept_warm, orders=orders,
    )  # fmt: skip


def _warm(
    view: ClusterView, pool: Pool, assigned: assign.Assigned, needed: frozenset[str], wanted: int
) -> tuple[frozenset[str], list[assign.Growth]]:
    """Idle nodes that are kept for jobs to come, the newest-freed, and how many are missing."""
    if not wanted:
        return frozenset(), []
    idle = [node for node in pool.of("Idle") if node.name not in needed and not node.counted_out]
    idle.sort(key=lambda node: (node.free_since or 0.0, node.name), reverse=True)
    room = view.cluster.spec.max_instances - (pool.replicas or 0) - sum(one.count for one in assigned.growth)
    missing = min(wanted - len(idle) - sum(assigned.unclaimed.values()), room) if pool.replicas is not None else 0
    stands = view.cluster.status.backoff
    kind = next(
        (one.name for one in view.cluster.spec.instance_types if not any(b.instance_type == one.name for b in stands)),
        None,
    )
    growth = [assign.Growth(("", 0), kind, 1)] * max(0, missing) if kind is not None else []
    return frozenset(node.name for node in idle[:wanted]), growth


def _unwanted(
    view: ClusterView, pool: Pool, assigned: assign.Assigned, given: frozenset[str], rhythm: learned.Rhythm, since: float,
    spare: int,
) -> Mapping[str, int]:  # fmt: skip
    """Nodes on their way, by type, that nobody waits for and that would be let go if they were there already: more than
    the levels that fell free after `since`, less what is idle, and than are to come for jobs to come."""
    spared = sum(count for at, count in rhythm.freed if at > since)
    idle = sum(1 for node in pool.of("Idle") if node.name not in given | assigned.needed)
    assert pool.replicas is not None or not assigned.unclaimed, "what is on its way was counted"
    above_least = (pool.replicas or 0) - view.cluster.spec.min_instances
    most = min(sum(assigned.unclaimed.values()) - spare - max(0, spared - idle), above_least)
    found: dict[str, int] = {}
    for name, count in assigned.unclaimed.items():
        if (part := min(count, most - sum(found.values()))) > 0:
            found[name] = part
    return found


def idle_seconds(cluster: ComputeCluster, rhythm: learned.Rhythm | None) -> float:
    """How long a node of the pool may be idle before it goes; not at all once the pool is being deleted."""
    if cluster.metadata.deletion_timestamp is not None:
        return 0.0
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
    coming = pool.booting
    busy = min(assigned.wanted, view.cluster.spec.max_instances)
    before = view.rhythm or remembered(view.cluster)
    return learned.booted(learned.demanded(before, busy, now), coming, now)
