"""A cluster of the user's for `make demo CONTEXT=… REGISTRY=…`: reached by their kubectl and helm, left as it was found.

What the demo makes carries a label, so that nothing else is changed or removed, and a second demo knows its own.
"""

import json
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from tools import chart
from tools.chart import ClusterError

#: Where the demo's job and environment live.
NAMESPACE = "stoker-demo"
_LABEL = {"app.kubernetes.io/managed-by": "make-demo"}
_SELECTOR = ",".join(f"{key}={value}" for key, value in _LABEL.items())
_HOME = {
    "kubectl": "https://kubernetes.io/docs/tasks/tools",
    "helm": "https://helm.sh/docs/intro/install",
}
Progress = Callable[[str], None]


@dataclass(frozen=True)
class YourCluster:
    """A cluster by a context of the kubeconfig."""

    context: str

    def kubectl(self, *arguments: str, input: str | None = None) -> str:
        return _run("kubectl", "--context", self.context, *arguments, input=input)

    def helm(self, *arguments: str) -> str:
        return _run("helm", "--kube-context", self.context, *arguments)


def reach(context: str) -> YourCluster:
    """The cluster of a context, once tools, context and server have been seen; raises ClusterError with what is missing."""
    for tool, home in _HOME.items():
        if not shutil.which(tool):
            raise ClusterError(f"{tool} is not on PATH: install it ({home})")
    contexts = _run("kubectl", "config", "get-contexts", "-o", "name").split()
    if context not in contexts:
        raise ClusterError(
            f"CONTEXT: the kubeconfig has no context {context!r}; it has: {', '.join(contexts) or 'none'}"
        )
    cluster = YourCluster(context)
    cluster.kubectl("version", "--request-timeout=20s")
    return cluster


def refuse_to_disturb(cluster: YourCluster, pool: str) -> None:
    """Raise ClusterError when Stoker, or something named like what the demo makes, is there and not a demo's."""
    ours = json.loads(cluster.kubectl("get", "namespaces", "-l", _SELECTOR, "-o", "json"))["items"]
    marked = [namespace["metadata"]["name"] for namespace in ours]
    if NAMESPACE in marked:
        return
    if cluster.kubectl("get", "namespace", NAMESPACE, "--ignore-not-found", "-o", "name"):
        raise ClusterError(
            f"this cluster has a namespace {NAMESPACE} that no demo made: delete it, or use another cluster"
        )
    if cluster.kubectl(
        "get", "deployment", "stoker-operator", "-n", chart.NAMESPACE, "--ignore-not-found", "-o", "name"
    ):
        raise ClusterError(
            f"Stoker is installed in this cluster already (namespace {chart.NAMESPACE}), and the demo would change it: "
            f"train there with `stoker run examples/iris --context {cluster.context} --compute POOL --environment IMAGE`, "
            "or use another cluster"
        )
    if _has_crds(cluster) and cluster.kubectl("get", "computecluster", pool, "--ignore-not-found", "-o", "name"):
        raise ClusterError(
            f"this cluster has a ComputeCluster {pool} that no demo made: delete it, or use another cluster"
        )


def make_namespaces(cluster: YourCluster) -> None:
    """The demo's namespace, and the release's unless it is there; those made here are marked for removal."""
    for name in (NAMESPACE, chart.NAMESPACE):
        if not cluster.kubectl("get", "namespace", name, "--ignore-not-found", "-o", "name"):
            manifest = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": _LABEL}}
            cluster.kubectl("create", "-f", "-", input=json.dumps(manifest))


def architectures(cluster: YourCluster) -> list[str]:
    """CPU architectures of the nodes; amd64 when there are none yet."""
    nodes = json.loads(cluster.kubectl("get", "nodes", "-o", "json"))["items"]
    return sorted({node["status"]["nodeInfo"]["architecture"] for node in nodes}) or ["amd64"]


def has_default_storage_class(cluster: YourCluster) -> bool:
    key = "storageclass.kubernetes.io/is-default-class"
    classes = json.loads(cluster.kubectl("get", "storageclasses", "-o", "json"))["items"]
    return any(one["metadata"].get("annotations", {}).get(key) == "true" for one in classes)


def chart_values(registry: str, tag: str, mirror: str, *, insecure: bool, volume: bool) -> dict[str, Any]:
    """Values for a release with a try-out store of its own, on a volume or in its pod. mirror: URL of a simple index
    instead of pypi.org; empty for none."""
    return {
        "image": {"repository": registry.rstrip("/"), "tag": tag},
        "insecureRegistries": [registry.partition("/")[0]] if insecure else [],
        "store": {"persistence": {"enabled": volume}},
        "mirrors": {"pypi": mirror} if mirror else {},
    }


def pool_manifest(name: str, *, most: int, architecture: str) -> dict[str, Any]:
    """A ComputeCluster on the nodes that the cluster has, or that its own autoscaler brings."""
    small = {"name": "small", "architecture": architecture, "resources": {"cpu": "1", "memory": "2Gi"}}
    return {
        "apiVersion": "stoker.dev/v1alpha1",
        "kind": "ComputeCluster",
        "metadata": {"name": name, "labels": _LABEL},
        "spec": {
            "provider": {"type": "External"},
            "instanceTypes": [small],
            "maxInstances": most,
            "allowedNamespaces": {"matchNames": [NAMESPACE]},
        },
    }


def remove(cluster: YourCluster, progress: Progress) -> None:
    """Remove all that the demo made but the CRDs; raises ClusterError with what could not be removed."""
    failed = []

    def step(what: str, *commands: Callable[[], object]) -> None:
        try:
            for command in commands:
                command()
        except ClusterError as error:
            failed.append(f"{what}: {error}")
        else:
            progress(f"  removed: {what}")

    def delete(*arguments: str) -> Callable[[], object]:
        return lambda: cluster.kubectl("delete", *arguments, "--ignore-not-found", "--timeout=120s")

    release = ("-n", chart.NAMESPACE, "--wait", "--timeout", "120s", "--ignore-not-found")
    of_the_store = "app.kubernetes.io/name=stoker,app.kubernetes.io/component=store"
    # While the operator is there to end what runs.
    step(f"namespace {NAMESPACE} with job and environment", delete("namespace", NAMESPACE))
    if _has_crds(cluster):
        step("the pool", delete("computeclusters", "-l", _SELECTOR))
    step(
        "the Helm release with the try-out store and what it held",
        lambda: cluster.helm("uninstall", chart.RELEASE, *release),
        delete("persistentvolumeclaims", "-n", chart.NAMESPACE, "-l", of_the_store),
        delete("namespaces", "-l", _SELECTOR),
    )
    if failed:
        raise ClusterError("not all could be removed.\n" + "\n".join(failed))


def by_hand(cluster: YourCluster, pool: str) -> str:
    """The commands that do what `remove` does."""
    kubectl, helm = f"kubectl --context {cluster.context}", f"helm --kube-context {cluster.context}"
    return "\n".join(
        (
            f"  {kubectl} delete namespace {NAMESPACE} --ignore-not-found",
            f"  {kubectl} delete computecluster {pool} --ignore-not-found",
            f"  {helm} uninstall {chart.RELEASE} -n {chart.NAMESPACE} --wait --ignore-not-found",
            f"  {kubectl} delete pvc data-stoker-store-0 -n {chart.NAMESPACE} --ignore-not-found",
            f"  {kubectl} delete namespace -l {_SELECTOR}",
        )
    )


def _has_crds(cluster: YourCluster) -> bool:
    return bool(cluster.kubectl("get", "crd", "computeclusters.stoker.dev", "--ignore-not-found", "-o", "name"))


def _run(*command: str, input: str | None = None) -> str:
    done = subprocess.run(command, input=input, capture_output=True, text=True)
    if done.returncode != 0:
        words = done.stderr.strip() or done.stdout.strip()
        raise ClusterError(f"{' '.join(command[:6])} … ended with {done.returncode}: {words}")
    return done.stdout
