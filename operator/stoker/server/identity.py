"""Which rank of which job a pod is: from the pod's token by way of pod, Job and TrainingJob, uid by uid. The pod that
saves the remains of a lost rank is that rank too: its Job's name says so.

What holds. The namespace, the pod's name and its uid come out of a token that the API server signed and binds to that
pod; every object is read in that namespace, and owner references do not cross namespaces. So nothing that somebody
does in one namespace gets them a grant for another one: not by labels, names, owner references or forged uids.

What does not hold, and cannot: the API server takes the owner references, labels, finalizers and names that a
creator writes, and keeps no trace of who created an object. Whoever may create pods (or tokens for pods'
ServiceAccounts, or Jobs) in a namespace can make a pod that looks in every detail like the Job controller's own, and
gets the grant of a rank of that namespace that is not sealed yet. They could as well read the namespace's Secrets by
mounting them. Namespaces are the line between people who do not trust each other. The checks below beyond the uids
(the Job controller's finalizer, its controller-uid label, its naming of pods, the child's one possible name) refuse
what is stale, adopted or made by mistake.
"""

import re
from typing import Any, Protocol, TypeVar

import msgspec

from stoker.api import names
from stoker.api.kube import Lean
from stoker.kube.errors import NotFound
from stoker.kube.resources import JOBS, PODS, TRAINING_JOBS, Resource
from stoker.server.errors import Refusal
from stoker.server.tokens import Caller

T = TypeVar("T")

_CONTROLLER_UID = "batch.kubernetes.io/controller-uid"
_TRACKING = "batch.kubernetes.io/job-tracking"
#: A name that is generated has at most 58 characters before its five random ones (k8s.io/apiserver, storage/names).
_GENERATED_PREFIX = 58
_CHILD = re.compile(r"-(?P<attempt>[1-9][0-9]{0,5})(-s(?P<rank>0|[1-9][0-9]{0,4}))?\Z")
_INDEX = re.compile(r"(0|[1-9][0-9]{0,5})\Z")


class Owner(Lean, frozen=True):
    api_version: str = ""
    kind: str = ""
    name: str = ""
    uid: str = ""
    controller: bool = False


class Meta(Lean, frozen=True):
    name: str = ""
    uid: str = ""
    deletion_timestamp: str | None = None
    labels: dict[str, str] = msgspec.field(default_factory=dict)
    owner_references: tuple[Owner, ...] = ()
    finalizers: tuple[str, ...] = ()

    @property
    def controller(self) -> Owner | None:
        return next((owner for owner in self.owner_references if owner.controller), None)


class _Phase(Lean, frozen=True):
    phase: str = ""


class _Completions(Lean, frozen=True):
    completions: int | None = None


class SeenPod(Lean, frozen=True):
    metadata: Meta
    status: _Phase = _Phase()


class SeenChild(Lean, frozen=True):
    metadata: Meta
    spec: _Completions = _Completions()


class SeenJob(Lean, frozen=True):
    metadata: Meta


class Reader(Protocol):
    async def get(self, path: str, shape: type[T], /, **query: str) -> T: ...


class Rank(msgspec.Struct, frozen=True):
    """One rank of one attempt of one job, and the pod that is it."""

    namespace: str
    name: str
    uid: str
    attempt: int
    rank: int
    pod: str
    pod_uid: str

    @property
    def key(self) -> str:
        return names.job_key(self.name, self.uid)


async def rank_of(kube: Reader, caller: Caller) -> Rank:
    """The rank that the caller's pod is. Raises Refusal 403, and KubeError when the API server is away."""
    if not caller.pod_name or not caller.pod_uid:
        raise _not("the token is not bound to a pod")
    pod = await _get(kube, PODS, caller.namespace, caller.pod_name, SeenPod)
    if pod.metadata.uid != caller.pod_uid:
        raise _not(f"pod {caller.pod_name} is another one than the token's")
    owner = pod.metadata.controller
    if owner is None or owner.kind != "Job" or owner.api_version != "batch/v1":
        raise _not(f"pod {caller.pod_name} is not controlled by a batch/v1 Job")
    child = await _get(kube, JOBS, caller.namespace, owner.name, SeenChild)
    if child.metadata.uid != owner.uid:
        raise _not(f"Job {owner.name} is another one than the pod's")
    rank = _rank(pod, child)
    above = child.metadata.controller
    if above is None or above.kind != "TrainingJob" or above.api_version.partition("/")[0] != names.GROUP:
        raise _not(f"Job {owner.name} is not controlled by a TrainingJob")
    job = await _get(kube, TRAINING_JOBS, caller.namespace, above.name, SeenJob)
    if job.metadata.uid != above.uid:
        raise _not(f"TrainingJob {above.name} is another one than the Job's")
    attempt, salvaged = _attempt(child.metadata.name, job.metadata)
    return Rank(
        caller.namespace,
        above.name,
        above.uid,
        attempt,
        rank if salvaged is None else salvaged,
        pod.metadata.name,
        pod.metadata.uid,
    )


def _rank(pod: SeenPod, child: SeenChild) -> int:
    meta = pod.metadata
    if meta.labels.get(_CONTROLLER_UID) != child.metadata.uid:
        raise _not(f"pod {meta.name} has no label {_CONTROLLER_UID} of its Job")
    ended = pod.status.phase in ("Succeeded", "Failed") or meta.deletion_timestamp is not None
    # The Job controller takes its finalizer away once it has counted the pod's end, and not before.
    if _TRACKING not in meta.finalizers and not ended:
        raise _not(f"pod {meta.name} is not tracked by the Job controller")
    index = meta.labels.get(names.LABEL_RANK, "")
    if not _INDEX.match(index) or int(index) >= (child.spec.completions or 0):
        raise _not(f"pod {meta.name}: {names.LABEL_RANK}={index!r} is no index of its Job")
    suffix = f"-{index}-"
    prefix = child.metadata.name[: _GENERATED_PREFIX - len(suffix)] + suffix
    if not re.fullmatch(re.escape(prefix) + r"[a-z0-9]{5}", meta.name):
        raise _not(f"pod {meta.name} has not the name that the Job controller gives to index {index}")
    return int(index)


def _attempt(child: str, job: Meta) -> tuple[int, int | None]:
    """The attempt that a Job is for, and the rank if it is the salvage of one."""
    found = _CHILD.search(child)
    attempt, rank = (int(found["attempt"]), found["rank"]) if found else (0, None)
    name = names.child_name(job.name, job.uid, attempt)
    if not found or child != (name if rank is None else names.salvage_name(job.name, job.uid, attempt, int(rank))):
        raise _not(f"Job {child} has not the name of an attempt of TrainingJob {job.name}")
    return attempt, None if rank is None else int(rank)


async def _get(kube: Reader, resource: Resource, namespace: str, name: str, shape: type[T]) -> T:
    try:
        return await kube.get(resource.path(namespace, name), shape)
    except NotFound:
        raise _not(f"{resource.kind} {name} does not exist in namespace {namespace}") from None


def _not(why: str) -> Refusal:
    return Refusal(403, "NotARank", f"no grant: {why}; grants are for the pods of a TrainingJob's own attempts")


__all__: list[Any] = ["Rank", "Reader", "SeenChild", "SeenJob", "SeenPod", "rank_of"]
