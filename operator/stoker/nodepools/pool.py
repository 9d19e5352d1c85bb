"""What every provider promises, and what it may ask of the API server."""

from collections.abc import Mapping
from typing import Any, Protocol

from stoker.api.kube import Node
from stoker.core.cluster.view import ScaleView


class PoolError(Exception):
    """The provider did not do it. reason: CamelCase; message: for a person, with the fix where there is one."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason
        self.message = message


class ReplicasChanged(PoolError):
    """The number of nodes wanted is not the one that the plan was made for: somebody else set it. Plan anew."""


class ObjectApi(Protocol):
    """Objects of the API server as plain dicts. Raises PoolError with the server's reason and message."""

    async def get(self, path: str) -> dict[str, Any]: ...

    async def merge(self, path: str, body: Mapping[str, Any]) -> dict[str, Any]:
        """JSON merge patch; with metadata.resourceVersion in the body, PoolError `Conflict` if it has changed."""


class NodePool(Protocol):
    """The machines of one ComputeCluster. Every call may be repeated and has its effect once."""

    def owns(self, node: Node) -> bool:
        """Whether a node belongs to this pool."""

    async def scale(self) -> ScaleView | None:
        """How many nodes are wanted now, or why that cannot be read; None where the provider does not scale."""

    async def scale_to(self, from_replicas: int, replicas: int) -> None:
        """Want so many nodes, if `from_replicas` are wanted now; raises ReplicasChanged otherwise, PoolError on failure."""


def has_labels(node: Node, wanted: Mapping[str, str]) -> bool:
    """Whether a node carries all these labels."""
    labels = node.metadata.labels
    return all(labels.get(name) == value for name, value in wanted.items())


def cannot_scale(kind: str) -> PoolError:
    """The error of a provider that was told to scale and has nothing to scale."""
    return PoolError("NotScalable", f"a pool of type {kind} has a fixed number of nodes")
