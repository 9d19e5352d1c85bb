"""Names, labels and annotations: one place, so that a thing has one name everywhere."""

import hashlib
import re
from collections.abc import Iterable

GROUP = "stoker.dev"
VERSION = "v1alpha1"
API_VERSION = f"{GROUP}/{VERSION}"
FIELD_MANAGER = "stoker"
SYSTEM_NAMESPACE = "stoker-system"
#: The phases of a run that has ended for good.
FINISHED = frozenset({"Completed", "Failed", "Canceled"})

LABEL_JOB = "stoker.dev/job"
#: On TrainingJobs and Environments that lists leave out; its value is `true`.
LABEL_ARCHIVED = "stoker.dev/archived"
LABEL_JOB_UID = "stoker.dev/job-uid"
LABEL_ATTEMPT = "stoker.dev/attempt"
#: On pods and children: the pool they were planned for. On nodes: the pool they belong to; also the pool's taint.
LABEL_COMPUTE = "stoker.dev/compute"
TAINT_COMPUTE = LABEL_COMPUTE
#: On nodes, where a queue decides when a job starts: prefix of the label `assigned.stoker.dev/<job's uid>.<attempt>`, one
#: for each attempt that has them, for some share a node. Its pods ask for it.
LABELS_ASSIGNED = "assigned.stoker.dev/"
#: Finalizer of a ComputeCluster that has machines at a provider: it goes when they have.
FINALIZER_MACHINES = "stoker.dev/machines"
#: On nodes: the machine that a node is, by its id at the provider.
LABEL_MACHINE = "stoker.dev/machine"
#: On pods: the request whose room they use, and its class.
ANNOTATION_ROOM = "autoscaling.x-k8s.io/consume-provisioning-request"
ANNOTATION_ROOM_CLASS = "autoscaling.x-k8s.io/provisioning-class-name"
#: On pods that scrub a node's scratch path: the pool. On nodes: what is known of that path (core.cluster.scrub).
LABEL_SCRUB = "stoker.dev/scrub"
ANNOTATION_SCRATCH = "stoker.dev/scratch"
#: Taint of a node that is about to go; its value says since when (seconds since the epoch).
TAINT_LEAVING = "stoker.dev/leaving"
#: Taint of a node that its provider takes back: it ends the pods there, so that they save what they have.
TAINT_PREEMPTED = "stoker.dev/preempted"
#: On children: the digest of the code that they run, and their image pinned by digest.
ANNOTATION_SNAPSHOT = "stoker.dev/snapshot"
ANNOTATION_IMAGE = "stoker.dev/image"
#: On children and their pods: for how many seconds after the start of its command an attempt has its nodes at most; missing: no limit.
ANNOTATION_LIMIT = "stoker.dev/limit-seconds"
#: On children that were given nodes ahead of the gang that was first in line: why they could be.
ANNOTATION_AHEAD = "stoker.dev/backfilled"
#: On children whose image was found or built by content: the definition's key, and where the image came from.
ANNOTATION_DEFINITION = "stoker.dev/definition-key"
ANNOTATION_SOURCE = "stoker.dev/image-source"
#: On an Environment: builds of it that failed before this moment (RFC 3339) are forgotten.
ANNOTATION_AGAIN = "stoker.dev/build-again"
#: On the Job and the pod that build an image: which one, short (core.environment.builds.label).
LABEL_BUILD = "stoker.dev/environment-build"
#: On that Job: the specKey in full, the Environment's `refresh`, a digest of the builder's settings, and whether it
#: needs BuildKit.
ANNOTATION_SPEC_KEY = "stoker.dev/spec-key"
ANNOTATION_REFRESH = "stoker.dev/refresh"
ANNOTATION_BUILDER = "stoker.dev/builder"
ANNOTATION_BUILDKIT = "stoker.dev/buildkit"
#: On the Job and the pod that save what a rank left on its scratch claim, in place of LABEL_ATTEMPT: `attempt-rank`.
LABEL_SALVAGE = "stoker.dev/salvage"
#: Set by the Job controller on each pod of an Indexed Job.
LABEL_RANK = "batch.kubernetes.io/job-completion-index"
ANNOTATION_SUBMITTED_BY = "stoker.dev/submitted-by"
#: The commit of the code that was sent, with `-dirty` behind it where files differ from it; and how they differ.
ANNOTATION_COMMIT = "stoker.dev/commit"
ANNOTATION_DIFF = "stoker.dev/diff"

#: Reserved names of ComputeClusters: the CLI's own machine, and the pool that Stoker picks.
SERVERLESS = "serverless"
RESERVED_COMPUTE = frozenset({"local", SERVERLESS})

AGENT_DIRECTORY = "/stoker"


def uid8(uid: str) -> str:
    """The first eight hex digits of a uid: short, and unique enough beside the name."""
    return uid.replace("-", "")[:8]


def job_key(name: str, uid: str) -> str:
    """`<name>-<uid8>`: the name of a run's folder in the store."""
    return f"{name}-{uid8(uid)}"


def slug(name: str, limit: int = 40) -> str:
    """A DNS label made of a name: lower case, digits and dashes, at most `limit` long.

    Two different names that would give the same slug differ by a hash, so that a slug still tells them apart.
    """
    plain = re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-") or "job"
    if plain == name and len(plain) <= limit:
        return plain
    suffix = hashlib.sha256(name.encode()).hexdigest()[:6]
    return f"{plain[: limit - 7].rstrip('-')}-{suffix}"


def assigned(uid: str, attempt: int) -> str:
    """The label on the nodes of an attempt."""
    return f"{LABELS_ASSIGNED}{uid}.{attempt}"


def assignees(labels: Iterable[str]) -> frozenset[tuple[str, int]]:
    """The attempts, each a job's uid and a number, that a node's labels name."""
    named = (label.removeprefix(LABELS_ASSIGNED) for label in labels if label.startswith(LABELS_ASSIGNED))
    parts = (name.rpartition(".") for name in named)
    return frozenset((uid, int(number)) for uid, _, number in parts if uid and number.isascii() and number.isdigit())


def child_name(name: str, uid: str, attempt: int) -> str:
    """The name of an attempt's child: the same inputs always give it, which makes its POST idempotent."""
    return f"{slug(name)[:40]}-{uid8(uid)}-{attempt}"


def salvage_name(name: str, uid: str, attempt: int, rank: int) -> str:
    """The name of the Job that saves what a rank of an attempt left on its scratch claim; no child has such a name."""
    return f"{child_name(name, uid, attempt)}-s{rank}"
