"""Ending long work from outside: a follower that waits, a download under way. Used by the client for asyncio, whose tasks may
be cancelled while their work runs in a thread."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from stoker.errors import StokerError


class Stopped(StokerError):
    """The caller does not want the rest."""


class Stop:
    """A wish to end one piece of work; `now` may be called from any thread, once or more often."""

    def __init__(self) -> None:
        self._wanted = threading.Event()
        self._lock = threading.Lock()
        self._calls: list[Callable[[], None]] = []

    def now(self) -> None:
        """End the work."""
        with self._lock:
            self._wanted.set()
            calls = list(self._calls)
        for call in calls:
            call()

    @property
    def wanted(self) -> bool:
        """Whether the work is to end."""
        return self._wanted.is_set()

    def wait(self, seconds: float) -> None:
        """Wait so long, or until the work is to end."""
        self._wanted.wait(seconds)

    @contextmanager
    def calling(self, call: Callable[[], None]) -> Iterator[None]:
        """While inside, `now` calls this too; at once where it was called before."""
        with self._lock:
            self._calls.append(call)
            wanted = self.wanted
        if wanted:
            call()
        try:
            yield
        finally:
            with self._lock:
                self._calls.remove(call)


#: What may end the work of this thread, None for nothing.
current: ContextVar[Stop | None] = ContextVar("stop", default=None)
_NOBODY = threading.Event()


def check() -> None:
    """Raises Stopped when the work is to end."""
    stop = current.get()
    if stop is not None and stop.wanted:
        raise Stopped("stopped by the caller")


def pause(seconds: float) -> None:
    """Wait; shorter when the work is to end. Ctrl-C ends the wait."""
    stop = current.get()
    if stop is None:
        _NOBODY.wait(seconds)
    else:
        stop.wait(seconds)


@contextmanager
def calling(call: Callable[[], None]) -> Iterator[None]:
    """While inside, who ends the work calls this."""
    stop = current.get()
    if stop is None:
        yield
        return
    with stop.calling(call):
        yield
