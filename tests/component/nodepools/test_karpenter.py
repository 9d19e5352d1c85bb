"""Karpenter keeps the contract with NodeClaims of our own."""

from collections.abc import AsyncIterator
from typing import Any

import pytest

from stoker.api.computecluster import ComputeCluster, ComputeClusterSpec, InstanceType, NamespaceSelector
from stoker.api.kube import Node, ObjectMeta
from stoker.api.providers import KarpenterMachines, KarpenterNodeClass, KarpenterProvider
from stoker.api.providers import Provider as ProviderSpec
from stoker.controller.pools import PlainObjects
from stoker.core.cluster.machines import LaunchFault
from stoker.nodepools.karpenter import CLAIMS, DO_NOT_DISRUPT, NODES, KarpenterPool
from stoker.nodepools.pool import LaunchError, ObjectApi, PoolError
from tests.component.nodepools.claims import WORDS, Karpenter
from tests.component.nodepools.contract import MachineContract, Provider, launch
from tests.support.fake_api import FakeApi, Fault

RESOURCES = {"cpu": "4", "memory": "14Gi", "nvidia.com/gpu": "1"}
CLASS = KarpenterNodeClass(name="default")
FAULTS: list[tuple[Exception, LaunchFault]] = [
    (PoolError("Forbidden", "nodeclaims is forbidden"), "Auth"),
    (PoolError("NotFound", "the server could not find the requested resource"), "Config"),
    (PoolError("TooManyRequests", "later"), "Throttled"),
    (LaunchError("Capacity", "X", "y"), "Capacity"),
    (LaunchError("Quota", "X", "y"), "Quota"),
    (RuntimeError("x"), "Transient"),
]


def karpenter_pool(
    api: ObjectApi, name: str = "cpu", node_class: KarpenterNodeClass = CLASS, **given: Any
) -> KarpenterPool:
    block = KarpenterProvider(node_class=node_class, **given)
    spec = ComputeClusterSpec(
        provider=ProviderSpec(type="Karpenter", karpenter=block), max_instances=10,
        allowed_namespaces=NamespaceSelector(), instance_types=(InstanceType(name="std", resources=RESOURCES),),
    )  # fmt: skip
    return KarpenterPool(ComputeCluster(metadata=ObjectMeta(name=name), spec=spec), block, api)


class Cloud:
    def __init__(self, api: FakeApi) -> None:
        self.api, self.client = api, api.client()
        self.objects = PlainObjects(self.client)
        self.karpenter = Karpenter(self.objects)

    def pool(self, name: str = "cpu", **given: Any) -> KarpenterPool:
        return karpenter_pool(self.objects, name, **given)

    def claim(self, name: str = "cpu-1-0") -> dict[str, Any]:
        return self.api.objects[f"{CLAIMS}/{name}"]

    async def stranger(self) -> None:
        """A claim of one of Karpenter's own NodePools."""
        labels = {"karpenter.sh/nodepool": "cpu"}
        await self.api.put(f"{CLAIMS}/cpu-x7f", metadata={"labels": labels}, spec={"requirements": []})

    async def refuse(self, fault: LaunchFault) -> None:
        self.karpenter.refused = fault

    async def only(self, count: int) -> None:
        self.karpenter.room = count


@pytest.fixture
async def cloud() -> AsyncIterator[Cloud]:
    api = FakeApi()
    await api.start()
    found = Cloud(api)
    yield found
    await found.client.close()
    await api.stop()


class TestKarpenter(MachineContract):
    @pytest.fixture
    def provider(self, cloud: Cloud) -> Provider:
        return Provider(
            cloud.pool, cloud.refuse, cloud.stranger, cloud.only, settle=cloud.karpenter.settle, faults=FAULTS
        )


async def test_a_claim_that_karpenter_gives_up_is_no_machine_and_then_a_failure(cloud: Cloud) -> None:
    """It keeps a claim that it deletes for a while: until then nothing is known."""
    pool = cloud.pool()
    await launch(pool, "cpu-1", 1)
    await cloud.api.put(f"{CLAIMS}/cpu-1-0", metadata={"deletionTimestamp": "2026-01-02T03:05:05Z"})
    assert () == await pool.list()
    await launch(pool, "cpu-1", 1)

    await cloud.api.remove(f"{CLAIMS}/cpu-1-0")
    with pytest.raises(LaunchError, match="Karpenter deleted NodeClaim cpu-1-0 before it was launched") as caught:
        await launch(pool, "cpu-1", 1)
    assert ("Capacity", 0) == (caught.value.fault, caught.value.launched)


async def test_a_claim_asks_for_what_the_type_promises_and_never_expires(cloud: Cloud) -> None:
    machines = (KarpenterMachines(instance_type="std", names=("g5.xlarge", "g6.xlarge")),)
    pool = cloud.pool(machines=machines)
    await pool.launch(count=1, instance_type="std", tier="Spot", zone="eu-west-1a", atomic=False, token="cpu-1")

    spec = cloud.claim()["spec"]
    assert {"group": "karpenter.k8s.aws", "kind": "EC2NodeClass", "name": "default"} == spec["nodeClassRef"]
    assert {
        "kubernetes.io/os": ["linux"],
        "kubernetes.io/arch": ["amd64"],
        "karpenter.sh/capacity-type": ["spot"],
        "node.kubernetes.io/instance-type": ["g5.xlarge", "g6.xlarge"],
        "topology.kubernetes.io/zone": ["eu-west-1a"],
    } == {one["key"]: one["values"] for one in spec["requirements"]}
    assert RESOURCES == spec["resources"]["requests"]
    assert "Never" == spec["expireAfter"]
    assert [{"key": "stoker.dev/compute", "value": "cpu", "effect": "NoSchedule"}] == spec["taints"]
    await cloud.karpenter.settle()
    assert ["Spot"] == [machine.tier for machine in await pool.list()]


async def test_a_machine_boots_until_karpenter_calls_it_initialized(cloud: Cloud) -> None:
    pool = cloud.pool()
    await launch(pool, "cpu-1", 1)
    assert () == await pool.list(), "it may never be launched"
    await cloud.karpenter.status("cpu-1-0", Launched=("True", "Launched", ""))
    assert [("Booting", "")] == [(one.state, one.node) for one in await pool.list()]
    done = ("True", "Launched", "")
    await cloud.karpenter.status(
        "cpu-1-0", "ip-1", Launched=done, Registered=done, Initialized=("Unknown", "ResourceNotRegistered", "")
    )
    assert [("Booting", "ip-1")] == [(one.state, one.node) for one in await pool.list()]
    await cloud.karpenter.status("cpu-1-0", "ip-1", Launched=done, Registered=done, Initialized=done)
    assert [("Running", "ip-1")] == [(one.state, one.node) for one in await pool.list()]


async def test_its_node_is_the_pools(cloud: Cloud) -> None:
    pool = cloud.pool()
    await launch(pool, "cpu-1", 1)
    await cloud.karpenter.settle()

    node = await cloud.client.get(f"{NODES}/ip-cpu-1-0", Node)
    assert pool.owns(node)
    assert not cloud.pool("gpu").owns(node)


async def test_a_machine_with_a_job_is_not_disrupted(cloud: Cloud) -> None:
    pool = cloud.pool()
    await launch(pool, "cpu-1", 2)
    await cloud.karpenter.settle()
    await pool.hold(["cpu-1-1"])

    def marked() -> dict[str, bool]:
        paths = [f"{kind}-{n}" for kind in (f"{CLAIMS}/cpu-1", f"{NODES}/ip-cpu-1") for n in (0, 1)]
        return {
            path.rpartition("/")[2]: (cloud.api.objects[path]["metadata"].get("annotations") or {}).get(DO_NOT_DISRUPT)
            == "true"
            for path in paths
        }

    assert {"cpu-1-0": False, "cpu-1-1": True, "ip-cpu-1-0": False, "ip-cpu-1-1": True} == marked()
    patches = len(cloud.api.seen("PATCH"))
    await pool.hold(["cpu-1-1"])
    assert patches == len(cloud.api.seen("PATCH"))
    await pool.hold([])
    assert not any(marked().values())


@pytest.mark.parametrize(("ended", "state"), [("stoker.dev/ended", "Terminating"), ("other", "Preempted")])
async def test_a_claim_that_somebody_else_deletes_is_a_machine_taken_back(cloud: Cloud, ended: str, state: str) -> None:
    pool = cloud.pool()
    await launch(pool, "cpu-1", 1)
    await cloud.karpenter.settle()
    metadata = {"annotations": {ended: "true"}, "deletionTimestamp": "2026-01-02T03:05:05Z"}
    await cloud.api.put(f"{CLAIMS}/cpu-1-0", metadata=metadata)

    assert [state] == [one.state for one in await pool.list()]


async def test_what_is_ended_by_us_says_so_before_it_goes(cloud: Cloud) -> None:
    """Karpenter keeps a claim with its finalizer until the machine is gone; until then it is no preemption."""
    pool = cloud.pool()
    await launch(pool, "cpu-1", 1)
    cloud.api.fail("DELETE", Fault(403, "Forbidden", "no"))
    with pytest.raises(PoolError):
        await pool.terminate(["cpu-1-0"], token="cpu-2")

    assert "true" == cloud.claim()["metadata"]["annotations"]["stoker.dev/ended"]


async def test_what_karpenter_still_tries_is_taken_back_when_a_launch_has_failed(cloud: Cloud) -> None:
    pool = cloud.pool()
    await launch(pool, "cpu-1", 2)
    cloud.karpenter.refused = "Quota"
    await cloud.karpenter.settle()
    with pytest.raises(LaunchError) as caught:
        await launch(cloud.pool(), "cpu-1", 2)

    assert ("Quota", "LaunchFailed", WORDS["Quota"]) == (caught.value.fault, caught.value.reason, caught.value.message)
    cloud.karpenter.refused = None
    await cloud.karpenter.settle()
    assert () == await pool.list()


@pytest.mark.parametrize(
    ("fault", "says"),
    [
        (Fault(403, "Forbidden", "nodeclaims is forbidden"), "add Karpenter to the chart's value rbac.providers"),
        (Fault(404, "NotFound", "the server could not find it"), "is Karpenter 1.0 or later installed?"),
    ],
)
async def test_what_the_cluster_lacks_is_told_with_the_fix(cloud: Cloud, fault: Fault, says: str) -> None:
    cloud.api.fail("GET", fault)
    with pytest.raises(PoolError, match=says.replace("?", r"\?")):
        await cloud.pool().list()


async def test_a_name_that_is_somebody_elses_is_told(cloud: Cloud) -> None:
    await cloud.api.put(f"{CLAIMS}/cpu-1-0", metadata={"labels": {}}, spec={"requirements": []})
    with pytest.raises(LaunchError, match="NodeClaim cpu-1-0 exists already"):
        await launch(cloud.pool(), "cpu-1", 1)
