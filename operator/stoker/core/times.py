"""Moments as Kubernetes writes them and as we reckon with them: seconds since the epoch, UTC. No clock in here."""

from datetime import UTC, datetime


def seconds(text: str | None) -> float | None:
    """Seconds since the epoch of an RFC 3339 time; None for nothing and for what is no such time."""
    if not text:
        return None
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return None
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()


def rfc3339(moment: float | None) -> str:
    """A moment to the second, in UTC, rounded down; empty for None."""
    if moment is None:
        return ""
    return datetime.fromtimestamp(int(moment), UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def duration(elapsed: float) -> str:
    """Seconds for people: `0s`, `44s`, `1m12s`, `2h3m`, `5d4h`."""
    whole = max(0, int(elapsed))
    days, rest = divmod(whole, 86400)
    hours, rest = divmod(rest, 3600)
    minutes, left = divmod(rest, 60)
    if days:
        return f"{days}d{hours}h" if hours else f"{days}d"
    if hours:
        return f"{hours}h{minutes}m" if minutes else f"{hours}h"
    if minutes:
        return f"{minutes}m{left}s" if left else f"{minutes}m"
    return f"{left}s"


def month(moment: float) -> tuple[float, float]:
    """When the month (UTC) of a moment began, and when the next one begins."""
    first = datetime.fromtimestamp(moment, UTC).replace(day=1, hour=0, minute=0, second=0, microsecond=0)
    following = first.replace(year=first.year + first.month // 12, month=first.month % 12 + 1)
    return first.timestamp(), following.timestamp()


def earliest(*moments: float | None) -> float | None:
    return min((moment for moment in moments if moment is not None), default=None)
