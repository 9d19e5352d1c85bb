"""Kwok keeps the contract, and has the troubles that its spec asks for."""

from collections.abc import AsyncIterator
from typing import Any

import pytest

from stoker.api.computecluster import ComputeCluster, ComputeClusterSpec, InstanceType, NamespaceSelector
from stoker.api.kube import Node, ObjectMeta
from stoker.api.providers import KwokFault, KwokProvider
from stoker.api.providers import Provider as ProviderSpec
from stoker.controller.pools import PlainObjects
from stoker.core import times
from stoker.core.cluster.machines import LaunchFault
from stoker.kube.client import KubeClient
from stoker.nodepools.kwok import FAKE, KwokPool
from stoker.nodepools.pool import LaunchError, PoolError
from tests.component.nodepools.contract import MachineContract, Provider, launch
from tests.support.fake_api import FakeApi, Fault

NODES = "/api/v1/nodes"
GPU = "nvidia.com/gpu"
RESOURCES = {"cpu": "8", "memory": "32Gi", GPU: "4"}
MORNING = 1_767_322_800.0


class Cloud:
    """A fake API server with kwok pools over it, at a time of its own."""

    def __init__(self, api: FakeApi) -> None:
        self.api, self.now = api, MORNING
        self.client: KubeClient = api.client()
        self.given: dict[str, Any] = {}

    def pool(self, name: str = "cpu", **given: Any) -> KwokPool:
        block = KwokProvider(**(self.given | given))
        spec = ComputeClusterSpec(
            provider=ProviderSpec(type="Kwok", kwok=block), max_instances=10, allowed_namespaces=NamespaceSelector(),
            instance_types=(InstanceType(name="std", resources=RESOURCES),),
        )  # fmt: skip
        self.api.creation_timestamp = times.rfc3339(self.now)
        cluster = ComputeCluster(metadata=ObjectMeta(name=name), spec=spec)
        return KwokPool(cluster, block, PlainObjects(self.client), lambda: self.now)

    def node(self, name: str = "cpu-1-0") -> dict[str, Any]:
        return self.api.objects[f"{NODES}/{name}"]

    async def states(self, pool: KwokPool) -> list[str]:
        return [machine.state for machine in await pool.list()]

    async def ready(self) -> None:
        """kwok's part."""
        for path in [path for path in self.api.objects if path.startswith(NODES)]:
            status = {**self.api.objects[path].get("status", {}), "conditions": [{"type": "Ready", "status": "True"}]}
            await self.api.put(path, status=status)

    async def stranger(self) -> None:
        await self.api.put(f"{NODES}/theirs", metadata={"labels": {"stoker.dev/compute": "cpu"}}, spec={})

    async def refuse(self, fault: LaunchFault) -> None:
        self.given["launch_faults"] = (KwokFault(instance_type="std", fault=fault),)

    async def only(self, count: int) -> None:
        self.given["capacity"] = count


@pytest.fixture
async def cloud() -> AsyncIterator[Cloud]:
    api = FakeApi()
    await api.start()
    found = Cloud(api)
    yield found
    await found.client.close()
    await api.stop()


class TestKwok(MachineContract):
    @pytest.fixture
    def provider(self, cloud: Cloud) -> Provider:
        return Provider(
            cloud.pool,
            cloud.refuse,
            cloud.stranger,
            cloud.only,
            faults=[
                (PoolError("Forbidden", 'nodes is forbidden: User "stoker" cannot create'), "Auth"),
                (PoolError("Forbidden", "nodes is forbidden: exceeded quota: few"), "Quota"),
                (PoolError("Invalid", "metadata.labels: Invalid value"), "Config"),
                (PoolError("TooManyRequests", "later"), "Throttled"),
                (PoolError("Unavailable", "connection refused"), "Transient"),
                (LaunchError("Capacity", "X", "y"), "Capacity"),
                (RuntimeError("x"), "Transient"),
            ],
        )


async def test_a_machine_is_a_node_that_the_pool_owns(cloud: Cloud) -> None:
    pool = cloud.pool()
    await launch(pool, "cpu-1", 1)

    found = await cloud.client.get(f"{NODES}/cpu-1-0", Node)
    assert pool.owns(found)
    assert not cloud.pool("gpu").owns(found)
    assert "kwok://cpu-1-0" == found.spec.provider_id
    assert [("stoker.dev/compute", "cpu", "NoSchedule")] == [(t.key, t.value, t.effect) for t in found.spec.taints]
    assert RESOURCES | {"pods": "110"} == found.status.allocatable


async def test_a_machine_boots_until_its_node_is_ready(cloud: Cloud) -> None:
    pool = cloud.pool(boot_seconds=30)
    await launch(pool, "cpu-1", 1)
    assert ["Booting"] == await cloud.states(pool)
    annotations = cloud.node()["metadata"]["annotations"]
    assert times.rfc3339(MORNING + 30) == annotations["stoker.dev/boots-until"]
    assert FAKE.items() <= annotations.items()

    await cloud.ready()
    assert ["Running"] == await cloud.states(cloud.pool(boot_seconds=30))


async def test_devices_show_later_than_the_rest(cloud: Cloud) -> None:
    pool = cloud.pool(boot_seconds=10, device_seconds=20)
    await launch(pool, "cpu-1", 1)
    for moment, shown in ((0, False), (10, False), (29, False), (30, True), (31, True)):
        cloud.now = MORNING + moment
        await pool.list()
        assert shown is (GPU in cloud.node()["status"]["allocatable"]), f"after {moment} s"

    assert RESOURCES | {"pods": "110"} == cloud.node()["status"]["allocatable"]


async def test_a_spot_machine_gets_notice_and_goes(cloud: Cloud) -> None:
    pool = cloud.pool(preempt_after_seconds=60, notice_seconds=20)
    await pool.launch(count=1, instance_type="std", tier="Spot", zone="a", atomic=False, token="cpu-1")
    await pool.launch(count=1, instance_type="std", tier="Dedicated", zone="", atomic=False, token="cpu-2")
    await cloud.ready()
    assert (await pool.describe()).spot_notice
    assert ["Running", "Running"] == await cloud.states(pool)

    cloud.now += 60
    assert ["Preempted", "Running"] == await cloud.states(pool)
    cloud.now += 19
    assert ["Preempted", "Running"] == await cloud.states(pool)
    cloud.now += 1
    await pool.list()
    assert ["cpu-2"] == [machine.token for machine in await pool.list()]


async def test_a_launch_that_the_api_server_breaks_off_goes_on_with_the_same_token(cloud: Cloud) -> None:
    pool = cloud.pool()
    refusal = Fault(403, "Forbidden", "cannot create")
    cloud.api.fail("POST", refusal)
    with pytest.raises(LaunchError) as caught:
        await launch(pool, "cpu-1", 2)
    assert ("Auth", "Forbidden", 0) == (caught.value.fault, caught.value.reason, caught.value.launched)

    await launch(pool, "cpu-1", 2)
    assert ["cpu-1-0", "cpu-1-1"] == sorted(machine.id for machine in await pool.list())


async def test_a_name_that_is_somebody_elses_is_told(cloud: Cloud) -> None:
    await cloud.api.put(f"{NODES}/cpu-1-0", metadata={"labels": {}}, spec={"theirs": True})
    pool = cloud.pool()
    with pytest.raises(LaunchError, match="Node cpu-1-0 exists already") as caught:
        await launch(pool, "cpu-1", 1)

    assert "Config" == caught.value.fault
    await pool.terminate(["cpu-1-0"], token="cpu-2")
    assert {"theirs": True} == cloud.node()["spec"]


async def test_an_unknown_type_is_told_with_those_there_are(cloud: Cloud) -> None:
    with pytest.raises(LaunchError, match="'big' is none of the pool's types: std") as caught:
        await launch(cloud.pool(), "cpu-1", 1, kind="big")

    assert "Config" == caught.value.fault
