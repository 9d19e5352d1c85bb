"""The plan of one TrainingJob: look, say where it stands, take that stand's step, show it if it is worth a write."""

from collections.abc import Iterable
from dataclasses import replace

import msgspec

from stoker.api import names
from stoker.api.kube import BatchJob, Pod
from stoker.api.trainingjob import TrainingJobStatus, Waiting
from stoker.core import times
from stoker.core.cluster.view import Demand, Holding
from stoker.core.plan import Plan
from stoker.core.times import earliest
from stoker.core.trainingjob import attempts, leftovers, status, waits
from stoker.core.trainingjob.attempts import Attempt
from stoker.core.trainingjob.retry import Verdict
from stoker.core.trainingjob.seen import Seen, look
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
    if spec is None or not _wants_nodes(seen):
        return None
    return Demand(
        uid=view.job.metadata.uid, namespace=view.job.metadata.namespace, name=view.job.metadata.name,
        attempt=seen.next_attempt, count=seen.ranks, since=seen.created,
        instance_type=spec.resources.instance_type, priority=view.job.spec.queue.priority,
        avoid=seen.avoid, requests=tuple(sorted(spec.resources.requests.items())),
    )  # fmt: skip


def why(view: JobView, now: float) -> Waiting | None:
    """Why a job does not run, or is not done, at this moment; None for one that runs or has ended."""
    seen = look(view, now)
    return status.waiting(seen, waits.why(seen))


def holdings(children: Iterable[BatchJob], pods: Iterable[Pod]) -> dict[str, tuple[Holding, ...]]:
    """Which nodes attempts have, by pool: what unfinished children were given, and where pods still run.

    Rebuilt from objects alone, so it is right after a restart. A finished pod holds nothing, though its object stays.
    """
    running: dict[tuple[str, int], set[str]] = {}
    pools: dict[tuple[str, int], str] = {}
    counts: dict[tuple[str, int], int] = {}
    ended: dict[tuple[str, int], int] = {}
    live: set[tuple[str, int]] = set()
    namespaces: dict[tuple[str, int], str] = {}
    began: dict[tuple[str, int], float] = {}
    for pod in pods:
        key = _attempt_key(pod.metadata.labels)
        if key is None:
            continue
        if attempts.terminal(pod):
            ended[key] = ended.get(key, 0) + 1
            continue
        pools[key] = pod.metadata.labels.get(names.LABEL_COMPUTE, "")
        began[key] = times.seconds(pod.metadata.creation_timestamp) or 0.0
        namespaces[key] = pod.metadata.namespace
        counts[key] = counts.get(key, 0) + 1
        if pod.metadata.deletion_timestamp is None:
            live.add(key)
        placed = running.setdefault(key, set())
        if pod.spec.node_name:
            placed.add(pod.spec.node_name)
    for child in children:
        key = _attempt_key(child.metadata.labels)
        # All its pods have ended: the Job controller says so itself a moment later, and makes no others.
        if key is None or attempts.finished(child) or ended.get(key, 0) >= child.spec.completions:
            continue
        pools[key] = child.metadata.labels.get(names.LABEL_COMPUTE, "")
        began[key] = times.seconds(child.metadata.creation_timestamp) or 0.0
        namespaces[key] = child.metadata.namespace
        live.add(key)
        counts[key] = max(counts.get(key, 0), child.spec.completions)
        running.setdefault(key, set()).update(attempts.planned_nodes(child))
    found: dict[str, list[Holding]] = {}
    for (uid, attempt), pool in sorted(pools.items()):
        nodes = tuple(sorted(running[uid, attempt]))
        found.setdefault(pool, []).append(
            Holding(
                uid, attempt, nodes, True, counts[uid, attempt], (uid, attempt) not in live, namespaces[uid, attempt],
                began[uid, attempt],
            )
        )  # fmt: skip
    return {pool: tuple(held) for pool, held in found.items()}


def _queue_wake(seen: Seen) -> float | None:
    """When the wait for nodes has lasted too long, if that is yet to come."""
    deadline = seen.queue_deadline
    return deadline if deadline is not None and deadline > seen.now else None


def _wants_nodes(seen: Seen) -> bool:
    waits_for_nothing_else = seen.obstacle is None and seen.preparation.ready
    refused = seen.post_refused is not None
    between = refused or seen.suspend or seen.queue_timed_out or seen.backing_off or bool(seen.leftovers)
    return not (seen.finished or seen.cancel or between) and seen.attempt is None and waits_for_nothing_else


def _attempt_key(labels: dict[str, str]) -> tuple[str, int] | None:
    uid, attempt = labels.get(names.LABEL_JOB_UID, ""), attempts.attempt_of(labels)
    return (uid, attempt) if uid and attempt else None
