"""The kinds we talk about, their paths in the API, and the types that they are read as."""

from dataclasses import dataclass
from typing import Any

from stoker.api.computecluster import ComputeCluster
from stoker.api.environment import Environment
from stoker.api.kube import BatchJob, Claim, Event, Lean, Node, ObjectMeta, Pod
from stoker.api.kueue import GROUP_VERSION as KUEUE
from stoker.api.kueue import AdmissionCheck, ClusterQueue, LocalQueue, Workload, WorkloadPriorityClass
from stoker.api.names import API_VERSION
from stoker.api.trainingjob import TrainingJob
from stoker.api.workspace import Workspace
from stoker.kube.shapes import LeaseObject


class MetaOnly(Lean, frozen=True):
    """An object of which only the metadata matters."""

    metadata: ObjectMeta


@dataclass(frozen=True, slots=True)
class Resource:
    """One kind. api_version: `v1`, `batch/v1`, ... shape: the type that its objects are decoded into. bookmarks: whether
    watches of it get them (the API server keeps no watch cache of Events, and sends none)."""

    kind: str
    api_version: str
    plural: str
    shape: type[Any]
    namespaced: bool = True
    bookmarks: bool = True

    @property
    def prefix(self) -> str:
        return f"/api/{self.api_version}" if "/" not in self.api_version else f"/apis/{self.api_version}"

    def path(self, namespace: str = "", name: str = "") -> str:
        """The collection of all namespaces, of one namespace, or one object. Cluster-scoped kinds ignore `namespace`."""
        within = f"/namespaces/{namespace}" if namespace and self.namespaced else ""
        return f"{self.prefix}{within}/{self.plural}" + (f"/{name}" if name else "")


PODS = Resource("Pod", "v1", "pods", Pod)
NODES = Resource("Node", "v1", "nodes", Node, namespaced=False)
EVENTS = Resource("Event", "v1", "events", Event, bookmarks=False)
SERVICES = Resource("Service", "v1", "services", MetaOnly)
SECRETS = Resource("Secret", "v1", "secrets", dict)
CONFIG_MAPS = Resource("ConfigMap", "v1", "configmaps", dict)
CLAIMS = Resource("PersistentVolumeClaim", "v1", "persistentvolumeclaims", Claim)
NAMESPACES = Resource("Namespace", "v1", "namespaces", MetaOnly, namespaced=False)
SERVICE_ACCOUNTS = Resource("ServiceAccount", "v1", "serviceaccounts", MetaOnly)
LEASES = Resource("Lease", "coordination.k8s.io/v1", "leases", LeaseObject)
JOBS = Resource("Job", "batch/v1", "jobs", BatchJob)
TRAINING_JOBS = Resource("TrainingJob", API_VERSION, "trainingjobs", TrainingJob)
ENVIRONMENTS = Resource("Environment", API_VERSION, "environments", Environment)
COMPUTE_CLUSTERS = Resource("ComputeCluster", API_VERSION, "computeclusters", ComputeCluster, namespaced=False)
WORKLOADS = Resource("Workload", KUEUE, "workloads", Workload)
LOCAL_QUEUES = Resource("LocalQueue", KUEUE, "localqueues", LocalQueue)
CLUSTER_QUEUES = Resource("ClusterQueue", KUEUE, "clusterqueues", ClusterQueue, namespaced=False)
ADMISSION_CHECKS = Resource("AdmissionCheck", KUEUE, "admissionchecks", AdmissionCheck, namespaced=False)
PRIORITY_CLASSES = Resource(
    "WorkloadPriorityClass", KUEUE, "workloadpriorityclasses", WorkloadPriorityClass, namespaced=False
)
WORKSPACES = Resource("Workspace", API_VERSION, "workspaces", Workspace)

RESOURCES: dict[str, Resource] = {
    resource.kind: resource
    for resource in (
        PODS,
        NODES,
        EVENTS,
        SERVICES,
        SECRETS,
        CLAIMS,
        NAMESPACES,
        SERVICE_ACCOUNTS,
        JOBS,
        TRAINING_JOBS,
        ENVIRONMENTS,
        COMPUTE_CLUSTERS,
        WORKSPACES,
    )
}


def resource_of(path: str) -> str:
    """The plural that a path of the API names: `pods` for `/api/v1/namespaces/a/pods/b`."""
    parts = path.strip("/").split("/")
    rest = parts[2:] if parts[0] == "api" else parts[3:]
    if len(rest) > 2 and rest[0] == "namespaces":
        rest = rest[2:]
    return rest[0] if rest else parts[0]
