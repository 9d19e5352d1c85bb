"""What a pool has left while gangs are served one after the other, and which kinds of node a gang may have."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from stoker.api.computecluster import Backoff, ComputeCluster, InstanceType
from stoker.core import units
from stoker.core.cluster import backoff, share
from stoker.core.cluster.pool import Pool, PoolNode
from stoker.core.cluster.view import ClusterView


@dataclass(slots=True)
class Kind:
    """What is left of one kind of node. free: newest-freed last, so that pop() gives it. unseen: nodes on their way that
    have no Node yet. backoff: why no more of it are asked for now. open: on a pool that jobs share, the nodes of which
    jobs have a part; fresh: what a new one has for jobs."""

    type: InstanceType
    free: list[PoolNode] = field(default_factory=list)
    preparing: list[PoolNode] = field(default_factory=list)
    unseen: int = 0
    backoff: Backoff | None = None
    open: share.Open = field(default_factory=share.Open)
    fresh: Mapping[str, int] = field(default_factory=dict)

    @property
    def coming(self) -> int:
        return len(self.preparing) + self.unseen


@dataclass(slots=True)
class Stock:
    """room: nodes that may still be added, of any kind. places: on a pool that jobs share, the nodes that could take a part
    of a job, by name."""

    kinds: Mapping[str, Kind]
    room: int = 0
    places: Mapping[str, share.Place] = field(default_factory=dict)


def stock_of(view: ClusterView, pool: Pool, kept: Mapping[tuple[str, int], tuple[str, ...]], now: float) -> Stock:
    """kept: nodes that are promised already, by the job's uid and attempt."""
    taken = frozenset(name for nodes in kept.values() for name in nodes)
    shared = share.is_allowed(view.cluster)
    places = share.places(view, pool, kept) if shared else {}
    spec, stands = view.cluster.spec, view.cluster.status.backoff
    kinds = {kind.name: Kind(kind, backoff=backoff.standing(stands, kind, now)) for kind in spec.instance_types}
    excess = _excess(view, pool)
    for node in sorted(pool.nodes.values(), key=preference):
        if (kind := kinds.get(node.kind)) is None or node.name in taken:
            continue
        if excess > 0 and node.state == "Idle":
            excess -= 1
            continue
        if node.state == "Idle":
            kind.free.append(node)
        elif node.state == "Preparing":
            kind.preparing.append(node)
    for name, count in pool.coming.items():
        if name in kinds:
            kinds[name].unseen = count
    if shared:
        _open(view, kinds, pool, places, max(0, excess))
    return Stock(kinds, max(0, spec.max_instances - pool.replicas) if pool.replicas is not None else 0, places)


def _open(
    view: ClusterView, kinds: Mapping[str, Kind], pool: Pool, places: Mapping[str, share.Place], excess: int
) -> None:
    """The nodes of which jobs have a part, the fullest first: so the others fall empty and can go. excess: so many of them
    are to fall empty, and are given to nobody more."""
    least = share.least(view.demands)
    for kind in kinds.values():
        kind.open, kind.fresh = share.Open(least), share.fresh(view.cluster, kind.type)
    used = [place for place in places.values() if place.used]
    used.sort(key=lambda one: (pool.nodes[one.name].leaving_since is not None, *_left(one)))
    for place in used[: max(0, len(used) - excess)]:
        if (own := kinds.get(pool.nodes[place.name].kind)) is not None:
            own.open.add(place)


def _left(place: share.Place) -> tuple[int, int, str]:
    return place.left.get("cpu", 0), place.left.get("memory", 0), place.name


def _excess(view: ClusterView, pool: Pool) -> int:
    """Nodes that are there beyond maxInstances: so many idle ones go and are given to nobody, or a pool whose jobs come one
    after the other would never get down to it."""
    if pool.replicas is None:
        return 0
    there = sum(1 for node in pool.nodes.values() if not node.counted_out and node.state != "Preempted")
    return there - view.cluster.spec.max_instances


def preference(node: PoolNode) -> tuple[bool, float, str]:
    """Nodes that were about to go first (so taken last), then by when they fell free: the newest is taken first, so
    that the oldest can go."""
    return node.leaving_since is None, node.free_since or 0.0, node.name


def kinds_for(cluster: ComputeCluster, named: str | None, waited: float) -> Iterable[InstanceType]:
    """The types that a gang may have, the best first. named: by the job, if it names one. waited: for how long nodes have been wanted for it, in seconds.

    One that names a type gets it. One that does not gets any of the tier of the pool's first type that offers as much as
    that, in the pool's order. Either may have the tier of spec.fallback too, once it has waited for so long.
    """
    types = cluster.spec.instance_types
    own = next((kind for kind in types if kind.name == (named or kind.name)), None)
    if own is None:
        return ()
    later = cluster.spec.fallback
    others = later.to_tier if later is not None and waited >= later.after_seconds else None
    return (
        own,
        *(
            kind
            for kind in types
            if kind is not own
            and ((named is None and kind.tier == own.tier) or kind.tier == others)
            and offers(kind, own)
        ),
    )


def offers(kind: InstanceType, wanted: InstanceType) -> bool:
    """Whether what fits on a node of the wanted type fits on one of the other."""
    return kind.architecture == wanted.architecture and all(
        units.parse(kind.resources.get(name, "0")) >= units.parse(amount) for name, amount in wanted.resources.items()
    )
