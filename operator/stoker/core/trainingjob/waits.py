"""Why a job is not running yet, or not done yet: the first policy that answers decides.

Order matters: what the user can mend comes before what only time mends, and what blocks everything before what blocks
one step.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace

from stoker.core import podspec, times, units
from stoker.core.plan import Answer, Refused, ResultWritten, Unavailable
from stoker.core.trainingjob import attempts, ending, queue
from stoker.core.trainingjob.attempts import Attempt
from stoker.core.trainingjob.obstacles import Wait
from stoker.core.trainingjob.preparation import Need
from stoker.core.trainingjob.seen import (
    PODS_REJECTED,
    PULL_PATIENCE,
    QUEUE_TIMED_OUT,
    SCHEDULER_PATIENCE,
    Seen,
    pull_failure,
)

Policy = Callable[[Seen], Wait | None]

_PATIENCE = times.duration(PULL_PATIENCE)
CREATING = "CreatingPods"
#: What there is to do about a step that takes seconds.
_ITSELF = "wait, this takes seconds; the operator goes on by itself"
_STORE = "see whether the object store answers and what its credentials allow; the operator asks again by itself"
#: Nodes whose figures a message tells.
_MOST_NODES = 4
#: A child without pods for this long is told of, in seconds.
PODS_EXPECTED = 3.0


def why(seen: Seen) -> Wait | None:
    """The wait that holds a job up now; None for one that runs or has ended."""
    if seen.finished:
        return None
    table = WAITS_BEFORE if seen.attempt is None else WAITS_OF_AN_ATTEMPT
    return next((wait for policy in table if (wait := policy(seen))), None)


# -- Before an attempt.


def canceling(seen: Seen) -> Wait | None:
    if not seen.cancel:
        return None
    return Wait("Canceling", "the run is being canceled; its record is being written", _ITSELF)


def giving_up(seen: Seen) -> Wait | None:
    if not seen.queue_timed_out:
        return None
    return Wait(QUEUE_TIMED_OUT, f"{ending.queue_words(seen)}; the run's record is being written", _ITSELF)


def suspended(seen: Seen) -> Wait | None:
    if not seen.suspend:
        return None
    last = seen.last_closed
    goes_on = (
        f"attempt {seen.next_attempt} goes on from the checkpoints of attempt {last.number}" if last else "it starts"
    )
    return Wait(
        attempts.SUSPENDED,
        f"spec.suspend is true: the job takes no nodes; set to false, {goes_on}",
        f"set spec.suspend to false: stoker resume {seen.view.job.metadata.name}",
    )


def retry_backoff(seen: Seen) -> Wait | None:
    """After a failure of the user's own: when it is tried again."""
    last, status = seen.last_closed, seen.view.job.status
    if not seen.backing_off or last is None:
        return None
    return Wait(
        "RetryBackoff",
        f"attempt {last.number} ended with {last.reason} (failure {status.failures} of "
        f"{seen.view.job.spec.retry.limit} that are tried again); attempt {seen.next_attempt} begins at "
        f"{times.rfc3339(seen.retry_at)}",
        "wait until then; `stoker logs` shows what failed, and `stoker cancel` ends the run",
    )


def former_pods_stopping(seen: Seen) -> Wait | None:
    if not seen.leftovers:
        return None
    listed = ", ".join(child.metadata.name for child in seen.leftovers)
    return Wait(
        "StoppingPods",
        f"the former attempt is over and Job {listed} not yet finished",
        "wait, this takes seconds; what does not end by itself is deleted",
    )


def queue_missing(seen: Seen) -> Wait | None:
    if seen.queue_missing_until is None:
        return None
    queues, namespace = seen.view.queues, seen.view.job.metadata.namespace
    known = ", ".join(sorted(queues.local)) if queues is not None and queues.local else "none"
    return Wait(
        "QueueMissing",
        f"Kueue holds every Job of namespace {namespace} that is in no queue (manageJobsWithoutQueueName), and this run "
        f"names none; LocalQueues there: {known}",
        "name one in spec.queue.name, or set spec.defaults.queueName of Workspace/default; it is tried again at "
        f"{times.rfc3339(seen.queue_missing_until)} as it is",
        yours=True,
    )


def obstacle(seen: Seen) -> Wait | None:
    return seen.obstacle


def name_unknown(seen: Seen) -> Wait | None:
    """With runPolicy PerName: whether the name ran before is not known, or the run that has it has not ended."""
    answer = seen.preparation.name.answer
    if isinstance(answer, Unavailable) and answer.reason == "FormerRunEnding":
        return Wait(answer.reason, answer.message, answer.fix)
    if not isinstance(answer, Refused | Unavailable):
        return None
    return Wait(
        "WaitingForRecord",
        f"spec.runPolicy is PerName, and whether {seen.view.job.metadata.name} ran before is not known: {answer.message}",
        answer.fix or "see whether the object store answers; the job runs as soon as the name is known to be free",
        yours=isinstance(answer, Refused),
    )


def snapshot_refused(seen: Seen) -> Wait | None:
    fix = "push the folder with `stoker snapshot DIR --push`, or submit with `stoker run`"
    return _answered(seen.preparation.snapshot.answer, "SnapshotNotFound", "SnapshotUnavailable", "the code", fix)


def input_refused(seen: Seen) -> Wait | None:
    for name, need in seen.preparation.inputs.items():
        fix = f"see that spec.inputs.{name}.path exists"
        if wait := _answered(need.answer, "InputNotFound", "InputUnavailable", f"input {name}", fix):
            return wait
    return None


def image_refused(seen: Seen) -> Wait | None:
    fix = "see that the environment's image is there and that imagePullSecrets may read it"
    return _answered(seen.preparation.image.answer, "BaseImageNotFound", "RegistryUnreachable", "the image", fix)


def record_refused(seen: Seen) -> Wait | None:
    for need in (seen.preparation.former, seen.preparation.record):
        if wait := _answered(need.answer, "RecordRefused", "StorageUnavailable", "the run's record", _STORE):
            return wait
    return None


def preparing(seen: Seen) -> Wait | None:
    preparation = seen.preparation
    if preparation.ready:
        return None
    named: tuple[tuple[str, Need], ...] = (
        ("whether the name ran before", preparation.name), ("the code", preparation.snapshot),
        *((f"input {name}", need) for name, need in preparation.inputs.items()),
        ("the image", preparation.image), ("the record", preparation.record),
    )  # fmt: skip
    open_needs = [name for name, need in named if not need.known]
    return Wait("Preparing", f"looking up {', '.join(open_needs) or 'former attempts'}", _ITSELF)


def post_refused(seen: Seen) -> Wait | None:
    """The API server's words when it refuses the child itself, or its Service."""
    fix = "change the quota or policy of the namespace; it is tried again, and no node is held meanwhile"
    return _answered(seen.post_refused, PODS_REJECTED, "ApiServerUnavailable", "the pods", fix)


def entering_queue(seen: Seen) -> Wait | None:
    return Wait(CREATING, f"the run goes to LocalQueue {seen.queue}", _ITSELF) if seen.queue else None


def nodes_granted(seen: Seen) -> Wait | None:
    return Wait(CREATING, "the nodes are there; the pods are being created", _ITSELF) if seen.granted else None


def waiting_for_nodes(seen: Seen) -> Wait:
    """The pool's own reason, or that it has not been asked yet."""
    placement = seen.placement
    if placement.reason and not placement.granted:
        return Wait(placement.reason, placement.message, placement.fix or _pool(seen))
    nodes = "a node" if seen.ranks == 1 else f"{seen.ranks} nodes"
    return Wait("WaitingForNodes", f"asking {seen.compute} for {nodes}", _pool(seen))


# -- Of an open attempt.


def stopping(seen: Seen) -> Wait | None:
    attempt = _attempt(seen)
    if not seen.stop or all(rank.over for rank in attempt.ranks):
        return None
    seconds = seen.view.job.spec.limits.grace_seconds
    return Wait(
        "StoppingPods",
        f"the attempt is being ended ({seen.stop}); its pods have up to {times.duration(seconds)} to save their outputs",
        f"wait, {times.duration(seconds)} at the longest",
    )


def saving(seen: Seen) -> Wait | None:
    attempt = _attempt(seen)
    if not all(rank.done or rank.saving for rank in attempt.ranks):
        return None
    if attempt.trouble is not None:
        return _answered(attempt.trouble, "StorageRefused", "StorageUnavailable", "the seals", _STORE)
    result = seen.view.answers.get(ResultWritten(seen.view.job.metadata.namespace, seen.key))
    if told := _answered(result, "ResultRefused", "StorageUnavailable", "the result", _STORE):
        return told
    salvaged = [
        (rank.number, rank.remains.claim.metadata.name) for rank in attempt.ranks if rank.salvaging and rank.remains
    ]
    if salvaged:
        listed = ", ".join(f"rank {number} (PersistentVolumeClaim {claim})" for number, claim in salvaged[:5])
        return Wait(
            "SavingRemains",
            f"lost before all was saved, and being saved from scratch: {listed}",
            "nothing needs doing: it ends within 10 min, and what could not be saved is named in status.keptClaims",
        )
    if any(rank.close_as and rank.seal is None for rank in attempt.ranks):
        words = "a pod ended without saving; what it saved before is being listed"
        return Wait("ClosingLostRanks", words, _ITSELF)
    return Wait(
        "SavingOutputs",
        "the command has ended; logs and outputs are being saved and verified",
        "wait, as long as bytes move; what cannot be saved ends the run with a list of it",
    )


def in_queue(seen: Seen) -> Wait | None:
    """What Kueue says, or, once the run has quota, what the pool says."""
    attempt = _attempt(seen)
    if not attempt.held or attempt.place is None:
        return None
    made = times.seconds(attempt.child.metadata.creation_timestamp) if attempt.child else None
    by_name = attempt.child is not None and bool(attempts.planned_nodes(attempt.child))
    return queue.waiting(seen.view, attempt.place, made, seen.now, by_name=by_name) or waiting_for_nodes(seen)


def pods_rejected(seen: Seen) -> Wait | None:
    attempt = _attempt(seen)
    missing = [rank.number for rank in attempt.ranks if rank.pod is None]
    if not missing or attempt.child is None:
        return None
    if seen.refusal:
        return Wait(
            PODS_REJECTED,
            f"the API server refuses the pods: {seen.refusal}; the attempt ends {_PATIENCE} after its start",
            "make what the message misses, change the quota or policy of the namespace, or submit again with what it "
            "allows; creation is tried again",
            yours=True,
        )
    if attempt.created is not None and seen.now >= attempt.created + PODS_EXPECTED:
        return Wait(
            "PodsNotCreated",
            f"Job {attempt.child.metadata.name} has {len(attempt.ranks) - len(missing)} of {len(attempt.ranks)} pods",
            "see whether the cluster's kube-controller-manager runs",
        )
    return None


def image_pull_failed(seen: Seen) -> Wait | None:
    for rank in _attempt(seen).ranks:
        if found := pull_failure(rank):
            name, reason, message = found
            return Wait(
                "ImagePullFailed",
                f"the node cannot pull the image of container {name} ({reason}): {message}; the attempt ends "
                f"{_PATIENCE} after its pod's start",
                "see that the nodes reach the registry and that environment.imagePullSecrets names a valid secret",
                yours=reason in ("ImagePullBackOff", "InvalidImageName", "ErrImageNeverPull"),
            )
    return None


def container_not_created(seen: Seen) -> Wait | None:
    if (lack := seen.lack) is None:
        return None
    return replace(lack, message=f"{lack.message}; the attempt ends when that has lasted {_PATIENCE}")


def scheduler_disagrees(seen: Seen) -> Wait | None:
    if seen.view.cluster is not None and not seen.view.cluster.spec.provider.owns_nodes:
        return None
    for rank in _attempt(seen).ranks:
        unscheduled = attempts.condition(rank.pod.status.conditions, "PodScheduled") if rank.pod else None
        if unscheduled is None or unscheduled.status != "False":
            continue
        since = times.seconds(unscheduled.last_transition_time)
        if since is None or seen.now < since + SCHEDULER_PATIENCE:
            continue
        return Wait(
            "SchedulerDisagrees",
            f"the scheduler will not place rank {rank.number} on the nodes it was given: {unscheduled.message}"
            f"{_figures(seen)}",
            "compare resources of the ComputeCluster's instance type with the node's allocatable and raise nodeReserve, or "
            "what the job's pod asks of a node (nodeSelector, tolerations) with its labels and taints",
        )
    return None


def _figures(seen: Seen) -> str:
    """What a pod asks for beside what its nodes offer in all: whose figure is wrong shows."""
    view, given = seen.view, [name for name in _attempt(seen).nodes if name in seen.view.nodes]
    if view.job.spec.command is None or view.cluster is None or not given:
        return ""
    main = podspec.main_requests(view.job.spec.command, view.cluster, view.instance_type)
    asked = {name: units.quantity(name, amount) for name, amount in podspec.pod_requests(main).items()}

    def listed(amounts: Mapping[str, str]) -> str:
        return ", ".join(f"{name} {amounts.get(name, '0')}" for name in sorted(asked))

    offers = "; ".join(f"{name} offers {listed(view.nodes[name].status.allocatable)}" for name in given[:_MOST_NODES])
    return f"; a pod asks for {listed(asked)} in all, {offers} to all its pods"


def waiting_for_autoscaler(seen: Seen) -> Wait | None:
    """On a pool that owns no nodes: the cluster's own autoscaler has to act."""
    unplaced = [rank.pod for rank in _attempt(seen).ranks if rank.pod and not rank.pod.spec.node_name]
    if not unplaced or seen.view.cluster is None or seen.view.cluster.spec.provider.owns_nodes:
        return None
    told = attempts.condition(unplaced[0].status.conditions, "PodScheduled")
    words = f": {told.message}" if told and told.message else ""
    return Wait(
        "WaitingForAutoscaler",
        f"{len(unplaced)} of {seen.ranks} pods have no node yet{words}",
        f"wait for the cluster's autoscaler; `kubectl describe pod {unplaced[0].metadata.name} "
        f"-n {unplaced[0].metadata.namespace}` shows what it says",
    )


def pods_starting(seen: Seen) -> Wait | None:
    attempt = _attempt(seen)
    starting = [rank.number for rank in attempt.ranks if rank.started is None and not rank.done]
    if not starting:
        return None
    told = f"{len(attempt.ranks) - len(starting)} of {len(attempt.ranks)} pods have started"
    pods = f"stoker.dev/job={seen.view.job.metadata.name} -n {seen.view.job.metadata.namespace}"
    return Wait("PodsStarting", told, f"wait; `kubectl describe pods -l {pods}` shows what the nodes do meanwhile")


#: Before an attempt. The last policy always answers: a job without an attempt waits for something.
WAITS_BEFORE: tuple[Policy, ...] = (
    canceling,
    giving_up,
    suspended,
    retry_backoff,
    former_pods_stopping,
    queue_missing,
    obstacle,
    name_unknown,
    snapshot_refused,
    input_refused,
    image_refused,
    record_refused,
    post_refused,
    preparing,
    entering_queue,
    nodes_granted,
    waiting_for_nodes,
)
WAITS_OF_AN_ATTEMPT: tuple[Policy, ...] = (
    stopping,
    saving,
    in_queue,
    pods_rejected,
    image_pull_failed,
    container_not_created,
    scheduler_disagrees,
    waiting_for_autoscaler,
    pods_starting,
)


def _answered(answer: Answer, refused: str, unavailable: str, what: str, fix: str) -> Wait | None:
    """A wait of a refused or unavailable answer, in the words of whoever answered. fix: where they say none."""
    if isinstance(answer, Refused):
        return Wait(answer.reason or refused, answer.message or f"{what}: refused", answer.fix or fix, yours=True)
    if isinstance(answer, Unavailable):
        return Wait(answer.reason or unavailable, answer.message or f"{what}: no answer yet", answer.fix or fix)
    return None


def _pool(seen: Seen) -> str:
    return f"wait; `kubectl describe computecluster {seen.compute}` shows the pool's state and problems"


def _attempt(seen: Seen) -> Attempt:
    assert seen.attempt is not None, "these policies are asked of an attempt"
    return seen.attempt
