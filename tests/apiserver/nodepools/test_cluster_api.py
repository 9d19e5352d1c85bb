"""Type Scale over Cluster API's own MachineDeployment: sized by its scale subresource, and left alone during a rollout."""

from collections.abc import Iterator
from typing import Any

import pytest

from lab import Lab
from stoker.api.providers import ScaleProvider
from stoker.controller.pools import PlainObjects
from stoker.core.cluster.view import ScaleView
from stoker.nodepools.pool import PoolError, ReplicasChanged
from stoker.nodepools.scale import ScalePool
from tests.apiserver.nodepools.conftest import installed

pytestmark = pytest.mark.lab
GROUP, NAMESPACE = "/apis/cluster.x-k8s.io/v1beta2", "machines"
OBJECT = f"{GROUP}/namespaces/{NAMESPACE}/machinedeployments/cpu"


@pytest.fixture(scope="module")
def machines(lab: Lab) -> Iterator[None]:
    lab.kubectl("create", "namespace", NAMESPACE)
    yield from installed(
        lab, "sigs.k8s.io/cluster-api", "core/config/crd/bases/cluster.x-k8s.io_machinedeployments.yaml"
    )
    lab.kubectl("delete", "namespace", NAMESPACE, "--wait=false")


@pytest.fixture
async def pool(machines: None, objects: PlainObjects) -> ScalePool:
    template = {
        "metadata": {"labels": {"pool": "cpu"}},
        "spec": {
            "clusterName": "c",
            "bootstrap": {"dataSecretName": "none"},
            "infrastructureRef": {"apiGroup": "infrastructure.cluster.x-k8s.io", "kind": "M", "name": "m"},
        },
    }
    spec = {"clusterName": "c", "replicas": 3, "selector": {"matchLabels": {"pool": "cpu"}}, "template": template}
    body = {
        "apiVersion": "cluster.x-k8s.io/v1beta2", "kind": "MachineDeployment",
        "metadata": {"name": "cpu", "namespace": NAMESPACE}, "spec": spec,
    }  # fmt: skip
    await objects.create(OBJECT.rpartition("/")[0], body)
    provider = ScaleProvider(
        api_version="cluster.x-k8s.io/v1beta2", kind="MachineDeployment", name="cpu", namespace=NAMESPACE,
        node_selector={"pool": "cpu"},
    )  # fmt: skip
    return ScalePool("cpu", provider, objects)


async def controller_says(objects: PlainObjects, **status: Any) -> None:
    """What Cluster API's controller writes; it has seen the object as it is now, unless told otherwise."""
    generation = (await objects.get(OBJECT))["metadata"]["generation"]
    await objects.merge(f"{OBJECT}/status", {"status": {"observedGeneration": generation, **status}})


async def test_a_machine_deployment_is_sized_but_not_lowered_during_a_rollout(
    pool: ScalePool, objects: PlainObjects
) -> None:
    await controller_says(objects, replicas=3, upToDateReplicas=3)
    assert ScaleView(replicas=3) == await pool.scale()
    await pool.scale_to(3, 4)
    assert 4 == (await objects.get(OBJECT))["spec"]["replicas"]

    with pytest.raises(ReplicasChanged, match="has not been acted on yet"):
        await pool.scale_to(4, 3)
    await controller_says(objects, replicas=4, upToDateReplicas=1)
    assert "(1 of 4 are new)" in (await pool.scale()).rollout
    with pytest.raises(PoolError, match="replaces its machines") as caught:
        await pool.scale_to(4, 3)
    assert "RolloutUnderWay" == caught.value.reason
    assert 4 == (await objects.get(OBJECT))["spec"]["replicas"]

    await controller_says(objects, replicas=4, upToDateReplicas=4)
    await pool.scale_to(4, 3)
    assert 3 == (await objects.get(OBJECT))["spec"]["replicas"]
