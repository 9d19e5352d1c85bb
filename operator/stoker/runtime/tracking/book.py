"""What a command tracks: its runs with metrics, parameters and tags. Memory holds the last values; the files hold all."""

from __future__ import annotations

import math
import threading
import time
import uuid
from typing import Any, Dict, Iterator, List, Mapping, NamedTuple, Optional

from stoker.runtime import wire
from stoker.runtime.layout import Scratch
from stoker.runtime.tracking.pieces import Pieces, read

#: Bounds of one run, and how many runs a command may make. MLflow's own service has 1,000 for a request.
MOST_NAMES, MOST_RUNS, MOST_TEXT = 2000, 1000, 8000


class Refused(Exception):
    """A request that cannot be meant; code: MLflow's word for it."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


class Point(NamedTuple):
    """One value. at: milliseconds since the epoch."""

    value: float
    step: int
    at: int


class Tracked:
    """One run of MLflow's. The first that a command makes is the job's own."""

    def __init__(self, id: str, name: str, started: int) -> None:
        self.id, self.name, self.started = id, name, started
        self.ended: Optional[int] = None
        self.status, self.deleted = "RUNNING", False
        self.metrics: Dict[str, Point] = {}
        self.params: Dict[str, str] = {}
        self.tags: Dict[str, str] = {}


class Book:
    """Everything that a command tracked. From any thread."""

    def __init__(self, scratch: Scratch) -> None:
        self._scratch, self._lock = scratch, threading.Lock()
        self._runs: Dict[str, Tracked] = {}
        for line in read(scratch):
            self._apply(line)
        self._pieces = Pieces(scratch)

    def close(self) -> None:
        with self._lock:
            self._pieces.close()

    def runs(self) -> List[Tracked]:
        """The oldest first."""
        with self._lock:
            return list(self._runs.values())

    def run(self, id: str) -> Tracked:
        """Raises Refused for an id that is none."""
        with self._lock:
            found = self._runs.get(id)
        if found is None:
            raise Refused("RESOURCE_DOES_NOT_EXIST", "Run with id=%s not found" % id)
        return found

    def create(self, name: str, started: int, tags: Mapping[str, str]) -> Tracked:
        with self._lock:
            if len(self._runs) >= MOST_RUNS:
                raise Refused("RESOURCE_EXHAUSTED", "a job tracks at most %d runs" % MOST_RUNS)
        id = uuid.uuid4().hex
        head = {"t": "run", "run": id, "name": _text(name), "start": started or _now()}
        self._write([head, *({"t": "tag", "run": id, "k": k, "v": v} for k, v in tags.items())])
        return self.run(id)

    def log(self, id: str, lines: List[Dict[str, Any]]) -> None:
        """Metrics, parameters and tags of a run, all or none. Raises Refused and OSError."""
        run = self.run(id)
        for line in lines:
            _check(run, line)
        self._write([{**line, "run": id} for line in lines])

    def history(self, id: str, key: str) -> Iterator[Point]:
        """Every value of a metric, as it came. From the files: a long run has more than memory should hold."""
        for line in read(self._scratch):
            if line.get("t") == "metric" and line.get("run") == id and line.get("k") == key:
                yield Point(_number(line.get("v")), int(line.get("s") or 0), int(line.get("at") or 0))

    def _write(self, lines: List[Dict[str, Any]]) -> None:
        with self._lock:
            self._pieces.append(lines)
            for line in lines:
                self._apply(line)

    def _apply(self, line: Mapping[str, Any]) -> None:
        kind, id, key = line.get("t"), line.get("run"), line.get("k")
        if not isinstance(id, str):
            return
        if kind == "run":
            self._runs.setdefault(id, Tracked(id, str(line.get("name") or ""), int(line.get("start") or 0)))
            return
        run = self._runs.get(id)
        if run is None:
            return
        if kind == "metric" and isinstance(key, str):
            point = Point(_number(line.get("v")), int(line.get("s") or 0), int(line.get("at") or 0))
            former = run.metrics.get(key)
            # MLflow's own rule: the last value is that of the highest step, then of the latest time.
            if former is None or (former.step, former.at) <= (point.step, point.at):
                run.metrics[key] = point
        elif kind == "param" and isinstance(key, str):
            run.params.setdefault(key, str(line.get("v")))
        elif kind == "tag" and isinstance(key, str):
            if line.get("v") is None:
                run.tags.pop(key, None)
            else:
                run.tags[key] = str(line["v"])
        elif kind == "state":
            run.status = str(line.get("status") or run.status)
            run.ended = line.get("end") or run.ended
            run.name = str(line.get("name") or run.name)
            run.deleted = bool(line.get("deleted", run.deleted))


def summary(scratch: Scratch) -> Dict[str, float]:
    """The last value of each metric of the job's own run, as they are in the files; those that are no number are left out."""
    book = Book(scratch)
    try:
        runs = [run for run in book.runs() if not run.deleted]
    finally:
        book.close()
    if not runs:
        return {}
    found = {key: point.value for key, point in sorted(runs[0].metrics.items()) if math.isfinite(point.value)}
    return dict(list(found.items())[: wire.MOST_METRICS])


def _check(run: Tracked, line: Mapping[str, Any]) -> None:
    kind, key, value = line["t"], line.get("k"), line.get("v")
    if kind == "state":
        return
    if not isinstance(key, str) or not key or len(key) > 250:
        raise Refused("INVALID_PARAMETER_VALUE", "a name has 1 to 250 characters, and this is %r" % (key,))
    by_kind: Dict[str, Mapping[str, Any]] = {"metric": run.metrics, "param": run.params, "tag": run.tags}
    held = by_kind[kind]
    if key not in held and len(held) >= MOST_NAMES:
        raise Refused("RESOURCE_EXHAUSTED", "a run has at most %d names of a kind" % MOST_NAMES)
    if kind == "metric":
        try:
            _number(value)
        except (TypeError, ValueError):
            raise Refused("INVALID_PARAMETER_VALUE", "metric %r: %r is not a number" % (key, value)) from None
        return
    if value is not None and len(str(value)) > MOST_TEXT:
        raise Refused("INVALID_PARAMETER_VALUE", "%s %r has more than %d characters" % (kind, key, MOST_TEXT))
    if kind == "param" and run.params.get(key, str(value)) != str(value):
        said = "Changing param values is not allowed. Param with key='%s' was already logged with value='%s'"
        raise Refused("INVALID_PARAMETER_VALUE", said % (key, run.params[key]))


def _number(value: Any) -> float:
    """A value on the wire: a number, or one of the texts `NaN`, `Infinity`, `-Infinity`."""
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        raise TypeError("not a number")
    return float(value)


def _text(value: Any) -> str:
    return str(value or "")[:MOST_TEXT]


def _now() -> int:
    return int(time.time() * 1000)
