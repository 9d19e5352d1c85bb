"""BuildKit in the cluster: one daemon for each namespace that needs it, asleep while no build of that namespace does.

One daemon for one namespace, because those who share a daemon share its cache and what it can be made to do. All of them
live in a namespace of their own, for none passes the Pod Security level *restricted*; a NetworkPolicy lets only builds
of its own namespace reach a daemon.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from stoker.api import names

NAMESPACE = "stoker-privileged"
PORT = 1234
COMPONENT = "buildkit"
#: Of every object here: the namespace whose builds it is for.
LABEL_FOR = "stoker.dev/buildkit-for"
#: On the pods: changes with the configuration, so that another one starts the daemon anew.
ANNOTATION_CONFIG = "stoker.dev/config"
#: The longest name of a StatefulSet whose pods' labels still fit, less `buildkit-`.
_LONGEST = 43
#: Where clouds answer who a node is: no step of a user may ask.
_METADATA = "169.254.169.254/32"

Isolation = Literal["UserNamespace", "Rootless", "Privileged"]


@dataclass(frozen=True, slots=True)
class Daemons:
    """How daemons are made: the chart's values.

    address: of a daemon of one's own; then none is made. isolation: UserNamespace (root in the container is nobody on the
    node; needs a node that can), Rootless (an ordinary user, a little less kept apart from its own steps), or
    Privileged (root on the node). size: of the claim that the cache lies on, empty for an emptyDir. registries: host ->
    (address to connect to instead, whether it speaks http).
    """

    enabled: bool = False
    address: str = ""
    idle_seconds: float = 600.0
    image: str = ""
    isolation: Isolation = "UserNamespace"
    size: str = ""
    storage_class: str = ""
    resources: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    pull_secrets: tuple[str, ...] = ()
    node_selector: Mapping[str, str] = field(default_factory=dict)
    tolerations: tuple[Mapping[str, Any], ...] = ()
    registries: Mapping[str, tuple[str, bool]] = field(default_factory=dict)

    @property
    def made(self) -> bool:
        """Whether there are any of our making."""
        return self.enabled and not self.address


def address(namespace: str, daemons: Daemons, given: str = "") -> str:
    """Where builds of a namespace reach BuildKit; empty: nowhere. given: the Workspace's own."""
    if given or daemons.address:
        return given or daemons.address
    return f"tcp://{name(namespace)}.{NAMESPACE}.svc:{PORT}" if daemons.enabled else ""


def name(namespace: str) -> str:
    """Of the StatefulSet and everything beside it."""
    if len(namespace) <= _LONGEST:
        return f"buildkit-{namespace}"
    digest = hashlib.sha256(namespace.encode()).hexdigest()[:8]
    return f"buildkit-{namespace[: _LONGEST - 9]}-{digest}"


@dataclass(frozen=True, slots=True)
class Need:
    """Whether a namespace's daemon is to run. since_idle: when the last build that needed it ended (seconds since the
    epoch), None while one runs or waits."""

    builds: int
    since_idle: float | None = None


def replicas(need: Need, daemons: Daemons, now: float) -> int:
    """1 while a build needs it, and for a while after the last one."""
    until = sleeps_at(need, daemons)
    return 1 if until is None or now < until else 0


def sleeps_at(need: Need, daemons: Daemons) -> float | None:
    """When it may go to sleep; None while it is needed."""
    if need.builds or need.since_idle is None:
        return None
    return need.since_idle + daemons.idle_seconds


def objects(namespace: str, daemons: Daemons, count: int) -> tuple[dict[str, Any], ...]:
    """What makes up a namespace's daemon, in the order in which it is applied. count: of replicas."""
    config = configuration(daemons)
    return (
        _object("v1", "ConfigMap", namespace, {"data": {"buildkitd.toml": config}}),
        _object("v1", "Service", namespace, {"spec": _service(namespace)}),
        _object("networking.k8s.io/v1", "NetworkPolicy", namespace, {"spec": _policy(namespace)}),
        _object("apps/v1", "StatefulSet", namespace, {"spec": _stateful_set(namespace, daemons, count, config)}),
    )


def configuration(daemons: Daemons) -> str:
    """buildkitd.toml. A policy for the cache that is written down replaces the daemon's own, so it is whole."""
    root = "/home/user/.local/share/buildkit" if daemons.isolation == "Rootless" else "/var/lib/buildkit"
    lines = [
        f'root = "{root}"',
        "[grpc]",
        f'address = ["tcp://0.0.0.0:{PORT}"]',
        # A frontend from outside would run with the daemon's rights before any step does.
        '[frontend."gateway.v0"]',
        "enabled = false",
        "[worker.containerd]",
        "enabled = false",
        "[worker.oci]",
        "enabled = true",
        "gc = true",
        *(["noProcessSandbox = true"] if daemons.isolation == "Rootless" else []),
        "[[worker.oci.gcpolicy]]",
        "all = true",
        'reservedSpace = "10%"',
        'maxUsedSpace = "70%"',
        'minFreeSpace = "20%"',
    ]
    for host, (instead, plain) in sorted(daemons.registries.items()):
        lines.append(f"[registry.{json.dumps(host)}]")
        lines += [f"mirrors = [{json.dumps(instead)}]"] if instead else []
        lines += ["http = true", "insecure = true"] if plain else []
        if instead and plain:
            lines += [f"[registry.{json.dumps(instead)}]", "http = true", "insecure = true"]
    return "\n".join(lines) + "\n"


def _object(version: str, kind: str, namespace: str, content: Mapping[str, Any]) -> dict[str, Any]:
    metadata = {"name": name(namespace), "namespace": NAMESPACE, "labels": labels(namespace)}
    return {"apiVersion": version, "kind": kind, "metadata": metadata, **content}


def labels(namespace: str) -> dict[str, str]:
    """By which a namespace's objects are found."""
    return {
        "app.kubernetes.io/name": "stoker",
        "app.kubernetes.io/component": COMPONENT,
        LABEL_FOR: namespace,
    }


def _service(namespace: str) -> dict[str, Any]:
    return {
        "clusterIP": "None",
        "selector": labels(namespace),
        "ports": [{"name": "buildkit", "port": PORT, "targetPort": PORT}],
    }


def _policy(namespace: str) -> dict[str, Any]:
    """In: builds of that namespace alone. Out: everything but the cloud's metadata."""
    builds = {
        "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": namespace}},
        "podSelector": {"matchExpressions": [{"key": names.LABEL_BUILD, "operator": "Exists"}]},
    }
    return {
        "podSelector": {"matchLabels": labels(namespace)},
        "policyTypes": ["Ingress", "Egress"],
        "ingress": [{"from": [builds], "ports": [{"protocol": "TCP", "port": PORT}]}],
        "egress": [{"to": [{"ipBlock": {"cidr": "0.0.0.0/0", "except": [_METADATA]}}, {"ipBlock": {"cidr": "::/0"}}]}],
    }


def _stateful_set(namespace: str, daemons: Daemons, count: int, config: str) -> dict[str, Any]:
    claim = {
        "metadata": {"name": "state"},
        "spec": {
            "accessModes": ["ReadWriteOnce"],
            "resources": {"requests": {"storage": daemons.size}},
            **({"storageClassName": daemons.storage_class} if daemons.storage_class else {}),
        },
    }
    return {
        "replicas": count,
        "serviceName": name(namespace),
        # Ordered ones wait for ever for a pod that can never start, also when the settings that keep it from it are mended.
        "podManagementPolicy": "Parallel",
        "selector": {"matchLabels": labels(namespace)},
        # The cache outlives sleep; it goes with the StatefulSet.
        "persistentVolumeClaimRetentionPolicy": {"whenDeleted": "Delete", "whenScaled": "Retain"},
        "template": {
            "metadata": {
                "labels": labels(namespace),
                "annotations": {ANNOTATION_CONFIG: hashlib.sha256(config.encode()).hexdigest()[:16]},
            },
            "spec": _pod(namespace, daemons),
        },
        **({"volumeClaimTemplates": [claim]} if daemons.size else {}),
    }


def _pod(namespace: str, daemons: Daemons) -> dict[str, Any]:
    rootless = daemons.isolation == "Rootless"
    volumes: list[dict[str, Any]] = [{"name": "config", "configMap": {"name": name(namespace)}}]
    volumes += [] if daemons.size else [{"name": "state", "emptyDir": {}}]
    optional = {
        "imagePullSecrets": [{"name": secret} for secret in daemons.pull_secrets],
        "nodeSelector": dict(daemons.node_selector),
        "tolerations": [dict(toleration) for toleration in daemons.tolerations],
    }
    return {
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "terminationGracePeriodSeconds": 30,
        # Left out where it is the default: older API servers do not know the field.
        **({"hostUsers": False} if daemons.isolation == "UserNamespace" else {}),
        **({"securityContext": {"fsGroup": 1000}} if rootless else {}),
        "containers": [_container(daemons, rootless=rootless)],
        "volumes": volumes,
        **{member: value for member, value in optional.items() if value},
    }


def _container(daemons: Daemons, *, rootless: bool) -> dict[str, Any]:
    unconfined = {"type": "Unconfined"}
    security = (
        {"runAsUser": 1000, "runAsGroup": 1000, "seccompProfile": unconfined, "appArmorProfile": unconfined}
        if rootless
        else {"privileged": True}
    )
    state = "/home/user/.local/share/buildkit" if rootless else "/var/lib/buildkit"
    return {
        "name": "buildkitd",
        "image": daemons.image,
        "args": ["--config=/etc/stoker/buildkit/buildkitd.toml"],
        "ports": [{"name": "buildkit", "containerPort": PORT}],
        "readinessProbe": {"tcpSocket": {"port": PORT}, "periodSeconds": 1, "failureThreshold": 3},
        "livenessProbe": {"tcpSocket": {"port": PORT}, "periodSeconds": 20, "initialDelaySeconds": 60},
        "resources": {name: dict(amounts) for name, amounts in daemons.resources.items()},
        "securityContext": security,
        "volumeMounts": [
            {"name": "config", "mountPath": "/etc/stoker/buildkit", "readOnly": True},
            {"name": "state", "mountPath": state},
        ],
    }
