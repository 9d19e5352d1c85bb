"""Karpenter: NodeClaims that we make and delete by name; Karpenter brings their machines.

They belong to no NodePool, so that nothing of Karpenter's consolidates, replaces or expires them. A claim that is being
deleted and not by us is a machine that is taken back: that is how Karpenter answers a notice for a Spot instance.
"""

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from stoker.api import names
from stoker.api.computecluster import ComputeCluster, InstanceType
from stoker.api.kube import Node
from stoker.api.providers import KarpenterProvider
from stoker.core import times
from stoker.core.cluster.machines import Capabilities, LaunchFault, Machine, MachineState, Tier
from stoker.nodepools.aws_faults import fault_of_words
from stoker.nodepools.pool import LaunchError, ObjectApi, PoolError, fault_of_answer, has_labels

CLAIMS, NODES = "/apis/karpenter.sh/v1/nodeclaims", "/api/v1/nodes"
#: On claims: the launch that made them, the name of their type, and that it is we who delete them.
LAUNCH, INSTANCE_TYPE, ENDED = "stoker.dev/launch", "stoker.dev/instance-type", "stoker.dev/ended"
#: On claims, and on Nodes, where Karpenter looks once a Node has registered.
DO_NOT_DISRUPT = "karpenter.sh/do-not-disrupt"
ZONE = "topology.kubernetes.io/zone"
CAPACITY_TYPE = "karpenter.sh/capacity-type"
_TIERS: dict[Tier, str] = {"Dedicated": "on-demand", "Spot": "spot"}
#: A claim says this of itself before anything was tried.
_NOT_TRIED = frozenset({"", "AwaitingReconciliation"})

Claim = Mapping[str, Any]


class KarpenterPool:
    def __init__(self, cluster: ComputeCluster, provider: KarpenterProvider, api: ObjectApi) -> None:
        self._name = cluster.metadata.name
        self._types = {kind.name: kind for kind in cluster.spec.instance_types}
        own = {kind.name: (kind.machine,) for kind in cluster.spec.instance_types if kind.machine is not None}
        self._machines = own | {one.instance_type: one.names for one in provider.machines}
        self._provider = provider
        self._api = api
        #: Claims that we made and have not seen launched: one that goes by itself was not to be had.
        self._made: set[str] = set()

    def owns(self, node: Node) -> bool:
        return has_labels(node, {names.LABEL_COMPUTE: self._name}) and names.LABEL_MACHINE in node.metadata.labels

    async def describe(self) -> Capabilities:
        return Capabilities(spot_notice=True)

    async def list(self) -> tuple[Machine, ...]:
        # A claim that is not launched is no machine yet, and may never be one: asking for it again tells which.
        return tuple(_machine(claim) for claim in await self._claims() if _launched(claim))

    async def launch(self, *, count: int, instance_type: str, tier: Tier, zone: str, atomic: bool, token: str) -> None:
        kind = self._types.get(instance_type)
        if kind is None:
            known = ", ".join(self._types)
            raise LaunchError("Config", "UnknownType", f"{instance_type!r} is none of the pool's types: {known}")
        wanted = [names.slug(f"{token}-{number}", 63) for number in range(count)]
        try:
            there = {claim["metadata"]["name"]: claim for claim in await self._claims()}
            await self._check(wanted, there)
            for name in wanted:
                if name not in there:
                    await self._create(name, kind, tier, zone, token)
        except LaunchError:
            raise
        except PoolError as error:
            raise LaunchError(self.classify(error), error.reason, _with_fix(error)) from error

    async def terminate(self, ids: Collection[str], *, token: str) -> None:
        for claim in await self._claims():
            if claim["metadata"]["name"] in ids:
                await self._end(claim)

    async def hold(self, ids: Collection[str]) -> None:
        for claim in await self._claims():
            metadata = claim["metadata"]
            held = (metadata.get("annotations") or {}).get(DO_NOT_DISRUPT) == "true"
            if held is not (metadata["name"] in ids):
                body = {"metadata": {"annotations": {DO_NOT_DISRUPT: None if held else "true"}}}
                # The claim last: it says whether both are done.
                if node := claim.get("status", {}).get("nodeName"):
                    await self._merge(f"{NODES}/{node}", body)
                await self._merge(f"{CLAIMS}/{metadata['name']}", body)

    def classify(self, error: Exception) -> LaunchFault:
        return fault_of_answer(error)

    async def _claims(self) -> Sequence[Claim]:
        try:
            found = await self._api.list(CLAIMS, labels=f"{names.LABEL_COMPUTE}={self._name}")
        except PoolError as error:
            raise PoolError(error.reason, _with_fix(error)) from error
        self._made -= {claim["metadata"]["name"] for claim in found if _launched(claim)}
        return found

    async def _check(self, wanted: Sequence[str], there: Mapping[str, Claim]) -> None:
        """Raises LaunchError for claims of this launch that Karpenter cannot launch, or has given up and deleted. What it
        still tries is taken back: it might come when nobody wants it."""
        gone = [name for name in wanted if name not in there and name in self._made]
        failed = [there[name] for name in wanted if name in there and _trouble(there[name]) is not None]
        if not gone and not failed:
            return
        for claim in failed:
            await self._end(claim)
        self._made -= set(wanted)
        launched = sum(1 for name in wanted if name in there) - len(failed)
        if failed:
            code, words = _trouble(failed[0]) or ("", "")
            raise LaunchError(fault_of_words(f"{words} {code}")[0], code, words, launched)
        raise LaunchError(
            "Capacity", "NodeClaimDeleted",
            f"Karpenter deleted NodeClaim {gone[0]} before it was launched: there is no capacity, or its node class is not "
            f"ready; kubectl get events -A --field-selector involvedObject.name={gone[0]} tells which",
            launched,
        )  # fmt: skip

    async def _create(self, name: str, kind: InstanceType, tier: Tier, zone: str, token: str) -> None:
        requirements = {
            "kubernetes.io/os": ["linux"],
            "kubernetes.io/arch": [kind.architecture],
            CAPACITY_TYPE: [_TIERS[tier]],
            **(
                {"node.kubernetes.io/instance-type": list(machines)}
                if (machines := self._machines.get(kind.name))
                else {}
            ),
            **({ZONE: [zone]} if zone else {}),
        }
        reference = self._provider.node_class
        body = {
            "apiVersion": "karpenter.sh/v1",
            "kind": "NodeClaim",
            "metadata": {
                "name": name,
                # Karpenter gives the Node these labels too.
                "labels": {names.LABEL_COMPUTE: self._name, names.LABEL_MACHINE: name, INSTANCE_TYPE: kind.name},
                "annotations": {LAUNCH: token},
            },
            "spec": {
                "nodeClassRef": {"group": reference.group, "kind": reference.kind, "name": reference.name},
                "requirements": [
                    {"key": key, "operator": "In", "values": values} for key, values in requirements.items()
                ],
                "resources": {"requests": {name: str(quantity) for name, quantity in kind.resources.items()}},
                "taints": [{"key": names.TAINT_COMPUTE, "value": self._name, "effect": "NoSchedule"}],
                # Unless told so, a machine would end after 30 days whatever runs on it.
                "expireAfter": "Never",
            },
        }
        try:
            await self._api.create(CLAIMS, body)
        except PoolError as error:
            if error.reason != "AlreadyExists":
                raise
            found = await self._api.get(f"{CLAIMS}/{name}")
            if (found["metadata"].get("labels") or {}).get(names.LABEL_COMPUTE) != self._name:
                raise PoolError("Invalid", f"NodeClaim {name} exists already and is none of this pool's") from error
        self._made.add(name)

    async def _end(self, claim: Claim) -> None:
        metadata = claim["metadata"]
        self._made.discard(metadata["name"])
        if metadata.get("deletionTimestamp") is not None:
            return
        path = f"{CLAIMS}/{metadata['name']}"
        await self._merge(path, {"metadata": {"uid": metadata["uid"], "annotations": {ENDED: "true"}}})
        try:
            await self._api.delete(path, uid=metadata["uid"])
        except PoolError as error:
            if error.reason not in ("NotFound", "Conflict"):
                raise

    async def _merge(self, path: str, body: Mapping[str, Any]) -> None:
        try:
            await self._api.merge(path, body)
        except PoolError as error:
            if error.reason not in ("NotFound", "Conflict"):  # gone, or another one of that name
                raise


def _condition(claim: Claim, kind: str) -> Mapping[str, Any]:
    conditions: Sequence[Mapping[str, Any]] = claim.get("status", {}).get("conditions") or ()
    return next((one for one in conditions if one["type"] == kind), {})


def _launched(claim: Claim) -> bool:
    return bool(_condition(claim, "Launched").get("status") == "True")


def _trouble(claim: Claim) -> tuple[str, str] | None:
    """Why Karpenter has not launched a claim, though it tried: its reason and words."""
    found = _condition(claim, "Launched")
    reason = str(found.get("reason", ""))
    if found.get("status") == "True" or reason in _NOT_TRIED or claim["metadata"].get("deletionTimestamp") is not None:
        return None
    return reason, str(found.get("message") or reason)


def _machine(claim: Claim) -> Machine:
    metadata = claim["metadata"]
    labels, annotations = metadata.get("labels") or {}, metadata.get("annotations") or {}
    asked = {one["key"]: one.get("values") or () for one in claim["spec"]["requirements"]}
    state: MachineState = "Booting"
    if metadata.get("deletionTimestamp") is not None:
        state = "Terminating" if ENDED in annotations else "Preempted"
    elif _condition(claim, "Initialized").get("status") == "True":
        state = "Running"
    spot = _TIERS["Spot"] in (labels.get(CAPACITY_TYPE), *asked.get(CAPACITY_TYPE, ()))
    return Machine(
        id=metadata["name"],
        instance_type=labels.get(INSTANCE_TYPE, ""),
        tier="Spot" if spot else "Dedicated",
        state=state,
        launched_at=times.seconds(metadata["creationTimestamp"]) or 0.0,
        node=claim.get("status", {}).get("nodeName", ""),
        zone=labels.get(ZONE, ""),
        token=annotations.get(LAUNCH, ""),
    )


def _with_fix(error: PoolError) -> str:
    """An answer of the API server with what to do about it."""
    if error.reason == "Forbidden":
        return f"{error.message}; add Karpenter to the chart's value rbac.providers"
    if error.reason == "NotFound":
        return f"{error.message}; is Karpenter 1.0 or later installed?"
    return error.message
