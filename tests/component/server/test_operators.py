"""The server takes `stoker why --plan` to the operator's leader, with the caller's own token."""

import asyncio
import json
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from starlette.requests import Request
from starlette.responses import Response

from stoker.server.errors import Refusal
from stoker.server.operators import Operators
from tests.support.serving import Answer, Served, serving

PATH = "/v1/namespaces/team/trainingjobs/iris/plan"
STANDBY = (503, {"error": {"reason": "NotLeading", "message": "b leads"}})


@asynccontextmanager
async def replica(status: int, body: Any, asked: list[str] | None = None) -> AsyncIterator[str]:
    """A replica of the operator that always answers this."""

    async def answer(request: web.Request) -> web.Response:
        if asked is not None:
            asked.append(f"{request.rel_url.raw_path} {request.headers.get('Authorization')}")
        return web.json_response(body, status=status, headers={"X-Inside": "1", "Cache-Control": "no-store"})

    app = web.Application()
    app.router.add_get("/{path:.*}", answer)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


async def ask(*found: str, name: str = "iris") -> Response:
    async def find() -> list[str]:
        return list(found)

    scope = {
        "type": "http", "headers": [(b"authorization", b"Bearer mine")],
        "path_params": {"ns": "team", "name": name},
    }  # fmt: skip
    return await Operators("", anybody, find).plan(Request(scope))


async def anybody(request: Request) -> None:
    """Everybody is known."""


def dead() -> str:
    """An address at which nobody listens."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{taken.getsockname()[1]}"


async def test_the_leader_answers_wherever_it_stands_in_the_list() -> None:
    asked: list[str] = []
    async with replica(*STANDBY) as standby, replica(200, {"name": "iris"}, asked) as leader:
        for order in ((standby, leader), (leader, standby), (dead(), standby, leader)):
            answer = await ask(*order)
            assert (200, {"name": "iris"}) == (answer.status_code, json.loads(bytes(answer.body)))
            assert ("no-store", None) == (answer.headers.get("cache-control"), answer.headers.get("x-inside"))

    assert [f"{PATH} Bearer mine"] * 3 == asked


@pytest.mark.parametrize("status", [401, 403, 404])
async def test_a_refusal_of_the_leader_is_passed_on(status: int) -> None:
    async with replica(status, {"error": {"reason": "R", "message": "m"}}) as leader:
        answer = await ask(leader)

    assert (status, "R") == (answer.status_code, json.loads(bytes(answer.body))["error"]["reason"])


async def test_without_a_leader_it_says_what_the_replicas_said() -> None:
    async with replica(*STANDBY) as standby:
        for order, words in (((standby,), "b leads"), ((dead(),), "connect"), ((), "none of its replicas")):
            with pytest.raises(Refusal) as caught:
                await ask(*order)
            assert (503, True) == (caught.value.status, words in caught.value.message.lower())


async def test_a_name_cannot_lead_to_another_path() -> None:
    asked: list[str] = []
    async with replica(200, {}, asked) as leader:
        await ask(leader, name="../../x?y=#z")

    assert ["/v1/namespaces/team/trainingjobs/..%2F..%2Fx%3Fy=%23z/plan Bearer mine"] == [
        one.replace("%3D", "=") for one in asked
    ]


async def test_the_servers_own_route_asks_for_those_it_knows_and_not_too_often(tmp_path: Path) -> None:
    asked: list[str] = []
    async with replica(200, {"name": "iris"}, asked) as leader:
        # The operator's name stands for addresses at which nobody listens, too.
        url = f"http://localhost:{leader.rpartition(':')[2]}"
        with serving(Served(tmp_path, operator_url=url, person_rate=1)) as served:
            served.kube.account("mine", "team", "stoker-viewer")

            def call(token: str) -> Answer:
                return served.call("GET", PATH, None, token)

            answer = await asyncio.to_thread(call, "mine")
            unknown = [(await asyncio.to_thread(call, token)).status for token in ("", "junk")]
            often = [(await asyncio.to_thread(call, "mine")).status for _ in range(10)]

    assert (200, {"name": "iris"}) == (answer.status, answer.json)
    assert ([401, 401], True) == (unknown, 429 in often)
    assert len(asked) == 1 + often.count(200)


@pytest.mark.parametrize(("url", "reason"), [("", "OperatorUnknown"), ("http://none.invalid:1", "OperatorUnavailable")])
async def test_an_operator_that_cannot_be_found(url: str, reason: str) -> None:
    scope = {
        "type": "http", "headers": [(b"authorization", b"Bearer x")], "path_params": {"ns": "team", "name": "iris"},
    }  # fmt: skip
    with pytest.raises(Refusal) as caught:
        await Operators(url, anybody).plan(Request(scope))

    assert (503, reason) == (caught.value.status, caught.value.reason)
