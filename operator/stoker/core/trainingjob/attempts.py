"""What is seen of a job's newest attempt: facts about each rank, from pods, nodes and seals.

Pods are the truth, the Job is their factory: nothing here reads the Job's counters.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from stoker.api import names
from stoker.api.kube import BatchJob, ContainerStatus, KubeCondition, Node, Pod
from stoker.api.trainingjob import AttemptStatus
from stoker.core import times
from stoker.core.nodes import is_taken_back
from stoker.core.plan import CloseRank, Found, Refused, Seals, Unavailable
from stoker.core.trainingjob import queue, remains
from stoker.core.trainingjob.remains import Remains
from stoker.core.trainingjob.view import JobView

#: How long a node may be silent, or say that it is not ready, before its pods count as lost, in seconds.
SILENT_SECONDS, UNREADY_SECONDS = 15.0, 60.0
#: How long after the end of a pod its seal may still come, in seconds; its sender is dead, so only stragglers count.
SEAL_PATIENCE = 120.0
#: When to look for missing seals again, in seconds after the last pod's end; from the last step on, once a minute.
LOOKS = (2.0, 5.0, 10.0, 20.0, 40.0, 60.0)
#: Reasons with which a rank is closed.
NODE_LOST, POD_LOST, EVICTED, NOT_SAVED = "NodeLost", "PodLost", "Evicted", "OutputsNotSaved"
#: Why an attempt was ended that had to make room: its node is taken back by its provider, or a more important pod came.
PREEMPTED = "Preempted"
#: Why an attempt was ended that counts for nothing and that another follows.
SUSPENDED = "Suspended"
#: The same for an attempt whose pods the scheduler would not place on the nodes that it was given.
DISAGREES = "SchedulerDisagrees"
_CLOSING = (NODE_LOST, POD_LOST, EVICTED, NOT_SAVED)


@dataclass(frozen=True, slots=True)
class Rank:
    """One rank of an attempt.

    started, ended: when its command started, and when its container or pod ended, in seconds since the epoch. saving:
    the command has ended and what it wrote is being saved. done: its container has ended or can never run. over:
    nothing of it runs any more. preempted: its node is being taken back by its provider. close_as: why it should be
    closed if there is no seal; empty while one may come. remains: what it left on its scratch claim, if it is over and had
    one.
    """

    number: int
    pod: Pod | None = None
    started: float | None = None
    ended: float | None = None
    saving: bool = False
    done: bool = False
    over: bool = False
    lost: bool = False
    preempted: bool = False
    close_as: str = ""
    close_message: str = ""
    look_at: float | None = None
    seal: Mapping[str, Any] | None = None
    remains: Remains | None = None

    @property
    def complete(self) -> bool:
        """Whether its seal says that the command ended by itself with 0 and everything is saved."""
        return bool(self.seal and self.seal.get("complete") is True) and self.exit_code == 0 and not self.exit_reason

    @property
    def salvaging(self) -> bool:
        """Whether it has no seal yet, and what it left is still to be saved."""
        return self.seal is None and self.remains is not None and not self.remains.over

    @property
    def exit(self) -> Mapping[str, Any]:
        """The exit record in its seal; empty when there is none."""
        found = (self.seal or {}).get("exit")
        return found if isinstance(found, Mapping) else {}

    @property
    def exit_code(self) -> int | None:
        code = self.exit.get("code")
        return code if isinstance(code, int) and not isinstance(code, bool) else None

    @property
    def exit_reason(self) -> str:
        return str(self.exit.get("reason") or "")


@dataclass(frozen=True, slots=True)
class Attempt:
    """One attempt. created: when its pods could be made. stopped: why it is being ended, as recorded in status. question:
    what to ask about its seals now; asked: whether that is answered; trouble: the answer, where it is no answer. place:
    where its child stands with Kueue; None where Kueue has nothing to do with it."""

    number: int
    child: BatchJob | None
    ranks: tuple[Rank, ...]
    nodes: tuple[str, ...] = ()
    created: float | None = None
    stopped: str = ""
    question: Seals | None = None
    asked: bool = False
    trouble: Refused | Unavailable | None = None
    look_at: float | None = None
    place: queue.Place | None = None

    @property
    def held(self) -> bool:
        """Whether Kueue keeps its child from running."""
        return self.child_open and self.place is not None and self.place.suspended

    @property
    def started(self) -> float | None:
        """When the command had started on every node; None before."""
        moments = [rank.started for rank in self.ranks]
        return max((moment for moment in moments if moment is not None), default=None) if None not in moments else None

    @property
    def ended(self) -> float | None:
        """When the last rank ended, as far as that is known; None while one goes on."""
        moments = [rank.ended for rank in self.ranks if rank.ended is not None]
        return max(moments, default=None) if all(rank.done for rank in self.ranks) else None

    @property
    def sealed(self) -> bool:
        return all(rank.seal is not None for rank in self.ranks)

    @property
    def child_open(self) -> bool:
        """Whether its child is there and neither finished nor being deleted."""
        return self.child is not None and self.child.metadata.deletion_timestamp is None and not finished(self.child)


def observe(view: JobView, key: str, ranks: int, now: float) -> Attempt | None:
    """The newest attempt of which there is any trace: a child, pods, an entry in status, or seals. None where there is
    no trace but of attempts that another follows."""
    last = last_closed(view)
    done = last.number if last else 0
    entry = max(view.job.status.attempts, key=lambda attempt: attempt.number, default=None)
    children = {attempt_of(child.metadata.labels): child for child in view.children}
    number = max((*children, *(attempt_of(pod.metadata.labels) for pod in view.pods), entry.number if entry else 0))
    former = view.answers.get(former_seals(view, key, ranks)) if number <= done else None
    if isinstance(former, Found) and former.value:
        number = done + 1
    if number <= done:
        return None
    child = children.get(number)
    if entry is not None and entry.number != number:
        entry = None
    pods = _pods_by_rank(view, number)
    stopped = entry.reason if entry else ""
    bare = [
        _with_remains(view, number, _rank(view, child, pods.get(rank), rank, now), stopped, now)
        for rank in range(ranks)
    ]
    place = queue.place_of(view, child) if child else None
    created = times.seconds(child.metadata.creation_timestamp) if child else None
    if place is not None and place.queue:
        # What it waited in its queue is no part of it.
        created = place.admitted_at
    labelled = view.assigned.get(number, ()) if place is not None else ()
    attempt = Attempt(
        number=number,
        child=child,
        ranks=tuple(bare),
        nodes=(planned_nodes(child) if child else ()) or labelled or (entry.nodes if entry else ()) or _placed(bare),
        created=created if created is not None else _earliest(bare, entry),
        stopped=stopped,
        place=place,
    )
    return _with_seals(view, key, attempt, now) if all(rank.done for rank in bare) else _with_closed(view, key, attempt)


def last_closed(view: JobView) -> AttemptStatus | None:
    """The newest attempt that is over and that another follows, as status has it."""
    closed = (entry for entry in view.job.status.attempts if entry.counted is not None)
    return max(closed, key=lambda entry: entry.number, default=None)


def former_seals(view: JobView, key: str, ranks: int) -> Seals:
    """Was the next attempt made and forgotten, its child gone with its time to live while nobody looked?"""
    last = last_closed(view)
    return Seals(view.job.metadata.namespace, key, last.number + 1 if last else 1, ranks, "before")


def attempt_of(labels: Mapping[str, str]) -> int:
    """The attempt that labels name; 0 for none."""
    text = labels.get(names.LABEL_ATTEMPT, "")
    return int(text) if text.isascii() and text.isdigit() else 0


def rank_of(pod: Pod) -> int:
    """The rank of a pod; -1 for none."""
    text = pod.metadata.labels.get(names.LABEL_RANK, "")
    return int(text) if text.isascii() and text.isdigit() else -1


def finished(child: BatchJob) -> bool:
    """Whether the Job controller is done with a child."""
    return any(
        condition.type in ("Complete", "Failed") and condition.status == "True" for condition in child.status.conditions
    )


def terminal(pod: Pod) -> bool:
    """Whether every container of a pod has ended for good."""
    return pod.status.phase in ("Succeeded", "Failed")


def planned_nodes(child: BatchJob) -> tuple[str, ...]:
    """The nodes that a child's affinity names: what its attempt was given."""
    return nodes_named(child.spec.template.get("spec") or {})


def nodes_named(spec: Mapping[str, Any]) -> tuple[str, ...]:
    """The nodes that the required affinity of a pod's spec names."""
    affinity = ((spec.get("affinity") or {}).get("nodeAffinity") or {}).get(
        "requiredDuringSchedulingIgnoredDuringExecution"
    )
    return tuple(
        str(value)
        for term in (affinity or {}).get("nodeSelectorTerms") or ()
        for field in term.get("matchFields") or ()
        if field.get("key") == "metadata.name"
        for value in field.get("values") or ()
    )


def container(statuses: tuple[ContainerStatus, ...], name: str) -> ContainerStatus | None:
    return next((status for status in statuses if status.name == name), None)


def condition(conditions: tuple[KubeCondition, ...], kind: str) -> KubeCondition | None:
    return next((entry for entry in conditions if entry.type == kind), None)


def node_lost_at(node: Node | None) -> float | None:
    """From when on the pods of a node count as lost: -inf when it does not exist, None while it is well."""
    if node is None:
        return float("-inf")
    ready = condition(node.status.conditions, "Ready")
    if ready is None or ready.status == "True":
        return None
    since = times.seconds(ready.last_transition_time)
    return (since or 0.0) + (UNREADY_SECONDS if ready.status == "False" else SILENT_SECONDS)


def _pods_by_rank(view: JobView, number: int) -> dict[int, Pod]:
    """The pods of an attempt; of two for one rank (the Job controller replaced one) the younger."""
    mine = [pod for pod in view.pods if attempt_of(pod.metadata.labels) == number]
    mine.sort(key=lambda pod: (pod.metadata.creation_timestamp, pod.metadata.uid))
    return {rank_of(pod): pod for pod in mine}


def _placed(ranks: list[Rank]) -> tuple[str, ...]:
    return tuple(rank.pod.spec.node_name for rank in ranks if rank.pod and rank.pod.spec.node_name)


def _earliest(ranks: list[Rank], entry: AttemptStatus | None) -> float | None:
    moments = [times.seconds(rank.pod.metadata.creation_timestamp) for rank in ranks if rank.pod]
    known = [moment for moment in moments if moment is not None]
    return min(known) if known else times.seconds(entry.started_at if entry else None)


def started(pod: Pod) -> float | None:
    """When a pod's command started; None before."""
    main = container(pod.status.container_statuses, "main")
    begun = (main.state.running or main.state.terminated) if main else None
    return times.seconds(begun.started_at) if begun else None


def _rank(view: JobView, child: BatchJob | None, pod: Pod | None, number: int, now: float) -> Rank:
    if pod is None:
        gone = child is None or finished(child) or child.metadata.deletion_timestamp is not None
        message = "the pod is gone; nothing says how its command ended"
        return Rank(number, done=gone, over=gone, close_as=POD_LOST if gone else "", close_message=message)
    main = container(pod.status.container_statuses, "main")
    terminated = main.state.terminated if main else None
    begun = started(pod)
    ended = times.seconds(terminated.finished_at) if terminated else None
    if terminated is not None and ended is None:
        ended = begun
    rank = Rank(
        number, pod, begun, ended, saving=_saving(pod, begun), done=terminated is not None,
        preempted=(node := view.nodes.get(pod.spec.node_name)) is not None and is_taken_back(node),
    )  # fmt: skip
    if terminal(pod):
        return _ended_rank(view, rank, pod, now)
    return _open_rank(view, rank, pod, now)


def _with_remains(view: JobView, attempt: int, rank: Rank, stopped: str, now: float) -> Rank:
    """A rank that is over, with what it left on its claim: it is not closed before that is saved or given up."""
    if not rank.over or not view.claims:
        return rank
    lost = rank.lost or stopped in (NODE_LOST, PREEMPTED)
    left = remains.of_rank(view, attempt, rank.number, rank.pod, now, node_lost=lost)
    if left is None:
        return rank
    if not left.over:
        return replace(rank, remains=left, close_as="", look_at=left.look_at)
    evicted = rank.pod is not None and rank.pod.status.reason == EVICTED
    kept = f"PersistentVolumeClaim {left.claim.metadata.name} has what was not saved: {left.problem}"
    words = f"{rank.close_message}; {kept}" if left.problem else rank.close_message
    return replace(
        rank, remains=left, look_at=None, close_as=rank.close_as or (EVICTED if evicted else NOT_SAVED),
        close_message=words,
    )  # fmt: skip


def _ended_rank(view: JobView, rank: Rank, pod: Pod, now: float) -> Rank:
    """A rank whose pod has ended: its seal is there, or comes within the patience, or never."""
    ended = rank.ended if rank.ended is not None else _last_moment(pod)
    evicted = pod.status.reason == EVICTED
    patience = (ended or 0.0) + SEAL_PATIENCE
    overdue = now >= patience or (pod.spec.node_name != "" and pod.spec.node_name not in view.nodes)
    words = pod.status.message or _ship_says(pod) or "the pod ended and its outputs were never sealed"
    return replace(
        rank, ended=ended, saving=False, done=True, over=True, look_at=None if overdue else patience,
        close_as=(EVICTED if evicted else NOT_SAVED) if overdue else "", close_message=words,
    )  # fmt: skip


def _ship_says(pod: Pod) -> str:
    """Why ship could not seal the rank, with the files that are not saved; it writes that down when it ends."""
    ship = container(pod.status.init_container_statuses, "ship")
    terminated = ship.state.terminated if ship else None
    return terminated.message.strip() if terminated is not None and terminated.exit_code else ""


def _open_rank(view: JobView, rank: Rank, pod: Pod, now: float) -> Rank:
    node = pod.spec.node_name
    lost_at = node_lost_at(view.nodes.get(node)) if node else None
    if lost_at is None:
        return rank
    if now < lost_at:
        return replace(rank, look_at=lost_at)
    what = "no longer exists" if node not in view.nodes else "is not ready"
    return replace(
        rank, saving=False, done=True, over=True, lost=True, close_as=NODE_LOST, close_message=f"node {node} {what}"
    )


def _saving(pod: Pod, started: float | None) -> bool:
    """Whether ship says that the command has ended: its readiness failed after the command had started."""
    ready = condition(pod.status.conditions, "Ready")
    ship = container(pod.status.init_container_statuses, "ship")
    if started is None or ready is None or ship is None or ship.ready or ready.status != "False":
        return False
    since = times.seconds(ready.last_transition_time)
    return since is not None and since > started


def _last_moment(pod: Pod) -> float | None:
    statuses = (*pod.status.init_container_statuses, *pod.status.container_statuses)
    ends = [times.seconds(status.state.terminated.finished_at) for status in statuses if status.state.terminated]
    ends += [times.seconds(entry.last_transition_time) for entry in pod.status.conditions]
    return max((moment for moment in ends if moment is not None), default=None)


def _with_seals(view: JobView, key: str, attempt: Attempt, now: float) -> Attempt:
    """The attempt with the seals that are known, and what to ask about the others."""
    step, look_at = _looks(attempt.ended, now)
    seen = ",".join(
        f"{rank.number}:{rank.pod.metadata.uid if rank.pod else ''}:{rank.over:d}{rank.close_as}"
        for rank in attempt.ranks
    )
    digest = hashlib.sha256(seen.encode()).hexdigest()[:16]
    question = Seals(view.job.metadata.namespace, key, attempt.number, len(attempt.ranks), f"{digest}.{step}")
    answer = view.answers.get(question)
    found = answer.value if isinstance(answer, Found) and isinstance(answer.value, Mapping) else {}
    ranks = tuple(_sealed(view, key, attempt.number, rank, found.get(rank.number)) for rank in attempt.ranks)
    return replace(
        attempt, ranks=ranks, question=question, asked=isinstance(answer, Found), look_at=look_at,
        trouble=answer if isinstance(answer, Refused | Unavailable) else None,
    )  # fmt: skip


def _with_closed(view: JobView, key: str, attempt: Attempt) -> Attempt:
    """The attempt with the seals of ranks that were closed while others still run."""
    ranks = (_sealed(view, key, attempt.number, rank, None) for rank in attempt.ranks)
    return replace(attempt, ranks=tuple(ranks))


def _sealed(view: JobView, key: str, number: int, rank: Rank, seal: object) -> Rank:
    namespace = view.job.metadata.namespace
    answers = (view.answers.get(CloseRank(namespace, key, number, rank.number, reason)) for reason in _CLOSING)
    closed = next((answer.value for answer in answers if isinstance(answer, Found)), None)
    stands = seal if isinstance(seal, Mapping) else closed
    return replace(rank, seal=stands) if isinstance(stands, Mapping) else rank


def _looks(ended: float | None, now: float) -> tuple[int, float | None]:
    """Which look at the seals this is, and when the next one is due."""
    if ended is None:
        return 0, None
    elapsed = now - ended
    if elapsed < LOOKS[-1]:
        step = sum(1 for moment in LOOKS if moment <= elapsed)
        return step, ended + LOOKS[step]
    minutes = int((elapsed - LOOKS[-1]) // 60)
    return len(LOOKS) + minutes, ended + LOOKS[-1] + 60.0 * (minutes + 1)
