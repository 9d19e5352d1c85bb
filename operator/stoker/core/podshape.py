"""What the user and the platform add to a job's pods, merged: the platform's word wins, Stoker's own parts stay."""

from collections.abc import Mapping
from copy import deepcopy
from typing import Any

import msgspec

from stoker.api.common import PodShape, Toleration

UID = 1000

#: The *restricted* Pod Security level, for the pod and for each container.
RESTRICTED_POD: dict[str, Any] = {
    "runAsNonRoot": True,
    "runAsUser": UID,
    "runAsGroup": UID,
    "fsGroup": UID,
    # Without this the kubelet walks a big volume of the user's at every start, which takes minutes.
    "fsGroupChangePolicy": "OnRootMismatch",
    "seccompProfile": {"type": "RuntimeDefault"},
}
RESTRICTED_CONTAINER: dict[str, Any] = {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}
#: Root without capabilities may not even read another uid's file, and `apt-get` fails: what one asks root for.
ROOT_CONTAINER: dict[str, Any] = {"allowPrivilegeEscalation": False}


def merged(users: PodShape | None, platforms: PodShape | None) -> PodShape:
    """One shape of two. Maps, volumes by name, mounts by path, the security context by member: the platform's win.
    Tolerations and pull secrets: all of both. Single values: the platform's if it has one."""
    first, second = users or PodShape(), platforms or PodShape()
    return PodShape(
        labels={**first.labels, **second.labels},
        annotations={**first.annotations, **second.annotations},
        node_selector={**first.node_selector, **second.node_selector},
        tolerations=(*first.tolerations, *second.tolerations),
        volumes=_by("name", first.volumes, second.volumes),
        volume_mounts=_by("mountPath", first.volume_mounts, second.volume_mounts),
        image_pull_secrets=(*first.image_pull_secrets, *second.image_pull_secrets),
        security_context={**(first.security_context or {}), **(second.security_context or {})} or None,
        runtime_class_name=second.runtime_class_name or first.runtime_class_name,
        priority_class_name=second.priority_class_name or first.priority_class_name,
    )


def wants_root(shape: PodShape) -> bool:
    """Whether the pods would run as root."""
    security = shape.security_context or {}
    return security.get("runAsUser") == 0 or (security.get("runAsNonRoot") is False and "runAsUser" not in security)


def security_context(shape: PodShape) -> dict[str, Any]:
    """The pods' security context: restricted, with what user and platform say on top. Whether root is allowed is asked
    before a child is made (`wants_root`)."""
    asked = dict(shape.security_context or {})
    if not wants_root(shape):
        return {**RESTRICTED_POD, **asked, "runAsNonRoot": True}
    root = {"runAsNonRoot": False, "runAsUser": 0, "runAsGroup": 0, "fsGroup": 0}
    return {**RESTRICTED_POD, **root, **asked}


def container_security(shape: PodShape) -> dict[str, Any]:
    """The security context of each of our three containers."""
    return deepcopy(ROOT_CONTAINER if wants_root(shape) else RESTRICTED_CONTAINER)


def tolerations(*parts: tuple[Toleration, ...]) -> list[dict[str, Any]]:
    """Kubernetes' form of tolerations, each once."""
    written: list[dict[str, Any]] = []
    for toleration in (toleration for part in parts for toleration in part):
        form = msgspec.to_builtins(toleration)
        if form not in written:
            written.append(form)
    return written


def _by(
    key: str, users: tuple[Mapping[str, Any], ...], platforms: tuple[Mapping[str, Any], ...]
) -> tuple[dict[str, Any], ...]:
    chosen = {str(entry.get(key)): dict(entry) for entry in users}
    chosen.update({str(entry.get(key)): dict(entry) for entry in platforms})
    return tuple(chosen.values())
