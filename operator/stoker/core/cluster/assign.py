"""Which jobs get which nodes: whole gangs or nothing, in order; what the first in line needs is kept for it."""

import heapq
import math
from collections import Counter, deque
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from stoker.api.trainingjob import Priority
from stoker.core import times
from stoker.core.cluster import backfill, backoff, handover, quota, scrub, share, usage
from stoker.core.cluster.pool import Pool, PoolNode
from stoker.core.cluster.stock import Kind, Stock, kinds_for, preference, stock_of
from stoker.core.cluster.view import ClusterView, Demand, Holding, Wait

Key = tuple[str, int]

#: The reason of whoever waits only because others come before.
TURN = "WaitingForTurn"
#: The reason of whoever is given nodes before others whose turn it was.
AHEAD = "Backfilled"

_HIGHEST_FIRST: tuple[Priority, ...] = ("High", "Medium", "Low")


@dataclass(frozen=True, slots=True)
class Growth:
    """Nodes to be added for a gang."""

    key: Key
    kind: str
    count: int


@dataclass(slots=True)
class Assigned:
    """What came out. nodes: of each gang that is whole. ahead: of those that were served though others come before, why.
    waits: of each that is not whole. needed: nodes promised to gangs whose
    other nodes are being brought, by name. saved: nodes kept for a gang whose other nodes have jobs or cannot be had.
    growth: nodes to be added. first: the gangs that wait and have nodes kept, in order. behind: of the gangs that wait for their turn, whom
    they wait behind. wanted: nodes that jobs have, are given, or come next to. unclaimed: nodes on their way that are
    promised to nobody, by type. handed_over: gangs for which somebody else is to make room."""

    nodes: dict[Key, tuple[str, ...]] = field(default_factory=dict)
    ahead: dict[Key, str] = field(default_factory=dict)
    waits: dict[Key, Wait] = field(default_factory=dict)
    needed: set[str] = field(default_factory=set)
    saved: dict[Key, frozenset[str]] = field(default_factory=dict)
    growth: list[Growth] = field(default_factory=list)
    wanted: int = 0
    unclaimed: dict[str, int] = field(default_factory=dict)
    first: list[Key] = field(default_factory=list)
    behind: dict[Key, "_First"] = field(default_factory=dict)
    handed_over: list[Demand] = field(default_factory=list)


@dataclass(frozen=True, slots=True, eq=False)
class _First:
    """The gang that others wait behind. nodes: what its namespace had when its turn came. kept: its turn came because
    the last plan kept nodes for it. until: words for when it has its nodes at the latest, as far as limits tell."""

    demand: Demand
    nodes: int
    kept: bool
    until: str = ""


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


def carried(view: ClusterView, pool: Pool) -> dict[Key, tuple[str, ...]]:
    """Assignments of earlier plans that still hold: the job still wants them and every node can still take it."""
    if share.is_allowed(view.cluster):
        return dict(share.carried(view, pool))
    usable = frozenset(node.name for node in pool.of("Idle"))
    wanted = {(demand.uid, demand.attempt): demand.count for demand in view.demands}
    external = not view.cluster.spec.provider.owns_nodes
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


def assign(
    view: ClusterView, pool: Pool, kept: Mapping[Key, tuple[str, ...]], shut: Wait | None, now: float,
    spent: Mapping[str, float] = MappingProxyType({}),
) -> Assigned:  # fmt: skip
    """Serve every demand that has no nodes yet. shut: why none is served. spent: what each namespace's jobs cost here this
    month."""
    told = {(one.uid, one.attempt): one.ahead for one in view.holdings if one.ahead and not one.bound}
    assigned = Assigned(nodes=dict(kept), ahead={key: told[key] for key in kept if key in told})
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
    if shut is not None:
        assigned.waits = {(demand.uid, demand.attempt): shut for demand in wanting}
        assigned.unclaimed = {
            name: kind.coming for name, kind in stock_of(view, pool, kept, now).kinds.items() if kind.coming
        }
        assigned.wanted = sum(running.values())
        return assigned
    waiting = in_order(wanting, running, view.weights, view.first)
    taken = _taken(view, pool, kept, spent, now)
    if not view.cluster.spec.provider.owns_nodes:
        _grant(view, waiting, assigned, running, taken)
    else:
        server = _Server(view, pool, kept, stock_of(view, pool, kept, now), assigned, running, taken, now)
        for demand in waiting:
            server.serve(demand)
            key = (demand.uid, demand.attempt)
            if key in assigned.nodes or (assigned.first and assigned.first[-1] == key):
                running[demand.namespace] += demand.count
        server.close()
        assigned.unclaimed = {name: kind.coming for name, kind in server.stock.kinds.items() if kind.coming}
    assigned.wanted = _wanted(view, pool, assigned, running)
    _line_up(view, wanting, assigned, running)
    return assigned


def _wanted(view: ClusterView, pool: Pool, assigned: Assigned, running: Counter[str]) -> int:
    """How many nodes jobs have, are given, or come next to."""
    if not share.is_allowed(view.cluster):
        return sum(running.values())
    named = {name for holding in view.holdings if holding.bound and not holding.ending for name in holding.nodes}
    named |= assigned.needed | {name for nodes in assigned.nodes.values() for name in nodes}
    counts = {(demand.uid, demand.attempt): demand.count for demand in view.demands}
    coming = sum(1 for node in pool.of("Preparing") if node.name not in named) + pool.unseen
    promised = coming - sum(assigned.unclaimed.values()) + sum(one.count for one in assigned.growth)
    return len(named) + promised + sum(counts[key] for key in assigned.saved)


def _taken(
    view: ClusterView, pool: Pool, kept: Mapping[Key, tuple[str, ...]], spent: Mapping[str, float], now: float
) -> quota.Taken:
    """What each namespace has here, given by now or promised by a former plan, and what it spent."""
    taken = quota.Taken(view.cluster, usage.prices_of(view.cluster), spent, now)
    if not view.quotas:
        return taken
    only = view.cluster.spec.instance_types[0].name
    wanting = {(demand.uid, demand.attempt): demand for demand in view.demands}
    held = [
        (one.namespace, one.nodes, _count(one), one.requests) for one in view.holdings if one.bound and not one.ending
    ]
    held += [
        (wanting[key].namespace, nodes, wanting[key].count, wanting[key].requests)
        for key, nodes in kept.items()
        if key in wanting
    ]
    for namespace, nodes, count, requests in held:
        for name in nodes:
            taken.take(namespace, 1, pool.nodes[name].kind if name in pool.nodes else only, requests)
        taken.take(namespace, count - len(nodes), only, requests)
    return taken


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


def _grant(
    view: ClusterView, waiting: Iterable[Demand], assigned: Assigned, running: Counter[str], taken: quota.Taken
) -> None:
    """On a pool that owns no nodes: as many gangs as maxInstances allows, in order."""
    counts = {(demand.uid, demand.attempt): demand.count for demand in view.demands}
    held = sum(_count(holding) for holding in view.holdings if holding.bound)
    room = view.cluster.spec.max_instances - held - sum(counts.get(key, 0) for key in assigned.nodes)
    only = view.cluster.spec.instance_types[0].name
    first: _First | None = None
    for demand in waiting:
        key = (demand.uid, demand.attempt)
        if (wait := _impossible(view, demand) or quota.exceeded(view, demand, taken, only)) is not None:
            assigned.waits[key] = wait
        elif first is not None:
            assigned.behind[key] = first
        elif demand.count <= room:
            room -= demand.count
            running[demand.namespace] += demand.count
            taken.take(demand.namespace, demand.count, only)
            if view.rooms is not None:
                assigned.handed_over.append(demand)
                wait = handover.wait_for(view.cluster.metadata.name, demand, view.rooms)
                if wait is not None:
                    assigned.waits[key] = wait
                    continue
            assigned.nodes[key] = ()
        else:
            assigned.waits[key] = _full(view, demand)
            assigned.first.append(key)
            first = _First(demand, running[demand.namespace], key in view.first)


@dataclass(slots=True)
class _Server:
    """Serves gangs one after the other from what is left. firsts: the gang behind which everyone waits, by type. reserved:
    what is kept for it. held, ends: nodes that this pass gives or brings, and when they fall free."""

    view: ClusterView
    pool: Pool
    kept: Mapping[Key, tuple[str, ...]]
    stock: Stock
    assigned: Assigned
    running: Counter[str]
    taken: quota.Taken
    now: float
    firsts: dict[str, _First] = field(default_factory=dict)
    reserved: dict[str, backfill.Reservation] = field(default_factory=dict)
    held: int = 0
    ends: list[backfill.End] = field(default_factory=list)

    def serve(self, demand: Demand) -> None:
        key = (demand.uid, demand.attempt)
        waited = self.now - self.view.kept_since.get(key, self.now)
        kinds = [self.stock.kinds[kind.name] for kind in kinds_for(self.view.cluster, demand.instance_type, waited)]
        impossible = _impossible(self.view, demand)
        if impossible is None and kinds and demand.namespace in self.view.quotas:
            beyond = [quota.exceeded(self.view, demand, self.taken, kind.type.name) for kind in kinds]
            impossible = beyond[0] if None not in beyond else None
            kinds = [kind for kind, wait in zip(kinds, beyond, strict=True) if wait is None]
        if impossible is not None or not kinds:
            self.assigned.waits[key] = impossible or _no_such_nodes(self.view, demand, demand.instance_type or "")
        elif kinds[0].type.name in self.firsts:
            if not self.reserved or not self._go_ahead(demand, kinds):
                self.assigned.behind[key] = self.firsts[kinds[0].type.name]
        else:
            open_kinds = [kind for kind in kinds if kind.type.name not in self.firsts]
            if share.shares(self.view.cluster, demand.requests):
                self._give_parts(demand, open_kinds, waited)
                return
            aside = self._set_aside(open_kinds, demand)
            self._give(demand, open_kinds, waited)
            for kind, nodes in aside:
                kind.free = sorted((*nodes, *kind.free), key=preference)

    def close(self) -> None:
        """Once all are served: what is still kept for those that are first."""
        for kept in self.reserved.values():
            key = (kept.first.uid, kept.first.attempt)
            self.assigned.saved[key] |= {node.name for node in kept.free}

    def _go_ahead(self, demand: Demand, kinds: list[Kind]) -> bool:
        """Nodes for a gang that comes later, of those that are kept for the first, where that one loses nothing by it."""
        between = scrub.DEADLINE_SECONDS if scrub.path_of(self.view.cluster) else 0.0
        for kind in kinds:
            kept = self.reserved.get(kind.type.name)
            if kept is not None and (admitted := kept.admit(demand, self.now, between)) is not None:
                key = (demand.uid, demand.attempt)
                self.assigned.nodes[key], self.assigned.ahead[key] = admitted
                self._begin(demand, kind, sound=demand.count)
                return True
        return False

    def _begin(self, demand: Demand, kind: Kind, sound: int) -> None:
        self.taken.take(demand.namespace, demand.count, kind.type.name)
        self.held += demand.count
        if demand.seconds is not None:
            self.ends.append(backfill.End(self.now + demand.seconds, kind.type.name, demand.count, sound))

    def _set_aside(self, kinds: list[Kind], demand: Demand) -> list[tuple[Kind, list[PoolNode]]]:
        """Take away the nodes that a gang could not use, of each kind of which there are or can be others."""
        if not demand.avoid:
            return []
        aside = []
        for kind in kinds:
            avoided = [node for node in kind.free if node.name in demand.avoid]
            room = 0 if kind.backoff is not None else self.stock.room
            if avoided and len(kind.free) - len(avoided) + kind.coming + room >= demand.count:
                kind.free = [node for node in kind.free if node.name not in demand.avoid]
                aside.append((kind, avoided))
        return aside

    def _give(self, demand: Demand, kinds: list[Kind], waited: float) -> None:
        """Nodes for the next in line: now, once they are there, or not before others have ended or can be had."""
        key = (demand.uid, demand.attempt)
        for kind in kinds:
            if len(kind.free) >= demand.count:
                self.assigned.nodes[key] = tuple(kind.free.pop().name for _ in range(demand.count))
                self._begin(demand, kind, sound=demand.count)
                return
        for kind in kinds:
            room = 0 if kind.backoff is not None else self.stock.room
            if len(kind.free) + kind.coming + room >= demand.count:
                self._reserve(kind, demand)
                return
        self._keep_waiting(demand, kinds, waited)

    def _reserve(self, kind: Kind, demand: Demand) -> None:
        """Keep free and booting nodes for a gang, and add the rest."""
        key, count = (demand.uid, demand.attempt), demand.count
        free = [kind.free.pop() for _ in range(min(len(kind.free), count))]
        booting = [kind.preparing.pop() for _ in range(min(len(kind.preparing), count - len(free)))]
        self.assigned.needed |= {node.name for node in (*free, *booting)}
        missing = count - len(free) - len(booting)
        unseen = min(kind.unseen, missing)
        kind.unseen -= unseen
        if growth := missing - unseen:
            self.stock.room -= growth
            self.assigned.growth.append(Growth(key, kind.type.name, growth))
        self._begin(demand, kind, sound=0)
        self.assigned.waits[key] = _problem(self.view) or _booting(self.view, demand, len(free))
        self.assigned.first.append(key)

    def _give_parts(self, demand: Demand, kinds: list[Kind], waited: float) -> None:
        """The same for a job that may share: a part of as many nodes as it has pods."""
        key, amounts = (demand.uid, demand.attempt), share.wanted(demand.requests)
        mine = {kind.type.name for kind in kinds}
        if not any(share.fits(kind.fresh, amounts) for kind in kinds) and not share.fits_empty(
            self.view, self.pool, mine, amounts
        ):
            self.assigned.waits[key] = _larger_than_a_node(self.view, kinds[0], amounts)
            return
        for avoid in dict.fromkeys((demand.avoid, frozenset[str]())):
            if any(self._part_now(demand, kind, amounts, avoid) for kind in kinds):
                return
            if any(self._reserve_parts(demand, kind, amounts, avoid) for kind in kinds):
                return
        self._keep_waiting(demand, kinds, waited)

    def _part_now(self, demand: Demand, kind: Kind, amounts: share.Amounts, avoid: frozenset[str]) -> bool:
        there = kind.open.find(amounts, demand.count, avoid)
        there += self._empty(kind, amounts, demand.count - len(there), avoid)
        if len(there) < demand.count:
            return False
        self._take_parts(kind, there, amounts)
        self.assigned.nodes[demand.uid, demand.attempt] = tuple(place.name for place in there)
        self.taken.take(demand.namespace, demand.count, kind.type.name, demand.requests)
        return True

    def _reserve_parts(self, demand: Demand, kind: Kind, amounts: share.Amounts, avoid: frozenset[str]) -> bool:
        """Keep parts of nodes that are there or on their way, and add the rest."""
        key, count = (demand.uid, demand.attempt), demand.count
        there = kind.open.find(amounts, count, avoid, coming=True)
        empty = self._empty(kind, amounts, count - len(there), avoid)
        missing = count - len(there) - len(empty)
        new = share.fits(kind.fresh, amounts)
        if missing > (kind.coming if new else 0) + self._room(kind, amounts):
            return False
        booting = [kind.preparing.pop() for _ in range(min(len(kind.preparing), missing))]
        unseen = min(kind.unseen, missing - len(booting))
        kind.unseen -= unseen
        if growth := missing - len(booting) - unseen:
            self.stock.room -= growth
            # One by one: what is brought for one job has room for others.
            self.assigned.growth.append(Growth(key, kind.type.name, growth))
        names = [node.name for node in booting] + [""] * (missing - len(booting))
        brought = [share.Place(name, dict(kind.fresh), coming=True) for name in names]
        self._take_parts(kind, [*there, *empty, *brought], amounts)
        self.assigned.needed |= {place.name for place in (*empty, *brought) if place.name}
        self.taken.take(demand.namespace, count, kind.type.name, demand.requests)
        ready = sum(1 for place in (*there, *empty) if not place.coming)
        self.assigned.waits[key] = _problem(self.view) or _booting(self.view, demand, ready)
        self.assigned.first.append(key)
        return True

    def _empty(self, kind: Kind, amounts: share.Amounts, count: int, avoid: frozenset[str]) -> list[share.Place]:
        """Nodes without a job on which a pod fits, in the order in which they are taken."""
        found: list[share.Place] = []
        for node in reversed(kind.free):
            if len(found) == count:
                break
            place = self.stock.places.get(node.name)
            if place is not None and node.name not in avoid and place.fits(amounts):
                found.append(place)
        return found

    def _take_parts(self, kind: Kind, places: Iterable[share.Place], amounts: share.Amounts) -> None:
        given = {place.name for place in places if not place.used and not place.coming}
        if given:
            kind.free = [node for node in kind.free if node.name not in given]
        kind.open.take(places, amounts)

    def _room(self, kind: Kind, amounts: share.Amounts | None = None) -> int:
        """How many nodes of a kind may be added, for pods with these amounts."""
        if kind.backoff is not None or (amounts is not None and not share.fits(kind.fresh, amounts)):
            return 0
        return self.stock.room

    def _at_most(self, kind: Kind, demand: Demand) -> int:
        """On how many nodes that are there or on their way a gang could be."""
        if not share.shares(self.view.cluster, demand.requests):
            return len(kind.free) + kind.coming
        amounts = share.wanted(demand.requests)
        there = len(kind.open.find(amounts, demand.count, (), coming=True))
        return there + len(self._empty(kind, amounts, demand.count, frozenset())) + kind.coming

    def _keep_waiting(self, demand: Demand, kinds: list[Kind], waited: float) -> None:
        """A gang that cannot become whole now: what is free is kept for it, so that smaller jobs do not starve it."""
        view, key, own = self.view, (demand.uid, demand.attempt), kinds[0]
        if view.cluster.spec.provider.type == "Static" and not _enough(view, demand, own):
            self.assigned.waits[key] = _no_such_nodes(view, demand, demand.instance_type or "")
            return
        lacking = next((kind.backoff for kind in kinds if kind.backoff is not None), None)
        missing = demand.count - max(self._at_most(kind, demand) for kind in kinds)
        if lacking is not None and missing <= self.stock.room:
            # Nobody's end would help. Past its hold others may use what is there, or the pool would stand still.
            self.assigned.waits[key] = backoff.wait_for(lacking, view.cluster.metadata.name)
            self.assigned.first.append(key)
            if waited < view.cluster.spec.scale_up.partial_hold_seconds:
                self._save(key, [max(kinds, key=lambda kind: len(kind.free))])
            return
        lack = self._lack(demand, kinds)
        # Where more may be added, whatever is there takes the room of what is wanted.
        every = list(self.stock.kinds.values()) if view.machines is not None else [own]
        until = ""
        # One that may have several types has no node of its own: which of them it gets depends on who ends first. Where jobs
        # share nodes, the end of one frees none.
        single = view.machines is None or len(tuple(kinds_for(view.cluster, demand.instance_type, math.inf))) == 1
        if single and not share.is_allowed(view.cluster):
            reserved = self._reservation(demand, own)
            until = _until(reserved.by, self.now)
            if reserved.by is not None and own.free:
                self.reserved[own.type.name], own.free = reserved, []
        self.assigned.waits[key] = _problem(view) or _full(view, demand, until, lack)
        first = _First(demand, self.running[demand.namespace], key in view.first, until)
        self.firsts.update({kind.type.name: first for kind in every})
        self._save(key, kinds if view.machines is not None else [own])
        self.stock.room = 0
        self.assigned.first.append(key)

    def _reservation(self, demand: Demand, kind: Kind) -> backfill.Reservation:
        """What a gang has that waits until others have ended."""
        view = self.view
        ends = backfill.ends_of(view, self.pool, self.kept, self.now) + self.ends
        if view.cluster.spec.provider.type == "Static":
            ends = [end for end in ends if end.kind in (kind.type.name, "")]
            return backfill.reserve(demand, kind.type.name, kind.free, len(kind.free) + kind.coming, ends)
        # A node that nobody has can be ended, of whatever type, for one that the gang wants: only those held count.
        held = sum(_count(one) for one in view.holdings if one.bound and not one.ending)
        held += sum(len(nodes) for nodes in self.kept.values()) + self.held
        return backfill.reserve(demand, kind.type.name, kind.free, view.cluster.spec.max_instances - held, ends)

    def _save(self, key: Key, kinds: list[Kind]) -> None:
        kept = [node.name for kind in kinds for node in (*kind.free, *kind.preparing)]
        self.assigned.saved[key] = frozenset(kept)
        for kind in kinds:
            kind.free, kind.preparing, kind.unseen = [], [], 0
            kind.open.places = []

    def _lack(self, demand: Demand, kinds: list[Kind]) -> str:
        """What keeps a job that may share from the node that comes closest."""
        if not share.shares(self.view.cluster, demand.requests):
            return ""
        mine = {kind.type.name for kind in kinds}
        there = [place for name, place in self.stock.places.items() if self.pool.nodes[name].kind in mine]
        return share.short(there, share.wanted(demand.requests))


def _booting(view: ClusterView, demand: Demand, free: int) -> Wait:
    name = view.cluster.metadata.name
    if scrub.path_of(view.cluster):
        return Wait(
            "NodesBooting",
            f"waiting for {_nodes(demand.count)} of {name}: {free} free, {demand.count - free} booting or being scrubbed",
            f"wait; `stoker compute explain {name}` tells what each node does",
        )
    return Wait(
        "NodesBooting",
        f"waiting for {_nodes(demand.count)} of {name}: {free} free, {demand.count - free} being brought",
        f"wait for them to boot; `kubectl describe computecluster {name}` shows the pool's state and problems",
    )


def _enough(view: ClusterView, demand: Demand, stock: Kind) -> bool:
    """Whether a static pool's usable nodes would do once every job on them has ended."""
    busy = {name for holding in view.holdings for name in holding.nodes if name in view.nodes}
    return len(stock.free) + len(stock.preparing) + len(busy) >= demand.count


def closed(view: ClusterView) -> Wait | None:
    """Why the pool takes no further job, whoever it is."""
    name = view.cluster.metadata.name
    if view.cluster.metadata.deletion_timestamp is not None:
        return Wait("PoolDeleted", f"ComputeCluster/{name} is being deleted", "submit again to another one")
    if view.cluster.spec.paused:
        return Wait(
            "PoolPaused", f"ComputeCluster/{name} is paused", "set spec.paused to false, or submit to another pool"
        )
    return None


def _impossible(view: ClusterView, demand: Demand) -> Wait | None:
    name, most = view.cluster.metadata.name, view.cluster.spec.max_instances
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


def _larger_than_a_node(view: ClusterView, kind: Kind, amounts: share.Amounts) -> Wait:
    name = view.cluster.metadata.name
    over = share.short([share.Place(kind.type.name, dict(kind.fresh))], amounts)
    return Wait(
        "RequestsLargerThanNode",
        f"no node of {name} takes a pod of this job: type {over}",
        f"submit again with lower requests or another instanceType, or correct resources and nodeReserve of "
        f"ComputeCluster/{name}",
    )


def _full(view: ClusterView, demand: Demand, until: str = "", lack: str = "") -> Wait:
    """until: when it has its nodes at the latest. lack: what a part of a node is too small for."""
    name, most = view.cluster.metadata.name, view.cluster.spec.max_instances
    where = f"waiting for {_nodes(demand.count)} of {name}: it may have {most}"
    return Wait(
        "PoolFull",
        f"{where}, and jobs share them; {lack}" if lack else f"{where}, and other jobs have them{until}",
        f"wait, or raise spec.maxInstances of ComputeCluster/{name}",
    )


def _until(by: float | None, now: float) -> str:
    return f" until {times.rfc3339(by)} at the latest, by their limits" if by is not None and by > now else ""


def _turn(view: ClusterView, line: str, first: _First, demand: Demand, nodes: int) -> Wait:
    """nodes: what the namespace of the gang that waits has."""
    one = first.demand
    return Wait(
        TURN,
        f"{line} in line of {view.cluster.metadata.name}; first is {one.namespace}/{one.name}, which waits for "
        f"{_nodes(one.count)}{first.until}: {_precedence(view, first, demand, nodes)}",
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
    name = view.cluster.metadata.name
    if view.machines is not None:
        if view.machines.problem is None:
            return None
        return Wait(
            *view.machines.problem, f"see spec.provider of ComputeCluster/{name}, and what the operator may do there"
        )
    if view.cluster.spec.provider.type != "Scale":
        return None
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
