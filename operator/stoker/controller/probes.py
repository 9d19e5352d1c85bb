"""/livez, /readyz and /metrics on one port, and what else the operator shows."""

import asyncio
import time
from collections.abc import Callable, Iterable, Sequence

from aiohttp import web
from prometheus_client import generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST

from stoker.controller.metrics import Metrics

#: A loop that does not come round for so long is stuck.
STUCK_SECONDS = 30.0
BEAT_SECONDS = 1.0

#: Problems, each as one line; none means all is well.
Check = Callable[[], Iterable[str]]


class Probes:
    """alive and ready: asked at each probe. before_metrics: called before each scrape. more: further routes."""

    def __init__(
        self,
        metrics: Metrics,
        alive: Check,
        ready: Check,
        before_metrics: Callable[[], None],
        more: Sequence[web.RouteDef] = (),
    ) -> None:
        self._more = more
        self._metrics = metrics
        self._alive = alive
        self._ready = ready
        self._before_metrics = before_metrics
        self._beat_at = time.monotonic()
        self._worst_lag = 0.0
        #: The port in use, once it runs.
        self.port = 0

    async def run(self, host: str, port: int) -> None:
        """Serve until cancelled."""
        app = web.Application()
        app.router.add_get("/livez", self._livez)
        app.router.add_get("/readyz", self._readyz)
        app.router.add_get("/metrics", self._scrape)
        app.router.add_routes(self._more)
        runner = web.AppRunner(app, access_log=None)
        await runner.setup()
        try:
            site = web.TCPSite(runner, host, port)
            await site.start()
            self.port = runner.addresses[0][1]
            while True:
                await asyncio.sleep(BEAT_SECONDS)
                now = time.monotonic()
                self._worst_lag = max(self._worst_lag, now - self._beat_at - BEAT_SECONDS)
                self._beat_at = now
        finally:
            await runner.cleanup()

    async def _livez(self, _: web.Request) -> web.Response:
        problems = list(self._alive())
        if (late := time.monotonic() - self._beat_at) > STUCK_SECONDS:
            problems.append(f"the event loop was stuck for {late:.0f} s")
        return _answer(problems)

    async def _readyz(self, _: web.Request) -> web.Response:
        return _answer(list(self._ready()))

    async def _scrape(self, _: web.Request) -> web.Response:
        self._before_metrics()
        self._metrics.loop_lag.set(self._worst_lag)
        self._worst_lag = 0.0
        return web.Response(body=generate_latest(self._metrics.registry), headers={"Content-Type": CONTENT_TYPE_LATEST})


def _answer(problems: list[str]) -> web.Response:
    return web.Response(text="\n".join(problems) or "ok", status=503 if problems else 200)
