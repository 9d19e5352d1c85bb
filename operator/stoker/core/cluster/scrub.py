"""Whether what one job left on a node's scratch path is gone before the next one gets the node.

A node says so itself, in its annotation `stoker.dev/scratch`: `clean PATH` after a pod on it has emptied the path and
found it empty, `used …` from before a job is given the node. A node that says neither counts as used. The pod's name is
made of what the node says, so the outcome of one time is never taken for another's.
"""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from stoker.api import names
from stoker.api.computecluster import ComputeCluster
from stoker.api.kube import Node, Pod
from stoker.core import times
from stoker.core.cluster.view import ClusterView
from stoker.core.plan import Action, Delete, MarkScratch, ScrubNode

NAMESPACE = "stoker-privileged"
#: A pod that has not begun after so long is told of, in seconds; one that failed is made anew after so long.
SILENT_SECONDS, AGAIN_SECONDS = 60.0, 300.0
#: The longest that one may take, in seconds.
DEADLINE_SECONDS = 3600
_MOST_WORDS = 500


@dataclass(frozen=True, slots=True)
class Look:
    """What comes of a node whose scratch path is not known to be clean. problem: why it may not be for long, a reason and
    a message; None while a pod is at work. action: what to do now. again: when to look again, if nothing happens."""

    problem: tuple[str, str] | None = None
    action: Action | None = None
    again: float | None = None


def path_of(cluster: ComputeCluster) -> str:
    """The path that is scrubbed after each job; empty for none."""
    storage = cluster.spec.storage
    return storage.scratch_path if storage is not None and storage.scrub == "OnJobEnd" else ""


def is_clean(cluster: ComputeCluster, node: Node) -> bool:
    path = path_of(cluster)
    return not path or _told(node) == _clean(path)


def look(view: ClusterView, node: Node, now: float) -> Look | None:
    """What a node that could take a job but for its scratch path needs; None when it is clean."""
    cluster, name = view.cluster, node.metadata.name
    path = path_of(cluster)
    if is_clean(cluster, node):
        return None
    if view.scrubs is None:
        words = f"the scratch path {path} of node {name} cannot be scrubbed: set the chart's scratchScrub.enabled"
        return Look(("ScrubNotEnabled", words))
    pod = next((one for one in view.scrubs if one.metadata.name == pod_name(cluster, node)), None)
    if pod is None:
        return Look(action=ScrubNode(cluster.metadata.name, name, path, pod_name(cluster, node)))
    if pod.metadata.deletion_timestamp is not None:
        return Look()
    if pod.status.phase == "Succeeded":
        return Look(action=MarkScratch(cluster.metadata.name, name, _told(node), _clean(path)))
    if pod.status.phase == "Failed":
        return _failed(pod, node, path, now)
    return _waiting(pod, node, path, now)


def _failed(pod: Pod, node: Node, path: str, now: float) -> Look:
    done = [one.state.terminated for one in pod.status.container_statuses if one.state.terminated is not None]
    ended = max((at for one in done if (at := times.seconds(one.finished_at)) is not None), default=None)
    begun = ended if ended is not None else times.seconds(pod.metadata.creation_timestamp)
    again = (begun if begun is not None else now) + AGAIN_SECONDS
    if now >= again:
        return Look(action=_delete(pod))
    words = next((one.message or one.reason for one in done), "") or pod.status.message or pod.status.reason
    name = node.metadata.name
    return Look(
        (
            "ScrubFailed",
            f"the scratch path {path} of node {name} is not clean, so the node gets no job: {words[:_MOST_WORDS].strip()}; "
            f"empty it on the node; it is tried again at {times.rfc3339(again)}, or at once when you delete "
            f"pod {pod.metadata.name} in namespace {NAMESPACE}",
        ),
        again=again,
    )


def _waiting(pod: Pod, node: Node, path: str, now: float) -> Look:
    if any(one.state.running is not None for one in pod.status.container_statuses):
        return Look()
    created = times.seconds(pod.metadata.creation_timestamp)
    silent = (created if created is not None else now) + SILENT_SECONDS
    if now < silent:
        return Look(again=silent)
    states = [one.state.waiting for one in pod.status.container_statuses if one.state.waiting is not None]
    unscheduled = [one.message for one in pod.status.conditions if one.type == "PodScheduled" and one.status == "False"]
    words = ": ".join(filter(None, (states[0].reason, states[0].message))) if states else "".join(unscheduled[:1])
    name = node.metadata.name
    return Look(
        (
            "ScrubPending",
            f"pod {pod.metadata.name} that scrubs {path} of node {name} has not begun for {SILENT_SECONDS:.0f} s"
            f"{f' ({words[:_MOST_WORDS]})' if words else ''}; see that {path} is a folder there, and "
            f"`kubectl describe pod {pod.metadata.name} -n {NAMESPACE}`",
        )
    )


def spoiled(view: ClusterView, uses: Mapping[str, str]) -> tuple[Action, ...]:
    """Say of nodes that they are clean no more. uses: whom each of them goes to or is with, by name."""
    if not path_of(view.cluster):
        return ()
    return tuple(
        MarkScratch(view.cluster.metadata.name, name, _told(view.nodes[name]), f"used {use}")
        for name, use in sorted(uses.items())
        if name in view.nodes and is_clean(view.cluster, view.nodes[name])
    )


def leftovers(view: ClusterView, wanted: Sequence[Node]) -> Iterator[Action]:
    """Pods that nobody needs any more. wanted: nodes that are being scrubbed."""
    kept = {pod_name(view.cluster, node) for node in wanted}
    for pod in view.scrubs or ():
        if pod.metadata.name not in kept and pod.metadata.deletion_timestamp is None:
            yield _delete(pod)


def pod_name(cluster: ComputeCluster, node: Node) -> str:
    """Of the pod that scrubs a node, this time."""
    text = "\n".join((cluster.metadata.uid, path_of(cluster), node.metadata.uid, node.metadata.name, _told(node)))
    return f"scrub-{hashlib.sha256(text.encode()).hexdigest()[:16]}"


def pod(order: ScrubNode, cluster: ComputeCluster, image: str, secrets: Sequence[str]) -> dict[str, Any]:
    """The pod. It is root, for jobs may have left files of anybody, with two capabilities: to get into their folders, and
    to remove what is not its own from one with the sticky bit. It sees that folder of the node and nothing else."""
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": order.pod,
            "namespace": NAMESPACE,
            "labels": {
                "app.kubernetes.io/name": "stoker",
                "app.kubernetes.io/component": "scrub",
                names.LABEL_SCRUB: order.cluster,
            },
            "ownerReferences": [
                {
                    "apiVersion": names.API_VERSION,
                    "kind": "ComputeCluster",
                    "name": order.cluster,
                    "uid": cluster.metadata.uid,
                    "controller": True,
                }
            ],
        },
        "spec": {
            "restartPolicy": "Never",
            "activeDeadlineSeconds": DEADLINE_SECONDS,
            "terminationGracePeriodSeconds": 0,
            "automountServiceAccountToken": False,
            "enableServiceLinks": False,
            "imagePullSecrets": [{"name": name} for name in secrets],
            "tolerations": [{"operator": "Exists"}],
            "affinity": {
                "nodeAffinity": {
                    "requiredDuringSchedulingIgnoredDuringExecution": {
                        "nodeSelectorTerms": [
                            {"matchFields": [{"key": "metadata.name", "operator": "In", "values": [order.node]}]}
                        ]
                    }
                }
            },
            "securityContext": {"seccompProfile": {"type": "RuntimeDefault"}},
            "volumes": [{"name": "scratch", "hostPath": {"path": order.path, "type": "Directory"}}],
            "containers": [
                {
                    "name": "scrub",
                    "image": image,
                    "args": ["scrub", "--path", "/scratch", "--called", order.path],
                    "volumeMounts": [{"name": "scratch", "mountPath": "/scratch"}],
                    "resources": {
                        "requests": {"cpu": "10m", "memory": "32Mi"},
                        "limits": {"cpu": "1", "memory": "128Mi"},
                    },
                    "securityContext": {
                        "runAsUser": 0,
                        "runAsGroup": 0,
                        "allowPrivilegeEscalation": False,
                        "readOnlyRootFilesystem": True,
                        "capabilities": {"drop": ["ALL"], "add": ["DAC_OVERRIDE", "FOWNER"]},
                    },
                }
            ],
        },
    }


def _told(node: Node) -> str:
    return node.metadata.annotations.get(names.ANNOTATION_SCRATCH, "")


def _clean(path: str) -> str:
    return f"clean {path}"


def _delete(pod: Pod) -> Action:
    return Delete("Pod", NAMESPACE, pod.metadata.name, pod.metadata.uid)
