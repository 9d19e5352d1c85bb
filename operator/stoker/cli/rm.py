"""`stoker rm`: finished runs with all that is kept of them."""

import time
from typing import TYPE_CHECKING, Any

import click

from stoker.api.names import FINISHED
from stoker.cli.jobs import where
from stoker.cli.options import Common, common
from stoker.cli.output import confirm, human_bytes, plural
from stoker.errors import BadInput, BadInputs, StokerError
from stoker.sdk.runrecords import ClusterRun, LocalRun, Run
from stoker.sdk.runs import NoSuchRun, resolve

if TYPE_CHECKING:
    from stoker.sdk.wayin import Server


@click.command(epilog="\b\nExamples:\n  stoker rm iris-7f3k\n  stoker rm @last -y\n  stoker rm a b c -n team")
@click.argument("runs", metavar="JOB...", nargs=-1, required=True)
@click.option("-y", "--yes", is_flag=True, help="Remove without asking.")
@where
@common
def rm(common: Common, runs: tuple[str, ...], yes: bool, compute: str | None, storage: str | None) -> None:
    """Remove finished runs: record, logs, outputs, and the TrainingJob where it exists. This cannot be undone.

    One that runs is refused (`stoker cancel` ends it). When this is cut off, the same command again does the rest.
    Snapshots stay until `stoker gc`.
    """
    found, gone = _resolve_all(common, runs, compute, storage)
    for key in gone:
        common.output.note(f"{key} is not there any more")
    problems = [problem for run in found if (problem := _why_not(run)) is not None]
    if problems:
        raise problems[0] if len(problems) == 1 else BadInputs(tuple(problems))
    if found:
        shown = ", ".join(run.key for run in found[:8]) + (" …" if len(found) > 8 else "")
        confirm(f"remove {plural(len(found), 'run')} for good: {shown}?", yes, stopped="nothing was removed")
    removed = [_remove(common, run) for run in found]
    value = {"removed": removed, "notThere": gone}
    common.output.emit(value, lambda: None, [one["key"] for one in removed])


def _resolve_all(
    common: Common, references: tuple[str, ...], compute: str | None, storage: str | None
) -> tuple[list[Run], list[str]]:
    """The runs, each once; and the full keys of which nothing is left. Raises BadInput before anything is removed."""
    from stoker.storage.layout import is_job_key

    found: dict[str, Run] = {}
    gone: list[str] = []
    for reference in dict.fromkeys(references):
        try:
            run = resolve(common, reference, compute, storage)
        except NoSuchRun:
            # A whole key is no typing error: somebody, or an earlier try, was here before.
            if not is_job_key(reference):
                raise
            gone.append(reference)
        else:
            _only_one(run, reference)
            found.setdefault(run.key, run)
    return list(found.values()), gone


def _only_one(run: Run, reference: str) -> None:
    """Elsewhere a name means the newest run that has it; what is removed for good is named exactly. Raises BadInput."""
    if reference.startswith("@"):
        return

    def meant(key: str) -> bool:
        return key[:-9] == run.name and key.startswith(reference)

    if isinstance(run, LocalRun):
        keys = filter(meant, run.kept.keys())
        found = [run.kept.job(key) or {"key": key, "job": {}} for key in keys]
    elif run.job is None:
        found = [one for one in run.cluster.server().jobs() if meant(one["key"])]
    else:
        return  # the TrainingJob has the name, whatever is left of former ones
    same = sorted((one["job"].get("submittedAt", ""), one["key"]) for one in found)
    if len(same) > 1:
        shown = ", ".join(f"{key} (of {moment})" if moment else key for moment, key in same[:8])
        more = f" and {len(same) - 8} more" if len(same) > 8 else ""
        raise BadInput(
            "JOB", f"{len(same)} runs are named {run.name}: {shown}{more}", "name one of them with these 8 digits"
        )


def _why_not(run: Run) -> BadInput | None:
    """Why this run may not be removed, as far as can be told before asking for a yes."""
    if isinstance(run, LocalRun):
        problem = run.kept.why_not(run.key, time.time())
        return BadInput("JOB", *problem) if problem else None
    phase = ((run.job or {}).get("status") or {}).get("phase") or "Pending"
    if run.job is not None and phase not in FINISHED:
        return BadInput("JOB", f"{run.name} is {phase}", f"end it first: stoker cancel {run.name}")
    return None


def _remove(common: Common, run: Run) -> dict[str, Any]:
    from stoker.sdk import settings

    if isinstance(run, LocalRun):
        done = run.kept.remove(run.key)
        told: dict[str, Any] = {"objects": done.objects, "bytes": done.size, "uploads": done.uploads}
    else:
        told = _remove_from_cluster(run, run.cluster.server())
    settings.forget_last(common.here, run.key)
    common.output.step("removed", run.key, f"{plural(told['objects'], 'object')}, {human_bytes(told['bytes'])}")
    if told["uploads"] is None:
        common.output.warn("the store was not asked for unfinished uploads: AWS_ACCESS_KEY_ID is not set here")
    return {"name": run.name, "key": run.key, **told}


def _remove_from_cluster(run: ClusterRun, server: "Server") -> dict[str, Any]:
    """The server first: it knows whether the run has ended and whether we may, and refuses before anything is touched."""
    from stoker.sdk.wayin import ServerError

    try:
        told = server.remove(run.key)
    except ServerError as error:
        if error.status == 409:
            raise BadInput("JOB", str(error)) from error
        if error.status == 403:
            raise StokerError(f"you may not remove runs in namespace {run.cluster.namespace}: {error}") from error
        raise
    if run.job is not None:
        run.cluster.delete(run.job)
    return {"objects": told["objects"], "bytes": told["bytes"], "uploads": told["uploads"]}
