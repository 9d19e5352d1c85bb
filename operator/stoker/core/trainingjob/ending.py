"""How a run ended: decided from seals alone once every rank has one.

Completed = every rank sealed complete with exit 0, never a pod's phase. Else the rank that failed first says why.
"""

from dataclasses import dataclass
from typing import Any

from stoker.api.kube import Pod
from stoker.api.trainingjob import AttemptStatus
from stoker.core import record, times
from stoker.core.record import Ending, RankEnd
from stoker.core.trainingjob.attempts import (
    EVICTED,
    NODE_LOST,
    POD_LOST,
    PREEMPTED,
    Attempt,
    Rank,
    condition,
    container,
)
from stoker.core.trainingjob.lacking import words_of
from stoker.core.trainingjob.preparation import timeout_seconds
from stoker.core.trainingjob.queue import STOPPED, TAKEN_OUT
from stoker.core.trainingjob.seen import PODS_REJECTED, PULL_PATIENCE, QUEUE_TIMED_OUT, Seen

#: Signals that people meet, by number.
_SIGNALS = {2: "SIGINT", 6: "SIGABRT", 7: "SIGBUS", 9: "SIGKILL", 11: "SIGSEGV", 15: "SIGTERM"}
#: What launch says when it was told to stop before the command's end: who told it is the reason, not this.
_STOPPED = "Stopped"
#: A pod that was told to stop, nobody knows by whom.
POD_STOPPED = "PodStopped"
#: A command's container that was killed with its launcher.
LAUNCHER_LOST = "LauncherLost"
#: What ship says of a command that it never saw begin.
_NOT_STARTED = "NotStarted"
#: With what the kubelet says that the runtime could not start a container.
_START_ERRORS = frozenset({"StartError", "ContainerCannotRun"})
#: Why Kubernetes itself ended a pod, by the reason of its condition DisruptionTarget.
_DISRUPTIONS = {
    "PreemptionByScheduler": PREEMPTED,
    "EvictionByEvictionAPI": EVICTED,
    "TerminationByKubelet": EVICTED,
    "DeletionByTaintManager": NODE_LOST,
    "DeletionByPodGC": NODE_LOST,
}
#: A status that waits is first written within this time of the submission, in seconds.
FIRST_WRITE = 7.0
#: Most text of a message; status.message holds 8192.
_MOST_MESSAGE = 6000


@dataclass(frozen=True, slots=True)
class Failure:
    """How an attempt ended that did not complete. words: what happened. tail: the last lines of the log."""

    phase: str
    reason: str
    words: str
    exit_code: int | None
    tail: str = ""


#: How a former attempt ended, as the record lists it: its number, its reason, its ranks.
Former = tuple[int, str, tuple[RankEnd, ...]]


def of_attempt(seen: Seen, attempt: Attempt, former: tuple[Former, ...] = (), limits: str = "") -> Ending:
    """The end of a run whose last attempt has every rank sealed. limits: why it is not tried again, if it could be."""
    finished_at = finished(attempt, seen.now)
    end = Failure("Completed", "Completed", "", 0)
    if not all(rank.complete for rank in attempt.ranks):
        end = failure(seen, attempt)
    said = f"{end.words} ({limits})" if limits else end.words
    message = said + (f"\nlast lines of the log:\n{end.tail}" if end.tail else "")
    ranks = tuple(RankEnd(rank.number, rank.seal) for rank in attempt.ranks)
    return Ending(
        phase=end.phase, reason=end.reason, message=message[:_MOST_MESSAGE], exit_code=end.exit_code,
        started_at=times.rfc3339(started_at(attempt)), finished_at=times.rfc3339(finished_at),
        timings=timings(seen, attempt, finished_at), attempts=(*former, (attempt.number, end.reason, ranks)),
    )  # fmt: skip


def unstarted(seen: Seen, former: tuple[Former, ...] = ()) -> Ending:
    """The end of a run that was canceled or had no nodes for too long, before its first attempt or between two."""
    last, reason = seen.last_closed, "Canceled" if seen.cancel else QUEUE_TIMED_OUT
    if reason == QUEUE_TIMED_OUT:
        message, timing = _gave_up(seen), {"FormerAttempts" if last else "Queued": seen.created}
    elif last is None:
        message, timing = "canceled by spec.cancel before it started", {"Preparing": seen.created}
    else:
        message = f"canceled by spec.cancel after attempt {last.number}, before the next had started"
        timing = {"FormerAttempts": seen.created}
    return Ending(
        phase="Canceled" if seen.cancel else "Failed",
        reason=reason,
        message=message,
        started_at=last.started_at if last else "",
        finished_at=times.rfc3339(seen.now),
        timings={phase: round(max(0.0, seen.now - begun), 3) for phase, begun in timing.items()},
        attempts=former,
    )


def queue_words(seen: Seen) -> str:
    """That a job waited for nodes too long, and since when."""
    limit = seen.view.job.spec.limits.queue_timeout_seconds or 0
    return f"no nodes within {times.duration(limit)} of {seen.queued_since[1]} (limits.queueTimeoutSeconds)"


def former_end(entry: AttemptStatus, seals: Any, ranks: int) -> Former:
    """A former attempt as the record lists it, from its entry in status and its seals by rank."""
    found = seals if isinstance(seals, dict) else {}
    ends = tuple(
        RankEnd(rank, found[rank] if isinstance(found.get(rank), dict) else None) for rank in range(ranks)
    )  # fmt: skip
    return entry.number, entry.reason, ends


def result_of(seen: Seen, end: Ending) -> dict[str, Any]:
    """result.json of an ending."""
    metadata = seen.view.job.metadata
    submitted = times.rfc3339(times.seconds(metadata.creation_timestamp))
    identity = record.Identity(metadata.name, metadata.namespace, metadata.uid, seen.key, submitted)
    return record.result_record(identity, end)


def started_at(attempt: Attempt) -> float | None:
    """When the command had started on every node, else the first start there was; from pods, else from seals."""
    if attempt.started is not None:
        return attempt.started
    moments = [rank.started or times.seconds(_text(rank.exit.get("startedAt"))) for rank in attempt.ranks]
    known = [moment for moment in moments if moment is not None]
    if not known:
        return None
    return max(known) if len(known) == len(moments) else min(known)


def timings(seen: Seen, attempt: Attempt, finished_at: float) -> dict[str, float]:
    """Seconds in each phase, from objects' own times; a phase that cannot be told is left out.

    Preparing ends when code and image were ready, as far as that was ever written (a run that does not wait writes
    nothing before it runs: then Preparing holds the little there is); Queued ends when the child was made.
    """
    child, last = attempt.created, seen.last_closed
    prepared = _prepared_at(seen)
    if prepared is not None and prepared - seen.created <= FIRST_WRITE:
        # True at the first write already, which comes seconds after the submission.
        prepared = seen.created
    if prepared is not None and child is not None and not seen.created <= prepared <= child:
        prepared = None
    started = started_at(attempt)
    exits = [times.seconds(_text(rank.exit.get("finishedAt"))) or rank.ended for rank in attempt.ranks]
    ended = max((moment for moment in exits if moment is not None), default=None)
    closed = times.seconds(last.ended_at) if last else None
    before = (
        (("FormerAttempts", seen.created, closed), ("Queued", closed, child))
        if last
        else (("Preparing", seen.created, prepared if prepared is not None else child), ("Queued", prepared, child))
    )
    marks = (
        *before,
        ("Starting", child, started),
        ("Running", started, ended if ended is not None else finished_at),
        ("Finalizing", ended, finished_at),
    )
    return {
        phase: round(max(0.0, end - begin), 3) for phase, begin, end in marks if begin is not None and end is not None
    }


def _prepared_at(seen: Seen) -> float | None:
    ready = [
        times.seconds(entry.last_transition_time)
        for entry in seen.view.job.status.conditions
        if entry.type in ("SnapshotReady", "ImageReady") and entry.status == "True"
    ]
    known = [moment for moment in ready if moment is not None]
    return max(known) if len(known) == 2 else None


def finished(attempt: Attempt, now: float) -> float:
    """When the last rank was sealed."""
    moments = [times.seconds(_text((rank.seal or {}).get("sealedAt"))) for rank in attempt.ranks]
    known = [moment for moment in moments if moment is not None]
    return max(known) if known else now


def failure(seen: Seen, attempt: Attempt) -> Failure:
    """The end of an attempt that is sealed and did not complete."""
    blamed = _blamed(attempt)
    reason, words = _rank_failure(blamed)
    if attempt.stopped:
        reason, stopped_words = _stopped(seen, attempt, attempt.stopped)
        # What a rank said on being stopped says nothing about why it was stopped.
        words = stopped_words if blamed.exit_reason in ("", _STOPPED) and not blamed.lost else words
    where = f"rank {blamed.number}: " if len(attempt.ranks) > 1 else ""
    tail = _text(blamed.exit.get("logTail")).rstrip()
    phase = "Canceled" if attempt.stopped == "Canceled" else "Failed"
    return Failure(phase, reason, f"{where}{words}", blamed.exit_code, tail)


def _gave_up(seen: Seen) -> str:
    """That there were no nodes, and what was shown last of why."""
    shown = seen.view.job.status.waiting
    if shown is None or shown.reason == QUEUE_TIMED_OUT:
        return queue_words(seen)
    return f"{queue_words(seen)}; last: {shown.reason}: {shown.message}"


def _blamed(attempt: Attempt) -> Rank:
    """The rank that failed first: the others are stopped because of it."""
    failed = [rank for rank in attempt.ranks if not rank.complete]

    def own(rank: Rank) -> bool:
        return rank.exit_code not in (None, 0) and rank.exit_reason != _STOPPED

    def ended(rank: Rank) -> float:
        moment = times.seconds(_text(rank.exit.get("finishedAt")))
        return moment if moment is not None else float("inf")

    def order(rank: Rank) -> tuple[int, float, int]:
        kind = 0 if own(rank) else (1 if rank.exit_reason not in ("", _STOPPED) else 2)
        return kind, ended(rank), rank.number

    first_failure = min((ended(rank) for rank in failed if own(rank)), default=float("inf"))
    # Of a rank that Kubernetes took away the others notice, and mostly fail on their own account.
    taken = [(moment, rank.number, rank) for rank in failed if (moment := _disrupted_at(rank.pod)) is not None]
    if taken and min(taken)[0] <= first_failure:
        return min(taken)[2]
    return min(failed, key=order)


def _disrupted_at(pod: Pod | None) -> float | None:
    """Since when Kubernetes itself ends a pod."""
    told = condition(pod.status.conditions, "DisruptionTarget") if pod else None
    if told is None or told.status != "True" or told.reason not in _DISRUPTIONS:
        return None
    return times.seconds(told.last_transition_time)


def _rank_failure(rank: Rank) -> tuple[str, str]:
    """Reason and words for the end of one rank."""
    seal, code, said = rank.seal or {}, rank.exit_code, _text(rank.exit.get("message"))
    pod_reason = _pod_reason(rank)
    if rank.exit_reason == LAUNCHER_LOST and pod_reason:
        # Nobody in the pod saw why its container was killed; the kubelet did.
        return pod_reason, (rank.pod.status.message if rank.pod else "") or said
    if rank.exit_reason == _NOT_STARTED and (start := _start_failure(rank.pod)):
        return "CommandNotStarted", start
    if rank.exit_reason and rank.exit_reason != _STOPPED:
        return rank.exit_reason, said or f"the command ended with {rank.exit_reason}"
    if code not in (None, 0) and rank.exit_reason != _STOPPED:
        assert code is not None
        if pod_reason == "OOMKilled":
            return "OOMKilled", said or "the command used more memory than its node allows it and was killed"
        return "CommandFailed", said or _exit_words(code)
    if rank.exit_reason == _STOPPED:
        return pod_reason or POD_STOPPED, said or "the pod was stopped before the command had ended"
    if code is None:
        fetched = _fetch_failure(rank.pod)
        if fetched and not seal.get("reason"):
            return "FetchFailed", fetched
        reason = _text(seal.get("reason")) or rank.close_as or pod_reason or "CommandNotStarted"
        return reason, _text(seal.get("message")) or fetched or said or "the command never ran to its end"
    return _text(seal.get("reason")) or "OutputsNotSaved", _text(seal.get("message")) or "outputs were not saved"


def lost_as(rank: Rank) -> tuple[str, str]:
    """Reason and words for the end of a rank that is over, as far as Kubernetes tells: for the exit record of a command
    whose launcher could leave none."""
    if rank.pod is None or rank.lost:
        return NODE_LOST if rank.lost else POD_LOST, rank.close_message or "the pod is gone"
    killed = "the command's container was killed; most often it was out of memory"
    return _pod_reason(rank) or LAUNCHER_LOST, rank.pod.status.message or killed


def _exit_words(code: int) -> str:
    signal = _SIGNALS.get(code - 128)
    return f"the command ended with exit code {code}" + (f" ({signal})" if signal else "")


def _by_kueue(attempt: Attempt) -> str:
    """What Kueue says of having ended an attempt, as long as that is there."""
    words = attempt.place.ended_words if attempt.place is not None else ""
    return f": {words}" if words else ""


def _stopped(seen: Seen, attempt: Attempt, reason: str) -> tuple[str, str]:
    words = {
        "Canceled": "canceled by spec.cancel",
        "TimedOut": f"not ended {times.duration(timeout_seconds(seen.view))} after its start "
        "(limits.timeoutSeconds) and the grace period",
        "NodeLost": "a node was lost",
        PREEMPTED: "a node was taken back by its provider, or by its pool (scaleDown.mode Requeue)",
        TAKEN_OUT: f"its Job was suspended from outside{_by_kueue(attempt)}",
        STOPPED: f"its queue was stopped{_by_kueue(attempt)}",
        "Suspended": "suspended by spec.suspend",
        "SchedulerDisagrees": "the scheduler would not place its pods on the nodes that it was given",
        QUEUE_TIMED_OUT: queue_words(seen),
        "ImagePullFailed": "a node could not pull the image",
        PODS_REJECTED: f"the API server refused its pods for {times.duration(PULL_PATIENCE)}{f': {seen.refusal}' if seen.refusal else ''}",
    }
    lacked = words_of(seen.view.job, reason, times.duration(PULL_PATIENCE))
    return reason, words.get(reason) or lacked or f"the attempt was ended: {reason}"


def _pod_reason(rank: Rank) -> str:
    """What Kubernetes says of a pod's end: Preempted, Evicted, OOMKilled and the like, or nothing."""
    pod = rank.pod
    if pod is None:
        return ""
    told = condition(pod.status.conditions, "DisruptionTarget")
    if told is not None and told.status == "True" and told.reason in _DISRUPTIONS:
        if told.reason == "DeletionByTaintManager" and rank.preempted:
            return PREEMPTED
        return pod.status.reason or _DISRUPTIONS[told.reason]
    if pod.status.reason:
        return pod.status.reason
    main = container(pod.status.container_statuses, "main")
    terminated = main.state.terminated if main else None
    return "OOMKilled" if terminated is not None and terminated.reason == "OOMKilled" else ""


def _start_failure(pod: Pod | None) -> str:
    """Why the runtime could not start the command's container, in its words, if it could not."""
    main = container(pod.status.container_statuses, "main") if pod else None
    terminated = main.state.terminated if main else None
    if terminated is None or terminated.reason not in _START_ERRORS:
        return ""
    words = terminated.message.strip() or terminated.reason
    no_shell = 'exec: "sh": executable file not found' in words
    fix = "; commands are run by `sh`, and the image has none: use a base image with a shell" if no_shell else ""
    return f"the node could not start the command's container: {words}{fix}"


def _fetch_failure(pod: Pod | None) -> str:
    """The words with which fetch ended, if it failed."""
    fetch = container(pod.status.init_container_statuses, "fetch") if pod else None
    terminated = fetch.state.terminated if fetch else None
    if terminated is None or terminated.exit_code == 0:
        return ""
    return terminated.message.strip() or f"fetch ended with exit code {terminated.exit_code}"


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""
