"""ProvisioningRequest: what is asked of the autoscaler, and how its answers are read. It owns no node."""

from collections.abc import AsyncIterator
from typing import Any

import pytest

from stoker.api.computecluster import ComputeCluster
from stoker.controller.pools import PlainObjects
from stoker.core.cluster.view import RoomRequest
from stoker.core.plan import HandOver, TakeBack
from stoker.kube.client import KubeClient
from stoker.nodepools.choose import pool_of
from stoker.nodepools.pool import PoolError, RoomPool
from stoker.nodepools.provisioning_request import GROUP
from tests.component.nodepools.contract import node
from tests.support import build
from tests.support.fake_api import FakeApi, Fault

UID = "0123456789abcdef"
ASK = HandOver("cpu", "team", "gang", UID, 1, 2)
REQUEST = f"{GROUP}/namespaces/team/provisioningrequests/gang-01234567-1"
TEMPLATE = "/api/v1/namespaces/team/podtemplates/gang-01234567-1"


@pytest.fixture
async def api() -> AsyncIterator[FakeApi]:
    fake = FakeApi()
    await fake.start()
    yield fake
    await fake.stop()


@pytest.fixture
async def client(api: FakeApi) -> AsyncIterator[KubeClient]:
    async with api.client() as found:
        yield found


def room_pool(client: KubeClient, **given: Any) -> RoomPool:
    cluster: ComputeCluster = build.cluster(
        provider="ProvisioningRequest", resources={"cpu": "8", "nvidia.com/gpu": "1"}, **given
    )
    found = pool_of(cluster, PlainObjects(client))
    assert isinstance(found, RoomPool)
    return found


async def test_a_gang_is_asked_for_once_and_whole(api: FakeApi, client: KubeClient) -> None:
    pool = room_pool(client)
    for _ in range(2):
        await pool.hand_over(ASK)

    spec = api.objects[REQUEST]["spec"]
    assert "check-capacity.autoscaling.x-k8s.io" == spec["provisioningClassName"]
    assert [{"count": 2, "podTemplateRef": {"name": "gang-01234567-1"}}] == spec["podSets"]
    pod = api.objects[TEMPLATE]["template"]["spec"]
    main, ship = pod["containers"]
    assert {"cpu", "nvidia.com/gpu"} == main["resources"]["requests"].keys()
    assert {"nvidia.com/gpu": "1"} == main["resources"]["limits"]
    assert ship["resources"]["requests"]
    assert {"kubernetes.io/arch": "amd64", "pool": "cpu"} == pod["nodeSelector"]
    assert "stoker.dev/compute" in {one["key"] for one in pod["tolerations"]}
    for path in (REQUEST, TEMPLATE):
        (owner,) = api.objects[path]["metadata"]["ownerReferences"]
        assert ("TrainingJob", "gang", UID) == (owner["kind"], owner["name"], owner["uid"])
    assert [TEMPLATE.rpartition("/")[0], REQUEST.rpartition("/")[0]] == api.seen("POST")[:2], "the template first"


async def test_a_job_that_says_what_it_needs_asks_for_that(api: FakeApi, client: KubeClient) -> None:
    await room_pool(client).hand_over(HandOver("cpu", "team", "gang", UID, 1, 2, None, (("cpu", "3"),)))

    main = api.objects[TEMPLATE]["template"]["spec"]["containers"][0]
    assert {"cpu": "3"} == main["resources"]["requests"]


def condition(kind: str, status: str = "True", reason: str = "", message: str = "") -> dict[str, str]:
    return {
        "type": kind, "status": status, "reason": reason or kind, "message": message,
        "lastTransitionTime": "2026-01-02T03:04:05Z",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("conditions", "answer", "reason"),
    [
        ([], "Waiting", ""),
        ([condition("Accepted")], "Waiting", "Accepted"),
        (
            [condition("Accepted"), condition("Provisioned", "False", "CapacityIsNotFound")],
            "Waiting",
            "CapacityIsNotFound",
        ),
        ([condition("Accepted"), condition("Provisioned")], "Provisioned", "Provisioned"),
        ([condition("Accepted"), condition("Failed", reason="OutOfQuota")], "Failed", "OutOfQuota"),
        ([condition("Provisioned"), condition("BookingExpired")], "Failed", "BookingExpired"),
        ([condition("Provisioned"), condition("CapacityRevoked")], "Failed", "CapacityRevoked"),
        ([condition("Provisioned"), condition("BookingExpired", "False")], "Provisioned", "Provisioned"),
    ],
)
async def test_an_answer_is_read_from_the_conditions(
    api: FakeApi, client: KubeClient, conditions: list[dict[str, str]], answer: str, reason: str
) -> None:
    pool = room_pool(client)
    await pool.hand_over(ASK)
    await api.put(REQUEST, status={"conditions": conditions})

    found = await pool.rooms()
    assert {(UID, 1)} == found.keys()
    assert (answer, reason) == (found[UID, 1].answer, found[UID, 1].reason)
    assert ("team", "gang-01234567-1") == (found[UID, 1].namespace, found[UID, 1].name)
    assert 1767323045.0 == found[UID, 1].since


async def test_what_other_pools_and_people_ask_for_is_not_ours(api: FakeApi, client: KubeClient) -> None:
    await room_pool(client, name="gpu").hand_over(HandOver("gpu", "team", "gang", UID, 1, 2))
    await api.put(f"{GROUP}/namespaces/team/provisioningrequests/theirs", metadata={"labels": {}}, spec={})

    assert {} == await room_pool(client).rooms()


async def test_taking_back_deletes_both_and_may_be_repeated(api: FakeApi, client: KubeClient) -> None:
    pool = room_pool(client)
    await pool.hand_over(ASK)
    (found,) = (await pool.rooms()).values()
    for _ in range(2):
        await pool.take_back(TakeBack("cpu", found.namespace, found.name, found.uid))

    assert {} == api.objects


async def test_a_request_made_anew_under_the_name_is_left_alone(api: FakeApi, client: KubeClient) -> None:
    pool = room_pool(client)
    await pool.hand_over(ASK)
    await pool.take_back(TakeBack("cpu", "team", "gang-01234567-1", "uid-of-the-former"))

    found: RoomRequest = (await pool.rooms())[UID, 1]
    assert "Waiting" == found.answer
    assert TEMPLATE in api.objects


@pytest.mark.parametrize(
    ("fault", "says"),
    [
        (Fault(403, "Forbidden", "no"), "add ProvisioningRequest to the chart's value rbac.providers"),
        (Fault(404, "NotFound", "no"), "does the cluster's autoscaler know ProvisioningRequests"),
    ],
)
async def test_what_the_cluster_lacks_is_told_with_the_fix(
    api: FakeApi, client: KubeClient, fault: Fault, says: str
) -> None:
    api.fail("GET", fault)
    with pytest.raises(PoolError, match=says):
        await room_pool(client).rooms()


def test_it_owns_no_node(client: KubeClient) -> None:
    assert not room_pool(client).owns(node(pool="cpu"))
    assert not room_pool(client).owns(node(**{"stoker.dev_compute": "cpu"}))
