"""Whether a run is tried again after an attempt that did not complete, and when.

Decided from how the attempt ended, spec.retry, and what the status counts of former attempts. What was decided is kept
as `counted` in the attempt's entry in status: from then on the attempt is closed, and nothing that is still seen of its
pods, nodes or seals matters.
"""

from dataclasses import dataclass
from typing import Literal

from stoker.api.trainingjob import Retry, TrainingJobStatus
from stoker.core import times
from stoker.core.trainingjob.attempts import DISAGREES, EVICTED, NODE_LOST, POD_LOST, PREEMPTED, SUSPENDED, Attempt
from stoker.core.trainingjob.ending import LAUNCHER_LOST, POD_STOPPED, Failure, failure
from stoker.core.trainingjob.queue import NOT_QUEUED, STOPPED, TAKEN_OUT
from stoker.core.trainingjob.seen import Seen

Counted = Literal["Failure", "Interruption", "Neither"]

#: How an attempt ends whose command stood still (launch says it).
NO_PROGRESS = "NoProgress"
#: How an attempt ends that was cut off from outside. The last three are the kubelet's own words for a pod that it ended
#: because its machine shuts down or a more important pod came.
INTERRUPTIONS = frozenset(
    {NODE_LOST, POD_LOST, EVICTED, PREEMPTED, POD_STOPPED, TAKEN_OUT, "NodeShutdown", "Terminated", "Preempting"}
)
#: A node lost this soon after its attempt's start is suspected of having been lost to the command, in seconds.
EARLY_SECONDS = 600.0
#: From which of these losses on the suspicion counts.
EARLY_LOSSES = 3
#: What the kubelet says of a pod that used more disk than it may; of a node that ran short it says other things.
_OWN_DISK = ("exceeds the", "exceeded its")


@dataclass(frozen=True, slots=True)
class Verdict:
    """What follows from an attempt's end. again: another attempt follows. counted: what this one counts as; None where
    it is never tried again. early: it lost a node soon after its start. words: why there is no other attempt although
    this could have had one; for the run's message."""

    again: bool
    reason: str
    counted: Counted | None = None
    early: bool = False
    words: str = ""


def verdict(seen: Seen, attempt: Attempt) -> Verdict:
    """Whether another attempt follows one that is sealed and did not complete."""
    if attempt.stopped in (SUSPENDED, DISAGREES, STOPPED, NOT_QUEUED):
        # Also where a cancel came meanwhile: the run is then canceled before the next attempt.
        return Verdict(True, attempt.stopped, "Neither")
    end, retry, status = failure(seen, attempt), seen.view.job.spec.retry, seen.view.job.status
    early = end.reason == NODE_LOST and _lost_early(attempt, seen.now)
    suspect = early and status.early_node_losses + 1 >= EARLY_LOSSES
    counted = counts_as(retry, end, suspect=suspect) if end.phase == "Failed" else None
    words = _words(retry, status, counted, suspect=suspect)
    again = counted is not None and not words and not seen.cancel
    return Verdict(again, end.reason, counted, early, words)


def counts_as(retry: Retry, end: Failure, *, suspect: bool) -> Counted | None:
    """What an end counts as. suspect: one node too many was lost soon after an attempt's start."""
    own_cause = suspect or (end.reason == EVICTED and any(words in end.words for words in _OWN_DISK))
    if end.reason in INTERRUPTIONS and not own_cause:
        return "Interruption"
    # LauncherLost: a container that was killed and nobody can say why; most often it was out of memory.
    of_the_command = end.reason in ("CommandFailed", "OOMKilled", LAUNCHER_LOST, NO_PROGRESS)
    if not own_cause and not of_the_command:
        return None
    anything = not retry.causes and not retry.exit_codes
    listed = end.reason in retry.causes or (of_the_command and end.exit_code in retry.exit_codes)
    return "Failure" if retry.limit and (anything or listed) else None


def _words(retry: Retry, status: TrainingJobStatus, counted: Counted | None, *, suspect: bool) -> str:
    if counted == "Interruption" and status.interruptions >= retry.interruption_limit:
        return f"this was interruption {status.interruptions + 1}; spec.retry.interruptionLimit is {retry.interruption_limit}"
    if counted == "Failure" and status.failures >= retry.limit:
        return f"this was failure {status.failures + 1}; spec.retry.limit is {retry.limit}"
    if counted is None and suspect:
        return (
            f"this was the {status.early_node_losses + 1}. node lost within {times.duration(EARLY_SECONDS)} of an "
            "attempt's start, which counts as a failure of the command; spec.retry does not allow another try after that"
        )
    return ""


def _lost_early(attempt: Attempt, now: float) -> bool:
    """From the closing of the lost rank, which is stored: what is seen of the node changes."""
    closings = [
        times.seconds(str((rank.seal or {}).get("sealedAt") or ""))
        for rank in attempt.ranks
        if NODE_LOST in ((rank.seal or {}).get("reason"), rank.exit_reason)
    ]
    known = [moment for moment in closings if moment is not None]
    begun = attempt.started if attempt.started is not None else attempt.created
    return begun is not None and (min(known) if known else now) - begun < EARLY_SECONDS
