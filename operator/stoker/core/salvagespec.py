"""The Job that saves what a lost rank left on its scratch claim, from values to a manifest."""

from dataclasses import dataclass
from typing import Any

from stoker.api import names
from stoker.api.common import PodShape, Toleration
from stoker.api.trainingjob import TrainingJob
from stoker.core import podshape, podspec

#: Nothing is asked for: it must fit beside whatever has the node by then, and takes little for a short time.
REQUESTS: dict[str, str] = {"cpu": "0", "memory": "0"}
#: A salvage pod that is itself cut off is tried again so often; each goes on where the one before was.
TRIES_AGAIN = 3
#: The volume may be on this one node alone, which is being emptied.
CORDONED = Toleration(key="node.kubernetes.io/unschedulable", operator="Exists", effect="NoSchedule")


@dataclass(frozen=True, slots=True)
class SalvagePlan:
    """What a salvage is made from. claim: name of the PersistentVolumeClaim. reason, message: why the rank is lost, for
    the exit record if its launcher left none. compute: the pool the rank was planned for. shape: of the job's pods.
    seconds: after which it is ended. agent_image, server_url, pods_after_seconds, pull_secrets: as in a ChildPlan."""

    job: TrainingJob
    attempt: int
    rank: int
    claim: str
    reason: str
    message: str
    compute: str
    shape: PodShape
    seconds: float
    agent_image: str
    server_url: str
    pods_after_seconds: int = 3600
    pull_secrets: tuple[str, ...] = ()


def make_salvage(plan: SalvagePlan) -> dict[str, Any]:
    """A batch/v1 Job of one pod, on any node that has the volume."""
    metadata = plan.job.metadata
    labels = {
        names.LABEL_JOB: metadata.name,
        names.LABEL_JOB_UID: metadata.uid,
        # Not LABEL_ATTEMPT: it is no child, takes no node of the pool, and says nothing of how the attempt goes.
        names.LABEL_SALVAGE: f"{plan.attempt}-{plan.rank}",
        names.LABEL_COMPUTE: plan.compute,
    }
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {
            "name": names.salvage_name(metadata.name, metadata.uid, plan.attempt, plan.rank),
            "namespace": metadata.namespace,
            "labels": labels,
            "ownerReferences": [podspec.owned_by(plan.job)],
        },
        "spec": {
            "completionMode": "Indexed",
            "completions": 1,
            "parallelism": 1,
            "backoffLimit": TRIES_AGAIN,
            "activeDeadlineSeconds": int(plan.seconds),
            "ttlSecondsAfterFinished": plan.pods_after_seconds,
            "template": {"metadata": {"labels": labels}, "spec": _pod(plan)},
        },
    }


def _pod(plan: SalvagePlan) -> dict[str, Any]:
    shape, command = plan.shape, plan.job.spec.command
    pool = Toleration(key=names.TAINT_COMPUTE, value=plan.compute, effect="NoSchedule")
    secrets = (*plan.pull_secrets, *(secret.name for secret in shape.image_pull_secrets))
    optional = {
        "imagePullSecrets": [{"name": name} for name in dict.fromkeys(secrets)],
        "serviceAccountName": command.service_account_name if command else None,
        "priorityClassName": shape.priority_class_name,
    }
    return {
        "restartPolicy": "Never",
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "terminationGracePeriodSeconds": plan.job.spec.limits.grace_seconds,
        "securityContext": podshape.security_context(shape),
        "tolerations": podshape.tolerations(shape.tolerations, (pool, CORDONED)),
        "volumes": [
            {"name": podspec.SCRATCH, "persistentVolumeClaim": {"claimName": plan.claim}},
            podspec.token_volume(),
        ],
        "containers": [_salvage(plan)],
        **{name: value for name, value in optional.items() if value},
    }


def _salvage(plan: SalvagePlan) -> dict[str, Any]:
    told = ["--lost-as", plan.reason, "--lost-message", plan.message[:1000]]
    return {
        "name": "salvage",
        "image": plan.agent_image,
        "args": ["salvage", *(podspec.literal(text) for text in told)],
        "env": [
            {"name": "STOKER_SERVER", "value": plan.server_url},
            {"name": "STOKER_ATTEMPT", "value": str(plan.attempt)},
            {"name": "STOKER_RANK", "value": str(plan.rank)},
        ],
        "resources": {"requests": dict(REQUESTS), "limits": dict(podspec.AGENT_LIMITS)},
        "securityContext": podshape.container_security(plan.shape),
        "terminationMessagePolicy": "FallbackToLogsOnError",
        "volumeMounts": podspec.agent_mounts(),
    }
