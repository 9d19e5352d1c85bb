"""Who brings and removes a pool's nodes: one block for each type of provider.

A new one is a class here, its member in `Provider`, and its type in `ProviderType` and `BLOCKS`.
"""

from typing import Annotated, Literal

import msgspec

from stoker.api.common import Labels
from stoker.api.schema import Rule, Spec, field, rules


class StaticProvider(Spec):
    """Nodes that exist already and are never added or removed."""

    node_selector: Annotated[
        Labels, field("Labels of the nodes; they need not carry Stoker's taint.", min_length=1, max_length=16)
    ]


class ScaleProvider(Spec):
    """Any object with a /scale subresource (Cluster API's MachineDeployment, for one)."""

    api_version: Annotated[str, field("apiVersion of the object.", min_length=1, max_length=253)]
    kind: Annotated[str, field("Kind of the object.", min_length=1, max_length=63)]
    name: Annotated[str, field("Name of the object.", min_length=1, max_length=253)]
    node_selector: Annotated[
        Labels, field("Labels by which the object's nodes are known.", min_length=1, max_length=16)
    ]
    namespace: Annotated[str | None, field("Namespace of the object; missing: cluster-scoped.", max_length=63)] = None
    delete_annotation: Annotated[
        str, field("Annotation set on a Node to say that this one goes when replicas are lowered.", max_length=253)
    ] = "cluster.x-k8s.io/delete-machine"


class KwokFault(Spec):
    """A kind of machine that the simulated provider does not give."""

    instance_type: Annotated[str, field("Name of the instance type.", min_length=1, max_length=63)]
    fault: Annotated[
        Literal["Capacity", "Quota", "Throttled", "Auth", "Config", "Transient"], field("Why it is refused.")
    ]
    message: Annotated[str, field("The provider's words.", max_length=256)] = "refused by the pool's spec"


class KwokProvider(Spec):
    """Simulated machines: Node objects that kwok brings to life, and the troubles of a cloud on demand. For tests."""

    boot_seconds: Annotated[
        int,
        field(
            "How long after its launch a machine becomes ready, in seconds. kwok's Stage for new nodes must wait for the "
            "moment in their annotation `stoker.dev/boots-until`.",
            ge=0,
            le=86400,
        ),
    ] = 0
    device_seconds: Annotated[
        int,
        field("How long after that its devices (resources with a slash in the name) show, in seconds.", ge=0, le=86400),
    ] = 0
    capacity: Annotated[
        int | None,
        field("Most machines that can be had; launches beyond are refused for lack of capacity.", ge=0, le=10000),
    ] = None
    launch_faults: Annotated[
        tuple[KwokFault, ...],
        field("Types whose launches are refused.", max_length=32, list_map_key="instanceType"),
    ] = ()
    preempt_after_seconds: Annotated[
        int | None,
        field("How long after its launch a Spot machine gets notice that it is taken back, in seconds.", ge=0),
    ] = None
    notice_seconds: Annotated[
        int, field("How long after that notice the machine goes, in seconds.", ge=0, le=86400)
    ] = 120


class AwsNodegroup(Spec):
    """A managed node group of EKS."""

    cluster: Annotated[str, field("Name of the EKS cluster.", min_length=1, max_length=100)]
    name: Annotated[str, field("Name of the node group.", min_length=1, max_length=63)]


class AwsLaunchTemplate(Spec):
    """What EC2 launches instances from, all of a launch at once or none."""

    id: Annotated[str, field("Id of the launch template.", pattern="^lt-[0-9a-f]{8,17}$", max_length=20)]
    subnets: Annotated[
        tuple[str, ...],
        field(
            "Ids of the subnets to launch into; those of one launch are in one zone.",
            min_length=1,
            max_length=16,
            list_is_set=True,
            schema={"items": {"type": "string", "maxLength": 32}},
        ),
    ]
    version: Annotated[str, field("Version of the template.", min_length=1, max_length=20)] = "$Default"


@rules(
    Rule(
        "[has(self.autoScalingGroup), has(self.nodegroup), has(self.launchTemplate)].exists_one(given, given)",
        "a source has exactly one of autoScalingGroup, nodegroup, launchTemplate",
        "keep the one that the instances come from",
    ),
)
class AwsSource(Spec):
    """Where instances of one type come from."""

    instance_type: Annotated[str, field("Name in the pool's instanceTypes.", min_length=1, max_length=63)]
    auto_scaling_group: Annotated[
        str | None, field("Name of an Auto Scaling group that exists.", min_length=1, max_length=255)
    ] = None
    nodegroup: Annotated[AwsNodegroup | None, field("A managed node group of EKS that exists.")] = None
    launch_template: Annotated[AwsLaunchTemplate | None, field("A launch template, with no group around it.")] = None


class AwsProvider(Spec):
    """EC2 instances: of Auto Scaling groups and EKS node groups that exist, or launched from a template."""

    region: Annotated[str, field("AWS region.", pattern="^[a-z]{2}(-[a-z]+)+-[0-9]$", max_length=32)]
    sources: Annotated[
        tuple[AwsSource, ...],
        field("Where the instances of each type come from.", min_length=1, max_length=32, list_map_key="instanceType"),
    ]
    interruption_queue: Annotated[
        str | None,
        field(
            "URL of an SQS queue that EventBridge sends the interruption notices of Spot instances to.", max_length=512
        ),
    ] = None
    only_autoscaler: Annotated[
        bool,
        field(
            "No other autoscaler works on these groups, though they are tagged for cluster-autoscaler, as EKS tags every "
            "managed node group. Otherwise a group with such a tag is refused."
        ),
    ] = False


class KarpenterNodeClass(Spec):
    """Where Karpenter reads how a cloud's machines are made."""

    name: Annotated[str, field("Name of the node class.", min_length=1, max_length=253)]
    group: Annotated[str, field("Its API group.", min_length=1, max_length=253)] = "karpenter.k8s.aws"
    kind: Annotated[str, field("Its kind.", min_length=1, max_length=63)] = "EC2NodeClass"


class KarpenterMachines(Spec):
    """The cloud's machines that do for one type of the pool."""

    instance_type: Annotated[str, field("Name in the pool's instanceTypes.", min_length=1, max_length=63)]
    names: Annotated[
        tuple[str, ...],
        field(
            "Names of the cloud's instance types, such as g5.xlarge.",
            min_length=1,
            max_length=60,
            list_is_set=True,
            schema={"items": {"type": "string", "maxLength": 63}},
        ),
    ]


class KarpenterProvider(Spec):
    """Machines that Karpenter brings for NodeClaims, which Stoker makes and deletes by name."""

    node_class: Annotated[KarpenterNodeClass, field("The node class of the claims.")]
    machines: Annotated[
        tuple[KarpenterMachines, ...],
        field(
            "Which machines do for a type. For one that is not listed: its own `machine`, else the cheapest with its resources.",
            max_length=32,
            list_map_key="instanceType",
        ),
    ] = ()


class ProvisioningRequestProvider(Spec):
    """Nodes that the cluster's autoscaler brings for a whole gang at once, by a ProvisioningRequest; Stoker owns none."""

    class_name: Annotated[
        str,
        field(
            "Provisioning class: check-capacity.autoscaling.x-k8s.io, best-effort-atomic-scale-up.autoscaling.x-k8s.io, "
            "queued-provisioning.gke.io or another one that the autoscaler knows.",
            min_length=1,
            max_length=253,
        ),
    ]
    parameters: Annotated[
        dict[str, Annotated[str, field("Value.", max_length=255)]],
        field("Parameters of the class, such as maxRunDurationSeconds.", max_length=100),
    ] = msgspec.field(default_factory=dict)
    node_selector: Annotated[Labels, field("Labels that the pods ask for.", max_length=16)] = msgspec.field(
        default_factory=dict
    )


class ExternalProvider(Spec):
    """Nodes that the cluster's own autoscaler brings; Stoker creates pods and owns no node."""

    node_selector: Annotated[Labels, field("Labels that the pods ask for.", max_length=16)] = msgspec.field(
        default_factory=dict
    )


ProviderType = Literal["Static", "Kwok", "Scale", "AWS", "Karpenter", "ProvisioningRequest", "External"]
#: Types that are told a number of nodes, or nothing; every other one launches and terminates single machines.
COUNTED = frozenset({"Static", "Scale", "External"})
#: Types whose nodes are somebody else's: Stoker brings pods, and never a node's name.
OF_OTHERS = frozenset({"External", "ProvisioningRequest"})
#: What to write for a type whose block has members that must be given.
_EXAMPLES = {"Static": "provider.static.nodeSelector", "Scale": "provider.scale", "Kwok": "provider.kwok: {}"}


def block_rule(kind: str, block: str) -> Rule:
    """The rule that a block is there when the type is this one, and only then."""
    return Rule(
        f"(self.type == '{kind}') == has(self.{block})",
        f"type {kind} has the block provider.{block}, and no other type has it",
        f"set type to the block that is there, or write {_EXAMPLES.get(kind, f'provider.{block}')}",
        at=f".{block}",
    )


#: Types whose block must be there, and the block's name.
BLOCKS = {
    "Static": "static",
    "Kwok": "kwok",
    "Scale": "scale",
    "AWS": "aws",
    "Karpenter": "karpenter",
    "ProvisioningRequest": "provisioningRequest",
}


@rules(
    *(block_rule(kind, block) for kind, block in BLOCKS.items()),
    Rule(
        "self.type == 'External' || !has(self.external)",
        "the block provider.external belongs to type External",
        "set type to External or remove the block",
        at=".external",
    ),
)
class Provider(Spec):
    """Who brings and removes the nodes."""

    type: Annotated[ProviderType, field("Which block below applies.")]
    static: Annotated[StaticProvider | None, field("The block of type Static.")] = None
    kwok: Annotated[KwokProvider | None, field("The block of type Kwok.")] = None
    scale: Annotated[ScaleProvider | None, field("The block of type Scale.")] = None
    aws: Annotated[AwsProvider | None, field("The block of type AWS.")] = None
    karpenter: Annotated[KarpenterProvider | None, field("The block of type Karpenter.")] = None
    provisioning_request: Annotated[
        ProvisioningRequestProvider | None, field("The block of type ProvisioningRequest.")
    ] = None
    external: Annotated[ExternalProvider | None, field("The block of type External.")] = None

    @property
    def block(self) -> Spec | None:
        """The block of the type; None where the type needs none and has none."""
        block: Spec | None = getattr(self, _attribute(BLOCKS.get(self.type, self.type.lower())))
        return block

    @property
    def owns_nodes(self) -> bool:
        """Whether Stoker says which node a pod goes to."""
        return self.type not in OF_OTHERS

    @property
    def node_selector(self) -> Labels:
        """Labels that pods ask for where the nodes are somebody else's."""
        found: Labels = getattr(self.block, "node_selector", {}) if self.type in OF_OTHERS else {}
        return found


def _attribute(member: str) -> str:
    """The Python name of a member: `provisioning_request` for provisioningRequest."""
    return "".join(f"_{letter.lower()}" if letter.isupper() else letter for letter in member)
