"""Environments and ComputeClusters from files: created, or changed where they are there."""

from collections.abc import Mapping
from typing import Any

from stoker.api.names import API_VERSION
from stoker.cli.options import Common
from stoker.errors import BadInput
from stoker.sdk.client import Cluster
from stoker.sdk.convert import Converted
from stoker.sdk.kube import Refused


def create(common: Common, made: Converted, *, dry_run: bool) -> int:
    """Create what a file of Azure ML's says, or change it to that; the exit code."""
    document, output = made.document, common.output
    for line in made.warnings:
        output.warn(line)
    kind, name = document["kind"], document["metadata"]["name"]
    if dry_run:
        output.emit(document, lambda: output.note("dry run: nothing was sent"), [name])
        return 0
    cluster = common.cluster()
    place = _place(cluster, kind)
    if kind == "Environment":
        document = {**document, "metadata": {**document["metadata"], "namespace": cluster.namespace}}
    try:
        found = cluster.kube.create(place, document, fieldValidation="Strict", fieldManager="stoker-cli")
        said = "created"
    except Refused as error:
        if error.status != 409:
            raise
        found, said = _again(cluster, f"{place}/{name}", document, made.versioned)
    output.step(kind.lower(), name, said)
    value = {"kind": kind, "name": name, "uid": found["metadata"]["uid"], "result": said}
    output.emit(value, lambda: print(name), [name])
    return 0


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


def _place(cluster: Cluster, kind: str) -> str:
    if kind == "ComputeCluster":
        return f"/apis/{API_VERSION}/computeclusters"
    if kind == "Environment":
        return f"/apis/{API_VERSION}/namespaces/{cluster.namespace}/environments"
    raise BadInput("FILE", f"{kind} is not created from a file", "use kubectl apply")
