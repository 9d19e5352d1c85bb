"""Builders of what Kueue has, as the operator sees it."""

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from stoker.api import kueue
from stoker.api.kube import BatchJob
from stoker.api.trainingjob import TrainingJob
from stoker.core.trainingjob.view import QueueView
from tests.support import build

CHECK = "stoker"


def local_queue(name: str = "vision", points_to: str = "gpus", **spec: Any) -> kueue.LocalQueue:
    metadata = {"name": name, "namespace": build.NAMESPACE}
    return msgspec.convert({"metadata": metadata, "spec": {"clusterQueue": points_to, **spec}}, kueue.LocalQueue)


def cluster_queue(
    name: str = "gpus", checks: Sequence[str] = (CHECK,), inactive: tuple[str, str] | None = None, **spec: Any
) -> kueue.ClusterQueue:
    """inactive: reason and message of its condition Active, which is False then."""
    told = {"type": "Active", "status": "False", "reason": inactive[0], "message": inactive[1]} if inactive else None
    strategy = {"admissionChecks": [{"name": check} for check in checks]}
    members = {**({"admissionChecksStrategy": strategy} if checks else {}), **spec}
    whole = {"metadata": {"name": name}, "spec": members, "status": {"conditions": [told] if told else []}}
    return msgspec.convert(whole, kueue.ClusterQueue)


def workload(
    of: BatchJob,
    *conditions: tuple[str, str, str, str],
    checks: Sequence[Mapping[str, Any]] = (),
    active: bool = True,
    at: float = 5.0,
) -> kueue.Workload:
    """Kueue's record of a child. conditions: type, status, reason and message of each, since `at` seconds after T0."""
    told = [
        {"type": kind, "status": status, "reason": reason, "message": message, "lastTransitionTime": build.stamp(at)}
        for kind, status, reason, message in conditions
    ]
    return msgspec.convert(
        {
            "metadata": {"name": f"job-{of.metadata.name}", "namespace": of.metadata.namespace},
            "spec": {"active": active},
            "status": {"conditions": told, "admissionChecks": [dict(check) for check in checks]},
        },
        kueue.Workload,
    )


def queues(
    *of: tuple[BatchJob, kueue.Workload],
    local: Sequence[kueue.LocalQueue] | None = None,
    cluster: Sequence[kueue.ClusterQueue] | None = None,
    classes: Sequence[str] = tuple(kueue.PRIORITY_CLASSES.values()),
    checks: Sequence[str] = (CHECK,),
) -> QueueView:
    """What Kueue has: a LocalQueue `vision` that points to ClusterQueue `gpus`, which has Stoker's check."""
    return QueueView(
        local={one.metadata.name: one for one in ((local_queue(),) if local is None else local)},
        cluster={one.metadata.name: one for one in ((cluster_queue(),) if cluster is None else cluster)},
        checks=frozenset(checks),
        classes=frozenset(classes),
        workloads={child.metadata.uid: one for child, one in of},
    )


def queued(of: TrainingJob | None = None, *, suspended: bool = True, queue: str = "vision", **given: Any) -> BatchJob:
    """A child in a queue: it names no nodes."""
    child = build.child(of, nodes=given.pop("nodes", ()), **given)
    labels = {**child.metadata.labels, **({kueue.LABEL_QUEUE: queue} if queue else {})}
    return msgspec.structs.replace(
        child,
        metadata=msgspec.structs.replace(child.metadata, labels=labels),
        spec=msgspec.structs.replace(child.spec, suspend=suspended),
    )
