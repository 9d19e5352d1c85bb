"""Where a command job runs and with how much: compute, resources, distribution, limits, queue settings."""

import re
from typing import Any

from stoker.core.yaml12 import Path as FieldPath
from stoker.core.yaml12 import text_of
from stoker.sdk.azureml import sizes
from stoker.sdk.azureml.fields import COMMAND, DISTRIBUTION, RESOURCES
from stoker.sdk.azureml.reading import Reader
from stoker.sdk.draft import seconds, shown

_SHM = re.compile(r"(\d+(?:\.\d+)?)([bkmg])\Z", re.IGNORECASE)
_QUANTITY = re.compile(r"([0-9]+(\.[0-9]*)?|\.[0-9]+)(m|k|M|G|T|P|E|Ki|Mi|Gi|Ti|Pi|Ei|[eE][0-9]+)?\Z")
_NAME = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?\Z")
MOST_NODES = 10000
#: Numbers of each type, by what they are in a manifest.
_COUNTS = {
    "pytorch": {"process_count_per_instance": "processCountPerInstance"},
    "jax": {"process_count_per_instance": "processCountPerInstance"},
    "mpi": {"process_count_per_instance": "processCountPerInstance"},
    "ray": {"port": "port", "dashboard_port": "dashboardPort"},
    "tensorflow": {"worker_count": "workerCount", "parameter_server_count": "parameterServerCount"},
}
_OF_RAY = {
    "address": "",
    "include_dashboard": "includeDashboard",
    "head_node_additional_args": "headNodeAdditionalArgs",
    "worker_node_additional_args": "workerNodeAdditionalArgs",
}


def compute(reader: Reader, value: Any) -> str | None:
    """The ComputeCluster's name, `serverless`, `local`, or None for what the project says."""
    if value is None:
        return None
    at: FieldPath = ("compute",)
    text = str(value).removeprefix("azureml:")
    if "/computes/" in text:
        text = text.rpartition("/")[2]
    name = text.lower().replace("_", "-")
    if not isinstance(value, str) or not _NAME.match(name) or len(name) > 63:
        reader.bad(at, f"{shown(value)} is not the name of a ComputeCluster", "write local or a name, such as cpu")
        return None
    if name != text:
        reader.warn(
            at, f"{shown(text)} is looked for as ComputeCluster {name}: Kubernetes has no such letters in names"
        )
    return name


def resources(reader: Reader, value: Any) -> dict[str, Any]:
    """`command.resources`."""
    at: FieldPath = ("resources",)
    given = reader.mapping(at, value)
    reader.keys(at, given, RESOURCES)
    found: dict[str, Any] = {}
    count = reader.number((*at, "instance_count"), given.get("instance_count"), 1, MOST_NODES, "a number of nodes")
    if count is not None:
        found["instanceCount"] = count
    if (kind := reader.text((*at, "instance_type"), given.get("instance_type"))) is not None:
        found["instanceType"] = sizes.canonical(kind)
    if (size := given.get("shm_size")) is not None and (quantity := _shm(reader, text_of(size))):
        found["shmSize"] = quantity
    requests = reader.texts((*at, "requests"), given.get("requests"))
    for key, text in requests.items():
        if not _QUANTITY.match(text):
            reader.bad((*at, "requests", key), f"{shown(text)} is not a quantity", "write such as 2, 500m or 4Gi")
    if requests:
        found["requests"] = requests
    return found


def _shm(reader: Reader, text: str) -> str | None:
    if match := _SHM.match(text):
        unit = {"b": "", "k": "Ki", "m": "Mi", "g": "Gi"}[match[2].lower()]
        return match[1] + unit
    if _QUANTITY.match(text):
        return text
    fix = "write a number and b, k, m or g, such as 2g"
    reader.bad(("resources", "shm_size"), f"{shown(text)} is not a size", fix)
    return None


def distribution(reader: Reader, value: Any, nodes: int) -> dict[str, Any]:
    """`command.distribution`; empty where the command is started as it is. nodes: of the job."""
    at: FieldPath = ("distribution",)
    given = reader.mapping(at, value)
    if value is None:
        return {}
    kind = reader.choice((*at, "type"), given.get("type"), DISTRIBUTION, "distribution.type")
    if kind is None:
        return {}
    counts = _COUNTS[kind]
    own = {*counts, *(_OF_RAY if kind == "ray" else ())}
    every = {*_OF_RAY, *(key for one in _COUNTS.values() for key in one)}
    for key in given.keys() & (every - own):
        reader.bad((*at, key), f"does not belong to {kind}", f"{kind} has {' and '.join(counts)}")
    reader.keys(at, given, DISTRIBUTION)
    if kind == "mpi" and given.get("process_count_per_instance") is None:
        reader.bad(at, "mpi needs process_count_per_instance", "write process_count_per_instance: 1")
    found: dict[str, Any] = {"type": kind}
    for key, member in counts.items():
        least = 0 if key == "parameter_server_count" else 1
        count = reader.number((*at, key), given.get(key), least, MOST_NODES, "a number of processes")
        if count:
            found[member] = count
    if kind == "ray":
        found |= _ray(reader, given)
    return _fitting(reader, found, nodes)


def _ray(reader: Reader, given: dict[str, Any]) -> dict[str, Any]:
    """The keys of ray that are no numbers."""
    at: FieldPath = ("distribution",)
    found: dict[str, Any] = {}
    dashboard = given.get("include_dashboard")
    if dashboard is not None and not isinstance(dashboard, bool):
        reader.bad((*at, "include_dashboard"), f"{shown(dashboard)} is neither true nor false", "write true or false")
    elif dashboard is not None:
        found["includeDashboard"] = dashboard
    for key in ("head_node_additional_args", "worker_node_additional_args"):
        if (text := reader.text((*at, key), given.get(key))) is not None:
            found[_OF_RAY[key]] = text
    return found


def _fitting(reader: Reader, found: dict[str, Any], nodes: int) -> dict[str, Any]:
    workers, servers = found.get("workerCount"), found.get("parameterServerCount", 0)
    if workers is not None and workers < nodes:
        message, fix = f"{workers} on {nodes} nodes: a node would have none", f"write {nodes} or more"
        reader.bad(("distribution", "worker_count"), message, fix)
    if servers and nodes > 1:
        message = f"parameter servers run on one node, and the job has {nodes}"
        reader.bad(("distribution", "parameter_server_count"), message, "take one node, or leave it out")
    return found


def timeout(reader: Reader, value: Any) -> int | None:
    """`limits.timeoutSeconds`."""
    given = reader.mapping(("limits",), value)
    reader.keys(("limits",), given, COMMAND)
    if given.get("timeout") is None:
        return None
    at: FieldPath = ("limits", "timeout")
    found: int | None = reader.attempt(lambda: seconds(given["timeout"], "limits.timeout", reader.document.point(at)))
    return found


def priority(reader: Reader, value: Any) -> str | None:
    """`queue.priority`; Azure ML writes it in small letters."""
    given = reader.mapping(("queue_settings",), value)
    reader.keys(("queue_settings",), given, COMMAND)
    found = given.get("priority")
    if found is None or str(found).lower() in ("low", "medium", "high"):
        return None if found is None else str(found).capitalize()
    reader.bad(("queue_settings", "priority"), f"{shown(found)} is no priority", "write low, medium or high")
    return None
