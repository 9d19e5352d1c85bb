"""`stoker ls`, `show`, `why`, `cancel`: runs of this machine and of the cluster alike."""

import time
from collections.abc import Mapping
from typing import Any, get_args

import click

from stoker.api.names import FINISHED, SYSTEM_NAMESPACE
from stoker.cli import words
from stoker.cli.options import Common, common
from stoker.cli.output import human_bytes, plural, table
from stoker.cli.references import ClusterRun, LocalRun, Run, newest_first, resolve
from stoker.core.times import duration, rfc3339
from stoker.core.times import seconds as moment
from stoker.errors import BadInput
from stoker.sdk.draft import LOCAL

#: What the CRD says of a job until the operator does.
_UNSEEN = "WaitingForController"
_WHERE = (
    click.option("--compute", metavar="NAME", help="Only runs there: local, or a ComputeCluster."),
    click.option("--storage", metavar="URL|DIR", help="Where local runs are kept; else ./.stoker."),
)


def where(function: Any) -> Any:
    """Decorator: --compute and --storage."""
    for option in reversed(_WHERE):
        function = option(function)
    return function


@click.command(epilog="\b\nExamples:\n  stoker ls\n  stoker ls --compute local\n  stoker ls -n team -o json")
@where
@click.option("--experiment", metavar="NAME", help="Only runs of this experiment.")
@click.option("--limit", type=click.IntRange(1), default=50, show_default=True, help="At most so many, the newest.")
@common
def ls(common: Common, compute: str | None, storage: str | None, experiment: str | None, limit: int) -> None:
    """List runs, the newest first: local ones and the cluster's, also those whose pods and objects are gone."""
    explicit = bool(common.context or common.namespace or compute not in (None, LOCAL))
    found = newest_first(common, compute, storage, needed=explicit)
    lines = [line_of(run, record) for run, record in found]
    if experiment is not None:
        lines = [line for line in lines if line["experiment"] == experiment]
    lines = lines[:limit]

    def shown() -> None:
        rows = [
            [one["name"], one["phase"], one["compute"], one["reason"] if one["phase"] not in ("Completed",) else "",
             duration(one["durationSeconds"]) if one["durationSeconds"] is not None else "", one["submittedAt"]]
            for one in lines
        ]  # fmt: skip
        if rows:
            table(rows, ["NAME", "PHASE", "COMPUTE", "REASON", "DURATION", "SUBMITTED"])
        else:
            common.output.note("no runs yet: stoker run")

    common.output.emit(lines, shown, [one["name"] for one in lines])


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


@click.command(epilog="\b\nExamples:\n  stoker show @last\n  stoker show iris-7f3k -o json")
@click.argument("run", metavar="RUN")
@where
@common
def show(common: Common, run: str, compute: str | None, storage: str | None) -> None:
    """Show RUN: phase, command, code, image, times, outputs."""
    found = resolve(common, run, compute, storage)
    value = details(found)
    common.output.emit(value, lambda: _show(value), [value["name"]])


def details(found: Run) -> dict[str, Any]:
    """Everything that `stoker show -o json` tells of a run."""
    from stoker.cli.run import run_record

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
        "command": job.get("command"), "snapshot": job.get("snapshot"), "image": job.get("image"), "pip": job.get("pip", []),
        **({"environment": job["environment"]} if job.get("environment") else {}),
        "instanceCount": job.get("instanceCount", 1), "inputs": job.get("inputs", {}), "submittedBy": job.get("submittedBy"),
        "attempts": attempts, "outputs": outcome["outputs"],
        **({"skipped": outcome["skipped"]} if "skipped" in outcome else {}), "logs": outcome["logs"], "storage": storage,
        "timings": outcome["timings"],
    }  # fmt: skip


def record_of(found: Run) -> dict[str, Any]:
    """{"key", "job", "result", "storage"?} of a run; of one without a record yet what its object says."""
    from stoker.cli.references import _short
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
        return {"key": found.key, "job": _short(found.job, found.key), "result": None}


def _image_words(image: Mapping[str, Any]) -> str:
    """What is pulled, whole: an image that was built has no tag to tell it by."""
    reference, digest = str(image.get("reference") or ""), str(image.get("digest") or "")
    return f"{reference}@{digest}" if reference and digest and "@" not in reference else reference


def _show(value: Mapping[str, Any]) -> None:
    from stoker.api.trainingjob import Phase
    from stoker.cli.run import skipped_lines

    image = _image_words(value["image"] or {})
    code = value["exitCode"]
    for label, text in (
        ("name", value["name"]), ("phase", value["phase"] + (f", exit code {code}" if code else "")),
        ("reason", value["reason"] if value["phase"] != "Completed" else ""), ("compute", value["compute"]),
        ("command", value["command"]), ("snapshot", value["snapshot"]), ("image", image), ("pip", ", ".join(value["pip"])),
        ("nodes", str(value["instanceCount"]) if value["instanceCount"] > 1 else ""),
        ("inputs", ", ".join(f"{name}={one.get('value', one.get('source', ''))}" for name, one in value["inputs"].items())),
        ("submitted", value["submittedAt"]), ("started", value["startedAt"]), ("finished", value["finishedAt"]),
        ("timings", ", ".join(f"{phase} {value['timings'][phase]:.1f} s" for phase in get_args(Phase) if phase in value["timings"])),
        ("storage", value["storage"]),
    ):  # fmt: skip
        if text:
            print(f"{label:<10} {text}")
    if value["message"]:
        print("\n".join(f"  {line}" for line in value["message"].splitlines()))
    if value["outputs"]:
        print(f"\n{plural(len(value['outputs']), 'output')}")
        for one in value["outputs"]:
            print(f"  {human_bytes(one['size']):>9}  {one['path']}")
    if lines := skipped_lines(value):
        print("\n" + "\n".join(lines))


@click.command(epilog="\b\nExamples:\n  stoker why @last\n  stoker why iris-7f3k --plan\n  stoker why PoolFull")
@click.argument("run", metavar="RUN|REASON")
@click.option(
    "--plan", "planned", is_flag=True, help="Ask the operator for the plan it would make, and the facts it rests on."
)
@where
@common
def why(common: Common, run: str, planned: bool, compute: str | None, storage: str | None) -> None:
    """Say why RUN waits and what would help, or how it ended; or what a REASON means."""
    if words.is_word(run):
        entry = words.explained(run)
        common.output.emit(entry, lambda: words.show(entry), [run])
        return
    found = resolve(common, run, compute, storage)
    if planned:
        from stoker.cli.explained import show_plan

        told = plan_of(found)
        common.output.emit(told, lambda: show_plan(told), [found.name])
        return
    job = found.job if isinstance(found, ClusterRun) else None
    choice = ((job or {}).get("status") or {}).get("computeChoice") or {}
    value = {**reason_of(found), "compute": choice.get("message", "")}

    def shown() -> None:
        print(
            f"{value['phase']}" + (f"  {value['reason']}" if value["reason"] and value["phase"] != "Completed" else "")
        )
        if value["message"]:
            print(value["message"])
        if value["fix"]:
            print(f"fix: {value['fix']}")
        if value["compute"]:
            print(f"serverless: {value['compute']}")
        if value["phase"] not in FINISHED and (since := moment(value["since"])) is not None:
            print(f"waits for {duration(time.time() - since)}, since {value['since']}")
        if value["phase"] != "Completed" and (more := words.pointer(value["reason"])):
            print(f"more: {more}")

    common.output.emit(value, shown, [value["name"]])


def plan_of(found: Run) -> dict[str, Any]:
    """What the operator says of a run's plan. Raises BadInput for a run that no operator has."""
    if isinstance(found, LocalRun):
        raise BadInput("--plan", f"{found.name} runs on this machine, where no operator plans", "leave --plan out")
    if found.job is None:
        raise BadInput("--plan", f"TrainingJob/{found.name} is gone, so nothing is planned for it", "leave --plan out")
    return found.cluster.server().plan(found.name)


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


@click.command(epilog="\b\nExamples:\n  stoker cancel @last\n  stoker cancel iris-7f3k")
@click.argument("run", metavar="RUN")
@where
@common
def cancel(common: Common, run: str, compute: str | None, storage: str | None) -> None:
    """End RUN; what it saved stays."""
    found = resolve(common, run, compute, storage)
    value = {"name": found.name, "cancelled": _cancel(found)}
    words = "is being cancelled" if value["cancelled"] else "has ended already"
    common.output.emit(value, lambda: common.output.step("cancel", found.name, words), [found.name])


def _cancel(found: Run) -> bool:
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
