"""`stoker suspend` and `resume`: a run of the cluster gives its nodes back, and goes on later."""

import click

from stoker.api.names import FINISHED
from stoker.cli.jobs import where
from stoker.cli.options import Common, common
from stoker.errors import BadInput
from stoker.sdk.runrecords import ClusterRun
from stoker.sdk.runs import resolve


@click.command(epilog="\b\nExamples:\n  stoker suspend @last\n  stoker suspend iris-7f3k")
@click.argument("run", metavar="RUN")
@where
@common
def suspend(common: Common, run: str, compute: str | None, storage: str | None) -> None:
    """Stop RUN and give its nodes back; `stoker resume` goes on from its checkpoints."""
    _set(common, run, compute, storage, suspended=True)


@click.command(epilog="\b\nExamples:\n  stoker resume @last\n  stoker resume iris-7f3k")
@click.argument("run", metavar="RUN")
@where
@common
def resume(common: Common, run: str, compute: str | None, storage: str | None) -> None:
    """Let a suspended RUN go on."""
    _set(common, run, compute, storage, suspended=False)


def _set(common: Common, run: str, compute: str | None, storage: str | None, *, suspended: bool) -> None:
    found = resolve(common, run, compute, storage)
    word = "suspend" if suspended else "resume"
    if not isinstance(found, ClusterRun):
        message = f"{found.name} is a run of this machine, which has no nodes to give back"
        raise BadInput("RUN", message, f"end it instead, it keeps what it saved: stoker cancel {found.name}")
    going = found.job is not None and (found.job.get("status") or {}).get("phase") not in FINISHED
    if going:
        found.cluster.suspend(found.name, suspended)
    value = {"name": found.name, "suspended": suspended and going, "ended": not going}
    words = ("is being suspended" if suspended else "goes on") if going else "has ended already"
    common.output.emit(value, lambda: common.output.step(word, found.name, words), [found.name])
