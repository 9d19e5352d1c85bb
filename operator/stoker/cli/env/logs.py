"""`stoker env logs`: what a build said, while it runs and for ever after."""

import click

from stoker.cli.options import Common, common


@click.command(epilog="\b\nExamples:\n  stoker env logs torch\n  stoker env logs torch -f")
@click.argument("name")
@click.option("-f", "--follow", is_flag=True, help="Follow the build to its end.")
@click.option("--platform", metavar="OS/ARCH", help="Of the build for this platform; else the first.")
@common
def logs(common: Common, name: str, follow: bool, platform: str | None) -> None:
    """Print the log of the newest build of the Environment NAME."""
    from stoker.cli.env import buildlog
    from stoker.cli.env.environments import condition, is_current, one, spec_key
    from stoker.errors import BadInput

    cluster = common.cluster()
    key, server = spec_key(one(cluster, name), platform), cluster.server()
    if follow and common.output.is_table:

        def running() -> bool:
            now = one(cluster, name)
            return not is_current(now) or condition(now, "Reconciling").get("status") == "True"

        buildlog.follow(server, key, running, buildlog.to_stdout)
        return
    content = b"".join(buildlog.pieces(server, key)) if not common.output.is_table else None
    if content is not None:
        value = {"name": name, "specKey": key, "text": content.decode("utf-8", "replace")}
        common.output.emit(value, lambda: None, [name])
        return
    empty = True
    for piece in buildlog.pieces(server, key):
        empty = False
        buildlog.to_stdout(piece)
    if empty:
        raise BadInput(
            "NAME", f"no build of {name} left a log here", "its image was found, not built; see `stoker env show`"
        )
