"""`stoker compute scale`: how many nodes a pool may have."""

import click

from stoker.cli.options import Common, common


@click.command(epilog="\b\nExamples:\n  stoker compute scale gpu --max 8\n  stoker compute scale gpu --min 2 --max 8")
@click.argument("name")
@click.option("--min", "least", type=click.IntRange(0, 10000), help="Fewest nodes, kept when idle.")
@click.option("--max", "most", type=click.IntRange(0, 10000), help="Most nodes; no job is ended for it.")
@common
def scale(common: Common, name: str, least: int | None, most: int | None) -> None:
    """Set minInstances and maxInstances of the pool NAME."""
    from stoker.cli.compute.pools import line_of, one, path
    from stoker.errors import BadInput

    cluster = common.cluster()
    spec = one(cluster, name)["spec"]
    wanted = {"minInstances": least, "maxInstances": most}
    change = {member: value for member, value in wanted.items() if value is not None}
    if not change:
        raise BadInput("--max", "nothing to change", "give --min, --max, or both")
    after = {"minInstances": 0, **spec, **change}
    if after["minInstances"] > after["maxInstances"]:
        option = "--min" if least is not None else "--max"
        said = f"{after['minInstances']} nodes at least and {after['maxInstances']} at most"
        raise BadInput(option, said, "lower --min or raise --max")
    made = cluster.kube.patch(path(name), {"spec": change})
    common.output.step("compute", name, f"{after['minInstances']} to {after['maxInstances']} nodes")
    common.output.emit(line_of(made), lambda: None, [name])
