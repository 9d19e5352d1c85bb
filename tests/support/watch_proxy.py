"""A proxy to an API server whose watches can be cut and kept from coming back, while all other requests pass."""

import asyncio
import json
import re
import threading
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
from aiohttp import web
from yarl import URL

from tests.support.cutting_proxy import CuttingProxy, end_to_end

#: The plural of a kind in the path of its collection.
_PLURAL = re.compile(r"/(?:api/v1|apis/[^/]+/[^/]+)(?:/namespaces/[^/]+)?/([^/]+)$")


class WatchProxy(CuttingProxy):
    """Use it as a context manager; `url` is where it listens.

    resumed: (plural, the resourceVersion asked for) of each watch that came back after a cut. gone: the plurals whose
    watch was answered with 410, by its status or in its stream.
    """

    def __init__(self, upstream: str, **how: Any) -> None:
        super().__init__(upstream, lambda *_: False, **how)
        self.resumed: list[tuple[str, str]] = []
        self.gone: set[str] = set()
        self._let = asyncio.Event()
        self._let.set()
        self._streams: set[asyncio.Task[Any]] = set()

    def cut_watches(self) -> None:
        """End every watch in the middle of its stream, and hold those that are asked for from now on."""
        self.resumed.clear()
        self.gone.clear()
        self._on_loop(self._cut_all)

    def let_watches(self) -> None:
        """Pass on the watches that are held, and all that come."""
        self._on_loop(self._let.set)

    def _on_loop(self, act: Any) -> None:
        done = threading.Event()
        self._loop.call_soon_threadsafe(lambda: (act(), done.set()))
        assert done.wait(10)

    def _cut_all(self) -> None:
        self._let.clear()
        for stream in self._streams:
            stream.cancel()

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        plural = _PLURAL.search(request.path)
        if plural is None or request.query.get("watch") not in ("true", "1"):
            return await super()._handle(request)
        if not self._let.is_set():
            self.resumed.append((plural[1], request.query.get("resourceVersion", "")))
            await self._let.wait()
        task = asyncio.current_task()
        assert task is not None
        self._streams.add(task)
        try:
            return await self._stream(request, plural[1])
        finally:
            self._streams.discard(task)

    async def _stream(self, request: web.Request, plural: str) -> web.StreamResponse:
        upstream = URL(self._upstream + request.raw_path, encoded=True)
        async with self._http.get(upstream, headers=end_to_end(request.headers, "Host")) as answer:
            if answer.status == 410:
                self.gone.add(plural)
            response = web.StreamResponse(status=answer.status, headers=end_to_end(answer.headers))
            await response.prepare(request)
            async for line in _lines(answer.content):
                if _code_of(line) == 410:
                    self.gone.add(plural)
                await response.write(line)
            return response


async def _lines(content: aiohttp.StreamReader) -> AsyncIterator[bytes]:
    """Whole lines, however long; what is left at the end without a line end too."""
    begun = b""
    async for piece in content.iter_any():
        *whole, begun = (begun + piece).split(b"\n")
        for line in whole:
            yield line + b"\n"
    if begun:
        yield begun


def _code_of(line: bytes) -> int:
    """The status code in an ERROR event; 0 for any other."""
    if not line.startswith(b'{"type":"ERROR"'):
        return 0
    return int(json.loads(line)["object"].get("code", 0))
