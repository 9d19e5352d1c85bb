"""What the terminal shows. Standard output carries data, standard error prose; off a terminal no colour and no spinner."""

import json
import sys
from collections.abc import Callable, Sequence
from typing import Any, TextIO

import click

from stoker.sdk.prose import human_bytes, plural, step_line

__all__ = ["FORMATS", "Output", "as_yaml", "confirm", "human_bytes", "plural", "step_line", "table"]
FORMATS = ("table", "json", "yaml", "name")


class Output:
    """One command's way to the terminal. form: one of FORMATS. quiet: no prose, only data and errors."""

    def __init__(self, form: str = "table", quiet: bool = False) -> None:
        self.form, self.quiet = form, quiet

    @property
    def is_table(self) -> bool:
        return self.form == "table"

    # -- Prose.

    def step(self, label: str, what: str, detail: str = "", seconds: float | None = None) -> None:
        """One phase: `  snapshot    14 files, 62 KB          unchanged, nothing sent         0.1 s`."""
        if not self.quiet:
            print(step_line(label, what, detail, seconds, colour=sys.stderr.isatty()), file=sys.stderr, flush=True)

    def note(self, line: str) -> None:
        """One line of progress."""
        if not self.quiet:
            print(f"  {line}", file=sys.stderr, flush=True)

    def warn(self, line: str) -> None:
        """Something a person should know, however quiet it shall be."""
        print(f"  warning     {line}", file=sys.stderr, flush=True)

    def log_descriptor(self) -> int:
        """Where a followed log goes: data, unless a record is the only data that was asked for."""
        stream: TextIO = sys.stdout if self.is_table else sys.stderr
        stream.flush()
        return stream.fileno()

    # -- Data.

    def emit(self, value: Any, table: Callable[[], None], names: Sequence[str] = ()) -> None:
        """Print a value in the form that was asked for. table: prints it for people. names: for `-o name`."""
        if self.form == "json":
            print(json.dumps(value, indent=2, ensure_ascii=not _takes_unicode()))
        elif self.form == "yaml":
            print(as_yaml(value, unicode=_takes_unicode()), end="")
        elif self.form == "name":
            for name in names:
                print(name)
        else:
            table()


def _takes_unicode() -> bool:
    """Whether standard output takes every character: a Windows pipe or an old locale does not."""
    return (sys.stdout.encoding or "").lower().replace("-", "") == "utf8"


def as_yaml(value: Any, *, unicode: bool = True) -> str:
    """YAML of plain data, keys in their own order, long texts as blocks. unicode: whether all characters stand for
    themselves."""
    import yaml

    class Dumper(yaml.SafeDumper):
        def ignore_aliases(self, data: Any) -> bool:
            return True

    def text(dumper: yaml.SafeDumper, data: str) -> yaml.ScalarNode:
        style = "|" if "\n" in data and not data.startswith(" ") else None
        return dumper.represent_scalar("tag:yaml.org,2002:str", data, style=style)

    Dumper.add_representer(str, text)
    return str(yaml.dump(value, Dumper=Dumper, sort_keys=False, allow_unicode=unicode, width=120))


def table(rows: Sequence[Sequence[str]], headers: Sequence[str]) -> None:
    """A table on standard output: by rich on a terminal, plain columns elsewhere."""
    if sys.stdout.isatty():
        from rich.console import Console
        from rich.table import Table

        shown = Table(box=None, pad_edge=False, header_style="bold")
        for header in headers:
            shown.add_column(header, overflow="fold")
        for row in rows:
            shown.add_row(*(f"[{_RICH[cell]}]{cell}[/]" if cell in _RICH else cell for cell in map(_escaped, row)))
        Console().print(shown)
        return
    widths = [max(len(row[column]) for row in [headers, *rows]) for column in range(len(headers))]
    for row in [headers, *rows]:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


_RICH = {"Completed": "green", "Failed": "red", "Canceled": "yellow", "Running": "bold"}


def _escaped(cell: str) -> str:
    return cell.replace("[", r"\[")


def confirm(question: str, yes: bool, flag: str = "-y", stopped: str = "nothing was sent") -> None:
    """Ask for a yes on a terminal; off one the flag must say it. Raises BadInput when the answer is no."""
    from stoker.errors import BadInput

    if yes:
        return
    if not sys.stdin.isatty():
        raise BadInput("", question.rstrip("?"), f"add {flag} to say yes")
    if not click.confirm(f"  {question}", err=True):
        raise BadInput("", f"stopped; {stopped}")
