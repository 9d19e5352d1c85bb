"""The least that any pool can pay for a trace, knowing it all beforehand, and what a fixed idle timer pays.

Slice the demand in levels: level k is used whenever at least k nodes are, and the level that fell free last is used next.
Between two uses of a level lies a gap: a node is kept over it (and paid) or dropped (and one boot is paid). Each gap stands
for itself, so the optimum pays the less of both: min(gap, boot). Exact for a pool without a cap; O(n log n).
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from tools.replaying.trace import Job, busy_seconds, changes


@dataclass(frozen=True, slots=True)
class Levels:
    """busy: node-seconds of the jobs. gaps: all gaps, in seconds. first: levels that were ever used, each of which boots
    once in any case."""

    busy: float
    gaps: tuple[float, ...]
    first: int


def levels(jobs: Sequence[Job]) -> Levels:
    freed: list[float] = []
    gaps: list[float] = []
    first = 0
    for at, change in changes(jobs):
        if change < 0:
            freed += [at] * -change
            continue
        for _ in range(change):
            if freed:
                gaps.append(at - freed.pop())
            else:
                first += 1
    return Levels(busy_seconds(jobs), tuple(gaps), first)


def least_waste(seen: Levels, boot: float) -> float:
    """Node-seconds of idling and booting that no policy can avoid, the first boot of each level left out."""
    return sum(min(gap, boot) for gap in seen.gaps)


def timer_waste(seen: Levels, boot: float, idle: float) -> float:
    """The same for a timer that drops a node after `idle` seconds, at once."""
    return sum(gap if gap <= idle else idle + boot for gap in seen.gaps)


def timer_wait(jobs: Sequence[Job], boot: float, idle: float) -> float:
    """Seconds that the jobs wait in all with that timer: a job with a node that must boot waits for one boot."""
    events = [(job.submitted, 1, job.nodes) for job in jobs]
    events += [(job.submitted + job.seconds, 0, job.nodes) for job in jobs]
    freed: list[float] = []
    waited = 0.0
    for at, starts, nodes in sorted(events):
        if not starts:
            freed += [at] * nodes
            continue
        taken = [freed.pop() for _ in range(min(nodes, len(freed)))]
        if len(taken) < nodes or any(at - since > idle for since in taken):
            waited += boot
    return waited


def total(parts: Iterable[Levels], boot: float) -> float:
    """Node-seconds of the optimum."""
    return sum(part.busy + least_waste(part, boot) + part.first * boot for part in parts)
