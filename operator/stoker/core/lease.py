"""Who leads: what a replica may conclude from a Lease, from what it saw itself and from one clock of its own.

Times are seconds of the replica's monotonic clock. The times that stand in the Lease are for people: they come from
other machines' clocks and decide nothing. A holder promises to stop RENEW_SECONDS after it sent its last successful
write; another one takes over when it has seen the Lease unchanged for the Lease's duration, which is longer.
One thing cannot be known: a replica that never saw a Lease, for it was made and deleted between two looks or before the
replica started, takes it for a first start.
"""

from dataclasses import dataclass, replace
from enum import Enum

#: Stands for whoever may have held a Lease that somebody deleted.
UNKNOWN = "unknown"
#: How long a holder may be silent before others take over; how long it leads without a renewal; how often all look.
LEASE_SECONDS, RENEW_SECONDS, RETRY_SECONDS = 15.0, 10.0, 2.0


@dataclass(frozen=True, slots=True)
class Lease:
    """A Lease as it was read. holder: empty when it is free. version: its resourceVersion, empty when there is no such
    object. seconds: how long this holder may be silent. changes: how often the holder has changed."""

    holder: str = ""
    version: str = ""
    seconds: float = LEASE_SECONDS
    changes: int = 0


class Decision(Enum):
    """What to do about a Lease. TAKE: write our name into it, or make it. RENEW: it is ours, write again."""

    TAKE = "Take"
    RENEW = "Renew"
    WAIT = "Wait"


def decide(lease: Lease, me: str, observed_at: float, now: float) -> Decision:
    """What the replica `me` does. observed_at: when it first saw the Lease as it is."""
    if lease.holder == me and lease.version:
        return Decision.RENEW
    if not lease.holder or now - observed_at >= lease.seconds:
        return Decision.TAKE
    return Decision.WAIT


@dataclass(frozen=True, slots=True)
class Standing:
    """What one replica knows. observed: the Lease as last seen, since `observed_at`; None before the first look.
    valid_until: until when it may write; None while it has not led."""

    me: str
    observed: Lease | None = None
    observed_at: float = 0.0
    valid_until: float | None = None

    def seen(self, found: Lease | None, now: float) -> "Standing":
        """After a read (None: there is no such object).

        A Lease that somebody deleted counts as held: who wrote there last may be at work until its time is over.
        """
        if found is None:
            found = _gone(self.observed)
        if found == self.observed:
            return self
        return replace(self, observed=found, observed_at=now)

    def wrote(self, lease: Lease, sent_at: float, now: float) -> "Standing":
        """After a write that made the Lease ours. An answer that comes too late makes nobody a leader."""
        until = sent_at + RENEW_SECONDS
        if self.valid_until is None and now >= until:
            return replace(self, observed=lease, observed_at=now)
        return replace(self, observed=lease, observed_at=now, valid_until=until)

    def resigned(self) -> "Standing":
        """It will not write any more."""
        return replace(self, valid_until=None)

    def decision(self, now: float) -> Decision | None:
        """What to do now; None before the first look."""
        return None if self.observed is None else decide(self.observed, self.me, self.observed_at, now)

    def leads(self, now: float) -> bool:
        """Whether it may write now."""
        return self._holds and self.valid_until is not None and now < self.valid_until

    def lost(self, now: float) -> bool:
        """Whether it has led and must never write again."""
        return self.valid_until is not None and not self.leads(now)

    @property
    def _holds(self) -> bool:
        return self.observed is not None and self.observed.holder == self.me and bool(self.observed.version)


def _gone(before: Lease | None) -> Lease:
    if before is None:
        return Lease()
    return before if not before.version else replace(before, version="", holder=UNKNOWN)
