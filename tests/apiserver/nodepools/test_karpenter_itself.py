"""Karpenter itself, in its build for kwok: it brings machines for NodeClaims that belong to no NodePool."""

import json
import os
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from lab import Lab, binaries
from stoker.api.kube import Node
from stoker.api.providers import KarpenterMachines, KarpenterNodeClass
from stoker.controller.pools import PlainObjects
from stoker.kube.client import KubeClient
from stoker.nodepools.karpenter import DO_NOT_DISRUPT, NODES, KarpenterPool
from stoker.nodepools.pool import LaunchError
from tests.apiserver.nodepools.conftest import installed, until
from tests.component.nodepools.contract import launch
from tests.component.nodepools.test_karpenter import karpenter_pool

pytestmark = [pytest.mark.lab, pytest.mark.timeout(900)]  # its first build takes minutes
CRDS = (
    "pkg/apis/crds/karpenter.sh_nodeclaims.yaml",
    "pkg/apis/crds/karpenter.sh_nodepools.yaml",
    "pkg/apis/crds/karpenter.sh_nodeoverlays.yaml",
    "kwok/apis/crds/karpenter.kwok.sh_kwoknodeclasses.yaml",
)
#: One of the instance types that the kwok build knows, with room for what the pool's type promises.
MACHINES = (KarpenterMachines(instance_type="std", names=("c-16x-amd64-linux",)),)


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


@pytest.fixture(scope="module")
def karpenter(lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    program = binaries.ensure(lambda line: None, binaries.ON_DEMAND)["karpenter"]
    crds = installed(lab, "sigs.k8s.io/karpenter", *CRDS)
    next(crds)
    node_class = {
        "apiVersion": "karpenter.kwok.sh/v1alpha1",
        "kind": "KWOKNodeClass",
        "metadata": {"name": "default"},
        "spec": {},
    }
    lab.kubectl("apply", "-f", "-", input=json.dumps(node_class))
    env = {
        **os.environ, "KUBECONFIG": str(lab.kubeconfig), "DISABLE_LEADER_ELECTION": "true",
        "METRICS_PORT": str(free_port()), "HEALTH_PROBE_PORT": str(free_port()),
    }  # fmt: skip
    log: Path = tmp_path_factory.mktemp("karpenter") / "log"
    with log.open("wb") as out:
        process = subprocess.Popen([program], env=env, stdout=out, stderr=out)
        yield
        # It has finalizers on claims: they go while it runs.
        lab.kubectl("delete", "nodeclaims", "--all", "--timeout=60s")
        process.terminate()
        process.wait(30)
    assert next(crds, None) is None


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
