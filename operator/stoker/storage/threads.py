"""Blocking calls of a library, made from an event loop without touching its threads or ours at the process's end.

Not asyncio.to_thread: its threads are waited for at exit, so Ctrl-C during a long upload would do nothing for as long
as the upload takes. These are daemon threads; a call that nobody waits for any more ends with the process.
"""

import asyncio
import contextlib
import queue
import threading
from collections.abc import Callable
from typing import Any, TypeVar

T = TypeVar("T")
_Call = tuple[Callable[[], Any], asyncio.AbstractEventLoop, "asyncio.Future[Any]"]


class Threads:
    """At most `most` threads, started when they are needed and kept."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._calls: queue.SimpleQueue[_Call] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._started = 0
        self._free = 0

    async def call(self, work: Callable[[], T]) -> T:
        """The result of `work`, or what it raises. Cancelling leaves the call running, unheard."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[T] = loop.create_future()
        with self._lock:
            self._free -= 1
            if self._free < 0 and self._started < self._most:
                self._started += 1
                self._free += 1
                threading.Thread(target=self._serve, daemon=True, name=f"store-{self._started}").start()
        self._calls.put((work, loop, future))
        return await future

    def _serve(self) -> None:
        while True:
            work, loop, future = self._calls.get()
            try:
                result, error = work(), None
            except BaseException as caught:  # goes to the caller, whatever it is
                result, error = None, caught
            with self._lock:
                self._free += 1
            with contextlib.suppress(RuntimeError):  # the loop is closed: nobody listens any more
                loop.call_soon_threadsafe(_settle, future, result, error)
            del work, loop, future, result, error  # nothing is held while there is nothing to do


def _settle(future: "asyncio.Future[Any]", result: Any, error: BaseException | None) -> None:
    if future.done():  # cancelled meanwhile
        return
    if error is not None:
        future.set_exception(error)
    else:
        future.set_result(result)
