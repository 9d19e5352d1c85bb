"""`stoker ls`, `show`, `why`, `cancel`: runs of this machine and of the cluster alike."""

import itertools
import time
from collections.abc import Mapping
from typing import Any, get_args

import click

from stoker.api.names import FINISHED
from stoker.cli import words
from stoker.cli.options import Common, common
from stoker.cli.output import human_bytes, plural, table
from stoker.core.times import duration
from stoker.core.times import seconds as moment
from stoker.errors import BadInput
from stoker.sdk.draft import LOCAL
from stoker.sdk.outcome import skipped_lines
from stoker.sdk.runrecords import ClusterRun, LocalRun, Run, details, line_of, reason_of
from stoker.sdk.runrecords import cancel as ask_to_cancel
from stoker.sdk.runs import newest_first, resolve

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
    wanted = (pair for pair in found if experiment is None or pair[1]["job"].get("experiment") == experiment)
    lines = [line_of(run, record) for run, record in itertools.islice(wanted, limit)]

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


@click.command(
    epilog="\b\nExamples:\n  stoker show @last\n  stoker show iris-7f3k --metrics\n  stoker show iris-7f3k -o json"
)
@click.argument("run", metavar="RUN")
@click.option(
    "--metrics", is_flag=True, help="What it tracked with MLflow instead, also while it runs; -o json has every value."
)
@click.option("--rank", type=click.IntRange(0), default=0, show_default=True, help="Whose metrics.")
@where
@common
def show(common: Common, run: str, metrics: bool, rank: int, compute: str | None, storage: str | None) -> None:
    """Show RUN: phase, command, code, image, times, outputs; or its metrics."""
    found = resolve(common, run, compute, storage)
    if metrics:
        from stoker.cli.metrics import show_metrics

        show_metrics(common, found, rank)
        return
    value = details(found)
    common.output.emit(value, lambda: _show(value), [value["name"]])


def _image_words(image: Mapping[str, Any]) -> str:
    """What is pulled, whole: an image that was built has no tag to tell it by."""
    reference, digest = str(image.get("reference") or ""), str(image.get("digest") or "")
    return f"{reference}@{digest}" if reference and digest and "@" not in reference else reference


def _commit_words(value: Mapping[str, Any]) -> str:
    return f"{value['commit']}{', with changes' if value.get('dirty') else ''}" if value["commit"] else ""


def _show(value: Mapping[str, Any]) -> None:
    from stoker.api.trainingjob import Phase

    image = _image_words(value["image"] or {})
    code = value["exitCode"]
    for label, text in (
        ("name", value["name"]), ("phase", value["phase"] + (f", exit code {code}" if code else "")),
        ("reason", value["reason"] if value["phase"] != "Completed" else ""), ("compute", value["compute"]),
        ("command", value["command"]), ("snapshot", value["snapshot"]),
        ("commit", _commit_words(value)), ("image", image), ("pip", ", ".join(value["pip"])),
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
    if value.get("metrics"):
        print("\nmetrics, last values")
        for name, number in value["metrics"].items():
            print(f"  {name:<30} {number:g}")
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


@click.command(epilog="\b\nExamples:\n  stoker cancel @last\n  stoker cancel iris-7f3k")
@click.argument("run", metavar="RUN")
@where
@common
def cancel(common: Common, run: str, compute: str | None, storage: str | None) -> None:
    """End RUN; what it saved stays."""
    found = resolve(common, run, compute, storage)
    value = {"name": found.name, "cancelled": ask_to_cancel(found)}
    words = "is being cancelled" if value["cancelled"] else "has ended already"
    common.output.emit(value, lambda: common.output.step("cancel", found.name, words), [found.name])
