"""Kwok: simulated machines, for tests. A machine is a Node object; kwok's controller plays its kubelet.

The whole of the simulated cloud is in the API server, so that it goes on whoever is killed: a Node's name says which
launch made it, its age says what it has come to. kwok makes a Node ready when its annotation `stoker.dev/boots-until` says
so, if its Stage for new nodes waits for that moment (`delay.durationFrom`); each listing does the rest that is due.
"""

import time
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, cast

from stoker.api import names
from stoker.api.computecluster import ComputeCluster, InstanceType
from stoker.api.kube import Node
from stoker.api.providers import KwokProvider
from stoker.core import times, units
from stoker.core.cluster.machines import Capabilities, LaunchFault, Machine, MachineState, Tier
from stoker.nodepools.pool import LaunchError, ObjectApi, PoolError, fault_of_answer, has_labels

NODES = "/api/v1/nodes"
#: By this kwok knows the nodes that it manages.
FAKE = {"kwok.x-k8s.io/node": "fake"}
TIER, LAUNCH, PREEMPTED = "stoker.dev/tier", "stoker.dev/launch", "stoker.dev/preempted"
#: When a Node is to become ready (RFC 3339).
BOOTS_UNTIL = "stoker.dev/boots-until"
ZONE, INSTANCE_TYPE = "topology.kubernetes.io/zone", "node.kubernetes.io/instance-type"


class KwokPool:
    def __init__(
        self,
        cluster: ComputeCluster,
        provider: KwokProvider,
        api: ObjectApi,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._name = cluster.metadata.name
        self._types = {kind.name: kind for kind in cluster.spec.instance_types}
        self._provider = provider
        self._api = api
        self._clock = clock

    def owns(self, node: Node) -> bool:
        return has_labels(node, {names.LABEL_COMPUTE: self._name}) and names.LABEL_MACHINE in node.metadata.labels

    async def describe(self) -> Capabilities:
        return Capabilities(atomic=True, spot_notice=self._provider.preempt_after_seconds is not None)

    async def list(self) -> tuple[Machine, ...]:
        return tuple([await self._now(node) for node in await self._nodes()])

    async def launch(self, *, count: int, instance_type: str, tier: Tier, zone: str, atomic: bool, token: str) -> None:
        kind = self._types.get(instance_type)
        if kind is None:
            known = ", ".join(self._types)
            raise LaunchError("Config", "UnknownType", f"{instance_type!r} is none of the pool's types: {known}")
        refused = next((one for one in self._provider.launch_faults if one.instance_type == instance_type), None)
        if refused is not None:
            raise LaunchError(refused.fault, f"Simulated{refused.fault}", refused.message)
        launched = 0
        try:
            there = await self._nodes()
            earlier = {node["metadata"]["name"] for node in there}
            wanted = [_machine_id(token, number) for number in range(count)]
            room = self._room(len(earlier - set(wanted)))
            if room < count and atomic:
                raise LaunchError(
                    "Capacity", "InsufficientCapacity", f"{count} machines asked for at once, {room} left"
                )
            for name in wanted[:room]:
                if name not in earlier:
                    await self._create(name, kind, tier, zone, token)
                launched += 1
        except PoolError as error:
            raise LaunchError(self.classify(error), error.reason, error.message, launched) from error
        if room < count:
            raise LaunchError("Capacity", "InsufficientCapacity", f"{room} of {count} machines left", launched)

    async def terminate(self, ids: Collection[str], *, token: str) -> None:
        for name in ids:
            try:
                node = await self._api.get(f"{NODES}/{name}")
                if self._is_own(node):
                    await self._api.delete(f"{NODES}/{name}", uid=node["metadata"]["uid"])
            except PoolError as error:
                if error.reason not in ("NotFound", "Conflict"):  # gone, or another one of that name
                    raise

    async def hold(self, ids: Collection[str]) -> None:
        """Nobody else takes simulated machines away, and a preemption is not to be stopped."""

    def classify(self, error: Exception) -> LaunchFault:
        return fault_of_answer(error)

    # -- the simulated cloud

    def _room(self, others: int) -> int:
        """How many machines one launch may have, with so many others there."""
        most = self._provider.capacity
        return 1_000_000 if most is None else max(0, most - others)

    async def _nodes(self) -> Sequence[dict[str, Any]]:
        labels = f"{names.LABEL_COMPUTE}={self._name},{names.LABEL_MACHINE}"
        return [node for node in await self._api.list(NODES, labels=labels) if self._is_own(node)]

    def _is_own(self, node: Mapping[str, Any]) -> bool:
        labels = node["metadata"].get("labels") or {}
        return labels.get(names.LABEL_COMPUTE) == self._name and names.LABEL_MACHINE in labels

    async def _create(self, name: str, kind: InstanceType, tier: Tier, zone: str, token: str) -> None:
        labels = {
            names.LABEL_COMPUTE: self._name,
            names.LABEL_MACHINE: name,
            "kubernetes.io/hostname": name,
            "kubernetes.io/os": "linux",
            "kubernetes.io/arch": kind.architecture,
            INSTANCE_TYPE: kind.name,
            TIER: tier,
            **({ZONE: zone} if zone else {}),
        }
        # Devices that are to show late are not there at first.
        late = self._provider.device_seconds > 0
        amounts = {n: q for n, q in _amounts(kind).items() if not (late and units.is_extended(n))}
        taint = {"key": names.TAINT_COMPUTE, "value": self._name, "effect": "NoSchedule"}
        boots_until = times.rfc3339(self._clock() + self._provider.boot_seconds)
        body = {
            "apiVersion": "v1",
            "kind": "Node",
            "metadata": {
                "name": name,
                "labels": labels,
                "annotations": {**FAKE, LAUNCH: token, BOOTS_UNTIL: boots_until},
            },
            "spec": {"providerID": f"kwok://{name}", "taints": [taint]},
            "status": {
                "capacity": amounts,
                "allocatable": amounts,
                "nodeInfo": {"architecture": kind.architecture},
            },
        }
        try:
            await self._api.create(NODES, body)
        except PoolError as error:
            if error.reason != "AlreadyExists":
                raise
            if not self._is_own(await self._api.get(f"{NODES}/{name}")):
                raise PoolError("Invalid", f"Node {name} exists already and is none of this pool's") from error

    async def _now(self, node: dict[str, Any]) -> Machine:
        """A machine as it is now, with everything done that was due."""
        metadata = node["metadata"]
        labels, annotations = metadata["labels"], metadata.get("annotations") or {}
        name, launched_at = metadata["name"], times.seconds(metadata["creationTimestamp"]) or 0.0
        tier = cast(Tier, labels[TIER])
        state: MachineState = "Running"
        if metadata.get("deletionTimestamp") is not None:
            state = "Terminating"
        elif await self._taken_back(node, tier, launched_at):
            state = "Preempted"
        elif not _is_ready(node):
            state = "Booting"
        await self._show_devices(node, launched_at)
        return Machine(
            id=name, instance_type=labels[INSTANCE_TYPE], tier=tier, state=state, launched_at=launched_at, node=name,
            zone=labels.get(ZONE, ""), token=annotations.get(LAUNCH, ""),
        )  # fmt: skip

    async def _show_devices(self, node: Mapping[str, Any], launched_at: float) -> None:
        name, kind = node["metadata"]["name"], self._types.get(node["metadata"]["labels"][INSTANCE_TYPE])
        seen = node.get("status", {}).get("capacity") or {}
        late = {n: q for n, q in _amounts(kind).items() if units.is_extended(n) and n not in seen} if kind else {}
        due = launched_at + self._provider.boot_seconds + self._provider.device_seconds
        if late and self._clock() >= due:
            await self._merge(f"{NODES}/{name}/status", {"status": {"capacity": late, "allocatable": late}})

    async def _taken_back(self, node: Mapping[str, Any], tier: Tier, launched_at: float) -> bool:
        """Whether a machine has its notice; one whose notice is over goes."""
        after = self._provider.preempt_after_seconds
        metadata = node["metadata"]
        told = PREEMPTED in (metadata.get("annotations") or {})
        if not told and (tier != "Spot" or after is None or self._clock() < launched_at + after):
            return False
        path = f"{NODES}/{metadata['name']}"
        if not told:
            await self._merge(path, {"metadata": {"annotations": {PREEMPTED: str(int(self._clock()))}}})
        elif self._clock() >= float(metadata["annotations"][PREEMPTED]) + self._provider.notice_seconds:
            await self.terminate([metadata["name"]], token="")
        return True

    async def _merge(self, path: str, body: Mapping[str, Any]) -> None:
        try:
            await self._api.merge(path, body)
        except PoolError as error:
            if error.reason != "NotFound":  # it went meanwhile
                raise


def _machine_id(token: str, number: int) -> str:
    """The same for the same launch, whoever asks; it becomes a label."""
    return names.slug(f"{token}-{number}", 63)


def _is_ready(node: Mapping[str, Any]) -> bool:
    conditions = node.get("status", {}).get("conditions") or ()
    return any(one["type"] == "Ready" and one["status"] == "True" for one in conditions)


def _amounts(kind: InstanceType) -> dict[str, str]:
    return {"pods": "110", **{name: str(quantity) for name, quantity in kind.resources.items()}}
