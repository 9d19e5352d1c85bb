"""`python -m stoker.runtime fetch|ship|launch|salvage|nodeproxy|scrub`: the three parts of a run's pod, what saves its remains, a
node's way to a Service, and what empties a node's scratch folder."""

from __future__ import annotations

import sys

from stoker.runtime import held

_USAGE = (
    "usage: stoker-agent fetch | ship | launch [--dir DIR] [--no-wait] -- COMMAND [ARGUMENT...] | "
    "salvage --lost-as REASON [--lost-message TEXT] | nodeproxy --listen IP:PORT --to HOST:PORT | scrub --path FOLDER"
)


#: What runs as the first process of a container; it lets signals come once it can take them.
_FIRST = ("launch", "fetch", "ship", "salvage")


def main(arguments: list[str]) -> int:
    """Run one part and return its exit code. Each part imports only what it needs: launch is on the way to the first
    line that the user sees."""
    part, rest = (arguments[0] if arguments else ""), arguments[1:]
    if part in _FIRST:
        held.hold()
    if part == "launch":
        from stoker.runtime import launch

        return launch.main(rest)
    if part == "fetch":
        from stoker.runtime import fetch

        return fetch.main(rest)
    if part == "ship":
        from stoker.runtime import ship

        return ship.main(rest)
    if part == "salvage":
        from stoker.runtime import salvage

        return salvage.main(rest)
    if part == "nodeproxy":
        from stoker.runtime import nodeproxy

        return nodeproxy.main(rest)
    if part == "scrub":
        from stoker.runtime import scrub

        return scrub.main(rest)
    if part == "check-packages":
        from stoker.runtime import packages

        return packages.main(rest)
    if part == "mpi-lead":
        from stoker.runtime import mpi

        return mpi.lead(rest)
    if part == "ray-lead":
        from stoker.runtime import ray

        return ray.lead(rest)
    if part in ("rsh", "serve"):
        from stoker.runtime import remote

        return remote.rsh(rest) if part == "rsh" else remote.serve(rest)
    print(_USAGE, file=sys.stderr)
    return 2


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
