"""A proxy that holds one request for ever: before its server sees it, or after the server has answered.

Whoever sent the request learns nothing of it, as when a process is killed around a write. It speaks plain HTTP to the
client and whatever the upstream wants (TLS, client certificates) to that.
"""

import asyncio
import ssl
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, Self

import aiohttp
from aiohttp import web
from multidict import CIMultiDict, CIMultiDictProxy
from yarl import URL

Side = Literal["before", "after"]
#: Whether a request counts: (method, path).
Counts = Callable[[str, str], bool]

WRITES = frozenset({"POST", "PUT", "PATCH", "DELETE"})
_HOP_BY_HOP = ("Connection", "Keep-Alive", "Transfer-Encoding", "Expect")


@dataclass(frozen=True)
class Cut:
    """Hold the `number`th request (from 1) of those that count."""

    number: int
    side: Side


class CuttingProxy:
    """Use it as a context manager; `url` is where it listens. counts: which requests are numbered and may be held.

    keep_host: pass the client's Host header on, as signed requests need. seen: the requests that counted.
    struck: set once the request of `cut` is held.
    """

    def __init__(
        self, upstream: str, counts: Counts, *, tls: ssl.SSLContext | None = None, keep_host: bool = False
    ) -> None:
        self.url = ""
        self.seen: list[tuple[str, str]] = []
        self.struck = threading.Event()
        self._upstream, self._counts, self._tls, self._keep_host = upstream, counts, tls, keep_host
        self._cut: Cut | None = None
        self._loop = asyncio.new_event_loop()
        self._ready, self._end = threading.Event(), asyncio.Event()
        self._thread = threading.Thread(target=self._serve, daemon=True)

    def cut(self, cut: Cut | None) -> None:
        """Count anew, and hold this request, or none."""
        self.seen.clear()
        self.struck.clear()
        self._cut = cut

    def __enter__(self) -> Self:
        self._thread.start()
        assert self._ready.wait(10)
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._end.set)
        self._thread.join(10)

    def _serve(self) -> None:
        self._loop.run_until_complete(self._run())
        self._loop.close()

    async def _run(self) -> None:
        app = web.Application(client_max_size=1 << 30)
        app.router.add_route("*", "/{path:.*}", self._handle)
        runner = web.AppRunner(app, access_log=None, handler_cancellation=True, shutdown_timeout=0.1)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        self.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
        connector = aiohttp.TCPConnector(limit=0, ssl=self._tls or True)
        async with aiohttp.ClientSession(
            connector=connector, auto_decompress=False, timeout=aiohttp.ClientTimeout(total=None)
        ) as self._http:
            self._ready.set()
            await self._end.wait()
            await runner.cleanup()

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        body = await request.read()
        side = self._side_of(request.method, request.path)
        if side == "before":
            await self._hold()
        async with self._http.request(
            request.method,
            URL(self._upstream + request.raw_path, encoded=True),
            data=body or None,
            headers=end_to_end(request.headers, "" if self._keep_host else "Host"),
            allow_redirects=False,
        ) as answer:
            if side == "after":
                await answer.read()
                await self._hold()
            response = web.StreamResponse(status=answer.status, headers=end_to_end(answer.headers))
            await response.prepare(request)
            async for piece in answer.content.iter_any():
                await response.write(piece)
            return response

    def _side_of(self, method: str, path: str) -> Side | None:
        if method not in WRITES or not self._counts(method, path):
            return None
        self.seen.append((method, path))
        return self._cut.side if self._cut is not None and len(self.seen) == self._cut.number else None

    async def _hold(self) -> None:
        """Until the client's connection ends, which cancels the handler."""
        self.struck.set()
        await self._end.wait()
        raise web.HTTPServiceUnavailable


def end_to_end(headers: CIMultiDictProxy[str], *without: str) -> CIMultiDict[str]:
    """The headers that a proxy passes on, but for those of these names."""
    kept = CIMultiDict(headers)
    for name in (*_HOP_BY_HOP, *without):
        kept.popall(name, None)
    return kept
