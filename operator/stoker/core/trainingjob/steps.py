"""What to do in each stand: actions, and when to look again. What a step says is done by nobody here."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from stoker.api import names
from stoker.api.kube import BatchJob
from stoker.core import podshape, podspec, record, salvagespec, times
from stoker.core.plan import (
    Action,
    AnswerCheck,
    Ask,
    AssignNode,
    CloseRank,
    Create,
    Delete,
    Found,
    Question,
    Recorded,
    ResultWritten,
    Seals,
    UnassignNode,
    ask_again_at,
    is_due,
)
from stoker.core.trainingjob import ending, preparation, queue, remains, retry, waits
from stoker.core.trainingjob.attempts import Attempt, planned_nodes
from stoker.core.trainingjob.seen import PULL_PATIENCE, SCHEDULER_PATIENCE, Seen

#: A child that the Job controller has not finished this long after the run's end is deleted, in seconds.
TIDY_SECONDS = 60.0
#: The same before a next attempt, which waits for it: the Job controller takes a second or two.
CLEAR_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class Step:
    """actions: in order. wake_at: seconds since the epoch. result: result.json as stored, once it is; `unrecorded`
    stands for a run that ended where there is no storage to keep a result. stop: an attempt's end to be recorded.
    closed: the attempt is over and another follows; to be recorded."""

    actions: tuple[Action, ...] = ()
    wake_at: float | None = None
    result: Mapping[str, Any] | None = None
    stop: str = ""
    closed: retry.Verdict | None = None


def tidy(seen: Seen) -> Step:
    """A finished run never runs again; a child that still stands is taken away, and one that is to go sooner than it was
    made for."""
    ended = times.seconds(seen.view.job.status.finished_at) or 0.0
    if not seen.standing:
        return _clean(seen, ended)
    if seen.now < ended + TIDY_SECONDS:
        # The Job controller finishes the child of an ordinary run within seconds, which saves us a write.
        return Step(wake_at=ended + TIDY_SECONDS)
    return Step(actions=tuple(_delete_child(child) for child in seen.standing))


def _clean(seen: Seen, ended: float) -> Step:
    """Kubernetes' own controller takes a child away at the age that it was made with; this is for a lower one since."""
    after = seen.view.job.spec.cleanup.pods_after_seconds
    late = [
        child
        for child in seen.view.children
        if child.metadata.deletion_timestamp is None and (after or 0) < (child.spec.ttl_seconds_after_finished or 0)
    ]
    if after is None or not late:
        return Step()
    due = ended + after
    return Step(wake_at=due) if seen.now < due else Step(tuple(_delete_child(child) for child in late))


def finish(seen: Seen) -> Step:
    """Write the result, then show it: result.json comes before a terminal status."""
    attempt = _attempt(seen)
    former = _former_ends(seen)
    if isinstance(former, Step):
        return former
    limits = "" if all(rank.complete for rank in attempt.ranks) else retry.verdict(seen, attempt).words
    end = ending.of_attempt(seen, attempt, former, limits)
    return _with_result(seen, end, _delete_service(seen, attempt.number))


def close_attempt(seen: Seen) -> Step:
    """Record that the attempt is over and that another follows; from then on only that record is believed."""
    attempt = _attempt(seen)
    return Step(_delete_service(seen, attempt.number), closed=retry.verdict(seen, attempt))


def clear(seen: Seen) -> Step:
    """No two attempts at once: a child that the Job controller does not finish is taken away before the next."""
    ended = times.seconds(seen.last_closed.ended_at) if seen.last_closed else None
    due = (ended or 0.0) + CLEAR_SECONDS
    return Step(wake_at=due) if seen.now < due else Step(tuple(_delete_child(child) for child in seen.leftovers))


def rest(seen: Seen) -> Step:
    """Suspended: nothing is asked for and nothing is made; what a former attempt left goes."""
    return clear(seen) if seen.leftovers else Step()


def back_off(seen: Seen) -> Step:
    """Let the time pass that a failure costs."""
    return Step(wake_at=seen.retry_at)


def show_former_run(seen: Seen) -> Step:
    """The name ran before, and runs once for ever: that run's result is this job's."""
    result = dict(seen.former_run or {})
    words = f"spec.runPolicy PerName: the name ran before, as {result.get('key')}, and does not run again"
    result["message"] = "; ".join(part for part in (words, result.get("message")) if part)
    return Step(result=result)


def finish_unstarted(seen: Seen) -> Step:
    """Ended before anything ran, or between two attempts: the record is written all the same, where there is storage
    for it."""
    if seen.view.workspace.problem is not None or not seen.view.workspace.storage_url:
        return Step(result=ending.result_of(seen, ending.unstarted(seen)))
    made = seen.preparation
    if not made.name.known and made.name.question is not None:
        return _asking(seen, made.name.question)
    text = record.encode(
        preparation.job_json(
            seen.view, seen.key, seen.compute, made.snapshot.value, made.image.value, made.inputs, made.environment
        )
    )
    question = Recorded(seen.view.job.metadata.namespace, seen.key, text)
    answer = seen.view.answers.get(question)
    if not isinstance(answer, Found):
        return _asking(seen, question)
    former = _former_ends(seen)
    return former if isinstance(former, Step) else _with_result(seen, ending.unstarted(seen, former), ())


def give_up(seen: Seen) -> Step:
    """No nodes for too long. An attempt that nobody remembers is looked for first: such a run did not wait."""
    former = seen.preparation.former
    if not former.known and former.question is not None:
        return _asking(seen, former.question)
    return finish_unstarted(seen)


def end_attempt(seen: Seen) -> Step:
    """The one way in which an attempt is ended from outside: record why, delete the child, close what is lost, wait for
    the seals of the rest."""
    attempt = _attempt(seen)
    if not attempt.stopped:
        return Step(stop=seen.stop)
    actions: list[Action] = []
    if attempt.child is not None and attempt.child_open:
        actions.append(_delete_child(attempt.child))
    sealing = wait_for_seals(seen)
    return Step(actions=(*actions, *sealing.actions), wake_at=sealing.wake_at)


def wait_for_seals(seen: Seen) -> Step:
    """Ask for the seals once every rank has ended; close the ranks that can have none."""
    attempt = _attempt(seen)
    asking = _asking(seen, attempt.question) if attempt.question is not None else Step()
    # Where all have ended, the seals are looked at first: a rank whose pod is gone is mostly sealed.
    known = attempt.asked or attempt.question is None
    closing = _closing(seen, attempt) if known else Step()
    salvaging = _salvages(seen, attempt) if known else ()
    wake_at = times.earliest(asking.wake_at, closing.wake_at, attempt.look_at, _pods_wake(seen, attempt))
    return Step((*asking.actions, *closing.actions, *salvaging), wake_at)


def watch(seen: Seen) -> Step:
    """Nothing to do but to look again when something can have become overdue."""
    attempt = _attempt(seen)
    starting = None
    if attempt.started is None and attempt.created is not None:
        moments = (attempt.created + waits.PODS_EXPECTED, attempt.created + SCHEDULER_PATIENCE + 1.0)
        starting = times.earliest(*(moment for moment in moments if moment > seen.now))
    pulled = seen.pull_failed_at
    patience = pulled + PULL_PATIENCE if pulled is not None else None
    lacking = seen.lacking_since + PULL_PATIENCE if seen.lack is not None else None
    refused = seen.pods_refused_at + PULL_PATIENCE if seen.pods_refused_at is not None else None
    wakes = (starting, patience, lacking, refused, seen.misplaced_at, seen.deadline, _pods_wake(seen, attempt))
    return Step(wake_at=times.earliest(*wakes))


def prepare(seen: Seen) -> Step:
    """Ask what is not known yet, and have the image built if nobody has it."""
    return Step((*seen.preparation.asks(seen.now), *seen.preparation.starts), seen.preparation.retry_at(seen.now))


def wait(seen: Seen) -> Step:
    """The pool's plan has been told by the job's demand; it answers with a placement."""
    return Step()


def wait_for_queue(seen: Seen) -> Step:
    """Kueue holds what is in no queue: another try would end as the last one did."""
    return Step(wake_at=seen.queue_missing_until)


def answer_queue(seen: Seen) -> Step:
    """Kueue asks whether the run may start, once it has quota: yes once its nodes are there and labelled, no where the pool
    cannot bring them, so that others may use the quota meanwhile."""
    attempt, place = _attempt(seen), _attempt(seen).place
    workload, check = (place.workload, place.check) if place is not None else (None, None)
    uid, labelled = seen.view.job.metadata.uid, seen.view.assigned.get(attempt.number, ())
    if place is not None and not place.reserved and labelled:
        # It lost its quota before it ran.
        return Step(tuple(UnassignNode(node, uid, attempt.number) for node in labelled))
    if place is None or workload is None or check is None or not place.reserved or check.state != "Pending":
        expected = None if workload is not None else _child_made(attempt) + queue.WORKLOAD_EXPECTED
        return Step(wake_at=expected if expected is not None and expected > seen.now else None)
    answer = AnswerCheck(workload.metadata.namespace, workload.metadata.name, check.name, "Ready")
    by_name = attempt.child is not None and bool(planned_nodes(attempt.child))
    if by_name or (seen.granted and not seen.placement.nodes):
        return Step(
            (replace(answer, message="its nodes are the pool's to choose" if not by_name else "its nodes are there"),)
        )
    nodes = seen.placement.nodes if seen.granted else ()
    if not nodes and len(labelled) == seen.ranks:
        nodes = labelled
    if nodes:
        astray = [node for node in labelled if node not in nodes]
        return Step((
            *(UnassignNode(node, uid, attempt.number) for node in astray),
            *(AssignNode(node, uid, attempt.number) for node in nodes if node not in labelled),
            replace(answer, message=f"nodes: {', '.join(nodes)}"[:1024], assigned=names.assigned(uid, attempt.number)),
        ))  # fmt: skip
    reason = seen.placement.reason
    if queue.passes(reason):
        return Step()
    if seen.now < (due := queue.retry_at(check, seen.now)):
        return Step(wake_at=due)
    said = f"{reason}: {seen.placement.message}; {seen.placement.fix}"[:1024]
    return Step((replace(answer, state="Retry", message=said),))


def try_child(seen: Seen) -> Step:
    """Ask again whether the child would be taken, without nodes: what may never be taken must not hold any."""
    made = create_child(seen)
    return replace(
        made, actions=tuple(replace(one, trial=True) if isinstance(one, Create) else one for one in made.actions)
    )


def create_child(seen: Seen) -> Step:
    """POST the child. Its Service goes first: once the child is seen, the Service is known to be there."""
    view, former = seen.view, seen.preparation.former
    if view.cluster is None:
        return Step()
    if not former.known and former.question is not None:
        return _asking(seen, former.question)
    child = podspec.ChildPlan(
        job=view.job, record=seen.preparation.record.value, attempt=seen.next_attempt, cluster=view.cluster,
        instance_type=view.instance_type, agent_image=view.settings.agent_image, server_url=view.settings.server_url,
        pods_after_seconds=view.job.spec.cleanup.pods_after_seconds or view.settings.pods_after_seconds,
        nodes=() if seen.queue else seen.placement.nodes, queue=seen.queue,
        pull_secrets=(*preparation.pull_secrets(view), *view.settings.image_pull_secrets),
        limit_seconds=preparation.limit_seconds(view), ahead=seen.placement.message if seen.placement.granted else "",
    )  # fmt: skip
    service = (Create(podspec.make_service(child)),) if child.ranks > 1 else ()
    return Step((*service, Create(podspec.make_child(child))))


def _with_result(seen: Seen, end: record.Ending, cleaning: tuple[Action, ...]) -> Step:
    result = ending.result_of(seen, end)
    question = ResultWritten(seen.view.job.metadata.namespace, seen.key, record.encode(result))
    answer = seen.view.answers.get(question)
    if isinstance(answer, Found) and isinstance(answer.value, Mapping):
        return Step(actions=cleaning, result=answer.value)
    return _asking(seen, question)


def _former_ends(seen: Seen) -> tuple[ending.Former, ...] | Step:
    """How former attempts ended, for the record; a step as long as seals of one are not known."""
    closed = [entry for entry in seen.view.job.status.attempts if entry.counted is not None]
    namespace = seen.view.job.metadata.namespace
    questions = [Seals(namespace, seen.key, entry.number, seen.ranks, "record") for entry in closed]
    answers = [seen.view.answers.get(question) for question in questions]
    if all(isinstance(answer, Found) for answer in answers):
        values = [answer.value if isinstance(answer, Found) else None for answer in answers]
        return tuple(
            ending.former_end(entry, value, seen.ranks) for entry, value in zip(closed, values, strict=True)
        )  # fmt: skip
    asked = [_asking(seen, question) for question in questions]
    actions = tuple(action for step in asked for action in step.actions)
    return Step(actions, times.earliest(*(step.wake_at for step in asked)))


def _asking(seen: Seen, question: Question) -> Step:
    """Ask what has no answer, and again what had none worth keeping, once it may be asked again."""
    answer = seen.view.answers.get(question)
    return Step((Ask(question),) if is_due(answer, seen.now) else (), ask_again_at(answer, seen.now))


def _closing(seen: Seen, attempt: Attempt) -> Step:
    """Seal as incomplete what can no longer be sealed by its own pod."""
    namespace = seen.view.job.metadata.namespace
    asked = [
        _asking(
            seen, CloseRank(namespace, seen.key, attempt.number, rank.number, rank.close_as, rank.close_message)
        )
        for rank in attempt.ranks
        if rank.seal is None and rank.close_as
    ]  # fmt: skip
    actions = tuple(action for step in asked for action in step.actions)
    return Step(actions, times.earliest(*(step.wake_at for step in asked)))


def _salvages(seen: Seen, attempt: Attempt) -> tuple[Action, ...]:
    """Have saved what ranks without a seal left on their claims, before they are closed as lost."""
    view, command = seen.view, seen.view.job.spec.command
    made = []
    for rank in attempt.ranks:
        if command is None or not rank.salvaging or rank.remains is None or rank.remains.job is not None:
            continue
        reason, words = ending.lost_as(rank)
        made.append(salvagespec.SalvagePlan(
            job=view.job, attempt=attempt.number, rank=rank.number, claim=rank.remains.claim.metadata.name,
            reason=reason, message=words, compute=seen.compute, seconds=remains.SAVING_PATIENCE,
            shape=podshape.merged(command.pod, view.cluster.spec.pod_defaults if view.cluster else None),
            agent_image=view.settings.agent_image, server_url=view.settings.server_url,
            pods_after_seconds=view.settings.pods_after_seconds,
            pull_secrets=(*preparation.pull_secrets(view), *view.settings.image_pull_secrets),
        ))  # fmt: skip
    return tuple(Create(salvagespec.make_salvage(plan)) for plan in made)


def _child_made(attempt: Attempt) -> float:
    return (times.seconds(attempt.child.metadata.creation_timestamp) if attempt.child else None) or 0.0


def _delete_child(child: BatchJob) -> Delete:
    metadata = child.metadata
    return Delete("Job", metadata.namespace, metadata.name, metadata.uid)


def _delete_service(seen: Seen, attempt: int) -> tuple[Action, ...]:
    metadata = seen.view.job.metadata
    if seen.ranks < 2:
        return ()
    name = names.child_name(metadata.name, metadata.uid, attempt)
    return (Delete("Service", metadata.namespace, name, ""),)


def _pods_wake(seen: Seen, attempt: Attempt) -> float | None:
    """When a silent node counts as lost or a missing seal as never to come."""
    moments = (rank.look_at for rank in attempt.ranks)
    return times.earliest(*(moment for moment in moments if moment is not None and moment > seen.now))


def _attempt(seen: Seen) -> Attempt:
    assert seen.attempt is not None, "these steps are taken for an attempt"
    return seen.attempt
