"""`stoker compute create`: a pool from a file."""

from pathlib import Path
from typing import Any

import click

from stoker.cli.options import Common, common


@click.command(epilog="\b\nExamples:\n  stoker compute create gpu.yaml\n  stoker compute create gpu.yaml --replace")
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--replace", is_flag=True, help="Change the spec of a pool that is there.")
@common
def create(common: Common, file: Path, replace: bool) -> None:
    """Create the ComputeCluster in FILE. It is checked before anything is sent."""
    from stoker.cli.compute.pools import line_of, path
    from stoker.errors import BadInput
    from stoker.sdk.kube import Refused
    from stoker.sdk.objects import replace_spec

    document, cluster = _read(file), common.cluster()
    name = document["metadata"]["name"]
    try:
        made = cluster.kube.create(path(), document, fieldManager="stoker-cli")
        said = "created"
    except Refused as error:
        if error.status != 409:
            raise
        if not replace:
            raise BadInput(
                "FILE", f"ComputeCluster {name} is there already", "use --replace to change its spec"
            ) from None
        made = replace_spec(cluster, path(name), cluster.kube.get(path(name)), document["spec"])
        said = "changed"
    common.output.step("compute", name, said)
    line = line_of(made)
    common.output.emit(line, lambda: None, [name])


def _read(file: Path) -> dict[str, Any]:
    """The one ComputeCluster of a file; raises BadInput with all that is wrong with it."""
    from stoker.api.validate import problems
    from stoker.core import yaml12
    from stoker.errors import BadInput

    documents = yaml12.parse(file.read_text(encoding="utf-8"), str(file))
    if len(documents) != 1:
        raise BadInput("FILE", f"{file} has {len(documents)} documents", "write one ComputeCluster into it")
    document: dict[str, Any] = documents[0].value
    kind = document.get("kind") if isinstance(document, dict) else None
    if kind != "ComputeCluster":
        raise BadInput("FILE", f"{file} has kind {kind!r}", "write a ComputeCluster into it")
    found = problems("ComputeCluster", document)
    if found:
        raise BadInput("FILE", "; ".join(str(one) for one in found), "mend these members")
    return document
