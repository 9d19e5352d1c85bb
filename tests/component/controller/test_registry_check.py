"""The operator tries at its start whether nodes can pull, and says what came of it."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio

from stoker.controller import registry_check
from stoker.controller.gate import AlwaysOpen
from stoker.controller.registry_check import CannotPush, Checked, RegistryCheck
from stoker.core.registrycheck import pod_name
from stoker.kube.client import KubeClient
from tests.support.fake_api import FakeApi, Fault

pytestmark = pytest.mark.asyncio

URL = "r.example.com/ml"
OWN = "127.0.0.1:5035/stoker"
SYSTEM = "/api/v1/namespaces/stoker-system"
CONFIG = f"{SYSTEM}/configmaps/stoker-registry-check"


def pod_path(url: str) -> str:
    return f"{SYSTEM}/pods/{pod_name(url)}"


def waiting(reason: str, message: str = "") -> dict[str, Any]:
    return {"containerStatuses": [{"name": "pull", "state": {"waiting": {"reason": reason, "message": message}}}]}


PULLED = {"containerStatuses": [{"name": "pull", "state": {"terminated": {"exitCode": 0}}}]}


class World:
    """The check, with an API server that the test plays the kubelet for, and a registry that takes what it gets."""

    def __init__(self, api: FakeApi, client: KubeClient) -> None:
        self.api, self.client = api, client
        self.pushed: list[str] = []
        self.refusal: CannotPush | None = None
        self.told = asyncio.Event()

    async def push(self, url: str) -> str:
        self.pushed.append(url)
        if self.refusal is not None:
            raise self.refusal
        return f"{url}/stoker-selftest@sha256:{'0' * 64}"

    @contextlib.asynccontextmanager
    async def checking(self, *urls: str, settings: str = "1") -> AsyncIterator[None]:
        checked = [Checked(url, url == OWN, settings) for url in urls or (URL,)]
        check = RegistryCheck(self.client, AlwaysOpen(), self.push, checked, ("pull",), "stoker-system")
        task = asyncio.create_task(check.run())
        try:
            yield
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    async def kubelet(self, status: dict[str, Any], url: str = URL) -> None:
        """Say what became of the pod, once it is there."""
        await self.until(lambda: pod_path(url) in self.api.objects)
        await self.api.put(pod_path(url), spec={"nodeName": "n1"}, status=status)

    def outcomes(self) -> dict[str, dict[str, str]]:
        found = self.api.objects.get(CONFIG, {}).get("data", {}).get("checks", "[]")
        return {one["registry"]: one for one in json.loads(found)}

    def reason(self, url: str = URL) -> str:
        return self.outcomes().get(url, {}).get("reason", "")

    async def until(self, holds: Any) -> None:
        async with asyncio.timeout(5):
            while not holds():  # noqa: ASYNC110 (the API server that is asked is a plain object)
                await asyncio.sleep(0.01)


@pytest_asyncio.fixture
async def world(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[World]:
    monkeypatch.setattr(registry_check, "AGAIN_SECONDS", 0.05)
    monkeypatch.setattr(registry_check, "LOOK_SECONDS", 1.0)
    api = FakeApi()
    await api.start()
    async with api.client() as client:
        yield World(api, client)
    await api.stop()


async def test_a_pull_is_told_and_the_pod_goes(world: World) -> None:
    async with world.checking():
        await world.kubelet(PULLED)
        await world.until(lambda: pod_path(URL) not in world.api.objects)

    outcome = world.outcomes()[URL]
    assert ("Ok", "Pulled", "n1") == (outcome["state"], outcome["reason"], outcome["node"])
    assert outcome["checked_at"]


async def test_a_failing_pull_is_told_at_once_and_taken_back_when_the_kubelet_gets_through(world: World) -> None:
    async with world.checking(OWN):
        await world.kubelet(waiting("ErrImagePull", "connection refused"), OWN)
        await world.until(lambda: world.reason(OWN) == "NodesCannotConnect")
        fix = world.outcomes()[OWN]["fix"]
        await world.kubelet(PULLED, OWN)
        await world.until(lambda: world.reason(OWN) == "Pulled")

    assert "stoker-registry-proxy" in fix
    assert "" == world.outcomes()[OWN]["fix"]


async def test_a_registry_that_takes_no_push_is_told_with_the_fix_and_tried_again(world: World) -> None:
    world.refusal = CannotPush("PushUnauthorized", "the registry answered 401", "name a Secret")
    async with world.checking():
        await world.until(lambda: len(world.pushed) > 1)
        outcome = world.outcomes()[URL]
        world.refusal = None
        await world.kubelet(PULLED)
        await world.until(lambda: world.reason() == "Pulled")

    assert ("Fails", "PushUnauthorized", "name a Secret") == (outcome["state"], outcome["reason"], outcome["fix"])


async def test_one_that_fails_keeps_no_other_waiting(world: World) -> None:
    async with world.checking(URL, OWN):
        await world.kubelet(waiting("ErrImagePull", "no such host"))
        await world.kubelet(PULLED, OWN)
        await world.until(lambda: (world.reason(), world.reason(OWN)) == ("NameUnknownToNodes", "Pulled"))


@pytest.mark.parametrize(("settings", "pushes"), [("1", 0), ("2", 1)])
async def test_what_was_pulled_from_is_tried_again_only_after_a_change(
    world: World, settings: str, pushes: int
) -> None:
    async with world.checking():
        await world.kubelet(PULLED)
        await world.until(lambda: pod_path(URL) not in world.api.objects)
    world.pushed.clear()
    asked = len(world.api.seen("GET"))

    async with world.checking(settings=settings):
        await world.until(lambda: len(world.api.seen("GET")) > asked and len(world.pushed) == pushes)
        if pushes:
            await world.kubelet(PULLED)
            await world.until(lambda: world.outcomes()[URL]["settings"] == settings)

    assert pushes == len(world.pushed)


async def test_a_pod_that_a_former_operator_left_is_replaced(world: World) -> None:
    await world.api.put(pod_path(URL), status=PULLED)
    old = world.api.objects[pod_path(URL)]["metadata"]["uid"]

    async with world.checking():
        await world.until(lambda: world.api.objects.get(pod_path(URL), {}).get("metadata", {}).get("uid", old) != old)
        assert "" == world.reason()
        await world.kubelet(PULLED)
        await world.until(lambda: world.reason() == "Pulled")


async def test_a_pod_that_someone_deletes_is_made_again(world: World) -> None:
    async with world.checking():
        await world.kubelet(waiting("ContainerCreating"))
        await world.api.remove(pod_path(URL))
        await world.until(lambda: world.reason() == "PodGone")
        await world.kubelet(PULLED)
        await world.until(lambda: world.reason() == "Pulled")


async def test_registries_that_are_no_longer_there_are_forgotten(world: World) -> None:
    gone = {"registry": "old.example.com", "state": "Fails", "reason": "r", "message": "m"}
    await world.api.put(CONFIG, data={"checks": json.dumps([gone])})

    async with world.checking():
        await world.kubelet(PULLED)
        await world.until(lambda: world.reason() == "Pulled")

    assert {URL} == world.outcomes().keys()


async def test_a_pod_that_is_not_let_in_is_told_in_the_api_server_s_words(world: World) -> None:
    world.api.fail("POST", Fault(403, "Forbidden", "exceeded quota: pods"))
    async with world.checking():
        await world.until(lambda: world.reason() == "PodRejected")
        outcome = world.outcomes()[URL]
        await world.kubelet(PULLED)
        await world.until(lambda: world.reason() == "Pulled")

    assert ("Unknown", True) == (outcome["state"], "exceeded quota: pods" in outcome["message"])
