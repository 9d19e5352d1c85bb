"""Between the event loop, which moves bytes, and threads, which unpack them."""

import asyncio
import io
from collections.abc import AsyncIterator


class Feed(io.RawIOBase):
    """An asynchronous stream as a file for a thread to read. The loop must go on running meanwhile."""

    def __init__(self, stream: AsyncIterator[bytes], loop: asyncio.AbstractEventLoop) -> None:
        self._stream = stream
        self._loop = loop
        self._rest = memoryview(b"")

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: bytearray | memoryview) -> int:  # type: ignore[override]
        while not self._rest:
            block = asyncio.run_coroutine_threadsafe(_next(self._stream), self._loop).result()
            if block is None:
                return 0
            self._rest = memoryview(block)
        count = min(len(buffer), len(self._rest))
        buffer[:count] = self._rest[:count]
        self._rest = self._rest[count:]
        return count


async def _next(stream: AsyncIterator[bytes]) -> bytes | None:
    return await anext(stream, None)
