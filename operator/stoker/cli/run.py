"""`stoker run` and `stoker job create`: from a folder to a finished, or a submitted, run."""

import shlex
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from stoker.cli.options import Common, common
from stoker.cli.plan import confirm_size, print_plan
from stoker.errors import BadInput
from stoker.sdk import ask, manifest, settings
from stoker.sdk.draft import LOCAL, Draft
from stoker.sdk.outcome import exit_code, run_record, skipped_lines
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
    common.use_settings(project)
    for line in draft.warnings:
        common.output.warn(line)
    where = ask.compute_of(draft, project.compute)
    from stoker.sdk.meaning import with_meaning

    draft = with_meaning(common, draft, asks_cluster=where != LOCAL and not dry_run)
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
    from stoker.sdk.meaning import definition_of_name

    draft = definition_of_name(common, draft)
    if draft.snapshot:
        fix = "use --code DIR to run the folder, or --compute NAME"
        raise BadInput("code.snapshot", f"{draft.snapshot[:19]}… is in a cluster's store", fix, draft.source)
    prepared = prepare(
        draft, with_inputs=dry_run and common.output.form != "table", extra_ignore=ignore, allow_secrets=allow
    )
    name = draft.name or manifest.generated_name(draft.base)
    from stoker.sdk.here import check_place, storage_url

    container, store_url = None, storage_url(how.storage, common.here)
    if not dry_run:
        # What cannot run here is refused in front of everything else.
        check_place(store_url, how.storage)
        wanted, container = _runs_in(common, prepared, how.runtime)
    print_plan(common.output, prepared, LOCAL, "this machine", container.image if container else "")
    if dry_run:
        return _dry(common, prepared, name, draft.metadata.get("namespace"))
    confirm_size(common.output, prepared.trees, yes)
    from stoker.local.run import LocalRun
    from stoker.sdk.here import local_job, note_run

    job = local_job(prepared, name, store_url, wanted, container, fresh=how.fresh)
    note_run(common, job, how.storage)
    began = time.monotonic()
    result = LocalRun(job, common.output).run()
    record = run_record(result.record, result.logs, result.storage)
    place = shown_place(result.folder, common.here)
    finish(common, record, time.monotonic() - began, place=place, storage=how.storage)
    return exit_code(record)


def _runs_in(common: Common, prepared: Prepared, runtime: str | None) -> "tuple[Wanted, Container | None]":
    """What the command runs in: what this machine has to have, or a container."""
    from stoker.local.environments.wanted import Wanted
    from stoker.sdk.wanted import wanted_here

    if runtime is None:
        return wanted_here(prepared.draft.environment), None
    from stoker.sdk.containers import container_of

    return Wanted(), container_of(common, runtime, prepared.draft.environment)


def shown_place(folder: Path | None, here: Path) -> str:
    """Where rank 0's files are, as a person standing here would name it; empty for a store that is no folder."""
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
