"""Jobs with requests on one node at a time, beside what a daemon takes there, placed by the real scheduler."""

from collections.abc import Iterator
from typing import Any

import pytest

from tests.apiserver.controller.conftest import Cluster, until

pytestmark = [pytest.mark.lab, pytest.mark.timeout(240)]

POOL = "shared"
TYPE = "shared-std"
SIZE = {"cpu": "4", "memory": "16Gi"}


def computecluster(name: str, kind: dict[str, Any], **spec: Any) -> dict[str, Any]:
    """A static pool of the nodes that are labelled with its name."""
    provider = {"type": "Static", "static": {"nodeSelector": {"pool": name}}}
    members = {"provider": provider, "allowedNamespaces": {}, "instanceTypes": [kind], **spec}
    return {"apiVersion": "stoker.dev/v1alpha1", "kind": "ComputeCluster", "metadata": {"name": name}, "spec": members}


@pytest.fixture
def shared_pool(cluster: Cluster, namespace: str) -> Iterator[str]:
    """A pool of one kwok node that jobs share, on which a pod that is no job's asks for half a CPU; the node's name."""
    cluster.apply(
        {
            "apiVersion": "lab.stoker.dev/v1", "kind": "NodePool", "metadata": {"name": POOL},
            "spec": {"replicas": 1, "kind": "Kwok", "labels": {"pool": POOL}, "capacity": {**SIZE, "pods": "50"}},
        },
    )  # fmt: skip

    def ready() -> str | None:
        for node in cluster.items("nodes", "-l", f"pool={POOL}"):
            conditions = node["status"].get("conditions", ())
            if any(one["type"] == "Ready" and one["status"] == "True" for one in conditions):
                return str(node["metadata"]["name"])
        return None

    node: str = until("the node is ready", ready)
    daemon = {"name": "d", "image": "registry.example.com/daemon:1", "resources": {"requests": {"cpu": "500m"}}}
    cluster.apply(
        {
            "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "daemon", "namespace": namespace},
            "spec": {"nodeName": node, "tolerations": [{"operator": "Exists"}], "containers": [daemon]},
        },
        computecluster(POOL, {"name": TYPE, "resources": SIZE, "pricePerHour": "1.50"}, maxInstances=1, sharing="Requests"),
    )  # fmt: skip
    yield node
    cluster.lab.kubectl("delete", "trainingjobs", "--all", "-n", namespace)
    cluster.lab.kubectl("delete", "computecluster", POOL, f"{POOL}-dear", "--ignore-not-found")
    cluster.lab.kubectl("delete", "nodepools.lab.stoker.dev", POOL)


@pytest.mark.usefixtures("operator")
def test_two_jobs_run_on_one_node_at_the_same_time_and_a_third_waits_with_the_figure(
    cluster: Cluster, namespace: str, shared_pool: str
) -> None:
    def submit(name: str, cpu: str) -> None:
        cluster.job(namespace, name, compute=POOL, command={"resources": {"requests": {"cpu": cpu, "memory": "1Gi"}}})

    def running(*names: str) -> bool:
        pods = cluster.items("pods", "-n", namespace, "-l", "stoker.dev/job")
        there = {
            pod["metadata"]["labels"]["stoker.dev/job"]
            for pod in pods
            if pod["status"].get("phase") == "Running" and pod["spec"].get("nodeName") == shared_pool
        }
        return there == set(names)

    submit("one", "1500m")
    submit("two", "1500m")
    until("both run on the node", lambda: running("one", "two"))

    submit("three", "500m")

    def waiting() -> dict[str, Any] | None:
        told = cluster.get("trainingjob", "three", "-n", namespace).get("status", {}).get("waiting") or {}
        return told if told.get("reason") == "PoolFull" else None

    told = until("the third waits for room", waiting)
    # 4 CPUs, less 500m of the daemon and twice 1550m; a pod of the third asks for 500m and 50m beside the command.
    assert f"{shared_pool} comes closest, with 400m of 550m cpu" in told["message"]
    assert running("one", "two")

    cluster.lab.kubectl("delete", "trainingjob", "one", "-n", namespace, "--wait=false")
    cluster.lab.kubectl(
        "delete", "pods", "-n", namespace, "-l", "stoker.dev/job=one", "--grace-period=0", "--force", "--wait=false"
    )
    until("the third runs on the part that fell free", lambda: running("two", "three"))


@pytest.mark.usefixtures("operator")
def test_a_job_that_names_no_pool_gets_the_cheapest_that_fits(
    cluster: Cluster, namespace: str, shared_pool: str
) -> None:
    dear = {"name": TYPE, "resources": SIZE, "pricePerHour": "9.00"}
    cluster.apply(computecluster(f"{POOL}-dear", dear, maxInstances=4))
    asked = {"instanceType": TYPE, "requests": {"cpu": "1", "memory": "1Gi"}}
    cluster.job(namespace, "cheap", compute="serverless", command={"resources": asked})
    cluster.job(namespace, "none", compute="serverless", command={"resources": {**asked, "instanceCount": 9}})

    def told(name: str) -> dict[str, Any]:
        found: dict[str, Any] = cluster.get("trainingjob", name, "-n", namespace).get("status") or {}
        return found

    def refused() -> str:
        waiting = told("none").get("waiting") or {}
        return str(waiting["message"]) if waiting.get("reason") == "NoPoolFits" else ""

    def nodes() -> list[str]:
        pods = cluster.items("pods", "-n", namespace, "-l", "stoker.dev/job=cheap")
        return [pod["spec"]["nodeName"] for pod in pods if pod["spec"].get("nodeName")]

    assert until("the first has its node", nodes) == [shared_pool]
    shown = until("its status tells why", lambda: told("cheap") if "computeChoice" in told("cheap") else None)
    assert (shown["compute"], shown["computeChoice"]["instanceType"]) == (POOL, TYPE)
    assert f"{POOL} with type {TYPE}, 1.50 an hour: the cheapest of 2 of " in shown["computeChoice"]["message"]
    message = until("the other is told why not", refused)
    assert f"{POOL}: it may have 1 nodes and the job needs 9; {POOL}-dear: it may have 4 nodes" in message
