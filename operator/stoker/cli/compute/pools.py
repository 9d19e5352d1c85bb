"""ComputeClusters and the jobs on them, as the commands below read them."""

from collections.abc import Mapping
from typing import Any

from stoker.api.names import API_VERSION, FINISHED
from stoker.errors import BadInput
from stoker.sdk.client import Cluster
from stoker.sdk.kube import Refused

Plain = Mapping[str, Any]
ROOT = f"/apis/{API_VERSION}"
#: Objects that are asked for at a time.
PAGE = 500


def path(name: str = "") -> str:
    """The API path of the ComputeClusters, or of one."""
    return f"{ROOT}/computeclusters" + (f"/{name}" if name else "")


def one(cluster: Cluster, name: str) -> Plain:
    """A ComputeCluster, whole; raises BadInput with the names there are."""
    found = cluster.compute(name)
    if found is None:
        raise BadInput(
            "NAME", f"you may not get ComputeCluster {name}", "ask for a binding to ClusterRole stoker-pools"
        )
    return found


def every(cluster: Cluster) -> list[Plain]:
    """All of the cluster, by name."""
    return sorted(_listed(cluster, path()), key=lambda item: str(item["metadata"]["name"]))


def line_of(pool: Plain) -> dict[str, Any]:
    """One pool in a list."""
    spec, status = pool.get("spec") or {}, pool.get("status") or {}
    ready: Plain = next((one for one in status.get("conditions") or () if one.get("type") == "Ready"), {})
    return {
        "name": pool["metadata"]["name"],
        "provider": (spec.get("provider") or {}).get("type", ""),
        "types": [kind["name"] for kind in spec.get("instanceTypes") or ()],
        "min": spec.get("minInstances", 0),
        "max": spec.get("maxInstances", 0),
        "current": status.get("currentNodes", 0),
        "target": status.get("targetNodes", 0),
        "state": status.get("allocationState", "Steady"),
        "ready": ready.get("status", "Unknown"),
        "reason": ready.get("reason", ""),
        "message": ready.get("message", ""),
        "nodes": dict(status.get("nodes") or {}),
        "waiting": sum((status.get("waitingJobs") or {}).values()),
    }


def jobs_on(cluster: Cluster, name: str) -> tuple[list[Plain], bool]:
    """The unfinished jobs of a pool, and whether they are those of all namespaces: else of the own one alone."""
    try:
        items, whole = _listed(cluster, f"{ROOT}/trainingjobs"), True
    except Refused as error:
        if error.status != 403:
            raise
        items, whole = _listed(cluster, cluster.path()), False
    return [job for job in items if _pool_of(job) == name and not _finished(job)], whole


def _listed(cluster: Cluster, where: str) -> list[Plain]:
    """All objects of a collection, page by page."""
    found: list[Plain] = []
    token = ""
    while True:
        page = cluster.kube.get(where, limit=str(PAGE), **({"continue": token} if token else {}))
        found += page["items"]
        token = (page.get("metadata") or {}).get("continue") or ""
        if not token:
            return found


def _pool_of(job: Plain) -> str:
    status = job.get("status") or {}
    return str(status.get("compute") or job["spec"].get("compute") or "")


def _finished(job: Plain) -> bool:
    return (job.get("status") or {}).get("phase") in FINISHED
