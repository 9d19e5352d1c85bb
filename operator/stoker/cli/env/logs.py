"""`stoker env logs`: what a build said, while it runs and for ever after."""

from collections.abc import Mapping, Sequence
from typing import Any

import click

from stoker.cli.options import Common, common

#: So many tries are named.
_NAMED = 4


@click.command(
    epilog="\b\nExamples:\n  stoker env logs torch\n  stoker env logs torch -f\n  stoker env logs torch --try 1"
)
@click.argument("name")
@click.option("-f", "--follow", is_flag=True, help="Follow the build to its end.")
@click.option("--try", "number", metavar="N", type=click.IntRange(1), help="The log of the Nth try; else the newest.")
@click.option("--platform", metavar="OS/ARCH", help="Of the build for this platform; else the first.")
@common
def logs(common: Common, name: str, follow: bool, number: int | None, platform: str | None) -> None:
    """Print the log of the newest build of the Environment NAME."""
    from stoker.cli.env import buildlog
    from stoker.cli.env.environments import condition, is_current, one, spec_key
    from stoker.errors import BadInput

    cluster = common.cluster()
    key, server = spec_key(one(cluster, name), platform), cluster.server()
    if follow and number is not None:
        raise BadInput("--try", "a try that others have followed does not go on", "leave out -f, or --try")
    if follow and common.output.is_table:

        def running() -> bool:
            now = one(cluster, name)
            return not is_current(now) or condition(now, "Reconciling").get("status") == "True"

        buildlog.follow(server, key, running, buildlog.to_stdout)
        return
    tries = server.build_tries(key)
    if number is not None and number > len(tries):
        kept = "1 try is" if len(tries) == 1 else f"{len(tries)} tries are"
        fix = f"ask for {_those(tries)}" if tries else "its image was found, not built; see `stoker env show`"
        raise BadInput("--try", f"{number}: {kept} kept of {name}", fix)
    if not common.output.is_table:
        text = b"".join(buildlog.pieces(server, key, number or 0)).decode("utf-8", "replace")
        common.output.emit({"name": name, "specKey": key, "tries": tries, "text": text}, lambda: None, [name])
        return
    empty = True
    for piece in buildlog.pieces(server, key, number or 0):
        empty = False
        buildlog.to_stdout(piece)
    if empty:
        raise BadInput(
            "NAME", f"no build of {name} left a log here", "its image was found, not built; see `stoker env show`"
        )
    if number is None and len(tries) > 1:
        common.output.note(f"this was try {len(tries)}; the logs of the others are kept: {_those(tries[:-1])}")


def _those(tries: Sequence[Mapping[str, Any]]) -> str:
    """How to ask for each of them; of many, for the first and the last ones."""
    named = [
        f"--try {place}" + (f" ({one['startedAt']})" if one["startedAt"] else "") for place, one in enumerate(tries, 1)
    ]
    return ", ".join(named if len(named) <= _NAMED else [*named[:1], "...", *named[1 - _NAMED :]])
