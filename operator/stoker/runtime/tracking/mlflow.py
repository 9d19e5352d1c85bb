"""MLflow's REST API (2.0) over a Book: what mlflow's own client asks while a script trains.

https://mlflow.org/docs/latest/api_reference/rest-api.html. There is one experiment, the job's; every name means it. What a
script stores as an artifact it writes to ./outputs itself: the artifact location of a run is that folder.
"""

from __future__ import annotations

import math
import time
from typing import Any, Callable, Dict, List, Mapping, Tuple
from urllib.parse import quote

from stoker.runtime.tracking.book import Book, Point, Refused, Tracked

EXPERIMENT = "0"
#: MLflow's own bounds for one answer and one batch.
_MOST_HISTORY = 25_000
_MOST_BATCH = 1000

Answer = Dict[str, Any]
_STATES = ("RUNNING", "SCHEDULED", "FINISHED", "FAILED", "KILLED")


class Api:
    """book: what is tracked. outputs: the folder where artifacts go. named: what the experiment is called."""

    def __init__(self, book: Book, outputs: str, named: Callable[[], str]) -> None:
        self._book, self._outputs, self._named = book, outputs, named
        self._models: Dict[str, Dict[str, Any]] = {}

    def answer(self, method: str, path: str, asked: Mapping[str, Any]) -> Answer:
        """What to answer to a request; path: behind `/api/2.0/mlflow/`. asked: its body, or its query. Raises Refused."""
        parts = path.strip("/").split("/")
        if parts[0] == "logged-models":
            return self._model(method, parts[1:], asked)
        handler = _HANDLERS.get((method, "/".join(parts)))
        if handler is None:
            raise Refused("ENDPOINT_NOT_FOUND", "%s %s is not served beside a job" % (method, path))
        return handler(self, asked)

    # -- Experiments: there is one.

    def _experiment_of(self, asked: Mapping[str, Any]) -> Answer:
        return {"experiment": self._told(str(asked.get("experiment_name") or self._named()))}

    def _experiment_made(self, asked: Mapping[str, Any]) -> Answer:
        return {"experiment_id": EXPERIMENT}

    def _experiments(self, asked: Mapping[str, Any]) -> Answer:
        return {"experiments": [self._told(self._named())]}

    def _told(self, name: str) -> Answer:
        return {
            "experiment_id": EXPERIMENT,
            "name": name,
            "artifact_location": _url(self._outputs),
            "lifecycle_stage": "active",
            "creation_time": 0,
            "last_update_time": 0,
        }

    # -- Runs.

    def _run_made(self, asked: Mapping[str, Any]) -> Answer:
        tags = {one["key"]: str(one.get("value", "")) for one in _entries(asked, "tags")}
        name = str(asked.get("run_name") or tags.get("mlflow.runName") or self._named())
        return {"run": self._run(self._book.create(name, _whole(asked.get("start_time")), tags))}

    def _run_told(self, asked: Mapping[str, Any]) -> Answer:
        return {"run": self._run(self._book.run(_id(asked)))}

    def _run_changed(self, asked: Mapping[str, Any]) -> Answer:
        line: Dict[str, Any] = {"t": "state"}
        if asked.get("status"):
            status = _STATES[asked["status"] - 1] if isinstance(asked["status"], int) else str(asked["status"])
            if status not in _STATES:
                raise Refused("INVALID_PARAMETER_VALUE", "status is %r" % status)
            line["status"] = status
        if asked.get("end_time"):
            line["end"] = _whole(asked["end_time"])
        if asked.get("run_name"):
            line["name"] = str(asked["run_name"])[:250]
        self._book.log(_id(asked), [line])
        return {"run_info": self._run(self._book.run(_id(asked)))["info"]}

    def _run_deleted(self, asked: Mapping[str, Any]) -> Answer:
        self._book.log(_id(asked), [{"t": "state", "deleted": True}])
        return {}

    def _run_restored(self, asked: Mapping[str, Any]) -> Answer:
        self._book.log(_id(asked), [{"t": "state", "deleted": False}])
        return {}

    def _runs(self, asked: Mapping[str, Any]) -> Answer:
        if asked.get("filter"):
            raise Refused("INVALID_PARAMETER_VALUE", "runs are not filtered beside a job: search without a filter")
        found = [run for run in self._book.runs() if not run.deleted]
        return {"runs": [self._run(run) for run in reversed(found)][: _whole(asked.get("max_results")) or 1000]}

    def _run(self, run: Tracked) -> Answer:
        info: Answer = {
            "run_id": run.id,
            "run_uuid": run.id,
            "run_name": run.name,
            "experiment_id": EXPERIMENT,
            "user_id": "stoker",
            "status": run.status,
            "start_time": run.started,
            "artifact_uri": _url(self._outputs if self._is_own(run) else "%s/%s" % (self._outputs, run.id)),
            "lifecycle_stage": "deleted" if run.deleted else "active",
        }
        if run.ended:
            info["end_time"] = run.ended
        data = {
            "metrics": [_metric(key, point) for key, point in sorted(run.metrics.items())],
            "params": [{"key": key, "value": value} for key, value in sorted(run.params.items())],
            "tags": [
                {"key": key, "value": value} for key, value in sorted({**run.tags, "mlflow.runName": run.name}.items())
            ],
        }
        return {"info": info, "data": data, "inputs": {}}

    def _is_own(self, run: Tracked) -> bool:
        runs = self._book.runs()
        return bool(runs) and runs[0].id == run.id

    # -- What is logged.

    def _metric_logged(self, asked: Mapping[str, Any]) -> Answer:
        self._book.log(_id(asked), [_metric_line(asked)])
        return {}

    def _param_logged(self, asked: Mapping[str, Any]) -> Answer:
        self._book.log(_id(asked), [{"t": "param", "k": asked.get("key"), "v": asked.get("value", "")}])
        return {}

    def _tag_set(self, asked: Mapping[str, Any]) -> Answer:
        self._book.log(_id(asked), [{"t": "tag", "k": asked.get("key"), "v": asked.get("value", "")}])
        return {}

    def _tag_deleted(self, asked: Mapping[str, Any]) -> Answer:
        self._book.log(_id(asked), [{"t": "tag", "k": asked.get("key"), "v": None}])
        return {}

    def _batch_logged(self, asked: Mapping[str, Any]) -> Answer:
        lines = [_metric_line(one) for one in _entries(asked, "metrics")]
        for kind, member in (("param", "params"), ("tag", "tags")):
            lines += [{"t": kind, "k": one.get("key"), "v": one.get("value", "")} for one in _entries(asked, member)]
        if len(lines) > 2 * _MOST_BATCH:
            raise Refused("INVALID_PARAMETER_VALUE", "a batch has at most %d entries" % (2 * _MOST_BATCH))
        self._book.log(_id(asked), lines)
        return {}

    def _taken(self, asked: Mapping[str, Any]) -> Answer:
        """Data sets and models by name: the run has to be there, and that is all that is kept of them."""
        self._book.run(_id(asked))
        return {}

    def _history(self, asked: Mapping[str, Any]) -> Answer:
        id, key = _id(asked), str(asked.get("metric_key") or "")
        self._book.run(id)
        most = min(_whole(asked.get("max_results")) or _MOST_HISTORY, _MOST_HISTORY)
        start = _whole(asked.get("page_token"))
        found, more = [], False
        for number, point in enumerate(self._book.history(id, key)):
            if number >= start + most:
                more = True
                break
            if number >= start:
                found.append(_metric(key, point))
        return {"metrics": found, **({"next_page_token": str(start + most)} if more else {})}

    def _artifacts(self, asked: Mapping[str, Any]) -> Answer:
        return {"root_uri": self._run(self._book.run(_id(asked)))["info"]["artifact_uri"], "files": []}

    # -- Models of MLflow 3: a name and a folder below ./outputs.

    def _model(self, method: str, parts: List[str], asked: Mapping[str, Any]) -> Answer:
        if method == "POST" and not parts:
            return self._model_made(asked)
        if method == "POST" and parts == ["search"]:
            return {"models": list(self._models.values())}
        found = self._models.get(parts[0] if parts else "")
        if found is None:
            raise Refused("RESOURCE_DOES_NOT_EXIST", "there is no logged model %s" % (parts[0] if parts else ""))
        if method == "PATCH" and len(parts) == 1:
            found["info"]["status"] = asked.get("status", "LOGGED_MODEL_READY")
        elif method == "PATCH" and parts[1:] == ["tags"]:
            found["info"].setdefault("tags", []).extend(_entries(asked, "tags"))
        elif method == "POST" and parts[1:] == ["params"]:
            found["data"].setdefault("params", []).extend(_entries(asked, "params"))
        return {"model": found}

    def _model_made(self, asked: Mapping[str, Any]) -> Answer:
        name = str(asked.get("name") or "model")
        id, now = "m-%032x" % (len(self._models) + 1), int(time.time() * 1000)
        found = {
            "info": {
                "experiment_id": EXPERIMENT,
                "model_id": id,
                "name": name,
                "creation_timestamp_ms": now,
                "last_updated_timestamp_ms": now,
                "artifact_uri": _url(
                    "%s/%s" % (self._outputs, name if len(self._models) == 0 else "%s-%s" % (name, id[-4:]))
                ),
                "status": "LOGGED_MODEL_PENDING",
                "source_run_id": asked.get("source_run_id") or "",
                "model_type": asked.get("model_type") or "",
                "tags": _entries(asked, "tags"),
            },
            "data": {"params": _entries(asked, "params"), "metrics": []},
        }
        self._models[id] = found
        return {"model": found}


#: What is asked of runs, experiments and metrics.
_HANDLERS: Dict[Tuple[str, str], Callable[[Api, Mapping[str, Any]], Answer]] = {
    ("GET", "experiments/get"): Api._experiment_of,
    ("GET", "experiments/get-by-name"): Api._experiment_of,
    ("POST", "experiments/create"): Api._experiment_made,
    ("POST", "experiments/search"): Api._experiments,
    ("GET", "experiments/search"): Api._experiments,
    ("POST", "runs/create"): Api._run_made,
    ("GET", "runs/get"): Api._run_told,
    ("POST", "runs/update"): Api._run_changed,
    ("POST", "runs/delete"): Api._run_deleted,
    ("POST", "runs/restore"): Api._run_restored,
    ("POST", "runs/search"): Api._runs,
    ("POST", "runs/log-metric"): Api._metric_logged,
    ("POST", "runs/log-parameter"): Api._param_logged,
    ("POST", "runs/set-tag"): Api._tag_set,
    ("POST", "runs/delete-tag"): Api._tag_deleted,
    ("POST", "runs/log-batch"): Api._batch_logged,
    ("POST", "runs/log-inputs"): Api._taken,
    ("POST", "runs/outputs"): Api._taken,
    ("POST", "runs/log-model"): Api._taken,
    ("GET", "metrics/get-history"): Api._history,
    ("GET", "artifacts/list"): Api._artifacts,
}


def _metric_line(asked: Mapping[str, Any]) -> Dict[str, Any]:
    value = asked.get("value")
    if isinstance(value, float) and not math.isfinite(value):
        value = _word(value)
    step, at = _whole(asked.get("step")), _whole(asked.get("timestamp"))
    return {"t": "metric", "k": asked.get("key"), "v": value, "s": step, "at": at or int(time.time() * 1000)}


def _metric(key: str, point: Point) -> Answer:
    value: Any = point.value if math.isfinite(point.value) else _word(point.value)
    return {"key": key, "value": value, "timestamp": point.at, "step": point.step}


def _word(value: float) -> str:
    """As protobuf's JSON writes what JSON has no number for."""
    return "NaN" if math.isnan(value) else ("Infinity" if value > 0 else "-Infinity")


def _id(asked: Mapping[str, Any]) -> str:
    return str(asked.get("run_id") or asked.get("run_uuid") or "")


def _entries(asked: Mapping[str, Any], member: str) -> List[Dict[str, Any]]:
    found = asked.get(member) or []
    if not isinstance(found, list) or not all(isinstance(one, dict) for one in found):
        raise Refused("INVALID_PARAMETER_VALUE", "%s is not a list of objects" % member)
    return found


def _whole(value: Any) -> int:
    """A whole number on the wire; protobuf's JSON writes 64-bit ones as text."""
    try:
        return int(value or 0)
    except (TypeError, ValueError):
        raise Refused("INVALID_PARAMETER_VALUE", "%r is not a whole number" % (value,)) from None


def _url(path: str) -> str:
    return "file://" + quote(path)
