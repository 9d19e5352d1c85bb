"""A token bucket: so many at once, and so many a second over time."""


class TokenBucket:
    """rate: tokens per second. burst: the most that are kept. Times are seconds of any one clock."""

    def __init__(self, rate: float, burst: float) -> None:
        self._rate = rate
        self._burst = burst
        self._tokens = burst
        self._refilled = float("-inf")

    def take(self, now: float) -> bool:
        """Take a token; False when there is none."""
        passed = max(0.0, now - self._refilled)
        self._tokens = min(self._burst, self._tokens + passed * self._rate)
        self._refilled = now
        if self._tokens < 1.0:
            return False
        self._tokens -= 1.0
        return True
