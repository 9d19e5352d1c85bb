"""ProvisioningRequest over cluster-autoscaler's own CRD: what is asked, the API server takes; its answers are read."""

from collections.abc import Iterator
from pathlib import Path
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
NAMESPACE = "rooms"
REQUESTS = f"{GROUP}/namespaces/{NAMESPACE}/provisioningrequests"
JOBS = f"/apis/stoker.dev/v1alpha1/namespaces/{NAMESPACE}/trainingjobs"


async def test_it_says_so_where_no_autoscaler_knows_the_kind(objects: PlainObjects) -> None:
    pool = pool_of(build.cluster(provider="ProvisioningRequest"), objects)
    assert isinstance(pool, RoomPool)
    with pytest.raises(PoolError, match="does the cluster's autoscaler know ProvisioningRequests"):
        await pool.rooms()


@pytest.fixture(scope="module")
def rooms(lab: Lab, repository: Path) -> Iterator[None]:
    lab.kubectl("create", "namespace", NAMESPACE)
    lab.kubectl("apply", "-f", str(repository / "crds" / "trainingjobs.yaml"))
    lab.established("crd/trainingjobs.stoker.dev")
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


@pytest.fixture
async def ask(rooms: None, objects: PlainObjects) -> HandOver:
    """For a job that exists: what names an owner that does not is garbage, and the cluster collects it."""
    command = {
        "code": {"inline": {"train.py": "pass"}}, "command": "python train.py",
        "environment": {"spec": {"image": "none.invalid/none:1"}},
    }  # fmt: skip
    body = {
        "apiVersion": "stoker.dev/v1alpha1", "kind": "TrainingJob", "metadata": {"name": "gang"},
        "spec": {"compute": "none", "suspend": True, "command": command},
    }  # fmt: skip
    await objects.create(JOBS, body)
    uid = (await objects.get(f"{JOBS}/gang"))["metadata"]["uid"]
    return HandOver("cpu", NAMESPACE, "gang", uid, 1, 2)


async def autoscaler_says(objects: PlainObjects, request: str, kind: str, reason: str, message: str) -> None:
    told: dict[str, Any] = {
        "type": kind, "status": "True", "reason": reason, "message": message, "observedGeneration": 1,
        "lastTransitionTime": "2026-01-02T03:04:05Z",
    }  # fmt: skip
    await objects.merge(f"{request}/status", {"status": {"conditions": [told]}})


async def test_a_gang_is_asked_for_answered_and_taken_back(
    pool: RoomPool, objects: PlainObjects, ask: HandOver
) -> None:
    request = f"{REQUESTS}/gang-{ask.job_uid[:8]}-1"
    for _ in range(2):
        await pool.hand_over(ask)
    (room,) = (await pool.rooms()).values()
    assert ("Waiting", (ask.job_uid, 1)) == (room.answer, next(iter(await pool.rooms())))
    kept = (await objects.get(request))["spec"]["podSets"]
    assert [{"count": 2, "podTemplateRef": {"name": room.name}}] == kept, "nothing was pruned"

    await autoscaler_says(objects, request, "Failed", "OutOfCapacity", "no zone has two nodes of g5.xlarge")
    (room,) = (await pool.rooms()).values()
    assert ("Failed", "OutOfCapacity", "no zone has two nodes of g5.xlarge") == (room.answer, room.reason, room.message)

    await pool.take_back(TakeBack("cpu", NAMESPACE, room.name, room.uid))
    assert {} == await pool.rooms()
    with pytest.raises(PoolError, match="not found"):
        await objects.get(f"/api/v1/namespaces/{NAMESPACE}/podtemplates/{room.name}")
