"""What lost ranks left on their scratch claims: who saves it, for how long that is waited for, and when a claim goes.

A claim that a pod brought goes with the pod. The TrainingJob is made its second owner as soon as it is seen, so it stays
until it is deleted here, or with the job.

The next attempt waits for the saving, for its checkpoints may be on the claim; but only while that can succeed. The
volume of a node without power is mostly not to be had elsewhere (a local disk never, a network disk after minutes), so
there the wait for its mount is short: docs/decisions/0003.
"""

import re
from dataclasses import dataclass

from stoker.api import names
from stoker.api.kube import BatchJob, Claim, Pod
from stoker.core import times
from stoker.core.plan import AddOwner, Posted, Refused
from stoker.core.podspec import SCRATCH
from stoker.core.trainingjob.view import JobView

#: How long a salvage pod may take until it runs, in seconds from its Job's creation: after the loss of a node, and else.
LOST_NODE_PATIENCE, MOUNT_PATIENCE = 10.0, 120.0
#: How long a salvage may take in all, in seconds.
SAVING_PATIENCE = 600.0
#: `<child>-<rank>-<five random ones>-<volume>`: the Job controller's name of the pod, then the volume's.
_NAME = re.compile(rf"-(?P<rank>0|[1-9][0-9]{{0,5}})-[a-z0-9]+-{SCRATCH}\Z")


@dataclass(frozen=True, slots=True)
class Remains:
    """What a rank that is over left on a claim. job: what saves it, once there is such a Job. over: nothing more is done
    about it. problem: why it could not be saved; empty where it was, or may be yet. look_at: when patience ends."""

    claim: Claim
    job: BatchJob | None = None
    over: bool = False
    problem: str = ""
    look_at: float | None = None


def of_rank(view: JobView, attempt: int, rank: int, pod: Pod | None, now: float, *, node_lost: bool) -> Remains | None:
    """The remains of a rank of which nothing runs any more; None where there is no claim with anything on it."""
    claim = _claim_of(view, attempt, rank, pod)
    if claim is None:
        return None
    metadata = view.job.metadata
    name = names.salvage_name(metadata.name, metadata.uid, attempt, rank)
    job = next((job for job in view.salvages if job.metadata.name == name), None)
    if job is None:
        refused = view.answers.get(Posted("Job", metadata.namespace, name))
        if isinstance(refused, Refused):
            return Remains(claim, over=True, problem=f"Job {name} was refused: {refused.message}")
        return Remains(claim)
    pod_of_it = _newest_pod(view, name)
    if ended(job):
        failed = any(one.type == "Failed" and one.status == "True" for one in job.status.conditions)
        return Remains(claim, job, over=True, problem=f"Job {name} failed{_words(pod_of_it)}" if failed else "")
    begun = pod_of_it is not None and _has_run(pod_of_it)
    patience = SAVING_PATIENCE if begun else (LOST_NODE_PATIENCE if node_lost else MOUNT_PATIENCE)
    created = times.seconds(job.metadata.creation_timestamp)
    give_up = (now if created is None else created) + patience
    if now < give_up:
        return Remains(claim, job, look_at=give_up)
    took = times.duration(patience)
    what = f"was not done within {took}" if begun else f"could not mount it within {took}"
    return Remains(claim, job, over=True, problem=f"Job {name} {what}{_words(pod_of_it)}")


def adoptions(view: JobView, attempt: int) -> tuple[AddOwner, ...]:
    """Make the job an owner of the claims of an attempt, so that they do not go with their pods."""
    metadata = view.job.metadata
    return tuple(
        AddOwner(
            "PersistentVolumeClaim", claim.metadata.namespace, claim.metadata.name, claim.metadata.uid,
            owner_kind="TrainingJob", owner_name=metadata.name, owner_uid=metadata.uid,
        )
        for claim in own_claims(view)
        if attempt_of(claim) == attempt and not _is_owned(claim, metadata.uid)
    )  # fmt: skip


def own_claims(view: JobView, *, going: bool = False) -> tuple[Claim, ...]:
    """The scratch claims of the job; with `going` those too that are being deleted. Labels are not enough for what will be deleted: the
    name must be one that Kubernetes gives to the volume of a child's pod, and a pod or the job its owner."""
    uid = view.job.metadata.uid
    return tuple(
        claim
        for claim in view.claims
        if (going or claim.metadata.deletion_timestamp is None)
        and attempt_of(claim)
        and rank_of(claim) is not None
        and (_is_owned(claim, uid) or _brought_by_a_pod(claim))
    )


def attempt_of(claim: Claim) -> int:
    """The attempt that a claim is of; 0 for none."""
    text = claim.metadata.labels.get(names.LABEL_ATTEMPT, "")
    return int(text) if text.isascii() and text.isdigit() else 0


def rank_of(claim: Claim) -> int | None:
    """The rank that a claim is of: its label cannot say, for one template makes the pods of all ranks."""
    found = _NAME.search(claim.metadata.name)
    return int(found["rank"]) if found else None


def ended(job: BatchJob) -> bool:
    """Whether a salvage has ended, or is ended by somebody."""
    over = (one for one in job.status.conditions if one.type in ("Complete", "Failed"))
    return job.metadata.deletion_timestamp is not None or any(one.status == "True" for one in over)


def label(attempt: int, rank: int) -> str:
    """The value of LABEL_SALVAGE."""
    return f"{attempt}-{rank}"


def salvaged_attempt(job: BatchJob) -> int:
    """The attempt that a salvage Job is for; 0 for none."""
    text = job.metadata.labels.get(names.LABEL_SALVAGE, "").partition("-")[0]
    return int(text) if text.isascii() and text.isdigit() else 0


def _claim_of(view: JobView, attempt: int, rank: int, pod: Pod | None) -> Claim | None:
    """A rank's claim with a volume; of two for one rank (the Job controller replaced its pod) that of `pod`, else the
    younger."""
    mine = [
        claim
        for claim in own_claims(view)
        if attempt_of(claim) == attempt and rank_of(claim) == rank and claim.status.phase == "Bound"
    ]
    name = f"{pod.metadata.name}-{SCRATCH}" if pod else ""
    return max(
        mine, key=lambda one: (one.metadata.name == name, one.metadata.creation_timestamp, one.metadata.name),
        default=None,
    )  # fmt: skip


def _is_owned(claim: Claim, uid: str) -> bool:
    return any(owner.uid == uid for owner in claim.metadata.owner_references)


def _brought_by_a_pod(claim: Claim) -> bool:
    controller = claim.metadata.controller
    return (
        controller is not None
        and controller.kind == "Pod"
        and f"{controller.name}-{SCRATCH}" == claim.metadata.name
    )  # fmt: skip


def _newest_pod(view: JobView, job: str) -> Pod | None:
    pods = (pod for pod in view.salvage_pods if pod.metadata.name.startswith(f"{job}-"))
    return max(pods, key=lambda pod: (pod.metadata.creation_timestamp, pod.metadata.uid), default=None)


def _has_run(pod: Pod) -> bool:
    states = (status.state for status in pod.status.container_statuses)
    return any(state.running is not None or state.terminated is not None for state in states)


def _words(pod: Pod | None) -> str:
    """What Kubernetes says of a salvage pod that did not do it, with a colon before; empty where it says nothing."""
    if pod is None:
        return ""
    ends = (status.state.terminated for status in pod.status.container_statuses)
    told = next((end.message.strip() for end in ends if end is not None and end.message.strip()), "")
    unplaced = (one.message for one in pod.status.conditions if one.type == "PodScheduled" and one.status == "False")
    words = told or next(unplaced, "") or pod.status.message
    return f": {words[:1000]}" if words else ""
