"""Simulated machines on a real control plane: kwok makes their nodes ready, when they have booted."""

import time
from collections.abc import Iterator

import pytest

from lab import Lab
from stoker.api.computecluster import ComputeCluster, ComputeClusterSpec, InstanceType, NamespaceSelector
from stoker.api.kube import ObjectMeta
from stoker.api.providers import KwokProvider
from stoker.api.providers import Provider as ProviderSpec
from stoker.controller.pools import PlainObjects
from stoker.nodepools.kwok import NODES, KwokPool
from tests.apiserver.nodepools.conftest import until
from tests.component.nodepools.contract import launch

pytestmark = pytest.mark.lab
GPU = "nvidia.com/gpu"


@pytest.fixture
def pool(objects: PlainObjects, lab: Lab) -> Iterator[KwokPool]:
    block = KwokProvider(boot_seconds=2, device_seconds=2)
    spec = ComputeClusterSpec(
        provider=ProviderSpec(type="Kwok", kwok=block), max_instances=10, allowed_namespaces=NamespaceSelector(),
        instance_types=(InstanceType(name="std", resources={"cpu": "8", "memory": "32Gi", GPU: "4"}),),
    )  # fmt: skip
    yield KwokPool(ComputeCluster(metadata=ObjectMeta(name="sim"), spec=spec), block, objects)
    lab.kubectl("delete", "nodes", "-l", "stoker.dev/compute=sim")


async def test_a_machine_boots_gets_its_devices_and_goes(pool: KwokPool, objects: PlainObjects) -> None:
    await launch(pool, "sim-1", 1)
    launched = time.time()

    async def ready() -> bool:
        await pool.list()
        found = (await objects.get(f"{NODES}/sim-1-0"))["status"].get("conditions", ())
        return any(one["type"] == "Ready" and one["status"] == "True" for one in found)

    async def whole() -> bool:
        await pool.list()
        return GPU in (await objects.get(f"{NODES}/sim-1-0"))["status"]["allocatable"]

    assert ["Booting"] == [machine.state for machine in await pool.list()]
    await until("the machine has booted", ready)
    assert time.time() - launched >= 1.0, "it boots for two seconds, and moments are cut to whole ones"
    assert not await whole(), "its devices are to show later"
    await until("its devices are there", whole)
    assert await ready(), "the rest of its status stays"
    allocatable = (await objects.get(f"{NODES}/sim-1-0"))["status"]["allocatable"]
    assert {"cpu": "8", "memory": "32Gi", GPU: "4", "pods": "110"} == allocatable

    await pool.terminate(["sim-1-0"], token="sim-2")

    async def gone() -> bool:
        return not await pool.list()

    await until("the machine has gone", gone)
