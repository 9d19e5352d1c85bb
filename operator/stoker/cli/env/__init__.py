"""`stoker env`: environments by content."""

import click

from stoker.cli.group import Commands

#: Command -> (module of this package, one line of help).
COMMANDS = {
    "ls": ("ls", "List the Environments of a namespace."),
    "show": ("show", "Show one: its keys, its images, its last build."),
    "build": ("build", "Wait until one has its image, and show the build."),
    "logs": ("logs", "Print the log of its newest build."),
    "hash": ("hash", "Print the keys of a definition and what went in."),
    "diff": ("diff", "Say which inputs of two definitions differ."),
    "gc": ("gc", "Remove images that nothing needs any more."),
}


@click.group(
    cls=Commands,
    package="stoker.cli.env",
    table=COMMANDS,
    epilog="""\b
Examples:
  stoker env hash             the keys of what `stoker run` takes in this folder
  stoker env build torch      wait for the image of Environment/torch, and show its build
  stoker env show torch
""",
)
def env() -> None:
    """Environments: images named by what is in them, found or built."""
