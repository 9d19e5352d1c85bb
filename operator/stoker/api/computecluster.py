"""ComputeCluster: a pool of nodes that grows from zero for jobs and shrinks again."""

from typing import Annotated, Literal

import msgspec

from stoker.api.common import AMOUNT, Condition, PodShape, Resources, as_text, resource
from stoker.api.kube import ObjectMeta
from stoker.api.providers import Provider
from stoker.api.schema import Rule, Spec, field, rules

#: A time of day.
CLOCK = r"^([01][0-9]|2[0-3]):[0-5][0-9]$"
DAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
Day = Annotated[
    Literal["Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"], field("A day of the week.")
]


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
    price_per_hour: Annotated[
        str | None,
        field(
            "What one node costs an hour, in the currency of your bill, as `3.06`; missing: it counts as free.",
            max_length=20,
            pattern=AMOUNT,
        ),
    ] = None

    def __post_init__(self) -> None:
        msgspec.structs.force_setattr(self, "resources", as_text(self.resources))


class Fallback(Spec):
    """Another tier for gangs that wait long for machines."""

    to_tier: Annotated[Literal["Dedicated", "Spot"], field("Tier whose types are taken then, in their order.")]
    after_seconds: Annotated[
        int, field("How long a gang waits for machines of its own type's tier, in seconds.", ge=0, le=86400)
    ] = 300


class WarmTime(Spec):
    """A time of the week in which nodes are kept warm."""

    start: Annotated[str, field("From when on, as `08:00`, in UTC.", max_length=5, pattern=CLOCK)]
    end: Annotated[str, field("Until when, in UTC; not after `start`: on the next day.", max_length=5, pattern=CLOCK)]
    days: Annotated[
        tuple[Day, ...],
        field("Days on which it starts; empty: every day.", max_length=7, list_is_set=True),
    ] = ()


class Warm(Spec):
    """Nodes that wait for jobs, so that a job need not wait for a boot."""

    instances: Annotated[
        int, field("Nodes kept ready beyond those that jobs have, within maxInstances.", ge=1, le=10000)
    ]
    schedule: Annotated[tuple[WarmTime, ...], field("When; empty: always.", max_length=21)] = ()


@rules(
    Rule(
        "has(self.nodeHoursPerDay) || has(self.costPerDay)",
        "a budget needs a limit",
        "give nodeHoursPerDay or costPerDay",
    )
)
class Budget(Spec):
    """What the pool may use in a day (UTC)."""

    node_hours_per_day: Annotated[
        str | None, field("Hours of nodes, booting and idle ones too, as `240`.", max_length=20, pattern=AMOUNT)
    ] = None
    cost_per_day: Annotated[
        str | None,
        field("Sum of the nodes' pricePerHour, in the same currency, as `100.00`.", max_length=20, pattern=AMOUNT),
    ] = None
    action: Annotated[
        Literal["Warn", "Queue"],
        field(
            "When it is used up. Warn: say so. Queue: give nodes to no further job until the next day; none is ended."
        ),
    ] = "Warn"


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


class ScaleDown(Spec):
    """How fast nodes go, once their idle time is over, and what becomes of jobs on more nodes than the pool may have."""

    mode: Annotated[
        Literal["TaskCompletion", "Requeue"],
        field(
            "When jobs have more nodes than maxInstances, as after it was lowered. TaskCompletion: they run to their end. "
            "Requeue: those that began last are interrupted as if their nodes were taken back, with their grace, and wait for "
            "nodes again with their checkpoints."
        ),
    ] = "TaskCompletion"

    max_parallel: Annotated[
        int | None, field("Most nodes that leave at a time; missing: no limit.", ge=1, le=10000)
    ] = None
    delay_after_add_seconds: Annotated[
        int, field("For how long after a node was added none goes, idle or not, in seconds.", ge=0, le=86400)
    ] = 0


class Scratch(Spec):
    """A folder of each node that jobs write to, by a hostPath volume of `podDefaults`."""

    scratch_path: Annotated[
        str,
        field(
            "The folder. Everything in it is removed, by root, before the first job and after each one.",
            min_length=2,
            max_length=255,
            rules=(
                Rule(
                    "self.matches('^(/[A-Za-z0-9_][A-Za-z0-9_.-]*)+$')",
                    "scratchPath is not an absolute path of plain names",
                    "write it from / on, with letters, digits, `_`, `-` and `.`, and without `..`",
                ),
                Rule(
                    "!self.matches('^/(bin|boot|dev|etc|lib|lib32|lib64|proc|root|run|sbin|sys|usr)(/.*)?$') && "
                    "!self.matches('^/var/(lib|log|run)(/(kubelet|containerd|docker|etcd|rancher|containers|cni)(/.*)?)?$') && "
                    "!self.matches('^/(home|media|mnt|opt|srv|tmp|var)$')",
                    "scratchPath is a folder that the node itself needs",
                    "name a folder that only jobs write to, such as /mnt/scratch",
                ),
            ),
        ),
    ]
    scrub: Annotated[
        Literal["OnJobEnd", "Never"],
        field(
            "OnJobEnd: a node gets its next job only once the folder was emptied and found empty; needs the chart's "
            "scratchScrub.enabled. Never: it is left as it is."
        ),
    ] = "OnJobEnd"


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
        "!has(self.warm) || self.warm.instances <= self.maxInstances",
        "warm.instances exceeds maxInstances",
        "lower warm.instances or raise maxInstances",
        at=".warm.instances",
    ),
    Rule(
        "!has(self.budget) || !has(self.budget.costPerDay) || self.instanceTypes.all(t, has(t.pricePerHour))",
        "budget.costPerDay needs the price of every type",
        "give each of instanceTypes its pricePerHour",
        at=".budget.costPerDay",
    ),
    Rule(
        "!has(self.fallback) || self.instanceTypes.exists(t, t.tier == self.fallback.toTier)",
        "no type of the pool has the tier of fallback.toTier",
        "add such a type to instanceTypes, or remove fallback",
        at=".fallback.toTier",
    ),
    Rule(
        "!has(self.storage) || self.provider.type == 'Static'",
        "storage is for nodes that stay, those of provider.type Static",
        "remove storage: on other pools a node's disk goes with the node",
        at=".storage",
    ),
    Rule(
        "!has(self.scaleDown) || !(self.provider.type in ['Static', 'External', 'ProvisioningRequest'])",
        "a pool of this provider.type removes no nodes, so scaleDown means nothing there",
        "remove scaleDown",
        at=".scaleDown",
    ),
    Rule(
        "self.sharing == 'WholeNode' || !(self.provider.type in ['External', 'ProvisioningRequest'])",
        "a pool of this provider.type owns no nodes, so the scheduler alone says which jobs share one",
        "remove sharing",
        at=".sharing",
    ),
    Rule(
        "self.sharing == 'WholeNode' || !has(self.storage) || self.storage.scrub != 'OnJobEnd'",
        "a node that jobs share is not free between them, so its scratch path cannot be scrubbed after each",
        "remove sharing or storage",
        at=".sharing",
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
    max_instances: Annotated[
        int,
        field("Most nodes at a time; not enforced by ending a job unless scaleDown.mode says so.", ge=0, le=10000),
    ]
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
            "pool's own past, boots counted as waste; as long as a boot takes until ten pauses between jobs are known. While "
            "more than 2 jobs within 95 s come, a provider of single machines also brings nodes ahead of them."
        ),
    ] = "Fixed"
    max_idle_seconds: Annotated[
        int, field("Longest idle time that idlePolicy Learned may choose, in seconds.", ge=0, le=604800)
    ] = 3600
    scale_up: Annotated[ScaleUp, field("How long the pool waits for nodes.")] = ScaleUp()
    scale_down: Annotated[
        ScaleDown | None, field("How fast nodes go, once their idle time is over; missing: as soon as that is over.")
    ] = None
    fallback: Annotated[
        Fallback | None,
        field("For jobs that name no type or one that cannot be had: another tier after a time; missing: never."),
    ] = None
    warm: Annotated[Warm | None, field("Nodes kept ready for jobs to come; missing: none.")] = None
    budget: Annotated[Budget | None, field("What the pool may use in a day; missing: no limit but maxInstances.")] = (
        None
    )
    sharing: Annotated[
        Literal["WholeNode", "Requests"],
        field(
            "WholeNode: a node has one job. Requests: a job with resources.requests takes only that much of each of its nodes, "
            "and others may have the rest; one without requests takes whole nodes, alone."
        ),
    ] = "WholeNode"
    ready_resources: Annotated[
        tuple[str, ...],
        field(
            "Resources that a node must show before it is ready, beside those of its type, as `vpc.amazonaws.com/efa`; until "
            "then it is preparing, and no other is brought in its place.",
            max_length=16,
            list_is_set=True,
            schema={"items": {"type": "string", "maxLength": 253}},
        ),
    ] = ()
    storage: Annotated[
        Scratch | None, field("A folder of each node that is scrubbed between jobs; missing: none is.")
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


class Member(Spec):
    """A node of the pool, and why it is still there."""

    name: Annotated[str, field("Name of the Node.", max_length=253)]
    state: Annotated[str, field("Idle, Running, Preparing, Unusable, Leaving or Preempted.", max_length=16)]
    reason: Annotated[
        str, field("Why it is kept, or where it stands on its way out: one CamelCase word.", max_length=64)
    ]
    message: Annotated[str, field("The same for people, with what happens next.", max_length=512)] = ""
    since: Annotated[str, field("Since when it has been so (RFC 3339).", max_length=40)] = ""
    until: Annotated[
        str, field("When that changes by itself (RFC 3339); empty: not before something happens.", max_length=40)
    ] = ""
    job: Annotated[str, field("uid of the TrainingJob that has the node, or for which it is kept.", max_length=64)] = ""


class NamespaceCost(Spec):
    """What one namespace's jobs have cost in a month."""

    namespace: Annotated[str, field("The namespace.", max_length=63)]
    cost: Annotated[str, field("The price of the nodes that they had, while they had them.", max_length=24)] = "0"


class Usage(Spec, omit_defaults=False):
    """What the pool has used since it was made. Written when something else is, and every five minutes."""

    at: Annotated[str, field("Until when it is counted (RFC 3339).", max_length=40)] = ""
    node_hours: Annotated[str, field("Hours of nodes, from their order to their end.", max_length=24)] = "0"
    idle_node_hours: Annotated[str, field("Of these, without a job.", max_length=24)] = "0"
    busy_node_hours: Annotated[str, field("Of these, with a job.", max_length=24)] = "0"
    boot_node_hours: Annotated[str, field("Of these, until they were ready.", max_length=24)] = "0"
    cost: Annotated[str, field("Their price, by pricePerHour of their types.", max_length=24)] = "0"
    today_node_hours: Annotated[str, field("Hours of nodes on the day (UTC) of `at`.", max_length=24)] = "0"
    today_cost: Annotated[str, field("Their price.", max_length=24)] = "0"
    month_costs: Annotated[
        tuple[NamespaceCost, ...],
        field(
            "What each namespace's jobs cost in the month (UTC) of `at`, for quota.costPerMonth of their Workspaces; at most the "
            "500 that cost most.",
            max_length=500,
            list_map_key="namespace",
        ),
    ] = ()


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
    usage: Annotated[Usage | None, field("What the pool has used.")] = None
    members: Annotated[
        tuple[Member, ...],
        field("The pool's nodes, those without a job first; at most 200 of them.", max_length=200, list_map_key="name"),
    ] = ()
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
