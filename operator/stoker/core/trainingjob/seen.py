"""Everything that decisions about one job rest on, gathered once per plan."""

import itertools
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from stoker.api import names
from stoker.api.kube import BatchJob, Pod
from stoker.api.trainingjob import FINISHED, AttemptStatus
from stoker.core import times
from stoker.core.plan import Posted, Refused, Unavailable
from stoker.core.trainingjob import attempts, queue
from stoker.core.trainingjob.attempts import Attempt
from stoker.core.trainingjob.lacking import lacking
from stoker.core.trainingjob.obstacles import Wait, obstacle
from stoker.core.trainingjob.preparation import Preparation, former_run, prepare, timeout_seconds
from stoker.core.trainingjob.view import JobView, Placement

#: An image that a node cannot pull for this long ends the attempt: its nodes cost, and a tag was resolved long before.
#: So does a container that cannot be made for this long, for want of a Secret or ConfigMap mostly.
PULL_PATIENCE = 600.0
#: How long a scheduler may take before a pod on nodes that we chose counts as disagreement, in seconds.
SCHEDULER_PATIENCE = 10.0
#: After so many disagreements in a row no other nodes are tried: what no node takes is for a person to mend.
MOST_DISAGREEMENTS = 3
#: For how long a node that evicted a pod is avoided, in seconds: until it says itself that it is short of something.
EVICTED_LATELY = 60.0
#: How a run ends that waited for nodes too long.
_POD_NAME = r'pods "[^"]*"'
QUEUE_TIMED_OUT = "QueueTimedOut"
#: Why a run waits, or an attempt was ended: the API server refuses its Job, or its pods.
PODS_REJECTED = "PodsRejected"
#: The shortest and the longest wait before a failure of the user's own is tried again; each doubles the one before.
SHORTEST_BACK_OFF, LONGEST_BACK_OFF = 10.0, 300.0
_PULL_FAILURES = frozenset({"ErrImagePull", "ImagePullBackOff", "InvalidImageName", "ErrImageNeverPull"})


@dataclass(frozen=True, slots=True)
class Seen:
    """A view, and what follows from it. key: the run's folder. compute: the pool it uses, by name. obstacle: what only
    the user can mend. attempt: the newest that no other follows; last_closed: the newest that another follows."""

    view: JobView
    now: float
    key: str
    compute: str
    ranks: int
    created: float
    attempt: Attempt | None
    obstacle: Wait | None
    preparation: Preparation
    last_closed: AttemptStatus | None = None

    @property
    def finished(self) -> bool:
        """Whether the run has ended for good: it says so itself, and nothing that exists later changes that."""
        status = self.view.job.status
        ended = any(entry.type in ("Complete", "Failed") and entry.status == "True" for entry in status.conditions)
        return status.phase in FINISHED or ended

    @property
    def next_attempt(self) -> int:
        """The number of the attempt that the next child is for."""
        former = self.attempt or self.last_closed
        return (former.number if former else 0) + 1

    @property
    def retry_at(self) -> float | None:
        """When the next attempt may begin, after a failure of the user's own; None for at once."""
        last = self.last_closed
        if last is None or last.counted != "Failure":
            return None
        ended = times.seconds(last.ended_at)
        return (self.now if ended is None else ended) + back_off_seconds(self.view.job.status.failures)

    @property
    def backing_off(self) -> bool:
        return self.attempt is None and self.retry_at is not None and self.now < self.retry_at

    @property
    def queue(self) -> str:
        """The queue that the next attempt goes to; empty for none."""
        return queue.queue_of(self.view)

    @property
    def queue_missing_until(self) -> float | None:
        """Kueue holds what names no queue: until when no other attempt is tried, unless one is named."""
        last = self.last_closed
        if self.attempt is not None or last is None or last.reason != queue.NOT_QUEUED or self.queue:
            return None
        ended = times.seconds(last.ended_at)
        again = (self.now if ended is None else ended) + queue.QUEUE_AGAIN
        return again if self.now < again else None

    @property
    def in_queue(self) -> bool:
        """Whether the open attempt waits for Kueue."""
        return self.attempt is not None and self.attempt.held

    @property
    def wants_nodes_in_queue(self) -> bool:
        """Whether the open attempt has quota, and Stoker's check has to find it nodes."""
        attempt = self.attempt
        place = attempt.place if attempt is not None and attempt.held else None
        if attempt is None or place is None or place.check is None or not place.reserved:
            return False
        whole = len(self.view.assigned.get(attempt.number, ())) == self.ranks
        named = attempt.child is not None and bool(attempts.planned_nodes(attempt.child))
        return place.check.state == "Pending" and not whole and not named

    @property
    def leftovers(self) -> tuple[BatchJob, ...]:
        """What has to go before the next attempt: former children that stand."""
        return self.standing if self.attempt is None and self.last_closed is not None else ()

    @property
    def standing(self) -> tuple[BatchJob, ...]:
        """Children that are neither finished nor being deleted."""
        return tuple(
            child
            for child in self.view.children
            if child.metadata.deletion_timestamp is None and not attempts.finished(child)
        )

    @property
    def cancel(self) -> bool:
        return self.view.job.spec.cancel

    @property
    def suspend(self) -> bool:
        return self.view.job.spec.suspend

    @property
    def former_run(self) -> Mapping[str, Any] | None:
        """The result of the earlier run that has this job's name for ever; None where this job may run itself."""
        if self.attempt is not None or self.last_closed is not None:
            return None
        return former_run(self.preparation.name, self.key)

    @property
    def placement(self) -> Placement:
        return self.view.placement or Placement()

    @property
    def granted(self) -> bool:
        """Whether the pool's plan has given this job all it needs."""
        return self.placement.granted and len(self.placement.nodes) in (0, self.ranks)

    @property
    def post_refused(self) -> Refused | Unavailable | None:
        """The API server's no to the next attempt's Job or Service, until it says yes."""
        if self.attempt is not None:
            return None
        metadata = self.view.job.metadata
        name = names.child_name(metadata.name, metadata.uid, self.next_attempt)
        answers = (self.view.answers.get(Posted(kind, metadata.namespace, name)) for kind in ("Service", "Job"))
        return next((answer for answer in answers if isinstance(answer, Refused | Unavailable)), None)

    @property
    def deadline(self) -> float | None:
        """When the attempt is ended from outside: launch ends the command at the timeout, this is for pods that never
        get there. None once every command has ended: saving has an end of its own, limits.saveStallSeconds, and a store
        that is away must not cost a run that is done."""
        attempt, limits = self.attempt, self.view.job.spec.limits
        if attempt is not None and all(rank.done or rank.saving for rank in attempt.ranks):
            return None
        begun = (attempt.started or attempt.created) if attempt and not attempt.held else None
        return None if begun is None else begun + timeout_seconds(self.view) + limits.grace_seconds

    @property
    def queued_since(self) -> tuple[float, str]:
        """Since when the job waits for nodes, leaving out when it could not have had any; and what happened then."""
        moments = [(self.created, "its submission")]
        last = self.last_closed
        if last is not None:
            ended = self.retry_at if self.retry_at is not None else times.seconds(last.ended_at)
            moments.append((self.created if ended is None else ended, f"the end of attempt {last.number}"))
        for entry in self.view.job.status.conditions:
            if entry.type == "Suspended":
                # Resumed a moment ago, and not yet shown: then the wait begins now.
                resumed = times.seconds(entry.last_transition_time) if entry.status == "False" else self.now
                moments.append((self.now if resumed is None else resumed, "its resumption"))
        return max(moments, key=lambda moment: moment[0])

    @property
    def queue_deadline(self) -> float | None:
        """When the wait for nodes has lasted too long; None while there is no limit or nothing is waited for."""
        limit, attempt = self.view.job.spec.limits.queue_timeout_seconds, self.attempt
        if limit is None or self.finished or (attempt is None and self.suspend):
            return None
        if attempt is not None and not _lacks_nodes(attempt):
            return None
        return self.queued_since[0] + limit

    @property
    def queue_timed_out(self) -> bool:
        return self.queue_deadline is not None and self.now >= self.queue_deadline

    @property
    def stop(self) -> str:
        """Why the open attempt is to be ended from outside; empty while it may go on."""
        attempt = self.attempt
        if attempt is None:
            return ""
        if attempt.stopped:
            return attempt.stopped
        if (not attempt.child_open and all(rank.over for rank in attempt.ranks)) or _ended_by_itself(attempt):
            return ""
        if self.cancel:
            return "Canceled"
        if self.suspend and not all(rank.done or rank.saving for rank in attempt.ranks):
            return attempts.SUSPENDED
        saving = all(rank.done or rank.saving for rank in attempt.ranks)
        if attempt.held and not saving and (taken := _taken_by_kueue(attempt)):
            return taken
        if self.deadline is not None and self.now >= self.deadline:
            return "TimedOut"
        if taken := _nodes_taken(attempt):
            return taken
        if self.queue_timed_out:
            return QUEUE_TIMED_OUT
        if self.misplaced_at is not None and self.now >= self.misplaced_at:
            return attempts.DISAGREES
        return self._stuck

    @property
    def _stuck(self) -> str:
        """Why pods of the open attempt that do not start have had their time."""
        if self.pods_refused_at is not None and self.now >= self.pods_refused_at + PULL_PATIENCE:
            return PODS_REJECTED
        unpullable, lack = self.pull_failed_at, self.lack
        if unpullable is not None and self.now >= unpullable + PULL_PATIENCE:
            return "ImagePullFailed"
        return lack.reason if lack is not None and self.now >= self.lacking_since + PULL_PATIENCE else ""

    @property
    def misplaced_at(self) -> float | None:
        """When the open attempt is ended because the scheduler does not place its pods on the nodes that it was given;
        None while it places them, where the nodes were not ours to choose, and where it has disagreed too often."""
        attempt, pool = self.attempt, self.view.cluster
        if attempt is None or pool is None or not pool.spec.provider.owns_nodes:
            return None
        if not attempt.nodes or len(self._disagreements) >= MOST_DISAGREEMENTS:
            return None
        moments = [unplaced_since(rank.pod) for rank in attempt.ranks if rank.pod is not None and not rank.over]
        known = [moment for moment in moments if moment is not None]
        return min(known) + SCHEDULER_PATIENCE if known else None

    @property
    def avoid(self) -> frozenset[str]:
        """Nodes that the next attempt had better not get: those that the scheduler disagreed on just before, and those
        that evicted a pod a moment ago."""
        last = self.last_closed
        found = {name for entry in self._disagreements for name in entry.nodes}
        if last is not None and last.reason == attempts.EVICTED:
            ended = times.seconds(last.ended_at)
            if ended is not None and self.now < ended + EVICTED_LATELY:
                found.update(last.nodes)
        return frozenset(found)

    @property
    def _disagreements(self) -> list[AttemptStatus]:
        """The newest attempts that are over, as far as the scheduler disagreed on all of them."""
        closed = sorted(
            (entry for entry in self.view.job.status.attempts if entry.counted is not None),
            key=lambda entry: entry.number,
            reverse=True,
        )
        return list(itertools.takewhile(lambda entry: entry.reason == attempts.DISAGREES, closed))

    @property
    def lack(self) -> Wait | None:
        """Why a container of the open attempt cannot be made; None if none is kept from it."""
        pods = (rank.pod for rank in self.attempt.ranks if rank.pod and not rank.over) if self.attempt else ()
        return next((wait for pod in pods if (wait := lacking(pod, self.view.job))), None)

    @property
    def lacking_since(self) -> float:
        """Since when at the latest there is that lack: as status says, and from now on before it does. A pod's own start
        is too early: its images may have taken long."""
        lack, told = self.lack, self.view.job.status.waiting
        since = times.seconds(told.since) if lack and told and told.reason == lack.reason else None
        return self.now if since is None else since

    @property
    def refusal(self) -> str:
        """The API server's newest words about pods that it refused; empty for none."""
        failed = [event for event in self.view.events if event.reason == "FailedCreate" and event.message]
        newest = max(failed, key=lambda event: (event.metadata.creation_timestamp, event.message), default=None)
        # Each try has a pod name of its own; the words stay the same.
        return re.sub(_POD_NAME, "pods", newest.message) if newest is not None else ""

    @property
    def pods_refused_at(self) -> float | None:
        """Since when pods of the open attempt are refused, None if none is: the child's start, for events do not last."""
        attempt = self.attempt
        if attempt is None or attempt.child is None or not self.refusal:
            return None
        missing = any(rank.pod is None and rank.started is None and not rank.done for rank in attempt.ranks)
        return attempt.created if missing else None

    @property
    def pull_failed_at(self) -> float | None:
        """Since when at the latest a node fails to pull the image, None if none does: the oldest such pod's start."""
        if self.attempt is None:
            return None
        moments = [
            times.seconds(rank.pod.status.start_time or rank.pod.metadata.creation_timestamp)
            for rank in self.attempt.ranks
            if rank.pod is not None and not rank.over and pull_failure(rank) is not None
        ]
        return min((moment for moment in moments if moment is not None), default=None)


def pull_failure(rank: attempts.Rank) -> tuple[str, str, str] | None:
    """The container whose image a rank's node cannot pull, with the kubelet's reason and words."""
    pod = rank.pod
    for status in (*pod.status.init_container_statuses, *pod.status.container_statuses) if pod else ():
        waiting = status.state.waiting
        if waiting is not None and waiting.reason in _PULL_FAILURES:
            return status.name, waiting.reason, waiting.message
    return None


def unplaced_since(pod: Pod) -> float | None:
    """Since when the scheduler finds no place for a pod, for a reason that other nodes could mend; None if it has or
    looks for one. A volume that is not there yet is no such reason."""
    told = attempts.condition(pod.status.conditions, "PodScheduled")
    if told is None or told.status != "False" or "persistentvolumeclaim" in told.message.lower():
        return None
    return times.seconds(told.last_transition_time)


def _taken_by_kueue(attempt: Attempt) -> str:
    """Why an attempt ends whose child Kueue suspends: it ran before, or is in no queue and would never run."""
    place = attempt.place
    if place is None:
        return ""
    if any(rank.pod is not None for rank in attempt.ranks):
        return place.ended_as or queue.TAKEN_OUT
    return place.ended_as if place.queue else queue.NOT_QUEUED


def look(view: JobView, now: float) -> Seen:
    """What is seen of a job at one moment."""
    job = view.job
    key = names.job_key(job.metadata.name, job.metadata.uid)
    compute = view.compute
    ranks = job.spec.command.resources.instance_count if job.spec.command else 1
    attempt = attempts.observe(view, key, ranks, now)
    over = job.status.phase in FINISHED
    hindered = None if over else obstacle(view) or queue.obstacle(view)
    preparation = Preparation() if over else prepare(view, key, compute, possible=hindered is None, now=now)
    created = times.seconds(job.metadata.creation_timestamp)
    return Seen(
        view, now, key, compute, ranks, now if created is None else created, attempt, hindered, preparation,
        attempts.last_closed(view),
    )  # fmt: skip


def back_off_seconds(failures: int) -> float:
    """How long to wait after so many failures of the user's own before the next attempt."""
    # A larger exponent changes nothing and could be one that no float holds.
    return min(SHORTEST_BACK_OFF * 2.0 ** min(max(failures - 1, 0), 10), LONGEST_BACK_OFF)


def _lacks_nodes(attempt: Attempt) -> bool:
    """Whether a rank still waits for a node, as on a pool that owns none."""
    return any(rank.pod is None or not rank.pod.spec.node_name for rank in attempt.ranks if not rank.done)


def _nodes_taken(attempt: Attempt) -> str:
    """Why an attempt ends whose nodes are not all its own any more; empty while they are.

    A node that was told to be taken back is lost soon after: that says nothing about the command.
    """
    if any(rank.preempted and (rank.lost or not (rank.done or rank.saving)) for rank in attempt.ranks):
        return attempts.PREEMPTED
    return attempts.NODE_LOST if any(rank.lost for rank in attempt.ranks) else ""


def _ended_by_itself(attempt: Attempt) -> bool:
    """Whether every pod ran to its end: nothing is left to stop."""
    return all(rank.over and not rank.lost and rank.pod is not None for rank in attempt.ranks)
