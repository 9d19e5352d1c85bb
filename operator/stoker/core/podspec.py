"""The objects of one attempt, from values to manifests: an Indexed Job and, for several nodes, their headless Service.

The same values always give the same manifests. What runs is taken from the job's record (job.json), where it was
pinned; how it runs from the TrainingJob and its pool.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import msgspec

from stoker.api import names
from stoker.api.common import PodShape, Toleration
from stoker.api.computecluster import ComputeCluster, InstanceType
from stoker.api.kueue import LABEL_PRIORITY_CLASS, LABEL_QUEUE, PRIORITY_CLASSES
from stoker.api.trainingjob import CommandJob, TrainingJob
from stoker.core import podrequests, podshape, record, units
from stoker.runtime import wire

SCRATCH, TOKEN, SHM = "stoker-scratch", "stoker-token", "stoker-shm"
TOKEN_DIRECTORY = "/var/run/stoker"
TOKEN_SECONDS = 600
READY_PORT = 8079
WORK = f"{names.AGENT_DIRECTORY}/work"
#: Above this the list of hosts would not fit into one environment variable (128 KiB); ranks can still make the names.
MOST_HOSTS = 1000
#: What our two containers ask for. No CPU limit: throttled, saving would take longer than training's grace.
AGENT_REQUESTS: dict[str, str] = {"cpu": "50m", "memory": "64Mi"}
AGENT_LIMITS: dict[str, str] = {"memory": "512Mi"}
#: Of the size of scratch: the use at which the kubelet evicts.
EVICTED_ABOVE = Fraction(11, 10)


@dataclass(frozen=True, slots=True)
class ChildPlan:
    """What one attempt is made from.

    record: job.json as stored. instance_type: of the nodes, by name; None: the pool's first. nodes: one per rank, empty on
    a pool that owns no nodes. agent_image, server_url: the operator's settings. pods_after_seconds: how long pods stay once
    they have ended. pull_secrets: of the environment, the workspace and the operator. limit_seconds: for how long it has its
    nodes at most, once its command has started. ahead: why it was given nodes before others whose turn it was.
    queue: the LocalQueue of Kueue's that decides when it starts; empty for none.
    """

    job: TrainingJob
    record: Mapping[str, Any]
    attempt: int
    cluster: ComputeCluster
    agent_image: str
    server_url: str
    pods_after_seconds: int = 3600
    instance_type: str | None = None
    nodes: tuple[str, ...] = ()
    pull_secrets: tuple[str, ...] = ()
    limit_seconds: int | None = None
    ahead: str = ""
    queue: str = ""

    @property
    def name(self) -> str:
        return names.child_name(self.job.metadata.name, self.job.metadata.uid, self.attempt)

    @property
    def command(self) -> CommandJob:
        assert self.job.spec.command is not None, "type command has its block: the CRD's rule"
        return self.job.spec.command

    @property
    def ranks(self) -> int:
        return self.command.resources.instance_count

    @property
    def image(self) -> str:
        """What `main` runs, pinned by digest."""
        image = self.record.get("image") or {}
        return pinned_image(str(image.get("reference") or ""), str(image.get("digest") or ""))

    @property
    def labels(self) -> dict[str, str]:
        return {
            names.LABEL_JOB: self.job.metadata.name,
            names.LABEL_JOB_UID: self.job.metadata.uid,
            names.LABEL_ATTEMPT: str(self.attempt),
            names.LABEL_COMPUTE: self.cluster.metadata.name,
        }

    @property
    def shape(self) -> PodShape:
        return podshape.merged(self.command.pod, self.cluster.spec.pod_defaults)


def make_child(child: ChildPlan) -> dict[str, Any]:
    """The batch/v1 Job of an attempt: one pod for each rank, each pod at most once."""
    shape = child.shape
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {
            **_in_queue(_metadata(child), child),
            "annotations": {
                names.ANNOTATION_IMAGE: child.image,
                names.ANNOTATION_SNAPSHOT: str(child.record.get("snapshot") or ""),
                **_found_by(child),
                **_limit(child),
                **({names.ANNOTATION_AHEAD: child.ahead} if child.ahead else {}),
            },
        },
        "spec": {
            # Kueue alone lets it run.
            **({"suspend": True} if child.queue else {}),
            "completionMode": "Indexed",
            "completions": child.ranks,
            "parallelism": child.ranks,
            # A pod that failed is not made again: another try is another attempt, with its own name and folder.
            "backoffLimit": 0,
            "podReplacementPolicy": "Failed",
            "ttlSecondsAfterFinished": child.pods_after_seconds,
            "template": {
                "metadata": {
                    "labels": {**shape.labels, **child.labels},
                    **({"annotations": annotations} if (annotations := _annotations(child, shape)) else {}),
                },
                "spec": _pod(child, shape),
            },
        },
    }


def _annotations(child: ChildPlan, shape: PodShape) -> dict[str, str]:
    """What the pods carry: the user's and the pool's, how long they may run, and whose room they use, where that was
    asked for."""
    room = child.cluster.spec.provider.provisioning_request
    asked = {} if room is None else {names.ANNOTATION_ROOM: child.name, names.ANNOTATION_ROOM_CLASS: room.class_name}
    return {**shape.annotations, **_limit(child), **asked}


def _limit(child: ChildPlan) -> dict[str, str]:
    return {} if child.limit_seconds is None else {names.ANNOTATION_LIMIT: str(child.limit_seconds)}


def _found_by(child: ChildPlan) -> dict[str, str]:
    """By what the image was found or built; nothing for one that is run as it is."""
    told = child.record.get("environment") or {}
    wanted = (
        (names.ANNOTATION_DEFINITION, "definitionKey"),
        (names.ANNOTATION_SPEC_KEY, "specKey"),
        (names.ANNOTATION_SOURCE, "source"),
    )
    return {name: str(told[member]) for name, member in wanted if told.get(member)}


def make_service(child: ChildPlan) -> dict[str, Any]:
    """The headless Service that gives each rank a name while it runs, also before it is ready."""
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": _metadata(child),
        "spec": {
            "clusterIP": "None",
            "publishNotReadyAddresses": True,
            "selector": {
                names.LABEL_JOB_UID: child.job.metadata.uid,
                names.LABEL_ATTEMPT: str(child.attempt),
            },
        },
    }


def pinned_image(reference: str, digest: str) -> str:
    """An image reference with its tag or digest replaced by `digest`."""
    plain = reference.partition("@")[0]
    folder, slash, last = plain.rpartition("/")
    return f"{folder}{slash}{last.partition(':')[0]}@{digest}"


def instance_type(cluster: ComputeCluster, name: str | None) -> InstanceType | None:
    """The pool's type of this name, its first for None; None if it has no such type."""
    types = cluster.spec.instance_types
    if name is None:
        return types[0] if types else None
    return next((kind for kind in types if kind.name == name), None)


def requests(child: ChildPlan) -> dict[str, str]:
    """What `main` asks for and is limited to."""
    return main_requests(child.command, child.cluster, child.instance_type)


def main_requests(command: CommandJob, cluster: ComputeCluster, named: str | None) -> dict[str, str]:
    """What the user said, else the whole node less what others need there. named: the type of the nodes, as in a
    ChildPlan."""
    if command.resources.requests:
        return dict(command.resources.requests)
    kind = instance_type(cluster, named)
    return units.less(kind.resources, cluster.spec.node_reserve, AGENT_REQUESTS) if kind else {}


def pod_requests(main: Mapping[str, str]) -> dict[str, Fraction]:
    """What a whole pod asks of its node when the command asks for `main`: ship beside the larger of fetch, which comes
    before the command, and the command."""
    ours = {"resources": {"requests": AGENT_REQUESTS}}
    pod = {
        "initContainers": [{**ours, "restartPolicy": "Always"}, ours],
        "containers": [{"resources": {"requests": main}}],
    }
    return podrequests.of_pod(pod)


def host(child: ChildPlan, rank: int) -> str:
    """The name under which the other ranks reach a rank."""
    return "localhost" if child.ranks == 1 else f"{child.name}-{rank}.{child.name}"


def owned_by(job: TrainingJob) -> dict[str, Any]:
    """The owner reference of what a job's plan makes."""
    metadata = job.metadata
    return {
        "apiVersion": names.API_VERSION,
        "kind": "TrainingJob",
        "name": metadata.name,
        "uid": metadata.uid,
        "controller": True,
    }


def _metadata(child: ChildPlan) -> dict[str, Any]:
    return {
        "name": child.name,
        "namespace": child.job.metadata.namespace,
        "labels": child.labels,
        "ownerReferences": [owned_by(child.job)],
    }


def _in_queue(metadata: dict[str, Any], child: ChildPlan) -> dict[str, Any]:
    """The Job's metadata with its queue and its place there; the Service and the pods are in none."""
    if not child.queue:
        return metadata
    priority = PRIORITY_CLASSES[child.job.spec.queue.priority]
    return {**metadata, "labels": {**metadata["labels"], LABEL_QUEUE: child.queue, LABEL_PRIORITY_CLASS: priority}}


def _pod(child: ChildPlan, shape: PodShape) -> dict[str, Any]:
    provider = child.cluster.spec.provider
    kind = instance_type(child.cluster, child.instance_type)
    selector = dict(shape.node_selector)
    if not child.cluster.spec.provider.owns_nodes:
        # An image is pinned for one architecture; nodes that we do not choose must have it.
        selector = {
            **({"kubernetes.io/arch": kind.architecture} if kind else {}),
            **selector,
            **provider.node_selector,
        }
    pool = Toleration(key=names.TAINT_COMPUTE, value=child.cluster.metadata.name, effect="NoSchedule")
    secrets = (*child.pull_secrets, *(secret.name for secret in shape.image_pull_secrets))
    optional = {
        "nodeSelector": selector,
        "imagePullSecrets": [{"name": name} for name in dict.fromkeys(secrets)],
        "serviceAccountName": child.command.service_account_name,
        "runtimeClassName": shape.runtime_class_name,
        "priorityClassName": shape.priority_class_name,
        "subdomain": child.name if child.ranks > 1 else None,
        **_placement(child),
    }
    return {
        "restartPolicy": "Never",
        "automountServiceAccountToken": False,
        # A namespace's services would else fill the command's environment.
        "enableServiceLinks": False,
        "terminationGracePeriodSeconds": child.job.spec.limits.grace_seconds,
        "securityContext": podshape.security_context(shape),
        "tolerations": podshape.tolerations(shape.tolerations, (pool,)),
        "volumes": _volumes(child, shape),
        "initContainers": [_ship(child, shape), _fetch(child, shape)],
        "containers": [_main(child, shape)],
        **{name: value for name, value in optional.items() if value},
    }


def _placement(child: ChildPlan) -> dict[str, Any]:
    """At most one rank on each of the attempt's nodes: the decision of the pool's plan, made durable here."""
    # In a queue the nodes come later: Kueue adds their label, which our check returns, to the node selector.
    to_be_chosen = bool(child.queue) and child.cluster.spec.provider.owns_nodes
    placement: dict[str, Any] = {}
    if child.nodes:
        terms = [
            {"matchFields": [{"key": "metadata.name", "operator": "In", "values": [node]}]}
            for node in sorted(child.nodes)
        ]
        required = {"nodeSelectorTerms": terms}
        placement["affinity"] = {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": required}}
    if child.ranks > 1 and (child.nodes or to_be_chosen):
        selector = {names.LABEL_JOB_UID: child.job.metadata.uid, names.LABEL_ATTEMPT: str(child.attempt)}
        placement["topologySpreadConstraints"] = [
            {
                "maxSkew": 1,
                "minDomains": child.ranks,
                "topologyKey": "kubernetes.io/hostname",
                "whenUnsatisfiable": "DoNotSchedule",
                "labelSelector": {"matchLabels": selector},
            }
        ]
    return placement


def _volumes(child: ChildPlan, shape: PodShape) -> list[dict[str, Any]]:
    own: list[dict[str, Any]] = [
        {"name": SCRATCH, **_scratch(child)},
        token_volume(),
    ]
    if size := child.command.resources.shm_size:
        own.append({"name": SHM, "emptyDir": {"medium": "Memory", "sizeLimit": size}})
    taken = {volume["name"] for volume in own}
    return [*own, *(volume for volume in shape.volumes if volume.get("name") not in taken)]


def token_volume() -> dict[str, Any]:
    """The token by which the server knows a pod."""
    token = {"path": "token", "audience": wire.POD_AUDIENCE, "expirationSeconds": TOKEN_SECONDS}
    return {"name": TOKEN, "projected": {"sources": [{"serviceAccountToken": token}]}}


def agent_mounts() -> list[dict[str, Any]]:
    """Where the agent's containers have scratch and token."""
    return [
        {"name": SCRATCH, "mountPath": names.AGENT_DIRECTORY},
        {"name": TOKEN, "mountPath": TOKEN_DIRECTORY, "readOnly": True},
    ]


def _scratch(child: ChildPlan) -> dict[str, Any]:
    """The volume on which a run works: with a class a claim, which the operator keeps when the pod is lost."""
    asked = child.command.resources.scratch
    if asked is None:
        return {"emptyDir": {}}
    if asked.storage_class_name:
        claim = {
            "accessModes": ["ReadWriteOnce"],
            "storageClassName": asked.storage_class_name,
            "resources": {"requests": {"storage": asked.size}},
        }
        return {"ephemeral": {"volumeClaimTemplate": {"metadata": {"labels": child.labels}, "spec": claim}}}
    # launch stops a run at the size that was asked for. The kubelet, which would kill it without a word, comes later.
    limit = units.parse(asked.size) * EVICTED_ABOVE
    return {"emptyDir": {"sizeLimit": units.quantity("storage", limit)}}


def _agent(child: ChildPlan, shape: PodShape, name: str) -> dict[str, Any]:
    """What ship and fetch have in common."""
    return {
        "name": name,
        "image": child.agent_image,
        "args": [name],
        "env": [
            {"name": "STOKER_SERVER", "value": child.server_url},
            {"name": "STOKER_ATTEMPT", "value": str(child.attempt)},
            _rank("STOKER_RANK"),
        ],
        "resources": {"requests": dict(AGENT_REQUESTS), "limits": dict(AGENT_LIMITS)},
        "securityContext": podshape.container_security(shape),
        "terminationMessagePolicy": "FallbackToLogsOnError",
        "volumeMounts": agent_mounts(),
    }


def _ship(child: ChildPlan, shape: PodShape) -> dict[str, Any]:
    agent, stall = _agent(child, shape, "ship"), child.job.spec.limits.save_stall_seconds
    if stall != wire.SAVE_STALL_SECONDS:
        agent["env"].append({"name": "STOKER_SAVE_STALL_SECONDS", "value": str(stall)})
    return {
        **agent,
        "restartPolicy": "Always",
        # Not ready once the command has ended: how the operator sees that a run is saving.
        "readinessProbe": {
            "httpGet": {"path": "/ready", "port": READY_PORT},
            "periodSeconds": 2,
            "failureThreshold": 1,
        },
    }


def _fetch(child: ChildPlan, shape: PodShape) -> dict[str, Any]:
    agent, disk = _agent(child, shape, "fetch"), requests(child).get("ephemeral-storage")
    if disk is not None:
        # It writes what launch has to know. The kubelet evicts a pod whose disk use reaches its limit.
        bound = int(units.parse(disk) / EVICTED_ABOVE)
        agent["env"].append({"name": "STOKER_SCRATCH_BYTES", "value": str(bound)})
    return agent


def _main(child: ChildPlan, shape: PodShape) -> dict[str, Any]:
    mounts = [{"name": SCRATCH, "mountPath": names.AGENT_DIRECTORY}]
    if child.command.resources.shm_size:
        mounts.append({"name": SHM, "mountPath": "/dev/shm"})
    own = {mount["mountPath"] for mount in mounts}
    text = literal(str(child.record.get("command") or ""))
    amounts = requests(child)
    return {
        "name": "main",
        "image": child.image,
        # Pinned by digest: what a node has under this name is what the registry has.
        "imagePullPolicy": "IfNotPresent",
        # The folder is said here: a variable that comes from a user's Secret must not say another.
        "command": [
            "sh",
            f"{names.AGENT_DIRECTORY}/bin/launch",
            "--dir",
            names.AGENT_DIRECTORY,
            "--",
            "sh",
            "-c",
            text,
        ],
        "workingDir": WORK,
        "env": _environment(child),
        **({"envFrom": _environment_from(child)} if child.command.env_from else {}),
        "resources": {"requests": amounts, "limits": dict(amounts)},
        "securityContext": podshape.container_security(shape),
        "terminationMessagePolicy": "FallbackToLogsOnError",
        "volumeMounts": [*mounts, *(mount for mount in shape.volume_mounts if mount.get("mountPath") not in own)],
    }


def _environment(child: ChildPlan) -> list[dict[str, Any]]:
    """Stoker's variables, then the user's; a user's MASTER_PORT and the like replace ours.

    On one node launch sets what is the same for all such runs (runtime/configure.py).
    """
    told = child.record
    users = {str(name): str(value) for name, value in (told.get("env") or {}).items()}
    own: dict[str, str] = {}
    if child.ranks > 1:
        own = {
            "STOKER_JOB": str(told.get("key") or ""),
            "STOKER_ATTEMPT": str(child.attempt),
            "STOKER_NODE_COUNT": str(child.ranks),
            "STOKER_CHECKPOINT_DIR": f"{WORK}/outputs/checkpoints",
            "MASTER_ADDR": host(child, 0),
            "MASTER_PORT": str(wire.MASTER_PORT),
        }
        if child.ranks <= MOST_HOSTS:
            own["STOKER_HOSTS"] = ",".join(host(child, rank) for rank in range(child.ranks))
    if watched := child.job.spec.limits.no_progress_seconds:
        own["STOKER_NO_PROGRESS_SECONDS"] = str(watched)
    for name, text in input_texts(told.get("inputs") or {}).items():
        # The place of a single file is known to fetch alone: launch sets its variable. A secret the kubelet sets.
        if text is not None:
            own[f"STOKER_INPUT_{name}"] = text
    own.update({f"STOKER_OUTPUT_{name}": output_text(name) for name in told.get("outputs") or {}})
    drawn = {**_secret_inputs(told.get("inputs") or {}), **_drawn(child.command)}
    taken = users.keys() | drawn.keys()
    ranks = [_rank(name) for name in ("STOKER_RANK", "NODE_RANK") if child.ranks > 1 and name not in taken]
    texts = {**own, **users}
    entries = {name: {"name": name, "value": literal(text)} for name, text in texts.items()} | drawn
    return [*ranks, *(entries[name] for name in sorted(entries))]


def _secret_inputs(inputs: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Variables by name that the kubelet fills from the Secrets of secret inputs. inputs: as in job.json."""
    return {
        f"STOKER_INPUT_{name}": {
            "name": f"STOKER_INPUT_{name}",
            "valueFrom": {"secretKeyRef": dict(entry["secretRef"])},
        }
        for name, entry in inputs.items()
        if entry.get("type") == record.SECRET
    }


def _drawn(command: CommandJob) -> dict[str, dict[str, Any]]:
    """The user's variables by name that the kubelet fills from Secrets and ConfigMaps."""
    return {
        one.name: {"name": one.name, "valueFrom": msgspec.to_builtins(one.value_from)}
        for one in command.env
        if one.value_from is not None
    }


def _environment_from(child: ChildPlan) -> list[dict[str, Any]]:
    """Whole Secrets and ConfigMaps as variables. Kubernetes lets `env` win over them, so none of them replaces ours;
    those that launch sets on one node it sets whatever is there (runtime/configure.py)."""
    return [msgspec.to_builtins(one) for one in child.command.env_from]


def input_texts(inputs: Mapping[str, Any]) -> dict[str, str | None]:
    """What `${{inputs.NAME}}` and $STOKER_INPUT_NAME are in a pod: a literal, or the input's folder; None for what is
    known there alone: a single file, whose own name fetch knows, and a secret. inputs: as in job.json."""
    return {
        name: str(entry.get("value"))
        if entry.get("type") == "literal"
        else (None if entry.get("type") in ("uri_file", record.SECRET) else f"{names.AGENT_DIRECTORY}/inputs/{name}")
        for name, entry in inputs.items()
    }


def input_reference(name: str) -> str:
    """The shell's reference to an input whose text nobody else knows. Without quotes: the user's own hold."""
    return f"${{STOKER_INPUT_{name}}}"


def output_text(name: str) -> str:
    """What `${{outputs.NAME}}` and $STOKER_OUTPUT_NAME are in a pod."""
    return f"{WORK}/outputs/{name}"


def _rank(name: str) -> dict[str, Any]:
    return {"name": name, "valueFrom": {"fieldRef": {"fieldPath": f"metadata.labels['{names.LABEL_RANK}']"}}}


def literal(text: str) -> str:
    """A text that Kubernetes passes on as it is: it would else expand `$(NAME)`, which in a command is the shell's."""
    return text.replace("$", "$$")
