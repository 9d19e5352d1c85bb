"""An environment's file of Azure ML's, turned into an Environment's manifest."""

from pathlib import Path
from typing import Any

from stoker.api.names import API_VERSION
from stoker.core.environment import definition
from stoker.core.yaml12 import Document, text_of
from stoker.sdk import environments
from stoker.sdk.azureml.fields import ENVIRONMENT
from stoker.sdk.azureml.labels import environment_name
from stoker.sdk.azureml.reading import Reader
from stoker.sdk.draft import EnvironmentAsked, shown

_RESERVED = ("azureml-", "microsoft")


def read(document: Document, folder: Path, stem: str) -> tuple[dict[str, Any], tuple[str, ...]]:
    """The manifest and what will not be as the file says. stem: what an environment without a name is called. Raises
    BadInput and BadInputs."""
    from stoker.sdk.manifest import plain_data

    reader = Reader(document, folder)
    root = reader.root
    reader.keys((), root, ENVIRONMENT)
    name = text_of(root.get("name")) or stem
    if name.lower().startswith(_RESERVED):
        reader.bad(("name",), f"{shown(name)}: names that start so are Azure ML's own", "choose another")
    if (plain := environment_name(name, "")) != name and root.get("name") is not None:
        reader.warn(("name",), f"{shown(name)} is written {plain}: Kubernetes has no such letters in names")
    reader.done()
    asked = environments.from_mapping(document, (), folder, document.source)
    if copies(asked):
        words = f"COPY takes files from {asked.context}, and an Environment of a cluster has no files of its own"
        fix = (
            "write files into the steps as heredocs, or name this file as the environment of a job whose code has them"
        )
        reader.bad(("build",), words, fix)
    if asked.folders:
        reader.bad(("conda_file",), f"names packages in {asked.folders[0]}, a folder of this machine", "name an index")
    reader.done()
    metadata = {"name": environment_name(name, text_of(root.get("version")))}
    spec = plain_data(dict(asked.spec))
    made = {"apiVersion": API_VERSION, "kind": "Environment", "metadata": metadata, "spec": spec}
    return made, tuple(reader.warnings)


def copies(asked: EnvironmentAsked) -> bool:
    """Whether docker steps take files from the folder of a Dockerfile."""
    from stoker.sdk.definitions import spec_of

    if asked.context is None:
        return False
    return definition.reads_context(spec_of(EnvironmentAsked("packages", spec={**asked.spec, "context": "."})))
