"""Who may start on idle nodes ahead of the gang that is first in line, so that this one gets its nodes no later for it.

The first in line has a reservation: when, by the limits of the jobs that run, enough nodes are free for it at the latest,
and how many are left over then. A later gang may start now on nodes that are idle if its own limit ends before that, or if
it takes no more than what is left over (EASY backfilling: Lifka, JSSPP 1995). A job without a limit never counts as ending.
Jobs that end before their limits would have let the first in line start earlier than it was told; that is not promised.
"""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from stoker.core import times
from stoker.core.cluster.pool import Pool, PoolNode
from stoker.core.cluster.view import ClusterView, Demand


@dataclass(frozen=True, slots=True)
class End:
    """Nodes of one kind that have a job until `at` at the latest (seconds since the epoch). kind: empty where it is not
    known. sound: how many of them can take another job then, as far as can be seen."""

    at: float
    kind: str
    count: int
    sound: int


@dataclass(slots=True)
class Reservation:
    """What is kept for the first in line. free: idle nodes, the newest-freed last. by: when its nodes are free at the
    latest, in seconds since the epoch; None: nobody can tell. over: how many sound ones are left then."""

    first: Demand
    free: list[PoolNode]
    by: float | None = None
    over: int = 0

    def admit(self, demand: Demand, now: float, between: float = 0.0) -> tuple[tuple[str, ...], str] | None:
        """Nodes for a gang that may start now, taken from what is kept, and why it may; None where it may not. between:
        seconds that a node may need after a job before it can take another."""
        if self.by is None or demand.count > len(self.free):
            return None
        usable = [node for node in self.free if node.name not in demand.avoid] if demand.avoid else self.free
        if demand.count > len(usable):
            return None
        ahead = f"it goes ahead of {self.first.namespace}/{self.first.name}, which is first in line"
        if demand.seconds is not None and now + demand.seconds + between <= self.by:
            why = f"{ahead}: it ends before enough nodes for that one are free, at {times.rfc3339(self.by)}"
        elif demand.count <= self.over:
            self.over -= demand.count
            why = f"{ahead}: that one needs {self.first.count} of the nodes that are free at {times.rfc3339(self.by)}, and others are left"
        else:
            return None
        given = [node.name for node in usable[-demand.count :]]
        if usable is self.free:
            del self.free[-demand.count :]
        else:
            self.free = [node for node in self.free if node.name not in given]
        return tuple(reversed(given)), why


def reserve(demand: Demand, kind: str, free: list[PoolNode], there: int, ends: Iterable[End]) -> Reservation:
    """What is kept for a gang that waits until others have ended. there: nodes that it could have now, or soon without
    anybody's end. ends: when others fall free, as far as that is known."""
    if there >= demand.count:
        # What it waits for is no end of a job, so nobody knows when it comes.
        return Reservation(demand, free)
    by, sound = None, len(free)
    for end in sorted(ends, key=lambda one: one.at):
        if by is not None and end.at > by:
            break
        there += end.count
        sound += end.sound if end.kind == kind else 0
        if by is None and there >= demand.count:
            by = end.at
    return Reservation(demand, free, by, max(0, min(there, sound) - demand.count) if by is not None else 0)


def ends_of(view: ClusterView, pool: Pool, kept: Mapping[tuple[str, int], tuple[str, ...]], now: float) -> list[End]:
    """When the nodes that attempts have fall free, as far as their jobs have limits. kept: nodes of those that have no
    child yet."""
    found = []
    for holding in view.holdings:
        if holding.bound and not holding.ending and holding.ends_at is not None:
            found += _ends(pool, holding.ends_at, holding.nodes, holding.count - len(holding.nodes))
    for demand in view.demands:
        nodes = kept.get((demand.uid, demand.attempt))
        if nodes is not None and demand.seconds is not None:
            found += _ends(pool, now + demand.seconds, nodes, 0)
    return found


def _ends(pool: Pool, at: float, nodes: tuple[str, ...], unplaced: int) -> list[End]:
    seen = [pool.nodes[name] for name in nodes if name in pool.nodes]
    counts = Counter(node.kind for node in seen)
    sound = Counter(node.kind for node in seen if node.state in ("Running", "Idle") and node.problem is None)
    ends = [End(at, kind, count, sound[kind]) for kind, count in counts.items()]
    others = unplaced + len(nodes) - len(seen)
    return [*ends, End(at, "", others, 0)] if others > 0 else ends
