"""`stoker compute ls`: the pools of a cluster."""

import click

from stoker.cli.options import Common, common
from stoker.cli.output import table


@click.command(epilog="\b\nExamples:\n  stoker compute ls\n  stoker compute ls -o json")
@common
def ls(common: Common) -> None:
    """List the pools, with the nodes that they have and the jobs that wait there."""
    from stoker.cli.compute.pools import every, line_of

    lines = [line_of(pool) for pool in every(common.cluster())]

    def shown() -> None:
        rows = [
            [
                line["name"],
                line["provider"],
                ", ".join(line["types"]),
                f"{line['current']} of {line['max']}",
                f"{line['nodes'].get('running', 0)} busy, {line['nodes'].get('idle', 0)} idle",
                str(line["waiting"] or ""),
                line["state"] if line["ready"] != "False" else line["reason"],
            ]
            for line in lines
        ]
        if rows:
            table(rows, ["NAME", "PROVIDER", "TYPES", "NODES", "USE", "WAITING", "STATE"])
        else:
            common.output.note("no pools here: kubectl apply a ComputeCluster, or stoker compute create FILE")

    common.output.emit(lines, shown, [line["name"] for line in lines])
