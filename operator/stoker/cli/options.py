"""Options that every command has, and what they open."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from stoker.cli.output import FORMATS, Output

if TYPE_CHECKING:
    from stoker.sdk.client import Cluster
    from stoker.sdk.settings import Settings

F = TypeVar("F", bound=Callable[..., Any])


@dataclass
class Common:
    """The options that every command has."""

    output: Output
    context: str | None
    namespace: str | None
    here: Path
    _cluster: "Cluster | None" = None
    _settings: "Settings | None" = None

    @property
    def settings(self) -> "Settings":
        """The project's settings of the current folder."""
        if self._settings is None:
            from stoker.sdk import settings

            self._settings = settings.read([self.here])
        return self._settings

    def cluster(self) -> "Cluster":
        """The cluster that flags, settings and the kubeconfig name; raises StokerError when there is none."""
        if self._cluster is None:
            from stoker.sdk.client import Cluster

            self._cluster = Cluster.connect(
                self.context or self.settings.context, self.namespace or self.settings.namespace
            )
        return self._cluster


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
