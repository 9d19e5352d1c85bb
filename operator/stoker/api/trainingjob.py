"""TrainingJob: one run of a training command, from its code to its stored outputs."""

from typing import Annotated, Literal

import msgspec

from stoker.api import names
from stoker.api.common import DATA_KEY, Condition, PodShape, Quantity, Resources, SecretKey, as_text, resource
from stoker.api.environment import EnvironmentSpec
from stoker.api.jobrules import NAME_RULES, SPEC_RULES
from stoker.api.kube import ObjectMeta
from stoker.api.schema import Rule, Spec, field, rules
from stoker.runtime import wire

Phase = Literal[
    "Pending",
    "Preparing",
    "Queued",
    "Starting",
    "Running",
    "Finalizing",
    "Canceling",
    "Suspended",
    "Completed",
    "Failed",
    "Canceled",
]
#: Which of the jobs that wait for a pool's nodes comes next.
Priority = Literal["Low", "Medium", "High"]
#: Failures that are the user's own, besides exit codes.
RetryCause = Annotated[Literal["OOMKilled", "Evicted", "NodeLost", "NoProgress"], field("A cause.")]
#: From here on a run has had the nodes that it waited for.
PLACED: tuple[Phase, ...] = ("Starting", "Running", "Finalizing", "Canceling", "Completed", "Failed", "Canceled")
FINISHED: frozenset[str] = names.FINISHED
_VARIABLE = r"^[A-Za-z_][A-Za-z0-9_.-]*$"


@rules(
    Rule(
        "(has(self.value) ? 1 : 0) + (has(self.path) ? 1 : 0) + (has(self.secretRef) ? 1 : 0) == 1",
        "an input has exactly one of value (a literal), path (data), secretRef (a key of a Secret)",
        "write one of the three",
        at=".value",
    ),
    Rule(
        "(!has(self.value) && !has(self.secretRef)) || (!has(self.type) && !has(self.mode) && !has(self.digest))",
        "type, mode and digest belong to path",
        "remove them: a literal has value alone, a secret secretRef alone",
        at=".type",
    ),
)
class Input(Spec):
    """A literal, data that is on the node before the command starts, or a secret that only the command sees."""

    value: Annotated[
        str | None, field("A literal; `${{inputs.NAME}}` in the command becomes this text.", max_length=4096)
    ] = None
    type: Annotated[Literal["uri_folder", "uri_file"] | None, field("What path names; missing means uri_folder.")] = (
        None
    )
    path: Annotated[
        str | None,
        field(
            "Where the data is: a URL under the workspace's storage (`s3://bucket/prefix/data/`), or `snapshot:sha256:…` for "
            "data that `stoker` uploaded from a local folder.",
            min_length=1,
            max_length=2048,
            rules=(
                Rule(
                    "self.startsWith('s3://') || self.startsWith('file://') || self.matches('^snapshot:sha256:[0-9a-f]{64}$')",
                    "path is neither a storage URL (s3://…) nor snapshot:sha256:<64 hex digits>",
                    "write one of them; local folders are uploaded by `stoker run`",
                ),
            ),
        ),
    ] = None
    mode: Annotated[
        Literal["download"] | None, field("How it comes: `download` copies it to the node before the start.")
    ] = None
    digest: Annotated[
        str | None,
        field(
            "What the data at path must be: the digest that the record of an earlier run has (`stoker show`). With another "
            "content the run does not start (InputChanged). `stoker rerun --exact` sets it.",
            max_length=71,
            pattern=r"^sha256:[0-9a-f]{64}$",
        ),
    ] = None
    secret_ref: Annotated[
        SecretKey | None,
        field(
            "A secret. The command has it as `$STOKER_INPUT_<name>`; `${{inputs.NAME}}` becomes the shell's "
            "`${STOKER_INPUT_<name>}`, never the value, so write it in double quotes (in single quotes the shell leaves it "
            "as it stands). A local run takes it from the variable STOKER_SECRET_<name> of your shell."
        ),
    ] = None


class Output(Spec):
    """A named folder or file that is saved; its place is `$STOKER_OUTPUT_<name>` and `${{outputs.NAME}}`."""

    type: Annotated[Literal["uri_folder", "uri_file"], field("Folder or single file.")] = "uri_folder"
    mode: Annotated[Literal["upload"], field("`upload` saves it while and after the command runs.")] = "upload"


@rules(
    Rule(
        "has(self.snapshot) != has(self.inline)",
        "code has exactly one of snapshot, inline",
        "write one of the two",
        at=".snapshot",
    )
)
class Code(Spec):
    """Where the training code is."""

    snapshot: Annotated[
        str | None,
        field(
            "Digest of an uploaded folder, as `stoker snapshot DIR --push` prints it.",
            max_length=71,
            pattern=r"^sha256:[0-9a-f]{64}$",
        ),
    ] = None
    inline: Annotated[
        dict[str, str] | None,
        field(
            "Small files by relative path, at most 200 KiB together.",
            min_length=1,
            max_length=64,
            schema={"additionalProperties": {"type": "string", "maxLength": 204800}},
            rules=(
                Rule("self.all(p, size(p) <= 256)", "an inline path is longer than 256 characters", "shorten it"),
                Rule(
                    "self.all(p, !p.matches('(^|/)([.]{0,2})(/|$)') && !p.contains('\\\\'))",
                    "an inline path is absolute, or has a backslash or an empty, `.` or `..` part",
                    "write paths relative to the code's folder, with / between the parts",
                ),
                Rule(
                    "self.map(p, size(self[p])).sum() <= 204800",
                    "inline code is longer than 200 KiB (204800 characters)",
                    "push the folder with `stoker snapshot DIR --push` and name its digest in code.snapshot",
                ),
            ),
        ),
    ] = None


@rules(
    Rule(
        "has(self.name) != has(self.spec)",
        "environment has exactly one of name, spec",
        "write one of the two",
        at=".name",
    )
)
class EnvironmentChoice(Spec):
    """The environment of the command: an Environment by name, or its spec in place."""

    name: Annotated[str | None, field("Name of an Environment in this namespace.", min_length=1, max_length=253)] = None
    spec: Annotated[EnvironmentSpec | None, field("An Environment's spec, for this job alone.")] = None


class DataKey(Spec):
    """One key of a Secret or a ConfigMap in the job's namespace."""

    name: Annotated[str, field("Name of the object.", min_length=1, max_length=253)]
    key: Annotated[str, field("Key in its data.", min_length=1, max_length=253, pattern=DATA_KEY)]
    optional: Annotated[
        bool, field("True: without the object or the key the variable is not set, and the pod starts.")
    ] = False


@rules(
    Rule(
        "has(self.secretKeyRef) != has(self.configMapKeyRef)",
        "valueFrom has exactly one of secretKeyRef, configMapKeyRef",
        "write one of the two",
        at=".secretKeyRef",
    )
)
class EnvVarSource(Spec):
    """Where a variable's value comes from."""

    secret_key_ref: Annotated[DataKey | None, field("A key of a Secret. The kubelet reads it; Stoker never does.")] = (
        None
    )
    config_map_key_ref: Annotated[DataKey | None, field("A key of a ConfigMap.")] = None


@rules(
    Rule(
        "!has(self.value) || !has(self.valueFrom)",
        "a variable has value or valueFrom, not both",
        "remove one of the two",
        at=".value",
    )
)
class EnvVar(Spec):
    """One environment variable of the command."""

    name: Annotated[
        str,
        field(
            "A letter or `_`, then letters, digits, `_`, `.` and `-`.", min_length=1, max_length=256, pattern=_VARIABLE
        ),
    ]
    value: Annotated[str, field("Value, taken as it is.", max_length=32768)] = ""
    value_from: Annotated[
        EnvVarSource | None,
        field(
            "A key of a Secret or a ConfigMap instead of a value; a local run takes your shell's variable of this name."
        ),
    ] = None


class DataObject(Spec):
    """A Secret or a ConfigMap in the job's namespace."""

    name: Annotated[str, field("Name of the object.", min_length=1, max_length=253)]
    optional: Annotated[bool, field("True: without the object the pod starts all the same.")] = False


@rules(
    Rule(
        "has(self.secretRef) != has(self.configMapRef)",
        "envFrom has exactly one of secretRef, configMapRef",
        "write one of the two",
        at=".secretRef",
    )
)
class EnvFrom(Spec):
    """All keys of a Secret or a ConfigMap as variables. What `env` and Stoker itself set goes before them."""

    secret_ref: Annotated[DataObject | None, field("A Secret. The kubelet reads it; Stoker never does.")] = None
    config_map_ref: Annotated[DataObject | None, field("A ConfigMap.")] = None
    prefix: Annotated[
        str | None,
        field(
            "Text in front of each key.",
            min_length=1,
            max_length=256,
            pattern=_VARIABLE,
            rules=(
                Rule(
                    "!self.startsWith('STOKER_')",
                    "a prefix that starts with STOKER_ would make names that are Stoker's own",
                    "choose another prefix",
                ),
            ),
        ),
    ] = None


class Scratch(Spec):
    """The disk of a run: its code, its inputs, and what it writes until that is saved."""

    size: Annotated[
        Quantity,
        field(
            "How much it may hold. A run that takes more is stopped with ScratchLimitExceeded, and what it wrote is saved."
        ),
    ]
    storage_class_name: Annotated[
        str | None,
        field(
            "A StorageClass. With it scratch is a PersistentVolumeClaim for each node that outlives a lost pod: what had "
            "not been saved is saved from there before the next attempt starts. At the end the claim goes, and the pods "
            "with it. Missing: a folder of the node, which goes with the pod.",
            min_length=1,
            max_length=253,
        ),
    ] = None

    def __post_init__(self) -> None:
        msgspec.structs.force_setattr(self, "size", str(self.size))


class JobResources(Spec):
    """How many nodes of which kind, and how much of each."""

    instance_count: Annotated[
        int, field("Nodes; each runs the command once, with its rank in STOKER_RANK.", ge=1, le=10000)
    ] = 1
    instance_type: Annotated[
        str | None,
        field("Name of one of the ComputeCluster's instanceTypes; missing: its first.", min_length=1, max_length=63),
    ] = None
    requests: Annotated[Resources, field("What each node's command needs; missing: the whole node.", max_length=16)] = (
        msgspec.field(default_factory=dict)
    )
    shm_size: Annotated[
        Quantity | None, field("Size of /dev/shm (memory); missing: the container runtime's default.")
    ] = None
    scratch: Annotated[
        Scratch | None, field("Bound of each node's scratch disk; missing: as much as the node has.")
    ] = None

    def __post_init__(self) -> None:
        msgspec.structs.force_setattr(self, "requests", as_text(self.requests))
        if self.shm_size is not None:
            msgspec.structs.force_setattr(self, "shm_size", str(self.shm_size))


@rules(
    Rule(
        "!(self.type in ['tensorflow', 'ray']) || !has(self.processCountPerInstance)",
        "processCountPerInstance belongs to neither tensorflow nor ray",
        "remove it; tensorflow has workerCount and parameterServerCount, ray starts its own processes",
        at=".processCountPerInstance",
    ),
    Rule(
        "self.type == 'tensorflow' || !(has(self.workerCount) || has(self.parameterServerCount))",
        "workerCount and parameterServerCount belong to tensorflow",
        "remove them; pytorch, mpi and jax have processCountPerInstance",
        at=".workerCount",
    ),
    Rule(
        "self.type == 'ray' || !(has(self.port) || has(self.includeDashboard) || has(self.dashboardPort) || "
        "has(self.headNodeAdditionalArgs) || has(self.workerNodeAdditionalArgs))",
        "port, includeDashboard, dashboardPort, headNodeAdditionalArgs and workerNodeAdditionalArgs belong to ray",
        "remove them",
        at=".port",
    ),
)
class Distribution(Spec):
    """How the command is started as processes that work together. One that fails ends them all, on every node. Needs Python
    3.8 or later in the image."""

    type: Annotated[
        Literal["pytorch", "mpi", "tensorflow", "jax", "ray"],
        field(
            "Whose variables each process gets: `pytorch` RANK, LOCAL_RANK, WORLD_SIZE and their kin (`torchrun` as the "
            "command takes its defaults from them too); `tensorflow` TF_CONFIG; `jax` JAX_COORDINATOR_ADDRESS, "
            "JAX_NUM_PROCESSES, JAX_PROCESS_ID. With `mpi` rank 0 runs the command under the image's mpirun (Open MPI), on all "
            "nodes; with `ray` it starts the head of a Ray cluster of all nodes and runs the command beside it."
        ),
    ]
    process_count_per_instance: Annotated[
        int | None, field("Of pytorch, mpi and jax: processes on each node; missing: 1.", ge=1, le=1024)
    ] = None
    worker_count: Annotated[
        int | None,
        field(
            "Of tensorflow: workers, spread evenly over the nodes; missing: one on each.",
            ge=1,
            le=10000,
        ),
    ] = None
    parameter_server_count: Annotated[
        int | None,
        field(
            "Of tensorflow: parameter servers, on the one node of the job; they are ended once the workers have ended. "
            "Missing: none.",
            ge=0,
            le=1024,
        ),
    ] = None
    port: Annotated[int | None, field("Of ray: port of the head; missing: 6379.", ge=1, le=65535)] = None
    include_dashboard: Annotated[bool | None, field("Of ray: whether the head has a dashboard; missing: none.")] = None
    dashboard_port: Annotated[int | None, field("Of ray: port of the dashboard; missing: Ray's.", ge=1, le=65535)] = (
        None
    )
    head_node_additional_args: Annotated[
        str | None, field("Of ray: more arguments for `ray start` on rank 0.", max_length=4096)
    ] = None
    worker_node_additional_args: Annotated[
        str | None, field("Of ray: more arguments for `ray start` on the other ranks.", max_length=4096)
    ] = None


@rules(
    Rule(
        "!has(self.distribution) || !has(self.distribution.workerCount) || "
        "self.distribution.workerCount >= (has(self.resources) && has(self.resources.instanceCount) ? "
        "self.resources.instanceCount : 1)",
        "a node would have no worker: distribution.workerCount is less than resources.instanceCount",
        "raise workerCount, or lower instanceCount",
        at=".distribution.workerCount",
    ),
    Rule(
        "!has(self.distribution) || !has(self.distribution.parameterServerCount) || "
        "self.distribution.parameterServerCount == 0 || "
        "!(has(self.resources) && has(self.resources.instanceCount) && self.resources.instanceCount > 1)",
        "parameter servers run on one node: nothing on another node can tell them when the last worker has ended",
        "lower resources.instanceCount to 1, or leave parameterServerCount out",
        at=".distribution.parameterServerCount",
    ),
)
class CommandJob(Spec):
    """A command that runs on each node: once, or as `distribution` says."""

    command: Annotated[str, field("Shell text, run by `sh -c` in the code's folder.", min_length=1, max_length=32768)]
    environment: Annotated[EnvironmentChoice, field("What the command runs in.")]
    code: Annotated[Code | None, field("The training code; missing: none, the command uses what the image has.")] = None
    env: Annotated[
        tuple[EnvVar, ...],
        field(
            "Environment variables.",
            max_length=256,
            list_map_key="name",
            rules=(
                Rule(
                    "self.all(e, !e.name.startsWith('STOKER_'))",
                    "names that start with STOKER_ are Stoker's own",
                    "choose another name",
                ),
            ),
        ),
    ] = ()
    env_from: Annotated[
        tuple[EnvFrom, ...],
        field(
            "Secrets and ConfigMaps whose keys become variables; of two with one name the later goes.", max_length=32
        ),
    ] = ()
    resources: Annotated[JobResources, field("Nodes and what is asked of them.")] = JobResources()
    distribution: Annotated[
        Distribution | None, field("Processes that work together; missing: the command runs once on each node.")
    ] = None
    service_account_name: Annotated[
        str | None, field("ServiceAccount of the pods; missing: the namespace's default.", max_length=253)
    ] = None
    pod: Annotated[PodShape | None, field("More about the pods, in Kubernetes' own words.")] = None


class Limits(Spec):
    """Bounds in time."""

    timeout_seconds: Annotated[
        int | None,
        field(
            "Longest run of the command in each attempt; missing: the workspace's, else 2592000 (30 days).",
            ge=1,
            le=31536000,
        ),
    ] = None
    queue_timeout_seconds: Annotated[
        int | None,
        field(
            "Longest wait for nodes, from the submission, the last resumption or the end of the attempt before until every "
            "node is there; then the run fails with QueueTimedOut. Missing: no limit.",
            ge=1,
            le=31536000,
        ),
    ] = None
    grace_seconds: Annotated[
        int, field("From a stop to the end of the pod: one fifth for the command, the rest to save.", ge=10, le=86400)
    ] = 600
    no_progress_seconds: Annotated[
        int | None,
        field(
            "An attempt is ended, with NoProgress, once its command has for so long printed nothing and made or changed no "
            "file in its working folder; of several nodes rank 0's. It counts for retry.limit. Needs Python 3.8 or later in "
            "the image. Missing: nobody watches. A change holds for attempts that start after it.",
            ge=10,
            le=31536000,
        ),
    ] = None
    save_stall_seconds: Annotated[
        int,
        field(
            "After the command's end saving goes on for as long as the store takes something at least this often; then "
            "the run is Failed, OutputsNotSaved. A change holds for attempts that start after it.",
            ge=10,
            le=604800,
        ),
    ] = wire.SAVE_STALL_SECONDS


class Retry(Spec):
    """When a run that was cut off or failed is tried again. A cancel and a timeout end it whatever stands here."""

    limit: Annotated[
        int,
        field(
            "How many failures of the command's own are tried again, after 10 s, 20 s and so on up to 5 min.",
            ge=0,
            le=100,
        ),
    ] = 0
    causes: Annotated[
        tuple[RetryCause, ...],
        field(
            "Which failures count for `limit`: OOMKilled; NoProgress; Evicted, for more disk than allowed; NodeLost, from the third "
            "node on that is lost within 10 min of its attempt's start. Without causes and exitCodes: these and every "
            "exit code.",
            max_length=8,
            list_is_set=True,
        ),
    ] = ()
    exit_codes: Annotated[
        tuple[int, ...],
        field(
            "Exit codes of the command that count for `limit`.",
            max_length=64,
            list_is_set=True,
            rules=(
                Rule(
                    "self.all(code, code >= 1 && code <= 255)",
                    "an exit code is not from 1 to 255",
                    "write what the command exits with when it wants another try, such as 75",
                ),
            ),
        ),
    ] = ()
    interruption_limit: Annotated[
        int,
        field(
            "How often a run may be cut off from outside (node lost, pod evicted, preempted or deleted) and go on; these "
            "are tried again at once.",
            ge=0,
            le=1000,
        ),
    ] = 20
    restore: Annotated[
        Literal["Checkpoints", "Nothing"],
        field("What a new attempt finds: `./outputs/checkpoints` of the newest that saved any, or nothing."),
    ] = "Checkpoints"


class Queue(Spec):
    """Where the run stands among those that wait for nodes."""

    name: Annotated[
        str | None,
        field(
            "Kueue's LocalQueue, in this namespace, that decides when the run starts; missing: the label "
            "kueue.x-k8s.io/queue-name of this object, else the Workspace's default, else the LocalQueue `default` where "
            "there is one. Without a queue the pool alone decides.",
            min_length=1,
            max_length=63,
            pattern=r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$",
        ),
    ] = None

    priority: Annotated[
        Priority,
        field(
            "Runs of a higher priority get nodes first, whosever they are; among equals the namespace with the fewest "
            "nodes comes next, then the oldest run. Nothing that runs is stopped for it, except by Kueue where its queue "
            "says so: there it is WorkloadPriorityClass stoker-low, stoker-medium or stoker-high."
        ),
    ] = "Medium"


class Cleanup(Spec):
    """When the cluster's own traces of a run go. The stored record, logs and outputs stay, and the TrainingJob too."""

    pods_after_seconds: Annotated[
        int | None,
        field(
            "How long the pods of an attempt stay once it has ended; missing: the chart's podsAfterSeconds (3600). For pods "
            "that exist already it can be shortened, not lengthened.",
            ge=60,
            le=31536000,
        ),
    ] = None


@rules(*SPEC_RULES)
class TrainingJobSpec(Spec):
    """What to run, where, and under which bounds. Immutable but for suspend, cancel, limits, cleanup, tags,
    displayName, description, and queue until the run has its nodes."""

    command: Annotated[CommandJob | None, field("The block of type command.")] = None
    type: Annotated[Literal["command"], field("Which block below says what to run.")] = "command"
    experiment: Annotated[str | None, field("Name under which runs are grouped.", min_length=1, max_length=255)] = None
    display_name: Annotated[str | None, field("Name for people; need not be unique.", max_length=255)] = None
    description: Annotated[str | None, field("Free text.", max_length=4096)] = None
    tags: Annotated[
        dict[str, str],
        field(
            "Free keys and values.",
            max_length=64,
            schema={"additionalProperties": {"type": "string", "maxLength": 1024}},
        ),
    ] = msgspec.field(default_factory=dict)
    compute: Annotated[
        str | None,
        field(
            "Name of a ComputeCluster, or `serverless`: the cheapest that the namespace may use and that fits. Missing: the "
            "Workspace's default.",
            min_length=1,
            max_length=63,
        ),
    ] = None
    suspend: Annotated[
        bool,
        field(
            "True: the job takes no nodes; a running attempt is ended with its grace period. False again: the next attempt "
            "goes on from the checkpoints. It counts for neither of retry's limits."
        ),
    ] = False
    cancel: Annotated[bool, field("True ends the run; what it saved stays.")] = False
    run_policy: Annotated[
        Literal["PerObject", "PerName"],
        field(
            "PerObject: each TrainingJob runs. PerName: a name runs once for ever, for GitOps and restores: a TrainingJob that "
            "is created again under the name of an earlier run with PerName does not run, and its status shows that run's "
            "result. The workspace's storage keeps the names, each until its run is removed (`stoker rm`); while the storage "
            "does not answer, the job waits."
        ),
    ] = "PerObject"
    limits: Annotated[Limits, field("Bounds in time.")] = Limits()
    retry: Annotated[Retry, field("When to try again.")] = Retry()
    queue: Annotated[Queue, field("Where it stands among those that wait for nodes.")] = Queue()
    cleanup: Annotated[Cleanup, field("When the pods of a run go.")] = Cleanup()
    inputs: Annotated[dict[str, Input], field("Inputs by name.", max_length=64, rules=NAME_RULES)] = msgspec.field(
        default_factory=dict
    )
    outputs: Annotated[
        dict[str, Output], field("Named outputs; ./outputs is always saved.", max_length=64, rules=NAME_RULES)
    ] = msgspec.field(default_factory=dict)


class Waiting(Spec):
    """Why the job is not running yet, and what would help."""

    reason: Annotated[str, field("One CamelCase word from a fixed set.", max_length=64)]
    message: Annotated[str, field("What it waits for.", max_length=2048)] = ""
    fix: Annotated[str, field("What a person can do, also when that is only to wait.", max_length=2048)] = ""
    since: Annotated[str, field("Since when (RFC 3339).", max_length=40)] = ""


class ImageStatus(Spec):
    """The image of the run."""

    definition_key: Annotated[
        str, field("Name of the environment's definition; missing for an image that is run as it is.", max_length=64)
    ] = ""
    spec_key: Annotated[
        str,
        field(
            "Name of the definition on this platform, with the base's digest: its build log is kept by it.",
            max_length=64,
        ),
    ] = ""
    reference: Annotated[str, field("As the environment names it.", max_length=1024)] = ""
    image: Annotated[str, field("Pinned by digest: what the pods run.", max_length=1152)] = ""
    source: Annotated[str, field("Where it came from: `given`, `workspace`, `global` or `built`.", max_length=32)] = ""


class AttemptStatus(Spec):
    """One try to run the command on all its nodes."""

    number: Annotated[int, field("Counts from 1.")]
    child: Annotated[str, field("Name of the attempt's batch/v1 Job.", max_length=63)] = ""
    nodes: Annotated[tuple[str, ...], field("Nodes it was given.", max_length=100)] = ()
    started_at: Annotated[str, field("When its command started on every node (RFC 3339).", max_length=40)] = ""
    ended_at: Annotated[str, field("When its last command ended (RFC 3339).", max_length=40)] = ""
    reason: Annotated[str, field("How it ended, one CamelCase word.", max_length=64)] = ""
    counted: Annotated[
        Literal["Failure", "Interruption", "Neither"] | None,
        field(
            "Set once the attempt is over and the run is not: what it counts as for retry's two limits. Neither: it was "
            "suspended, by the run's owner or with its queue."
        ),
    ] = None


class KeptClaim(Spec):
    """A scratch claim that stays because what is on it could not be saved."""

    name: Annotated[str, field("Name of the PersistentVolumeClaim.", max_length=253)]
    attempt: Annotated[int, field("The attempt it is of.")]
    rank: Annotated[int, field("The rank it is of.")] = 0
    message: Annotated[str, field("Why the rank was lost, and why its claim could not be saved.", max_length=2048)] = ""


class SavedOutput(Spec):
    """A saved file."""

    path: Annotated[str, field("Below outputs/.", max_length=4096)]
    size: Annotated[int, field("Bytes.")] = 0


class ComputeChoice(Spec):
    """What `compute: serverless` came to."""

    instance_type: Annotated[str, field("Type of the nodes.", max_length=63)] = ""
    message: Annotated[str, field("Why this pool.", max_length=1024)] = ""


class TrainingJobStatus(Spec):
    """What is seen of the run. Computed anew from what exists; only ends and times are kept."""

    phase: Annotated[Phase, field("Where the run stands, for people.")] = "Pending"
    observed_generation: Annotated[int, field("metadata.generation that this was computed from.")] = 0
    conditions: Annotated[tuple[Condition, ...], field("Facts for machines.", max_length=32, list_map_key="type")] = ()
    waiting: Annotated[Waiting | None, field("Why it is not running yet.")] = None
    reason: Annotated[str, field("How it ended, one CamelCase word; empty before.", max_length=64)] = ""
    message: Annotated[
        str, field("The same for people; on failure with the last lines of the log.", max_length=8192)
    ] = ""
    exit_code: Annotated[int | None, field("Exit code of the command: of the first rank that failed, else 0.")] = None
    key: Annotated[str, field("Folder of the run below jobs/ in the workspace's storage.", max_length=128)] = ""
    snapshot: Annotated[str, field("Digest of the code.", max_length=71)] = ""
    environment: Annotated[ImageStatus | None, field("The image of the run.")] = None
    compute: Annotated[str, field("The ComputeCluster in use.", max_length=63)] = ""
    compute_choice: Annotated[
        ComputeChoice | None, field("With `compute: serverless`: the type of the nodes, and why this ComputeCluster.")
    ] = None
    attempts: Annotated[
        tuple[AttemptStatus, ...],
        field("Tries, newest last; the oldest are dropped.", max_length=32, list_map_key="number"),
    ] = ()
    failures: Annotated[int, field("Attempts that counted for retry.limit.")] = 0
    interruptions: Annotated[int, field("Attempts that counted for retry.interruptionLimit.")] = 0
    early_node_losses: Annotated[int, field("Attempts that lost a node within 10 min of their start.")] = 0
    kept_claims: Annotated[
        tuple[KeptClaim, ...],
        field(
            "Scratch claims with something on them that could not be saved; mount them to look, delete them when done. "
            "They go with this object. At most 100: the claims of more are deleted.",
            max_length=100,
            list_map_key="name",
        ),
    ] = ()
    outputs: Annotated[
        tuple[SavedOutput, ...], field("The first saved files; the record has all.", max_length=100)
    ] = ()
    metrics: Annotated[
        dict[str, float],
        field(
            "The last value of each metric that the command of rank 0 tracked; at the end only. Every value of every rank is in "
            "the store: `stoker show --metrics`.",
            max_length=64,
        ),
    ] = msgspec.field(default_factory=dict)
    logs: Annotated[str, field("Storage URL of the log.", max_length=2048)] = ""
    started_at: Annotated[str, field("When the last attempt's command started (RFC 3339).", max_length=40)] = ""
    finished_at: Annotated[str, field("When the run ended (RFC 3339).", max_length=40)] = ""
    duration: Annotated[str, field("From start to end, for people (`1m12s`); at the end only.", max_length=32)] = ""
    timings: Annotated[dict[str, float], field("Seconds spent in each phase; at the end only.", max_length=16)] = (
        msgspec.field(default_factory=dict)
    )


@resource(
    "TrainingJob",
    "trainingjobs",
    "stj",
    namespaced=True,
    columns=(
        ("Phase", "string", ".status.phase"),
        ("Compute", "string", ".status.compute"),
        # Not .status.reason, which only an end has: Ready also tells what a job waits for.
        ("Reason", "string", '.status.conditions[?(@.type=="Ready")].reason'),
        ("Duration", "string", ".status.duration"),
        ("Age", "date", ".metadata.creationTimestamp"),
    ),
    first_status={
        "phase": "Pending",
        "conditions": [
            {
                "type": "Ready",
                "status": "Unknown",
                "reason": "WaitingForController",
                "message": "The operator has not seen the job yet.",
            }
        ],
    },
)
@rules(
    Rule(
        "size(self.metadata.name) <= 63 && !self.metadata.name.contains('.')",
        "a TrainingJob's name has at most 63 lower-case letters, digits and dashes, for it becomes a label",
        "shorten metadata.name or take the dots out",
        value="self.metadata.name",
    ),
    Rule(
        f"self.spec.queue == oldSelf.spec.queue || !has(self.status) || !(self.status.phase in {[*PLACED]})",
        "queue is immutable once a run has its nodes",
        "leave it as it is: it says which run gets nodes first, and this one has them",
        at=".spec.queue",
        value="self.status.phase",
    ),
    Rule(
        "self.spec.queue == oldSelf.spec.queue || !(has(self.spec.queue.name) || has(oldSelf.spec.queue.name)) || "
        "!has(self.status) || !has(self.status.attempts) || self.status.attempts.all(a, has(a.counted))",
        "queue is immutable once the run stands in it",
        "suspend the run with spec.suspend first: it leaves its queue, and may then name another",
        at=".spec.queue",
        value="(has(self.spec.queue.name) ? self.spec.queue.name : '')",
    ),
)
class TrainingJob(Spec):
    """One run of a training command, from its code to its stored outputs."""

    metadata: ObjectMeta
    spec: TrainingJobSpec
    status: TrainingJobStatus = TrainingJobStatus()
