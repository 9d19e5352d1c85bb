"""Gathers what the plan of a ComputeCluster rests on, and carries out what it says about nodes."""

import logging
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, TypeVar

from stoker.api.computecluster import ComputeCluster
from stoker.api.kube import Lean, Node, ObjectMeta, Pod
from stoker.api.names import (
    ANNOTATION_SCRATCH,
    FINALIZER_MACHINES,
    LABEL_COMPUTE,
    LABEL_JOB_UID,
    LABEL_MACHINE,
    LABEL_SCRUB,
    TAINT_COMPUTE,
    TAINT_LEAVING,
    TAINT_PREEMPTED,
    assigned,
)
from stoker.api.workspace import Workspace
from stoker.controller.ledger import Ledger
from stoker.controller.looks import Looks
from stoker.controller.machines import Machines
from stoker.controller.neighbours import Neighbours, Requests
from stoker.controller.rooms import Rooms
from stoker.core.cluster import scrub, share, usage
from stoker.core.cluster.decide import idle_seconds
from stoker.core.cluster.machines import Machine, MachinesView
from stoker.core.cluster.pool import kind_of, leaving_since
from stoker.core.cluster.quota import gpus_of
from stoker.core.cluster.view import ClusterPlan, ClusterView, Holding, Quota, RoomsView, ScaleView
from stoker.core.plan import (
    AdoptNode,
    AssignNode,
    HandOver,
    HoldCluster,
    KeepNode,
    LaunchMachines,
    MarkForDeletion,
    MarkScratch,
    ReleaseCluster,
    ScaleTo,
    ScrubNode,
    TaintLeaving,
    TaintPreempted,
    TakeBack,
    TerminateMachines,
    UnassignNode,
)
from stoker.core.times import earliest
from stoker.kube.client import KubeClient
from stoker.kube.errors import Conflict, KubeError, NotFound
from stoker.kube.resources import NODES, PODS, RESOURCES
from stoker.kube.store import Store
from stoker.nodepools.choose import pool_of
from stoker.nodepools.pool import CountedPool, MachinePool, NodePool, PoolError, RoomPool

LOG = logging.getLogger(__name__)
T = TypeVar("T")

#: How long the replicas that we read of a scalable object are good for, unless we change them.
SCALE_SECONDS = 2.0
#: An update of a node is tried so often against others who change it.
TRIES = 5

NodeAction = MarkForDeletion | TaintLeaving | TaintPreempted | KeepNode | AdoptNode | AssignNode | UnassignNode
PoolAction = (
    NodeAction
    | ScaleTo
    | ScrubNode
    | MarkScratch
    | HoldCluster
    | ReleaseCluster
    | LaunchMachines
    | TerminateMachines
    | HandOver
    | TakeBack
)
#: What to merge into an object as it was read; None for nothing.
Change = Callable[[dict[str, Any]], dict[str, Any] | None]


class PodOwners(Lean, frozen=True):
    """A pod of which only its owners matter."""

    metadata: ObjectMeta


@dataclass(frozen=True, slots=True)
class Scrubber:
    """What pods that scrub nodes run, and with which Secrets of their namespace it is pulled."""

    image: str
    pull_secrets: tuple[str, ...] = ()


class Pools:
    """The ComputeClusters' nodes and providers. scrubber: None where nodes may not be scrubbed."""

    def __init__(
        self, store: Store, ledger: Ledger, client: KubeClient, clock: Callable[[], float] = time.time,
        scrubber: Scrubber | None = None,
    ) -> None:  # fmt: skip
        self._store = store
        self._ledger = ledger
        self._client = client
        self._clock = clock
        self._scrubber = scrubber
        self._objects = PlainObjects(client)
        self._pools: dict[str, tuple[ComputeCluster, NodePool]] = {}
        self._scales: dict[str, tuple[ScaleView | None, float]] = {}
        self._machines = Machines(clock)
        self._rooms = Rooms(clock)
        self._looks = Looks(self._is_occupied, clock)
        self._neighbours: dict[str, Neighbours] = {}

    def pool(self, cluster: ComputeCluster) -> NodePool:
        """The provider of a cluster, made anew when its spec changes."""
        name = cluster.metadata.name
        found = self._pools.get(name)
        if found is None or found[0].spec != cluster.spec:
            found = self._pools[name] = (cluster, pool_of(cluster, self._objects))
            self._scales.pop(name, None)
        return found[1]

    def clusters_of(self, node: Node) -> list[str]:
        """The pools that a node belongs to: one, unless selectors overlap."""
        clusters: list[ComputeCluster] = list(self._store.all("ComputeCluster"))
        return [cluster.metadata.name for cluster in clusters if self.pool(cluster).owns(node)]

    async def view(self, name: str) -> ClusterView | None:
        """What the plan of a ComputeCluster rests on; None if there is no such cluster."""
        cluster: ComputeCluster | None = self._store.get("ComputeCluster", "", name)
        if cluster is None:
            return None
        pool = self.pool(cluster)
        machines, scale, rooms = await self._seen_by_provider(name, pool)
        # What came of orders that are done stands in the status by now.
        self._machines.keep_failures(name, [intent.token for intent in cluster.status.intents])
        foreign = await self._foreign(cluster, pool)
        others = await self._others(cluster, pool)
        # From here on nothing waits: the rest is of one moment, and newer than what was waited for.
        nodes = self._nodes(pool)
        holdings = self._ledger.holdings(name)
        return ClusterView(
            cluster=cluster,
            nodes=nodes,
            demands=self._ledger.demands(name),
            holdings=holdings,
            occupied=foreign | self._with_our_pods(nodes),
            scale=scale,
            weights=self._weights(),
            quotas=self._quotas(name),
            machines=machines,
            rooms=rooms,
            scrubs=self._scrubs(name),
            others=others,
            launch_failures=self._machines.failures(name),
            **_remembered(self._ledger.last(name)),
        )

    def _scrubs(self, name: str) -> tuple[Pod, ...] | None:
        """The pods that scrub nodes of a pool; None where the chart lets us make none."""
        if self._scrubber is None:
            return None
        pods: list[Pod] = self._store.within("Pod", scrub.NAMESPACE)
        return tuple(pod for pod in pods if pod.metadata.labels.get(LABEL_SCRUB) == name)

    def due(self, name: str) -> float | None:
        """When a pool is to be planned again though nothing was heard: its provider may have news."""
        return earliest(self._machines.due(name), self._rooms.due(name))

    def forget(self, name: str) -> None:
        """The ComputeCluster has gone."""
        self._pools.pop(name, None)
        self._scales.pop(name, None)
        self._machines.forget(name)
        self._rooms.forget(name)
        self._neighbours.pop(name, None)

    async def _seen_by_provider(
        self, name: str, pool: NodePool
    ) -> tuple[MachinesView | None, ScaleView | None, RoomsView | None]:
        """The pool's machines, its size, or its requests for room: what the kind of its provider has."""
        if isinstance(pool, CountedPool):
            return None, await self._scale(name, pool), None
        if isinstance(pool, RoomPool):
            return None, None, await self._rooms.view(name, pool)
        assert isinstance(pool, MachinePool), "a pool is counted, of machines, or of rooms"
        machines = await self._machines.view(name, pool)
        machines = replace(machines, machines=_with_nodes(machines.machines, self._nodes(pool)))
        trouble = await self._machines.hold(name, pool, machines, self._ledger.holdings(name))
        if trouble is not None:
            machines = replace(machines, warnings=(*machines.warnings, trouble))
        return machines, None, None

    async def _others(self, cluster: ComputeCluster, pool: NodePool) -> Mapping[str, Requests]:
        """What pods of others ask for on the nodes of a pool that jobs share, while one wants a part of a node."""
        name = cluster.metadata.name
        if not share.is_allowed(cluster):
            self._neighbours.pop(name, None)
            return {}
        neighbours = self._neighbours.setdefault(name, Neighbours(self._client, self._clock))
        nodes = self._nodes(pool).keys()
        neighbours.keep(nodes)
        return await neighbours.on(nodes) if any(demand.requests for demand in self._ledger.demands(name)) else {}

    def _weights(self) -> dict[str, int]:
        """What Workspaces say of their namespaces' parts."""
        workspaces: list[Workspace] = list(self._store.all("Workspace"))
        return {one.metadata.namespace: one.spec.weight for one in workspaces if one.metadata.name == "default"}

    def _quotas(self, name: str) -> dict[str, Quota]:
        """What namespaces may have at a time and spend in a month, and what of it is in other pools than this one."""
        workspaces: list[Workspace] = list(self._store.all("Workspace"))
        found = {
            one.metadata.namespace: one.spec.quota
            for one in workspaces
            if one.metadata.name == "default" and one.spec.quota is not None
        }
        if not found:
            return {}
        nodes, gpus, costs = Counter[str](), Counter[str](), dict[str, float]()
        others: list[ComputeCluster] = [one for one in self._store.all("ComputeCluster") if one.metadata.name != name]
        for cluster in others:
            first = cluster.spec.instance_types[0].name
            last = self._ledger.last(cluster.metadata.name)
            spent = usage.of_month(cluster, last.meter if last is not None else None, self._clock())
            for namespace in found.keys() & spent.keys():
                costs[namespace] = costs.get(namespace, 0.0) + spent[namespace]
            for holding in self._ledger.holdings(cluster.metadata.name):
                if holding.ending or holding.namespace not in found:
                    continue
                kinds = [self._kind(cluster, node) or first for node in holding.nodes]
                kinds += [first] * (holding.count - len(kinds))
                nodes[holding.namespace] += len(kinds)
                gpus[holding.namespace] += sum(gpus_of(cluster, kind, holding.requests) for kind in kinds)
        return {
            namespace: Quota(
                quota.max_nodes, quota.max_gpus, nodes[namespace], gpus[namespace], usage.amount(quota.cost_per_month),
                costs.get(namespace, 0.0),
            )
            for namespace, quota in found.items()
        }  # fmt: skip

    def _kind(self, cluster: ComputeCluster, name: str) -> str | None:
        """The type of a pool's node."""
        node: Node | None = self._store.get("Node", "", name)
        kind = kind_of(node, cluster) if node is not None else None
        return kind.name if kind is not None else None

    def _nodes(self, pool: NodePool) -> dict[str, Node]:
        nodes: list[Node] = [node for node in self._store.all("Node") if pool.owns(node)]
        return {node.metadata.name: node for node in nodes}

    def _with_our_pods(self, nodes: Mapping[str, Node]) -> frozenset[str]:
        def runs(name: str) -> bool:
            return any(
                pod.status.phase not in ("Succeeded", "Failed")
                and pod.metadata.deletion_timestamp is None
                and LABEL_SCRUB not in pod.metadata.labels
                for pod in self._store.on_node(name)
            )

        return frozenset(name for name in nodes if runs(name))

    async def _scale(self, name: str, pool: CountedPool) -> ScaleView | None:
        kept = self._scales.get(name)
        if kept is not None and kept[1] > self._clock():
            return kept[0]
        scale = await pool.scale()
        self._scales[name] = (scale, self._clock() + SCALE_SECONDS)
        return scale

    async def _foreign(self, cluster: ComputeCluster, pool: NodePool) -> frozenset[str]:
        """Nodes that may go soon and have pods of others. Only those are looked at: one request for each."""
        if not isinstance(pool, MachinePool) and cluster.spec.provider.type != "Scale":
            return frozenset()
        taken = _taken(self._ledger.holdings(cluster.metadata.name))
        last = self._ledger.last(cluster.metadata.name)
        freed = last.freed_at if last is not None else {}
        soon = self._clock() - idle_seconds(cluster, last.rhythm if last is not None else None) + 2.0
        candidates = [
            node
            for node in self._nodes(pool).values()
            if node.metadata.name not in taken
            and (freed.get(node.metadata.name, soon) <= soon or leaving_since(node) is not None)
        ]
        return await self._looks.occupied(candidates)

    async def _is_occupied(self, node: str) -> bool:
        selector = f"spec.nodeName={node},status.phase!=Succeeded,status.phase!=Failed"
        pods = await self._client.list(PODS.path(), PodOwners, field_selector=selector)
        return any(_keeps_node(pod.metadata) for pod in pods.items)

    # -- doing

    async def do(self, action: PoolAction) -> float | None:
        """Carry out an action on a pool or its nodes. Raises KubeError and PoolError; a node that is gone is no error.
        When to look at what came of it, in seconds since the epoch; None where that is heard of."""
        match action:
            case ScaleTo(cluster, from_replicas, replicas):
                await self._scale_to(cluster, from_replicas, replicas)
            case ScrubNode() | MarkScratch():
                await self._scrub(action)
            case HoldCluster(cluster, uid) | ReleaseCluster(cluster, uid):
                await self._edit_cluster(cluster, partial(_held, uid=uid, held=isinstance(action, HoldCluster)))
            case LaunchMachines() | TerminateMachines():
                return await self._order(action)
            case HandOver(cluster) | TakeBack(cluster):
                return await self._ask_for_room(cluster, action)
            case _:
                if (change := self._change_of_node(action)) is not None:
                    await self._edit(action.node, change)
        return None

    def _change_of_node(self, action: NodeAction) -> Change | None:
        """What an action on a node changes of it; None for nothing."""
        match action:
            case MarkForDeletion(cluster, _, from_replicas):
                mark = self._delete_annotation(cluster)
                return partial(_annotated, annotation=mark, value=str(from_replicas)) if mark is not None else None
            case TaintLeaving(_, _, since):
                # Before it many others may have had their turn: the last look counts from when nothing lands there.
                value = str(max(since, int(self._clock())))
                return partial(_tainted, taint={"key": TAINT_LEAVING, "value": value, "effect": "NoSchedule"})
            case TaintPreempted():
                return partial(_tainted, taint={"key": TAINT_PREEMPTED, "effect": "NoExecute"})
            case KeepNode(cluster, _):
                return partial(_kept, annotation=self._delete_annotation(cluster))
            case AdoptNode(cluster, _, taint):
                return partial(_adopted, cluster=cluster, taint=taint)
            case AssignNode(_, uid, attempt):
                return partial(_assigned, label=assigned(uid, attempt), theirs=True)
            case UnassignNode(_, uid, attempt):
                return partial(_assigned, label=assigned(uid, attempt), theirs=False)

    async def _scrub(self, order: ScrubNode | MarkScratch) -> None:
        if isinstance(order, MarkScratch):
            await self._edit(order.node, partial(_told_of_scratch, former=order.former, value=order.value))
            return
        cluster: ComputeCluster | None = self._store.get("ComputeCluster", "", order.cluster)
        if cluster is None or self._scrubber is None:
            return
        body = scrub.pod(order, cluster, self._scrubber.image, self._scrubber.pull_secrets)
        try:
            made = await self._client.create(PODS.path(scrub.NAMESPACE), body, Pod, strict=True)
        except Conflict as conflict:
            if not conflict.name_taken:
                raise
            return  # made by a former leader, or one of that name is still going: the watch tells
        self._store.put("Pod", made)

    async def _ask_for_room(self, name: str, order: HandOver | TakeBack) -> float | None:
        cluster: ComputeCluster | None = self._store.get("ComputeCluster", "", name)
        if cluster is None:
            return None
        pool = self.pool(cluster)
        if not isinstance(pool, RoomPool):
            kind = cluster.spec.provider.type
            raise PoolError("NotScalable", f"a provider of type {kind} has nobody to ask for room")
        return await self._rooms.do(name, pool, order)

    async def _order(self, order: LaunchMachines | TerminateMachines) -> float | None:
        """Launch or terminate machines."""
        cluster: ComputeCluster | None = self._store.get("ComputeCluster", "", order.cluster)
        if cluster is None:
            return None
        pool = self.pool(cluster)
        if not isinstance(pool, MachinePool):
            kind = cluster.spec.provider.type
            raise PoolError("NotScalable", f"a provider of type {kind} launches and terminates no single machines")
        if isinstance(order, LaunchMachines):
            return await self._machines.launch(order.cluster, pool, order)
        return await self._machines.terminate(order.cluster, pool, order)

    async def _scale_to(self, name: str, from_replicas: int, replicas: int) -> None:
        cluster: ComputeCluster | None = self._store.get("ComputeCluster", "", name)
        if cluster is None:
            return
        LOG.info("ComputeCluster %s: %d -> %d replicas", name, from_replicas, replicas)
        pool = self.pool(cluster)
        if not isinstance(pool, CountedPool):
            raise PoolError(
                "NotScalable", f"a provider of type {cluster.spec.provider.type} has no number of nodes to set"
            )
        try:
            await pool.scale_to(from_replicas, replicas)
        finally:
            self._scales.pop(name, None)

    def _delete_annotation(self, name: str) -> str | None:
        cluster: ComputeCluster | None = self._store.get("ComputeCluster", "", name)
        scale = cluster.spec.provider.scale if cluster is not None else None
        return scale.delete_annotation if scale is not None else None

    async def _edit(self, name: str, change: Change) -> None:
        """Change a node as others change it too: `change` says what to merge into what is there, None for nothing.

        Taints are one list without keys for the API server: it is replaced whole, so only the version that was read.
        """
        if (changed := await self._change(NODES.path(name=name), change, Node)) is not None:
            self._store.put("Node", changed)

    async def _edit_cluster(self, name: str, change: Change) -> None:
        """Change a ComputeCluster's metadata. What comes of it the watch tells: one without finalizers may be gone."""
        await self._change(RESOURCES["ComputeCluster"].path(name=name), change, ComputeCluster)

    async def _change(self, path: str, change: Change, shape: type[T]) -> T | None:
        """Change an object from the version that was read; None when it has gone or there was nothing to change."""
        for attempt in range(TRIES):
            try:
                found: dict[str, Any] = await self._client.get(path)
                body = change(found)
                if body is None:
                    return None
                body.setdefault("metadata", {})["resourceVersion"] = found["metadata"]["resourceVersion"]
                return await self._client.patch(path, body, shape)
            except NotFound:
                return None
            except Conflict:
                if attempt == TRIES - 1:
                    raise
        return None


def _remembered(last: ClusterPlan | None) -> dict[str, Any]:
    """What a pool's last plan leaves for the next, by the names of the view."""
    names = ("freed_at", "first", "kept_since", "rhythm", "past", "meter")
    return {name: getattr(last, name) for name in names} if last is not None else {}


def _keeps_node(pod: ObjectMeta) -> bool:
    """Whether a pod that has not ended must not lose its node."""
    # A DaemonSet's pods, and the node's own static pods, go with the node.
    if pod.controller is not None and pod.controller.kind in ("DaemonSet", "Node"):
        return False
    # Ours that are being deleted may be on a dead node for ever; the holdings know of them.
    return not (LABEL_JOB_UID in pod.labels and pod.deletion_timestamp is not None)


def _with_nodes(machines: Sequence[Machine], nodes: Mapping[str, Node]) -> tuple[Machine, ...]:
    """Machines with the names of their Nodes, also where only a Node knows whose it is: by our label or providerID."""
    of = {node.spec.provider_id.rpartition("/")[2]: name for name, node in nodes.items() if node.spec.provider_id}
    of |= {node.metadata.labels[LABEL_MACHINE]: n for n, node in nodes.items() if LABEL_MACHINE in node.metadata.labels}
    return tuple(one if one.node or one.id not in of else replace(one, node=of[one.id]) for one in machines)


def _taken(holdings: tuple[Holding, ...]) -> frozenset[str]:
    return frozenset(node for holding in holdings for node in holding.nodes)


def _taints(found: Mapping[str, Any]) -> list[dict[str, Any]]:
    return list(found.get("spec", {}).get("taints") or ())


def _held(found: Mapping[str, Any], uid: str, *, held: bool) -> dict[str, Any] | None:
    metadata = found["metadata"]
    finalizers = list(metadata.get("finalizers") or ())
    if metadata["uid"] != uid or (FINALIZER_MACHINES in finalizers) == held:
        return None
    if held and metadata.get("deletionTimestamp"):
        return None  # the API server takes no new one then
    others = [one for one in finalizers if one != FINALIZER_MACHINES]
    return {"metadata": {"finalizers": [*others, FINALIZER_MACHINES] if held else others}}


def _annotated(found: Mapping[str, Any], annotation: str, value: str) -> dict[str, Any] | None:
    if (found["metadata"].get("annotations") or {}).get(annotation) == value:
        return None
    return {"metadata": {"annotations": {annotation: value}}}


def _tainted(found: Mapping[str, Any], taint: dict[str, Any]) -> dict[str, Any] | None:
    taints = _taints(found)
    if any(one["key"] == taint["key"] and one.get("effect") == taint["effect"] for one in taints):
        return None
    return {"spec": {"taints": [*taints, taint]}}


def _told_of_scratch(found: Mapping[str, Any], former: str, value: str) -> dict[str, Any] | None:
    if (found["metadata"].get("annotations") or {}).get(ANNOTATION_SCRATCH, "") != former:
        return None
    return {"metadata": {"annotations": {ANNOTATION_SCRATCH: value}}}


def _kept(found: Mapping[str, Any], annotation: str | None) -> dict[str, Any] | None:
    body: dict[str, Any] = {}
    taints = _taints(found)
    left = [taint for taint in taints if taint["key"] != TAINT_LEAVING]
    if len(left) != len(taints):
        body["spec"] = {"taints": left}
    if annotation is not None and annotation in (found["metadata"].get("annotations") or {}):
        body["metadata"] = {"annotations": {annotation: None}}
    return body or None


def _assigned(found: Mapping[str, Any], label: str, *, theirs: bool) -> dict[str, Any] | None:
    """Label a node as an attempt's, or take that attempt's label away."""
    if (label in (found["metadata"].get("labels") or {})) == theirs:
        return None
    return {"metadata": {"labels": {label: "true" if theirs else None}}}


def _adopted(found: Mapping[str, Any], cluster: str, *, taint: bool) -> dict[str, Any] | None:
    body: dict[str, Any] = {}
    if (found["metadata"].get("labels") or {}).get(LABEL_COMPUTE) != cluster:
        body["metadata"] = {"labels": {LABEL_COMPUTE: cluster}}
    taints = _taints(found)
    if taint and not any(one["key"] == TAINT_COMPUTE for one in taints):
        body["spec"] = {"taints": [*taints, {"key": TAINT_COMPUTE, "value": cluster, "effect": "NoSchedule"}]}
    return body or None


class PlainObjects:
    """The API server as the providers see it (nodepools.pool.ObjectApi)."""

    def __init__(self, client: KubeClient) -> None:
        self._client = client

    async def get(self, path: str) -> dict[str, Any]:
        return await self._told(self._client.get(path))

    async def list(self, path: str, *, labels: str = "") -> Sequence[dict[str, Any]]:
        return (await self._told(self._client.list(path, label_selector=labels))).items

    async def create(self, path: str, body: Mapping[str, Any]) -> dict[str, Any]:
        return await self._told(self._client.create(path, body, strict=True))

    async def merge(self, path: str, body: Mapping[str, Any]) -> dict[str, Any]:
        return await self._told(self._client.patch(path, body))

    async def delete(self, path: str, *, uid: str) -> None:
        await self._told(self._client.delete(path, uid=uid or None))

    @staticmethod
    async def _told(answer: Awaitable[T]) -> T:
        try:
            return await answer
        except KubeError as error:
            raise PoolError(error.reason or type(error).__name__, error.message) from error
