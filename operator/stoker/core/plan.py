"""What a decision looks like: questions to ask, things to do, a status to show, and when to look again.

Nothing but the executor carries a plan out. Every action may be repeated and has its effect once: names are
deterministic, deletes carry the uid, stored objects are written only if absent.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

T = TypeVar("T")


# -- Questions to the world outside the cluster. The answer to a question is kept under the question itself.


@dataclass(frozen=True, slots=True)
class SnapshotPresent:
    """Is the snapshot in the namespace's store? Answer: True; Refused SnapshotNotFound when it is not."""

    namespace: str
    digest: str


@dataclass(frozen=True, slots=True)
class InlineSnapshot:
    """Store inline code as an ordinary snapshot. Answer: its digest."""

    namespace: str
    files: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class InputFiles:
    """Which objects lie under an input's path? Answer: tuple of (key below the workspace's URL, path, bytes, ETag)."""

    namespace: str
    path: str
    single: bool


@dataclass(frozen=True, slots=True)
class ImageDigest:
    """What does an image reference mean on a platform? Answer: the reference pinned by digest. seen: what has changed since
    it was asked before."""

    namespace: str
    reference: str
    platform: str
    pull_secrets: tuple[str, ...] = ()
    seen: str = ""


@dataclass(frozen=True, slots=True)
class SnapshotFiles:
    """What do files of a snapshot say? Answer: {path: text}, None for one that is not there; Refused FileNotText when one
    is no text, SnapshotNotFound when there is no such snapshot."""

    namespace: str
    digest: str
    paths: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class SnapshotEntries:
    """What is in a snapshot? Answer: tuple of runtime.wire.Entry; Refused SnapshotNotFound."""

    namespace: str
    digest: str


@dataclass(frozen=True, slots=True)
class RegistryPlace:
    """A registry that holds environments. url: `host/path`. secret: name of a Secret of the namespace with which it is
    read; empty for none. insecure: it speaks http."""

    url: str
    secret: str = ""
    insecure: bool = False


@dataclass(frozen=True, slots=True)
class KnownImage:
    """An image that a registry's record names. image: pinned by digest. source: workspace | global. size_bytes: of its
    compressed layers. signed_by: fingerprint of the key that signed it; empty where none did."""

    image: str
    source: str
    lock_key: str = ""
    size_bytes: int = 0
    signed_by: str = ""


@dataclass(frozen=True, slots=True)
class Lookup:
    """What registries said at a moment (seconds since the epoch). image: None when each of them has no such record."""

    at: float
    image: KnownImage | None = None


@dataclass(frozen=True, slots=True)
class EnvironmentRecord:
    """Which image do the registries have for a specKey? The first of `places` is the namespace's own. Answer: a Lookup;
    that each of them answered 404 is the only miss. refresh: a record of another one does not count in the namespace's
    own registry; empty takes any. signed: one of an image that nobody signed does not count there either. seen: what has
    changed since it was asked before."""

    namespace: str
    key: str
    definition_key: str
    places: tuple[RegistryPlace, ...]
    refresh: str = ""
    seen: str = ""
    signed: bool = False


@dataclass(frozen=True, slots=True)
class BuildLog:
    """Copy the log of a try's pod. Answer: how many bytes it has. moment: when, each copy is of the whole log; `end` once
    it has ended, and then also to a place of its own, named by when the try `began` (RFC 3339). newest: to
    `environments/<key>/build.log`."""

    namespace: str
    key: str
    pod: str
    moment: str
    began: str
    newest: bool = True


@dataclass(frozen=True, slots=True)
class LockCopy:
    """Copy a record's lock from the namespace's own registry to `environments/<key>/lock.json`. Answer: True. build: uid
    of the Job that made it."""

    namespace: str
    key: str
    place: RegistryPlace
    build: str = ""


@dataclass(frozen=True, slots=True)
class SnapshotUrl:
    """A signed URL with which a build's pod gets a snapshot's zip. Answer: the URL; it holds for `seconds`. key: the
    Job it is for: each has one of its own."""

    namespace: str
    digest: str
    seconds: int
    key: str


@dataclass(frozen=True, slots=True)
class Recorded:
    """Write `jobs/<key>/job.json` if absent and read it back. Answer: the record as stored (a dict)."""

    namespace: str
    key: str
    record: str = field(hash=False, compare=False, default="")


@dataclass(frozen=True, slots=True)
class NameHolder:
    """Which run has the name, where a name runs once for ever? Taken by `key` if it is free. Answer: {"key": the run's
    folder} for this run itself; with "result" (result.json as stored) for an earlier one. Unavailable FormerRunEnding
    while an earlier one has no result yet; one that has none long after `since` (when this run's object was created,
    seconds since the epoch: then the earlier one's was gone) gets one."""

    namespace: str
    name: str
    key: str
    since: float


@dataclass(frozen=True, slots=True)
class Seals:
    """The seals of an attempt. Answer: {rank: seal.json as a dict} of those that exist now. Asked again after every
    change of the attempt's pods, as `seen` then differs."""

    namespace: str
    key: str
    attempt: int
    ranks: int
    seen: str = ""


@dataclass(frozen=True, slots=True)
class CloseRank:
    """Seal a lost rank as incomplete, if nobody sealed it before. Answer: the seal that stands (a dict)."""

    namespace: str
    key: str
    attempt: int
    rank: int
    reason: str
    message: str = field(hash=False, compare=False, default="")


@dataclass(frozen=True, slots=True)
class ResultWritten:
    """Write `jobs/<key>/result.json` if absent. Answer: the result as stored (a dict)."""

    namespace: str
    key: str
    result: str = field(hash=False, compare=False, default="")


@dataclass(frozen=True, slots=True)
class StoragePreflight:
    """Which promises hold on a workspace's store? Answer: True when all do; Refused PromisesMissing with those that do
    not; Unavailable StorageUnreachable. Asked once per URL and operator start, and again after an hour while it is not
    True. None when the namespace has another URL by now: nobody may write to a place that is not its own."""

    namespace: str
    url: str


@dataclass(frozen=True, slots=True)
class Retained:
    """What did the last look at a workspace's retention remove? No plan asks this: the operator looks every few hours and
    leaves the answer here. Answer: a core.retention.Report; Refused or Unavailable when it could not be done, or in part."""

    namespace: str
    url: str


@dataclass(frozen=True, slots=True)
class Cleaned:
    """What did the last look at a workspace's registry remove? No plan asks this: the operator looks every few hours and leaves
    the answer here. Answer: a core.environment.cleaning.Report; Refused or Unavailable when it could not be done, or in part."""

    namespace: str


@dataclass(frozen=True, slots=True)
class Posted:
    """What became of a Create. No plan asks this: when the API server refuses a Create, the executor leaves its words
    here as Refused (PodsRejected for a policy or a quota, NameTaken for someone else's object of that name) and forgets
    them when the same Create succeeds. The plan goes on giving the Create; the executor spaces its tries out."""

    kind: str
    namespace: str
    name: str


Question = (
    SnapshotPresent
    | InlineSnapshot
    | InputFiles
    | ImageDigest
    | SnapshotFiles
    | SnapshotEntries
    | EnvironmentRecord
    | BuildLog
    | LockCopy
    | SnapshotUrl
    | Recorded
    | NameHolder
    | Seals
    | CloseRank
    | ResultWritten
    | StoragePreflight
    | Retained
    | Cleaned
    | Posted
)


@dataclass(frozen=True, slots=True)
class Found(Generic[T]):
    """The answer."""

    value: T


@dataclass(frozen=True, slots=True)
class Refused:
    """The answer is no, and asking again brings nothing new until what was asked about changes.

    The executor asks again after `retry_at` all the same (seconds since the epoch), for people do mend things.
    """

    reason: str
    message: str
    fix: str = ""
    retry_at: float | None = None


@dataclass(frozen=True, slots=True)
class Unavailable:
    """No answer: whoever knows could not be reached. It will be asked again at `retry_at`."""

    reason: str
    message: str
    fix: str = ""
    retry_at: float = 0.0


#: None: not answered yet.
Answer = Found[Any] | Refused | Unavailable | None
Answers = Mapping[Question, Answer]


def is_due(answer: Answer, now: float) -> bool:
    """Whether a question is to be asked now: it has no answer, or one that is worth asking for again."""
    if answer is None:
        return True
    return isinstance(answer, Refused | Unavailable) and answer.retry_at is not None and now >= answer.retry_at


def ask_again_at(answer: Answer, now: float) -> float | None:
    """When to look again at a question that cannot be asked yet. None for one that is asked now: until its answer is
    there nothing changes, and the answer itself wakes whoever asked."""
    if isinstance(answer, Refused | Unavailable) and answer.retry_at is not None and answer.retry_at > now:
        return answer.retry_at
    return None


# -- Actions in the cluster.


@dataclass(frozen=True, slots=True)
class Ask:
    """Find the answer to a question in the background; the key is planned again when it is there."""

    question: Question


@dataclass(frozen=True, slots=True)
class Create:
    """POST an object. If the name is taken by one that our object controls, that one is it; if it is someone else's,
    the plan is made anew after a while and says NameTaken. trial: only ask whether it would be taken (a dry run), after a
    Create that was refused; a yes makes that forgotten."""

    manifest: Mapping[str, Any]
    trial: bool = False


@dataclass(frozen=True, slots=True)
class Delete:
    """Delete an object of this uid; gone is as good. Pods go with it (background propagation).

    uid is empty for an object that nobody watches and whose name only this job can have (the attempt's Service).
    """

    kind: str  # "Job", "Service" or "PersistentVolumeClaim"
    namespace: str
    name: str
    uid: str


@dataclass(frozen=True, slots=True)
class AddOwner:
    """Make one of our objects another owner of an object of this uid; gone is as good."""

    kind: str  # "PersistentVolumeClaim"
    namespace: str
    name: str
    uid: str
    owner_kind: str
    owner_name: str
    owner_uid: str


@dataclass(frozen=True, slots=True)
class ScaleTo:
    """Set the replicas of a pool's scalable object, if they still are `from_replicas`."""

    cluster: str
    from_replicas: int
    replicas: int


@dataclass(frozen=True, slots=True)
class MarkForDeletion:
    """Say on a Node that it is the one to go when replicas are lowered: the provider's delete annotation, whose value is
    `from_replicas` as text. A marked node whose number is above the pool's replicas has been counted out already."""

    cluster: str
    node: str
    from_replicas: int


@dataclass(frozen=True, slots=True)
class TaintLeaving:
    """Keep new pods off a node that is about to go, before the last look at what runs there: a NoSchedule taint
    `stoker.dev/leaving` whose value is `since`, whole seconds since the epoch."""

    cluster: str
    node: str
    since: int


@dataclass(frozen=True, slots=True)
class KeepNode:
    """Take back TaintLeaving and MarkForDeletion: the node is needed after all, or a pod landed on it."""

    cluster: str
    node: str


@dataclass(frozen=True, slots=True)
class ScrubNode:
    """Have a pod of this name empty a folder of a node, and find it empty."""

    cluster: str
    node: str
    path: str
    pod: str


@dataclass(frozen=True, slots=True)
class MarkScratch:
    """Say on a Node what is known of its scratch path, in annotation `stoker.dev/scratch`, if it still says `former`."""

    cluster: str
    node: str
    former: str
    value: str


@dataclass(frozen=True, slots=True)
class TaintPreempted:
    """End the pods of a node that its provider takes back, each with its own grace, while there is time: a NoExecute taint
    `stoker.dev/preempted`."""

    cluster: str
    node: str


@dataclass(frozen=True, slots=True)
class AdoptNode:
    """Give a node the label and the taint of its pool, if it lacks them."""

    cluster: str
    node: str
    taint: bool = True


@dataclass(frozen=True, slots=True)
class LaunchMachines:
    """Have a provider launch machines; the same token again launches nothing more. tier: Dedicated or Spot. atomic: all
    or none, where the provider can. zone: empty for any."""

    cluster: str
    token: str
    count: int
    instance_type: str
    tier: str
    atomic: bool
    zone: str = ""


@dataclass(frozen=True, slots=True)
class TerminateMachines:
    """Have a provider terminate these machines; one that is gone is as good."""

    cluster: str
    token: str
    ids: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class HoldCluster:
    """Keep a ComputeCluster from going before its machines have: names.FINALIZER_MACHINES. One that is being deleted, or
    is another of that name by now, is left alone."""

    cluster: str
    uid: str


@dataclass(frozen=True, slots=True)
class ReleaseCluster:
    """Take that back: no machine is left."""

    cluster: str
    uid: str


@dataclass(frozen=True, slots=True)
class HandOver:
    """Ask for room for a gang, under the name of its attempt; asking twice is asking once. requests: what one of its pods
    asks for; empty: a whole node of the type, less the pool's reserve. instance_type: None for the pool's first."""

    cluster: str
    namespace: str
    job: str
    job_uid: str
    attempt: int
    count: int
    instance_type: str | None = None
    requests: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class TakeBack:
    """Ask no longer: delete a request of this uid; gone is as good."""

    cluster: str
    namespace: str
    name: str
    uid: str


@dataclass(frozen=True, slots=True)
class AssignNode:
    """Label a node as an attempt's, whose pods ask for that label; twice is as once, and a node that is gone is no error."""

    node: str
    uid: str
    attempt: int


@dataclass(frozen=True, slots=True)
class UnassignNode:
    """Take that back; other attempts' labels stay."""

    node: str
    uid: str
    attempt: int


@dataclass(frozen=True, slots=True)
class AnswerCheck:
    """Answer an AdmissionCheck of Kueue's about a Workload, if it is still asked. state: Ready or Retry. assigned: the label
    of the nodes that its pods are to run on; empty for any."""

    namespace: str
    workload: str
    check: str
    state: str
    message: str = ""
    assigned: str = ""


Action = (
    Ask
    | Create
    | Delete
    | AddOwner
    | ScaleTo
    | MarkForDeletion
    | TaintLeaving
    | TaintPreempted
    | ScrubNode
    | MarkScratch
    | KeepNode
    | AdoptNode
    | LaunchMachines
    | TerminateMachines
    | HandOver
    | TakeBack
    | HoldCluster
    | ReleaseCluster
    | AssignNode
    | UnassignNode
    | AnswerCheck
)


@dataclass(frozen=True, slots=True)
class Plan(Generic[T]):
    """What to do now, in this order; the status to show; and when to look again (seconds since the epoch; None = on the
    next event).

    status is None where it is to be left as it is. It is written after the actions, and only if it differs from what the
    API server has. builds: labels of the builds that the object wants; a build that nobody wants is ended.
    """

    actions: tuple[Action, ...] = ()
    status: T | None = None
    wake_at: float | None = None
    builds: frozenset[str] = frozenset()
