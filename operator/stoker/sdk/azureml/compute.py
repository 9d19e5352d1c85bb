"""An `amlcompute` file, turned into a ComputeCluster's manifest."""

from pathlib import Path
from typing import Any

from stoker.api.names import API_VERSION, slug
from stoker.core.yaml12 import Document
from stoker.sdk.azureml import sizes
from stoker.sdk.azureml.fields import COMPUTE
from stoker.sdk.azureml.reading import Reader
from stoker.sdk.draft import shown

_MOST_NODES = 10000
_MOST_IDLE = 604800
_TIERS = {"dedicated": "Dedicated", "low_priority": "Spot"}
#: Labels of AKS's nodes.
_SIZE_LABEL, _TIER_LABEL = "node.kubernetes.io/instance-type", "kubernetes.azure.com/scalesetpriority"


def read(document: Document, folder: Path) -> tuple[dict[str, Any], tuple[str, ...]]:
    """The manifest and what will not be as the file says. Raises BadInputs with every problem."""
    reader = Reader(document, folder)
    root = reader.root
    reader.keys((), root, COMPUTE)
    name = _name(reader, root.get("name"))
    instance, tier = _instance_type(reader, root.get("size"), root.get("tier"))
    most = reader.number(("max_instances",), root.get("max_instances"), 0, _MOST_NODES, "a number of nodes")
    least = reader.number(("min_instances",), root.get("min_instances"), 0, _MOST_NODES, "a number of nodes")
    at = ("idle_time_before_scale_down",)
    idle = reader.number(at, root.get(at[0]), 0, _MOST_IDLE, "a number of seconds")
    if least is not None and least > (1 if most is None else most):
        reader.bad(("min_instances",), f"{least} exceeds max_instances", "lower min_instances or raise max_instances")
    reader.done()
    selector = {_SIZE_LABEL: instance["name"], **({_TIER_LABEL: "spot"} if tier == "Spot" else {})}
    labels = ", ".join(f"{key}={value}" for key, value in selector.items())
    reader.warn(
        ("size",),
        f"provider External is written: the cluster's own autoscaler brings nodes with {labels}; name another provider to "
        "have Stoker bring and remove them. resources are an estimate of what a node offers",
    )
    spec: dict[str, Any] = {
        "provider": {"type": "External", "external": {"nodeSelector": selector}},
        "maxInstances": 1 if most is None else most,
        **({"minInstances": least} if least else {}),
        **({"idleSecondsBeforeScaleDown": idle} if idle is not None else {}),
        "allowedNamespaces": {},
        "instanceTypes": [{**instance, **({"tier": tier} if tier != "Dedicated" else {})}],
    }
    made = {"apiVersion": API_VERSION, "kind": "ComputeCluster", "metadata": {"name": name}, "spec": spec}
    return made, tuple(reader.warnings)


def _name(reader: Reader, value: Any) -> str:
    if not isinstance(value, str) or not value:
        reader.bad(("name",), "is missing", "write name: cpu-cluster")
        return ""
    name = value.lower()
    if slug(name, 63) != name or name in ("local", "serverless"):
        reader.bad(("name",), f"{shown(value)} is not a name for a ComputeCluster", "use letters, digits and dashes")
    elif name != value:
        reader.warn(("name",), f"{shown(value)} is written {name}: Kubernetes has no such letters in names")
    return name


def _instance_type(reader: Reader, size: Any, tier: Any) -> tuple[dict[str, Any], str]:
    kind = "Dedicated"
    if tier is not None:
        text = str(tier).lower().replace("lowpriority", "low_priority")
        if text not in _TIERS:
            reader.bad(("tier",), f"{shown(tier)} is not a tier", "write dedicated or low_priority")
        kind = _TIERS.get(text, kind)
    found = sizes.known(size) if isinstance(size, str) else None
    if found is None:
        said = "is missing" if size is None else f"{shown(size)} is not a size that is known here"
        reader.bad(("size",), said, "write the ComputeCluster yourself: docs/how-to/size-a-pool.md")
        return {}, kind
    return {"name": sizes.canonical(size), "resources": sizes.offered(found)}, kind
