"""Pools of single machines, live: the operator as a process, simulated machines on a real control plane."""

import signal
from collections.abc import Iterator
from typing import Any

import pytest

from tests.apiserver.controller.conftest import Cluster, Operator, until

pytestmark = [pytest.mark.lab, pytest.mark.timeout(300)]
POOL = "sim"


def sim(kwok: dict[str, Any], **spec: Any) -> dict[str, Any]:
    return {
        "apiVersion": "stoker.dev/v1alpha1",
        "kind": "ComputeCluster",
        "metadata": {"name": POOL},
        "spec": {
            "provider": {"type": "Kwok", "kwok": kwok},
            "maxInstances": 4,
            "idleSecondsBeforeScaleDown": 2,
            "allowedNamespaces": {},
            "instanceTypes": [{"name": "std", "resources": {"cpu": "8", "memory": "32Gi"}}],
            **spec,
        },
    }


@pytest.fixture
def pool(cluster: Cluster, operator: Operator) -> Iterator[str]:
    """The name of a pool that a test applies, and that goes with its machines."""
    yield POOL
    # The operator ends its machines first.
    cluster.lab.kubectl("delete", "computecluster", POOL, "--ignore-not-found", "--timeout=60s")
    assert [] == machines(cluster)


def machines(cluster: Cluster) -> list[str]:
    return [node["metadata"]["name"] for node in cluster.items("nodes", "-l", f"stoker.dev/compute={POOL}")]


def status(cluster: Cluster) -> dict[str, Any]:
    found: dict[str, Any] = cluster.get("computecluster", POOL).get("status", {})
    return found


def is_empty(cluster: Cluster) -> bool:
    seen = status(cluster)
    return not machines(cluster) and seen.get("currentNodes") == 0 and not seen.get("intents")


@pytest.mark.usefixtures("sealer")
def test_a_gang_brings_its_machines_and_they_go_again(
    cluster: Cluster, operator: Operator, namespace: str, pool: str
) -> None:
    since = cluster.lab.audit_log.stat().st_size
    cluster.apply(sim({"bootSeconds": 2}))
    cluster.job(namespace, "gang", compute=pool, command={"resources": {"instanceCount": 2}})
    until("the gang has run", lambda: cluster.phase(namespace, "gang") == "Completed", 90)
    until("the pool is at zero again", lambda: is_empty(cluster), 60)

    made = [one for one in cluster.writes(since, "/nodes") if one == ("create", "nodes", "")]
    assert 2 == len(made), "one machine for each rank, and none twice"
    gone = [one for one in cluster.writes(since, f"{POOL}-") if one == ("delete", "nodes", "")]
    assert 2 == len(gone)


@pytest.mark.usefixtures("sealer")
def test_capacity_that_is_not_there_is_told_and_used_once_it_comes(
    cluster: Cluster, operator: Operator, namespace: str, pool: str
) -> None:
    fault = {"instanceType": "std", "fault": "Capacity", "message": "no std in this region today"}
    cluster.apply(sim({"launchFaults": [fault]}))
    cluster.job(namespace, "waits", compute=pool)

    def told() -> bool:
        seen = cluster.get("trainingjob", "waits", "-n", namespace).get("status", {}).get("waiting") or {}
        return "no std in this region today" in seen.get("message", "")

    until("the job says what the provider said", told, 30)
    assert [] == machines(cluster)
    assert "no std in this region today" in str(status(cluster)["backoff"])

    cluster.apply(sim({}))
    until("it has run", lambda: cluster.phase(namespace, "waits") == "Completed", 90)


@pytest.mark.usefixtures("sealer")
def test_an_operator_that_is_killed_while_machines_boot_launches_no_more(
    cluster: Cluster, operator: Operator, namespace: str, pool: str
) -> None:
    since = cluster.lab.audit_log.stat().st_size
    cluster.apply(sim({"bootSeconds": 5}))
    cluster.job(namespace, "boots", compute=pool, command={"resources": {"instanceCount": 2}})
    until("machines boot", lambda: machines(cluster), 30)
    operator.end(signal.SIGKILL)
    operator.start()

    until("it has run", lambda: cluster.phase(namespace, "boots") == "Completed", 120)
    made = [one for one in cluster.writes(since, "/nodes") if one == ("create", "nodes", "")]
    assert 2 == len(made)
    until("the pool is at zero again", lambda: is_empty(cluster), 60)
