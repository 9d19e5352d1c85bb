"""Environments and ComputeClusters in a cluster: created, or changed where they are there."""

from collections.abc import Mapping
from typing import Any

from stoker.api.names import API_VERSION
from stoker.errors import BadInput
from stoker.sdk.client import Cluster
from stoker.sdk.kube import Refused


def put(cluster: Cluster, document: Mapping[str, Any], *, versioned: bool) -> tuple[Mapping[str, Any], str]:
    """Create an object, or change the one of its name to it; the object, and what became of it in words. versioned: a
    version of an Environment has one content for ever, so another one is refused with BadInput."""
    place = place_of(cluster, document["kind"])
    if document["kind"] == "Environment":
        document = {**document, "metadata": {**document["metadata"], "namespace": cluster.namespace}}
    try:
        return cluster.kube.create(place, document, fieldValidation="Strict", fieldManager="stoker-cli"), "created"
    except Refused as error:
        if error.status != 409:
            raise
        return _again(cluster, f"{place}/{document['metadata']['name']}", document, versioned)


def _again(cluster: Cluster, path: str, document: Mapping[str, Any], versioned: bool) -> tuple[Mapping[str, Any], str]:
    """What becomes of an object that is there. Raises BadInput for another content under the version of an Environment."""
    there = cluster.kube.get(path)
    if versioned and _content(there["spec"]) != _content(document["spec"]):
        name = document["metadata"]["name"]
        message = f"Environment {name} is there with another content, and a version has one content"
        raise BadInput("version", message, "write another version into the file")
    found = replace_spec(cluster, path, there, document["spec"])
    same = found["metadata"].get("generation") == there["metadata"].get("generation")
    return found, "is there already, the same" if same else "changed"


def _content(spec: Mapping[str, Any]) -> Any:
    from stoker.sdk.environments import from_spec

    return from_spec(spec, "").definition


def replace_spec(cluster: Cluster, path: str, there: Mapping[str, Any], spec: Mapping[str, Any]) -> Mapping[str, Any]:
    """The object with this spec in place of its own."""
    changed: Mapping[str, Any] = cluster.kube.patch(path, {"spec": merge_patch(there["spec"], spec)})
    return changed


def merge_patch(there: Mapping[str, Any], wanted: Mapping[str, Any]) -> dict[str, Any]:
    """The JSON merge patch that makes one mapping of another: members that are not wanted are taken out by name."""
    patch: dict[str, Any] = {key: None for key in there if key not in wanted}
    for key, value in wanted.items():
        former = there.get(key)
        nested = isinstance(value, Mapping) and isinstance(former, Mapping)
        patch[key] = merge_patch(former or {}, value) if nested else value
    return patch


def place_of(cluster: Cluster, kind: str) -> str:
    """The API path of a kind. Raises BadInput for one that is not created so."""
    if kind == "ComputeCluster":
        return f"/apis/{API_VERSION}/computeclusters"
    if kind == "Environment":
        return f"/apis/{API_VERSION}/namespaces/{cluster.namespace}/environments"
    raise BadInput("FILE", f"{kind} is not created from a file", "use kubectl apply")
