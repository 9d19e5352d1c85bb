"""Around every request: an id, the time it took, a count. Plain ASGI, so that bodies stream through untouched."""

import logging
import re
import secrets
import time
from typing import Any

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from stoker.server import audit
from stoker.server.errors import Refusal
from stoker.server.limits import Load
from stoker.server.metrics import Metrics

_log = logging.getLogger("stoker.requests")
_ID = re.compile(r"[A-Za-z0-9._-]{1,64}\Z")
#: Asked every few seconds by the kubelet and by Prometheus: not worth a line each.
_QUIET = frozenset({"/livez", "/readyz", "/metrics"})


class RequestNotes:
    """Gives a request its id (a caller's own X-Request-Id is kept), answers it in a header, logs, counts and bounds."""

    def __init__(self, app: ASGIApp, metrics: Metrics, load: Load) -> None:
        self.app, self.metrics, self.load = app, metrics, load

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        asked = Headers(scope=scope).get("x-request-id", "")
        request_id = scope["stoker.request_id"] = asked if _ID.match(asked) else secrets.token_hex(8)
        status, started = 499, time.monotonic()  # 499: the client went before there was an answer

        async def note(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                MutableHeaders(scope=message)["X-Request-Id"] = request_id
                # Before the answer goes: what somebody was given is accounted for, whatever happens to us next.
                audit.write(scope, status, request_id)
            await send(message)

        with self.metrics.busy.track_inprogress():
            try:
                await self._bounded(scope, receive, note, request_id)
            except Exception:
                status = 500
                _log.exception("request failed", extra={"fields": {"requestId": request_id}})
                raise
            finally:
                self._count(scope, status, time.monotonic() - started, request_id)

    async def _bounded(self, scope: Scope, receive: Receive, send: Send, request_id: str) -> None:
        if scope["path"] in _QUIET:
            await self.app(scope, receive, send)
            return
        try:
            self.load.enter(scope)
        except Refusal as refusal:
            self.metrics.refused.labels(refusal.reason).inc()
            scope["stoker.reason"] = refusal.reason
            await refusal.response(request_id)(scope, receive, send)
            return
        try:
            await self.app(scope, receive, send)
        finally:
            self.load.leave(scope)

    def _count(self, scope: Scope, status: int, seconds: float, request_id: str) -> None:
        # The template, not the path: paths have names of users' jobs, without end.
        route: Any = scope.get("route")
        path = getattr(route, "path", "unknown")
        self.metrics.requests.labels(path, scope["method"], status).inc()
        self.metrics.seconds.labels(path, scope["method"]).observe(seconds)
        if scope["path"] not in _QUIET:
            fields = {
                "requestId": request_id,
                "method": scope["method"],
                "route": path,
                "status": status,
                "seconds": round(seconds, 4),
                "namespace": scope.get("stoker.namespace", ""),
                "reason": scope.get("stoker.reason", ""),
            }
            _log.info("request", extra={"fields": fields})
        audit.write(scope, status, request_id)
