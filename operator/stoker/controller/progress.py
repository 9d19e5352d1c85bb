"""When a status may be written that only tells how far a job is on its way: so many a second, namespaces in turn."""

import asyncio
from collections.abc import Callable

from stoker.kube.bucket import TokenBucket
from stoker.kube.store import Key
from stoker.kube.turns import Turns

#: So many a second, and at once. A burst of a thousand jobs must not be slowed down by telling that it is slow.
PROGRESS_PER_SECOND, PROGRESS_BURST = 5.0, 20.0


class Progress:
    """wake: told which key's turn it is; its status is planned anew then."""

    def __init__(self, wake: Callable[[Key], None]) -> None:
        self._wake = wake
        self._bucket = TokenBucket(PROGRESS_PER_SECOND, PROGRESS_BURST)
        self._line = Turns[Key]()
        self._waiting: set[Key] = set()
        self._granted: set[Key] = set()
        self._alarm: asyncio.TimerHandle | None = None

    def may(self, key: Key, now: float) -> bool:
        """Whether the key's status may be written now; if not, the key is woken when it may. now: of any one clock."""
        if key in self._granted:
            self._granted.discard(key)
            return True
        if key in self._waiting:
            return False
        if not self._line and self._bucket.take(now):
            return True
        self._waiting.add(key)
        self._line.add(key.namespace, key)
        self._set_alarm()
        return False

    def forget(self, key: Key) -> None:
        """The object has gone."""
        self._granted.discard(key)

    def _set_alarm(self) -> None:
        if self._alarm is None and self._line:
            self._alarm = asyncio.get_running_loop().call_later(1 / PROGRESS_PER_SECOND, self._next)

    def _next(self) -> None:
        self._alarm = None
        key = self._line.take()
        if key is not None:
            self._waiting.discard(key)
            self._granted.add(key)
            self._wake(key)
        self._set_alarm()
