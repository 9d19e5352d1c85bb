"""Nodes that are kept ready for jobs to come, and when."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

from stoker.api.computecluster import DAYS, Warm, WarmTime


def instances(warm: Warm | None, now: float) -> int:
    """How many nodes are to be ready now beyond those that jobs have."""
    if warm is None:
        return 0
    holds = not warm.schedule or any(start <= now < end for start, end in _spans(warm, now))
    return warm.instances if holds else 0


def changes_at(warm: Warm | None, now: float) -> float | None:
    """When that number may be another one, in seconds since the epoch."""
    if warm is None or not warm.schedule:
        return None
    moments = (moment for span in _spans(warm, now) for moment in span if moment > now)
    return min(moments, default=None)


def _spans(warm: Warm, now: float) -> Iterator[tuple[float, float]]:
    """The times of the days around now."""
    today = datetime.fromtimestamp(now, UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    for shift in range(-1, 8):
        day = today + timedelta(days=shift)
        for one in warm.schedule:
            if not one.days or DAYS[day.weekday()] in one.days:
                yield _span(one, day)


def _span(one: WarmTime, day: datetime) -> tuple[float, float]:
    start, end = _at(day, one.start), _at(day, one.end)
    return start.timestamp(), (end if end > start else end + timedelta(days=1)).timestamp()


def _at(day: datetime, clock: str) -> datetime:
    hour, _, minute = clock.partition(":")
    return day.replace(hour=int(hour), minute=int(minute))
