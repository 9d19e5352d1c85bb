"""What is known of a run, on this machine or in a cluster: one line, all of it, why it waits, and how it is ended."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from stoker.api.names import FINISHED, SYSTEM_NAMESPACE
from stoker.core.times import rfc3339
from stoker.core.times import seconds as moment
from stoker.errors import BadInput
from stoker.sdk.outcome import run_record

if TYPE_CHECKING:
    from stoker.local.kept import Kept
    from stoker.sdk.client import Cluster

#: What the CRD says of a job until the operator does.
_UNSEEN = "WaitingForController"


@dataclass
class LocalRun:
    """A run that is kept in a store of this machine."""

    kept: "Kept"
    key: str

    @property
    def name(self) -> str:
        return self.key[:-9]


@dataclass
class ClusterRun:
    """A run of a cluster. job: its TrainingJob, None when that is gone and the stored record is left."""

    cluster: "Cluster"
    key: str
    job: dict[str, Any] | None

    @property
    def name(self) -> str:
        return self.key[:-9]


Run = LocalRun | ClusterRun


def line_of(run: Run, record: Mapping[str, Any]) -> dict[str, Any]:
    """One run in a list."""
    job, result = record["job"], record.get("result") or {}
    status = ((record.get("object") or {}).get("status") or {}) if not result else {}
    started = result.get("startedAt") or status.get("startedAt") or None
    finished = result.get("finishedAt") or status.get("finishedAt") or None
    begun, ended = moment(started), moment(finished)
    waiting = status.get("waiting") or {}
    # A cluster's run without a result and without its object was deleted before it ended.
    deleted = not isinstance(run, LocalRun) and not record.get("object") and not result
    return {
        "name": job["name"], "key": record["key"], "namespace": None if isinstance(run, LocalRun) else job.get("namespace"),
        "compute": job.get("compute", ""), "phase": result.get("phase") or status.get("phase") or ("Canceled" if deleted else "Running"),
        "reason": result.get("reason") or status.get("reason") or waiting.get("reason") or ("Deleted" if deleted else ""),
        "exitCode": result.get("exitCode", status.get("exitCode")), "experiment": job.get("experiment"),
        "displayName": job.get("displayName"), "tags": job.get("tags") or {}, "submittedAt": _utc(job.get("submittedAt")),
        "startedAt": _utc(started), "finishedAt": _utc(finished),
        "durationSeconds": round(ended - begun, 3) if begun is not None and ended is not None else None,
    }  # fmt: skip


def _utc(text: str | None) -> str | None:
    at = moment(text)
    return rfc3339(at) if at is not None else None


def details(found: Run) -> dict[str, Any]:
    """Everything that `stoker show -o json` tells of a run."""
    record = record_of(found)
    job, result = record["job"], record.get("result")
    status = ((found.job or {}).get("status") or {}) if isinstance(found, ClusterRun) else {}
    shown = line_of(found, {**record, "object": found.job if isinstance(found, ClusterRun) else None})
    storage = str(record.get("storage") or status.get("logs", "").partition("/attempts/")[0])
    attempts = (result or {}).get("attempts") or []
    last = max(
        (one["number"] for one in attempts),
        default=max((one["number"] for one in status.get("attempts", ())), default=1),
    )
    outcome = run_record(
        result or {"name": job["name"], "phase": "", "exitCode": None, "reason": "", "message": "", "outputs": [], "timings": {}},
        f"{storage}/attempts/{last}/0/logs/std_log.txt" if storage else "", storage,
    )  # fmt: skip
    return {
        **shown,
        "message": outcome["message"] or status.get("message", ""),
        "command": job.get("command"), "snapshot": job.get("snapshot"), "commit": job.get("commit"),
        **({"dirty": True, "diff": job.get("diff", "")} if job.get("dirty") else {}),
        "image": job.get("image"), "pip": job.get("pip", []),
        **({"environment": job["environment"]} if job.get("environment") else {}),
        "instanceCount": job.get("instanceCount", 1), "inputs": job.get("inputs", {}), "submittedBy": job.get("submittedBy"),
        "attempts": attempts, "outputs": outcome["outputs"],
        **({"skipped": outcome["skipped"]} if "skipped" in outcome else {}), "logs": outcome["logs"], "storage": storage,
        "timings": outcome["timings"],
        **({"metrics": result["metrics"]} if result and result.get("metrics") else {}),
    }  # fmt: skip


def record_of(found: Run) -> dict[str, Any]:
    """{"key", "job", "result", "storage"?} of a run; of one without a record yet what its object says."""
    from stoker.sdk.wayin import ServerError

    if isinstance(found, LocalRun):
        record = found.kept.job(found.key)
        if record is None:
            # `@last` is noted before the environment is made, the record is written after that.
            why = f"{found.name} has no record in {found.kept.url}: it has not begun, or was removed"
            raise BadInput("RUN", why, "`stoker ls` lists the runs that have one")
        return record
    try:
        return {"key": found.key, **found.cluster.server().job(found.key)}
    except ServerError as error:
        if error.status != 404 or found.job is None:
            raise
        return {"key": found.key, "job": short_record(found.job, found.key), "result": None}


def short_record(job: Mapping[str, Any], key: str) -> dict[str, Any]:
    """What stands for job.json of a run that has none yet: what its object says."""
    meta, spec = job["metadata"], job["spec"]
    return {
        "name": meta["name"], "namespace": meta["namespace"], "uid": meta["uid"], "key": key, "experiment": spec.get("experiment"),
        "displayName": spec.get("displayName"), "tags": spec.get("tags", {}), "submittedAt": meta["creationTimestamp"],
        "submittedBy": None, "compute": spec.get("compute", ""), "command": spec.get("command", {}).get("command", ""),
        "instanceCount": spec.get("command", {}).get("resources", {}).get("instanceCount", 1),
    }  # fmt: skip


def reason_of(found: Run) -> dict[str, Any]:
    """{"name", "phase", "reason", "message", "fix", "since"}."""
    job = found.job if isinstance(found, ClusterRun) else None
    if job is not None and (status := job.get("status") or {}).get("phase") not in FINISHED:
        waiting = status.get("waiting") or _unseen(job, status)
        stood: dict[str, Any] = next(
            (one for one in status.get("conditions", ()) if one.get("type") == "Stalled" and one["status"] == "True"),
            {},
        )
        return {
            "name": found.name, "phase": status.get("phase", "Pending"), "reason": waiting.get("reason") or stood.get("reason", ""),
            "message": waiting.get("message") or stood.get("message", ""), "fix": waiting.get("fix", ""),
            "since": waiting.get("since") or None,
        }  # fmt: skip
    record = record_of(found)
    result = record.get("result")
    if result is None:
        if isinstance(found, LocalRun):
            return {"name": found.name, "phase": "Running", "reason": "", "message": "", "fix": "", "since": None}
        message = f"TrainingJob/{found.name} was deleted before the run ended; what it saved stays"
        return {
            "name": found.name,
            "phase": "Canceled",
            "reason": "Deleted",
            "message": message,
            "fix": "",
            "since": None,
        }
    return {
        "name": found.name, "phase": result["phase"], "reason": result["reason"], "message": result["message"], "fix": "",
        "since": _utc(result.get("finishedAt")),
    }  # fmt: skip


def _unseen(job: Mapping[str, Any], status: Mapping[str, Any]) -> dict[str, Any]:
    """The wait of a job that the operator has not looked at yet: the status that the API server fills in says no more."""
    if any(one.get("reason") != _UNSEEN for one in status.get("conditions", ())):
        return {}
    return {
        "reason": _UNSEEN,
        "message": "the operator has not looked at it yet",
        "fix": f"wait a few seconds, else see whether it runs: kubectl get pods -n {SYSTEM_NAMESPACE}",
        "since": job["metadata"].get("creationTimestamp"),
    }


def cancel(found: Run) -> bool:
    """Ask that a run ends; False for one that has ended. What it saved stays."""
    if isinstance(found, ClusterRun):
        if found.job is None or (found.job.get("status") or {}).get("phase") in FINISHED:
            return False
        found.cluster.cancel(found.name)
        return True
    import os
    import signal

    from stoker.local.kept import is_running, process_of

    if not is_running(found.key):
        return False
    process = process_of(found.key)
    if process is None:
        raise BadInput("RUN", f"{found.name} runs in another container, out of reach from here", "cancel it there")
    os.kill(process, signal.SIGTERM)
    return True
