"""`stoker env diff`: which inputs of two definitions differ."""

import sys
from pathlib import Path

import click

from stoker.cli.options import Common, common


@click.command(
    epilog="""\b
Examples:
  stoker env diff old/conda.yaml conda.yaml
  stoker env diff a.yaml b.yaml --exit-code    ends with 1 where they differ, for scripts
"""
)
@click.argument("one", metavar="A", type=click.Path(path_type=Path, exists=True))
@click.argument("other", metavar="B", type=click.Path(path_type=Path, exists=True))
@click.option("--image", metavar="IMAGE", help="Base image of a file that names none.")
@click.option("--exit-code", is_flag=True, help="End with 1 where they differ.")
@common
def diff(common: Common, one: Path, other: Path, image: str | None, exit_code: bool) -> int:
    """Say in which inputs the environments in A and B differ: files of environments or jobs, or folders. No registry is
    asked.

    What is written otherwise and means the same (order, blanks, comments, spelling of names) is no difference.
    """
    from stoker.core.environment import keys
    from stoker.core.environment.difference import differences
    from stoker.sdk.definition_in import definition_in

    left, right = (definition_in(path, common.here, image or "", only_if_missing=True) for path in (one, other))
    found = differences(left, right)
    value = {
        "equal": not found,
        "definitionKeys": [keys.definition_key(left), keys.definition_key(right)],
        "differences": [{"input": each.input, "a": each.one, "b": each.other} for each in found],
    }

    def table() -> None:
        if not found:
            print(f"equal: {value['definitionKeys'][0]}")  # type: ignore[index]
        for each in found:
            print(each.input)
            for mark, text in (("-", each.one), ("+", each.other)):
                for line in text.splitlines() if text is not None else ():
                    print(f"  {mark} {line}")

    common.output.emit(value, table, sorted({each.input for each in found}))
    sys.stdout.flush()
    return 1 if found and exit_code else 0
