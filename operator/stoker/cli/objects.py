"""Environments and ComputeClusters from files: created, or changed where they are there."""

from stoker.cli.options import Common
from stoker.sdk.convert import Converted
from stoker.sdk.objects import put


def create(common: Common, made: Converted, *, dry_run: bool) -> int:
    """Create what a file of Azure ML's says, or change it to that; the exit code."""
    document, output = made.document, common.output
    for line in made.warnings:
        output.warn(line)
    kind, name = document["kind"], document["metadata"]["name"]
    if dry_run:
        output.emit(document, lambda: output.note("dry run: nothing was sent"), [name])
        return 0
    cluster = common.cluster()
    found, said = put(cluster, document, versioned=made.versioned)
    output.step(kind.lower(), name, said)
    value = {"kind": kind, "name": name, "uid": found["metadata"]["uid"], "result": said}
    output.emit(value, lambda: print(name), [name])
    return 0
