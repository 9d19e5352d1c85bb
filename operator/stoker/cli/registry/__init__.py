"""`stoker registry`: images into registries."""

import click

from stoker.cli.group import Commands

#: Command -> (module of this package, one line of help).
COMMANDS = {"load": ("load", "Put the images of an OCI layout into a registry.")}


@click.group(
    cls=Commands,
    package="stoker.cli.registry",
    table=COMMANDS,
    epilog="\b\nExamples:\n  stoker registry load ./layout registry.example.com/base",
)
def registry() -> None:
    """Registries: bring images where no network reaches."""
