"""The parts of Kueue's objects (kueue.x-k8s.io/v1beta2) that Stoker reads, and the names that both use."""

import msgspec

from stoker.api.kube import KubeCondition, Lean, ObjectMeta

GROUP_VERSION = "kueue.x-k8s.io/v1beta2"
#: On a Job, and on a TrainingJob where spec.queue.name is missing: the LocalQueue.
LABEL_QUEUE = "kueue.x-k8s.io/queue-name"
#: On a Job: its WorkloadPriorityClass.
LABEL_PRIORITY_CLASS = "kueue.x-k8s.io/priority-class"
#: On a Workload: the uid of its Job.
LABEL_JOB_UID = "kueue.x-k8s.io/job-uid"
#: The LocalQueue that Kueue gives to Jobs that name none, where a namespace has one of this name.
DEFAULT_QUEUE = "default"
#: spec.controllerName of the AdmissionChecks that are Stoker's to answer.
CHECK_CONTROLLER = "stoker.dev/compute"
#: The only pod set of a batch/v1 Job's Workload.
POD_SET = "main"
#: The WorkloadPriorityClass of each priority; the chart makes them.
PRIORITY_CLASSES = {"Low": "stoker-low", "Medium": "stoker-medium", "High": "stoker-high"}


class CheckState(Lean):
    """What an AdmissionCheck says of a Workload. state: Pending, Ready, Retry or Rejected."""

    name: str = ""
    state: str = "Pending"
    message: str = ""
    retry_count: int | None = None
    last_transition_time: str | None = None


class WorkloadSpec(Lean):
    queue_name: str = ""
    active: bool = True


class WorkloadStatus(Lean):
    conditions: tuple[KubeCondition, ...] = ()
    admission_checks: tuple[CheckState, ...] = ()


class Workload(Lean):
    """Kueue's own record of a Job that waits in a queue or was let through."""

    metadata: ObjectMeta
    spec: WorkloadSpec = WorkloadSpec()
    status: WorkloadStatus = WorkloadStatus()


class LocalQueueSpec(Lean):
    cluster_queue: str = ""
    stop_policy: str = "None"


class LocalQueue(Lean):
    """A namespace's way into a ClusterQueue."""

    metadata: ObjectMeta
    spec: LocalQueueSpec = LocalQueueSpec()


class CheckRule(Lean):
    name: str = ""
    on_flavors: tuple[str, ...] = ()


class ChecksStrategy(Lean):
    admission_checks: tuple[CheckRule, ...] = ()


class ClusterQueueSpec(Lean):
    admission_checks_strategy: ChecksStrategy | None = None
    stop_policy: str = "None"


class ConditionsOnly(Lean):
    """A status of which only the conditions are read."""

    conditions: tuple[KubeCondition, ...] = ()


class ClusterQueue(Lean):
    """Quota, and the checks that a Workload has to pass once it has it."""

    metadata: ObjectMeta
    spec: ClusterQueueSpec = ClusterQueueSpec()
    status: ConditionsOnly = ConditionsOnly()

    @property
    def checks(self) -> tuple[str, ...]:
        """Names of the AdmissionChecks that it asks of every Workload, whatever flavor it gets."""
        strategy = self.spec.admission_checks_strategy
        rules = strategy.admission_checks if strategy is not None else ()
        return tuple(rule.name for rule in rules if not rule.on_flavors)


class AdmissionCheckSpec(Lean):
    controller_name: str = ""


class AdmissionCheck(Lean):
    metadata: ObjectMeta
    spec: AdmissionCheckSpec = AdmissionCheckSpec()
    status: ConditionsOnly = ConditionsOnly()


class WorkloadPriorityClass(Lean):
    metadata: ObjectMeta = msgspec.field(default_factory=ObjectMeta)
