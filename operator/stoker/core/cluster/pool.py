"""What is seen of a pool: each node's state, and how many nodes are promised but not there yet."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from stoker.api import names
from stoker.api.computecluster import ComputeCluster, InstanceType
from stoker.api.kube import KubeCondition, Node
from stoker.core import times, units
from stoker.core.cluster.view import ClusterView

State = Literal["Idle", "Running", "Preparing", "Unusable", "Leaving"]

#: A node whose readiness changed no later than this after it appeared was never ready, in seconds.
BOOT_SETTLES = 60.0
#: What a node says of itself when it is short of something: its kubelet evicts pods and refuses new ones meanwhile.
_PRESSURES = ("DiskPressure", "MemoryPressure", "PIDPressure")


@dataclass(frozen=True, slots=True)
class PoolNode:
    """A node and what it is good for.

    kind: name of its instance type. free_since: when it lost its last job or became ready, in seconds since the epoch;
    None for a node with a job or without readiness. leaving_since: when it was tainted to go. marked: the replicas that
    its deletion mark names. counted_out: the pool's replicas no longer count it; it goes, whatever we do. problem: what
    is wrong with it: a reason and a message. ready_by: when a node that boots counts as unusable.
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


@dataclass(frozen=True, slots=True)
class Pool:
    """The nodes of a pool. replicas: what its scalable object wants, None where there is none or it cannot be read.
    unseen: nodes that are wanted and have no Node yet."""

    nodes: Mapping[str, PoolNode]
    replicas: int | None
    unseen: int

    def of(self, *states: State) -> list[PoolNode]:
        return [node for node in self.nodes.values() if node.state in states]


def see(view: ClusterView, in_use: frozenset[str], held: frozenset[str], now: float) -> Pool:
    """The pool as it is now. in_use: nodes that an attempt has. held: these, and nodes with pods that are being
    deleted."""
    scale = view.scale if view.cluster.spec.provider.type == "Scale" else None
    replicas = scale.replicas if scale is not None and scale.problem is None else None
    nodes = {
        name: _node(view, node, replicas, _held(node, name in in_use, name in held), now)
        for name, node in sorted(view.nodes.items())
    }
    counted = sum(1 for node in nodes.values() if not node.counted_out)
    return Pool(nodes, replicas, max(0, replicas - counted) if replicas is not None else 0)


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


def _node(view: ClusterView, node: Node, replicas: int | None, held: bool, now: float) -> PoolNode:
    name = node.metadata.name
    kind = kind_of(node, view.cluster)
    since, marked = _leaving_since(node), _marked(view, node)
    counted_out = marked is not None and replicas is not None and marked > replicas
    counted_out = counted_out or node.metadata.deletion_timestamp is not None
    trouble, ready_by = _trouble(node, kind, view.cluster.spec.scale_up.ready_seconds, now)
    state: State
    if counted_out:
        state = "Leaving"
    elif held:
        state = "Running"
    elif trouble is None:
        state = "Idle"
    else:
        state = "Preparing" if ready_by is not None else "Unusable"
    free_since = view.freed_at.get(name, now) if state in ("Idle", "Unusable") else None
    return PoolNode(
        name, node, kind.name if kind else "", state, free_since, since, marked, counted_out,
        trouble if state in ("Unusable", "Running") else None, ready_by if state == "Preparing" else None,
    )  # fmt: skip


def _trouble(
    node: Node, kind: InstanceType | None, patience: float, now: float
) -> tuple[tuple[str, str] | None, float | None]:
    """Why a node cannot take a job, and until when it may still be booting: `patience` after it appeared."""
    name, created = node.metadata.name, times.seconds(node.metadata.creation_timestamp)
    boots_until = (created if created is not None else now) + patience
    booting = boots_until if now < boots_until else None
    if node.spec.unschedulable:
        return ("NodeCordoned", f"node {name} is cordoned; `kubectl uncordon {name}` gives it back"), None
    if kind is None:
        return ("NodeTypeUnknown", f"node {name} is none of the pool's instanceTypes; label or describe it"), None
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
    return None, None


def _never_ready(ready: KubeCondition | None, created: float | None) -> bool:
    if ready is None or ready.reason == "NodeStatusNeverUpdated":
        return True
    changed = times.seconds(ready.last_transition_time)
    if changed is None or created is None:
        return True
    return ready.status == "False" and changed - created <= BOOT_SETTLES


def _leaving_since(node: Node) -> float | None:
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
