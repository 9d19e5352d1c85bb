"""Karpenter itself, in its build for kwok: it brings machines for NodeClaims that belong to no NodePool."""

from collections.abc import Iterator
from typing import Any

import pytest

from lab import Lab
from lab import karpenter as karpenter_itself
from stoker.api.kube import Node
from stoker.api.providers import KarpenterMachines, KarpenterNodeClass
from stoker.controller.pools import PlainObjects
from stoker.kube.client import KubeClient
from stoker.nodepools.karpenter import DO_NOT_DISRUPT, NODES, KarpenterPool
from stoker.nodepools.pool import LaunchError
from tests.apiserver.nodepools.conftest import until
from tests.component.nodepools.contract import launch
from tests.component.nodepools.test_karpenter import karpenter_pool

pytestmark = [pytest.mark.lab, pytest.mark.timeout(900)]  # its first build takes minutes
#: One of the instance types that the kwok build knows, with room for what the pool's type promises.
MACHINES = (KarpenterMachines(instance_type="std", names=("c-16x-amd64-linux",)),)


@pytest.fixture(scope="module")
def karpenter(lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with karpenter_itself.running(lab, tmp_path_factory.mktemp("karpenter") / "log"):
        yield


def pool(objects: PlainObjects, node_class: str = "default", **given: Any) -> KarpenterPool:
    reference = KarpenterNodeClass(name=node_class, group="karpenter.kwok.sh", kind="KWOKNodeClass")
    return karpenter_pool(objects, "karp", reference, machines=MACHINES, **given)


@pytest.mark.usefixtures("karpenter")
async def test_it_brings_machines_leaves_them_and_takes_them(lab: Lab, objects: PlainObjects) -> None:
    made = pool(objects)
    await launch(made, "karp-1", 2)

    async def running() -> bool:
        return ["Running", "Running"] == [one.state for one in await made.list()]

    await until("Karpenter calls both initialized", running)
    first, second = await made.list()
    async with KubeClient.from_kubeconfig(lab.kubeconfig, user_agent="test/1") as client:
        for machine in (first, second):
            node = await client.get(f"{NODES}/{machine.node}", Node)
            assert made.owns(node)
            assert machine.id == node.metadata.labels["stoker.dev/machine"]
            assert "stoker.dev/compute" in {taint.key for taint in node.spec.taints}
    await made.hold([first.id])
    assert "true" == (await objects.get(f"{NODES}/{first.node}"))["metadata"]["annotations"][DO_NOT_DISRUPT]

    await made.terminate([second.id], token="karp-2")

    async def one_is_left() -> bool:
        return [first.id] == [one.id for one in await made.list()]

    await until("the other has gone", one_is_left)
    assert [first.node] == [
        one["metadata"]["name"] for one in await objects.list(NODES, labels="stoker.dev/compute=karp")
    ]


@pytest.mark.usefixtures("karpenter")
async def test_what_it_cannot_launch_is_a_failure_of_the_launch(objects: PlainObjects) -> None:
    made, failures = pool(objects, "none"), list[LaunchError]()

    async def refused() -> bool:
        try:
            await launch(made, "karp-3", 1)
        except LaunchError as error:
            failures.append(error)
        return bool(failures)

    await until("Karpenter has given it up", refused)
    assert "Capacity" == failures[0].fault
    assert "Karpenter deleted NodeClaim karp-3-0 before it was launched" in failures[0].message
    assert "karp-3" not in {one.token for one in await made.list()}
