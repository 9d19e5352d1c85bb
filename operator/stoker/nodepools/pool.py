"""What every provider promises, and what it may ask of the API server.

There are three kinds: a counted pool is told how many nodes there shall be; a pool of machines launches and terminates
single ones; a pool of rooms has somebody else make room for a gang.
"""

from collections.abc import Collection, Mapping, Sequence
from typing import Any, Protocol, runtime_checkable

from stoker.api.kube import Node
from stoker.core.cluster.machines import Capabilities, LaunchFault, Machine, Tier
from stoker.core.cluster.view import RoomRequest, ScaleView
from stoker.core.plan import HandOver, TakeBack


class PoolError(Exception):
    """The provider did not do it. reason: CamelCase; message: for a person, with the fix where there is one."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason
        self.message = message


class ReplicasChanged(PoolError):
    """The number of nodes wanted is not the one that the plan was made for: somebody else set it. Plan anew."""


class LaunchError(PoolError):
    """Not all machines of a launch came. fault: what kind of trouble; reason: the provider's own code for it. launched:
    how many came all the same."""

    def __init__(self, fault: LaunchFault, code: str, message: str, launched: int = 0) -> None:
        super().__init__(code, message)
        self.fault = fault
        self.launched = launched


class ObjectApi(Protocol):
    """Objects of the API server as plain dicts. Raises PoolError with the server's reason and message: AlreadyExists for
    a name that is taken, NotFound for what is not there, Conflict for another version or uid than the one named."""

    async def get(self, path: str) -> dict[str, Any]: ...

    async def list(self, path: str, *, labels: str = "") -> Sequence[dict[str, Any]]:
        """All objects of a collection that a label selector fits."""

    async def create(self, path: str, body: Mapping[str, Any]) -> dict[str, Any]: ...

    async def merge(self, path: str, body: Mapping[str, Any]) -> dict[str, Any]:
        """JSON merge patch; with metadata.resourceVersion in the body, PoolError `Conflict` if it has changed."""

    async def delete(self, path: str, *, uid: str) -> None:
        """Delete the object that has this uid; empty: whichever has the name."""


class NodePool(Protocol):
    """The nodes of one ComputeCluster."""

    def owns(self, node: Node) -> bool:
        """Whether a node belongs to this pool."""


@runtime_checkable
class CountedPool(NodePool, Protocol):
    """A pool whose size is one number. Every call may be repeated and has its effect once."""

    async def scale(self) -> ScaleView | None:
        """How many nodes are wanted now, or why that cannot be read; None where the provider does not scale."""

    async def scale_to(self, from_replicas: int, replicas: int) -> None:
        """Want so many nodes, if `from_replicas` are wanted now; raises ReplicasChanged otherwise, PoolError on failure."""


@runtime_checkable
class MachinePool(NodePool, Protocol):
    """A pool of single machines. Every call may be repeated with the same token and has its effect once, also by another
    process: what a token has launched is known at the provider, not here."""

    async def describe(self) -> Capabilities:
        """What the provider can do for this pool. Raises PoolError when it cannot be asked."""

    async def list(self) -> tuple[Machine, ...]:
        """The pool's machines, none of anybody else's. One that has gone may show as Terminating for a while. Raises
        PoolError when they cannot be listed."""

    async def launch(self, *, count: int, instance_type: str, tier: Tier, zone: str, atomic: bool, token: str) -> None:
        """Have `count` machines launched under a token, fewer if it has launched some before. It does not wait for them.

        instance_type: name in the cluster's instanceTypes. zone: empty for any. atomic: all or none, where the provider
        can. Raises LaunchError when they do not come, be it of this call or of a former one with this token.
        """

    async def terminate(self, ids: Collection[str], *, token: str) -> None:
        """Have machines of this pool terminated. One that is gone is as good; one of another pool is left alone. Raises
        PoolError on failure."""

    async def hold(self, ids: Collection[str]) -> None:
        """These machines have jobs and the pool's others have none: see to it that nobody else takes them away. Raises
        PoolError on failure."""

    def classify(self, error: Exception) -> LaunchFault:
        """What kind of trouble an error of the provider's is."""


@runtime_checkable
class RoomPool(NodePool, Protocol):
    """A pool that owns no node: somebody else is asked to make room for a whole gang. Every call may be repeated."""

    async def rooms(self) -> Mapping[tuple[str, int], RoomRequest]:
        """The pool's requests by job uid and attempt. Raises PoolError when they cannot be listed."""

    async def hand_over(self, order: HandOver) -> None:
        """Ask for room. Raises PoolError."""

    async def take_back(self, order: TakeBack) -> None:
        """Ask no longer. Raises PoolError."""


def has_labels(node: Node, wanted: Mapping[str, str]) -> bool:
    """Whether a node carries all these labels."""
    labels = node.metadata.labels
    return all(labels.get(name) == value for name, value in wanted.items())


def cannot_scale(kind: str) -> PoolError:
    """The error of a provider that was told to scale and has nothing to scale."""
    return PoolError("NotScalable", f"a pool of type {kind} has a fixed number of nodes")


#: What an answer of the API server means for a launch, by its reason; any other passes.
_FAULTS: dict[str, LaunchFault] = {
    "Forbidden": "Auth",
    "Unauthorized": "Auth",
    "TooManyRequests": "Throttled",
    "Invalid": "Config",
    "BadRequest": "Config",
    "NotFound": "Config",
    "MethodNotAllowed": "Config",
}


def fault_of_answer(error: Exception) -> LaunchFault:
    """What kind of trouble an answer of the API server (a PoolError of an ObjectApi) is."""
    if isinstance(error, LaunchError):
        return error.fault
    if not isinstance(error, PoolError):
        return "Transient"
    if error.reason == "Forbidden" and "exceeded quota" in error.message:
        return "Quota"
    return _FAULTS.get(error.reason, "Transient")
