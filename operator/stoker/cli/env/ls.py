"""`stoker env ls`: the Environments of a namespace."""

import click

from stoker.cli.options import Common, common
from stoker.cli.output import human_bytes, table


@click.command(epilog="\b\nExamples:\n  stoker env ls\n  stoker env ls -n team -o json")
@common
def ls(common: Common) -> None:
    """List the Environments of the namespace, with the image that each is."""
    from stoker.cli.env.environments import every, line_of

    cluster = common.cluster()
    lines = [line_of(environment) for environment in every(cluster)]
    if not lines:
        cluster.check_namespace()

    def shown() -> None:
        rows = []
        for line in lines:
            images = line["images"]
            source = ", ".join(sorted({image.get("source", "") for image in images if image.get("source")}))
            size = sum(image.get("sizeBytes", 0) for image in images)
            rows.append(
                [
                    line["name"],
                    line["ready"],
                    line["reason"],
                    line["definitionKey"][:12],
                    source,
                    human_bytes(size) if size else "",
                    line["lastUsed"],
                ]
            )
        if rows:
            table(rows, ["NAME", "READY", "REASON", "KEY", "SOURCE", "SIZE", "LAST USED"])
        else:
            common.output.note("no Environments here: kubectl apply one, or name packages in a job")

    common.output.emit(lines, shown, [line["name"] for line in lines])
