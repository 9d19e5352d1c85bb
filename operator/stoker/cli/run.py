"""`stoker run` and `stoker job create`: from a folder to a finished, or a submitted, run."""

import os
import shlex
import sys
import time
import uuid
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from stoker.cli.options import Common, common
from stoker.cli.plan import confirm_size, print_plan
from stoker.errors import EXIT_CANCELLED, EXIT_PLATFORM, EXIT_TIME, BadInput
from stoker.sdk import ask, manifest, settings
from stoker.sdk.draft import LOCAL, Draft
from stoker.sdk.prepare import Prepared, prepare

if TYPE_CHECKING:
    from stoker.local.containers import Container
    from stoker.local.environments.wanted import Wanted
    from stoker.sdk.convert import Converted

_FLAGS = (
    click.option("--compute", metavar="NAME", help="local, or a ComputeCluster; else the file's, the project's, local."),
    click.option("--environment", metavar="NAME|FILE|IMAGE|system", help="Run in this; an image replaces the file's image alone."),
    click.option("--code", type=click.Path(path_type=Path), metavar="DIR", help="The code folder; for a script else the current folder."),
    click.option("--name", metavar="NAME", help="The run's name; else one is made."),
    click.option("--experiment", metavar="NAME", help="The group that the run belongs to."),
    click.option("--tag", "tags", multiple=True, metavar="KEY=VALUE", help="A tag; may stand several times."),
    click.option("-e", "--env", multiple=True, metavar="KEY[=VALUE]", help="A variable; without a value this shell's."),
    click.option("--set", "sets", multiple=True, metavar="PATH=VALUE", help="Set a value of the file: inputs.lr=0.1, environment.image=..."),
    click.option("--instance-count", type=int, metavar="N", help="Nodes; local: ranks on this machine."),
    click.option("--timeout", metavar="TIME", help="Longest run: seconds, or 90s, 30m, 2h."),
    click.option("--storage", "--output-folder", "storage", metavar="URL|DIR", help="Keep a local run there; else ./.stoker."),
    click.option("--ignore", multiple=True, metavar="PATTERN", help="One more line behind the ignore file's."),
    click.option("--allow-secret", "allow", multiple=True, metavar="PATTERN", help="Send a file that looks like a key all the same."),
    click.option(
        "--local-runtime", type=click.Choice(["docker", "podman"]), help="Run a local run's command in its image, with this."
    ),
    click.option("--refresh-environment", is_flag=True, help="Choose the environment's packages anew; a local run's."),
    click.option("--dry-run", is_flag=True, help="Print the plan and stop; with -o yaml the TrainingJob."),
    click.option("-y", "--yes", is_flag=True, help="Yes to every question."),
)  # fmt: skip


def _flags(function: Any) -> Any:
    for option in reversed(_FLAGS):
        function = option(function)
    return function


@click.command(
    epilog="""\b
Examples:
  stoker run                                    job.yaml of this folder, on this machine
  stoker run examples/iris --compute cpu        the same job on the pool cpu
  stoker run job.yaml --set inputs.lr=0.01      another value for an input
  stoker run train.py -- --lr 0.1               a script; its arguments stand behind --
  stoker run .azureml/train.runconfig           a run configuration of version 1
  stoker run --dry-run -o yaml                  the TrainingJob, for kubectl apply
"""
)
@click.argument("target", type=click.Path(path_type=Path), required=False)
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
@_flags
@click.option("--detach", is_flag=True, help="Submit and return; follow later with stoker logs NAME --wait.")
@common
def run(common: Common, target: Path | None, arguments: tuple[str, ...], detach: bool, **given: Any) -> int:
    """Train TARGET: a folder with a job.yaml, a job file, a TrainingJob manifest, or a script. Azure ML's files are taken as
    they are: command jobs and run configurations train, environments and compute are created in the cluster."""
    return start(common, target, arguments, detach=detach, **given)


@click.group(epilog="\b\nExamples:\n  stoker job create -f job.yaml --compute cpu")
def job() -> None:
    """Submit without following."""


@job.command(
    epilog="\b\nExamples:\n  stoker job create -f job.yaml --compute cpu\n  stoker job create -f job.yaml --stream"
    "\n  stoker job create -f environment.yml"
)
@click.option(
    "-f", "--file", "target", type=click.Path(path_type=Path), required=True, help="Job file, manifest, or folder."
)
@click.option("--stream", is_flag=True, help="Follow it, as stoker run does.")
@_flags
@common
def create(common: Common, target: Path, stream: bool, **given: Any) -> int:
    """Create a run from a file, or the Environment or ComputeCluster that a file of Azure ML's describes; print its name."""
    return start(common, target, (), detach=not stream, **given)


def start(
    common: Common, target: Path | None, arguments: tuple[str, ...], *, detach: bool, compute: str | None,
    environment: str | None, code: Path | None, name: str | None, experiment: str | None, tags: tuple[str, ...],
    env: tuple[str, ...], sets: tuple[str, ...], instance_count: int | None, timeout: str | None, storage: str | None,
    ignore: tuple[str, ...], allow: tuple[str, ...], local_runtime: str | None, refresh_environment: bool, dry_run: bool, yes: bool,
) -> int:  # fmt: skip
    """Everything from the command line to the run's exit code."""
    flags = ask.Flags(
        compute=compute, environment=environment, code=code, name=name, experiment=experiment, tags=tags, env=env, set=sets,
        instance_count=instance_count, timeout=timeout,
    )  # fmt: skip
    if name is not None and target is not None and not target.exists() and arguments:
        raise BadInput("TARGET", f"{target} does not exist", "name a script in front of --")
    if target is not None and target.is_file() and (found := _object(common, target)) is not None:
        from stoker.cli import objects

        return objects.create(common, found, dry_run=dry_run)
    draft = ask.ask(target, arguments, flags, common.here)
    project = settings.read([_folder_of(target, common.here), common.here])
    common._settings = project
    for line in draft.warnings:
        common.output.warn(line)
    where = ask.compute_of(draft, project.compute)
    draft = _with_meaning(common, draft, asks_cluster=where != LOCAL and not dry_run)
    if where == LOCAL:
        how = _How(storage or project.storage, refresh_environment, local_runtime)
        return _local(common, draft, how, dry_run, detach, yes, ignore, allow)
    if refresh_environment:
        fix = "in a cluster edit spec.refresh of the Environment"
        raise BadInput("--refresh-environment", "belongs to local runs", fix)
    if local_runtime is not None:
        raise BadInput("--local-runtime", "belongs to local runs", "a cluster runs every job in its image")
    if storage is not None:
        raise BadInput("--storage", "belongs to local runs", "a cluster keeps runs in its workspace's storage")
    from stoker.cli.cluster_run import run_in_cluster

    return run_in_cluster(common, draft, where, dry_run=dry_run, detach=detach, yes=yes, ignore=ignore, allow=allow)


def _object(common: Common, target: Path) -> "Converted | None":
    """What the file of an environment or a compute creates; None for a job's."""
    if target.suffix not in ask.JOB_SUFFIXES:
        return None
    from stoker.sdk.convert import of_object

    return of_object(target, common.here)


def _with_meaning(common: Common, draft: Draft, *, asks_cluster: bool) -> Draft:
    """The draft with the environment that a reference into Azure ML means."""
    from stoker.sdk.azureml import labels

    if draft.environment is None or draft.environment.kind != "label":
        return draft
    known = labels.NOBODY_ASKED
    if asks_cluster:
        cluster = common.cluster()
        there = sorted(cluster.environments(), key=lambda one: str(one["metadata"]["creationTimestamp"]))
        names = tuple(str(one["metadata"]["name"]) for one in there)
        known = labels.Known(cluster.workspace().get("environmentAliases") or {}, names)
    environment, warnings = labels.resolved(draft.environment, known)
    for line in warnings:
        common.output.warn(line)
    return replace(draft, environment=environment)


def _folder_of(target: Path | None, here: Path) -> Path:
    if target is None:
        return here
    return target if target.is_dir() else target.parent


# -- On this machine.


@dataclass(frozen=True)
class _How:
    """How a run is made on this machine, beyond what it is. storage: a URL or folder, None for the project's own. fresh:
    choose the environment's packages anew. runtime: docker or podman, None for neither."""

    storage: str | None
    fresh: bool
    runtime: str | None


def _local(
    common: Common, draft: Draft, how: _How, dry_run: bool, detach: bool, yes: bool, ignore: tuple[str, ...],
    allow: tuple[str, ...],
) -> int:  # fmt: skip
    if detach:
        raise BadInput(
            "--detach", "a local run ends with its terminal", "leave it out, or name a cluster with --compute"
        )
    draft = _named_environment(common, draft)
    if draft.snapshot:
        fix = "use --code DIR to run the folder, or --compute NAME"
        raise BadInput("code.snapshot", f"{draft.snapshot[:19]}… is in a cluster's store", fix, draft.source)
    prepared = prepare(
        draft, with_inputs=dry_run and common.output.form != "table", extra_ignore=ignore, allow_secrets=allow
    )
    name = draft.name or manifest.generated_name(draft.base)
    container, store_url = None, _storage_url(how.storage, common.here)
    if not dry_run:
        # What cannot run here is refused in front of everything else.
        _check_place(store_url, how.storage)
        wanted, container = _runs_in(common, prepared, how.runtime)
    print_plan(common.output, prepared, LOCAL, "this machine", container.image if container else "")
    if dry_run:
        return _dry(common, prepared, name, draft.metadata.get("namespace"))
    confirm_size(common.output, prepared.trees, yes)
    from stoker.local.run import LocalRun

    job = local_job(prepared, name, store_url, wanted, container, fresh=how.fresh)
    if job.store_url.startswith("file:") and how.storage is None:
        folder = common.here / settings.FOLDER
        folder.mkdir(exist_ok=True)
        settings.keep_out_of_git(folder)
    settings.remember_last(
        common.here, {"name": name, "key": f"{name}-{job.uid[:8]}", "compute": LOCAL, "storage": job.store_url}
    )
    began = time.monotonic()
    result = LocalRun(job, common.output).run()
    record = run_record(result.record, result.logs, result.storage)
    place = _shown_place(result.folder, common.here)
    finish(common, record, time.monotonic() - began, place=place, storage=how.storage)
    return exit_code(record)


def _runs_in(common: Common, prepared: Prepared, runtime: str | None) -> "tuple[Wanted, Container | None]":
    """What the command runs in: what this machine has to have, or a container."""
    from stoker.local.environments.wanted import Wanted
    from stoker.sdk.wanted import wanted_here

    if runtime is None:
        return wanted_here(prepared.draft.environment), None
    from stoker.cli.local_container import container_of

    return Wanted(), container_of(common, runtime, prepared.draft.environment)


def _named_environment(common: Common, draft: Draft) -> Draft:
    """An Environment of the cluster means its definition here."""
    from stoker.errors import StokerError
    from stoker.sdk.definitions import settled
    from stoker.sdk.environments import from_spec

    asked = draft.environment
    if asked is None or asked.kind != "name":
        return draft
    try:
        spec = common.cluster().environment(asked.name)
    except StokerError as error:
        fix = "name a file, a list of packages or system for a local run"
        raise BadInput(
            "environment", f"Environment {asked.name!r} could not be looked up ({error})", fix, draft.source
        ) from error
    found = from_spec(spec, f"Environment/{asked.name}")
    return replace(draft, environment=settled(found, draft.code, draft.inline))


def local_job(
    prepared: Prepared, name: str, store_url: str, wanted: "Wanted", container: "Container | None", *, fresh: bool
) -> Any:
    """The value that a local run needs."""
    from stoker.core.record import SECRET
    from stoker.local import secret_values
    from stoker.local.job import Code, LocalInput, LocalJob

    draft = prepared.draft
    asked = draft.environment
    secrets = secret_values.secret_inputs(draft.spec, os.environ)
    drawn = secret_values.drawn_variables(draft.spec, os.environ)
    inputs = {key: LocalInput(one.kind, path=one.path) for key, one in draft.local_inputs.items()}
    for key, one in draft.spec.get("inputs", {}).items():
        if key in secrets:
            inputs[key] = LocalInput(SECRET, secret=secrets[key])
        elif "value" in one:
            inputs[key] = LocalInput("literal", value=str(one["value"]))
        elif str(one["path"]).startswith("snapshot:"):
            raise BadInput(
                f"inputs.{key}", f"{one['path'][:28]}… is in a cluster's store", "name a local folder", draft.source
            )
        else:
            inputs[key] = LocalInput(one.get("type", "uri_folder"), url=one["path"])
    code = Code(inline=draft.inline)
    if prepared.code is not None:
        code = Code(prepared.code.root, prepared.code.hashed)
    spec = {**draft.spec, "command": {**draft.spec["command"], "environment": manifest.environment_block(asked)}}
    local_paths = {key: {"type": one.kind, "path": one.path.as_uri()} for key, one in draft.local_inputs.items()}
    if local_paths:
        spec["inputs"] = {**spec.get("inputs", {}), **local_paths}
    return LocalJob(
        name,
        uuid.uuid4().hex,
        spec,
        code,
        wanted,
        store_url,
        inputs,
        asked.image if asked else "",
        drawn,
        fresh,
        container,
    )


def _storage_url(storage: str | None, here: Path) -> str:
    if storage is None:
        return settings.default_storage(here)
    if "://" in storage:
        return storage.rstrip("/")
    return (here / storage).resolve().as_uri()


def _check_place(url: str, asked: str | None) -> None:
    """Raises BadInput for a folder that nothing can be written into."""
    if not url.startswith("file:"):
        return
    from stoker.storage.objects import split_file_url

    folder = split_file_url(url)
    there = next(one for one in (folder, *folder.parents) if one.exists())
    if there.is_dir() and os.access(there, os.W_OK | os.X_OK):
        return
    why = "cannot be written into" if there.is_dir() else "is no folder"
    told = f"{there} {why}" if there == folder else f"{folder} cannot be made: {there} {why}"
    field = "--storage" if asked is not None else "storage"
    raise BadInput(
        field, f"{told}, and the run would be kept there", "name a folder or bucket that can: --storage URL|DIR"
    )


def _shown_place(folder: Path | None, here: Path) -> str:
    if folder is None:
        return ""
    place = folder / "attempts" / "1" / "0"
    return str(place.relative_to(here)) if place.is_relative_to(here) else str(place)


def _dry(common: Common, prepared: Prepared, name: str, namespace: str | None) -> int:
    digests = {key: tree.digest for key, tree in prepared.inputs.items()}
    document = manifest.plain_data(manifest.write(prepared.draft, name, namespace, prepared.snapshot, digests))
    emit_dry(common, prepared, document, name)
    return 0


def emit_dry(common: Common, prepared: Prepared, document: dict[str, Any], name: str) -> None:
    """The TrainingJob of a dry run as data, and what is to be done before it can run."""
    common.output.emit(document, lambda: common.output.note("dry run: nothing was sent"), [name])
    if not common.output.is_table:
        tell_pushes(common, prepared)


def tell_pushes(common: Common, prepared: Prepared) -> None:
    """What has to be sent before a manifest with these digests can run."""
    for what, tree in prepared.trees:
        words = f"nothing was sent: before kubectl apply, stoker snapshot {shlex.quote(str(tree.root))} --push"
        common.output.note(words if what == "snapshot" else f"{words} ({what})")


# -- The end of a run, wherever it ran.


def run_record(result: Any, logs: str, storage: str) -> dict[str, Any]:
    """The record that `-o json` prints: name, phase, exitCode, reason, message, outputs, logs, storage, timings."""
    from stoker.sdk.outputs import local_paths

    return {
        "name": result["name"], "phase": result["phase"], "exitCode": result["exitCode"], "reason": result["reason"],
        "message": result["message"],
        "outputs": [
            {"path": path, "size": one["size"], "sha256": one["sha256"]} for path, one in local_paths(result["outputs"])
        ],
        **({"skipped": [dict(one) for one in result["skipped"]]} if result.get("skipped") else {}),
        "logs": logs, "storage": storage, "timings": dict(result["timings"]),
    }  # fmt: skip


def finish(common: Common, record: dict[str, Any], seconds: float, place: str = "", storage: str | None = None) -> None:
    """The last lines of a run, and its record as data. storage: where others have to look for it, if not here."""
    from stoker.cli.output import human_bytes

    output = common.output
    if record["outputs"]:
        shown = ", ".join(f"{one['path']} {human_bytes(one['size'])}" for one in record["outputs"][:4])
        more = len(record["outputs"]) - 4
        output.step("outputs", shown + (f" and {more} more" if more > 0 else ""), place or "saved and verified")
    for one in skipped_lines(record):
        output.warn(one)
    if record["phase"] != "Completed" and record["message"]:
        output.step("reason", record["reason"], record["message"].splitlines()[0])
    name = record["name"]
    what = f"{record['phase']} in {seconds:.1f} s" if seconds < 10 else f"{record['phase']} in {seconds:.0f} s"
    code = record["exitCode"]
    if record["phase"] == "Failed" and code:
        what += f", exit code {code}"
    there = f" --storage {shlex.quote(storage)}" if storage else ""
    output.step("done", what, f"stoker pull {name}{there} · stoker logs {name}{there}")
    sys.stderr.flush()
    if not output.is_table:
        output.emit(record, lambda: None, [name])


def skipped_lines(record: Any) -> list[str]:
    """A line for each of the first things below ./outputs that were not saved, and one for the rest."""
    skipped = record.get("skipped", ())
    lines = [f"not saved: outputs/{one['path']}: {one['reason']}" for one in skipped[:5]]
    return lines + ([f"and {len(skipped) - 5} more were not saved"] if len(skipped) > 5 else [])


def exit_code(record: Any) -> int:
    """What the process ends with: the job's own code; 124 for time, 125 for the platform, 130 for a cancelled run."""
    phase, reason, code = record["phase"], record["reason"], record["exitCode"]
    if phase == "Completed":
        return 0
    if phase == "Canceled":
        return EXIT_CANCELLED
    if reason in ("TimedOut", "QueueTimedOut", "OverBudget"):
        return EXIT_TIME
    return int(code) if code else EXIT_PLATFORM
