"""`stoker why --plan` at the operator: who may see a job's plan, and what of it."""

import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from stoker.controller.app import Operator
from stoker.controller.config import Config
from stoker.controller.plans import PEOPLE
from stoker.core.lease import Lease, Standing
from stoker.kube.elector import Elector
from tests.support import build
from tests.support.fake_api import FakeApi, Fault, kubeconfig
from tests.support.probing import probed

TOKENS = "/apis/authentication.k8s.io/v1/tokenreviews"
ACCESS = "/apis/authorization.k8s.io/v1/subjectaccessreviews"
PATH = "/v1/namespaces/team/trainingjobs/iris/plan"
VIEWER = "system:serviceaccount:team:stoker-viewer"


def standing(gate: Elector, holder: str) -> None:
    """As after an election that `holder` won; "me" is this replica."""
    until = time.monotonic() + 1000 if holder == "me" else None
    gate._standing = Standing("me", Lease(holder, "1"), time.monotonic(), until)


class World:
    """An operator whose parts are put together, with one job in its store; it leads, and its caches are whole."""

    def __init__(self, api: FakeApi, operator: Operator, url: str) -> None:
        self.api, self.operator, self.url = api, operator, url

    def caller(self, username: str, *groups: str, allowed: bool = True, audience: str = "stoker") -> None:
        """What the API server says of the next caller."""
        user = {"username": username, "groups": groups}
        self.api.objects[TOKENS] = {"status": {"authenticated": True, "user": user, "audiences": [audience]}}
        self.api.objects[ACCESS] = {"status": {"allowed": allowed}}

    async def ask(self, path: str = PATH, token: str = "t") -> tuple[int, Any]:
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        async with aiohttp.ClientSession() as session, session.get(self.url + path, headers=headers) as answer:
            return answer.status, await answer.json()

    @property
    def reviewed(self) -> dict[str, Any]:
        """The spec of the last SubjectAccessReview."""
        sent = zip(self.api.requests, self.api.bodies, strict=True)
        return [body["spec"] for (_, path, _), body in sent if path == ACCESS][-1]  # type: ignore[no-any-return]


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    api = FakeApi()
    await api.start()
    config = Config(
        agent_image="agent", server_url="http://server", storage_url="s3://runs", kubeconfig=kubeconfig(tmp_path, api.url),
    )  # fmt: skip
    operator = Operator(config)
    for reflector in operator.reflectors:
        reflector.synced.set()
    operator.sweeper.synced.set()
    operator._kopf_started.set()
    standing(operator.gate, "me")
    operator.store.put("TrainingJob", build.job())
    async with probed(operator.probes) as url:
        yield World(api, operator, url)
    await operator.answers.close()
    for client in (operator.client, operator._lease_client, operator._review_client):
        await client.close()
    await operator.registry.close()
    await api.stop()


async def test_one_who_may_get_the_job_sees_its_plan(world: World) -> None:
    world.caller("alice", "team-a")
    status, told = await world.ask()

    assert (200, "iris", "me") == (status, told["name"], told["leader"])
    # No pool is known yet: what only its owner can mend is said at once.
    assert ("cpu", False) == (told["facts"]["pool"]["name"], told["facts"]["pool"]["exists"])
    assert "ComputeNotFound" == told["waiting"]["reason"] == told["plan"]["status"]["waiting"]["reason"]
    assert ("alice", ["team-a"]) == (world.reviewed["user"], world.reviewed["groups"])
    expected = {
        "verb": "get", "group": "stoker.dev", "resource": "trainingjobs", "namespace": "team", "name": "iris",
    }  # fmt: skip
    assert expected == world.reviewed["resourceAttributes"]


async def test_one_who_may_not_sees_nothing(world: World) -> None:
    world.caller("mallory", allowed=False)
    status, told = await world.ask()

    assert (403, "Forbidden", {"error"}) == (status, told["error"]["reason"], set(told))
    # Nor whether there is such a job.
    assert 403 == (await world.ask(PATH.replace("iris", "none")))[0]


@pytest.mark.parametrize(
    ("username", "people"),
    [
        (VIEWER, True),
        ("system:serviceaccount:team:stoker-editor", True),
        ("system:serviceaccount:other:stoker-viewer", False),
        ("system:serviceaccount:team:default", False),
    ],
)
async def test_the_accounts_of_the_namespace_stand_for_its_people(world: World, username: str, people: bool) -> None:
    # One who claims the group from outside does not have it.
    world.caller(username, "system:serviceaccounts", PEOPLE)
    await world.ask()

    assert ["system:serviceaccounts", *([PEOPLE] if people else [])] == world.reviewed["groups"]


async def test_a_token_for_someone_else_is_refused(world: World) -> None:
    world.caller("alice", audience="vault")
    assert 401 == (await world.ask())[0]
    assert 401 == (await world.ask(token=""))[0]
    world.api.objects[TOKENS] = {"status": {"authenticated": False}}
    assert 401 == (await world.ask())[0]
    assert ACCESS not in world.api.seen("POST")


async def test_a_replica_that_does_not_lead_says_who_does(world: World) -> None:
    world.caller("alice")
    standing(world.operator.gate, "stoker-operator-b_1234")
    status, told = await world.ask()

    assert (503, "NotLeading") == (status, told["error"]["reason"])
    assert "stoker-operator-b_1234" in told["error"]["message"]


async def test_half_a_cache_makes_no_plan(world: World) -> None:
    world.caller("alice")
    world.operator.reflectors[0].synced.clear()

    assert (503, "Starting") == ((answer := await world.ask())[0], answer[1]["error"]["reason"])


async def test_an_api_server_that_is_away_is_told(world: World) -> None:
    world.api.outage = Fault(500)

    assert (503, "ApiServerUnavailable") == ((answer := await world.ask())[0], answer[1]["error"]["reason"])


async def test_a_job_that_is_not_there(world: World) -> None:
    world.caller("alice")

    assert (404, "NotFound") == (
        (answer := await world.ask(PATH.replace("iris", "none")))[0],
        answer[1]["error"]["reason"],
    )


async def test_asking_changes_nothing(world: World) -> None:
    world.caller("alice")
    await world.ask()

    assert {TOKENS, ACCESS} == set(world.api.seen("POST"))
    assert [] == world.api.seen("PATCH") == world.api.seen("DELETE")
    assert 0 == len(world.operator.answers)
