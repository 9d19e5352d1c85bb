"""Every reason that Stoker gives, in one place: what it means and what a person can do.

`stoker why --reason NAME` prints an entry, docs/troubleshooting.md is rendered from all of them. The message of a status
says what is the case now, with names and figures; an entry says what the word stands for.
"""

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Section:
    """Reasons that are met at one place. about: where; entries: reason -> (what it means, what to do)."""

    title: str
    about: str
    entries: Mapping[str, tuple[str, str]]


_WAIT = "Nothing; it goes on by itself."
_READ_IT = "Do what the message says; it names the field or the object."

SECTIONS: tuple[Section, ...] = (
    Section(
        "A job waits: something only you can mend",
        "In `status.waiting` of a TrainingJob and in `stoker why`. The job goes on as soon as it is mended, unless the entry "
        "says to submit again: the spec of a job is immutable.",
        {
            "InvalidSpec": (
                "The spec says nothing to run, or what it says contradicts itself.",
                "Submit again with what the message names.",
            ),
            "InvalidCommand": (
                "The command has a `${{...}}` that names no declared input or output.",
                "Correct the placeholder or declare the name, and submit again under a new name.",
            ),
            "NoCompute": (
                "`spec.compute` is not set, and the namespace's Workspace has no default.",
                "Submit with a ComputeCluster's name, or set `spec.defaults.compute` of Workspace/default.",
            ),
            "ComputeNotFound": (
                "There is no ComputeCluster of the name in `spec.compute`.",
                "`stoker compute ls` lists them; create it, or submit again with one of these.",
            ),
            "ComputeNotAllowed": (
                "The pool does not list the job's namespace in `spec.allowedNamespaces`.",
                "Ask whoever owns the pool for the namespace, or submit to another pool.",
            ),
            "NoPoolFits": (
                "`compute: serverless` found no pool that this namespace may use and that is large enough. GPU and spot nodes are "
                "never taken unasked.",
                "Ask for less, name a pool, or ask for the GPU in `command.resources.requests`. See [let Stoker choose a pool]"
                "(how-to/let-stoker-choose-a-pool.md).",
            ),
            "InstanceTypeUnknown": (
                "`resources.instanceType` is none of the pool's `instanceTypes`.",
                "Submit again with one that the message lists, or without the field.",
            ),
            "RequestsLargerThanNode": (
                "`resources.requests` asks of one node for more than its type offers, after `nodeReserve`.",
                "Submit again with less or with another type; or correct `resources` and `nodeReserve` of the pool.",
            ),
            "GangLargerThanPool": (
                "The job needs more nodes at once than `spec.maxInstances` of the pool.",
                "Raise `maxInstances`, or submit again with a lower `resources.instanceCount`.",
            ),
            "LargerThanQuota": (
                "The job alone needs more than the workspace's quota allows.",
                "Raise `spec.quota` of Workspace/default, or submit again with fewer nodes.",
            ),
            "RootNotAllowed": (
                "The pod asks for root, and the pool does not allow it.",
                "Set `spec.allowRootPods` of the pool, or leave `runAsUser` and `runAsNonRoot` out.",
            ),
            "NoStorage": (
                "The namespace has no place to keep code, logs and outputs.",
                "Set `spec.storage.url` of Workspace/default, or the chart's `storage.url`.",
            ),
            "StorageUrlTaken": (
                "Another namespace claimed the storage URL first; two never share one.",
                "Give each namespace its own URL or prefix.",
            ),
            "StorageUrlInvalid": ("The storage URL cannot be read.", "Write `s3://bucket/prefix`."),
            "StorageNotConfigured": (
                "The chart names no storage.",
                "Set the chart's `storage.url` and its credentials.",
            ),
            "EnvironmentNotFound": (
                "There is no Environment of that name in the job's namespace.",
                "Create it, or submit again with one that the message lists.",
            ),
            "EnvironmentWithoutImage": (
                "The environment names no image to run or to build on, and the workspace has no default.",
                "Set `image` in the environment, or `spec.defaults.image` of Workspace/default.",
            ),
            "SnapshotNotFound": (
                "The store has no snapshot of the digest in `code.snapshot`.",
                "Push the folder: `stoker snapshot DIR --push`. The job then goes on.",
            ),
            "InlineCodeInvalid": ("The files in `code.inline` make no folder.", "Correct the paths and submit again."),
            "InputNotFound": (
                "There is nothing at an input's path.",
                "Put the data there, and the job goes on; or submit again with the right path.",
            ),
            "InputNotAllowed": (
                "An input lies outside of what the workspace may read.",
                "Use a path below the workspace's storage.",
            ),
            "InputTooManyFiles": (
                "An input has more files than one run may list.",
                "Pack them, or name a smaller folder.",
            ),
            "SecretNotFound": (
                "The pod needs a Secret that is not there.",
                "Create it in the job's namespace; the pod then starts by itself.",
            ),
            "SecretKeyNotFound": (
                "The Secret is there and lacks the key.",
                "Add the key; the pod then starts by itself.",
            ),
            "ConfigMapNotFound": (
                "The pod needs a ConfigMap that is not there.",
                "Create it in the job's namespace; the pod then starts by itself.",
            ),
            "ConfigMapKeyNotFound": (
                "The ConfigMap is there and lacks the key.",
                "Add the key; the pod then starts by itself.",
            ),
            "ContainerNotCreated": ("The node cannot make a container of the pod.", _READ_IT),
            "PodsRejected": (
                "The API server refuses the pods: a quota, an admission policy, a missing ServiceAccount. The message has its words.",
                "Change the quota or policy, or make what is missing; creation is tried again for 10 min.",
            ),
            "Suspended": ("`spec.suspend` is true: the job takes no nodes.", "`stoker resume JOB`."),
        },
    ),
    Section(
        "A job waits for nodes",
        "The same place. Time, or a change of the pool, ends these.",
        {
            "WaitingForNodes": ("The pool was asked, and has not answered yet.", _WAIT),
            "WaitingForPool": ("What the pool has is being read.", _WAIT),
            "NodesBooting": (
                "Nodes for the job were ordered and have not joined, or show their devices late.",
                "Wait; `stoker compute explain POOL` tells what each node does.",
            ),
            "WaitingForTurn": (
                "Jobs with higher priority, of namespaces that have fewer nodes, or older ones come first.",
                "Wait, raise `maxInstances`, or submit with `queue.priority: High`.",
            ),
            "PoolFull": (
                "The pool has all the nodes it may have, and other jobs have them.",
                "Wait, or raise `maxInstances`.",
            ),
            "PoolPaused": ("`spec.paused` of the pool is true.", "Set it to false, or submit to another pool."),
            "PoolDeleted": ("The pool is being deleted and takes no new job.", "Submit again to another pool."),
            "NotEnoughNodes": (
                "A pool that brings no nodes has fewer usable ones than the job needs.",
                "Add or repair nodes; `kubectl describe computeclusters.stoker.dev POOL` names those that cannot be used.",
            ),
            "QuotaReached": (
                "The namespace has the nodes, GPUs or monthly cost that its Workspace allows.",
                "Wait for one of its jobs to end or for the month to end, or raise `spec.quota` of Workspace/default.",
            ),
            "BudgetReached": (
                "The pool has used its node-hours or its money for the day or month.",
                "Raise `spec.budget` of the pool, or wait until it starts anew.",
            ),
            "CapacityUnavailable": (
                "The provider has no machine of the type now; it is asked again after a growing pause.",
                "Wait, or add another instance type or `spec.fallback` to the pool.",
            ),
            "ProviderQuotaExceeded": (
                "Your account's quota at the provider is used up.",
                "Ask the provider for more, or lower `maxInstances`.",
            ),
            "ProviderThrottled": ("The provider asked for a pause.", _WAIT),
            "ProviderUnavailable": ("The provider did not answer, or failed.", _WAIT),
            "CredentialsRefused": (
                "The provider refused the operator's credentials or lacks a right.",
                "Give the right that the message names; see [EC2's](how-to/aws-node-groups.md).",
            ),
            "InstanceTypeRefused": (
                "The provider does not know the type, or not in this zone.",
                "Mend `spec.instanceTypes` or `spec.provider` of the pool.",
            ),
            "SchedulerDisagrees": (
                "The scheduler will not place a pod on the node that it was given. After 10 s the attempt ends, uncounted, and the "
                "node is set aside.",
                "Compare the type's `resources` with the node's allocatable and raise `nodeReserve`; or correct selectors and "
                "tolerations.",
            ),
            "WaitingForAutoscaler": (
                "Pods wait for nodes that another autoscaler brings.",
                "Wait; `kubectl describe pod` shows what it says.",
            ),
            "WaitingForRoom": (
                "A ProvisioningRequest is not provisioned yet.",
                "Wait; the message has its class's words.",
            ),
            "HandingOver": ("Room is being asked for.", _WAIT),
            "RoomRefused": (
                "The ProvisioningRequest failed; it is made anew.",
                "Wait, or ask for fewer nodes or another type.",
            ),
            "BookingExpired": ("The room was not used in time and went.", "Wait; it is asked for again."),
            "CapacityRevoked": ("The room was taken back.", "Wait; it is asked for again."),
        },
    ),
    Section(
        "A job waits in a Kueue queue",
        "Only with `kueue.enabled`; see [queues and quota by Kueue](how-to/kueue.md).",
        {
            "QueueMissing": (
                "Kueue holds every Job that is in no queue, and the job names none.",
                "Name one in `spec.queue.name`, or set `spec.defaults.queueName` of Workspace/default.",
            ),
            "QueueNotFound": ("There is no such LocalQueue in the namespace.", "Create it, or name another."),
            "ClusterQueueNotFound": ("The LocalQueue points to a ClusterQueue that is not there.", "Create it."),
            "QueueHasNoStokerCheck": (
                "The ClusterQueue lacks Stoker's AdmissionCheck: runs would be let through without nodes.",
                "Add AdmissionCheck `stoker` to the ClusterQueue.",
            ),
            "KueueNotEnabled": (
                "The run names a queue, or Kueue holds it, and the operator was installed without Kueue.",
                "Set the chart's `kueue.enabled`, or submit without a queue.",
            ),
            "PriorityClassMissing": (
                "The WorkloadPriorityClass of the priority is not there.",
                "The chart makes it with `kueue.enabled`.",
            ),
            "LocalQueueStopped": ("The LocalQueue's stopPolicy holds it.", "Set it to None."),
            "ClusterQueueStopped": ("The ClusterQueue's stopPolicy holds it.", "Set it to None."),
            "QueueStopped": ("The queue was stopped with the run in it.", "Start the queue again."),
            "QueueInactive": ("The ClusterQueue is not active; the message says why.", "Mend what it says."),
            "QueueFull": (
                "The queue's quota is in use.",
                "Wait, ask for less, or raise nominalQuota of the ClusterQueue.",
            ),
            "QueuedAgain": ("Kueue put the run back; the message says why.", "Wait, or mend what it says."),
            "QueueDeactivated": ("The run's Workload was set inactive.", "Set it active again, as the message shows."),
            "WorkloadMissing": (
                "Kueue made no Workload for the run.",
                "See whether Kueue runs, with integration batch/job.",
            ),
            "WaitingForChecks": ("Other AdmissionChecks have not answered.", "Wait, or see what they say."),
            "EnteringQueue": ("The run goes into its queue.", _WAIT),
            "InQueue": ("The queue has not come to the run.", _WAIT),
            "LeavingQueue": ("The queue lets the run through.", _WAIT),
        },
    ),
    Section(
        "An image is missing",
        "Of a job, and in the conditions of an Environment; `stoker env show NAME`, `stoker logs JOB --build`. See [environments]"
        "(explanation/environments.md).",
        {
            "Building": ("The image is being built.", "Wait; the log says how far it is."),
            "BuildQueued": ("The namespace has as many builds as it may.", "Wait, or raise `builder.maxPerNamespace`."),
            "LookingUp": ("The registry is being asked.", _WAIT),
            "BaseImageNotFound": ("The registry has no such base image.", "Push it, or correct its name."),
            "BaseImageUnauthorized": (
                "The registry wants credentials for the base image.",
                "Name a Secret in `imagePullSecrets` of the environment or the workspace; see [registries](how-to/registry.md).",
            ),
            "BaseImageUnsupported": ("The base is no Linux image, or of a form that is not read.", "Use another base."),
            "BadBaseImage": ("The base image is broken: a layer or its list.", "Push it again."),
            "BaseWithoutPython": (
                "The environment wants packages, and the base has no Python.",
                "Use a base with Python, or conda.",
            ),
            "ImageReferenceInvalid": ("The image's name cannot be read.", "Write `registry/repository:tag`."),
            "ArchitectureMismatch": (
                "The base has no image for the architecture of the pool's nodes.",
                "Use another base or another pool.",
            ),
            "PipUnsatisfiable": (
                "No set of versions meets all lines of pip.",
                "Change the line that the message names.",
            ),
            "CondaUnsatisfiable": (
                "No set of versions meets all lines of conda.",
                "Change the line that the message names.",
            ),
            "PackageNotFound": (
                "No index or channel has the package, or not that version.",
                "Correct it, or name its index.",
            ),
            "ChannelNotFound": ("There is no such conda channel.", "Correct its name or URL."),
            "PlatformUnsupported": (
                "A package is not there for this platform.",
                "Take another version, or another platform.",
            ),
            "SourceOnlyPackage": (
                "A package comes as source only, and the base cannot build it.",
                "Use a base with a compiler, or a version that has a wheel.",
            ),
            "HashMismatch": (
                "An index sent other bytes than its hash says.",
                "Correct the hash, or find out who changed the file.",
            ),
            "HashMissing": ("An index gives no hash for a file.", "Use an index that does."),
            "IndexUnreachable": (
                "A package index does not answer.",
                "See the network of the builder; it is tried again.",
            ),
            "IndexUnauthorized": (
                "A package index wants credentials.",
                "Give them as docs/reference/environment.md says.",
            ),
            "BadPackage": ("A package's archive is broken or unsafe.", "Take another version."),
            "BadPythonList": ("The list of Pythons to choose from cannot be read.", "See the chart's builder values."),
            "CondaContent": ("A conda package would write where it may not.", "Take another version or channel."),
            "PostLinkFailed": ("A conda package's own script failed.", "See the log; take another version."),
            "DockerStepFailed": ("A docker step failed; the log has its words.", "Correct the step."),
            "ContextUnavailable": ("A step copies from a context that is not there.", "Correct `context`."),
            "FilesWithoutCode": (
                "The environment names files of the code, and the job has no code.",
                "Give the job its code.",
            ),
            "FileNotText": ("A file of packages is no UTF-8 text.", "Save it as UTF-8."),
            "SpecInvalid": ("A line of the environment cannot be read.", "Correct the line."),
            "BadDefinition": ("The definition contradicts itself.", _READ_IT),
            "NoBuilderAvailable": (
                "The environment needs a builder that is not installed.",
                "See `builder` and `buildkit` of the chart.",
            ),
            "NoRegistry": (
                "There is no registry to push to.",
                "Set `registry.url` of the chart or `spec.registry` of the workspace.",
            ),
            "BuilderNotPlaced": (
                "No node takes the builder's pod.",
                "Give it a node outside of the pools, or `builder.tolerations`.",
            ),
            "BuilderNotPulled": ("A node cannot pull the builder's image.", "Correct `builder.image` of the chart."),
            "ServiceAccountNotFound": ("The account to build as is not there.", "Create it; the build then starts."),
            "BuildFailed": ("The builder ended without saying why.", "See the log; it is tried again."),
            "BuildPodLost": ("The builder's pod went, with its node or by eviction.", _WAIT),
            "Timeout": ("The build did not end within `builder.timeoutSeconds`.", "Raise it, or take packages out."),
            "DeadlineExceeded": ("The build's Job ran out of time.", "Raise `builder.timeoutSeconds`."),
            "LogUnavailable": ("The build's log cannot be read now.", "See whether the node's kubelet answers."),
            "PodGone": (
                "The build's pod is gone, and its log with it.",
                "See the stored log once the build has ended.",
            ),
            "InternalError": (
                "Stoker failed to find an answer; the operator's log says where.",
                "Report it: this is a mistake in Stoker.",
            ),
            "OutOfMemory": ("The builder ran out of memory.", "Raise `builder.resources.limits.memory`."),
            "DiskFull": ("The builder ran out of disk.", "Raise ephemeral-storage in `builder.resources`."),
            "BadCredentials": ("The registry's Secret cannot be read.", "Make it as docs/how-to/registry.md says."),
            "PushDenied": (
                "The registry does not let us push.",
                "See the Secret in `spec.registry.secretRef` of the workspace.",
            ),
            "RepositoryMissing": ("The registry makes no repository by itself.", "Create the repository."),
            "RegistryUnauthorized": ("The registry refuses the credentials.", "See the registry's Secret."),
            "RegistryUnreachable": (
                "The registry does not answer.",
                "See whether it answers to pods of the namespace.",
            ),
            "RegistryUnavailable": ("The registry does not answer, or answers with an error of its own.", _WAIT),
            "RegistryRefused": ("The registry refused; the message has its words.", _READ_IT),
            "RecordMissing": ("An image has no record of how it was built.", "It is built again."),
            "RecordUnreadable": ("The record of an image cannot be read.", "Remove it: `stoker env gc`."),
            "SigningKeyNotFound": (
                "The Secret with the signing key is not there.",
                "Create it, or take `spec.signing` out.",
            ),
            "SigningKeyInvalid": ("The signing key cannot be read.", "See [signing](how-to/sign-images.md)."),
            "PullSecretNotFound": ("A pull secret is not there.", "Create it in the namespace."),
            "PullSecretForbidden": (
                "The operator may not read a pull secret.",
                "Grant it by a RoleBinding, as the message says.",
            ),
            "PullSecretInvalid": (
                "A pull secret is of another type or broken.",
                "Make it with `kubectl create secret docker-registry`.",
            ),
            "ImagePullFailed": (
                "A node cannot pull the image; after 10 min the attempt ends.",
                "See that nodes reach the registry, and that the pull secret is valid: `stoker doctor`.",
            ),
        },
    ),
    Section(
        "A job starts, saves or tries again",
        "Usually seconds. What lasts says so in its message.",
        {
            "Preparing": ("Code, image and inputs are being looked up.", _WAIT),
            "CreatingPods": ("The nodes are there; pods are being made.", _WAIT),
            "PodsStarting": (
                "Pods pull the image, fetch code and inputs.",
                "Wait; `kubectl describe pods` shows what nodes do.",
            ),
            "PodsNotCreated": (
                "The Job makes no pods.",
                "See whether kube-controller-manager runs.",
            ),
            "StoppingPods": ("An attempt is being ended; pods save what they have.", _WAIT),
            "ClosingLostRanks": ("Nodes were lost; what they had saved is being sealed.", _WAIT),
            "SavingRemains": ("A lost pod's disk is there; what had not been saved is saved from it.", _WAIT),
            "SavingOutputs": (
                "The command has ended; logs and outputs are being saved and checked.",
                "Wait, as long as bytes move.",
            ),
            "RetryBackoff": ("A failure is tried again after a pause.", "Wait, or `stoker cancel JOB`."),
            "Canceling": ("The run is being canceled; what it wrote is saved.", _WAIT),
            "WaitingForRecord": (
                "Whether the name ran before is being looked up (`runPolicy: PerName`).",
                "See whether the store answers.",
            ),
            "FormerRunEnding": ("A job of the same name is still ending.", _WAIT),
            "SnapshotUnavailable": (
                "The store does not say whether the code is there.",
                "See whether the store answers.",
            ),
            "InputUnavailable": ("The store does not list an input.", "See whether the store answers."),
            "StorageUnavailable": ("The store does not answer.", "See whether it answers; `stoker doctor` asks it."),
            "StorageRefused": (
                "The store refuses; the message has its words.",
                "See its credentials and rights: `stoker doctor`.",
            ),
            "RecordRefused": ("The store refused the run's record.", "See its credentials and rights."),
            "ResultRefused": ("The store refused the run's result.", "See its credentials and rights."),
        },
    ),
    Section(
        "A job has ended",
        "`status.reason`, in `stoker show` and `stoker why`. What was saved stays, whatever the reason.",
        {
            "Completed": ("Every node's command ended with 0, and all it wrote is saved and checked.", "Nothing."),
            "CommandFailed": (
                "The command ended with another exit code. The message has the last lines of the log.",
                "Read `stoker logs JOB`. `retry.limit` tries such failures again.",
            ),
            "CommandNotFound": (
                "The program is not on PATH in the image.",
                "Name an image or environment that has it.",
            ),
            "CommandNotExecutable": (
                "The file may not be executed.",
                "Call it by its interpreter, or make it executable.",
            ),
            "CommandNotStarted": ("The command never began; the message says why.", _READ_IT),
            "EntryFileMissing": (
                "The script is not in the code.",
                "`stoker snapshot DIR` lists what is sent, and which rule leaves what out.",
            ),
            "SystemLibraryMissing": (
                "A package wants a library of the system.",
                "Add the docker step that the message gives.",
            ),
            "PackagesNotInImage": (
                "The image lacks packages that the environment names.",
                "Use an environment that is built.",
            ),
            "OOMKilled": (
                "The command took more memory than its node or request.",
                "Ask for more memory or a larger type; `retry.causes: [OOMKilled]` tries again.",
            ),
            "ScratchLimitExceeded": ("The run wrote more than `resources.scratch.size`.", "Raise it, or write less."),
            "ScratchTooSmall": (
                "Code and inputs do not fit on the disk.",
                "Raise `resources.scratch.size`, or take a larger type.",
            ),
            "ScratchUnusable": ("The scratch folder cannot be written.", "See the node's disk."),
            "LogLimitExceeded": ("The log grew past its limit.", "Print less."),
            "NoProgress": (
                "Nothing was printed or written for `limits.noProgressSeconds`.",
                "Find out why it hangs; see its log.",
            ),
            "TimedOut": ("The command ran for `limits.timeoutSeconds`.", "Raise the limit, or go on from checkpoints."),
            "QueueTimedOut": (
                "No nodes came within `limits.queueTimeoutSeconds`.",
                "Submit again, to another pool or with a longer limit.",
            ),
            "Canceled": ("Somebody set `spec.cancel`.", "Nothing."),
            "Preempted": (
                "A node was taken back by its provider. A new attempt goes on from the checkpoints and it is no failure.",
                "Nothing; after `retry.interruptionLimit` of them the run fails.",
            ),
            "Evicted": (
                "A node ended the pod: a drain, or pressure.",
                "Nothing for a drain; less disk or memory for pressure.",
            ),
            "NodeLost": (
                "A node went or fell silent. A new attempt goes on from the checkpoints.",
                "Nothing, unless it goes on.",
            ),
            "NodeShutdown": ("A node was shut down.", "Nothing; a new attempt goes on."),
            "PodLost": ("A pod went without a trace.", "Nothing; a new attempt goes on."),
            "PodStopped": (
                "Something outside of Stoker stopped the pod.",
                "Find out who deletes pods in the namespace.",
            ),
            "LauncherLost": (
                "The command's container was killed with its launcher.",
                "Mostly memory: see the node's kernel log.",
            ),
            "PreemptedByQueue": ("Kueue gave the nodes to another run.", "Nothing; it is queued again."),
            "FetchFailed": ("Code, inputs or checkpoints could not be brought.", _READ_IT),
            "SnapshotCorrupt": (
                "The stored code is not what its digest says.",
                "Push it again, and find out who changed the store.",
            ),
            "CheckpointCorrupt": (
                "A checkpoint is not what its seal says.",
                "`retry.restore: Nothing` starts without.",
            ),
            "InputChanged": (
                "The data has another content than the job names (`inputs.NAME.digest`), or changed between the list and the read.",
                "Put back what was there, or submit again without the digest.",
            ),
            "BadSnapshot": (
                "The code has a file where the run needs a folder.",
                "Rename the file `outputs` or `logs`.",
            ),
            "BadInput": ("An input is not what its type says.", _READ_IT),
            "BadAnswer": ("The server's answer cannot be read.", "See that agent and server are of versions that fit."),
            "BadDistribution": (
                "The processes of a distributed command cannot be started: the image has no Python 3.8 or later, or they "
                "could not be told where the others are.",
                "The message says what is missing: name an image with Python, and keep Stoker's own variables as they are.",
            ),
            "BadLaunchConfig": ("What launch is to do cannot be read.", "Report it: this is a mistake in Stoker."),
            "WrongGrant": ("The server answered for another rank.", "Report it: this is a mistake in Stoker."),
            "TokenMissing": ("The pod has no token.", "See whether something takes projected volumes out of pods."),
            "ServerUnavailable": ("Stoker's server did not answer for an hour.", "See the pods of stoker-server."),
            "NotStarted": ("The command was never seen to begin.", _READ_IT),
            "OutputsNotSaved": (
                "The command ended and not everything it wrote could be saved. The message and the seal list what is missing.",
                "See the store's quota, rights and state; `limits.saveStallSeconds` is how long is tried.",
            ),
            "LogTruncated": (
                "The command cut its own log; the record says what is missing.",
                "Do not open /dev/stdout for writing anew.",
            ),
        },
    ),
    Section(
        "A node is kept",
        "In `stoker compute explain POOL`, and in `status.members` of a ComputeCluster: why a node is still there.",
        {
            "HasJob": ("A job has it.", _WAIT),
            "Backfilled": ("A job has it that fits in before jobs ahead of it without making them later.", _WAIT),
            "Booting": ("It boots, or shows its devices late.", _WAIT),
            "Scrubbing": ("What the last job left on its scratch path is being removed.", _WAIT),
            "PromisedToGang": ("It waits for the other nodes of a gang, which are being brought.", _WAIT),
            "KeptForGang": ("It is kept for a gang for up to `scaleUp.partialHoldSeconds`.", _WAIT),
            "IdleTime": ("It is idle and goes when its time is over.", "`idleSecondsBeforeScaleDown`, `idlePolicy`."),
            "LastLook": ("Its time is over; it goes if no pod landed there.", _WAIT),
            "Leaving": ("Its end was ordered.", _WAIT),
            "KeptForMinInstances": ("`spec.minInstances` keeps it.", "Lower it."),
            "KeptWarm": ("`spec.warm` keeps it.", "See [size a pool](how-to/size-a-pool.md)."),
            "KeptForBurst": ("Jobs come one after the other (`idlePolicy: Learned`).", _WAIT),
            "GrewLately": ("`scaleDown.delayAfterAddSeconds` keeps all nodes after a growth.", _WAIT),
            "OthersLeaveFirst": ("`scaleDown.maxParallel` leave at a time.", _WAIT),
            "NeverRemoved": ("A pool of this type removes no nodes.", "Remove it yourself."),
            "HasPodsOfOthers": ("Pods that are not Stoker's run there.", "It goes when they have ended."),
            "RemovalHalted": (
                "Removal stopped: too many nodes are unready at once, or a listing shrank. Something larger is wrong.",
                "See the nodes and the provider; removal goes on by itself once they are well.",
            ),
            "ProviderUnknown": ("Nothing is removed while the pool cannot be seen.", "See the pool's problems."),
            "TooManyUnready": (
                "More nodes are unready than one fault explains.",
                "See the cluster's network and control plane.",
            ),
            "MachinesVanished": (
                "The provider's list lost many machines at once; it is not believed.",
                "See the provider.",
            ),
        },
    ),
    Section(
        "A node or a pool cannot be used",
        "In `status.problems` and `status.members` of a ComputeCluster.",
        {
            "NodeNotReady": ("The kubelet says it is not ready, or says nothing.", "See the node."),
            "NodeCordoned": ("Somebody cordoned it.", "`kubectl uncordon NODE`."),
            "NodeUnderPressure": ("The node is short of disk, memory or process ids.", "See what else uses it."),
            "NodeTypeUnknown": (
                "The node is none of the pool's `instanceTypes`.",
                "Describe it in the pool, or label it.",
            ),
            "NodeWithoutMachine": (
                "No machine of the provider stands behind the Node; the Node is removed.",
                "Nothing.",
            ),
            "MachineNeverJoined": (
                "A machine was no Node after `scaleUp.readySeconds` and is ended.",
                "See its boot log.",
            ),
            "LaunchNotListed": ("The provider took an order and does not list it.", "It is asked again."),
            "KubeletTooOld": ("Pods need kubelet 1.29 or later.", "Upgrade the node's image."),
            "InstanceTypeOverstated": (
                "The node offers less than its type promises in the pool.",
                "Correct `resources` of the type, or `nodeReserve`.",
            ),
            "ResourceMissing": ("A device of `readyResources` does not show.", "See its device plugin."),
            "ScrubPending": ("The node waits for its scratch path to be emptied.", _WAIT),
            "ScrubFailed": (
                "The scratch path could not be emptied.",
                "See the scrubber's pod; the node gets no job until it is.",
            ),
            "ScrubNotEnabled": ("`storage.scratchPath` needs the scrubber.", "Set the chart's `scratchScrub.enabled`."),
            "OwnedByAnotherAutoscaler": ("Another autoscaler owns the group.", "Give Stoker a group of its own."),
            "GroupNotFound": ("There is no such group at the provider.", "Correct `spec.provider`."),
            "GroupMaxSize": ("The group's own maximum is lower than `maxInstances`.", "Raise it at the provider."),
            "GroupMinSize": ("The group's own minimum keeps nodes.", "Set it to 0 at the provider."),
            "GroupRebalances": (
                "The group moves machines between zones by itself and may end one with a job.",
                "Suspend AZRebalance.",
            ),
            "GroupReplacesSpot": (
                "The group replaces spot machines early and may end one with a job.",
                "Turn capacity rebalancing off.",
            ),
            "NotScalable": ("The object has no scale subresource.", "Name one that has."),
            "ScaleKindUnknown": ("The API server does not know the kind.", "Correct `spec.provider.scale`."),
            "ReplicasChanged": ("Somebody else changed the replicas.", "Let Stoker alone set them."),
            "RolloutUnderWay": ("The machines are being replaced by their owner; nothing is removed meanwhile.", _WAIT),
            "ReadingReplicas": ("The scalable object is being read.", _WAIT),
        },
    ),
    Section(
        "A workspace's store or clean-up",
        "In the conditions of a Workspace; `stoker doctor` asks the store too.",
        {
            "PromisesMissing": (
                "The store does not keep a promise that runs rest on, such as writing only what is not there yet.",
                "Use a store that does; [security](explanation/security.md) says what you give up otherwise.",
            ),
            "PreflightBroken": (
                "The trial of the store came to no end.",
                "See the operator's log; it is tried again within the hour.",
            ),
            "StorageUnreachable": (
                "The store did not answer the trial.",
                "See its address, and what its credentials allow.",
            ),
            "OtherNamespaces": (
                "The store has runs of other namespaces, so nothing of it is removed.",
                "Give each namespace a store of its own, or use `stoker gc --storage URL`.",
            ),
            "NotAllRemoved": ("Some runs could not be removed.", "See what the store says; it is tried again."),
            "Held": (
                "Something cannot be read that may name what would be removed, so nothing is.",
                "Remove or mend what the message names.",
            ),
            "SharedByAll": (
                "The registry serves every namespace, so none cleans it.",
                "Take it out of `globalRegistries`, or leave `environmentDays` out.",
            ),
            "DeletionRefused": (
                "The registry does not let images be deleted.",
                "Allow deletion there, or leave `environmentDays` out.",
            ),
        },
    ),
)

#: Reason -> (what it means, what to do).
ENTRIES: Mapping[str, tuple[str, str]] = {
    reason: entry for section in SECTIONS for reason, entry in section.entries.items()
}


def entry(reason: str) -> tuple[str, str] | None:
    """What a reason means and what to do; None for a word that is not ours (a provider's, Kubernetes')."""
    return ENTRIES.get(reason)
