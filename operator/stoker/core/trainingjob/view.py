"""What the planner of a TrainingJob sees: everything that exists and matters to this job, at one moment."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from stoker.api.computecluster import ComputeCluster
from stoker.api.environment import Environment
from stoker.api.kube import BatchJob, Claim, Event, Node, Pod
from stoker.api.kueue import ClusterQueue, LocalQueue, Workload
from stoker.api.trainingjob import TrainingJob
from stoker.api.workspace import Defaults
from stoker.core.environment.builds import Build
from stoker.core.environment.means import Means
from stoker.core.plan import Answers
from stoker.core.serverless import Choice


@dataclass(frozen=True, slots=True)
class WorkspaceView:
    """A namespace's settings with the chart's filled in."""

    storage_url: str
    defaults: Defaults = field(default_factory=Defaults)
    image_pull_secrets: tuple[str, ...] = ()
    #: With what environments are found and built.
    means: Means = field(default_factory=Means)
    #: Set when the settings cannot be used, e.g. a URL that another namespace has: (reason, message with the fix).
    problem: tuple[str, str] | None = None


@dataclass(frozen=True, slots=True)
class Placement:
    """What the pool's plan says of this job's next attempt: its nodes, or why there are none yet.

    nodes: one per rank, in rank order; empty while waiting, and for a pool that owns no nodes (then `granted` is True).
    """

    granted: bool = False
    nodes: tuple[str, ...] = ()
    reason: str = ""
    message: str = ""
    fix: str = ""


@dataclass(frozen=True, slots=True)
class Settings:
    """The operator's own settings that pods are built from (chart values)."""

    agent_image: str
    server_url: str
    pods_after_seconds: int = 3600
    image_pull_secrets: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class QueueView:
    """What Kueue has. local: the LocalQueues of the job's namespace, by name. cluster: ClusterQueues, by name. checks: names
    of the AdmissionChecks that are Stoker's. classes: names of WorkloadPriorityClasses. workloads: by uid of their child."""

    local: Mapping[str, LocalQueue] = field(default_factory=dict)
    cluster: Mapping[str, ClusterQueue] = field(default_factory=dict)
    checks: frozenset[str] = frozenset()
    classes: frozenset[str] = frozenset()
    workloads: Mapping[str, Workload] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class JobView:
    """Everything that the plan of one TrainingJob rests on."""

    job: TrainingJob
    settings: Settings
    workspace: WorkspaceView
    cluster: ComputeCluster | None = None
    #: With `compute: serverless`: the pool that was chosen, or why there is none.
    choice: Choice | None = None
    environment: Environment | None = None
    #: Names this namespace may use, for messages.
    clusters: tuple[str, ...] = ()
    environments: tuple[str, ...] = ()
    placement: Placement | None = None
    children: tuple[BatchJob, ...] = ()
    pods: tuple[Pod, ...] = ()
    #: The nodes on which this job's pods are or were placed, and those that unplaced ones were given, by name; a name that is missing no longer exists.
    nodes: Mapping[str, Node] = field(default_factory=dict)
    #: FailedCreate events of the children.
    events: tuple[Event, ...] = ()
    answers: Answers = field(default_factory=dict)
    #: Scratch claims of this job's pods, and the Jobs and pods that save what lost ranks left on them.
    claims: tuple[Claim, ...] = ()
    salvages: tuple[BatchJob, ...] = ()
    salvage_pods: tuple[Pod, ...] = ()
    #: The builds of environments in the namespace, by label.
    builds: Mapping[str, Build] = field(default_factory=dict)
    #: None where the operator does not work with Kueue.
    queues: QueueView | None = None
    #: Nodes that carry the label of one of this job's attempts, by attempt.
    assigned: Mapping[int, tuple[str, ...]] = field(default_factory=dict)

    @property
    def compute(self) -> str:
        """Name of the pool that is asked for, or was chosen; empty: none is named."""
        chosen = self.choice.compute if self.choice is not None else ""
        return chosen or self.job.spec.compute or self.workspace.defaults.compute or ""

    @property
    def instance_type(self) -> str | None:
        """Name of the type of the nodes, where the job names one or the choice of the pool was one of a type too."""
        asked = self.job.spec.command.resources.instance_type if self.job.spec.command is not None else None
        return asked or (self.choice.instance_type if self.choice is not None else "") or None
