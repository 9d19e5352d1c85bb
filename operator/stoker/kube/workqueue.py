"""Which key is worked on next: `Schedule` decides and knows no event loop, `WorkQueue` lets workers wait for it.

A key is queued once, however often it is added; a key that is added while it is worked on comes again after that.
Namespaces take turns, so that a thousand jobs of one do not keep another's single job waiting.
"""

import asyncio
import heapq
import itertools
import random
import time
from collections import deque
from collections.abc import Callable

from stoker.kube.store import Key
from stoker.kube.turns import Turns

FIRST_RETRY_SECONDS = 0.2
LONGEST_RETRY_SECONDS = 60.0
#: A key comes back after this at the soonest, in seconds; news of its object comes at once all the same.
SHORTEST_SECONDS = 0.5


class Schedule:
    """Keys that are ready, due later, or being worked on. Times are seconds of any one clock; `now` comes in."""

    def __init__(self, jitter: Callable[[], float] = random.random) -> None:
        self._jitter = jitter
        self._ready = Turns[Key]()
        self._ready_since: dict[Key, float] = {}
        self._due: dict[Key, float] = {}
        self._heap: list[tuple[float, int, Key]] = []  # may hold entries that `_due` no longer means
        self._order = itertools.count()
        self._running: dict[Key, float] = {}  # since when
        self._again: set[Key] = set()
        self._failures: dict[Key, int] = {}

    def __len__(self) -> int:
        """Keys that are ready."""
        return len(self._ready_since)

    @property
    def waiting(self) -> int:
        """Keys that are due later."""
        return len(self._due)

    def longest(self, now: float) -> tuple[Key | None, float, bool]:
        """The key that has waited longest to be done with, for how many seconds, and whether a worker has it."""
        waits = ((since, key, taken) for keys, taken in self._stages() for key, since in keys.items())
        since, key, taken = min(waits, key=lambda wait: wait[0], default=(now, None, False))
        return key, now - since, taken

    def _stages(self) -> tuple[tuple[dict[Key, float], bool], ...]:
        return (self._ready_since, False), (self._running, True)

    def add(self, key: Key, now: float) -> None:
        """The key has work now."""
        if key in self._running:
            self._again.add(key)
        elif key not in self._ready_since:
            self._ready_since[key] = now
            self._ready.add(key.namespace, key)

    def add_at(self, key: Key, when: float) -> None:
        """The key has work at `when`, or before if it was to come before."""
        if when < self._due.get(key, float("inf")):
            self._due[key] = when
            heapq.heappush(self._heap, (when, next(self._order), key))
            if len(self._heap) > 2 * len(self._due) + 1000:
                self._heap = [entry for entry in self._heap if self._due.get(entry[2]) == entry[0]]
                heapq.heapify(self._heap)

    def next_due(self) -> float | None:
        """When the next delayed key is due, or None."""
        while self._heap and self._due.get(self._heap[0][2]) != self._heap[0][0]:
            heapq.heappop(self._heap)
        return self._heap[0][0] if self._heap else None

    def ripen(self, now: float) -> None:
        """Make ready what is due."""
        while (when := self.next_due()) is not None and when <= now:
            key = heapq.heappop(self._heap)[2]
            del self._due[key]
            self.add(key, now)

    def take(self, now: float) -> tuple[Key, float] | None:
        """The next key and how long it was ready, or None; it counts as worked on until `done`."""
        self.ripen(now)
        key = self._ready.take()
        if key is None:
            return None
        since = self._ready_since.pop(key)
        # Whatever it was to come back for is looked at now.
        self._due.pop(key, None)
        self._running[key] = now
        return key, now - since

    def done(self, key: Key, now: float, wake_at: float | None = None) -> None:
        """The key's work went well; look again at `wake_at`, if given."""
        self._failures.pop(key, None)
        self._end(key, now)
        if wake_at is not None:
            # A moment that has passed is a plan that changed nothing and wants to look again: it must not spin.
            self.add_at(key, max(wake_at, now + SHORTEST_SECONDS))

    def failed(self, key: Key, now: float, at_least: float = 0.0) -> float:
        """The key's work failed: again after a delay that doubles with each failure in a row. Returns the delay."""
        failures = self._failures[key] = self._failures.get(key, 0) + 1
        # The exponent is bounded too: a float overflows at 2**1024.
        doubled = FIRST_RETRY_SECONDS * 2.0 ** min(failures - 1, 30)
        delay = max(at_least, min(doubled, LONGEST_RETRY_SECONDS) * (0.5 + self._jitter()))
        # What happened meanwhile waits for the same moment: an object in trouble must not spin.
        self._again.discard(key)
        self._end(key, now)
        self.add_at(key, now + delay)
        return delay

    def forget(self, key: Key) -> None:
        """The object has gone: nothing is due for it any more."""
        self._due.pop(key, None)
        self._failures.pop(key, None)

    def _end(self, key: Key, now: float) -> None:
        self._running.pop(key, None)
        if key in self._again:
            self._again.discard(key)
            self.add(key, now)


class WorkQueue:
    """A Schedule that workers can wait on. Delays and wake-ups are given in wall-clock time (`time.time`).

    waited: told how long each key was ready before a worker took it (seconds).
    """

    def __init__(self, waited: Callable[[float], None] | None = None, clock: Callable[[], float] = time.time) -> None:
        self.schedule = Schedule()
        self._waited = waited
        self._clock = clock
        self._free: deque[asyncio.Future[None]] = deque()
        self._alarm: asyncio.TimerHandle | None = None
        self._alarm_at = 0.0

    def add(self, key: Key, delay: float = 0.0) -> None:
        """The key has work, now or in `delay` seconds."""
        now = self._clock()
        if delay > 0:
            self.schedule.add_at(key, now + delay)
        else:
            self.schedule.add(key, now)
        self._wake()

    async def take(self) -> Key:
        """The next key; every key taken must be given back by `done` or `failed`."""
        while True:
            taken = self.schedule.take(self._clock())
            if taken is not None:
                if self._waited is not None:
                    self._waited(taken[1])
                return taken[0]
            future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._free.append(future)
            self._set_alarm()
            await future

    def done(self, key: Key, wake_at: float | None = None) -> None:
        self.schedule.done(key, self._clock(), wake_at)
        self._wake()

    def failed(self, key: Key, at_least: float = 0.0) -> float:
        delay = self.schedule.failed(key, self._clock(), at_least)
        self._wake()
        return delay

    def _wake(self) -> None:
        """Wake as many waiting workers as there are ready keys, and set the alarm for the next delayed one."""
        self.schedule.ripen(self._clock())
        for _ in range(len(self.schedule)):
            while self._free and self._free[0].done():  # its worker was cancelled
                self._free.popleft()
            if not self._free:
                break
            self._free.popleft().set_result(None)
        self._set_alarm()

    def _set_alarm(self) -> None:
        if (when := self.schedule.next_due()) is None:
            return
        loop = asyncio.get_running_loop()
        # At most a minute ahead, so that a stepped wall clock is noticed. An alarm that rings too early does no harm.
        at = loop.time() + min(max(0.0, when - self._clock()), 60.0)
        if self._alarm is not None:
            if self._alarm_at <= at:
                return
            self._alarm.cancel()
        # The handle itself cannot be asked: uvloop gives one without a time for a moment that is now.
        self._alarm, self._alarm_at = loop.call_at(at, self._ring), at

    def _ring(self) -> None:
        self._alarm = None
        self._wake()
