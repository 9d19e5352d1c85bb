"""A job in a queue of Kueue's: which queue it is, what Kueue says of it, and what Stoker's AdmissionCheck answers.

The child is made suspended and stands in the queue. Once Kueue reserves quota, Stoker's check asks the pool for nodes; with
them it answers Ready, and Kueue lets the child run. Kueue alone writes the child's `suspend`: who holds it is read from
the child as it is, never from what was asked for.
"""

from collections.abc import Callable
from dataclasses import dataclass

from stoker.api.kube import BatchJob, KubeCondition
from stoker.api.kueue import (
    DEFAULT_QUEUE,
    LABEL_QUEUE,
    PRIORITY_CLASSES,
    CheckState,
    ClusterQueue,
    LocalQueue,
    Workload,
)
from stoker.core import times
from stoker.core.cluster.assign import TURN
from stoker.core.trainingjob.obstacles import Wait
from stoker.core.trainingjob.view import JobView, QueueView

#: Why attempts end that Kueue ends: it took the quota for others, or the queue itself was stopped.
TAKEN_OUT, STOPPED = "PreemptedByQueue", "QueueStopped"
#: Why an attempt ends that Kueue holds although it is in no queue.
NOT_QUEUED = "NotQueued"
#: For so long after that no other is tried, unless a queue is named; in seconds.
QUEUE_AGAIN = 1800.0
#: A child without a Workload for this long is told of, in seconds.
WORKLOAD_EXPECTED = 3.0
#: What Kueue says of an eviction that is about the queue, not about the run.
_OF_THE_QUEUE = frozenset({"ClusterQueueStopped", "LocalQueueStopped", "Deactivated"})
#: Reasons of a pool to wait that pass with time. For any other the quota is given back meanwhile.
_PASSES = frozenset(
    {"", TURN, "NodesBooting", "PoolFull", "WaitingForPool", "HandingOver", "WaitingForRoom", "WaitingForNodes"}
)
#: Kueue puts a run back at once after a Retry, behind those that wait, and takes it again where nobody does: then the next
#: Retry comes no sooner than this after the last, doubled each time up to the longest; in seconds.
FIRST_RETRY, LONGEST_RETRY = 60, 1800
_HELD = "None"


@dataclass(frozen=True, slots=True)
class Place:
    """Where a child stands. queue: its LocalQueue; empty where Kueue holds a child that names none. suspended: Kueue does not
    let it run, now. workload: Kueue's record; None where there is none or it is not watched. check: what Stoker's check says."""

    queue: str
    suspended: bool
    workload: Workload | None = None
    check: CheckState | None = None

    @property
    def reserved(self) -> bool:
        """Whether it has quota."""
        return _is(self.workload, "QuotaReserved") and not _is(self.workload, "Evicted")

    @property
    def admitted_at(self) -> float | None:
        """When Kueue let it through; None where it has not."""
        told = _condition(self.workload, "Admitted")
        return times.seconds(told.last_transition_time) if told is not None and told.status == "True" else None

    @property
    def ended_as(self) -> str:
        """Why Kueue took it out again once it had let it through; empty where it did not."""
        if not self.suspended or _condition(self.workload, "Admitted") is None:
            return ""
        evicted = _condition(self.workload, "Evicted")
        if _is(self.workload, "Admitted") and (evicted is None or evicted.status != "True"):
            return ""
        return STOPPED if evicted is not None and evicted.reason in _OF_THE_QUEUE else TAKEN_OUT

    @property
    def ended_words(self) -> str:
        evicted = _condition(self.workload, "Evicted")
        return evicted.message if evicted is not None else ""


def queue_of(view: JobView) -> str:
    """The LocalQueue that a job's next attempt goes to; empty for none."""
    job, queues = view.job, view.queues
    named = job.spec.queue.name or job.metadata.labels.get(LABEL_QUEUE) or view.workspace.defaults.queue_name
    return named or (DEFAULT_QUEUE if queues is not None and DEFAULT_QUEUE in queues.local else "")


def stands_in_queue(child: BatchJob) -> bool:
    """Whether a child waits in a queue: it has no pods, and takes no nodes but those that are kept for it."""
    return child.spec.suspend and LABEL_QUEUE in child.metadata.labels


def place_of(view: JobView, child: BatchJob) -> Place | None:
    """Where a child stands with Kueue; None for one that Kueue has nothing to do with."""
    queue = child.metadata.labels.get(LABEL_QUEUE, "")
    if not queue and not child.spec.suspend:
        return None
    workload = view.queues.workloads.get(child.metadata.uid) if view.queues is not None else None
    checks = workload.status.admission_checks if workload is not None else ()
    ours = view.queues.checks if view.queues is not None else frozenset()
    return Place(queue, child.spec.suspend, workload, next((one for one in checks if one.name in ours), None))


def retry_at(check: CheckState, now: float) -> float:
    """When the quota may be given back once more, for a check that was reset after the Retry before."""
    former, since = check.retry_count or 0, times.seconds(check.last_transition_time)
    if not former or since is None:
        return now
    # A larger exponent changes nothing.
    return since + min(FIRST_RETRY << min(former - 1, 10), LONGEST_RETRY)


def passes(reason: str) -> bool:
    """Whether a pool's reason to wait ends by itself, so that it is worth keeping the quota for."""
    return reason in _PASSES


# -- Why a job cannot go to its queue: a person has to mend it.


def obstacle(view: JobView) -> Wait | None:
    """The first thing that keeps a job from its queue; None for one without a queue too."""
    name = queue_of(view)
    if not name:
        return None
    if view.queues is None:
        return Wait(
            "KueueNotEnabled",
            f"the run names the queue {name}, and this operator does not work with Kueue",
            "set the chart's value kueue.enabled to true once Kueue is installed, or submit again without a queue",
            yours=True,
        )
    return next((wait for policy in _OBSTACLES if (wait := policy(view, view.queues, name))), None)


def _queue_not_found(view: JobView, queues: QueueView, name: str) -> Wait | None:
    if name in queues.local:
        return None
    known, namespace = ", ".join(sorted(queues.local)) or "none", view.job.metadata.namespace
    return Wait(
        "QueueNotFound",
        f'no LocalQueue named "{name}" in namespace {namespace}; there are: {known}',
        f"create LocalQueue/{name} in {namespace}, or name another in spec.queue.name",
        yours=True,
    )


def _cluster_queue_not_found(view: JobView, queues: QueueView, name: str) -> Wait | None:
    wanted = queues.local[name].spec.cluster_queue
    if wanted in queues.cluster:
        return None
    return Wait(
        "ClusterQueueNotFound",
        f"LocalQueue {name} points to ClusterQueue {wanted}, which does not exist",
        f"create ClusterQueue/{wanted}, or name another queue in spec.queue.name",
        yours=True,
    )


def _no_stoker_check(view: JobView, queues: QueueView, name: str) -> Wait | None:
    pool, cluster_queue = view.cluster, queues.cluster[queues.local[name].spec.cluster_queue]
    if pool is None or not pool.spec.provider.owns_nodes or queues.checks & set(cluster_queue.checks):
        return None
    called, known = cluster_queue.metadata.name, sorted(queues.checks)
    made = f"such as {known[0]}" if known else "and create one"
    return Wait(
        "QueueHasNoStokerCheck",
        f"ClusterQueue {called} of LocalQueue {name} has no AdmissionCheck of Stoker's for all its flavors: runs would be "
        f"let through without nodes of {pool.metadata.name}",
        f"add an AdmissionCheck with spec.controllerName stoker.dev/compute, {made}, to "
        f"spec.admissionChecksStrategy.admissionChecks of ClusterQueue/{called}",
        yours=True,
    )


def _priority_class_missing(view: JobView, queues: QueueView, name: str) -> Wait | None:
    wanted = PRIORITY_CLASSES[view.job.spec.queue.priority]
    if wanted in queues.classes:
        return None
    return Wait(
        "PriorityClassMissing",
        f"priority {view.job.spec.queue.priority} is WorkloadPriorityClass {wanted} in a queue, and that does not exist",
        f"create WorkloadPriorityClass/{wanted}; the chart does with kueue.enabled",
        yours=True,
    )


_OBSTACLES: tuple[Callable[[JobView, QueueView, str], Wait | None], ...] = (
    _queue_not_found,
    _cluster_queue_not_found,
    _no_stoker_check,
    _priority_class_missing,
)


# -- Why a job in a queue waits.


def waiting(view: JobView, place: Place, created: float | None, now: float, *, by_name: bool) -> Wait | None:
    """Why a child is not let through, in Kueue's own words; None where only the pool can tell. by_name: whether the child
    names its nodes, so that it needs no check."""
    where = f"LocalQueue {view.job.metadata.namespace}/{place.queue}"
    if view.queues is None:
        return Wait(
            "KueueNotEnabled",
            f"Kueue holds the run in {where}, and this operator does not work with Kueue",
            "set the chart's value kueue.enabled to true, or keep Kueue from jobs of this namespace",
            yours=True,
        )
    workload = place.workload
    if workload is None:
        return _no_workload(where, created, now)
    if not workload.spec.active:
        name = f"{workload.metadata.name} -n {workload.metadata.namespace}"
        return Wait(
            "QueueDeactivated",
            f"Workload {workload.metadata.name} of {where} is not active{_words(_condition(workload, 'Evicted'))}",
            f'mend what it says, then: kubectl patch workload {name} --type merge -p \'{{"spec":{{"active":true}}}}\'',
            yours=True,
        )
    local = view.queues.local.get(place.queue)
    cluster_queue = view.queues.cluster.get(local.spec.cluster_queue) if local is not None else None
    if cluster_queue is not None and not by_name and (lacks := _no_stoker_check(view, view.queues, place.queue)):
        return lacks
    if not place.reserved:
        return _stopped(where, local, cluster_queue) or _without_quota(where, cluster_queue, workload)
    return _other_checks(where, place, workload)


def _no_workload(where: str, created: float | None, now: float) -> Wait:
    if created is None or now < created + WORKLOAD_EXPECTED:
        return Wait("EnteringQueue", f"the run goes to {where}", "wait, this takes seconds")
    return Wait(
        "WorkloadMissing",
        f"Kueue has made no Workload for the run's Job in {where} within {times.duration(WORKLOAD_EXPECTED)}",
        "see whether Kueue runs, with the integration batch/job: kubectl get pods -n kueue-system; "
        "`kubectl describe job` shows what it says of the Job",
    )


def _stopped(where: str, local: LocalQueue | None, cluster_queue: ClusterQueue | None) -> Wait | None:
    """A queue that lets nobody through, whoever it is."""
    if local is not None and local.spec.stop_policy != _HELD:
        return Wait(
            STOPPED, f"{where} is stopped (spec.stopPolicy {local.spec.stop_policy})",
            f"set spec.stopPolicy of LocalQueue/{local.metadata.name} to None", yours=True,
        )  # fmt: skip
    if cluster_queue is None:
        return None
    name = cluster_queue.metadata.name
    if cluster_queue.spec.stop_policy != _HELD:
        return Wait(
            STOPPED, f"ClusterQueue {name} of {where} is stopped (spec.stopPolicy {cluster_queue.spec.stop_policy})",
            f"set spec.stopPolicy of ClusterQueue/{name} to None", yours=True,
        )  # fmt: skip
    active = next((one for one in cluster_queue.status.conditions if one.type == "Active"), None)
    if active is None or active.status != "False":
        return None
    return Wait(
        "QueueInactive", f"ClusterQueue {name} of {where} is not active ({active.reason}){_words(active)}",
        f"mend what ClusterQueue/{name} says", yours=True,
    )  # fmt: skip


def _without_quota(where: str, cluster_queue: ClusterQueue | None, workload: Workload) -> Wait:
    told = _condition(workload, "QuotaReserved")
    evicted = _condition(workload, "Evicted")
    # Of a run that was sent back for our own Retry, Kueue's record of why is the pool's reason.
    if evicted is not None and evicted.status == "True":
        return Wait(
            "QueuedAgain", f"{where} put the run back ({evicted.reason}){_words(evicted)}",
            "wait, Kueue tries again by itself; or mend what it says",
        )  # fmt: skip
    if told is None or not told.message:
        return Wait("InQueue", f"{where} has not come to the run yet", "wait for its turn")
    quota = f"ClusterQueue/{cluster_queue.metadata.name}" if cluster_queue is not None else "its ClusterQueue"
    return Wait(
        "QueueFull",
        f"{where} has no quota for the run ({told.reason}){_words(told)}",
        f"wait until runs of the queue end, submit again with less in resources.requests, or raise nominalQuota of {quota}",
    )


def _other_checks(where: str, place: Place, workload: Workload) -> Wait | None:
    own = place.check.name if place.check is not None else ""
    open_checks = [one for one in workload.status.admission_checks if one.state != "Ready" and one.name != own]
    if own and place.check is not None and place.check.state in ("Pending", "Retry"):
        return None
    if not open_checks:
        return Wait("LeavingQueue", f"{where} lets the run through", "wait, this takes seconds")
    said = "; ".join(f"{one.name} is {one.state}{f': {one.message}' if one.message else ''}" for one in open_checks)
    return Wait("WaitingForChecks", f"{where} waits for other AdmissionChecks: {said}", "wait, or see what they say")


def _words(told: KubeCondition | None) -> str:
    return f": {told.message}" if told is not None and told.message else ""


def _condition(workload: Workload | None, kind: str) -> KubeCondition | None:
    conditions = workload.status.conditions if workload is not None else ()
    return next((one for one in conditions if one.type == kind), None)


def _is(workload: Workload | None, kind: str) -> bool:
    told = _condition(workload, kind)
    return told is not None and told.status == "True"
