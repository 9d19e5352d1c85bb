"""`python -m lab up|down|status|kubeconfig|announce [--name NAME]`."""

from __future__ import annotations

import argparse
import sys

from lab.host import LabError
from lab.lab import Lab, announce, down, status, up


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m lab", description="A real Kubernetes on one machine.")
    parser.add_argument("command", choices=("up", "down", "status", "kubeconfig", "announce"))
    parser.add_argument("--name", default="stoker", help="several labs run side by side (default: %(default)s)")
    parser.add_argument("--nodes", type=int, default=0, help="real nodes system-0, ... that `up` boots (default: none)")
    given = parser.parse_args()
    try:
        if given.command == "up":
            up(given.name, nodes=given.nodes)
        elif given.command == "down":
            down(given.name)
        elif given.command == "announce":
            announce(given.name)
        elif given.command == "kubeconfig":
            print(Lab.load(given.name).kubeconfig)
        else:
            return _status(given.name)
    except LabError as error:
        print(f"lab: {error}", file=sys.stderr)
        return 1
    return 0


def _status(name: str) -> int:
    """Prints what runs; exit code 3, as init scripts have it, when nothing does."""
    processes = status(name)
    for process in processes:
        print(f"{process.name:28} {process.pid:>8} {'running' if process.alive() else 'DEAD'}")
    if not processes:
        print(f"no lab named {name} is up")
    return 0 if processes and all(process.alive() for process in processes) else 3


if __name__ == "__main__":
    sys.exit(main())
