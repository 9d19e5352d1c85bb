"""Nodes that several jobs share (`sharing: Requests`): what is left on each, and where a job's pods fit.

A job that says what its pods need may have a part of a node; one that does not takes a whole one, alone. A gang's pods come
on as many nodes, one on each. Amounts are whole thousandths: what is asked for rounded up, what is offered rounded down.
"""

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from functools import lru_cache

from stoker.api.computecluster import ComputeCluster, InstanceType
from stoker.core import units
from stoker.core.cluster.pool import Pool, PoolNode
from stoker.core.cluster.view import ClusterView, Demand
from stoker.core.podspec import pod_requests

#: Amounts by resource, in thousandths.
Amounts = Mapping[str, int]
Key = tuple[str, int]
#: Of a resource that nobody limits: how many pods a node takes, where it does not say.
_NO_LIMIT = 10**12


@dataclass(slots=True, eq=False)
class Place:
    """A node with what is left on it. name: empty while it is on its way and has no Node yet. used: pods of jobs have a part
    of it, or are given one. coming: it cannot take a pod yet."""

    name: str
    left: dict[str, int]
    used: bool = False
    coming: bool = False

    def fits(self, wanted: Amounts) -> bool:
        return fits(self.left, wanted)

    def take(self, wanted: Amounts) -> None:
        self.used = True
        for name, amount in wanted.items():
            self.left[name] = self.left.get(name, 0) - amount


@dataclass(slots=True)
class Open:
    """The places of one kind of node that have a part left, in the order in which they are filled. least: what any pod that
    is still to be placed needs at least; a place that has less of something is looked at no more."""

    least: Amounts = field(default_factory=dict)
    places: list[Place] = field(default_factory=list)

    def add(self, place: Place) -> None:
        if place.fits(self.least):
            self.places.append(place)

    def find(self, wanted: Amounts, count: int, avoid: Collection[str], *, coming: bool = False) -> list[Place]:
        """The first places that fit, at most so many. coming: those that cannot take a pod yet, too."""
        found = []
        for place in self.places:
            if place.fits(wanted) and (coming or not place.coming) and place.name not in avoid:
                found.append(place)
                if len(found) == count:
                    break
        return found

    def take(self, places: Iterable[Place], wanted: Amounts) -> None:
        """Give a part of each of these places, of which some may be new."""
        known = set(map(id, self.places))
        for place in places:
            place.take(wanted)
            if id(place) not in known:
                self.add(place)
            elif not place.fits(self.least):
                self.places.remove(place)


def fits(left: Amounts, wanted: Amounts) -> bool:
    for name, amount in wanted.items():  # noqa: SIM110 - asked a million times in a pass
        if amount > left.get(name, 0):
            return False
    return True


def is_allowed(cluster: ComputeCluster) -> bool:
    """Whether jobs may share nodes of a pool."""
    return cluster.spec.sharing == "Requests" and cluster.spec.provider.owns_nodes


def shares(cluster: ComputeCluster, requests: tuple[tuple[str, str], ...]) -> bool:
    """Whether a job with these requests takes a part of a node, not a whole one."""
    return bool(requests) and is_allowed(cluster)


@lru_cache(maxsize=4096)  # jobs of a team ask for the same over and over
def wanted(requests: tuple[tuple[str, str], ...]) -> Amounts:
    """What one pod of a job takes of its node, all its containers together."""
    return {"pods": 1000, **{name: -int(-amount * 1000 // 1) for name, amount in pod_requests(dict(requests)).items()}}


def least(demands: Iterable[Demand]) -> Amounts:
    """What any pod of these jobs needs at least."""
    needs = [wanted(requests) for requests in {demand.requests for demand in demands if demand.requests}]
    common = set(needs[0]).intersection(*needs) if needs else set[str]()
    return {name: min(amounts[name] for amounts in needs) for name in common}


def fresh(cluster: ComputeCluster, kind: InstanceType) -> dict[str, int]:
    """What a node of a type is to have for jobs once it is there."""
    return _left(kind.resources, cluster.spec.node_reserve, {})


def places(view: ClusterView, pool: Pool, kept: Mapping[Key, tuple[str, ...]]) -> dict[str, Place]:
    """The nodes that could take a pod of a job that shares, by name: those without a job, and those on which every job
    shares. kept: assignments of earlier plans that hold."""
    found = {node.name: Place(node.name, _offered(view, node)) for node in pool.nodes.values() if _is_usable(node)}
    asked = {(demand.uid, demand.attempt): demand.requests for demand in view.demands}
    held = [(holding.nodes, holding.requests) for holding in view.holdings if holding.bound]
    held += [(nodes, asked.get(key, ())) for key, nodes in kept.items()]
    for nodes, requests in held:
        for name in nodes:
            if not requests:
                found.pop(name, None)
            elif (place := found.get(name)) is not None:
                place.take(wanted(requests))
    return found


def carried(view: ClusterView, pool: Pool) -> Iterator[tuple[Key, tuple[str, ...]]]:
    """Assignments without a child that still hold, on a pool that jobs share."""
    demands = {(demand.uid, demand.attempt): demand for demand in view.demands}
    there, done = places(view, pool, {}), set[Key]()
    for holding in view.holdings:
        key, nodes = (holding.uid, holding.attempt), set(holding.nodes)
        demand = demands.get(key)
        if holding.bound or demand is None or key in done:
            continue
        if not len(nodes) == len(holding.nodes) == demand.count or not nodes <= there.keys():
            continue
        mine = [there[name] for name in holding.nodes]
        if not demand.requests and not any(place.used for place in mine):
            for name in holding.nodes:
                del there[name]
        elif demand.requests and all(place.fits(wanted(demand.requests)) for place in mine):
            for place in mine:
                place.take(wanted(demand.requests))
        else:
            continue
        done.add(key)
        yield key, holding.nodes


def fits_empty(view: ClusterView, pool: Pool, kinds: Collection[str], amounts: Amounts) -> bool:
    """Whether any of the nodes of these kinds that are there takes such a pod once no job is on it."""
    return any(
        Place(node.name, _offered(view, node)).fits(amounts)
        for node in pool.nodes.values()
        if node.kind in kinds and _is_usable(node)
    )


def short(places: Iterable[Place], amounts: Amounts) -> str:
    """What the place that comes closest lacks, for people; empty where there is none, or one fits."""
    ranked = [(sorted(name for name in amounts if place.left.get(name, 0) < amounts[name]), place) for place in places]
    best = min(
        ranked,
        key=lambda one: (len(one[0]), sum(amounts[n] - one[1].left.get(n, 0) for n in one[0]), one[1].name),
        default=None,
    )
    if best is None or not best[0]:
        return ""
    lacking, place = best
    parts = [f"{_said(name, place.left.get(name, 0))} of {_said(name, amounts[name])} {name}" for name in lacking]
    return f"{place.name} comes closest, with {', '.join(parts)}"


def _said(name: str, amount: int) -> str:
    return units.quantity(name, Fraction(max(0, amount), 1000))


def _is_usable(node: PoolNode) -> bool:
    return node.state in ("Idle", "Running") and node.problem is None and not node.counted_out


def _offered(view: ClusterView, node: PoolNode) -> dict[str, int]:
    """What a node that is there has for jobs."""
    others = dict(view.others.get(node.name, ()))
    return _left(node.node.status.allocatable, view.cluster.spec.node_reserve, others)


def _left(offered: Mapping[str, str], reserve: Mapping[str, str], others: Mapping[str, str]) -> dict[str, int]:
    """What stays for jobs. others: what pods of others ask for; some of what is kept for daemons may not be there yet."""
    left = {"pods": _NO_LIMIT}
    for name, amount in offered.items():
        gone = max((units.parse(part[name]) for part in (reserve, others) if name in part), default=0)
        left[name] = int((units.parse(amount) - gone) * 1000 // 1)
    return left
