"""`stoker gc`: what retention does not keep, snapshots that nothing names any more, and environments that nobody uses."""

import time
from typing import TYPE_CHECKING, Any

import click

from stoker.cli.options import Common, common
from stoker.cli.output import confirm, human_bytes, plural, table
from stoker.errors import BadInput, StokerError
from stoker.sdk.runs import kept_url

if TYPE_CHECKING:
    from stoker.core.retention import Going, Plan, Policy
    from stoker.local.environments.unused import Unused
    from stoker.local.kept import Kept
    from stoker.storage.removal import Contents


@click.command(
    epilog="""\b
Examples:
  stoker gc --dry-run                              what would go, and why
  stoker gc --keep-last 10 --keep-days 30          runs that neither of the two keeps, and unused snapshots
  stoker gc -n team --dry-run                      what the retention of namespace team's Workspace would remove now
  stoker gc --storage s3://bucket/team -n team     a cluster's workspace: namespace team tells what still exists
"""
)
@click.option(
    "--keep-last", type=click.IntRange(0), metavar="N", help="Keep the newest N finished runs per experiment."
)
@click.option("--keep-days", type=click.FloatRange(0), metavar="N", help="Keep runs that ended within N days.")
@click.option(
    "--environment-days",
    type=click.FloatRange(0),
    metavar="N",
    help="Remove environments of this machine that no local run used for N days; default 30.",
)
@click.option("--dry-run", is_flag=True, help="Say what would go, and remove nothing.")
@click.option(
    "--storage", metavar="URL|DIR", help="Where the runs are kept; else the project's setting, else ./.stoker."
)
@click.option("-y", "--yes", is_flag=True, help="Remove without asking.")
@common
def gc(
    common: Common, keep_last: int | None, keep_days: float | None, environment_days: float | None, dry_run: bool,
    storage: str | None, yes: bool,
) -> None:  # fmt: skip
    """Remove runs that retention does not keep, snapshots that nothing names, and environments that nobody uses.

    A run that has not ended, or whose TrainingJob exists, stays. With both --keep-last and --keep-days a run goes only
    when neither keeps it; with none of them no run goes. A snapshot goes when no kept run and no TrainingJob names it
    and it is older than 24 h. With -n and none of the two, spec.retention of the namespace's Workspace says what is kept,
    and without --storage its spec.storage.url where. Without -n also the environments of this machine's cache go that no
    local run used for a month; a later run makes them again, of the same versions.
    """
    from stoker.core.retention import Policy, but
    from stoker.local.kept import Kept

    policy = Policy(keep_last, keep_days)
    if common.context or common.namespace:
        storage, policy = _of_workspace(common, storage, policy)
    now = time.time()
    kept = Kept(kept_url(common, storage))
    found = kept.contents()
    live, named = _of_clusters(common, kept, found)
    plan = kept.plan(found, policy, now, live, named)
    old = _old_environments(common, now, environment_days)
    if common.output.is_table:
        _table(common, plan, old, now)
    if plan.held:
        common.output.warn(f"no snapshot is removed: {plan.held}")
    anything = bool(plan.runs or plan.snapshots)
    if (anything or old) and not dry_run:
        what = f"{plural(len(plan.runs), 'run')} and {plural(len(plan.snapshots), 'snapshot')} of {kept.url} for good"
        cached = f"{plural(len(old), 'environment')} of this machine's cache"
        asked = " and ".join([what] * anything + [cached] * bool(old))
        confirm(f"remove {asked}?", yes, stopped="nothing was removed")
    if anything and not dry_run:
        # A yes may be long in coming.
        plan = _carry_out(common, kept, but(plan, *_of_clusters(common, kept, found)), now)
    if not dry_run:
        old = [one for one in old if _remove_environment(common, one)]
    if not common.output.is_table:
        value = _value(kept.url, plan, old, now, removed=not dry_run)
        names = [*(one.what for one in (*plan.runs, *plan.snapshots)), *(str(one.path) for one in old)]
        common.output.emit(value, lambda: None, names)


def _old_environments(common: Common, now: float, days: float | None) -> list["Unused"]:
    """Environments of this machine that may go; none where a cluster's namespace is meant."""
    from stoker.local.environments.unused import DAYS, unused

    if (common.context or common.namespace) and days is None:
        return []
    return unused(now, DAYS if days is None else days)


def _remove_environment(common: Common, one: "Unused") -> bool:
    """Whether it is gone. One that is in use, or that the system keeps, is told and left."""
    from stoker.local.environments.unused import remove

    try:
        gone = remove(one)
    except OSError as error:
        common.output.warn(f"{one.path} could not be removed: {error}")
        return False
    if gone:
        common.output.step("removed", one.name, human_bytes(one.size))
    else:
        common.output.note(f"{one.name} was used meanwhile and stays")
    return gone


def _of_workspace(common: Common, storage: str | None, policy: "Policy") -> tuple[str, "Policy"]:
    """Where the namespace's runs are and what is kept of them: as the flags say, else as its Workspace does."""
    from stoker.core.retention import Policy

    asked = policy.keep_last is not None or policy.keep_days is not None
    if storage is not None and asked:
        return storage, policy
    spec = common.cluster().workspace()
    storage = storage or (spec.get("storage") or {}).get("url")
    if storage is None:
        fix = "give the storage URL of the namespace, as the chart has it: --storage s3://…/NAMESPACE"
        raise BadInput("--storage", "the namespace's Workspace names none", fix)
    if not asked and (retention := spec.get("retention")) is not None:
        policy = Policy(retention.get("keepLast"), retention.get("keepDays"))
        words = ", ".join(f"{name} {number}" for name, number in sorted(retention.items())) or "nothing is set"
        common.output.note(f"spec.retention of Workspace/default: {words}")
    return storage, policy


def _of_clusters(common: Common, kept: "Kept", found: "Contents") -> tuple[set[str], set[str]]:
    """Keys of the TrainingJobs that exist in the namespaces whose runs are kept here, and the digests that they name.
    Raises StokerError where that cannot be asked: what exists must not be guessed."""
    spaces = set(found.namespaces)
    if common.context or common.namespace:
        spaces.add(common.cluster().namespace)
    if not spaces and not found.runs and found.snapshots and not kept.url.startswith("file:"):
        message = f"{kept.url} has snapshots and no run, so whose they are is not known"
        raise BadInput("--namespace", message, "name the namespace that uses this storage: -n NAME")
    live: set[str] = set()
    named: set[str] = set()
    for namespace in sorted(spaces):
        for job in _jobs_of(common, namespace):
            _note(job, live, named)
    return live, named


def _jobs_of(common: Common, namespace: str) -> list[dict[str, Any]]:
    from stoker.sdk.client import Cluster

    try:
        return Cluster.connect(common.context or common.settings.context, namespace).list()
    except StokerError as error:
        raise StokerError(
            f"nothing is removed: this storage has runs of namespace {namespace}, and which of them still exist cannot be "
            f"asked ({error}); name their cluster with --context"
        ) from error


def _note(job: dict[str, Any], live: set[str], named: set[str]) -> None:
    import json

    from stoker.sdk.client import key_of
    from stoker.storage.removal import digests_in

    live.add(key_of(job))
    named |= digests_in(json.dumps(job).encode())


def _table(common: Common, plan: "Plan", old: list["Unused"], now: float) -> None:
    rows = [
        [kind, one.what.removeprefix("sha256:")[:40], human_bytes(one.size), one.reason]
        for kind, many in (("run", plan.runs), ("snapshot", plan.snapshots))
        for one in many
    ]
    rows += [["environment", one.name, human_bytes(one.size), one.reason(now)] for one in old]
    if not rows:
        common.output.note("nothing to remove")
        return
    table(rows, ["WHAT", "NAME", "SIZE", "WHY"])
    size = plan.size + sum(one.size for one in old)
    counts = [plural(len(plan.runs), "run"), plural(len(plan.snapshots), "snapshot")]
    counts += [plural(len(old), "environment")] * bool(old)
    print(f"\n{', '.join(counts)}, {human_bytes(size)} in all")


def _carry_out(common: Common, kept: "Kept", plan: "Plan", now: float) -> "Plan":
    """Remove what the plan says; the plan without the snapshots that stay after all."""
    from dataclasses import replace

    unasked = False
    for run in plan.runs:
        done = kept.remove(run.what)
        unasked = unasked or done.uploads is None
        common.output.step("removed", run.what, human_bytes(done.size))
    swept: list[Going] = []
    for one in plan.snapshots:
        if kept.sweep(one.what, now):
            swept.append(one)
            common.output.step("removed", one.what[:27], human_bytes(one.size))
        else:
            common.output.note(f"{one.what} was sent again meanwhile and stays")
    if unasked:
        common.output.warn("the store was not asked for unfinished uploads: AWS_ACCESS_KEY_ID is not set here")
    return replace(plan, snapshots=tuple(swept))


def _value(url: str, plan: "Plan", old: list["Unused"], now: float, *, removed: bool) -> dict[str, Any]:
    """What `-o json` prints."""
    return {
        "storage": url,
        "removed": removed,
        "runs": [{"key": one.what, "bytes": one.size, "reason": one.reason} for one in plan.runs],
        "snapshots": [{"digest": one.what, "bytes": one.size, "reason": one.reason} for one in plan.snapshots],
        "environments": [{"path": str(one.path), "bytes": one.size, "reason": one.reason(now)} for one in old],
        "bytes": plan.size + sum(one.size for one in old),
        "held": plan.held,
    }
