"""`stoker convert`: manifests for Git."""

from pathlib import Path
from typing import Any

import click

from stoker.cli.options import Common, common
from stoker.cli.output import as_yaml


@click.command(
    epilog="""\b
Examples:
  stoker convert job.yml > trainingjob.yaml                  a command job of Azure ML's, with its code as a snapshot
  stoker convert job.yml --code inline | kubectl apply -f -  small code, inside the manifest
  stoker convert environment.yml -o json                     an Environment
  stoker convert cluster.yml                                 a ComputeCluster
  stoker convert .azureml/train.runconfig                    version 1
  stoker convert job.yml --workspace workspace.yaml          with the Workspace's environmentAliases
"""
)
@click.argument("file", type=click.Path(path_type=Path, exists=True))
@click.option(
    "--code",
    type=click.Choice(["git", "snapshot", "inline"]),
    default="snapshot",
    show_default=True,
    help="How a TrainingJob has its code: the digest of a snapshot, or the texts of small files.",
)
@click.option(
    "--workspace",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    metavar="FILE",
    help="A Workspace's manifest: its environmentAliases hold.",
)
@common
def convert(common: Common, file: Path, code: Any, workspace: Path | None) -> None:
    """Print FILE as a manifest: a TrainingJob, an Environment or a ComputeCluster. Nothing is sent and no cluster is asked.

    FILE: Azure ML's command job, environment or compute (version 2), a run configuration (version 1), or a job file.
    Warnings on standard error name each key that will not be as FILE says; a file that is refused ends with 2.
    """
    from stoker.cli.run import tell_pushes
    from stoker.sdk import ask
    from stoker.sdk import convert as sdk
    from stoker.sdk.azureml.labels import NOBODY_ASKED

    known = sdk.aliases_of(ask.load_one(workspace, common.here)) if workspace else NOBODY_ASKED
    made = sdk.convert(file, common.here, code, known)
    for line in made.warnings:
        common.output.warn(line)
    document = made.document
    if common.namespace and document["kind"] != "ComputeCluster":
        document["metadata"]["namespace"] = common.namespace
    name = f"{document['kind']}/{document['metadata']['name']}"
    common.output.emit(document, lambda: print(as_yaml(document), end=""), [name])
    if made.prepared is not None:
        tell_pushes(common, made.prepared)
