"""Karpenter's part in tests: what its controller makes of NodeClaims, over any API server."""

from typing import Any

from stoker.core.cluster.machines import LaunchFault
from stoker.nodepools.karpenter import CLAIMS, NODES
from stoker.nodepools.pool import ObjectApi

Json = dict[str, Any]
#: On Nodes: the claim that they are for.
OF_CLAIM = "tests.stoker.dev/claim"
#: How Karpenter tells of each kind of trouble: the words are the cloud's own.
WORDS: dict[LaunchFault, str] = {
    "Quota": "creating instance, VcpuLimitExceeded: You have requested more vCPU capacity than your current vCPU limit",
    "Throttled": "creating instance, RequestLimitExceeded: Request limit exceeded.",
    "Auth": "creating instance, UnauthorizedOperation: You are not authorized to perform this operation.",
    "Config": "creating instance, InvalidParameterValue: invalid subnet",
    "Transient": "creating instance, internal error",
}


class Karpenter:
    """refused: what every launch comes to. room: machines that can be had yet, None for any number."""

    def __init__(self, api: ObjectApi) -> None:
        self._api = api
        self.refused: LaunchFault | None = None
        self.room: int | None = None

    async def settle(self) -> None:
        """One round of its controller over all claims."""
        for claim in await self._api.list(CLAIMS):
            conditions = claim.get("status", {}).get("conditions") or ()
            if not any(one["type"] == "Launched" and one["status"] == "True" for one in conditions):
                await self._launch(claim)

    async def _launch(self, claim: Json) -> None:
        metadata = claim["metadata"]
        if self.refused == "Capacity" or self.room == 0:
            await self._api.delete(f"{CLAIMS}/{metadata['name']}", uid=metadata["uid"])
            return
        if self.refused is not None:
            await self.status(metadata["name"], Launched=("Unknown", "LaunchFailed", WORDS[self.refused]))
            return
        if self.room is not None:
            self.room -= 1
        labels = {**(metadata.get("labels") or {}), OF_CLAIM: metadata["name"]}
        body = {
            "apiVersion": "v1", "kind": "Node", "metadata": {"name": f"ip-{metadata['name']}", "labels": labels},
            "spec": {"providerID": f"aws:///a/i-{metadata['name']}", "taints": claim["spec"].get("taints", [])},
        }  # fmt: skip
        await self._api.create(NODES, body)
        done = ("True", "Launched", "")
        await self.status(
            metadata["name"], node=f"ip-{metadata['name']}", Launched=done, Registered=done, Initialized=done
        )

    async def status(self, name: str, node: str = "", **conditions: tuple[str, str, str]) -> None:
        """Set conditions, each as (status, reason, message)."""
        body = {
            "conditions": [
                {"type": kind, "status": status, "reason": reason, "message": message, "lastTransitionTime": "2026-01-02T03:04:05Z"}
                for kind, (status, reason, message) in conditions.items()
            ],
            **({"nodeName": node, "providerID": f"aws:///a/i-{name}"} if node else {}),
        }  # fmt: skip
        await self._api.merge(f"{CLAIMS}/{name}/status", {"status": body})
