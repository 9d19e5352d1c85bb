"""Answers to Kueue: written from what was read, and only while they are asked for; and Stoker's own checks stay active."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import msgspec
import pytest

from stoker.api.kueue import GROUP_VERSION, AdmissionCheck
from stoker.controller.admission import Checks, answer
from stoker.controller.gate import AlwaysOpen
from stoker.controller.preflight import Unfit, check_cluster
from stoker.core.plan import AnswerCheck
from stoker.kube.access import Access
from stoker.kube.client import KubeClient
from stoker.kube.errors import Conflict
from stoker.kube.resources import ADMISSION_CHECKS
from stoker.kube.store import Store
from tests.support.fake_api import FakeApi, Fault

WORKLOAD = f"/apis/{GROUP_VERSION}/namespaces/team/workloads/job-iris"
CHECK = f"/apis/{GROUP_VERSION}/admissionchecks/stoker"
READY = AnswerCheck("team", "job-iris", "stoker", "Ready", "nodes: n0", assigned="assigned.stoker.dev/7f3k.1")
OTHERS = {"name": "budget", "state": "Ready", "message": "within budget"}
ASKED = {"name": "stoker", "state": "Pending", "message": "", "retryCount": 1}
NOW = 1_700_000_000.7


@pytest.fixture
async def api() -> AsyncIterator[FakeApi]:
    fake = FakeApi()
    await fake.start()
    yield fake
    await fake.stop()


async def answered(api: FakeApi, what: AnswerCheck, *checks: dict[str, Any]) -> list[Any]:
    """The lists of checks that were written."""
    await api.put(WORKLOAD, status={"admissionChecks": list(checks)})
    async with api.client() as client:
        await answer(client, Store(), what, NOW)
    written = (body for body in api.bodies if isinstance(body, dict) and "status" in body)
    return [body["status"]["admissionChecks"] for body in written]


async def test_an_answer_brings_the_label_of_its_nodes_and_leaves_what_others_said(api: FakeApi) -> None:
    (written,) = await answered(api, READY, OTHERS, ASKED)

    ready = {
        "name": "stoker", "state": "Ready", "message": "nodes: n0", "retryCount": 1,
        "lastTransitionTime": "2023-11-14T22:13:20Z",
        "podSetUpdates": [{"name": "main", "nodeSelector": {"assigned.stoker.dev/7f3k.1": "true"}}],
    }  # fmt: skip
    assert [OTHERS, ready] == written


async def test_a_refusal_gives_the_quota_back_at_once_and_takes_a_former_label_back(api: FakeApi) -> None:
    no = AnswerCheck("team", "job-iris", "stoker", "Retry", "PoolPaused: paused")
    (written,) = await answered(api, no, {**ASKED, "podSetUpdates": [{"name": "main"}], "requeueAfterSeconds": 9})

    assert "Retry" == written[0]["state"]
    assert not written[0].keys() & {"podSetUpdates", "requeueAfterSeconds"}


@pytest.mark.parametrize("stands", [(), (OTHERS,), ({**ASKED, "state": "Ready"},), ({**ASKED, "state": "Retry"},)])
async def test_what_is_no_longer_asked_is_not_answered(api: FakeApi, stands: tuple[dict[str, Any], ...]) -> None:
    assert [] == await answered(api, READY, *stands)


async def test_a_workload_that_has_gone_needs_no_answer(api: FakeApi) -> None:
    async with api.client() as client:
        await answer(client, Store(), READY, NOW)

    assert ["GET"] == [method for method, _, _ in api.requests]


async def test_when_kueue_wrote_meanwhile_the_plan_is_made_anew(api: FakeApi) -> None:
    api.fail("PATCH", Fault(409, "Conflict"))
    with pytest.raises(Conflict):
        await answered(api, READY, ASKED)


def check(name: str, controller: str = "stoker.dev/compute") -> AdmissionCheck:
    whole = {
        "metadata": {"name": name, "uid": f"uid-{name}", "resourceVersion": "7"},
        "spec": {"controllerName": controller},
    }
    return msgspec.convert(whole, AdmissionCheck)


async def test_stokers_checks_are_active_and_no_others(api: FakeApi) -> None:
    store, wrote = Store(), asyncio.Event()
    await api.put(CHECK)
    store.put(ADMISSION_CHECKS.kind, check("budget", "example.com/budget"))

    def note(verb: str, resource: str, status: int, seconds: float) -> None:
        if verb == "PATCH":
            wrote.set()

    async with KubeClient(Access(api.url), user_agent="test/1", observe=note) as client:
        running = asyncio.create_task(Checks(client, store, AlwaysOpen(), lambda: NOW).run())
        # One that comes later is heard of.
        await asyncio.sleep(0)
        store.put(ADMISSION_CHECKS.kind, check("stoker"))
        await asyncio.wait_for(wrote.wait(), 20)
        running.cancel()

    assert [f"{CHECK}/status"] == [path for method, path, _ in api.requests if method == "PATCH"]
    (condition,) = next(body for body in api.bodies if body)["status"]["conditions"]
    assert ("Active", "True") == (condition["type"], condition["status"])


async def test_an_operator_that_is_to_work_with_kueue_needs_it(api: FakeApi) -> None:
    api.objects["/version"] = {"major": "1", "minor": "36", "gitVersion": "v1.36.0"}
    kinds = ("trainingjobs", "environments", "computeclusters", "workspaces")
    api.objects["/apis/stoker.dev/v1alpha1"] = {"resources": [{"name": kind} for kind in kinds]}
    async with api.client() as client:
        with pytest.raises(Unfit, match=r"kueue\.enabled is true, and kueue\.x-k8s\.io/v1beta2 is not served"):
            await check_cluster(client, kueue=True)
        api.objects[f"/apis/{GROUP_VERSION}"] = {"resources": []}
        await check_cluster(client, kueue=True)
