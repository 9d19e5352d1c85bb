"""`stoker diff`: in what two runs differ."""

import sys

import click

from stoker.cli.jobs import where
from stoker.cli.options import Common, common
from stoker.cli.output import plural
from stoker.sdk.runs import resolve

_MOST_SHOWN = 60


@click.command(
    epilog="""\b
Examples:
  stoker diff iris-7f3k @last
  stoker diff iris-7f3k iris-6c2a -o json
  stoker diff iris-7f3k iris-6c2a --exit-code     ends with 1 where they differ, for scripts
"""
)
@click.argument("one", metavar="A")
@click.argument("other", metavar="B")
@click.option("--exit-code", is_flag=True, help="End with 1 where they differ.")
@where
@common
def diff(common: Common, one: str, other: str, exit_code: bool, compute: str | None, storage: str | None) -> int:
    """Say in what runs A and B differ: files of the code, command, inputs, packages, settings, result, outputs. What is the
    same is not told, nor are names and times."""
    from stoker.core.rundiff import differences
    from stoker.sdk.comparing import facts_of

    left, right = (resolve(common, each, compute, storage) for each in (one, other))
    found = differences(facts_of(left), facts_of(right))
    value = {
        "equal": not found,
        "runs": [left.name, right.name],
        "differences": [{"part": each.part, "name": each.name, "a": each.one, "b": each.other} for each in found],
    }

    def table() -> None:
        if not found:
            print(f"{left.name} and {right.name} do not differ")
        part = ""
        for each in found:
            if each.part != part:
                part = each.part
                print(part)
            print(f"  {each.name}")
            for mark, text in (("-", each.one), ("+", each.other)):
                for line in text.splitlines() if text is not None else ():
                    print(f"    {mark} {line[:_MOST_SHOWN]}{'…' if len(line) > _MOST_SHOWN else ''}")
        if found:
            common.output.note(plural(len(found), "difference"))

    common.output.emit(value, table, [each.name for each in found])
    sys.stdout.flush()
    return 1 if found and exit_code else 0
