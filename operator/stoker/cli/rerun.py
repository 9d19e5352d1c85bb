"""`stoker rerun`: a run of before once more, from its record."""

import time
from dataclasses import replace
from typing import Any

import click

from stoker.cli.jobs import where
from stoker.cli.options import Common, common
from stoker.errors import BadInput
from stoker.sdk.draft import LOCAL, Draft, check_name
from stoker.sdk.runrecords import LocalRun, record_of
from stoker.sdk.runs import resolve


@click.command(
    epilog="""\b
Examples:
  stoker rerun @last                              the same code, environment, inputs and command
  stoker rerun iris-7f3k --set inputs.lr=0.01     with another value
  stoker rerun iris-7f3k --exact                  refused when image, packages or data are not what they were
  stoker rerun iris-7f3k --dry-run -o yaml        the TrainingJob, for kubectl apply
"""
)
@click.argument("run", metavar="RUN")
@click.option("--set", "sets", multiple=True, metavar="PATH=VALUE", help="Another value: inputs.lr=0.1.")
@click.option("--exact", is_flag=True, help="Only with the very image, packages and data of RUN.")
@click.option("--name", metavar="NAME", help="The new run's name; else one is made.")
@click.option("--detach", is_flag=True, help="Submit and return.")
@click.option("--dry-run", is_flag=True, help="Print the TrainingJob and stop.")
@where
@common
def rerun(
    common: Common, run: str, sets: tuple[str, ...], exact: bool, name: str | None, detach: bool, dry_run: bool,
    compute: str | None, storage: str | None,
) -> int:  # fmt: skip
    """Run RUN again from its record, also when its TrainingJob and its folder are gone. A run of a cluster runs there, one of
    this machine here."""
    from stoker.sdk import rerun as reruns

    found = resolve(common, run, compute, storage)
    job = record_of(found)["job"]
    if "spec" not in job:
        raise BadInput("RUN", f"{found.name} has no record yet", "wait until it has started, or submit its file again")
    draft = reruns.draft_of(job, sets, common.here, exact=exact)
    if name is not None:
        draft = replace(draft, name=check_name(name, "--name"))
    if isinstance(found, LocalRun):
        return _here(common, found, draft, job, exact, dry_run, detach, storage)
    from stoker.cli.cluster_run import run_in_cluster

    common.namespace = found.cluster.namespace
    pool = str(job["compute"] if exact else draft.compute or job["compute"])
    return run_in_cluster(common, draft, pool, dry_run=dry_run, detach=detach, yes=True, ignore=(), allow=())


def _here(
    common: Common, found: LocalRun, draft: Draft, job: dict[str, Any], exact: bool, dry_run: bool, detach: bool,
    storage: str | None,
) -> int:  # fmt: skip
    """A run of this machine: its code is in the store that keeps it."""
    from stoker.cli.plan import print_plan
    from stoker.cli.run import finish, shown_place
    from stoker.local.job import Code
    from stoker.local.run import LocalRun as Process
    from stoker.sdk import manifest
    from stoker.sdk.here import local_job, note_run
    from stoker.sdk.outcome import exit_code, run_record
    from stoker.sdk.prepare import Prepared, input_tree
    from stoker.sdk.wanted import wanted_here

    if detach:
        fix = "leave it out"
        raise BadInput("--detach", "a local run ends with its terminal", fix)
    name = draft.name or manifest.generated_name(draft.base)
    snapshot, git = draft.snapshot, _git_of(draft)
    if dry_run:
        digests = {key: input_tree(key, one).digest for key, one in draft.local_inputs.items()}
        document = manifest.plain_data(manifest.write(draft, name, None, snapshot, digests))
        common.output.emit(document, lambda: common.output.note("dry run: nothing ran"), [name])
        return 0
    prepared = Prepared(replace(draft, snapshot=None))
    print_plan(common.output, Prepared(draft), LOCAL, "this machine")
    made = local_job(prepared, name, found.kept.url, wanted_here(draft.environment), None, fresh=False)
    lock = str((job.get("environment") or {}).get("lockKey") or "") if exact else ""
    made = replace(made, code=Code(kept=snapshot or "", git=git), lock_key=lock)
    note_run(common, made, storage)
    began = time.monotonic()
    result = Process(made, common.output).run()
    record = run_record(result.record, result.logs, result.storage)
    finish(common, record, time.monotonic() - began, place=shown_place(result.folder, common.here), storage=storage)
    return exit_code(record)


def _git_of(draft: Draft) -> Any:
    from stoker.core import gitstate

    return gitstate.told(draft.metadata.get("annotations") or {})
