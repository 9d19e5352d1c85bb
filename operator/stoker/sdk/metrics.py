"""The metrics that a run tracked, from the files that were saved with it: also while it runs."""

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from stoker.runtime.tracking.pieces import lines_of
from stoker.sdk.runrecords import LocalRun, Run

_FOLDER = "metrics/"


@dataclass
class Series:
    """The values of a metric, as they came: (step, value, milliseconds since the epoch)."""

    name: str
    points: list[tuple[int, float, int]] = field(default_factory=list)

    @property
    def last(self) -> float:
        """The value of the highest step, of several the latest."""
        return max(self.points, key=lambda one: (one[0], one[2]))[1]


def series_of(found: Run, rank: int = 0, attempt: int | None = None) -> list[Series]:
    """What a rank tracked in its own run, by name. attempt: the last when None."""
    by_name: dict[str, Series] = {}
    own = ""
    for line in _lines(found, rank, attempt):
        if line.get("t") == "run":
            own = own or str(line.get("run"))
        elif line.get("t") == "metric" and line.get("run") == own:
            name = str(line.get("k"))
            series = by_name.setdefault(name, Series(name))
            series.points.append((int(line.get("s") or 0), float(line.get("v") or 0.0), int(line.get("at") or 0)))
    return [by_name[name] for name in sorted(by_name)]


def told(series: list[Series], *, points: bool) -> list[dict[str, Any]]:
    """As `-o json` has it. points: every value too, else the last, the bounds and how many there were."""
    found = []
    for one in series:
        values = [value for _, value, _ in one.points if math.isfinite(value)]
        entry: dict[str, Any] = {
            "name": one.name, "last": _plain(one.last), "min": min(values, default=None), "max": max(values, default=None),
            "count": len(one.points),
        }  # fmt: skip
        if points:
            entry["points"] = [
                {"step": step, "value": _plain(value), "timestamp": at} for step, value, at in one.points
            ]
        found.append(entry)
    return found


_BARS = "▁▂▃▄▅▆▇█"


def curve(one: Series, width: int = 40) -> str:
    """The course of a metric in one line of blocks, its lowest value the lowest."""
    values = [value for _, value, _ in sorted(one.points) if math.isfinite(value)]
    if not values:
        return ""
    step = max(1, math.ceil(len(values) / width))
    shown = [sum(part) / len(part) for start in range(0, len(values), step) if (part := values[start : start + step])]
    low, high = min(shown), max(shown)
    span = high - low or 1.0
    return "".join(_BARS[min(len(_BARS) - 1, int((value - low) / span * len(_BARS)))] for value in shown)


def _plain(value: float) -> float | None:
    """JSON has no NaN."""
    return value if math.isfinite(value) else None


def _lines(found: Run, rank: int, attempt: int | None) -> Iterator[dict[str, Any]]:
    source = found.kept if isinstance(found, LocalRun) else found.cluster.server()
    files = [one for one in source.files(found.key) if one["path"].startswith(_FOLDER) and one["rank"] == rank]
    wanted = attempt or max((one["attempt"] for one in files), default=1)
    for one in sorted(files, key=lambda each: str(each["path"])):
        if one["attempt"] == wanted:
            yield from lines_of(_content(found, one).splitlines(keepends=True))


def _content(found: Run, one: Any) -> bytes:
    where = (one["attempt"], one["rank"], one["path"])
    if isinstance(found, LocalRun):
        return found.kept.content(found.key, *where)
    with found.cluster.server().open_file(found.key, *where, 0) as response:
        content: bytes = response.read()
    return content
