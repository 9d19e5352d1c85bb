"""Whether a node was removed under a pod that ran there: told from the order in which etcd took the changes.

Every change in one etcd has a number of its own (resourceVersion). So of a Node's deletion and a pod's binding and end it
is known exactly which came first, however late anybody heard of them.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from stoker.api import names

_ENDED = ("Succeeded", "Failed")


@dataclass
class Node:
    """tainted: when it was to leave, as often as that was decided. removed: when it went; 0 while it is there."""

    tainted: list[int] = field(default_factory=list)
    leaves: bool = False
    removed: int = 0


@dataclass
class Pod:
    """name: `namespace/name`. bound, over: when it was given its node, and when it had ended or was told to; 0: not yet."""

    name: str
    node: str = ""
    bound: int = 0
    over: int = 0
    succeeded: bool = False


@dataclass
class Witness:
    """What is known of nodes by name and of pods by uid."""

    nodes: dict[str, Node] = field(default_factory=dict)
    pods: dict[str, Pod] = field(default_factory=dict)

    def node(self, what: str, version: int, found: Mapping[str, Any]) -> None:
        """A change of a Node. what: ADDED, MODIFIED or DELETED."""
        node = self.nodes.setdefault(found["metadata"]["name"], Node())
        leaves = any(one["key"] == names.TAINT_LEAVING for one in found["spec"].get("taints") or ())
        if leaves and not node.leaves:
            node.tainted.append(version)
        node.leaves = leaves
        if what == "DELETED":
            node.removed = version

    def pod(self, what: str, version: int, found: Mapping[str, Any]) -> None:
        """A change of a pod."""
        metadata = found["metadata"]
        pod = self.pods.setdefault(metadata["uid"], Pod(f"{metadata['namespace']}/{metadata['name']}"))
        if not pod.bound and (node := found["spec"].get("nodeName")):
            pod.node, pod.bound = node, version
        phase = found.get("status", {}).get("phase")
        pod.succeeded = pod.succeeded or phase == "Succeeded"
        if not pod.over and (phase in _ENDED or metadata.get("deletionTimestamp") or what == "DELETED"):
            pod.over = version

    @property
    def removed(self) -> int:
        return sum(1 for node in self.nodes.values() if node.removed)

    def killed(self) -> list[str]:
        """Pods that were on a node and had not ended when it was removed."""
        found = []
        for pod in self.pods.values():
            gone = self.nodes[pod.node].removed if pod.node in self.nodes else 0
            if gone and pod.bound < gone and not 0 < pod.over < gone:
                found.append(f"{pod.name} on {pod.node}")
        return sorted(found)

    def close_calls(self) -> int:
        """Pods that ran on a node that had been told to leave before: each is a removal that was called off in time."""
        return sum(
            1
            for pod in self.pods.values()
            if pod.node in self.nodes and any(at < pod.bound for at in self.nodes[pod.node].tainted)
        )
