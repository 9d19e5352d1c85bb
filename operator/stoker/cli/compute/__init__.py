"""`stoker compute`: pools of nodes."""

import click

from stoker.cli.group import Commands

#: Command -> (module of this package, one line of help).
COMMANDS = {
    "ls": ("ls", "List the pools, with their nodes."),
    "show": ("show", "Show one: nodes by state, what it used, its problems."),
    "explain": ("explain", "Say why each node is kept and each job waits."),
    "create": ("create", "Create a pool from a file, or change it."),
    "scale": ("scale", "Change how many nodes a pool may have."),
}


@click.group(
    cls=Commands,
    package="stoker.cli.compute",
    table=COMMANDS,
    epilog="""\b
Examples:
  stoker compute ls
  stoker compute explain gpu        every node and every waiting job, with its reason
  stoker compute scale gpu --max 8
""",
)
def compute() -> None:
    """Pools of nodes (ComputeClusters): what they have, and why."""
