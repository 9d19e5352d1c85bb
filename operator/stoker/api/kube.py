"""The parts of Kubernetes' own objects that Stoker reads: lean, so that ten thousand pods fit in little memory."""

from typing import Any, TypedDict, dataclass_transform

import msgspec


# msgspec's frozen=True is inherited; type checkers learn so from the decorator.
@dataclass_transform(frozen_default=True, kw_only_default=True, field_specifiers=(msgspec.field,))
class Lean(msgspec.Struct, frozen=True, kw_only=True, rename="camel", gc=False):
    """Base of a projection: unknown members are dropped while decoding."""


class OwnerReference(Lean):
    kind: str = ""
    name: str = ""
    uid: str = ""
    controller: bool = False


class ObjectMeta(Lean):
    name: str = ""
    namespace: str = ""
    uid: str = ""
    resource_version: str = ""
    generation: int = 0
    creation_timestamp: str = ""
    deletion_timestamp: str | None = None
    labels: dict[str, str] = {}
    annotations: dict[str, str] = {}
    owner_references: tuple[OwnerReference, ...] = ()
    finalizers: tuple[str, ...] = ()

    @property
    def controller(self) -> OwnerReference | None:
        """The owner that controls this object, or None."""
        return next((owner for owner in self.owner_references if owner.controller), None)


class KubeCondition(Lean):
    """A condition of a pod, node or Job; times are RFC 3339."""

    type: str = ""
    status: str = "Unknown"
    reason: str = ""
    message: str = ""
    last_transition_time: str | None = None


class ContainerStateRunning(Lean):
    started_at: str | None = None


class ContainerStateWaiting(Lean):
    reason: str = ""
    message: str = ""


class ContainerStateTerminated(Lean):
    exit_code: int = 0
    signal: int = 0
    reason: str = ""
    message: str = ""
    started_at: str | None = None
    finished_at: str | None = None


class ContainerState(Lean):
    running: ContainerStateRunning | None = None
    waiting: ContainerStateWaiting | None = None
    terminated: ContainerStateTerminated | None = None


class ContainerStatus(Lean):
    name: str = ""
    ready: bool = False
    started: bool | None = None
    restart_count: int = 0
    state: ContainerState = ContainerState()
    last_state: ContainerState = ContainerState()


class PodSpec(Lean):
    node_name: str = ""


class PodStatus(Lean):
    phase: str = "Pending"
    reason: str = ""
    message: str = ""
    start_time: str | None = None
    conditions: tuple[KubeCondition, ...] = ()
    init_container_statuses: tuple[ContainerStatus, ...] = ()
    container_statuses: tuple[ContainerStatus, ...] = ()


class Pod(Lean):
    metadata: ObjectMeta
    spec: PodSpec = PodSpec()
    status: PodStatus = PodStatus()


class TemplateSpec(TypedDict, total=False):
    """What is kept of a pod template's spec: which nodes the attempt was given stands in its affinity."""

    affinity: dict[str, Any]


class PodTemplate(TypedDict, total=False):
    """A plain dict of which msgspec builds only these members: a whole template would be most of a Job's memory."""

    spec: TemplateSpec


class BatchJobSpec(Lean):
    completions: int = 1
    suspend: bool = False
    ttl_seconds_after_finished: int | None = None
    template: PodTemplate = {}


class BatchJobStatus(Lean):
    active: int = 0
    succeeded: int = 0
    failed: int = 0
    conditions: tuple[KubeCondition, ...] = ()


class BatchJob(Lean):
    metadata: ObjectMeta
    spec: BatchJobSpec = BatchJobSpec()
    status: BatchJobStatus = BatchJobStatus()


class ClaimStatus(Lean):
    phase: str = "Pending"


class Claim(Lean):
    """A PersistentVolumeClaim; `phase` Bound: it has a volume."""

    metadata: ObjectMeta
    status: ClaimStatus = ClaimStatus()


class Taint(Lean):
    key: str = ""
    value: str = ""
    effect: str = ""


class NodeSpec(Lean):
    unschedulable: bool = False
    #: What the cloud calls the machine, such as `aws:///eu-west-1a/i-0abc`.
    provider_id: str = msgspec.field(default="", name="providerID")
    taints: tuple[Taint, ...] = ()


class NodeSystemInfo(Lean):
    architecture: str = "amd64"
    kubelet_version: str = ""


class NodeStatus(Lean):
    capacity: dict[str, str] = {}
    allocatable: dict[str, str] = {}
    conditions: tuple[KubeCondition, ...] = ()
    node_info: NodeSystemInfo = NodeSystemInfo()


class Node(Lean):
    metadata: ObjectMeta
    spec: NodeSpec = NodeSpec()
    status: NodeStatus = NodeStatus()


class ObjectReference(Lean):
    kind: str = ""
    namespace: str = ""
    name: str = ""
    uid: str = ""


class Event(Lean):
    """A core/v1 Event about a child; `type` is Normal or Warning."""

    metadata: ObjectMeta
    involved_object: ObjectReference = ObjectReference()
    reason: str = ""
    message: str = ""
    type: str = ""
    count: int = 1
