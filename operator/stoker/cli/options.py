"""Options that every command has, and what they open."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import wraps
from pathlib import Path
from typing import Any, TypeVar

import click

from stoker.cli.output import FORMATS, Output
from stoker.sdk.session import Session

F = TypeVar("F", bound=Callable[..., Any])


@dataclass
class Common(Session):
    """The options that every command has."""

    @property
    def output(self) -> Output:
        """Who hears of progress is this command's own output."""
        assert isinstance(self.listener, Output)
        return self.listener


def common(function: F) -> F:
    """Decorator: adds the options and passes them as the first argument, a Common."""

    @click.option("--context", metavar="NAME", help="Context of the kubeconfig.")
    @click.option("-n", "--namespace", metavar="NAME", help="Namespace; else the context's.")
    @click.option(
        "-o", "--output", type=click.Choice(FORMATS), default="table", help="Form of the data on standard output."
    )
    @click.option("-q", "--quiet", is_flag=True, help="No prose, only data and errors.")
    @wraps(function)
    def wrapped(context: str | None, namespace: str | None, output: str, quiet: bool, **rest: Any) -> Any:
        return function(Common(Output(output, quiet), context, namespace, Path.cwd()), **rest)

    return wrapped  # type: ignore[return-value]
