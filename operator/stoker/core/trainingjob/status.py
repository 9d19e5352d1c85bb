"""The status of a job: computed whole from what is seen, and shown only when it is worth a write.

A wait and the phases around Running are shown once they have lasted 4 s, or at once where only the user can mend them:
a run that starts at once costs two status writes, Running and its end.
"""

from collections.abc import Mapping
from typing import Any

import msgspec

from stoker.api import names
from stoker.api.trainingjob import (
    AttemptStatus,
    ComputeChoice,
    ImageStatus,
    Phase,
    SavedOutput,
    TrainingJobStatus,
    Waiting,
)
from stoker.core import times
from stoker.core.trainingjob import conditions, ending, leftovers, preparation, waits
from stoker.core.trainingjob.attempts import Attempt
from stoker.core.trainingjob.obstacles import Wait
from stoker.core.trainingjob.retry import Verdict
from stoker.core.trainingjob.seen import QUEUE_TIMED_OUT, Seen
from stoker.core.trainingjob.stands import Stand
from stoker.core.trainingjob.steps import Step
from stoker.runtime.wire import MOST_METRICS

#: Times of objects are cut to the second: with the one second more, 4 s have truly passed.
SHOW_AFTER = 4.0 + 1.0
NEVER = float("inf")
_MOST_ATTEMPTS, _MOST_NODES, _MOST_OUTPUTS = 32, 100, 100
_ENDS: dict[str, Phase] = {"Completed": "Completed", "Failed": "Failed", "Canceled": "Canceled"}


def status_of(seen: Seen, stand: Stand, step: Step) -> TrainingJobStatus:
    """The whole status."""
    result, job = step.result, seen.view.job
    wait = None if result is not None else waits.why(seen)
    common = TrainingJobStatus(
        phase=stand.phase,
        observed_generation=job.metadata.generation,
        conditions=conditions.conditions(seen, stand, wait, result),
        waiting=waiting(seen, wait),
        key=seen.key,
        compute=seen.compute,
        compute_choice=_choice(seen),
        snapshot=_snapshot(seen),
        environment=_image(seen),
        attempts=_attempts(seen, step),
        kept_claims=leftovers.kept_claims(seen),
        logs=_logs(seen),
        failures=job.status.failures,
        interruptions=job.status.interruptions,
        early_node_losses=job.status.early_node_losses,
        started_at=_started_at(seen, seen.attempt) if seen.attempt else "",
    )
    if result is None:
        return common
    return _ended(_of_former_run(seen, common, result) if seen.former_run is not None else common, result)


def _choice(seen: Seen) -> ComputeChoice | None:
    choice = seen.view.choice
    if choice is None or not choice.compute:
        return None
    return ComputeChoice(instance_type=choice.instance_type, message=choice.message)


def closed(seen: Seen, attempt: Attempt, verdict: Verdict) -> TrainingJobStatus:
    """The stored status with an attempt closed: it is over, and another follows."""
    former = seen.view.job.status
    entry = _attempt(seen, attempt, _entry(seen, attempt.number), "")
    # A clock that is ahead on a node must not make the next attempt wait for it.
    ended = min(attempt.ended if attempt.ended is not None else ending.finished(attempt, seen.now), seen.now)
    over = msgspec.structs.replace(
        entry, ended_at=times.rfc3339(ended), reason=verdict.reason[:64], counted=verdict.counted
    )
    return msgspec.structs.replace(
        former,
        waiting=None,
        attempts=_with_entry(former.attempts, over),
        kept_claims=leftovers.kept_claims(seen),
        failures=former.failures + (verdict.counted == "Failure"),
        interruptions=former.interruptions + (verdict.counted == "Interruption"),
        early_node_losses=former.early_node_losses + verdict.early,
    )


def waiting(seen: Seen, wait: Wait | None) -> Waiting | None:
    """A wait as status shows it: `since` stays while the reason does."""
    if wait is None:
        return None
    former = seen.view.job.status.waiting
    # The first wait began with the job; a later one when it is first seen.
    began = _began(seen) if former is None else seen.now
    since = former.since if former is not None and former.reason == wait.reason else times.rfc3339(began)
    return Waiting(reason=wait.reason, message=wait.message[:2048], fix=wait.fix[:2048], since=since)


def show_at(seen: Seen, stand: Stand, step: Step) -> float:
    """From when on the status of a stand may be written, in seconds since the epoch."""
    if step.result is not None or step.stop or stand.phase == "Running":
        return seen.now
    wait = waits.why(seen)
    if wait is not None and wait.yours:
        return seen.now
    if wait is not None and wait.reason == waits.CREATING:
        # Over with the answer to the POST: what was shown before stays until then.
        return NEVER
    if wait is not None and wait.reason == QUEUE_TIMED_OUT and seen.queue_deadline is not None:
        # The end, which tells what was waited for last, comes within moments unless the store is away.
        return seen.queue_deadline + SHOW_AFTER
    former = seen.view.job.status.waiting
    shown = times.seconds(former.since) if former is not None and wait is not None else None
    if former is not None and wait is not None and former.reason != wait.reason and shown is not None:
        return max(_began(seen), shown) + SHOW_AFTER
    return _began(seen) + SHOW_AFTER


def _began(seen: Seen) -> float:
    """When what a job waits for now began, as far as objects tell."""
    attempt = seen.attempt
    if attempt is None:
        closed_at = times.seconds(seen.last_closed.ended_at) if seen.last_closed else None
        return seen.created if closed_at is None else closed_at
    if all(rank.done for rank in attempt.ranks):
        if attempt.ended is not None:
            return attempt.ended
        # Of pods that are gone nobody knows when they ended; that their remains are being saved began with a Job.
        jobs = (rank.remains.job for rank in attempt.ranks if rank.remains is not None)
        moments = (times.seconds(job.metadata.creation_timestamp) for job in jobs if job is not None)
        return min((moment for moment in moments if moment is not None), default=seen.now)
    return attempt.created if attempt.created is not None else seen.created


def _of_former_run(seen: Seen, status: TrainingJobStatus, result: Mapping[str, Any]) -> TrainingJobStatus:
    """The status with the folder and the log of the earlier run, whose result is shown."""
    key, tries = str(result.get("key") or ""), result.get("attempts") or ()
    numbers = [one.get("number") for one in tries if isinstance(one, Mapping)] if isinstance(tries, list) else []
    last = max((number for number in numbers if isinstance(number, int)), default=0)
    return msgspec.structs.replace(
        status, key=key[:128], logs=_log_url(seen, key, last) if last else "", snapshot="", environment=None
    )


def _ended(status: TrainingJobStatus, result: Mapping[str, Any]) -> TrainingJobStatus:
    """The terminal status, from the result as it is stored."""
    outputs = [output for output in result.get("outputs") or () if isinstance(output, Mapping)]
    started, finished = str(result.get("startedAt") or ""), str(result.get("finishedAt") or "")
    begin, end = times.seconds(started), times.seconds(finished)
    code = result.get("exitCode")
    reason = str(result.get("reason") or "")
    attempts = status.attempts
    if attempts and attempts[-1].counted is None:
        last = msgspec.structs.replace(attempts[-1], reason=reason)
        attempts = (*attempts[:-1], last)
    return msgspec.structs.replace(
        status,
        phase=_ENDS.get(str(result.get("phase")), "Failed"),
        waiting=None,
        reason=reason[:64],
        message=str(result.get("message") or "")[:8192],
        exit_code=code if isinstance(code, int) else None,
        outputs=tuple(
            SavedOutput(path=str(output.get("path"))[:4096], size=int(output.get("size") or 0))
            for output in outputs[:_MOST_OUTPUTS]
        ),
        attempts=attempts,
        metrics=_metrics(result),
        started_at=started,
        finished_at=finished,
        duration=times.duration(end - begin) if begin is not None and end is not None else "",
        timings={str(phase): float(spent) for phase, spent in (result.get("timings") or {}).items()},
    )


def _metrics(result: Mapping[str, Any]) -> dict[str, float]:
    found = result.get("metrics")
    if not isinstance(found, Mapping):
        return {}
    told = {str(name)[:250]: float(value) for name, value in found.items() if isinstance(value, int | float)}
    return dict(list(told.items())[:MOST_METRICS])


def _snapshot(seen: Seen) -> str:
    """The digest of the code: what was pinned wins over what could be found now."""
    job, child = seen.view.job, seen.attempt.child if seen.attempt else None
    pinned = child.metadata.annotations.get(names.ANNOTATION_SNAPSHOT, "") if child else ""
    found = seen.preparation.snapshot.value
    return job.status.snapshot or pinned or (found if isinstance(found, str) else "")


def _image(seen: Seen) -> ImageStatus | None:
    former = seen.view.job.status.environment
    if former is not None and former.image:
        return former
    reference = preparation.image_reference(seen.view) or ""
    child = seen.attempt.child if seen.attempt else None
    told, found = child.metadata.annotations if child else {}, seen.preparation.environment
    image = told.get(names.ANNOTATION_IMAGE) or seen.preparation.image.value
    definition = told.get(names.ANNOTATION_DEFINITION) or (found.definition_key if found else "")
    spec_key = told.get(names.ANNOTATION_SPEC_KEY) or (found.spec_key if found else "")
    if not isinstance(image, str):
        # While it is looked for or built, people find its log by this.
        if not definition:
            return None
        return ImageStatus(definition_key=definition, spec_key=spec_key, reference=reference)
    source = told.get(names.ANNOTATION_SOURCE) or (found.image.source if found and found.image else "given")
    return ImageStatus(
        definition_key=definition, spec_key=spec_key, reference=reference or image, image=image, source=source
    )


def _attempts(seen: Seen, step: Step) -> tuple[AttemptStatus, ...]:
    former, attempt = seen.view.job.status.attempts, seen.attempt
    if attempt is None:
        return former
    return _with_entry(former, _attempt(seen, attempt, _entry(seen, attempt.number), step.stop))


def _entry(seen: Seen, number: int) -> AttemptStatus | None:
    return next((entry for entry in seen.view.job.status.attempts if entry.number == number), None)


def _with_entry(former: tuple[AttemptStatus, ...], entry: AttemptStatus) -> tuple[AttemptStatus, ...]:
    others = [old for old in former if old.number != entry.number]
    return (*others, entry)[-_MOST_ATTEMPTS:]


def _started_at(seen: Seen, attempt: Attempt) -> str:
    entry = _entry(seen, attempt.number)
    return times.rfc3339(attempt.started) or (entry.started_at if entry else "")


def _attempt(seen: Seen, attempt: Attempt, former: AttemptStatus | None, stop: str) -> AttemptStatus:
    metadata = seen.view.job.metadata
    old = former or AttemptStatus(number=attempt.number)
    return AttemptStatus(
        number=attempt.number,
        child=names.child_name(metadata.name, metadata.uid, attempt.number),
        nodes=attempt.nodes[:_MOST_NODES] or old.nodes,
        started_at=times.rfc3339(attempt.started) or old.started_at,
        ended_at=times.rfc3339(attempt.ended) or old.ended_at,
        reason=stop or old.reason,
    )


def _logs(seen: Seen) -> str:
    if seen.attempt is None or not seen.view.workspace.storage_url:
        return seen.view.job.status.logs
    return _log_url(seen, seen.key, seen.attempt.number)


def _log_url(seen: Seen, key: str, attempt: int) -> str:
    root = seen.view.workspace.storage_url.rstrip("/")
    return f"{root}/jobs/{key}/attempts/{attempt}/0/logs/std_log.txt"
