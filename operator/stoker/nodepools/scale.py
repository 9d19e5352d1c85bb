"""Scale: any object with a /scale subresource, such as a MachineDeployment of Cluster API.

Raising its replicas brings nodes. To remove a certain node, it is marked first (an annotation, done by the executor)
and then the replicas are lowered. Not during a rollout: then old machines go first, marked or not.
"""

from collections.abc import Mapping
from typing import Any

from stoker.api.kube import Node
from stoker.api.names import LABEL_COMPUTE
from stoker.api.providers import ScaleProvider
from stoker.core.cluster.view import ScaleView
from stoker.nodepools.pool import ObjectApi, PoolError, ReplicasChanged, has_labels


class ScalePool:
    def __init__(self, name: str, provider: ScaleProvider, api: ObjectApi) -> None:
        self._name = name
        self._provider = provider
        self._api = api
        self._path: str | None = None

    def owns(self, node: Node) -> bool:
        labels = node.metadata.labels
        return labels.get(LABEL_COMPUTE, self._name) == self._name and has_labels(node, self._provider.node_selector)

    async def scale(self) -> ScaleView:
        try:
            return ScaleView(replicas=(await self._replicas())[0], rollout=_rollout(await self._object(), self._called))
        except PoolError as error:
            return ScaleView(problem=(error.reason, error.message))

    async def scale_to(self, from_replicas: int, replicas: int) -> None:
        found, version = await self._replicas()
        if found == replicas:
            return
        if found != from_replicas:
            raise ReplicasChanged(
                "ReplicasChanged", f"{self._called} has {found} replicas, not {from_replicas}: somebody else changed it"
            )
        if replicas < found:
            await self._check_settled()
        body = {"metadata": {"resourceVersion": version}, "spec": {"replicas": replicas}}
        try:
            await self._api.merge(f"{await self._find()}/scale", body)
        except PoolError as error:
            if error.reason == "Conflict":
                raise ReplicasChanged("ReplicasChanged", f"{self._called} changed meanwhile") from error
            raise

    @property
    def _called(self) -> str:
        provider = self._provider
        return f"{provider.kind} {provider.namespace + '/' if provider.namespace else ''}{provider.name}"

    async def _replicas(self) -> tuple[int, str]:
        """Replicas wanted, and the resourceVersion that says so."""
        document = await self._api.get(f"{await self._find()}/scale")
        return int(document.get("spec", {}).get("replicas", 0)), str(document["metadata"].get("resourceVersion", ""))

    async def _object(self) -> Mapping[str, Any]:
        return await self._api.get(await self._find())

    async def _check_settled(self) -> None:
        """Raises PoolError RolloutUnderWay while it is not sure that the node we have marked is the one that goes."""
        document = await self._object()
        if words := _rollout(document, self._called):
            raise PoolError("RolloutUnderWay", words)
        seen = document.get("status", {}).get("observedGeneration")
        if seen is not None and seen < document["metadata"].get("generation", 0):
            raise ReplicasChanged("ReplicasChanged", f"the last change of {self._called} has not been acted on yet")

    async def _find(self) -> str:
        """The object's path; the plural comes from the API server's discovery, once."""
        if self._path is not None:
            return self._path
        provider = self._provider
        version = provider.api_version
        prefix = f"/apis/{version}" if "/" in version else f"/api/{version}"
        try:
            listed = (await self._api.get(prefix)).get("resources", ())
        except PoolError as error:
            raise PoolError("ScaleKindUnknown", f"provider.scale.apiVersion: {version!r}: {error.message}") from error
        plurals = {entry["name"] for entry in listed}
        for entry in listed:
            if entry["kind"] == provider.kind and "/" not in entry["name"]:
                if f"{entry['name']}/scale" not in plurals:
                    raise PoolError("NotScalable", f"provider.scale.kind: {provider.kind} has no scale subresource")
                if entry["namespaced"] != bool(provider.namespace):
                    fix = "give" if entry["namespaced"] else "remove"
                    raise PoolError("ScaleKindUnknown", f"provider.scale.namespace: {fix} it, as {provider.kind} needs")
                within = f"/namespaces/{provider.namespace}" if provider.namespace else ""
                self._path = f"{prefix}{within}/{entry['name']}/{provider.name}"
                return self._path
        raise PoolError("ScaleKindUnknown", f"provider.scale.kind: {version} has no kind {provider.kind!r}")


def _rollout(document: Mapping[str, Any], called: str) -> str:
    """What is said of an object that replaces its machines; empty for one that does not, or has no word for it.

    MachineDeployment counts the machines of its present template as updatedReplicas, from v1beta2 on as upToDateReplicas.
    """
    status = document.get("status", {})
    there = status.get("replicas")
    updated = status.get("upToDateReplicas", status.get("updatedReplicas"))
    if there is None or updated is None or updated == there:
        return ""
    return f"{called} replaces its machines ({updated} of {there} are new): no node is removed until it is done"
