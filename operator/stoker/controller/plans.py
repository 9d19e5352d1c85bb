"""Shows a job's plan and the facts it rests on to those who may read the job: `stoker why --plan`.

Who asks is told by the API server (TokenReview, audience `stoker`), and whether they may by the API server too
(SubjectAccessReview: get that TrainingJob). Only the leader has the answers and the placements that a plan rests on, so a
replica that does not lead says who does. Nothing is written, in the cluster or here.
"""

import asyncio
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Protocol

import msgspec
from aiohttp import web

from stoker.api.names import GROUP
from stoker.controller.access import ACCOUNTS
from stoker.controller.reconciler import may_want
from stoker.core import trainingjob as trainingjob_core
from stoker.core.trainingjob.explain import explain
from stoker.core.trainingjob.view import JobView
from stoker.kube.errors import KubeError
from stoker.kube.shapes import AccessReviewStatus, ReviewedUser, TokenReviewStatus
from stoker.kube.store import Key
from stoker.runtime.wire import CLIENT_AUDIENCE

#: The group that stands, in the review alone, for the people of a namespace who came with a token of one of its two
#: accounts. The accounts have no rights; the chart binds this group, and an admin can bind it more narrowly.
PEOPLE = "stoker:people"
#: Requests that are looked at at a time: nobody keeps the operator from its work by asking.
AT_A_TIME = 4
MOST_TOKEN_BYTES = 16 << 10


class Reviews(Protocol):
    async def review_token(self, token: str, audiences: Sequence[str], /) -> TokenReviewStatus: ...

    async def review_access(self, user: ReviewedUser, resource: Mapping[str, str], /) -> AccessReviewStatus: ...


class Leading(Protocol):
    @property
    def open(self) -> bool: ...

    @property
    def leader(self) -> str: ...


class _No(Exception):
    """An answer other than the plan."""

    def __init__(self, status: int, reason: str, message: str) -> None:
        super().__init__(message)
        self.status, self.reason, self.message = status, reason, message


class Plans:
    """reviews: a client that may POST reviews at any time. view: of a key. unready: what is missing of the caches."""

    def __init__(
        self,
        reviews: Reviews,
        leading: Leading,
        view: Callable[[Key], JobView | None],
        unready: Callable[[], Iterable[str]],
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._reviews = reviews
        self._leading = leading
        self._view = view
        self._unready = unready
        self._clock = clock
        self._turns = asyncio.Semaphore(AT_A_TIME)

    def routes(self) -> list[web.RouteDef]:
        return [web.get("/v1/namespaces/{namespace}/trainingjobs/{name}/plan", self._plan)]

    async def _plan(self, request: web.Request) -> web.Response:
        key = Key("TrainingJob", request.match_info["namespace"], request.match_info["name"])
        try:
            self._check_leading()
            async with self._turns:
                await self._check_allowed(request.headers.get("Authorization", ""), key)
            return _json(200, self._explained(key))
        except _No as no:
            return _json(no.status, {"error": {"reason": no.reason, "message": no.message}})
        except KubeError as error:
            return _json(503, {"error": {"reason": "ApiServerUnavailable", "message": f"the API server: {error}"}})

    def _check_leading(self) -> None:
        if not self._leading.open:
            who = self._leading.leader or "nobody at this moment"
            raise _No(503, "NotLeading", f"this replica of the operator does not lead: {who} does")
        if missing := next(iter(self._unready()), ""):
            raise _No(503, "Starting", f"the operator has just started: {missing}")

    async def _check_allowed(self, authorization: str, key: Key) -> None:
        user = await self._user(authorization, key.namespace)
        asked = {
            "group": GROUP,
            "resource": "trainingjobs",
            "verb": "get",
            "namespace": key.namespace,
            "name": key.name,
        }
        found = await self._reviews.review_access(user, asked)
        if not found.allowed:
            raise _No(
                403, "Forbidden", f"{user.username} may not get TrainingJob {key.name} in namespace {key.namespace}"
                f"{f' ({found.reason})' if found.reason else ''}; ask for a RoleBinding to ClusterRole stoker-viewer there",
            )  # fmt: skip

    async def _user(self, authorization: str, namespace: str) -> ReviewedUser:
        scheme, _, token = authorization.partition(" ")
        token = token.strip()
        if scheme.lower() != "bearer" or not token or len(token) > MOST_TOKEN_BYTES:
            raise _No(401, "Unauthenticated", f"send Authorization: Bearer <token with audience {CLIENT_AUDIENCE}>")
        status = await self._reviews.review_token(token, [CLIENT_AUDIENCE])
        # An API server that knows nothing of audiences answers with none: then the token may be for anybody.
        if not status.authenticated or CLIENT_AUDIENCE not in status.audiences:
            raise _No(401, "Unauthenticated", f"the token is not valid for audience {CLIENT_AUDIENCE}: get a new one")
        user = status.user
        # Nobody brings that group along: here it means an account of this very namespace.
        groups = tuple(group for group in user.groups if group != PEOPLE)
        if user.username in (f"system:serviceaccount:{namespace}:{account}" for account in ACCOUNTS):
            groups = (*groups, PEOPLE)
        return msgspec.structs.replace(user, groups=groups)

    def _explained(self, key: Key) -> dict[str, Any]:
        view, now = self._view(key), self._clock()
        if view is None:
            raise _No(404, "NotFound", f"the operator knows no TrainingJob {key.name} in namespace {key.namespace}")
        plan = trainingjob_core.plan(view, now)
        demand = trainingjob_core.demand(view, now) if may_want(view) else None
        return {**explain(view, plan, demand, now), "leader": self._leading.leader}


def _json(status: int, body: dict[str, Any]) -> web.Response:
    headers = {"Cache-Control": "no-store"} | ({"Retry-After": "2"} if status == 503 else {})
    if status == 401:
        headers["WWW-Authenticate"] = "Bearer"
    return web.Response(body=msgspec.json.encode(body), status=status, headers=headers, content_type="application/json")
