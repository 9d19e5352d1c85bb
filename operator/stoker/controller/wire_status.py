"""A status as the API server takes it, and whether it has it already."""

from typing import Any

import msgspec

from stoker.api.kube import ObjectMeta
from stoker.kube.resources import Resource

#: Members that are shown even when they are at their default: printer columns and machines look at them.
ALWAYS_SHOWN: dict[str, tuple[str, ...]] = {
    "TrainingJob": ("phase",),
    "ComputeCluster": ("currentNodes", "targetNodes", "allocationState"),
}

#: Lists that are maps for the API server, which may give them back in another order.
_MAPS: dict[str, str] = {
    "conditions": "type",
    "attempts": "number",
    "images": "platform",
    "intents": "token",
    "members": "name",
}


def status_body(resource: Resource, metadata: ObjectMeta, status: Any) -> dict[str, Any]:
    """The body of a server-side apply of the whole status; the uid keeps it from another object of that name."""
    shown: dict[str, Any] = msgspec.to_builtins(status)
    plain = {field.encode_name: getattr(status, field.name) for field in msgspec.structs.fields(status)}
    for member in ALWAYS_SHOWN.get(resource.kind, ()):
        shown.setdefault(member, plain[member])
    named = {"name": metadata.name, "uid": metadata.uid}
    if resource.namespaced:
        named["namespace"] = metadata.namespace
    return {"apiVersion": resource.api_version, "kind": resource.kind, "metadata": named, "status": shown}


def same_status(one: Any, other: Any) -> bool:
    """Whether two statuses of a kind say the same."""
    return bool(one == other) or _ordered(one) == _ordered(other)


def _ordered(status: Any) -> Any:
    if status is None:
        return None
    changes = {
        name: tuple(sorted(getattr(status, name), key=lambda entry: getattr(entry, key)))
        for name, key in _MAPS.items()
        if hasattr(status, name)
    }
    return msgspec.structs.replace(status, **changes)
