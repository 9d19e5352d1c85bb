"""Nodes that are brought ahead of jobs: while many come one after the other, the next ones need not wait for a whole boot.

A node that was asked for when a job came is ready a boot later. In a burst the jobs that come meanwhile would each ask for
one of their own, and wait for it from their own coming on. What is brought for them beforehand costs nothing if they come;
where they do not, it goes like any node that nobody waits for. The numbers were found by replaying real jobs
(`tools/replay.py`); others may do better on yours.
"""

from collections.abc import Iterable

from stoker.core.cluster.view import Demand

#: Jobs that came within so many seconds and wait for nodes make a burst, when there are more than so many.
WINDOW, ORDINARY = 95.0, 2
#: Nodes brought ahead for each job beyond that, and the most.
EACH, MOST = 1.85, 50


def nodes(demands: Iterable[Demand], now: float) -> int:
    """How many nodes are to be there or on their way beyond those that jobs ask for."""
    recent = sum(1 for demand in demands if demand.since > now - WINDOW)
    return min(int(EACH * max(0, recent - ORDINARY)), MOST)


def changes_at(demands: Iterable[Demand], now: float) -> float | None:
    """When that number falls though nothing happens; in seconds since the epoch."""
    recent = [demand.since for demand in demands if demand.since > now - WINDOW]
    return min(recent) + WINDOW if len(recent) > ORDINARY else None
