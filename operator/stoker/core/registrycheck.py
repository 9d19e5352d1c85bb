"""Can nodes pull from a registry by the name that stands in pods? A pod tries it before the first job does.

The pod's image is tiny and pushed for the purpose. What counts is the pull alone: that a container was made, or could
not be made for another reason, says that its image had come.
"""

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from stoker.api.kube import ContainerStatus, Pod
from stoker.api.names import SYSTEM_NAMESPACE, TAINT_COMPUTE

#: Where the outcomes are written, in the operator's namespace: key `checks`, a JSON list of Outcome.
CONFIG_MAP = "stoker-registry-check"
CHECKS = "checks"
#: The repository of the test image below a registry's path.
REPOSITORY = "stoker-selftest"
OK, FAILS, UNKNOWN = "Ok", "Fails", "Unknown"
#: A pod that is neither pulling nor told why not for so long (seconds) is told of.
SILENT_SECONDS = 60.0
#: Longest part of a container runtime's words that is repeated.
MOST_WORDS = 400
_PULL_REASONS = frozenset(
    {"ErrImagePull", "ImagePullBackOff", "ErrImageNeverPull", "RegistryUnavailable", "ImageInspectError"}
)
_NAME_REASONS = frozenset({"InvalidImageName"})
#: Waiting for these says nothing of the image.
_BEFORE = frozenset({"", "ContainerCreating", "PodInitializing"})


@dataclass(frozen=True, slots=True)
class Outcome:
    """What is known of one registry. registry: `host/path`. settings: hash of what the check depended on. node: who pulled.
    checked_at: RFC 3339. reason, message, fix: for people; fix is empty when all is well."""

    registry: str
    state: str
    reason: str
    message: str
    fix: str = ""
    node: str = ""
    checked_at: str = ""
    settings: str = ""


def settings_of(registry: str, address: str, insecure: bool, secrets: Sequence[str], version: str) -> str:
    """A hash of what an outcome depends on: with others the registry is tried again."""
    text = json.dumps([registry, address, insecure, list(secrets), version])
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def encode(outcomes: Sequence[Outcome]) -> str:
    return json.dumps([asdict(outcome) for outcome in outcomes], indent=1)


def decode(text: str) -> tuple[Outcome, ...]:
    """The outcomes in a ConfigMap; none when it is not ours to read: they are found out again."""
    try:
        listed = json.loads(text or "[]")
        names = Outcome.__dataclass_fields__
        return tuple(Outcome(**{name: str(one[name]) for name in names if name in one}) for one in listed)
    except (ValueError, TypeError, KeyError):
        return ()


def pod_name(registry: str) -> str:
    return f"{CONFIG_MAP}-{hashlib.sha256(registry.encode()).hexdigest()[:8]}"


def pod(registry: str, image: str, secrets: Sequence[str], namespace: str = SYSTEM_NAMESPACE) -> dict[str, Any]:
    """The pod that pulls `image`, pinned by digest. secrets: names of pull secrets in its namespace."""
    restricted = {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": pod_name(registry),
            "namespace": namespace,
            "labels": {"app.kubernetes.io/name": "stoker", "app.kubernetes.io/component": "registry-check"},
        },
        "spec": {
            "restartPolicy": "Never",
            "automountServiceAccountToken": False,
            "enableServiceLinks": False,
            "terminationGracePeriodSeconds": 0,
            # Jobs will be pulled for on the pools' nodes: those count as well as any other.
            "tolerations": [{"key": TAINT_COMPUTE, "operator": "Exists"}],
            "imagePullSecrets": [{"name": name} for name in secrets],
            "securityContext": {
                "runAsNonRoot": True,
                "runAsUser": 1000,
                "runAsGroup": 1000,
                "seccompProfile": {"type": "RuntimeDefault"},
            },
            "containers": [
                {
                    "name": "pull",
                    "image": image,
                    # An image that is there already would prove nothing.
                    "imagePullPolicy": "Always",
                    "resources": {
                        "requests": {"cpu": "1m", "memory": "8Mi"},
                        "limits": {"cpu": "100m", "memory": "32Mi"},
                    },
                    "securityContext": restricted,
                }
            ],
        },
    }


def judge(registry: str, seen: Pod, waited: float, own: bool) -> Outcome | None:
    """What the pod shows, or None while it is still too early. waited: seconds since it was made. own: the registry is
    the one that the chart brought."""
    node = seen.spec.node_name
    status = next(iter(seen.status.container_statuses), ContainerStatus())
    waits = status.state.waiting.reason if status.state.waiting else ""
    words = status.state.waiting.message if status.state.waiting else ""
    if waits in _PULL_REASONS:
        return _pull_failed(registry, words or waits, node, own)
    if waits in _NAME_REASONS:
        return Outcome(registry, FAILS, waits, _cut(words), "write registry.url as host/path, in lower case", node)
    if status.state.running or status.state.terminated or waits not in _BEFORE:
        return Outcome(registry, OK, "Pulled", f"node {node} pulled a test image from {registry}", node=node)
    unplaced = next(
        (one for one in seen.status.conditions if (one.type, one.status) == ("PodScheduled", "False")), None
    )
    if unplaced is not None:
        message = f"no node takes the test pod, so nothing is known yet: {_cut(unplaced.message)}"
        return Outcome(registry, UNKNOWN, "NoNode", message, "wait for a node, or make room on one")
    if waited > SILENT_SECONDS:
        message = f"the test pod on node {node or '(none yet)'} has not begun to pull for {waited:.0f} s"
        fix = f"see `kubectl describe pod -n {SYSTEM_NAMESPACE} {pod_name(registry)}`"
        return Outcome(registry, UNKNOWN, "NotStarted", message, fix, node)
    return None


#: What a container runtime's words mean: (pattern, reason, what to do). The first that is found counts.
_MEANINGS: tuple[tuple[str, str, str], ...] = (
    (
        r"http response to https client",
        "NodesExpectHttps",
        "tell the nodes' container runtime that {host} speaks http (containerd: certs.d/{host}/hosts.toml), or give it a "
        "certificate",
    ),
    (
        r"\bx509\b|\bcertificate\b",
        "CertificateUnknown",
        "give the nodes' container runtime the certificate authority of {host} (containerd: certs.d/{host}/hosts.toml)",
    ),
    (
        r"no such host|server misbehaving|name resolution",
        "NameUnknownToNodes",
        "use a name in registry.url that the nodes' own resolver knows; names of Services are known to pods only",
    ),
    (
        r"\b401\b|\b403\b|unauthorized|forbidden|denied|no basic auth",
        "NodesUnauthorized",
        f"name a pull secret for {{host}} in jobImagePullSecrets; it must be in namespace {SYSTEM_NAMESPACE} and in those of jobs",
    ),
    (
        r"connection refused|timeout|deadline exceeded|no route to host|unreachable|connection reset|\beof\b",
        "NodesCannotConnect",
        "let the nodes reach {host}: see firewalls and routes",
    ),
    (
        r"not found|manifest unknown",
        "AnotherRegistry",
        "the test image was pushed, so {host} is another registry to nodes than to Stoker: correct registry.url or "
        "registry.inClusterAddress",
    ),
)
#: In a registry's digests, too, the letters of a status or a word may stand.
_DIGEST = re.compile(r"sha256:[0-9a-f]+")
_SEE_PROXY = (
    "see the pods of DaemonSet stoker-registry-proxy in namespace stoker-privileged, that of this node first, and "
    "whether something else has the port bundledRegistry.port there"
)


def _pull_failed(registry: str, words: str, node: str, own: bool) -> Outcome:
    host, plain = registry.partition("/")[0], _DIGEST.sub("", words.lower())
    found = next((one for one in _MEANINGS if re.search(one[0], plain)), None)
    reason, fix = found[1:] if found else ("PullFailed", "see the words of the node's container runtime")
    if own and reason in ("NodesCannotConnect", "AnotherRegistry"):
        fix = _SEE_PROXY
    message = f"node {node} cannot pull from {registry}: {_cut(words)}"
    return Outcome(registry, FAILS, reason, message, fix.format(host=host), node)


def _cut(words: str) -> str:
    plain = " ".join(words.split())
    return plain if len(plain) <= MOST_WORDS else plain[: MOST_WORDS - 2] + " …"


def merged(former: Outcome | None, new: Outcome) -> Outcome:
    """Which of two outcomes of one try to show: a back-off without a cause does not hide the cause that came before."""
    if former is not None and former.state == FAILS and new.reason == "PullFailed":
        return former
    return new


def stamped(outcome: Outcome, checked_at: str, settings: str) -> Outcome:
    return replace(outcome, checked_at=checked_at, settings=settings)


def holds(outcomes: Sequence[Outcome], settings: Mapping[str, str]) -> frozenset[str]:
    """The registries that were pulled from with just these settings (by registry): they need no other try."""
    return frozenset(
        one.registry for one in outcomes if one.state == OK and settings.get(one.registry) == one.settings != ""
    )
