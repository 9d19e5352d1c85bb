"""The way from the server to the operator's leader: `stoker why --plan` comes in through the server alone.

The caller's own token goes along, and the operator checks it for itself; the server adds nothing to what it may see, and
sends nobody there whose token is not good or who asks too often.
"""

import asyncio
import json
import socket
from collections.abc import Awaitable, Callable
from urllib.parse import quote, urlsplit

import aiohttp
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from stoker.server.errors import Refusal

#: How long one replica may take (seconds).
ASK_SECONDS = 10.0

_KEPT = ("Cache-Control", "WWW-Authenticate")

#: Raises Refusal 401 and 429.
Known = Callable[[Request], Awaitable[object]]
#: Base URLs of the operator's replicas, as they are now.
Find = Callable[[], Awaitable[list[str]]]


class Operators:
    """url: STOKER_OPERATOR_URL. known: checks and counts who asks. find: overrides how its replicas are found."""

    def __init__(self, url: str, known: Known, find: Find | None = None) -> None:
        self._url = url
        self._known = known
        self._find = find or self._resolve

    def routes(self) -> list[Route]:
        return [Route("/v1/namespaces/{ns}/trainingjobs/{name}/plan", self.plan, methods=["GET"])]

    async def plan(self, request: Request) -> Response:
        """The leader's answer, whatever it is. Raises Refusal 401, 429, 503."""
        await self._known(request)
        authorization = request.headers["authorization"]
        namespace, name = request.path_params["ns"], request.path_params["name"]
        request.scope["stoker.namespace"] = namespace
        path = f"/v1/namespaces/{quote(namespace, safe='')}/trainingjobs/{quote(name, safe='')}/plan"
        return await self._first_leader(path, authorization)

    async def _first_leader(self, path: str, authorization: str) -> Response:
        told = "none of its replicas was found"
        timeout = aiohttp.ClientTimeout(total=ASK_SECONDS, sock_connect=2.0)
        async with aiohttp.ClientSession(timeout=timeout) as session:
            for base in await self._find():
                try:
                    async with session.get(base + path, headers={"Authorization": authorization}) as answer:
                        body = await answer.read()
                        if answer.status != 503:
                            kept = {name: answer.headers[name] for name in _KEPT if name in answer.headers}
                            return Response(body, answer.status, kept, "application/json")
                        told = _message(body) or told
                except (aiohttp.ClientError, OSError) as error:
                    told = f"{base}: {error or type(error).__name__}"
        raise Refusal(503, "OperatorUnavailable", f"no leader of the operator answers: {told}")

    async def _resolve(self) -> list[str]:
        if not self._url:
            raise Refusal(
                503, "OperatorUnknown", "STOKER_OPERATOR_URL is empty: the server does not know where the operator is; "
                "the Helm chart sets it",
            )  # fmt: skip
        parts = urlsplit(self._url)
        try:
            found = await asyncio.get_running_loop().getaddrinfo(
                parts.hostname, parts.port or 80, type=socket.SOCK_STREAM
            )
        except OSError as error:
            raise Refusal(503, "OperatorUnavailable", f"{parts.hostname} cannot be resolved: {error}") from error
        return list(dict.fromkeys(_base(str(address[0]), address[1]) for *_, address in found))


def _base(host: str, port: object) -> str:
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def _message(body: bytes) -> str:
    try:
        return str(json.loads(body)["error"]["message"])
    except (ValueError, KeyError, TypeError):
        return ""
