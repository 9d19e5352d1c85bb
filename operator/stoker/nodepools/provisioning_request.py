"""ProvisioningRequest: the cluster's autoscaler (cluster-autoscaler, GKE) makes room for a whole gang, or says why not.

A request is an object in the job's namespace, named as the attempt's child; the pods that use its room name it. The nodes
are the autoscaler's: it brings them, and takes them when they are empty.
"""

from collections.abc import Mapping
from typing import Any

from stoker.api import names
from stoker.api.computecluster import ComputeCluster
from stoker.api.kube import Node
from stoker.api.providers import ProvisioningRequestProvider
from stoker.core import times, units
from stoker.core.cluster.view import RoomAnswer, RoomRequest
from stoker.core.plan import HandOver, TakeBack
from stoker.core.podspec import AGENT_REQUESTS, instance_type
from stoker.nodepools.pool import ObjectApi, PoolError

GROUP = "/apis/autoscaling.x-k8s.io/v1"
#: Never run: the template only says what a pod asks for.
IMAGE = "registry.k8s.io/pause:3.10"
#: Conditions that end a request, each by itself: it has to be made anew.
_ENDS = ("Failed", "CapacityRevoked", "BookingExpired")


class ProvisioningRequestPool:
    def __init__(self, cluster: ComputeCluster, provider: ProvisioningRequestProvider, api: ObjectApi) -> None:
        self._cluster = cluster
        self._provider = provider
        self._api = api

    def owns(self, node: Node) -> bool:
        return False

    async def rooms(self) -> Mapping[tuple[str, int], RoomRequest]:
        selector = f"{names.LABEL_COMPUTE}={self._cluster.metadata.name}"
        try:
            found = await self._api.list(f"{GROUP}/provisioningrequests", labels=selector)
        except PoolError as error:
            raise PoolError(error.reason, _with_fix(error)) from error
        return {_key(one): _request(one) for one in found}

    async def hand_over(self, order: HandOver) -> None:
        name = names.child_name(order.job, order.job_uid, order.attempt)
        metadata = {
            "name": name,
            "namespace": order.namespace,
            "labels": {
                names.LABEL_COMPUTE: order.cluster,
                names.LABEL_JOB: order.job,
                names.LABEL_JOB_UID: order.job_uid,
                names.LABEL_ATTEMPT: str(order.attempt),
            },
            "ownerReferences": [
                {"apiVersion": names.API_VERSION, "kind": "TrainingJob", "name": order.job, "uid": order.job_uid}
            ],
        }
        template = {"apiVersion": "v1", "kind": "PodTemplate", "metadata": metadata, "template": self._pod(order)}
        request = {
            "apiVersion": "autoscaling.x-k8s.io/v1",
            "kind": "ProvisioningRequest",
            "metadata": metadata,
            "spec": {
                "provisioningClassName": self._provider.class_name,
                "parameters": dict(self._provider.parameters),
                "podSets": [{"count": order.count, "podTemplateRef": {"name": name}}],
            },
        }
        # The template first: a request that names none is refused.
        await self._create(f"/api/v1/namespaces/{order.namespace}/podtemplates", template)
        await self._create(f"{GROUP}/namespaces/{order.namespace}/provisioningrequests", request)

    async def take_back(self, order: TakeBack) -> None:
        within = f"namespaces/{order.namespace}"
        if await self._deleted(f"{GROUP}/{within}/provisioningrequests/{order.name}", order.uid):
            await self._deleted(f"/api/v1/{within}/podtemplates/{order.name}", "")

    def _pod(self, order: HandOver) -> dict[str, Any]:
        """What one pod of the gang asks of a node."""
        spec = self._cluster.spec
        kind = instance_type(self._cluster, order.instance_type)
        main = dict(order.requests)
        if not main and kind is not None:
            main = units.less(kind.resources, spec.node_reserve, AGENT_REQUESTS)
        toleration = {"key": names.TAINT_COMPUTE, "value": order.cluster, "effect": "NoSchedule"}
        defaults = spec.pod_defaults
        more = [_toleration(one) for one in defaults.tolerations] if defaults is not None else []
        selector = {
            **({"kubernetes.io/arch": kind.architecture} if kind is not None else {}),
            **(defaults.node_selector if defaults is not None else {}),
            **self._provider.node_selector,
        }
        containers = [
            {"name": name, "image": IMAGE, "resources": {"requests": amounts, "limits": _devices(amounts)}}
            for name, amounts in (("main", main), ("ship", dict(AGENT_REQUESTS)))
        ]
        return {
            "metadata": {"labels": {names.LABEL_COMPUTE: order.cluster}},
            "spec": {
                "restartPolicy": "Never", "containers": containers, "nodeSelector": selector,
                "tolerations": [toleration, *more],
            },
        }  # fmt: skip

    async def _create(self, path: str, body: Mapping[str, Any]) -> None:
        try:
            await self._api.create(path, body)
        except PoolError as error:
            if error.reason != "AlreadyExists":
                raise PoolError(error.reason, _with_fix(error)) from error

    async def _deleted(self, path: str, uid: str) -> bool:
        """Delete an object; False when the name is another one's by now."""
        try:
            await self._api.delete(path, uid=uid)
        except PoolError as error:
            if error.reason not in ("NotFound", "Conflict"):
                raise
            return error.reason == "NotFound"
        return True


def _key(found: Mapping[str, Any]) -> tuple[str, int]:
    labels = found["metadata"].get("labels") or {}
    return labels.get(names.LABEL_JOB_UID, ""), int(labels.get(names.LABEL_ATTEMPT, "0"))


def _request(found: Mapping[str, Any]) -> RoomRequest:
    metadata = found["metadata"]
    stands = {one["type"]: one for one in found.get("status", {}).get("conditions") or ()}
    true = {kind for kind, one in stands.items() if one.get("status") == "True"}
    answer: RoomAnswer = "Waiting"
    telling = next((kind for kind in ("Provisioned", "Accepted") if kind in stands), "")
    if ended := next((kind for kind in _ENDS if kind in true), ""):
        answer, telling = "Failed", ended
    elif "Provisioned" in true:
        answer = "Provisioned"
    told = stands.get(telling, {})
    return RoomRequest(
        metadata["namespace"], metadata["name"], metadata["uid"], answer,
        reason=str(told.get("reason") or telling), message=str(told.get("message", "")),
        since=times.seconds(told.get("lastTransitionTime")) or times.seconds(metadata["creationTimestamp"]) or 0.0,
    )  # fmt: skip


def _devices(amounts: Mapping[str, str]) -> dict[str, str]:
    """Devices are limited to what is asked for, or the API server refuses the template's pods."""
    return {name: amount for name, amount in amounts.items() if units.is_extended(name)}


def _toleration(one: Any) -> dict[str, Any]:
    told = {"key": one.key, "operator": one.operator, "value": one.value, "effect": one.effect}
    return {name: value for name, value in told.items() if value}


def _with_fix(error: PoolError) -> str:
    """An answer of the API server with what to do about it."""
    if error.reason == "Forbidden":
        return f"{error.message}; add ProvisioningRequest to the chart's value rbac.providers"
    if error.reason == "NotFound":
        return f"{error.message}; does the cluster's autoscaler know ProvisioningRequests (autoscaling.x-k8s.io/v1)?"
    return error.message
