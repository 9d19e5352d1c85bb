"""The size of a pool of single machines: which are launched, which end, and that no order is given twice or forgotten.

An order is written down in the status first (an intent). Only a pass that finds it in the stored status gives it, under
its token, with which the provider does it once; it is given again until the provider's list shows what came of it. So
whatever dies between two steps, the next pass goes on where it stopped.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import msgspec

from stoker.api import names
from stoker.api.computecluster import Backoff, InstanceType, Intent
from stoker.core import times
from stoker.core.cluster import backoff, pace
from stoker.core.cluster.assign import Growth
from stoker.core.cluster.machines import LaunchFailure, Machine, MachinesView, Past
from stoker.core.cluster.pool import Pool, PoolNode, terminating
from stoker.core.cluster.resize import (
    LAST_LOOK_AFTER,
    SILENT_COUNT,
    Resize,
    free_nodes,
    going_nodes,
    paced,
    too_many_silent,
    wake_of,
)
from stoker.core.cluster.view import ClusterView
from stoker.core.plan import Action, Delete, KeepNode, LaunchMachines, TaintLeaving, TerminateMachines

#: An order whose outcome does not show is given again after so long, in seconds.
AGAIN = 5.0
#: Orders that are open at a time, and machines in one of them.
MOST_INTENTS, MOST_AT_ONCE = 32, 500
#: A pass that writes an order down looks again after so long, to give it; in seconds.
SOON = 0.05
#: When the provider's list is shorter than this part of what it was, none is removed for so long (seconds).
SHRUNK_PART, SHRUNK_SECONDS = 0.5, 900.0


@dataclass(frozen=True, slots=True)
class Orders:
    """intents, launches, backoff: for the status."""

    sizing: Resize
    intents: tuple[Intent, ...] = ()
    launches: int = 0
    backoff: tuple[Backoff, ...] = ()
    past: Past = field(default_factory=Past)


def order(
    view: ClusterView, pool: Pool, needed: frozenset[str], growth: Sequence[Growth], unwanted: Mapping[str, int],
    idle_seconds: float, now: float,
) -> Orders:  # fmt: skip
    """One pass over a pool of machines. needed: nodes that a gang has or is promised. unwanted: machines on their way, by
    type, that nobody waits for any more."""
    status = view.cluster.status
    if pool.replicas is None or view.machines is None:
        # What is there cannot be known now: whatever is done might be done twice, or to the wrong machine.
        return Orders(Resize(replicas=len(pool.nodes)), status.intents, status.launches, status.backoff, view.past)
    book = _Book(view, pool, now)
    for intent in status.intents:
        book.go_on(intent)
    book.halted = _halted(view, pool, now)
    free = free_nodes(view, pool, needed)
    due = [] if book.halted else going_nodes(view, pool, free, idle_seconds, now)
    going = pace.may_go(view, pool, due, now)
    book.let_go([pool.nodes[name] for name in going if pool.nodes[name].machine])
    book.keep([node for node in pool.nodes.values() if node.name not in going])
    if not book.halted:
        book.end([one.id for one in (*pool.astray, *_cancelled(view, pool, needed, unwanted))])
    book.launch(growth)
    book.drop_bare()
    return book.closed(wake_of(view, pool, free, idle_seconds, now))


def learn(view: ClusterView, now: float) -> ClusterView:
    """The view with what came of the open launches in its status' backoff: nothing is asked for before that counts."""
    if view.machines is None or view.machines.problem is not None:
        return view
    status = view.cluster.status
    entries = backoff.still_known(status.backoff, now)
    for intent in status.intents:
        if intent.kind == "Launch" and is_done(view, intent):
            entries = backoff.succeeded(entries, intent)
        elif intent.kind == "Launch" and (failure := failure_of(view, intent, now)) is not None:
            entries = backoff.failed(entries, intent, failure)
    if entries == status.backoff:
        return view
    cluster = msgspec.structs.replace(view.cluster, status=msgspec.structs.replace(status, backoff=entries))
    return replace(view, cluster=cluster)


def is_done(view: ClusterView, intent: Intent) -> bool:
    """Whether all machines of a launch are listed."""
    return view.machines is not None and _listed(view.machines, intent) >= intent.count


def failure_of(view: ClusterView, intent: Intent, now: float) -> LaunchFailure | None:
    """What the provider answered to a launch, or that nothing came of it."""
    failure = next((one for one in view.launch_failures if one.token == intent.token), None)
    patience = view.cluster.spec.scale_up.ready_seconds
    since = times.seconds(intent.since)
    if failure is not None or view.machines is None or since is None or now < since + patience:
        return failure
    words = f"{_listed(view.machines, intent)} of {intent.count} machines are listed after {patience} s"
    return LaunchFailure(intent.token, "Transient", "LaunchNotListed", words, now)


def _listed(view: MachinesView, intent: Intent) -> int:
    return sum(1 for machine in view.machines if machine.token == intent.token)


@dataclass(slots=True)
class _Book:
    """The open orders and what is done about them in one pass."""

    view: ClusterView
    pool: Pool
    now: float
    intents: list[Intent] = field(default_factory=list)
    actions: list[Action] = field(default_factory=list)
    given: dict[str, float] = field(default_factory=dict)
    bare: dict[str, float] = field(default_factory=dict)
    halted: tuple[str, str] | None = None
    launched: int = 0
    ended: int = 0
    number: int = 0
    new: bool = False

    def __post_init__(self) -> None:
        # The counter of a status that was lost would name orders that the provider has done already.
        known = [_number(machine.token) for machine in self.machines]
        self.number = max([self.view.cluster.status.launches, *known])

    @property
    def machines(self) -> tuple[Machine, ...]:
        return self.view.machines.machines if self.view.machines is not None else ()

    # -- what was written down before

    def go_on(self, intent: Intent) -> None:
        """Give an order that stands in the stored status, unless its outcome shows."""
        if intent.kind == "Launch":
            self._go_on_launching(intent)
        else:
            self._go_on_ending(intent)

    def _go_on_launching(self, intent: Intent) -> None:
        if is_done(self.view, intent) or failure_of(self.view, intent, self.now) is not None:
            return
        self.intents.append(intent)
        if self._is_due(intent):
            cluster = self.view.cluster.metadata.name
            self.actions.append(
                LaunchMachines(
                    cluster, intent.token, intent.count, intent.instance_type, intent.tier, intent.atomic, intent.zone
                )
            )

    def _go_on_ending(self, intent: Intent) -> None:
        there = {machine.id for machine in self.machines if machine.state != "Terminating"}
        ids = tuple(one for one in intent.ids if one in there)
        if intent.token not in dict(self.view.past.given):
            # Not given by us yet: a pod that landed meanwhile keeps its node.
            used = self._in_use()
            ids = tuple(one for one in ids if one not in used)
        if not ids:
            return
        intent = msgspec.structs.replace(intent, ids=ids)
        self.intents.append(intent)
        if self._is_due(intent):
            self.actions.append(TerminateMachines(self.view.cluster.metadata.name, intent.token, ids))

    def _in_use(self) -> frozenset[str]:
        """Machines whose node somebody uses, by id."""
        used = {name for holding in self.view.holdings for name in holding.nodes if not holding.ending}
        used |= self.view.occupied
        return frozenset(node.machine for name, node in self.pool.nodes.items() if node.machine and name in used)

    def _is_due(self, intent: Intent) -> bool:
        last = dict(self.view.past.given).get(intent.token)
        due = last is None or self.now >= last + AGAIN
        self.given[intent.token] = self.now if due or last is None else last
        return due

    # -- what is decided now

    def let_go(self, going: Sequence[PoolNode]) -> None:
        """The next look for each node that goes."""
        cluster = self.view.cluster.metadata.name
        self.actions += [
            TaintLeaving(cluster, node.name, int(self.now)) for node in going if node.leaving_since is None
        ]
        self.end(
            [
                node.machine
                for node in going
                if node.leaving_since is not None and self.now >= node.leaving_since + LAST_LOOK_AFTER
            ]
        )

    def keep(self, nodes: Sequence[PoolNode]) -> None:
        """Take back the taint of nodes that do not go after all."""
        cluster = self.view.cluster.metadata.name
        self.actions += [
            KeepNode(cluster, node.name)
            for node in nodes
            if node.leaving_since is not None and not node.counted_out and node.state != "Preempted"
        ]

    def end(self, ids: Sequence[str]) -> None:
        if ids and len(self.intents) < MOST_INTENTS:
            some = tuple(sorted(ids)[:MOST_AT_ONCE])
            self._write(Intent(token=self._token(), kind="Terminate", ids=some, since=times.rfc3339(self.now)))
            self.ended += len(some)

    def launch(self, growth: Sequence[Growth]) -> None:
        """Orders for what gangs and minInstances miss: one for each gang, one for all single nodes of a type."""
        kinds = {kind.name: kind for kind in self.view.cluster.spec.instance_types}
        counts = Counter[str]()
        for one in paced(self.view, self.pool, growth, self.now):
            if one.count > 1:
                self._launch(kinds[one.kind], one.count, gang=True)
            else:
                counts[one.kind] += one.count
        for name, count in counts.items():
            self._launch(kinds[name], min(count, MOST_AT_ONCE), gang=False)

    def _launch(self, kind: InstanceType, count: int, *, gang: bool) -> None:
        if len(self.intents) >= MOST_INTENTS:
            return
        atomic = gang and self.view.machines is not None and self.view.machines.capabilities.atomic
        self._write(
            Intent(
                token=self._token(), kind="Launch", count=count, instance_type=kind.name, tier=kind.tier, atomic=atomic,
                since=times.rfc3339(self.now),
            )
        )  # fmt: skip
        self.launched += count

    def drop_bare(self) -> None:
        """Delete Nodes whose machine has gone: not ready, and missing from two lists."""
        listed_at = self.view.machines.at if self.view.machines is not None else 0.0
        before = dict(self.view.past.bare)
        for name in self.pool.bare:
            since = self.bare[name] = before.get(name, listed_at)
            node = self.pool.nodes[name].node
            if listed_at > since and not _is_ready(self.pool.nodes[name]) and name not in self.view.occupied:
                self.actions.append(Delete("Node", "", name, node.metadata.uid))

    def closed(self, wake_at: float | None) -> Orders:
        view, pool = self.view, self.pool
        assert pool.replicas is not None, "asked only of a pool that can be seen"
        wakes = [wake_at] + [moment + AGAIN for moment in self.given.values()]
        wakes += [times.seconds(one.until) for one in view.cluster.status.backoff] + (
            [self.now + SOON] if self.new else []
        )
        open_tokens = {intent.token for intent in self.intents}
        listed = view.past.listed if self.halted else (_count(view) - self.ended, self.now)
        return Orders(
            Resize(
                tuple(self.actions), pool.replicas + self.launched - self.ended,
                min((moment for moment in wakes if moment is not None and moment > self.now), default=None),
                self.halted,
            ),
            tuple(self.intents), self.number, view.cluster.status.backoff,
            Past(
                tuple((token, at) for token, at in self.given.items() if token in open_tokens), listed,
                tuple(self.bare.items()),
            ),
        )  # fmt: skip

    def _write(self, intent: Intent) -> None:
        self.intents.append(intent)
        self.new = True

    def _token(self) -> str:
        self.number += 1
        metadata = self.view.cluster.metadata
        return f"{metadata.name}-{names.uid8(metadata.uid)}-{self.number}"


def _number(token: str) -> int:
    last = token.rpartition("-")[2]
    return int(last) if last.isascii() and last.isdigit() else 0


def _count(view: ClusterView) -> int:
    """Machines that are there and are to stay."""
    going = terminating(view.cluster)
    machines = view.machines.machines if view.machines is not None else ()
    return sum(1 for one in machines if one.state != "Terminating" and one.id not in going)


def _halted(view: ClusterView, pool: Pool, now: float) -> tuple[str, str] | None:
    """Why nothing is removed now: so much trouble at once is not the machines'."""
    if (told := too_many_silent(pool)) is not None:
        return told
    count, (before, at) = _count(view), view.past.listed
    if before > SILENT_COUNT and count < SHRUNK_PART * before and now < at + SHRUNK_SECONDS:
        words = (
            f"the provider lists {count} machines, a moment ago {before}; none is removed for {SHRUNK_SECONDS:.0f} s"
        )
        return "MachinesVanished", words
    return None


def _cancelled(view: ClusterView, pool: Pool, needed: frozenset[str], unwanted: Mapping[str, int]) -> Sequence[Machine]:
    """The machines on their way that end: the youngest first, none that a gang waits for by name."""
    left = dict(unwanted)
    going = terminating(view.cluster)
    at = {node.machine: node for node in pool.nodes.values() if node.machine}
    found = []
    machines = view.machines.machines if view.machines is not None else ()
    for machine in sorted(machines, key=lambda one: (-one.launched_at, one.id)):
        node = at.get(machine.id)
        boots = machine.state == "Booting" and (node is None or (node.state == "Preparing" and node.name not in needed))
        if boots and machine.id not in going and left.get(machine.instance_type, 0) > 0:
            left[machine.instance_type] -= 1
            found.append(machine)
    return found


def _is_ready(node: PoolNode) -> bool:
    return any(one.type == "Ready" and one.status == "True" for one in node.node.status.conditions)
