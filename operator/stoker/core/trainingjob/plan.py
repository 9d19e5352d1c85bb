"""The plan of one TrainingJob: look, say where it stands, take that stand's step, show it if it is worth a write."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType

import msgspec

from stoker.api import names
from stoker.api.kube import BatchJob, Pod
from stoker.api.trainingjob import TrainingJobStatus, Waiting
from stoker.core import times
from stoker.core.cluster.view import Demand, Holding
from stoker.core.plan import Plan
from stoker.core.times import earliest
from stoker.core.trainingjob import attempts, leftovers, queue, status, waits
from stoker.core.trainingjob.attempts import Attempt
from stoker.core.trainingjob.preparation import limit_seconds
from stoker.core.trainingjob.retry import Verdict
from stoker.core.trainingjob.seen import PULL_PATIENCE, Seen, look
from stoker.core.trainingjob.stands import where
from stoker.core.trainingjob.steps import Step
from stoker.core.trainingjob.view import JobView


def plan(view: JobView, now: float) -> Plan[TrainingJobStatus]:
    """What to do for a job now. Total: whatever is seen, there is a plan, and nothing is raised.

    A finished run gets no status and nothing but its cleaning, whatever its spec says by now.
    """
    seen = look(view, now)
    stand = where(seen)
    step = leftovers.with_cleaning(seen, stand.then(seen))
    step = replace(step, wake_at=earliest(step.wake_at, _queue_wake(seen)))
    builds = _builds(seen)
    if seen.finished:
        return Plan(step.actions, None, step.wake_at)
    if step.closed is not None and seen.attempt is not None:
        return Plan(step.actions, _closed(seen, seen.attempt, step.closed), step.wake_at)
    shown = status.status_of(seen, stand, step)
    if shown == view.job.status:
        return Plan(step.actions, None, step.wake_at, builds)
    show_at = status.show_at(seen, stand, step)
    if now < show_at:
        return Plan(step.actions, None, earliest(step.wake_at, show_at if show_at < status.NEVER else None), builds)
    return Plan(step.actions, shown, step.wake_at, builds)


def _builds(seen: Seen) -> frozenset[str]:
    """The build that a job waits for. One that has made the image stays too until the job has it in its pods."""
    found = seen.preparation.environment
    over = seen.finished or seen.cancel or seen.suspend or seen.obstacle is not None
    return frozenset({found.label}) if found is not None and found.label and not over else frozenset()


def _closed(seen: Seen, attempt: Attempt, verdict: Verdict) -> TrainingJobStatus:
    """The status in which an attempt is closed, and which says how the job stands thereafter."""
    job = seen.view.job
    closed = msgspec.structs.replace(job, status=status.closed(seen, attempt, verdict))
    after = look(replace(seen.view, job=closed, placement=None), seen.now)
    return status.status_of(after, where(after), Step())


def demand(view: JobView, now: float) -> Demand | None:
    """What a job asks of its pool now: nodes for its next attempt, once everything else is ready."""
    seen = look(view, now)
    spec = view.job.spec.command
    if spec is None or not (_wants_nodes(seen) or (seen.wants_nodes_in_queue and not seen.stop)):
        return None
    limit = limit_seconds(view)
    return Demand(
        uid=view.job.metadata.uid, namespace=view.job.metadata.namespace, name=view.job.metadata.name,
        attempt=seen.attempt.number if seen.attempt else seen.next_attempt, count=seen.ranks, since=seen.created,
        instance_type=view.instance_type, priority=view.job.spec.queue.priority,
        avoid=seen.avoid, requests=tuple(sorted(spec.resources.requests.items())),
        seconds=None if limit is None else limit + PULL_PATIENCE,
    )  # fmt: skip


def why(view: JobView, now: float) -> Waiting | None:
    """Why a job does not run, or is not done, at this moment; None for one that runs or has ended."""
    seen = look(view, now)
    return status.waiting(seen, waits.why(seen))


@dataclass(slots=True)
class _Held:
    """What is seen of an attempt that has nodes. pods: those that have not ended. over: how many have. nodes: those that its
    child names, or that carry its label."""

    child: BatchJob | None = None
    nodes: set[str] = field(default_factory=set)
    pods: list[Pod] = field(default_factory=list)
    over: int = 0

    @property
    def open(self) -> bool:
        """Whether its child is unfinished. Once all its pods have ended the Job controller says so itself a moment later,
        and makes no others."""
        if self.child is None or attempts.finished(self.child) or self.over >= self.child.spec.completions:
            return False
        # One that waits in a queue has nothing yet but what is kept for it.
        return bool(self.nodes or self.pods) or not queue.stands_in_queue(self.child)


def holdings(
    children: Iterable[BatchJob],
    pods: Iterable[Pod],
    assigned: Mapping[tuple[str, int], tuple[str, ...]] = MappingProxyType({}),
) -> dict[str, tuple[Holding, ...]]:
    """Which nodes attempts have, by pool: what unfinished children were given, and where pods still run.

    assigned: the nodes that carry an attempt's label, by job uid and attempt. A child that waits in a queue has these and
    those that it names.

    Rebuilt from objects alone, so it is right after a restart. A finished pod holds nothing, though its object stays.
    """
    seen: dict[tuple[str, int], _Held] = {}
    for pod in pods:
        if (key := _attempt_key(pod.metadata.labels)) is not None:
            held = seen.setdefault(key, _Held())
            if attempts.terminal(pod):
                held.over += 1
            else:
                held.pods.append(pod)
    for child in children:
        if (key := _attempt_key(child.metadata.labels)) is not None:
            seen.setdefault(key, _Held()).child = child
            seen[key].nodes = {*attempts.planned_nodes(child), *assigned.get(key, ())}
    found: dict[str, list[Holding]] = {}
    for key, held in sorted(seen.items(), key=lambda one: one[0]):
        if held.pods or held.open:
            pool, holding = _holding(key, held)
            found.setdefault(pool, []).append(holding)
    return {pool: tuple(held) for pool, held in found.items()}


def _holding(key: tuple[str, int], held: _Held) -> tuple[str, Holding]:
    """A pool and what an attempt has of it."""
    child = held.child if held.open else None
    metadata = child.metadata if child is not None else held.pods[-1].metadata
    nodes = {pod.spec.node_name for pod in held.pods if pod.spec.node_name}
    nodes |= held.nodes if child is not None else set()
    going = all(pod.metadata.deletion_timestamp is not None for pod in held.pods)
    return metadata.labels.get(names.LABEL_COMPUTE, ""), Holding(
        *key, tuple(sorted(nodes)), True,
        count=max(len(held.pods), child.spec.completions if child is not None else 0),
        ending=child is None and going,
        namespace=metadata.namespace,
        since=times.seconds(metadata.creation_timestamp) or 0.0,
        ends_at=_ends_at(held, child),
        ahead=child.metadata.annotations.get(names.ANNOTATION_AHEAD, "") if child is not None else "",
    )  # fmt: skip


def _ends_at(held: _Held, child: BatchJob | None) -> float | None:
    """When an attempt has no nodes any more, by its limit or by the grace of pods that are being deleted; None where
    there is neither."""
    if child is None:
        gone = [times.seconds(pod.metadata.deletion_timestamp) for pod in held.pods]
        if None not in gone:
            return max((moment for moment in gone if moment is not None), default=None)
    objects = [child.metadata] if child is not None else []
    objects += [pod.metadata for pod in held.pods]
    limit = next((text for one in objects if (text := one.annotations.get(names.ANNOTATION_LIMIT))), "")
    if not (limit.isascii() and limit.isdigit()):
        return None
    begun = [attempts.started(pod) for pod in held.pods]
    whole = child is None or len(begun) + held.over >= child.spec.completions
    if begun and whole and None not in begun:
        return max(moment for moment in begun if moment is not None) + int(limit)
    created = times.seconds(objects[0].creation_timestamp)
    return created + PULL_PATIENCE + int(limit) if created is not None else None


def _queue_wake(seen: Seen) -> float | None:
    """When the wait for nodes has lasted too long, if that is yet to come."""
    deadline = seen.queue_deadline
    return deadline if deadline is not None and deadline > seen.now else None


def _wants_nodes(seen: Seen) -> bool:
    waits_for_nothing_else = seen.obstacle is None and seen.preparation.ready
    refused = seen.post_refused is not None
    between = refused or seen.suspend or seen.queue_timed_out or seen.backing_off or bool(seen.leftovers)
    # In a queue the child comes first, and nodes once it has quota.
    between = between or bool(seen.queue) or seen.queue_missing_until is not None
    return not (seen.finished or seen.cancel or between) and seen.attempt is None and waits_for_nothing_else


def _attempt_key(labels: dict[str, str]) -> tuple[str, int] | None:
    uid, attempt = labels.get(names.LABEL_JOB_UID, ""), attempts.attempt_of(labels)
    return (uid, attempt) if uid and attempt else None
