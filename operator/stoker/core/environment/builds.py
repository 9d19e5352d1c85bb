"""How a build stands, from its Jobs and pods alone: so it is the same after a restart of the operator.

A build is named by what it makes. Each try is a Job of its own, and what became of it is remembered as long as the Job is
there: a fault of the definition for good, a fault of the ground until three tries have failed.
"""

import hashlib
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import msgspec

from stoker.api import names
from stoker.api.kube import BatchJob, ContainerStateTerminated, Event, Pod
from stoker.core import times
from stoker.core.environment import keys
from stoker.core.environment.request import BuildResult

#: Tries in a row of what may pass by itself, and how long the next one waits after each, in seconds.
TRIES = 3
BACK_OFF = (10.0, 60.0)
#: After three failed tries in a row there is another one so much later, in seconds.
AGAIN_SECONDS = 3600.0
#: What another try does not mend while the builder's settings are the same, unless the build itself says that it may.
OF_THE_BUILDER = frozenset({"OutOfMemory", "DiskFull", "Timeout", "NoBuilderAvailable"})
#: What a person mends in a Secret, a registry or an index, where nothing tells us of it: tried again after so long, in
#: seconds; the last one holds for all that follow.
OUTSIDE = frozenset(
    {
        "BadCredentials",
        "BaseImageUnauthorized",
        "IndexUnauthorized",
        "PushDenied",
        "RegistryUnauthorized",
        "RepositoryMissing",
        "SigningKeyInvalid",
        "SigningKeyNotFound",
    }
)
OUTSIDE_BACK_OFF = (60.0, 300.0, 3600.0)
CONTAINER = "build"
_DISK = re.compile(r"ephemeral[- ](local )?storage|emptydir|disk", re.IGNORECASE)
#: How the kubelet begins where a node has too little, whoever took it.
_NODE_WAS_LOW = "The node was low on resource"
_OOM_EXIT = 137
#: As the API server's admission says it of a pod.
_ACCOUNT = re.compile(r'error looking up service account [^:]*: serviceaccount "([^"]+)" not found')


@dataclass(frozen=True, slots=True)
class Build:
    """The tries of one build that the cluster has, their pods, and events about Jobs without pods. starting: its first Job
    was asked for a moment ago."""

    jobs: tuple[BatchJob, ...] = ()
    pods: tuple[Pod, ...] = ()
    events: tuple[Event, ...] = ()
    starting: bool = False


@dataclass(frozen=True, slots=True)
class Try:
    """One try. result: None while it runs; with an empty reason it made the image. Times in seconds since the epoch."""

    number: int
    job: BatchJob
    pod: Pod | None
    started_at: float
    ended_at: float | None = None
    result: BuildResult | None = None

    @property
    def seconds(self) -> int:
        """How long it took; 0 while it runs."""
        return max(0, int((self.ended_at or self.started_at) - self.started_at))


@dataclass(frozen=True, slots=True)
class Standing:
    """How a build stands. last: the newest try. next_number: of the try that may follow, at `next_at` at the earliest
    (None: none follows by itself)."""

    last: Try | None = None
    next_number: int = 1
    next_at: float | None = 0.0

    @property
    def running(self) -> bool:
        return self.last is not None and self.last.result is None

    @property
    def made(self) -> bool:
        return self.last is not None and self.last.result is not None and not self.last.result.reason


def label(spec_key: str, refresh: str = "", signing_secret: str = "") -> str:
    """What names a build: the same for all who want the same image. With another `refresh` the packages are chosen anew,
    and with another Secret another key signs, so it is another build."""
    words = [spec_key, refresh, *([signing_secret] if signing_secret else [])]
    if not any(words[1:]):
        return keys.short(spec_key)
    return keys.short(hashlib.sha256("\n".join(words).encode()).hexdigest())


def job_name(build: str, number: int) -> str:
    """The name of a try's Job: whoever wants the same build POSTs the same name, and a 409 means that it is there."""
    return f"env-{build[:24]}-{number}"


def is_running(build: Build) -> bool:
    """Whether it takes one of the namespace's turns."""
    return build.starting or any(_result(job, _pod_of(job, build.pods)) is None for job in build.jobs if _stays(job))


def tries(build: Build) -> tuple[Try, ...]:
    """Oldest first. What is being deleted does not count."""
    found = (_try(job, _pod_of(job, build.pods)) for job in build.jobs if _stays(job))
    return tuple(sorted(found, key=lambda one: one.number))


def standing(build: Build, builder_digest: str, forgotten_before: float = 0.0) -> Standing:
    """How it stands. builder_digest: of the settings that the next try would have. forgotten_before: a failure of a try
    that began before counts for nothing (seconds since the epoch)."""
    made = tries(build)
    if not made:
        return Standing()
    last = made[-1]
    if last.result is None or not last.result.reason:
        return Standing(last, last.number + 1, None)
    if last.started_at < forgotten_before:
        return Standing(last, last.number + 1, 0.0)
    return Standing(last, last.number + 1, _next_at(last, last.result, builder_digest))


def _next_at(last: Try, result: BuildResult, builder_digest: str) -> float | None:
    """When another try of a build that failed may begin; None: none does by itself."""
    if not (result.transient or result.reason in OF_THE_BUILDER | OUTSIDE):
        return None  # the definition's own fault
    if last.job.metadata.annotations.get(names.ANNOTATION_BUILDER) != builder_digest:
        return 0.0
    ended = last.ended_at if last.ended_at is not None else last.started_at
    if result.reason in OUTSIDE:
        return ended + OUTSIDE_BACK_OFF[min(last.number, len(OUTSIDE_BACK_OFF)) - 1]
    row = last.number % TRIES
    return ended + (BACK_OFF[row - 1] if row else AGAIN_SECONDS) if result.transient else None


def pods_refused(build: Build, job: BatchJob) -> str:
    """Why the API server refuses a try's pod, in its words; empty when it does not."""
    told = [event for event in build.events if event.involved_object.uid == job.metadata.uid and event.message]
    failed = [event for event in told if event.reason == "FailedCreate"]
    newest = max(failed, key=lambda event: (event.metadata.creation_timestamp, event.message), default=None)
    return re.sub(r'pods "[^"]*"', "pods", newest.message) if newest else ""


def account_missing(words: str) -> str:
    """The ServiceAccount that the API server's words say is not there; empty when it is another matter."""
    found = _ACCOUNT.search(words)
    return found[1] if found else ""


def _stays(job: BatchJob) -> bool:
    return job.metadata.deletion_timestamp is None


def _number(job: BatchJob) -> int:
    text = job.metadata.name.rpartition("-")[2]
    return int(text) if text.isdecimal() else 0


def _pod_of(job: BatchJob, pods: Iterable[Pod]) -> Pod | None:
    own = [
        pod for pod in pods if pod.metadata.controller is not None and pod.metadata.controller.uid == job.metadata.uid
    ]
    return max(own, key=lambda pod: (pod.metadata.creation_timestamp, pod.metadata.name), default=None)


def _try(job: BatchJob, pod: Pod | None) -> Try:
    result = _result(job, pod)
    ended = _ended_at(job, pod) if result is not None else None
    return Try(_number(job), job, pod, times.seconds(job.metadata.creation_timestamp) or 0.0, ended, result)


def _ended_at(job: BatchJob, pod: Pod | None) -> float | None:
    terminated = _terminated(pod)
    moments = [terminated.finished_at if terminated else None]
    moments += [one.last_transition_time for one in job.status.conditions if one.type in ("Complete", "Failed")]
    return next((moment for text in moments if (moment := times.seconds(text)) is not None), None)


def _terminated(pod: Pod | None) -> ContainerStateTerminated | None:
    statuses: Sequence[object] = pod.status.container_statuses if pod else ()
    return next((one.state.terminated for one in statuses if one.name == CONTAINER), None)  # type: ignore[attr-defined]


def _conditions(job: BatchJob) -> Mapping[str, tuple[str, str]]:
    return {one.type: (one.reason, one.message) for one in job.status.conditions if one.status == "True"}


def _result(job: BatchJob, pod: Pod | None) -> BuildResult | None:
    """What became of a try; None while it runs. Pods are the truth, the Job follows."""
    conditions, terminated = _conditions(job), _terminated(pod)
    failure, words = conditions.get("Failed") or conditions.get("FailureTarget") or ("", "")
    if failure == "DeadlineExceeded":
        return BuildResult(reason="Timeout", message="the build did not end within builder.timeoutSeconds")
    if pod is not None and pod.status.reason == "Evicted":
        return _evicted(pod.status.message)
    if terminated is not None:
        return _reported(terminated)
    if "Complete" in conditions or "SuccessCriteriaMet" in conditions:
        return BuildResult()
    if failure or (pod is not None and pod.status.phase == "Failed"):
        told = (pod.status.message if pod else "") or words or "its node went away"
        return BuildResult(reason="BuildPodLost", message=f"the build's pod is gone: {told}", transient=True)
    return None


def _evicted(words: str) -> BuildResult:
    """A pod that took more disk than it may does so again; that a node was full is the node's affair."""
    full, low = _DISK.search(words) is not None, words.startswith(_NODE_WAS_LOW)
    fix = "request ephemeral-storage in builder.resources of the chart's values: builds then go where there is room"
    return BuildResult(
        reason="DiskFull" if full else "Evicted", message=words.strip(), transient=low or not full,
        fix=fix if full and low else "",
    )  # fmt: skip


def _reported(terminated: ContainerStateTerminated) -> BuildResult:
    """What the builder says itself, or what its end says where it could say nothing."""
    try:
        result = msgspec.json.decode(terminated.message, type=BuildResult) if terminated.message else None
    except (msgspec.DecodeError, msgspec.ValidationError):
        result = None
    if result is not None and terminated.exit_code == 0:
        return result
    if terminated.exit_code == 0:
        return BuildResult()
    # Where the kernel ends a part of the build alone, the builder says what that part left undone: not why.
    said = result is not None and result.reason == "OutOfMemory"
    if not said and (terminated.reason == "OOMKilled" or (result is None and terminated.exit_code == _OOM_EXIT)):
        words = f": {result.message}" if result is not None and result.message else ""
        message = f"the build needed more memory than builder.resources allows{words}"
        return BuildResult(reason="OutOfMemory", message=message, where=result.where if result is not None else "")
    if result is not None and result.reason:
        return result
    words = f"the builder ended with code {terminated.exit_code} and no report: {terminated.message[-300:]}"
    return BuildResult(reason="BuildFailed", message=words.rstrip(": "), transient=True)
