"""A cloud of single machines in virtual time, and an operator that can be killed between any two of its steps.

It knows what a provider promises, and nothing of how plans are made.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import msgspec

from stoker.api import names
from stoker.api.computecluster import ComputeCluster
from stoker.api.kube import KubeCondition, Node, Taint
from stoker.core import cluster as pools
from stoker.core import times
from stoker.core.cluster.machines import Capabilities, LaunchFailure, LaunchFault, Machine, MachinesView
from stoker.core.cluster.view import ClusterPlan, ClusterView, Demand, Holding, Quota
from stoker.core.plan import (
    Action,
    AdoptNode,
    Delete,
    HoldCluster,
    KeepNode,
    LaunchMachines,
    ReleaseCluster,
    TaintLeaving,
    TaintPreempted,
    TerminateMachines,
)
from tests.support import build

BOOT, ENDING = 60.0, 20.0


class Killed(Exception):
    """The operator dies here."""


@dataclass
class Cloud:
    """One pool, its provider, its nodes and the jobs on them.

    capacity: machines that the provider has in all. faults: launches of a type fail so. unlisted: it cannot be listed.
    atomic: it launches n or none. no_node: machines launched from now on never become a node. peak: the most machines at
    a time. removed: nodes that went, with the jobs that had them.
    """

    pool: ComputeCluster
    now: float = build.T0
    capacity: int = 1000
    faults: dict[str, LaunchFault] = field(default_factory=dict)
    unlisted: bool = False
    hidden: set[str] = field(default_factory=set)
    atomic: bool = False
    no_node: bool = False
    machines: dict[str, Machine] = field(default_factory=dict)
    nodes: dict[str, Node] = field(default_factory=dict)
    waiting: dict[str, Demand] = field(default_factory=dict)
    holdings: dict[str, Holding] = field(default_factory=dict)
    foreign: set[str] = field(default_factory=set)
    quotas: dict[str, Quota] = field(default_factory=dict)
    tokens: dict[str, int] = field(default_factory=dict)
    removed: list[tuple[str, str]] = field(default_factory=list)
    launches: list[LaunchMachines] = field(default_factory=list)
    peak: int = 0
    plan: ClusterPlan | None = None
    #: Steps that the operator still does before it dies; None: it lives.
    steps: int | None = None
    failures: dict[str, LaunchFailure] = field(default_factory=dict)
    memory: dict[str, Any] = field(default_factory=dict)
    _dead_nodes: set[str] = field(default_factory=set)
    _ends: dict[str, float] = field(default_factory=dict)
    _jobs: int = 0

    # -- What people and the world do.

    def submit(self, count: int, *, kind: str | None = None) -> str:
        self._jobs += 1
        uid = f"job{self._jobs}"
        self.waiting[uid] = Demand(uid, "team", uid, 1, count, self.now, instance_type=kind)
        return uid

    def end(self, uid: str) -> None:
        """A job ends, or is cancelled while it waits."""
        self.waiting.pop(uid, None)
        self.holdings.pop(uid, None)

    def pass_time(self, seconds: float) -> None:
        self.now += seconds
        for machine in list(self.machines.values()):
            self._live(machine)

    def _live(self, machine: Machine) -> None:
        if machine.state == "Terminating":
            if self.now >= self._ends[machine.id]:
                del self.machines[machine.id]
                self._node_goes(machine.node)
        elif (
            machine.state == "Booting" and self.now >= machine.launched_at + BOOT and machine.id not in self._dead_nodes
        ):
            node = f"node-{machine.id}"
            self.machines[machine.id] = replace(machine, state="Running", node=node)
            since = self.now - build.T0
            labels = {names.LABEL_MACHINE: machine.id}
            self.nodes[node] = build.node(node, created=since, since=since, labels=labels)

    def vanish(self, machine_id: str) -> None:
        """A machine goes without a word; its Node stays and falls silent."""
        machine = self.machines.pop(machine_id)
        if machine.node in self.nodes:
            self.silence(machine.node)

    def silence(self, node: str) -> None:
        """A node's kubelet stops talking."""
        told = KubeCondition(
            type="Ready", status="Unknown", reason="NodeStatusUnknown", last_transition_time=times.rfc3339(self.now)
        )
        found = self.nodes[node]
        status = msgspec.structs.replace(found.status, conditions=(told,))
        self.nodes[node] = msgspec.structs.replace(found, status=status)

    def preempt(self, machine_id: str) -> None:
        self.machines[machine_id] = replace(self.machines[machine_id], state="Preempted")

    def _node_goes(self, node: str) -> None:
        if self.nodes.pop(node, None) is None:
            return
        users = [uid for uid, holding in self.holdings.items() if node in holding.nodes]
        self.removed += [(node, uid) for uid in (*users, *(["foreign"] if node in self.foreign else []))]
        self.foreign.discard(node)

    # -- What the operator does.

    def restart(self) -> None:
        """What it held in memory is gone; what is in the API server and at the provider stays."""
        self.memory.clear()
        self.failures.clear()
        self.steps = None

    def operate(self, passes: int = 1) -> None:
        """So many passes. When the operator is to die, it does, and is started again."""
        for _ in range(passes):
            try:
                self._pass()
            except Killed:
                self.restart()

    def view(self) -> ClusterView:
        kept = {intent.token for intent in self.pool.status.intents}
        self.failures = {token: one for token, one in self.failures.items() if token in kept}
        listed = tuple(one for one in self.machines.values() if one.id not in self.hidden)
        problem = ("Unreachable", "the provider does not answer") if self.unlisted else None
        return ClusterView(
            cluster=self.pool, nodes=dict(self.nodes), demands=tuple(self.waiting.values()),
            holdings=tuple(self.holdings.values()), occupied=frozenset(self.foreign),
            machines=MachinesView(() if problem else listed, Capabilities(atomic=self.atomic), problem, at=self.now),
            launch_failures=tuple(self.failures.values()), quotas=self.quotas, **self.memory,
        )  # fmt: skip

    def _pass(self) -> None:
        self.plan = plan = pools.plan(self.view(), self.now)
        self.memory = {
            "freed_at": plan.freed_at, "first": plan.first, "kept_since": plan.kept_since, "rhythm": plan.rhythm,
            "past": plan.past, "meter": plan.meter,
        }  # fmt: skip
        for action in plan.plan.actions:
            self._step()
            self._do(action)
        if plan.plan.status is not None:
            self._step()
            self.pool = msgspec.structs.replace(self.pool, status=plan.plan.status)
        for (uid, attempt), nodes in plan.assignments.items():
            # The child's POST is what makes it durable.
            self._step()
            if (demand := self.waiting.pop(uid, None)) is not None:
                assert len(nodes) == demand.count
                assert set(nodes) <= self.nodes.keys()
                self.holdings[uid] = Holding(uid, attempt, nodes, namespace=demand.namespace)

    def _step(self) -> None:
        if self.steps is not None:
            if self.steps == 0:
                raise Killed
            self.steps -= 1

    def _do(self, action: Action) -> None:
        match action:
            case LaunchMachines():
                self._launch(action)
            case TerminateMachines(ids=ids):
                for one in ids:
                    self._terminate(one)
            case TaintLeaving(node=node, since=since):
                self._taint(node, (Taint(key=names.TAINT_LEAVING, value=str(since), effect="NoSchedule"),))
            case TaintPreempted(node=node):
                self._taint(node, (Taint(key=names.TAINT_PREEMPTED, effect="NoExecute"),))
            case KeepNode(node=node):
                self._taint(node, ())
            case AdoptNode():
                pass
            case HoldCluster(uid=uid):
                assert uid == self.pool.metadata.uid
                self._finalizers(names.FINALIZER_MACHINES)
            case ReleaseCluster(uid=uid):
                assert not self.machines, "released with machines left"
                self._finalizers()
            case Delete(kind="Node", name=name):
                self._node_goes(name)
            case _:
                raise AssertionError(f"a pool of machines is not told {action}")

    def _finalizers(self, *finalizers: str) -> None:
        metadata = msgspec.structs.replace(self.pool.metadata, finalizers=finalizers)
        self.pool = msgspec.structs.replace(self.pool, metadata=metadata)

    def delete_pool(self) -> None:
        """Somebody deletes the ComputeCluster; it goes when it has no finalizer."""
        metadata = msgspec.structs.replace(self.pool.metadata, deletion_timestamp=times.rfc3339(self.now))
        self.pool = msgspec.structs.replace(self.pool, metadata=metadata)

    @property
    def gone(self) -> bool:
        """Whether the ComputeCluster has been deleted and nothing holds it."""
        metadata = self.pool.metadata
        return metadata.deletion_timestamp is not None and not metadata.finalizers

    def _launch(self, order: LaunchMachines) -> None:
        assert names.FINALIZER_MACHINES in self.pool.metadata.finalizers, "launched without a hold on the pool"
        self.launches.append(order)
        missing = order.count - self.tokens.get(order.token, 0)
        room = max(0, self.capacity - sum(1 for one in self.machines.values() if one.state != "Terminating"))
        if (fault := self.faults.get(order.instance_type)) is not None:
            self._fail(order, fault, "refused")
            return
        if missing > room:
            count = 0 if order.atomic else room
            self._make(order, count)
            self._fail(order, "Capacity", "no more of these")
            return
        self._make(order, missing)

    def _make(self, order: LaunchMachines, count: int) -> None:
        for _ in range(count):
            number = self.tokens[order.token] = self.tokens.get(order.token, 0) + 1
            made = f"{order.token}-{number}"
            assert order.tier in ("Dedicated", "Spot")
            tier: Any = order.tier
            self.machines[made] = Machine(made, order.instance_type, tier, "Booting", self.now, token=order.token)
            if self.no_node:
                self._dead_nodes.add(made)
        self.peak = max(self.peak, sum(1 for one in self.machines.values() if one.state != "Terminating"))

    def _fail(self, order: LaunchMachines, fault: LaunchFault, message: str) -> None:
        launched = self.tokens.get(order.token, 0)
        self.failures[order.token] = LaunchFailure(order.token, fault, f"Code{fault}", message, self.now, launched)

    def _terminate(self, machine_id: str) -> None:
        machine = self.machines.get(machine_id)
        if machine is None or machine.state == "Terminating":
            return
        users = [uid for uid, holding in self.holdings.items() if machine.node in holding.nodes]
        assert not users, f"{machine_id} is terminated under {users}"
        self.machines[machine_id] = replace(machine, state="Terminating")
        self._ends[machine_id] = self.now + ENDING

    def _taint(self, name: str, taints: tuple[Taint, ...]) -> None:
        node = self.nodes.get(name)
        if node is not None:
            changed = {names.TAINT_LEAVING, *(taint.key for taint in taints)}
            own = tuple(taint for taint in node.spec.taints if taint.key not in changed)
            spec = msgspec.structs.replace(node.spec, taints=(*own, *taints))
            self.nodes[name] = msgspec.structs.replace(node, spec=spec)

    # -- What is asked of it.

    @property
    def alive(self) -> list[Machine]:
        return [one for one in self.machines.values() if one.state in ("Booting", "Running")]

    def reason(self, uid: str) -> str:
        """Why a job waits, by the last pass."""
        assert self.plan is not None
        return self.plan.waits[uid, 1].reason

    def settle(self, seconds: float = 600.0, every: float = 2.0) -> None:
        """Pass after pass while time goes by."""
        for _ in range(int(seconds / every)):
            self.operate()
            self.pass_time(every)


def cloud(**spec: Any) -> Cloud:
    """A pool of simulated machines: most 4, least 0, idle time 30 s."""
    members: Mapping[str, Any] = {"most": 4, "idle": 30, **spec}
    return Cloud(build.cluster("cpu", provider="Kwok", **members))
