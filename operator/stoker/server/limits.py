"""How much one caller may ask for, and how much all together: who is over it is told when to come back.

Each replica counts for itself: with two of them a caller that meets both may ask for twice as much.
"""

import time
from collections import OrderedDict
from collections.abc import Callable, Hashable
from dataclasses import dataclass

from starlette.types import Scope

from stoker.server.errors import Refusal

#: Callers that are remembered; beyond that the one that was quiet for longest is forgotten, and starts anew.
MOST_CALLERS = 20_000
#: What may be saved up, in seconds of the rate.
BURST_SECONDS = 5.0
#: A person's namespace as a whole may ask for so many times what one person may.
NAMESPACE_TIMES = 4
#: Tokens that are not good, per second and address: each of them costs the API server a question.
STRANGERS_PER_SECOND = 10
#: Requests under way at a time, on the pods' side and on the people's side, so that neither starves the other.
MOST_REQUESTS = 256
#: Bytes of bodies that are in memory at a time, on each side; one longest body (a seal, a manifest) and small ones.
MOST_HELD_BYTES = 96 << 20

_HELD = "stoker.held"
_ROUNDING = 1e-9


class Buckets:
    """What each caller may still ask for, refilled as time goes by. what: the callers in words. now: monotonic seconds."""

    def __init__(self, what: str, per_second: float, now: Callable[[], float] = time.monotonic) -> None:
        self._what, self._rate, self._now = what, per_second, now
        self._most = per_second * BURST_SECONDS
        self._left: OrderedDict[Hashable, tuple[float, float]] = OrderedDict()

    def take(self, caller: Hashable, cost: float = 1.0) -> None:
        """Count a request. Raises Refusal 429 with the time to wait, and counts nothing then."""
        left, cost = self._refilled(caller), min(cost, self._most)
        if left < cost - _ROUNDING:
            self._refuse(cost - left)
        self._keep(caller, left - cost)

    def check(self, caller: Hashable) -> None:
        """Raises Refusal 429 when not one request is left; counts nothing."""
        if (left := self._refilled(caller)) < 1.0:
            self._refuse(1.0 - left)

    def _refilled(self, caller: Hashable) -> float:
        left, at = self._left.get(caller, (self._most, self._now()))
        return min(self._most, left + (self._now() - at) * self._rate)

    def _keep(self, caller: Hashable, left: float) -> None:
        self._left[caller] = (left, self._now())
        self._left.move_to_end(caller)
        while len(self._left) > MOST_CALLERS:
            self._left.popitem(last=False)

    def _refuse(self, lacks: float) -> None:
        seconds = lacks / self._rate
        message = f"more than {self._rate:g} requests a second by one {self._what}: ask again in {seconds:.1f} s"
        raise Refusal(429, "TooManyRequests", message, retry_after=seconds)


@dataclass
class Side:
    """What is under way on one side of the server. held: bytes of bodies in memory."""

    requests: int = 0
    held: int = 0


class Load:
    """What all requests together hold. Used by one thread."""

    def __init__(self, most_requests: int = MOST_REQUESTS, most_held: int = MOST_HELD_BYTES) -> None:
        self._most_requests, self._most_held = most_requests, most_held
        self._sides: dict[str, Side] = {}

    def enter(self, scope: Scope) -> None:
        """Count a request as under way, until `leave`. Raises Refusal 503."""
        side = self._sides.setdefault("people" if scope["path"].startswith("/v1/namespaces/") else "pods", Side())
        if side.requests >= self._most_requests:
            raise _busy(f"{side.requests} requests are under way")
        side.requests += 1
        scope[_HELD] = (self, side, 0)

    def leave(self, scope: Scope) -> None:
        """The request is over: what it held is free again."""
        _, side, held = scope.pop(_HELD)
        side.requests -= 1
        side.held -= held

    def hold(self, scope: Scope, size: int) -> None:
        """Count bytes of a request's body. Raises Refusal 503."""
        _, side, held = scope[_HELD]
        if side.held + size > self._most_held:
            raise _busy(f"requests with {side.held} bytes are under way")
        side.held += size
        scope[_HELD] = (self, side, held + size)


def hold(scope: Scope, size: int) -> None:
    """Count bytes of a request's body that stay in memory until it is answered. Raises Refusal 503."""
    if _HELD in scope:
        scope[_HELD][0].hold(scope, size)


def _busy(why: str) -> Refusal:
    return Refusal(503, "ServerBusy", f"{why}: ask again")
