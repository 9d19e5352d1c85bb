"""ComputeCluster: a pool of nodes that grows from zero for jobs and shrinks again."""

from typing import Annotated, Literal

import msgspec

from stoker.api.common import Condition, PodShape, Resources, as_text, resource
from stoker.api.kube import ObjectMeta
from stoker.api.providers import Provider
from stoker.api.schema import Rule, Spec, field, rules


class InstanceType(Spec):
    """A kind of node of the pool."""

    name: Annotated[str, field("Name that jobs use in resources.instanceType.", min_length=1, max_length=63)]
    architecture: Annotated[Literal["amd64", "arm64"], field("CPU architecture.")] = "amd64"
    resources: Annotated[
        Resources,
        field(
            "What one node offers (allocatable); a job without requests asks for all of it less nodeReserve.",
            min_length=1,
            max_length=16,
        ),
    ] = msgspec.field(default_factory=dict)
    machine: Annotated[
        str | None,
        field(
            "The provider's own name of the type, as `g5.xlarge`; missing: the name above.",
            min_length=1,
            max_length=253,
        ),
    ] = None
    tier: Annotated[
        Literal["Dedicated", "Spot"],
        field("Dedicated: kept until Stoker ends it. Spot: cheaper, and the provider may take it back."),
    ] = "Dedicated"

    def __post_init__(self) -> None:
        msgspec.structs.force_setattr(self, "resources", as_text(self.resources))


class Fallback(Spec):
    """Another tier for gangs that wait long for machines."""

    to_tier: Annotated[Literal["Dedicated", "Spot"], field("Tier whose types are taken then, in their order.")]
    after_seconds: Annotated[
        int, field("How long a gang waits for machines of its own type's tier, in seconds.", ge=0, le=86400)
    ] = 300


class ScaleUp(Spec):
    """How long the pool waits for nodes."""

    ready_seconds: Annotated[
        int,
        field("How long a new node may take until it is ready, in seconds; after that it is unusable.", ge=1, le=86400),
    ] = 900
    partial_hold_seconds: Annotated[
        int,
        field(
            "How long free nodes are kept for a gang whose other nodes have jobs or cannot be had, in seconds; after that "
            "they go like any idle node, and the gang keeps its place in the line.",
            ge=0,
            le=86400,
        ),
    ] = 600
    max_parallel: Annotated[
        int | None,
        field(
            "Most nodes that boot at a time; a larger gang's boot together once no other node does. Missing: no limit.",
            ge=1,
            le=10000,
        ),
    ] = None


class NamespaceSelector(Spec):
    """Which namespaces may use the pool; empty means all."""

    match_names: Annotated[
        tuple[str, ...],
        field(
            "Namespaces by name; empty means all.",
            max_length=256,
            list_is_set=True,
            schema={"items": {"type": "string", "maxLength": 63}},
        ),
    ] = ()


@rules(
    Rule(
        "self.minInstances <= self.maxInstances",
        "minInstances exceeds maxInstances",
        "lower minInstances or raise maxInstances",
        at=".minInstances",
    ),
    Rule(
        "self.provider.type != 'Scale' || size(self.instanceTypes) == 1",
        "provider type Scale has exactly one instance type, for one object scales one kind of node",
        "make one ComputeCluster per instance type",
        at=".instanceTypes",
    ),
)
class ComputeClusterSpec(Spec):
    """Who brings the nodes, how many, of which kind, and when they go."""

    provider: Annotated[Provider, field("Who brings and removes the nodes.")]
    max_instances: Annotated[int, field("Most nodes at a time; never enforced by ending a job.", ge=0, le=10000)]
    allowed_namespaces: Annotated[NamespaceSelector, field("Who may use the pool; `{}` means every namespace.")]
    instance_types: Annotated[
        tuple[InstanceType, ...],
        field("Kinds of nodes, in order of preference.", min_length=1, max_length=32, list_map_key="name"),
    ]
    min_instances: Annotated[int, field("Fewest nodes, kept when idle.", ge=0, le=10000)] = 0
    idle_seconds_before_scale_down: Annotated[
        int, field("How long a node may be idle before it goes, in seconds.", ge=0, le=604800)
    ] = 120
    idle_policy: Annotated[
        Literal["Fixed", "Learned"],
        field(
            "Fixed: a node goes after idleSecondsBeforeScaleDown. Learned: after the time that would have cost least in the "
            "pool's own past, boots counted as waste; as long as a boot takes until ten pauses between jobs are known."
        ),
    ] = "Fixed"
    max_idle_seconds: Annotated[
        int, field("Longest idle time that idlePolicy Learned may choose, in seconds.", ge=0, le=604800)
    ] = 3600
    scale_up: Annotated[ScaleUp, field("How long the pool waits for nodes.")] = ScaleUp()
    fallback: Annotated[
        Fallback | None,
        field("For jobs that name no type or one that cannot be had: another tier after a time; missing: never."),
    ] = None
    paused: Annotated[
        bool, field("Give nodes to no further job; jobs that have theirs go on, and idle nodes go as usual.")
    ] = False
    node_reserve: Annotated[
        Resources, field("What a whole-node job leaves free for the node's own daemons.", max_length=16)
    ] = msgspec.field(default_factory=lambda: {"cpu": "200m", "memory": "256Mi"})
    pod_defaults: Annotated[PodShape | None, field("Added to every pod on this pool; wins over the job's own.")] = None
    allow_root_pods: Annotated[bool, field("Whether jobs may run as root here.")] = False

    def __post_init__(self) -> None:
        msgspec.structs.force_setattr(self, "node_reserve", as_text(self.node_reserve))


class NodeCounts(Spec, omit_defaults=False):
    """Nodes by state, in Azure ML's words."""

    idle: Annotated[int, field("Ready and free.")] = 0
    running: Annotated[int, field("With a job.")] = 0
    preparing: Annotated[int, field("Asked for, or booting.")] = 0
    unusable: Annotated[int, field("Not ready or set aside.")] = 0
    leaving: Annotated[int, field("Being removed.")] = 0
    preempted: Annotated[int, field("Taken back by the provider.")] = 0


class Problem(Spec):
    """Something a person should look at."""

    reason: Annotated[str, field("One CamelCase word.", max_length=64)]
    message: Annotated[str, field("What it is, with the fix.", max_length=1024)] = ""
    since: Annotated[str, field("Since when (RFC 3339).", max_length=40)] = ""


class LearnedIdle(Spec, omit_defaults=False):
    """What idlePolicy Learned has learned, written at most once an hour."""

    at: Annotated[str, field("When this was written (RFC 3339).", max_length=40)] = ""
    idle_seconds: Annotated[int, field("How long a node may be idle, in seconds.")] = 0
    boot_seconds: Annotated[int, field("How long a node takes from being asked for until it can take a job.")] = 0
    pauses: Annotated[int, field("Pauses between two uses of a node that were seen.")] = 0
    memory: Annotated[
        str,
        field("For the operator itself: how often pauses of which length came, and the last boots.", max_length=8192),
    ] = ""


class Intent(Spec):
    """An order to the provider, written down before it is given, so that nobody gives it twice or forgets it."""

    token: Annotated[str, field("Name of the order; the provider does it once.", max_length=128)]
    kind: Annotated[Literal["Launch", "Terminate"], field("What is ordered.")]
    count: Annotated[int, field("Machines to be launched.")] = 0
    ids: Annotated[
        tuple[str, ...],
        field("Machines to be terminated.", max_length=1000, schema={"items": {"type": "string", "maxLength": 253}}),
    ] = ()
    instance_type: Annotated[str, field("Name of the type to be launched.", max_length=63)] = ""
    tier: Annotated[str, field("Dedicated or Spot.", max_length=16)] = ""
    zone: Annotated[str, field("Zone; empty: any.", max_length=63)] = ""
    atomic: Annotated[bool, field("All or none, where the provider can.")] = False
    since: Annotated[str, field("When it was decided (RFC 3339).", max_length=40)] = ""


class Backoff(Spec):
    """A kind of machine that could not be had, and is not asked for until a moment."""

    instance_type: Annotated[str, field("Name of the type.", max_length=63)]
    tier: Annotated[str, field("Dedicated or Spot.", max_length=16)] = ""
    zone: Annotated[str, field("Zone; empty: any.", max_length=63)] = ""
    until: Annotated[str, field("When it is asked for again (RFC 3339).", max_length=40)] = ""
    attempts: Annotated[int, field("Launches that failed in a row.")] = 0
    fault: Annotated[str, field("Capacity, Quota, Throttled, Auth, Config or Transient.", max_length=16)] = ""
    code: Annotated[str, field("The provider's own code.", max_length=128)] = ""
    message: Annotated[str, field("The provider's own words.", max_length=1024)] = ""


class ComputeClusterStatus(Spec):
    """What is seen of the pool."""

    observed_generation: Annotated[int, field("metadata.generation that this was computed from.")] = 0
    conditions: Annotated[tuple[Condition, ...], field("Facts for machines.", max_length=16, list_map_key="type")] = ()
    allocation_state: Annotated[Literal["Steady", "Resizing"], field("Whether nodes are coming or going.")] = "Steady"
    current_nodes: Annotated[int, field("Nodes that exist.")] = 0
    target_nodes: Annotated[int, field("Nodes wanted.")] = 0
    nodes: Annotated[NodeCounts, field("Nodes by state.")] = NodeCounts()
    waiting_jobs: Annotated[dict[str, int], field("Jobs that wait for nodes here, by reason.", max_length=32)] = (
        msgspec.field(default_factory=dict)
    )
    problems: Annotated[tuple[Problem, ...], field("The 20 oldest problems.", max_length=20)] = ()
    intents: Annotated[
        tuple[Intent, ...], field("Orders to the provider that are not done.", max_length=64, list_map_key="token")
    ] = ()
    launches: Annotated[int, field("Orders ever written down; the next one's number.")] = 0
    backoff: Annotated[tuple[Backoff, ...], field("Kinds of machines that cannot be had now.", max_length=64)] = ()
    learned: Annotated[LearnedIdle | None, field("What idlePolicy Learned has learned.")] = None


@resource(
    "ComputeCluster",
    "computeclusters",
    "scc",
    namespaced=False,
    columns=(
        ("Provider", "string", ".spec.provider.type"),
        ("Nodes", "integer", ".status.currentNodes"),
        ("Target", "integer", ".status.targetNodes"),
        ("Max", "integer", ".spec.maxInstances"),
        ("State", "string", ".status.allocationState"),
        ("Age", "date", ".metadata.creationTimestamp"),
    ),
)
@rules(
    Rule(
        "size(self.metadata.name) <= 63",
        "a ComputeCluster's name has at most 63 characters, for it becomes a label",
        "shorten metadata.name",
    ),
    Rule(
        "!(self.metadata.name in ['local', 'serverless'])",
        "the names `local` and `serverless` are reserved",
        "choose another metadata.name",
    ),
)
class ComputeCluster(Spec):
    """A pool of nodes that grows from zero for jobs and shrinks again."""

    metadata: ObjectMeta
    spec: ComputeClusterSpec
    status: ComputeClusterStatus = ComputeClusterStatus()
