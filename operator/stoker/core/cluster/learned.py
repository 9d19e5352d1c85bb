"""The idle time that a pool learns for itself: how long it pays to keep a node that has nothing to do.

A pool's demand is sliced in levels: level k is taken whenever the jobs want at least k nodes. Between two uses of a level
lies a gap. A node that is kept for tau seconds costs the gap where the gap is shorter, else tau and one boot. What is
kept of the past is how often gaps of which length came, the younger ones counting more; tau is the time that would have
been cheapest for these (ski rental with the true distribution). Gaps are seen in what jobs ask for, so they are known
whether the node was kept or not.

All times are seconds; moments are seconds since the epoch.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice, zip_longest

from stoker.api.computecluster import ComputeClusterSpec

#: Gaps are sorted by length into classes, each reaching so many times as far as the one before; the last, 7 days and more.
RATIO = 1.1
CLASSES = math.ceil(math.log(604800.0, RATIO)) + 1
#: The longest gap of each class.
REACH = tuple(RATIO**number for number in range(CLASSES))
#: About so many gaps are remembered: each new one takes this part of the weight of all before it.
MEMORY = 2000.0
#: Until so many gaps are known, a node is kept for as long as a boot takes: never more than twice the cheapest.
ENOUGH = 10
#: How long a boot takes, as long as none was seen.
USUAL_BOOT = 180.0
#: Boots that are remembered, and runs of levels: a gap that began before these is not counted.
MOST_BOOTS, MOST_RUNS = 15, 1000


@dataclass(frozen=True, slots=True)
class Rhythm:
    """What a pool knows of its past.

    weights: of the gaps, by class; empty: none known. seen: gaps counted in all. boots: how long the last nodes took from
    being asked for until they could take a job. busy: nodes that jobs had or were promised when it was last looked at.
    freed: levels that nobody uses, the one that is used next last: since when, and how many. asked: nodes that were
    asked for and are not there: when, and how many; the oldest first. coming: how many these were when last looked at.
    """

    weights: tuple[float, ...] = ()
    seen: int = 0
    boots: tuple[float, ...] = ()
    busy: int = 0
    freed: tuple[tuple[float, int], ...] = ()
    asked: tuple[tuple[float, int], ...] = ()
    coming: int = 0


def idle_seconds(spec: ComputeClusterSpec, rhythm: Rhythm, last_look: float) -> float:
    """How long a node of the pool may be idle before it goes. last_look: how long it stays after that in any case."""
    if spec.idle_policy == "Fixed":
        return spec.idle_seconds_before_scale_down
    return min(max(0.0, cheapest(rhythm) - last_look), spec.max_idle_seconds)


def idle_since(rhythm: Rhythm, since: Sequence[float]) -> Iterator[float]:
    """From when on the idle time of each idle node counts: from when its level fell free, which is earlier than the node
    itself where the node came when nobody needed it any more. since: of the idle nodes, the newest first."""
    levels = (at for at, count in reversed(rhythm.freed) for _ in range(count))
    for own, level in zip_longest(since, islice(levels, len(since))):
        yield own if level is None else min(own, level)


def cheapest(rhythm: Rhythm) -> float:
    """How long a node would best have been kept in the gaps that are remembered."""
    boot = boot_seconds(rhythm)
    if rhythm.seen < ENOUGH:
        return boot
    longer = sum(rhythm.weights)
    best, least, spent = 0.0, longer * boot, 0.0
    for weight, length, reach in zip(rhythm.weights, _LENGTH, REACH, strict=True):
        if weight == 0.0:
            continue
        spent += weight * length
        longer -= weight
        if (cost := spent + longer * (reach + boot)) < least:
            best, least = reach, cost
    return best


def boot_seconds(rhythm: Rhythm) -> float:
    """How long a node of the pool takes to come: the median of the last ones."""
    return sorted(rhythm.boots)[len(rhythm.boots) // 2] if rhythm.boots else USUAL_BOOT


def demanded(rhythm: Rhythm, busy: int, now: float) -> Rhythm:
    """After another look at how many nodes jobs have or are promised."""
    if busy == rhythm.busy:
        return rhythm
    if busy < rhythm.busy:
        freed = (*rhythm.freed, (now, rhythm.busy - busy))
        return replace(rhythm, busy=busy, freed=freed[-MOST_RUNS:])
    left: list[tuple[float, int]] = list(rhythm.freed)
    lengths: list[float] = []
    for since, count in _taken(left, busy - rhythm.busy):
        lengths += [max(0.0, now - since)] * count
    weights = list(rhythm.weights or [0.0] * CLASSES)
    if lengths:
        fading = (1.0 - 1.0 / MEMORY) ** len(lengths)
        weights = [weight * fading for weight in weights]
    for length in lengths:
        weights[class_of(length)] += 1.0
    return replace(rhythm, busy=busy, freed=tuple(left), weights=tuple(weights), seen=rhythm.seen + len(lengths))


def booted(rhythm: Rhythm, coming: int, now: float) -> Rhythm:
    """After another look at how many nodes were asked for and are not there yet."""
    if coming == rhythm.coming:
        return rhythm
    if coming > rhythm.coming:
        asked = (*rhythm.asked, (now, coming - rhythm.coming))
        return replace(rhythm, coming=coming, asked=asked[-MOST_RUNS:])
    asked_last, boots = list(reversed(rhythm.asked)), list(rhythm.boots)
    for since, count in _taken(asked_last, rhythm.coming - coming):
        boots += [now - since] * count
    return replace(rhythm, coming=coming, asked=tuple(reversed(asked_last)), boots=tuple(boots[-MOST_BOOTS:]))


def _taken(runs: list[tuple[float, int]], wanted: int) -> list[tuple[float, int]]:
    """Take so many off the end of `runs`, as far as they reach."""
    found = []
    while wanted and runs:
        since, count = runs.pop()
        used = min(count, wanted)
        found.append((since, used))
        wanted -= used
        if count > used:
            runs.append((since, count - used))
    return found


def class_of(length: float) -> int:
    return min(max(0, math.ceil(math.log(length, RATIO))), CLASSES - 1) if length > 1.0 else 0


#: What a gap of each class costs to sit through: the middle of the class.
_LENGTH = tuple((short + long) / 2 for short, long in zip((0.0, *REACH[:-1]), REACH, strict=True))


# -- Kept over a restart, as text of at most a few kilobytes.


def written(rhythm: Rhythm) -> str:
    """What is worth keeping: the gaps and the boots. `number:weight` for each class that has any."""
    gaps = ",".join(f"{n}:{weight:.3g}" for n, weight in enumerate(rhythm.weights) if weight >= 0.0005)
    boots = ",".join(f"{seconds:.0f}" for seconds in rhythm.boots)
    return f"1;{rhythm.seen};{gaps};{boots}"


def read(text: str) -> Rhythm:
    """What `written` wrote; a new one where it is not ours to read."""
    try:
        version, seen, gaps, boots = text.split(";")
        if version != "1":
            raise ValueError(version)
        weights = [0.0] * CLASSES
        for entry in filter(None, gaps.split(",")):
            number, weight = entry.split(":")
            weights[int(number)] = _positive(weight)
        known = tuple(_positive(seconds) for seconds in filter(None, boots.split(",")))
        return Rhythm(tuple(weights) if gaps else (), int(seen) if gaps else 0, known[-MOST_BOOTS:])
    except (ValueError, IndexError):
        return Rhythm()


def _positive(text: str) -> float:
    value = float(text)
    if not (math.isfinite(value) and value >= 0.0):
        raise ValueError(text)
    return value
