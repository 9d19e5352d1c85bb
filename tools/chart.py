"""Install Stoker's chart into a cluster, and when its pods do not come up, say why."""

import json
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Protocol

from lab import LabError

CHART = Path(__file__).resolve().parent.parent / "charts" / "stoker"
RELEASE = "stoker"
NAMESPACE = "stoker-system"
#: Events told of one object, the newest.
_EVENTS = 4


class Cluster(Protocol):
    """A cluster by its command-line tools; both raise ClusterError or LabError with the tool's own words."""

    def kubectl(self, *arguments: str, input: str | None = None) -> str: ...
    def helm(self, *arguments: str) -> str: ...


class ClusterError(Exception):
    """The cluster, or a tool that speaks to it, refused; the message says what and why."""


def install(cluster: Cluster, values: Mapping[str, Any], *, seconds: int = 120) -> None:
    """Install or upgrade the release and wait until its pods are ready; raises ClusterError with what holds them up."""
    with tempfile.NamedTemporaryFile("w", suffix=".json") as file:
        json.dump(values, file)
        file.flush()
        # fmt: off
        options = (
            "-n", NAMESPACE, "--create-namespace", "-f", file.name, "--wait", "--timeout", f"{seconds}s",
        )
        # fmt: on
        try:
            cluster.helm("upgrade", "--install", RELEASE, str(CHART), *options)
        except (LabError, ClusterError) as error:
            raise ClusterError(f"{error}\n{why_not_ready(cluster)}".rstrip()) from error


def why_not_ready(cluster: Cluster, namespace: str = NAMESPACE) -> str:
    """What the pods of a namespace wait for or fail with: conditions, events, last log lines; "" when all are ready."""

    def items(kind: str) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = json.loads(cluster.kubectl("get", kind, "-n", namespace, "-o", "json"))["items"]
        return found

    try:
        lines = explain(items("pods"), items("persistentvolumeclaims"), items("events"))
        for pod in items("pods"):
            if any(status.get("restartCount") for status in pod.get("status", {}).get("containerStatuses", ())):
                name = pod["metadata"]["name"]
                log = cluster.kubectl("logs", name, "-n", namespace, "--all-containers", "--tail=15")
                lines += [f"log of pod {name}:", *(f"  {line}" for line in log.splitlines())]
    except (LabError, ClusterError) as error:
        return f"and why cannot be asked: {error}"
    return "\n".join(lines)


def explain(pods: list[dict[str, Any]], claims: list[dict[str, Any]], events: list[dict[str, Any]]) -> list[str]:
    """Lines about each pod that is not ready and each claim that has no volume, with their newest events."""
    lines = []
    for kind, objects in (("Pod", pods), ("PersistentVolumeClaim", claims)):
        for thing in objects:
            status = thing.get("status", {})
            if _ready(kind, status):
                continue
            name = thing["metadata"]["name"]
            lines.append(f"{kind} {name} is not ready ({status.get('phase', 'unknown')})")
            lines += [f"  {line}" for line in _waits(status)]
            of_it = [event for event in events if _about(event, kind, name)]
            for event in sorted(of_it, key=_when)[-_EVENTS:]:
                lines.append(f"  event {event.get('reason', '')}: {event.get('message', '').strip()}")
    return lines


def _ready(kind: str, status: Mapping[str, Any]) -> bool:
    if kind == "PersistentVolumeClaim":
        return bool(status.get("phase") == "Bound")
    conditions = {one["type"]: one["status"] for one in status.get("conditions", ())}
    return status.get("phase") == "Succeeded" or conditions.get("Ready") == "True"


def _waits(status: Mapping[str, Any]) -> Iterator[str]:
    """What containers wait for, or how they ended."""
    for container in (*status.get("initContainerStatuses", ()), *status.get("containerStatuses", ())):
        waiting = container.get("state", {}).get("waiting", {})
        ended = container.get("lastState", {}).get("terminated") or container.get("state", {}).get("terminated")
        if waiting.get("reason") not in (None, "PodInitializing", "ContainerCreating"):
            yield f"container {container['name']}: {waiting['reason']}: {waiting.get('message', '')}".rstrip(": ")
        if ended and ended.get("exitCode"):
            yield f"container {container['name']} ended with {ended['exitCode']} ({ended.get('reason', '')})"


def _about(event: Mapping[str, Any], kind: str, name: str) -> bool:
    told = event.get("involvedObject", {})
    # That a pod was placed or an image was pulled explains nothing.
    dull = event.get("type") == "Normal" and event.get("reason") in (
        "Scheduled",
        "Pulling",
        "Pulled",
        "Created",
        "Started",
    )
    return bool(told.get("kind") == kind and told.get("name") == name and not dull)


def _when(event: Mapping[str, Any]) -> str:
    return str(event.get("lastTimestamp") or event.get("eventTime") or event["metadata"].get("creationTimestamp", ""))
