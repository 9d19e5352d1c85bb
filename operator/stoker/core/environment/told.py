"""What is said of a build: while it runs, while it waits for its turn, and when it has failed."""

from stoker.core import times
from stoker.core.environment import builds
from stoker.core.environment.builds import Build, Standing, Try
from stoker.core.environment.request import BuildResult
from stoker.core.plan import Answer, Refused, Unavailable

#: A Job without a pod for so long is told of, in seconds.
PODS_EXPECTED = 3.0
#: A pod without a node for so long is told of, in seconds.
NODE_EXPECTED = 10.0
_PULL_FAILURES = frozenset({"ErrImagePull", "ImagePullBackOff", "InvalidImageName", "ErrImageNeverPull"})
_LOG = "`stoker env logs NAME` or `stoker logs JOB --build` shows the log"
#: What to do about each reason that a builder gives.
_FIXES = {
    "CondaUnsatisfiable": "change the named line of the conda packages, or a channel",
    "PipUnsatisfiable": "change the named line of the pip packages",
    "PackageNotFound": "correct the package's name or version, or name the index or channel that has it",
    "SpecInvalid": "correct the named line",
    "HashMismatch": "the index sent another file than the hash says: correct the hash, or see who changed the file",
    "DockerStepFailed": "correct the named step",
    "BaseImageNotFound": "push the base image, or correct its name",
    "ArchitectureMismatch": "use a base image for the platform of the pool's nodes, or a pool of another architecture",
    "BaseImageUnauthorized": "name a Secret that may read the base image in imagePullSecrets",
    "PushDenied": "see that the registry's Secret may push to it (spec.registry.secretRef of Workspace/default)",
    "RepositoryMissing": "create the repository in the registry",
    "SigningKeyNotFound": "create the Secret that spec.signing.secretRef of Workspace/default names, or take that setting out",
    "SigningKeyInvalid": "mend the Secret that spec.signing.secretRef of Workspace/default names",
    "OutOfMemory": "raise builder.resources.limits.memory in the chart's values; it is then built again",
    "DiskFull": "raise ephemeral-storage in builder.resources of the chart's values; it is then built again",
    "Timeout": "raise builder.timeoutSeconds in the chart's values, or take packages out; it is then built again",
    "NoBuilderAvailable": "see builder and buildkit in the chart's values",
    "RegistryUnreachable": "see whether the registry answers to pods of this namespace",
    "RegistryUnauthorized": "see the registry's Secret (spec.registry.secretRef of Workspace/default)",
}


def building(title: str, build: Build, standing: Standing, now: float) -> tuple[Answer, float | None]:
    """What a build that runs waits for, and when to look again."""
    last = standing.last
    if last is None:
        return None, None
    name, since = last.job.metadata.name, times.rfc3339(last.started_at)
    number = f", try {last.number}" if last.number > 1 else ""
    if last.pod is None:
        if words := builds.pods_refused(build, last.job):
            if account := builds.account_missing(words):
                return _account_missing(title, last, account), None
            fix = (
                "change the quota or policy of the namespace that the message names; the pod is then created by itself"
            )
            return Refused("PodsRejected", f"{title}: the API server refuses the pod of Job {name}: {words}", fix), None
        expected = last.started_at + PODS_EXPECTED
        if now >= expected:
            fix = "see whether the cluster's kube-controller-manager runs"
            return Unavailable("Building", f"{title}: Job {name} has no pod yet, since {since}", fix), None
        return Unavailable("Building", f"{title} is being built since {since}, by Job {name}{number}", _LOG), expected
    if words := _pull_failure(last):
        fix = "see that nodes can pull builder.image of the chart's values"
        return Unavailable(
            "BuilderNotPulled", f"{title}: a node cannot pull the builder of Job {name}: {words}", fix
        ), None
    if (told := _unplaced(last)) is not None:
        expected = last.started_at + NODE_EXPECTED
        if now >= expected:
            fix = "builds need a node outside the pools with room for builder.resources, or builder.tolerations"
            return Unavailable("BuilderNotPlaced", f"{title}: the pod of Job {name} has no node: {told}", fix), None
        return Unavailable("Building", f"{title} is being built since {since}, by Job {name}{number}", _LOG), expected
    return Unavailable("Building", f"{title} is being built since {since}, by Job {name}{number}", _LOG), None


def _account_missing(title: str, last: Try, account: str) -> Refused:
    metadata = last.job.metadata
    return Refused(
        "ServiceAccountNotFound",
        f"{title}: namespace {metadata.namespace} has no ServiceAccount {account}, as which Job {metadata.name} is to build",
        f"create ServiceAccount {account}, and the pod is then created by itself; or correct spec.registry.serviceAccountName "
        "of Workspace/default",
    )


def queued(title: str, namespace: str, running: int) -> Unavailable:
    message = f"{title} has to be built, and {running} builds run in namespace {namespace} already"
    return Unavailable(
        "BuildQueued", message, "wait for one to end, or raise builder.maxPerNamespace in the chart's values"
    )


def failed(title: str, standing: Standing, place: str) -> Answer:
    """Why there is no image: for good, or until the next try. place: in the user's definition; empty for none."""
    last = standing.last
    if last is None or last.result is None:
        return None
    result, name = last.result, last.job.metadata.name
    where = f"{place}: " if place else ""
    message = f"{title}: {where}{result.message or result.reason}"
    if standing.next_at is None:
        return Refused(result.reason, message, _fix(result))
    again = times.rfc3339(standing.next_at)
    if result.reason in builds.OUTSIDE:
        return Refused(result.reason, f"{message}; it is tried again at {again}", _at_once(result))
    if last.number % builds.TRIES:
        return Unavailable(result.reason, f"{message}; Job {name} failed, the next try is at {again}", _fix(result))
    return Refused(
        result.reason,
        f"{message}; {builds.TRIES} tries failed, the next one is at {again}",
        _at_once(result),
    )


def _at_once(result: BuildResult) -> str:
    return f"{_fix(result)}; `stoker env build --again` tries it at once"


def _fix(result: BuildResult) -> str:
    return result.fix or _FIXES.get(result.reason, _LOG)


def _pull_failure(last: Try) -> str:
    for status in last.pod.status.container_statuses if last.pod else ():
        waiting = status.state.waiting
        if waiting is not None and waiting.reason in _PULL_FAILURES:
            return f"{waiting.reason}: {waiting.message}"
    return ""


def _unplaced(last: Try) -> str | None:
    """The scheduler's words about a pod without a node; None when it has one."""
    if last.pod is None or last.pod.spec.node_name:
        return None
    told = next((one for one in last.pod.status.conditions if one.type == "PodScheduled"), None)
    return told.message if told is not None and told.message else "it has not been scheduled"
