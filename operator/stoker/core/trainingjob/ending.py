"""How a run ended: decided from seals alone once every rank has one.

Completed = every rank sealed complete with exit 0, never a pod's phase. Else the rank that failed first says why.
"""

from typing import Any

from stoker.api.kube import Pod
from stoker.core import record, times
from stoker.core.record import Ending, RankEnd
from stoker.core.trainingjob.attempts import Attempt, Rank, container
from stoker.core.trainingjob.preparation import timeout_seconds
from stoker.core.trainingjob.seen import Seen

#: Signals that people meet, by number.
_SIGNALS = {2: "SIGINT", 6: "SIGABRT", 7: "SIGBUS", 9: "SIGKILL", 11: "SIGSEGV", 15: "SIGTERM"}
#: What launch says when it was told to stop before the command's end: who told it is the reason, not this.
_STOPPED = "Stopped"
#: A status that waits is first written within this time of the submission, in seconds.
FIRST_WRITE = 7.0
#: Most text of a message; status.message holds 8192.
_MOST_MESSAGE = 6000


def of_attempt(seen: Seen, attempt: Attempt) -> Ending:
    """The end of a run whose last attempt has every rank sealed."""
    finished_at = _finished_at(attempt, seen.now)
    code: int | None
    if all(rank.complete for rank in attempt.ranks):
        phase, reason, message, code = "Completed", "Completed", "", 0
    else:
        phase, reason, message, code = _failure(seen, attempt)
    ranks = tuple(RankEnd(rank.number, rank.seal) for rank in attempt.ranks)
    return Ending(
        phase=phase, reason=reason, message=message[:_MOST_MESSAGE], exit_code=code,
        started_at=times.rfc3339(started_at(attempt)), finished_at=times.rfc3339(finished_at),
        timings=timings(seen, attempt, finished_at), attempts=((attempt.number, reason, ranks),),
    )  # fmt: skip


def unstarted(seen: Seen) -> Ending:
    """The end of a run that was canceled before its first attempt."""
    return Ending(
        phase="Canceled",
        reason="Canceled",
        message="canceled by spec.cancel before it started",
        finished_at=times.rfc3339(seen.now),
        timings={"Preparing": round(max(0.0, seen.now - seen.created), 3)},
    )


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
    child = attempt.created
    prepared = _prepared_at(seen)
    if prepared is not None and prepared - seen.created <= FIRST_WRITE:
        # True at the first write already, which comes seconds after the submission.
        prepared = seen.created
    if prepared is not None and child is not None and not seen.created <= prepared <= child:
        prepared = None
    started = started_at(attempt)
    exits = [times.seconds(_text(rank.exit.get("finishedAt"))) or rank.ended for rank in attempt.ranks]
    ended = max((moment for moment in exits if moment is not None), default=None)
    marks = (
        ("Preparing", seen.created, prepared if prepared is not None else child),
        ("Queued", prepared, child),
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


def _finished_at(attempt: Attempt, now: float) -> float:
    moments = [times.seconds(_text((rank.seal or {}).get("sealedAt"))) for rank in attempt.ranks]
    known = [moment for moment in moments if moment is not None]
    return max(known) if known else now


def _failure(seen: Seen, attempt: Attempt) -> tuple[str, str, str, int | None]:
    """Phase, reason, message and exit code of an attempt that did not complete."""
    blamed = _blamed(attempt)
    reason, words = _rank_failure(blamed)
    if attempt.stopped:
        reason, stopped_words = _stopped(seen, attempt.stopped)
        # What a rank said on being stopped says nothing about why it was stopped.
        words = stopped_words if blamed.exit_reason in ("", _STOPPED) and not blamed.lost else words
    where = f"rank {blamed.number}: " if len(attempt.ranks) > 1 else ""
    tail = _text(blamed.exit.get("logTail")).rstrip()
    message = f"{where}{words}" + (f"\nlast lines of the log:\n{tail}" if tail else "")
    return "Canceled" if attempt.stopped == "Canceled" else "Failed", reason, message, blamed.exit_code


def _blamed(attempt: Attempt) -> Rank:
    """The rank that failed first: the others are stopped because of it."""
    failed = [rank for rank in attempt.ranks if not rank.complete]

    def order(rank: Rank) -> tuple[int, float, int]:
        own = rank.exit_code not in (None, 0) and rank.exit_reason != _STOPPED
        kind = 0 if own else (1 if rank.exit_reason not in ("", _STOPPED) else 2)
        ended = times.seconds(_text(rank.exit.get("finishedAt")))
        return kind, ended if ended is not None else float("inf"), rank.number

    return min(failed, key=order)


def _rank_failure(rank: Rank) -> tuple[str, str]:
    """Reason and words for the end of one rank."""
    seal, code, said = rank.seal or {}, rank.exit_code, _text(rank.exit.get("message"))
    pod_reason = _pod_reason(rank.pod)
    if rank.exit_reason and rank.exit_reason != _STOPPED:
        return rank.exit_reason, said or f"the command ended with {rank.exit_reason}"
    if code not in (None, 0) and rank.exit_reason != _STOPPED:
        assert code is not None
        if pod_reason == "OOMKilled":
            return "OOMKilled", said or "the command used more memory than its node allows it and was killed"
        return "CommandFailed", said or _exit_words(code)
    if rank.exit_reason == _STOPPED:
        return pod_reason or "PodStopped", said or "the pod was stopped before the command had ended"
    if code is None:
        fetched = _fetch_failure(rank.pod)
        if fetched and not seal.get("reason"):
            return "FetchFailed", fetched
        reason = _text(seal.get("reason")) or rank.close_as or pod_reason or "CommandNotStarted"
        return reason, _text(seal.get("message")) or fetched or said or "the command never ran to its end"
    return _text(seal.get("reason")) or "OutputsNotSaved", _text(seal.get("message")) or "outputs were not saved"


def _exit_words(code: int) -> str:
    signal = _SIGNALS.get(code - 128)
    return f"the command ended with exit code {code}" + (f" ({signal})" if signal else "")


def _stopped(seen: Seen, reason: str) -> tuple[str, str]:
    words = {
        "Canceled": "canceled by spec.cancel",
        "TimedOut": f"not ended {times.duration(timeout_seconds(seen.view))} after its start "
        "(limits.timeoutSeconds) and the grace period",
        "NodeLost": "a node was lost",
        "ImagePullFailed": "a node could not pull the image",
    }
    return reason, words.get(reason, f"the attempt was ended: {reason}")


def _pod_reason(pod: Pod | None) -> str:
    """What the kubelet says of a pod's end: Evicted, OOMKilled, or nothing."""
    if pod is None:
        return ""
    if pod.status.reason:
        return pod.status.reason
    main = container(pod.status.container_statuses, "main")
    terminated = main.state.terminated if main else None
    return "OOMKilled" if terminated is not None and terminated.reason == "OOMKilled" else ""


def _fetch_failure(pod: Pod | None) -> str:
    """The words with which fetch ended, if it failed."""
    fetch = container(pod.status.init_container_statuses, "fetch") if pod else None
    terminated = fetch.state.terminated if fetch else None
    if terminated is None or terminated.exit_code == 0:
        return ""
    return terminated.message.strip() or f"fetch ended with exit code {terminated.exit_code}"


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""
