"""Environments of a namespace, as the commands below read them."""

from collections.abc import Mapping
from typing import Any

from stoker.api.names import API_VERSION
from stoker.errors import BadInput
from stoker.sdk.client import Cluster

Plain = Mapping[str, Any]


def path(cluster: Cluster, name: str = "") -> str:
    """The API path of the namespace's Environments, or of one."""
    return f"/apis/{API_VERSION}/namespaces/{cluster.namespace}/environments" + (f"/{name}" if name else "")


def one(cluster: Cluster, name: str) -> Plain:
    """An Environment, whole; raises BadInput with the names there are."""
    cluster.environment(name)
    found: Plain = cluster.kube.get(path(cluster, name))
    return found


def every(cluster: Cluster) -> list[Plain]:
    """All of the namespace, by name."""
    items: list[Plain] = cluster.kube.get(path(cluster))["items"]
    return sorted(items, key=lambda item: str(item["metadata"]["name"]))


def line_of(environment: Plain) -> dict[str, Any]:
    """One Environment in a list."""
    status = environment.get("status") or {}
    images = status.get("images") or ()
    ready = condition(environment, "Ready")
    return {
        "name": environment["metadata"]["name"],
        "ready": ready.get("status", "Unknown"),
        "reason": ready.get("reason", ""),
        "message": ready.get("message", ""),
        "definitionKey": status.get("definitionKey", ""),
        "images": [dict(image) for image in images],
        "lastUsed": status.get("lastUsed", ""),
    }


def condition(environment: Plain, kind: str) -> Plain:
    """A condition; empty where it is not told yet."""
    found = (environment.get("status") or {}).get("conditions") or ()
    told: Plain = next((entry for entry in found if entry.get("type") == kind), {})
    return told


def is_current(environment: Plain) -> bool:
    """Whether the status is of the spec as it is now."""
    generation = environment["metadata"].get("generation")
    return bool((environment.get("status") or {}).get("observedGeneration") == generation)


def spec_key(environment: Plain, platform: str | None) -> str:
    """The specKey whose log is kept; raises BadInput where nothing was built or found by content."""
    name = environment["metadata"]["name"]
    images = (environment.get("status") or {}).get("images") or ()
    keyed = {image["platform"]: image["specKey"] for image in images if image.get("specKey")}
    if platform is not None and keyed and platform not in keyed:
        raise BadInput(
            "--platform", f"{platform}: Environment {name} has {', '.join(sorted(keyed))}", "use one of these"
        )
    key = keyed.get(platform) if platform is not None else next((keyed[one] for one in sorted(keyed)), None)
    if key is None:
        ready = condition(environment, "Ready")
        why = f": {ready['reason']}: {ready.get('message', '')}" if ready.get("status") == "False" else ""
        raise BadInput(
            "NAME", f"Environment {name} has no build{why}", "see `stoker env show`; an image alone is not built"
        )
    return str(key)
