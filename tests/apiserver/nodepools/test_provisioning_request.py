"""ProvisioningRequest over cluster-autoscaler's own CRD: what is asked, the API server takes; its answers are read."""

from collections.abc import Iterator
from typing import Any

import pytest

from lab import Lab
from stoker.controller.pools import PlainObjects
from stoker.core.plan import HandOver, TakeBack
from stoker.nodepools.choose import pool_of
from stoker.nodepools.pool import PoolError, RoomPool
from stoker.nodepools.provisioning_request import GROUP
from tests.apiserver.nodepools.conftest import installed
from tests.support import build

pytestmark = pytest.mark.lab
NAMESPACE, UID = "rooms", "0123456789abcdef"
ASK = HandOver("cpu", NAMESPACE, "gang", UID, 1, 2)
REQUEST = f"{GROUP}/namespaces/{NAMESPACE}/provisioningrequests/gang-01234567-1"


async def test_it_says_so_where_no_autoscaler_knows_the_kind(objects: PlainObjects) -> None:
    pool = pool_of(build.cluster(provider="ProvisioningRequest"), objects)
    assert isinstance(pool, RoomPool)
    with pytest.raises(PoolError, match="does the cluster's autoscaler know ProvisioningRequests"):
        await pool.rooms()


@pytest.fixture(scope="module")
def rooms(lab: Lab) -> Iterator[None]:
    lab.kubectl("create", "namespace", NAMESPACE)
    yield from installed(
        lab,
        "k8s.io/autoscaler/cluster-autoscaler/apis",
        "config/crd/autoscaling.x-k8s.io_provisioningrequests.yaml",
    )
    lab.kubectl("delete", "namespace", NAMESPACE, "--wait=false")


@pytest.fixture
def pool(rooms: None, objects: PlainObjects) -> RoomPool:
    cluster = build.cluster(provider="ProvisioningRequest", resources={"cpu": "8", "nvidia.com/gpu": "1"})
    found = pool_of(cluster, objects)
    assert isinstance(found, RoomPool)
    return found


async def autoscaler_says(objects: PlainObjects, kind: str, reason: str, message: str) -> None:
    told: dict[str, Any] = {
        "type": kind, "status": "True", "reason": reason, "message": message, "observedGeneration": 1,
        "lastTransitionTime": "2026-01-02T03:04:05Z",
    }  # fmt: skip
    await objects.merge(f"{REQUEST}/status", {"status": {"conditions": [told]}})


async def test_a_gang_is_asked_for_answered_and_taken_back(pool: RoomPool, objects: PlainObjects) -> None:
    for _ in range(2):
        await pool.hand_over(ASK)
    (room,) = (await pool.rooms()).values()
    assert ("Waiting", (UID, 1)) == (room.answer, next(iter(await pool.rooms())))
    kept = (await objects.get(REQUEST))["spec"]["podSets"]
    assert [{"count": 2, "podTemplateRef": {"name": "gang-01234567-1"}}] == kept, "nothing was pruned"

    await autoscaler_says(objects, "Failed", "OutOfCapacity", "no zone has two nodes of g5.xlarge")
    (room,) = (await pool.rooms()).values()
    assert ("Failed", "OutOfCapacity", "no zone has two nodes of g5.xlarge") == (room.answer, room.reason, room.message)

    await pool.take_back(TakeBack("cpu", NAMESPACE, room.name, room.uid))
    assert {} == await pool.rooms()
    with pytest.raises(PoolError, match="not found"):
        await objects.get(f"/api/v1/namespaces/{NAMESPACE}/podtemplates/{room.name}")
