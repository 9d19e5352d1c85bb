"""Builders of objects and views for tests: the ordinary case by default, so that a test shows only what matters to it."""

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from stoker.api import names
from stoker.api.computecluster import ComputeCluster
from stoker.api.environment import Environment
from stoker.api.kube import BatchJob, Claim, Event, Node, Pod
from stoker.api.trainingjob import TrainingJob, TrainingJobStatus
from stoker.core import times
from stoker.core.inputdigest import ListedFile
from stoker.core.plan import (
    Answer,
    CloseRank,
    Found,
    ImageDigest,
    InlineSnapshot,
    InputFiles,
    NameHolder,
    Question,
    Recorded,
    ResultWritten,
    Seals,
    SnapshotPresent,
)
from stoker.core.podspec import SCRATCH
from stoker.core.trainingjob.view import JobView, Placement, Settings, WorkspaceView

#: When the tests' jobs are created: seconds since the epoch.
T0 = 1_700_000_000.0
NAMESPACE = "team"
STORAGE = "s3://runs/team"
SNAPSHOT = "sha256:" + "a" * 64
DIGEST = "sha256:" + "b" * 64
IMAGE = "registry.example.com/ml/iris:1"
PINNED = f"registry.example.com/ml/iris@{DIGEST}"
UID = "0c0ffee0-0000-4000-8000-000000000001"
KEY = "iris-0c0ffee0"


def stamp(after: float) -> str:
    """The RFC 3339 time so many seconds after T0."""
    return times.rfc3339(T0 + after)


#: What lies under every input's path.
INPUT_FILES: tuple[ListedFile, ...] = (("data/a.csv", "a.csv", 7, "e1"),)


def job(
    name: str = "iris",
    *,
    annotations: Mapping[str, str] | None = None,
    nodes: int = 1,
    compute: str | None = "cpu",
    uid: str = UID,
    created: float = 0.0,
    command: Mapping[str, Any] | None = None,
    status: Mapping[str, Any] | TrainingJobStatus | None = None,
    namespace: str = NAMESPACE,
    **spec: Any,
) -> TrainingJob:
    """A TrainingJob with code, an image and one node. command: members of spec.command to add or replace; spec:
    members of spec."""
    block = {
        "command": "python train.py",
        "code": {"snapshot": SNAPSHOT},
        "environment": {"spec": {"image": IMAGE}},
        "resources": {"instanceCount": nodes},
        **(command or {}),
    }
    members: dict[str, Any] = {"command": block, **({"compute": compute} if compute else {}), **spec}
    built = msgspec.convert(
        {
            "metadata": {
                "name": name, "namespace": namespace, "uid": uid, "generation": 1, "creationTimestamp": stamp(created),
                "annotations": dict(annotations or {}),
            },
            "spec": members,
        },
        TrainingJob,
    )  # fmt: skip
    if status is None:
        return built
    whole = status if isinstance(status, TrainingJobStatus) else msgspec.convert(dict(status), TrainingJobStatus)
    return msgspec.structs.replace(built, status=whole)


def cluster(
    name: str = "cpu",
    *,
    provider: str = "Scale",
    most: int = 4,
    least: int = 0,
    idle: int = 120,
    resources: Mapping[str, str] | None = None,
    status: Mapping[str, Any] | None = None,
    **spec: Any,
) -> ComputeCluster:
    """A ComputeCluster of one instance type `m` with 4 CPUs and 16 GiB."""
    selector = {"pool": name}
    blocks: dict[str, dict[str, Any]] = {
        "Static": {"type": "Static", "static": {"nodeSelector": selector}},
        "Scale": {
            "type": "Scale",
            "scale": {"apiVersion": "lab.stoker.dev/v1", "kind": "NodePool", "name": name, "nodeSelector": selector},
        },
        "External": {"type": "External", "external": {"nodeSelector": selector}},
        "Kwok": {"type": "Kwok", "kwok": {}},
        "ProvisioningRequest": {
            "type": "ProvisioningRequest",
            "provisioningRequest": {"className": "check-capacity.autoscaling.x-k8s.io", "nodeSelector": selector},
        },
    }
    members: dict[str, Any] = {
        "provider": blocks[provider],
        "maxInstances": most,
        "minInstances": least,
        "idleSecondsBeforeScaleDown": idle,
        "allowedNamespaces": {},
        "instanceTypes": [{"name": "m", "resources": dict(resources or {"cpu": "4", "memory": "16Gi"})}],
        **spec,
    }
    metadata = {"name": name, "uid": f"uid-{name}", "generation": 1, "creationTimestamp": stamp(-1000)}
    return msgspec.convert({"metadata": metadata, "spec": members, "status": dict(status or {})}, ComputeCluster)


def environment(name: str = "torch", *, image: str | None = IMAGE, **spec: Any) -> Environment:
    """An Environment of one image."""
    metadata = {"name": name, "namespace": NAMESPACE, "uid": f"uid-{name}", "generation": 1}
    return msgspec.convert({"metadata": metadata, "spec": {"image": image, **spec}}, Environment)


PRESSURES = ("MemoryPressure", "DiskPressure", "PIDPressure")


def node(
    name: str = "n0",
    *,
    ready: str = "True",
    since: float = -100.0,
    created: float = -100.0,
    pool: str = "cpu",
    taints: Sequence[Mapping[str, str]] = (),
    labels: Mapping[str, str] | None = None,
    annotations: Mapping[str, str] | None = None,
    allocatable: Mapping[str, str] | None = None,
    cordoned: bool = False,
    reason: str = "KubeletReady",
    pressure: str = "",
) -> Node:
    """A node that pool `pool` has adopted. since: when its readiness last changed, in seconds after T0. pressure: what
    it is short of, as DiskPressure."""
    return msgspec.convert(
        {
            "metadata": {
                "name": name,
                "labels": {names.LABEL_COMPUTE: pool, "pool": pool, **(labels or {})},
                "annotations": dict(annotations or {}),
                "creationTimestamp": stamp(created),
            },
            "spec": {
                "unschedulable": cordoned,
                "taints": [{"key": names.TAINT_COMPUTE, "value": pool, "effect": "NoSchedule"}, *taints],
            },
            "status": {
                "allocatable": dict(allocatable or {"cpu": "4", "memory": "16Gi"}),
                "conditions": [
                    {"type": "Ready", "status": ready, "reason": reason, "lastTransitionTime": stamp(since)},
                    *({"type": one, "status": "True" if one == pressure else "False"} for one in PRESSURES),
                ],
            },
        },
        Node,
    )


def leaving(since: float) -> dict[str, str]:
    """The taint of a node that is about to go, set so many seconds after T0."""
    return {"key": names.TAINT_LEAVING, "value": str(int(T0 + since)), "effect": "NoSchedule"}


def _labels(attempt: int, owner: TrainingJob, compute: str) -> dict[str, str]:
    return {
        names.LABEL_JOB: owner.metadata.name,
        names.LABEL_JOB_UID: owner.metadata.uid,
        names.LABEL_ATTEMPT: str(attempt),
        names.LABEL_COMPUTE: compute,
    }


def child(
    of: TrainingJob | None = None,
    *,
    attempt: int = 1,
    nodes: Sequence[str] = ("n0",),
    created: float = 1.0,
    ended: str = "",
    deleting: bool = False,
    compute: str = "cpu",
    ttl: int = 3600,
) -> BatchJob:
    """The child of an attempt. ended: Complete or Failed once the Job controller is done with it. ttl: seconds that it
    stays then."""
    owner = of or job()
    ranks = owner.spec.command.resources.instance_count if owner.spec.command else 1
    terms = [{"matchFields": [{"key": "metadata.name", "operator": "In", "values": [name]}]} for name in nodes]
    required = {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": terms}}
    name = names.child_name(owner.metadata.name, owner.metadata.uid, attempt)
    return msgspec.convert(
        {
            "metadata": {
                "name": name,
                "namespace": owner.metadata.namespace,
                "uid": f"uid-{name}",
                "creationTimestamp": stamp(created),
                "deletionTimestamp": stamp(created) if deleting else None,
                "labels": _labels(attempt, owner, compute),
                "annotations": {names.ANNOTATION_SNAPSHOT: SNAPSHOT, names.ANNOTATION_IMAGE: PINNED},
            },
            "spec": {
                "completions": ranks,
                "ttlSecondsAfterFinished": ttl,
                "template": {"spec": {"affinity": {"nodeAffinity": required}}} if nodes else {},
            },
            "status": {"conditions": [{"type": ended, "status": "True"}] if ended else []},
        },
        BatchJob,
    )


def pod(
    rank: int = 0,
    of: TrainingJob | None = None,
    *,
    attempt: int = 1,
    on: str = "n0",
    started: float | None = None,
    saving: float | None = None,
    exit_code: int | None = None,
    ended: float | None = None,
    phase: str | None = None,
    main: Mapping[str, Any] | None = None,
    fetch: Mapping[str, Any] | None = None,
    ship: Mapping[str, Any] | None = None,
    reason: str = "",
    message: str = "",
    conditions: Sequence[Mapping[str, str]] = (),
    created: float = 2.0,
    compute: str = "cpu",
) -> Pod:
    """A rank's pod: pending; running from `started`; its command over from `saving`; ended at `ended` with `exit_code`.

    main, fetch, ship: another state of these containers. All times in seconds after T0.
    """
    owner = of or job()
    state: dict[str, Any] = {"waiting": {"reason": "PodInitializing"}}
    if started is not None:
        state = {"running": {"startedAt": stamp(started)}}
    if exit_code is not None:
        state = {
            "terminated": {
                "exitCode": exit_code,
                "startedAt": stamp(started if started is not None else created),
                "finishedAt": stamp(ended if ended is not None else created + 10),
            }
        }
    told = phase or ("Running" if started is not None and exit_code is None else "Pending")
    if exit_code is not None and phase is None:
        told = "Failed" if exit_code else "Succeeded"
    ready = [{"type": "Ready", "status": "False", "lastTransitionTime": stamp(saving)}] if saving is not None else []
    name = f"{names.child_name(owner.metadata.name, owner.metadata.uid, attempt)}-{rank}-x"
    return msgspec.convert(
        {
            "metadata": {
                "name": name,
                "namespace": owner.metadata.namespace,
                "uid": f"uid-{name}",
                "creationTimestamp": stamp(created),
                "labels": {**_labels(attempt, owner, compute), names.LABEL_RANK: str(rank)},
            },
            "spec": {"nodeName": on},
            "status": {
                "phase": told,
                "reason": reason,
                "message": message,
                "startTime": stamp(created),
                "conditions": [*ready, *conditions],
                "initContainerStatuses": [
                    {
                        "name": "ship",
                        "ready": saving is None,
                        "state": dict(ship or {"running": {"startedAt": stamp(created)}}),
                    },
                    {"name": "fetch", "state": dict(fetch or {})},
                ],
                "containerStatuses": [{"name": "main", "state": dict(main or state)}],
            },
        },
        Pod,
    )


def claim(
    rank: int = 0,
    of: TrainingJob | None = None,
    *,
    attempt: int = 1,
    phase: str = "Bound",
    owned: bool = True,
    pod: str = "",
    deleting: bool = False,
    compute: str = "cpu",
    name: str = "",
) -> Claim:
    """The scratch claim of a rank's pod. owned: whether the job is its second owner. pod: the name of the pod that
    brought it and is still there; name: another one than Kubernetes would give it."""
    owner = of or job()
    brought = pod or f"{names.child_name(owner.metadata.name, owner.metadata.uid, attempt)}-{rank}-x"
    called = name or f"{brought}-{SCRATCH}"
    owners = [{"kind": "Pod", "name": brought, "uid": f"uid-{brought}", "controller": True}] if pod or not owned else []
    second = {"kind": "TrainingJob", "name": owner.metadata.name, "uid": owner.metadata.uid}
    return msgspec.convert(
        {
            "metadata": {
                "name": called,
                "namespace": owner.metadata.namespace,
                "uid": f"uid-{called}",
                "creationTimestamp": stamp(2),
                "deletionTimestamp": stamp(50) if deleting else None,
                "labels": _labels(attempt, owner, compute),
                "ownerReferences": [*owners, *([second] if owned else [])],
            },
            "status": {"phase": phase},
        },
        Claim,
    )


def salvage(
    rank: int = 0, of: TrainingJob | None = None, *, attempt: int = 1, created: float = 20.0, ended: str = "",
    deleting: bool = False,
) -> BatchJob:  # fmt: skip
    """The Job that saves what a rank left. ended: Complete or Failed."""
    owner = of or job()
    name = names.salvage_name(owner.metadata.name, owner.metadata.uid, attempt, rank)
    return msgspec.convert(
        {
            "metadata": {
                "name": name,
                "namespace": owner.metadata.namespace,
                "uid": f"uid-{name}",
                "creationTimestamp": stamp(created),
                "deletionTimestamp": stamp(created) if deleting else None,
                "labels": {
                    names.LABEL_JOB: owner.metadata.name,
                    names.LABEL_JOB_UID: owner.metadata.uid,
                    names.LABEL_SALVAGE: f"{attempt}-{rank}",
                },
            },
            "status": {"conditions": [{"type": ended, "status": "True"}] if ended else []},
        },
        BatchJob,
    )


def salvage_pod(
    of: BatchJob, *, running: bool = False, exit_message: str | None = None, unplaced: str = "", on: str = "n0"
) -> Pod:
    """The pod of a salvage: pending, running, or ended with a termination message. unplaced: the scheduler's words."""
    state: dict[str, Any] = {"waiting": {"reason": "ContainerCreating"}}
    if running:
        state = {"running": {"startedAt": stamp(21)}}
    if exit_message is not None:
        state = {"terminated": {"exitCode": 1, "message": exit_message}}
    refused = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": unplaced}
    return msgspec.convert(
        {
            "metadata": {
                "name": f"{of.metadata.name}-0-x",
                "namespace": of.metadata.namespace,
                "uid": f"uid-{of.metadata.name}-0-x",
                "labels": dict(of.metadata.labels),
            },
            "spec": {"nodeName": on},
            "status": {
                "phase": "Running" if running else "Pending",
                "conditions": [refused] if unplaced else [],
                "containerStatuses": [{"name": "salvage", "state": state}],
            },
        },
        Pod,
    )


def rejected(message: str, at: float = 2.0) -> Event:
    """A FailedCreate event of a child."""
    metadata = {"name": "e", "creationTimestamp": stamp(at)}
    return msgspec.convert(
        {"metadata": metadata, "reason": "FailedCreate", "message": message, "type": "Warning"}, Event
    )


def exit_record(
    code: int | None = 0, *, reason: str | None = None, message: str = "", tail: str = "", at: float = 12.0
) -> dict[str, Any]:
    """What launch says of a command's end."""
    return {
        "version": 1, "code": code, "signal": None, "reason": reason, "message": message,
        "startedAt": stamp(3), "finishedAt": stamp(at), "logBytes": len(tail), "logTail": tail,
    }  # fmt: skip


def seal(
    rank: int = 0,
    code: int | None = 0,
    *,
    complete: bool = True,
    reason: str | None = None,
    message: str = "",
    exit: Mapping[str, Any] | None = None,
    files: Sequence[tuple[str, int]] = (("outputs/model.pkl", 12), ("logs/std_log.txt", 40)),
    at: float = 13.0,
    attempt: int = 1,
) -> dict[str, Any]:
    """A rank's seal.json, of a command that ended with `code`."""
    return {
        "version": 1, "job": KEY, "attempt": attempt, "rank": rank, "complete": complete,
        "reason": reason, "message": message,
        "exit": dict(exit) if exit is not None else (exit_record(code) if code is not None else None),
        "files": [{"path": path, "size": size, "sha256": "c" * 64} for path, size in files],
        "missing": [], "sealedAt": stamp(at), "sealedBy": "server",
    }  # fmt: skip


class Answering(dict[Question, Answer]):
    """Answers of a world in which everything is found. Given answers win; what is in `silent` is not answered yet.

    seals: by rank, what the store has. recorded, result: what is stored in place of what is asked to be stored.
    """

    def __init__(
        self,
        given: Mapping[Question, Answer] | None = None,
        *,
        silent: Sequence[type] = (),
        seals: Mapping[int, Mapping[str, Any]] | None = None,
    ) -> None:
        super().__init__(given or {})
        self.silent = tuple(silent)
        self.seals = dict(seals or {})
        self.results: dict[str, Any] = {}

    def __contains__(self, question: object) -> bool:
        return self.get(question) is not None

    def get(self, question: Any, default: Any = None) -> Any:
        if question in self.keys():
            return super().get(question)
        if isinstance(question, self.silent):
            return default
        match question:
            case SnapshotPresent():
                return Found(True)
            case InlineSnapshot():
                return Found(SNAPSHOT)
            case InputFiles():
                return Found(INPUT_FILES)
            case ImageDigest():
                return Found(PINNED)
            case Recorded() | ResultWritten():
                text = question.record if isinstance(question, Recorded) else question.result
                return Found(self.results.setdefault(f"{type(question).__name__}/{question.key}", _decoded(text)))
            case NameHolder(key=key):
                return Found({"key": key})
            case Seals():
                return Found(
                    {
                        rank: seal
                        for rank, seal in self.seals.items()
                        if rank < question.ranks and seal.get("attempt", 1) == question.attempt
                    }
                )
            case CloseRank():
                return Found(self.seals[question.rank]) if question.rank in self.seals else default
        return default


def _decoded(text: str) -> Any:
    return msgspec.json.decode(text) if text else {}


def view(
    of: TrainingJob | None = None,
    *,
    on: ComputeCluster | None = None,
    without_cluster: bool = False,
    answers: Mapping[Question, Answer] | None = None,
    nodes: Sequence[Node] | None = None,
    placed: Sequence[str] | None = None,
    placement: Placement | None = None,
    workspace: WorkspaceView | None = None,
    **members: Any,
) -> JobView:
    """What the planner of a job sees: everything found, a node `n0`, nothing running. placed: the nodes that the pool's
    plan gives it."""
    given = [node("n0"), node("n1")] if nodes is None else nodes
    if placed is not None:
        placement = Placement(granted=True, nodes=tuple(placed))
    return JobView(
        job=of or job(),
        settings=Settings(agent_image="registry.example.com/stoker-agent:1", server_url="http://stoker-server:8080"),
        workspace=workspace or WorkspaceView(storage_url=STORAGE),
        cluster=None if without_cluster else (on or cluster()),
        clusters=members.pop("clusters", ("cpu", "gpu")),
        placement=placement,
        nodes={each.metadata.name: each for each in given},
        answers=Answering() if answers is None else answers,
        **members,
    )
