"""A pool in virtual time whose every decision is the product's own (stoker.core.cluster.decide).

Jobs come as in a trace, nodes boot in a fixed time, and what a decision says is done at once. A node is paid from the
moment it is asked for until it is taken off the pool's size.
"""

import heapq
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice, takewhile
from typing import Any

import msgspec

from stoker.api.computecluster import ComputeCluster
from stoker.api.kube import Node
from stoker.core.cluster import ahead
from stoker.core.cluster.decide import Decision, decide
from stoker.core.cluster.learned import Rhythm
from stoker.core.cluster.pool import Pool, PoolNode
from stoker.core.cluster.resize import LAST_LOOK_AFTER
from stoker.core.cluster.view import ClusterView, Demand, Holding, ScaleView
from stoker.core.plan import KeepNode, MarkForDeletion, ScaleTo, TaintLeaving
from tools.replaying.trace import Job

#: When the trace begins: seconds since the epoch.
START = 1_700_000_000.0
#: So many of the jobs that wait are shown to a decision at first, and twice as many until one of them is left behind:
#: whoever comes after that one is left behind as well.
SHOWN = 32
TYPE = "node"
_ANY = msgspec.convert({"metadata": {"name": "any"}}, Node)


def cluster(name: str, most: int, idle: float | None, **spec: Any) -> ComputeCluster:
    """idle: seconds of a fixed timer; None: learned."""
    policy = {"idlePolicy": "Learned"} if idle is None else {"idleSecondsBeforeScaleDown": round(idle)}
    selector = {"pool": name}
    scale = {"apiVersion": "v1", "kind": "Pool", "name": name, "nodeSelector": selector}
    members = {
        "provider": {"type": "Scale", "scale": scale}, "maxInstances": most, "allowedNamespaces": {},
        "instanceTypes": [{"name": TYPE}], **policy, **spec,
    }  # fmt: skip
    return msgspec.convert({"metadata": {"name": name}, "spec": members}, ComputeCluster)


@dataclass(slots=True)
class Outcome:
    """What a replay came to, in seconds and node-seconds. waits: of each job that started. over_held: node-seconds of
    nodes without a job that were kept longer than their idle time and than partialHoldSeconds after a gang came to wait
    for nodes that others have."""

    node_seconds: float = 0.0
    waits: list[float] = field(default_factory=list)
    unstarted: int = 0
    peak: int = 0
    over_held: float = 0.0


@dataclass(slots=True)
class _Machine:
    asked: float
    free_since: float = 0.0
    leaving_since: float | None = None
    promised_until: float = 0.0


class Replay:
    """cancels: a boot that nobody waits for any more is ended, as a provider of single machines does; a pool of type Scale
    cannot name a machine that is not there yet."""

    def __init__(self, pool: ComputeCluster, jobs: Sequence[Job], boot: float, *, cancels: bool = True) -> None:
        self.pool, self.jobs, self.boot, self.cancels = pool, jobs, boot, cancels
        self.now = START
        self.outcome = Outcome()
        self.machines: dict[str, _Machine] = {}
        self.idle: dict[str, _Machine] = {}
        self.busy: dict[int, tuple[str, ...]] = {}
        self.waiting: deque[tuple[int, Demand]] = deque()
        self.freed_at: Mapping[str, float] = {}
        self.first: tuple[tuple[str, int], ...] = ()
        self.kept_since: Mapping[tuple[str, int], float] = {}
        self.rhythm = Rhythm()
        self._events: list[tuple[float, int, str]] = []  # moment, job that ends or -1, node that is ready
        self._named = 0
        self._marked: list[str] = []
        self._promised: frozenset[str] = frozenset()
        self._blocked: dict[tuple[str, int], float] = {}
        self._kept_until = 0.0

    def run(self) -> Outcome:
        """Until every job has ended and every node has gone, or nothing can happen any more."""
        arrivals = deque(enumerate(self.jobs))
        wake: float | None = None
        while arrivals or self._events or wake is not None:
            moments = [START + arrivals[0][1].submitted] if arrivals else []
            moments += [self._events[0][0]] if self._events else []
            moments += [wake] if wake is not None else []
            self.now = min(moments)
            while self._events and self._events[0][0] <= self.now:
                self._happen(*heapq.heappop(self._events)[1:])
            while arrivals and START + arrivals[0][1].submitted <= self.now:
                self._submit(*arrivals.popleft())
            wake = self._settle()
        self.outcome.unstarted = len(self.waiting)
        return self.outcome

    def _submit(self, number: int, job: Job) -> None:
        demand = Demand(f"{number:08d}", self.pool.metadata.name, job.name, 1, job.nodes, self.now)
        self.waiting.append((number, demand))

    def _happen(self, number: int, node: str) -> None:
        for name in self.busy.pop(number) if number >= 0 else (node,) if node in self.machines else ():
            machine = self.machines[name]
            machine.free_since = self.now
            self.idle[name] = machine

    def _settle(self) -> float | None:
        """Decide and do until nothing more is to be done at this moment; when to look again."""
        while True:
            made = self._decide()
            self.freed_at, self.kept_since, self.rhythm = made.freed_at, made.kept_since, made.rhythm
            self.first = tuple(made.assigned.first)
            self._note_first(made)
            self._start(made)
            self._resize(made)
            self._cancel(sum(made.unwanted.values()))
            if not made.sizing.actions:
                return made.wake_at

    def _decide(self) -> Decision:
        shown = SHOWN
        while True:
            view = self.view(shown)
            made = decide(view, self.seen(), {}, self.now, ends_boots=self.cancels)
            if shown >= len(self.waiting) or made.assigned.behind or made.assigned.saved:
                return made
            shown *= 2

    def view(self, shown: int) -> ClusterView:
        """What is decided on. Nodes with a job are told by their number alone: that is what makes a replay quick."""
        demands = [demand for _, demand in islice(self.waiting, shown)]
        # Those that came a moment ago make a burst, wherever they stand in the line.
        left = islice(reversed(self.waiting), max(0, len(self.waiting) - shown))
        demands += [demand for _, demand in takewhile(lambda one: one[1].since > self.now - ahead.WINDOW, left)]
        in_use = sum(map(len, self.busy.values()))
        return ClusterView(
            self.pool, demands=tuple(demands),
            holdings=(Holding("busy", 0, (), count=in_use, namespace=self.pool.metadata.name),),
            scale=ScaleView(len(self.machines)), first=self.first, kept_since=self.kept_since, rhythm=self.rhythm,
        )  # fmt: skip

    def seen(self) -> Pool:
        in_use = sum(map(len, self.busy.values()))
        nodes = {
            name: PoolNode(name, _ANY, TYPE, "Idle", machine.free_since, machine.leaving_since)
            for name, machine in self.idle.items()
        }
        coming = len(self.machines) - len(self.idle) - in_use
        return Pool(nodes, len(self.machines), {TYPE: coming} if coming else {})

    def _start(self, made: Decision) -> None:
        if not made.assigned.nodes:
            return
        left: deque[tuple[int, Demand]] = deque()
        for number, demand in self.waiting:
            nodes = made.assigned.nodes.get((demand.uid, 1))
            if nodes is None:
                left.append((number, demand))
                continue
            for name in nodes:
                del self.idle[name]
            self.busy[number] = nodes
            self.outcome.waits.append(self.now - demand.since)
            heapq.heappush(self._events, (self.now + self.jobs[number].seconds, number, ""))
        self.waiting = left

    def _resize(self, made: Decision) -> None:
        for action in made.sizing.actions:
            match action:
                case TaintLeaving(_, node, since):
                    self.machines[node].leaving_since = float(since)
                case KeepNode(_, node):
                    self.machines[node].leaving_since = None
                case MarkForDeletion(_, node):
                    self._marked.append(node)
                case ScaleTo(_, before, after) if after > before:
                    self._launch(after - before)
                case ScaleTo(_, before, after):
                    assert len(self._marked) == before - after, "a pool shrinks only by nodes that were named"
                    self._remove()
                case _:
                    raise AssertionError(f"a pool of this kind is not told {action}")

    def _launch(self, count: int) -> None:
        for name in self._names(count):
            self.machines[name] = _Machine(self.now)
            heapq.heappush(self._events, (self.now + self.boot, -1, name))
        self.outcome.peak = max(self.outcome.peak, len(self.machines))

    def _cancel(self, count: int) -> None:
        """End the youngest machines that boot, which nobody waits for any more."""
        in_use = {name for nodes in self.busy.values() for name in nodes} if count else ()
        boots = (
            []
            if not count
            else [name for name in reversed(self.machines) if name not in self.idle and name not in in_use]
        )
        for name in boots[:count]:
            self.outcome.node_seconds += self.now - self.machines.pop(name).asked

    def _names(self, count: int) -> Iterator[str]:
        for _ in range(count):
            self._named += 1
            yield f"n{self._named:06d}"

    def _remove(self) -> None:
        spec = self.pool.spec
        idle = spec.max_idle_seconds if spec.idle_policy == "Learned" else spec.idle_seconds_before_scale_down
        for name in self._marked:
            machine = self.idle.pop(name)
            self.outcome.node_seconds += self.now - machine.asked
            # A second more: moments are cut to the second in a node's taint.
            due = max(machine.free_since + idle, machine.promised_until, self._kept_until) + LAST_LOOK_AFTER + 1.0
            self.outcome.over_held += max(0.0, self.now - due)
            del self.machines[name]
        self._marked.clear()

    def _note_first(self, made: Decision) -> None:
        """Until when nodes may be kept for a gang: whose other nodes boot, or (for its hold) have jobs. By our own clock."""
        for name in self._promised & self.idle.keys():
            self.idle[name].promised_until = self.now
        self._promised = frozenset(made.assigned.needed)
        hold = self.pool.spec.scale_up.partial_hold_seconds
        self._blocked = {key: self._blocked.get(key, self.now) for key in made.assigned.saved}
        if self._blocked:
            self._kept_until = max(since + hold for since in self._blocked.values())
