"""Groups of commands that know them by name and import one when it is called."""

import importlib
from collections.abc import Mapping
from typing import Any

import click

from stoker.errors import did_you_mean


class Commands(click.Group):
    """table: command -> (module below package, one line of help), in the order of `--help`."""

    def __init__(self, *args: Any, package: str = "", table: Mapping[str, tuple[str, str]], **attributes: Any) -> None:
        super().__init__(*args, **attributes)
        self.package, self.table = package, table

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self.table)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in self.table:
            return None
        module = importlib.import_module(f"{self.package}.{self.table[cmd_name][0]}")
        command: click.Command = getattr(module, cmd_name.replace("-", "_"))
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, text) in self.table.items()])

    def resolve_command(self, ctx: click.Context, args: list[str]) -> Any:
        if args and args[0] not in self.table:
            raise click.UsageError(f"no command {args[0]!r}; {did_you_mean(args[0], set(self.table))}", ctx)
        return super().resolve_command(ctx, args)
