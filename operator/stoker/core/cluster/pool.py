"""What is seen of a pool: each node's state, and how many nodes are promised but not there yet."""

import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Literal

from stoker.api import names
from stoker.api.computecluster import ComputeCluster, InstanceType
from stoker.api.kube import KubeCondition, Node
from stoker.core import times, units
from stoker.core.cluster import scrub
from stoker.core.cluster.machines import Machine
from stoker.core.cluster.view import ClusterView
from stoker.core.nodes import is_taken_back

State = Literal["Idle", "Running", "Preparing", "Unusable", "Leaving", "Preempted"]

#: A node whose readiness changed no later than this after it appeared was never ready, in seconds.
BOOT_SETTLES = 60.0
#: The oldest kubelet that runs our pods: its native sidecars are what saves a run.
OLDEST_KUBELET = "1.29"
#: What a node says of itself when it is short of something: its kubelet evicts pods and refuses new ones meanwhile.
_PRESSURES = ("DiskPressure", "MemoryPressure", "PIDPressure")


@dataclass(frozen=True, slots=True)
class PoolNode:
    """A node and what it is good for.

    kind: name of its instance type. free_since: when it lost its last job or became ready, in seconds since the epoch;
    None for a node with a job or without readiness. leaving_since: when it was tainted to go. marked: the replicas that
    its deletion mark names. counted_out: the pool's replicas no longer count it; it goes, whatever we do. problem: what
    is wrong with it: a reason and a message. ready_by: when a node that boots counts as unusable. machine: what it is at
    a provider of single machines, by id; empty where it is none. dirty: what it needs before its scratch
    path is known to be clean.
    """

    name: str
    node: Node
    kind: str
    state: State
    free_since: float | None = None
    leaving_since: float | None = None
    marked: int | None = None
    counted_out: bool = False
    problem: tuple[str, str] | None = None
    ready_by: float | None = None
    machine: str = ""
    dirty: scrub.Look | None = None


@dataclass(frozen=True, slots=True)
class Pool:
    """The nodes of a pool.

    replicas: how many nodes there are or will be: what its scalable object wants, or the provider's machines and those
    that were ordered; None where there is neither or it cannot be read. coming: nodes that have no Node yet, by type.
    astray: machines that have had no Node for too long. bare: nodes whose machine has gone.
    """

    nodes: Mapping[str, PoolNode]
    replicas: int | None
    coming: Mapping[str, int] = field(default_factory=dict)
    astray: tuple[Machine, ...] = ()
    bare: tuple[str, ...] = ()

    @property
    def unseen(self) -> int:
        """Nodes that are wanted and have no Node yet."""
        return sum(self.coming.values())

    @property
    def booting(self) -> int:
        """Nodes that were asked for and cannot take a job yet; one that is being scrubbed was there before."""
        return self.unseen + sum(1 for node in self.of("Preparing") if node.dirty is None)

    def of(self, *states: State) -> list[PoolNode]:
        return [node for node in self.nodes.values() if node.state in states]


def see(view: ClusterView, in_use: frozenset[str], held: frozenset[str], now: float) -> Pool:
    """The pool as it is now. in_use: nodes that an attempt has. held: these, and nodes with pods that are being
    deleted."""
    scale = view.scale if view.cluster.spec.provider.type == "Scale" else None
    replicas = scale.replicas if scale is not None and scale.problem is None else None
    machines, going = machines_by_node(view), terminating(view.cluster)
    # A node that was given away and has no child yet says that it is used, and is not to be scrubbed under its job.
    taken = frozenset(name for holding in view.holdings for name in holding.nodes)
    nodes = {
        name: _node(
            view, node, _held(node, name in in_use, name in held), replicas, _at(machines.get(name), going),
            name in taken, now,
        )
        for name, node in sorted(view.nodes.items())
    }  # fmt: skip
    if view.machines is not None:
        return _of_machines(view, nodes, frozenset(one.id for one in machines.values()), now)
    counted = sum(1 for node in nodes.values() if not node.counted_out)
    unseen = max(0, replicas - counted) if replicas is not None else 0
    return Pool(nodes, replicas, {view.cluster.spec.instance_types[0].name: unseen} if unseen else {})


def machines_by_node(view: ClusterView) -> Mapping[str, Machine]:
    """The provider's machines that have a Node, by its name: as the provider says, or by the Node's label."""
    if view.machines is None:
        return {}
    labels = {node.metadata.labels.get(names.LABEL_MACHINE): name for name, node in view.nodes.items()}
    found = ((one.node or labels.get(one.id, ""), one) for one in view.machines.machines)
    return {name: one for name, one in found if name in view.nodes}


def _of_machines(view: ClusterView, nodes: Mapping[str, PoolNode], joined: frozenset[str], now: float) -> Pool:
    """joined: machines that have a Node, by id."""
    assert view.machines is not None, "asked only of a pool of machines"
    if view.machines.problem is not None:
        return Pool(nodes, None)
    patience = view.cluster.spec.scale_up.ready_seconds
    going = terminating(view.cluster)
    there = [one for one in view.machines.machines if one.state in ("Booting", "Running") and one.id not in going]
    waited = [one for one in there if one.id not in joined]
    coming = Counter(one.instance_type for one in waited if now < one.launched_at + patience)
    listed = Counter(one.token for one in view.machines.machines)
    failed = {failure.token for failure in view.launch_failures}
    for intent in view.cluster.status.intents:
        if intent.kind == "Launch" and intent.token not in failed:
            coming[intent.instance_type] += max(0, intent.count - listed[intent.token])
    bare = tuple(name for name, node in nodes.items() if not node.machine)
    counted = sum(1 for node in nodes.values() if node.machine and not node.counted_out and node.state != "Preempted")
    return Pool(
        nodes, counted + coming.total(), +coming,
        tuple(one for one in waited if now >= one.launched_at + patience), bare,
    )  # fmt: skip


def terminating(cluster: ComputeCluster) -> frozenset[str]:
    """Machines whose end has been decided, by id."""
    return frozenset(one for intent in cluster.status.intents if intent.kind == "Terminate" for one in intent.ids)


def kind_of(node: Node, cluster: ComputeCluster) -> InstanceType | None:
    """Which of the pool's types a node is: the only one, the one that its label names, else the first that fits."""
    types = cluster.spec.instance_types
    if len(types) == 1:
        return types[0]
    label = node.metadata.labels.get("node.kubernetes.io/instance-type")
    named = next((kind for kind in types if kind.name == label), None)
    return named or next((kind for kind in types if _offers(node, kind)), None)


def shortfall(node: Node, kind: InstanceType, *, devices_only: bool = False) -> str:
    """What a node lacks of its type's promise, for people; empty if nothing."""
    lacking = []
    for name, promised in kind.resources.items():
        offered = node.status.allocatable.get(name, "0")
        if (units.is_extended(name) or not devices_only) and units.parse(offered) < units.parse(promised):
            lacking.append(f"{name} {offered} of {promised}")
    return ", ".join(lacking)


def _offers(node: Node, kind: InstanceType) -> bool:
    return node.status.node_info.architecture == kind.architecture and not shortfall(node, kind)


def _held(node: Node, in_use: bool, held: bool) -> bool:
    ready = next((entry.status for entry in node.status.conditions if entry.type == "Ready"), "Unknown")
    return in_use or (held and ready == "True")


def _at(machine: Machine | None, going: frozenset[str]) -> Machine | None:
    """A machine as it is once what was decided is done."""
    return replace(machine, state="Terminating") if machine is not None and machine.id in going else machine


def _node(
    view: ClusterView, node: Node, held: bool, replicas: int | None, machine: Machine | None, taken: bool, now: float
) -> PoolNode:
    name = node.metadata.name
    kind = _type_of(view, node, machine)
    since, marked = leaving_since(node), _marked(view, node)
    counted_out = marked is not None and replicas is not None and marked > replicas
    counted_out = counted_out or node.metadata.deletion_timestamp is not None
    counted_out = counted_out or (machine is not None and machine.state == "Terminating")
    trouble, ready_by = _bare(view, name, machine) or _trouble(view, node, kind, now)
    state: State
    if counted_out:
        state = "Leaving"
    elif (machine is not None and machine.state == "Preempted") or is_taken_back(node):
        state = "Preempted"
    elif held:
        state = "Running"
    elif trouble is None:
        state = "Idle"
    else:
        state = "Preparing" if ready_by is not None else "Unusable"
    dirty = scrub.look(view, node, now) if state == "Idle" and not taken else None
    if dirty is not None:
        state, trouble = ("Preparing" if dirty.problem is None else "Unusable"), dirty.problem
    free_since = view.freed_at.get(name, now) if state in ("Idle", "Unusable") else None
    return PoolNode(
        name, node, kind.name if kind else "", state, free_since, since, marked, counted_out,
        trouble if state in ("Unusable", "Running") else None, ready_by if state == "Preparing" else None,
        machine.id if machine is not None else "", dirty,
    )  # fmt: skip


def _type_of(view: ClusterView, node: Node, machine: Machine | None) -> InstanceType | None:
    told = machine.instance_type if machine is not None else ""
    named = next((kind for kind in view.cluster.spec.instance_types if kind.name == told), None)
    return named or kind_of(node, view.cluster)


def _bare(view: ClusterView, name: str, machine: Machine | None) -> tuple[tuple[str, str], None] | None:
    """A Node that no machine stands behind, where the provider could be asked."""
    if view.machines is None or view.machines.problem is not None or machine is not None:
        return None
    return ("NodeWithoutMachine", f"node {name} is none of the provider's machines any more; it is removed"), None


def _trouble(
    view: ClusterView, node: Node, kind: InstanceType | None, now: float
) -> tuple[tuple[str, str] | None, float | None]:
    """Why a node cannot take a job, and until when it may still be booting."""
    spec = view.cluster.spec
    name, created = node.metadata.name, times.seconds(node.metadata.creation_timestamp)
    boots_until = (created if created is not None else now) + spec.scale_up.ready_seconds
    booting = boots_until if now < boots_until else None
    if node.spec.unschedulable:
        return ("NodeCordoned", f"node {name} is cordoned; `kubectl uncordon {name}` gives it back"), None
    if kind is None:
        return ("NodeTypeUnknown", f"node {name} is none of the pool's instanceTypes; label or describe it"), None
    if (version := _too_old(node)) is not None:
        return (
            "KubeletTooOld",
            f"node {name} runs kubelet {version}; pods need {OLDEST_KUBELET} or later: upgrade the node's image",
        ), None
    ready = next((entry for entry in node.status.conditions if entry.type == "Ready"), None)
    if ready is None or ready.status != "True":
        message = f"node {name} is not ready" + (f": {ready.message}" if ready and ready.message else "")
        return ("NodeNotReady", message), booting if _never_ready(ready, created) else None
    pressure = next((one for one in node.status.conditions if one.type in _PRESSURES and one.status == "True"), None)
    if pressure is not None:
        words = f": {pressure.message}" if pressure.message else ""
        return (
            "NodeUnderPressure",
            f"node {name} has {pressure.type} and takes no pods until that is over{words}",
        ), None
    if missing := shortfall(node, kind, devices_only=True):
        # Device plugins register late: a reason to wait, not for a second node.
        message = f"node {name} offers less than type {kind.name} promises: {missing}"
        return ("InstanceTypeOverstated", message), booting
    if late := [name for name in spec.ready_resources if not units.parse(node.status.allocatable.get(name, "0"))]:
        return ("ResourceMissing", f"node {name} does not show {', '.join(late)} of the pool's readyResources"), booting
    return None, None


def _too_old(node: Node) -> str | None:
    """The version of a kubelet that knows no native sidecars; None for one that does, or does not tell."""
    told = node.status.node_info.kubelet_version
    found = re.match(r"v?(\d+)\.(\d+)", told)
    oldest = tuple(int(part) for part in OLDEST_KUBELET.split("."))
    return told if found is not None and (int(found[1]), int(found[2])) < oldest else None


def fell_silent(node: PoolNode) -> bool:
    """Whether a node that was ready is not: one that never was is a boot that failed, and no sign of anything larger."""
    ready = next((entry for entry in node.node.status.conditions if entry.type == "Ready"), None)
    told = node.problem is not None and node.problem[0] == "NodeNotReady"
    return told and not _never_ready(ready, times.seconds(node.node.metadata.creation_timestamp))


def _never_ready(ready: KubeCondition | None, created: float | None) -> bool:
    if ready is None or ready.reason == "NodeStatusNeverUpdated":
        return True
    changed = times.seconds(ready.last_transition_time)
    if changed is None or created is None:
        return True
    return ready.status == "False" and changed - created <= BOOT_SETTLES


def leaving_since(node: Node) -> float | None:
    """When a node was tainted to go, in seconds since the epoch; None if it was not."""
    taint = next((taint for taint in node.spec.taints if taint.key == names.TAINT_LEAVING), None)
    if taint is None:
        return None
    return float(taint.value) if taint.value.isascii() and taint.value.isdigit() else 0.0


def _marked(view: ClusterView, node: Node) -> int | None:
    provider = view.cluster.spec.provider.scale
    text = node.metadata.annotations.get(provider.delete_annotation) if provider else None
    if text is None:
        return None
    # Marked by a person: theirs to lower the replicas, and not to be taken back by us.
    return int(text) if text.isascii() and text.isdigit() else 0
