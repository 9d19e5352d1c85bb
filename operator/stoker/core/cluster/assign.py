"""Which jobs get which nodes: whole gangs or nothing, in order; what the first in line needs is kept for it."""

import heapq
from collections import Counter, deque
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from stoker.api.trainingjob import Priority
from stoker.core.cluster.pool import Pool, PoolNode
from stoker.core.cluster.view import ClusterView, Demand, Holding, Wait

Key = tuple[str, int]

#: The reason of whoever waits only because others come before.
TURN = "WaitingForTurn"

_HIGHEST_FIRST: tuple[Priority, ...] = ("High", "Medium", "Low")


@dataclass(slots=True)
class Assigned:
    """What came out. nodes: of each gang that is whole. waits: of each that is not. needed: nodes promised to gangs whose
    other nodes are being brought, by name. saved: nodes kept for a gang whose other nodes have jobs. growth: nodes to be
    added. first: the gangs that wait and have nodes kept, in order. behind: of the gangs that wait for their turn, whom
    they wait behind. wanted: nodes that jobs have, are given, or come next to."""

    nodes: dict[Key, tuple[str, ...]] = field(default_factory=dict)
    waits: dict[Key, Wait] = field(default_factory=dict)
    needed: set[str] = field(default_factory=set)
    saved: dict[Key, frozenset[str]] = field(default_factory=dict)
    growth: int = 0
    wanted: int = 0
    first: list[Key] = field(default_factory=list)
    behind: dict[Key, "_First"] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, eq=False)
class _First:
    """The gang that others wait behind. nodes: what its namespace had when its turn came. kept: its turn came because
    the last plan kept nodes for it."""

    demand: Demand
    nodes: int
    kept: bool


@dataclass(slots=True)
class _Stock:
    """What is left of one kind of node while gangs are served. free: newest-freed last, so that pop() gives it. first:
    the gang that everyone else waits behind."""

    free: list[PoolNode]
    preparing: list[PoolNode]
    unseen: int = 0
    room: int = 0
    first: _First | None = None


def in_order(
    demands: Iterable[Demand],
    running: Mapping[str, int],
    weights: Mapping[str, int] = MappingProxyType({}),
    first: Iterable[Key] = (),
) -> Iterator[Demand]:
    """Who comes next: the highest priority; in it those for whom the last plan kept nodes, then the namespace with the
    smallest share (nodes / weight), then age.

    running: nodes by namespace; read anew after each demand, so that what it was given counts for those behind it.
    weights: by namespace; missing: 1.
    """
    levels: dict[Priority, list[Demand]] = {}
    for demand in demands:
        levels.setdefault(demand.priority, []).append(demand)
    kept = tuple(first)
    for priority in _HIGHEST_FIRST:
        yield from _in_turn(levels.get(priority, ()), running, weights, kept)


def _in_turn(
    demands: Iterable[Demand], running: Mapping[str, int], weights: Mapping[str, int], first: Iterable[Key]
) -> Iterator[Demand]:
    """The order within one priority."""

    def place(namespace: str) -> tuple[float, tuple[float, str, str, str], str]:
        return running.get(namespace, 0) / weights.get(namespace, 1), _age(lanes[namespace][0]), namespace

    left = {(demand.uid, demand.attempt): demand for demand in sorted(demands, key=_age)}
    # Shares move with every job that ends: a gang that lost its place to that would wait for ever. It loses it to a
    # higher priority all the same, which was asked for: nodes kept for a Low gang must not make a High job wait.
    for key in first:
        if (kept := left.pop(key, None)) is not None:
            yield kept
    lanes: dict[str, deque[Demand]] = {}
    for demand in left.values():
        lanes.setdefault(demand.namespace, deque()).append(demand)
    line = [place(namespace) for namespace in lanes]
    heapq.heapify(line)
    while line:
        namespace = heapq.heappop(line)[2]
        lane = lanes[namespace]
        yield lane.popleft()
        if lane:
            heapq.heappush(line, place(namespace))


def _age(demand: Demand) -> tuple[float, str, str, str]:
    return demand.since, demand.namespace, demand.name, demand.uid


def carried(view: ClusterView, usable: frozenset[str]) -> dict[Key, tuple[str, ...]]:
    """Assignments of earlier plans that still hold: the job still wants them and every node can still take it."""
    wanted = {(demand.uid, demand.attempt): demand.count for demand in view.demands}
    external = view.cluster.spec.provider.type == "External"
    taken = {name for holding in view.holdings if holding.bound for name in holding.nodes}
    kept: dict[Key, tuple[str, ...]] = {}
    for holding in view.holdings:
        key, nodes = (holding.uid, holding.attempt), set(holding.nodes)
        if holding.bound or key not in wanted or key in kept:
            continue
        whole = len(nodes) == len(holding.nodes) == wanted[key] and nodes <= usable and not nodes & taken
        if not nodes if external else whole:
            kept[key] = holding.nodes
            taken |= nodes
    return kept


def assign(view: ClusterView, pool: Pool, kept: Mapping[Key, tuple[str, ...]]) -> Assigned:
    """Serve every demand that has no nodes yet."""
    assigned = Assigned(nodes=dict(kept))
    bound = {(holding.uid, holding.attempt) for holding in view.holdings if holding.bound}
    running = Counter[str]()
    for holding in view.holdings:
        if holding.bound and not holding.ending:
            running[holding.namespace] += _count(holding)
    for demand in view.demands:
        if (demand.uid, demand.attempt) in kept:
            running[demand.namespace] += demand.count
    wanting = [
        demand
        for demand in view.demands
        if (demand.uid, demand.attempt) not in kept and (demand.uid, demand.attempt) not in bound
    ]
    waiting = in_order(wanting, running, view.weights, view.first)
    if view.cluster.spec.provider.type == "External":
        _grant(view, waiting, assigned, running)
    else:
        stocks = _stocks(view, pool, kept)
        for demand in waiting:
            _serve(view, stocks, demand, assigned, running)
            key = (demand.uid, demand.attempt)
            if key in assigned.nodes or (assigned.first and assigned.first[-1] == key):
                running[demand.namespace] += demand.count
    assigned.wanted = sum(running.values())
    _line_up(view, wanting, assigned, running)
    return assigned


def _line_up(view: ClusterView, wanting: Iterable[Demand], assigned: Assigned, running: Counter[str]) -> None:
    """Tell each gang that waits for its turn its place: how many would be served up to it if nobody came or ended."""
    behind = [demand for demand in wanting if (demand.uid, demand.attempt) in assigned.behind]
    in_all = Counter(assigned.behind.values())
    before = Counter[_First]()
    shares = running.copy()
    for demand in in_order(behind, shares, view.weights, view.first):
        shares[demand.namespace] += demand.count
        key = (demand.uid, demand.attempt)
        first = assigned.behind[key]
        before[first] += 1
        # The first itself has place 1.
        line = f"place {before[first] + 1:,} of {in_all[first] + 1:,}"
        assigned.waits[key] = _turn(view, line, first, demand, running[demand.namespace])


def _grant(view: ClusterView, waiting: Iterable[Demand], assigned: Assigned, running: Counter[str]) -> None:
    """On a pool that owns no nodes: as many gangs as maxInstances allows, in order."""
    counts = {(demand.uid, demand.attempt): demand.count for demand in view.demands}
    held = sum(_count(holding) for holding in view.holdings if holding.bound)
    room = view.cluster.spec.max_instances - held - sum(counts.get(key, 0) for key in assigned.nodes)
    first: _First | None = None
    for demand in waiting:
        key = (demand.uid, demand.attempt)
        if (wait := _impossible(view, demand)) is not None:
            assigned.waits[key] = wait
        elif first is not None:
            assigned.behind[key] = first
        elif demand.count <= room:
            assigned.nodes[key] = ()
            room -= demand.count
            running[demand.namespace] += demand.count
        else:
            assigned.waits[key] = _full(view, demand)
            assigned.first.append(key)
            first = _First(demand, running[demand.namespace], key in view.first)


def _serve(
    view: ClusterView, stocks: dict[str, _Stock], demand: Demand, assigned: Assigned, running: Counter[str]
) -> None:
    key = (demand.uid, demand.attempt)
    kind = demand.instance_type or next((kind.name for kind in view.cluster.spec.instance_types), "")
    stock = stocks.get(kind)
    impossible = _impossible(view, demand)
    if impossible is not None or stock is None:
        assigned.waits[key] = impossible or _no_such_nodes(view, demand, kind)
        return
    if stock.first is not None:
        assigned.behind[key] = stock.first
        return
    avoided = [node for node in stock.free if node.name in demand.avoid]
    others = len(stock.free) - len(avoided) + len(stock.preparing) + stock.unseen + stock.room
    if not avoided or others < demand.count:
        _give(view, stock, demand, assigned, running)
        return
    stock.free = [node for node in stock.free if node.name not in demand.avoid]
    _give(view, stock, demand, assigned, running)
    stock.free = sorted((*avoided, *stock.free), key=_preference)


def _give(view: ClusterView, stock: _Stock, demand: Demand, assigned: Assigned, running: Counter[str]) -> None:
    """Nodes of one kind for the next in line: now, once they are there, or not before others have ended."""
    key = (demand.uid, demand.attempt)
    if len(stock.free) >= demand.count:
        assigned.nodes[key] = tuple(stock.free.pop().name for _ in range(demand.count))
        return
    coming = len(stock.preparing) + stock.unseen
    if len(stock.free) + coming + stock.room >= demand.count:
        assigned.waits[key] = _reserve(view, stock, demand, assigned)
        assigned.first.append(key)
        return
    if view.cluster.spec.provider.type == "Static" and not _enough(view, demand, stock):
        assigned.waits[key] = _no_such_nodes(view, demand, demand.instance_type or "")
        return
    assigned.waits[key] = _problem(view) or _full(view, demand)
    # The first in line keeps what is free until its gang is whole: a stream of small jobs must not starve it.
    assigned.saved[key] = frozenset(node.name for node in (*stock.free, *stock.preparing))
    stock.free, stock.preparing, stock.unseen, stock.room = [], [], 0, 0
    stock.first = _First(demand, running[demand.namespace], key in view.first)
    assigned.first.append(key)


def _reserve(view: ClusterView, stock: _Stock, demand: Demand, assigned: Assigned) -> Wait:
    """Keep free and booting nodes for a gang, and add the rest."""
    free = [stock.free.pop() for _ in range(min(len(stock.free), demand.count))]
    booting = [stock.preparing.pop() for _ in range(min(len(stock.preparing), demand.count - len(free)))]
    assigned.needed |= {node.name for node in (*free, *booting)}
    missing = demand.count - len(free) - len(booting)
    unseen = min(stock.unseen, missing)
    growth = missing - unseen
    stock.unseen -= unseen
    stock.room -= growth
    assigned.growth += growth
    name = view.cluster.metadata.name
    return _problem(view) or Wait(
        "NodesBooting",
        f"waiting for {_nodes(demand.count)} of {name}: {len(free)} free, {demand.count - len(free)} being brought",
        f"wait for them to boot; `kubectl describe computecluster {name}` shows the pool's state and problems",
    )


def _stocks(view: ClusterView, pool: Pool, kept: Mapping[Key, tuple[str, ...]]) -> dict[str, _Stock]:
    taken = {name for nodes in kept.values() for name in nodes}
    stocks = {kind.name: _Stock([], []) for kind in view.cluster.spec.instance_types}
    for node in sorted(pool.nodes.values(), key=_preference):
        stock = stocks.get(node.kind)
        if stock is None or node.name in taken:
            continue
        if node.state == "Idle":
            stock.free.append(node)
        elif node.state == "Preparing":
            stock.preparing.append(node)
    if pool.replicas is not None and stocks:
        only = next(iter(stocks.values()))
        only.unseen = pool.unseen
        only.room = max(0, view.cluster.spec.max_instances - pool.replicas)
    return stocks


def _preference(node: PoolNode) -> tuple[bool, float, str]:
    """Nodes that were about to go first (so taken last), then by when they fell free: the newest is taken first, so
    that the oldest can go."""
    return node.leaving_since is None, node.free_since or 0.0, node.name


def _enough(view: ClusterView, demand: Demand, stock: _Stock) -> bool:
    """Whether a static pool's usable nodes would do once every job on them has ended."""
    busy = {name for holding in view.holdings for name in holding.nodes if name in view.nodes}
    return len(stock.free) + len(stock.preparing) + len(busy) >= demand.count


def _impossible(view: ClusterView, demand: Demand) -> Wait | None:
    name, most = view.cluster.metadata.name, view.cluster.spec.max_instances
    if view.cluster.metadata.deletion_timestamp is not None:
        return Wait("PoolDeleted", f"ComputeCluster/{name} is being deleted", "submit again to another one")
    if demand.count <= most:
        return None
    return Wait(
        "GangLargerThanPool",
        f"the job needs {demand.count} nodes at once and {name} may have {most}",
        f"raise spec.maxInstances of ComputeCluster/{name} to {demand.count}, or submit again with fewer nodes",
    )


def _no_such_nodes(view: ClusterView, demand: Demand, kind: str) -> Wait:
    name = view.cluster.metadata.name
    return Wait(
        "NotEnoughNodes",
        f"{name} has fewer than {_nodes(demand.count)} of type {kind or 'any'} that can take a job; "
        f"{len(view.nodes)} in all match its nodeSelector",
        f"add or repair nodes; `kubectl describe computecluster {name}` names those that cannot be used",
    )


def _full(view: ClusterView, demand: Demand) -> Wait:
    name, most = view.cluster.metadata.name, view.cluster.spec.max_instances
    return Wait(
        "PoolFull",
        f"waiting for {_nodes(demand.count)} of {name}: it may have {most}, and other jobs have them",
        f"wait, or raise spec.maxInstances of ComputeCluster/{name}",
    )


def _turn(view: ClusterView, line: str, first: _First, demand: Demand, nodes: int) -> Wait:
    """nodes: what the namespace of the gang that waits has."""
    one = first.demand
    return Wait(
        TURN,
        f"{line} in line of {view.cluster.metadata.name}; first is {one.namespace}/{one.name}, which waits for "
        f"{_nodes(one.count)}: {_precedence(view, first, demand, nodes)}",
        f"wait, or raise spec.maxInstances of ComputeCluster/{view.cluster.metadata.name}",
    )


def _precedence(view: ClusterView, first: _First, demand: Demand, nodes: int) -> str:
    """Why the first comes before another: the same questions as in `in_order`, in the same order."""
    one = first.demand
    if one.priority != demand.priority:
        return f"its priority is {one.priority}, this one's {demand.priority}"
    if first.kept:
        return "its turn came before"
    weights = view.weights.get(one.namespace, 1), view.weights.get(demand.namespace, 1)
    if one.namespace != demand.namespace and first.nodes / weights[0] < nodes / weights[1]:
        per = (f" at weight {weights[0]}", f" at weight {weights[1]}") if weights != (1, 1) else ("", "")
        return f"{one.namespace} has {_nodes(first.nodes)}{per[0]}, {demand.namespace} has {nodes}{per[1]}"
    return "it is older"


def _problem(view: ClusterView) -> Wait | None:
    """What keeps the pool itself from growing, in its provider's words."""
    if view.cluster.spec.provider.type != "Scale":
        return None
    name = view.cluster.metadata.name
    if view.scale is None:
        return Wait("WaitingForPool", f"the replicas of {name} are being read", "wait, this takes seconds")
    if view.scale.problem is None:
        return None
    fix = f"see spec.provider.scale of ComputeCluster/{name}, and what the operator may do there (chart value rbac.scaleResources)"
    return Wait(*view.scale.problem, fix)


def _count(holding: Holding) -> int:
    return max(holding.count, len(holding.nodes))


def _nodes(count: int) -> str:
    return "1 node" if count == 1 else f"{count} nodes"
