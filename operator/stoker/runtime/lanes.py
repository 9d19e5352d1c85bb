"""A few threads that do slow calls for one thread that decides."""

from __future__ import annotations

import queue
import threading
from typing import Callable, Generic, Optional, TypeVar

Result = TypeVar("Result")


class Done(Generic[Result]):
    """How a call ended: its result, or the error that it raised."""

    def __init__(self, result: Optional[Result], error: Optional[Exception]) -> None:
        self.result, self.error = result, error


class Lanes:
    """`count` threads; `free` says how many calls can start at once. Used by one thread."""

    def __init__(self, count: int, post: Callable[[Callable[[], None]], None]) -> None:
        self._post = post
        self._calls: queue.SimpleQueue[Optional[Callable[[], None]]] = queue.SimpleQueue()
        self._count, self.busy = count, 0
        for number in range(count):
            threading.Thread(target=self._work, name="lane-%d" % number, daemon=True).start()

    @property
    def free(self) -> int:
        return self._count - self.busy

    def start(self, call: Callable[[], Result], then: Callable[[Done[Result]], None]) -> None:
        """Make a call in a lane; `then` gets its end in the deciding thread, through `post`."""
        self.busy += 1

        def landed(done: Done[Result]) -> None:
            self.busy -= 1
            then(done)

        def run() -> None:
            try:
                done: Done[Result] = Done(call(), None)
            except Exception as error:  # every error goes to the deciding thread
                done = Done(None, error)
            self._post(lambda: landed(done))

        self._calls.put(run)

    def close(self) -> None:
        """Let the threads end after the calls that they are in."""
        for _ in range(self._count):
            self._calls.put(None)

    def _work(self) -> None:
        while True:
            call = self._calls.get()
            if call is None:
                return
            call()
