"""The server put together: routes, errors, probes."""

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Callable
from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from stoker.kube.errors import KubeError
from stoker.server.config import Settings
from stoker.server.errors import Refusal, error_response, on_crash, refusal_for
from stoker.server.keys import BadKey, KeyRing
from stoker.server.limits import MOST_REQUESTS, Load
from stoker.server.metrics import Metrics
from stoker.server.middleware import RequestNotes
from stoker.server.operators import Operators
from stoker.server.people import PeopleSide
from stoker.server.podside import PodSide
from stoker.server.threads import ask_store
from stoker.server.workspaces import Place, Workspaces
from stoker.storage.layout import LayoutError
from stoker.storage.objects import StoreError

_log = logging.getLogger(__name__)

#: Waits between tries to read the grant key while the API server is away at start (seconds).
_KEY_WAITS = (0.5, 1.0, 2.0, 5.0)


def make_app(
    kube: Any, settings: Settings, *, metrics: Metrics | None = None, opener: Callable[[str], Place] | None = None
) -> Starlette:
    """The application. kube: a KubeClient. opener: makes the store and signer of a URL (default: as settings say)."""
    metrics = metrics or Metrics()
    keys = KeyRing(kube, settings.namespace)
    workspaces = Workspaces(kube, settings, opener)
    pods, people = PodSide(kube, settings, keys, workspaces), PeopleSide(kube, settings, workspaces)

    async def livez(request: Request) -> Response:
        return PlainTextResponse("ok\n")

    async def readyz(request: Request) -> Response:
        # Not the store's and not the API server's state: while one is away, an answer that says so is better than none.
        if keys.ready:
            return PlainTextResponse("ok\n")
        return error_response(503, "NoGrantKey", "the grant key is not read yet: is the API server reachable?")

    async def refuse(request: Request, error: Exception) -> Response:
        refusal = _http_refusal(error) if isinstance(error, HTTPException) else refusal_for(error)
        metrics.refused.labels(refusal.reason).inc()
        request.scope["stoker.reason"] = refusal.reason
        if refusal.status in (424, 502, 503):
            _log.warning("%s: %s", refusal.reason, refusal.message)
        return refusal.response(request.scope.get("stoker.request_id", ""))

    @contextlib.asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        tasks = [asyncio.create_task(_read_key(keys), name="grant key")]
        if settings.storage_url:
            tasks.append(asyncio.create_task(_warm(workspaces.at(settings.storage_url)), name="warm signer"))
        try:
            yield
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    refused = (Refusal, KubeError, StoreError, LayoutError, BadKey, HTTPException)
    return Starlette(
        routes=[
            *pods.routes(),
            *people.routes(),
            *Operators(settings.operator_url, people.known).routes(),
            Route("/livez", livez),
            Route("/readyz", readyz),
            Route("/metrics", metrics.endpoint),
        ],
        middleware=[Middleware(RequestNotes, metrics=metrics, load=Load(MOST_REQUESTS))],
        exception_handlers={**dict.fromkeys(refused, refuse), Exception: on_crash},
        lifespan=lifespan,
    )


def _http_refusal(error: HTTPException) -> Refusal:
    reason = {404: "NoSuchRoute", 405: "MethodNotAllowed"}.get(error.status_code, "BadRequest")
    return Refusal(error.status_code, reason, str(error.detail))


async def _warm(place: Place) -> None:
    """Sign once: the first signature takes a second, for boto3 reads its description of S3, and no pod should wait for it."""
    await ask_store(place.signer.get, "warm")


async def _read_key(keys: KeyRing) -> None:
    """Read or make the grant key, until it is there: pods that ask meanwhile are told to come back."""
    for attempt in range(1_000_000):
        try:
            await keys.keys()
            return
        except (KubeError, BadKey) as error:
            _log.warning("no grant key yet: %s", error)
        await asyncio.sleep(_KEY_WAITS[min(attempt, len(_KEY_WAITS) - 1)])
