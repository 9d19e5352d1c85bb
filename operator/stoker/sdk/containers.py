"""`stoker run --local-runtime`: which image a local run's container is made of."""

import platform
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from stoker.errors import BadInput, StokerError
from stoker.sdk.draft import EnvironmentAsked
from stoker.sdk.session import Session

if TYPE_CHECKING:
    from stoker.core.environment.definition import Definition
    from stoker.local.containers import Container

_ARCHITECTURES = {"x86_64": "amd64", "amd64": "amd64", "aarch64": "arm64", "arm64": "arm64"}


def container_of(session: Session, tool: str, asked: EnvironmentAsked | None) -> "Container":
    """The container of a local run: of the image that a cluster has for the environment, else of the image that is given.

    Raises BadInput when there is no image that is sure to be the environment.
    """
    from stoker.core.environment.keys import definition_key
    from stoker.local import containers

    program = containers.find(tool)
    if asked is None or asked.kind == "system":
        fix = "add --environment IMAGE, or `environment: {image: ...}` to the job file"
        raise BadInput("--local-runtime", f"{tool} needs an image, and the run names none", fix)
    definition = asked.definition
    assert definition is not None, "a local run has its code at hand"
    key = definition_key(definition)
    if found := recorded(_environments(session, asked), key, platform_here()):
        return containers.Container(tool, program, found, key, "cluster")
    _check_given(definition, asked, key)
    if definition.pip is not None:
        count = len(definition.pip["requirements"])
        session.listener.warn(f"{asked.image} is run as it is given: {count} packages of {asked.source} must be in it")
    return containers.Container(tool, program, asked.image, key)


def recorded(environments: Iterable[Mapping[str, Any]], key: str, platform: str) -> str:
    """The image, pinned by its digest, that Environments of a cluster have for a definition; empty for none."""
    for environment in environments:
        status = environment.get("status") or {}
        if status.get("definitionKey") != key:
            continue
        for one in status.get("images") or ():
            if one.get("platform") == platform and one.get("image"):
                return str(one["image"])
    return ""


def platform_here() -> str:
    """The platform of images that this machine runs without emulation."""
    machine = platform.machine().lower()
    return f"linux/{_ARCHITECTURES.get(machine, machine)}"


def _environments(session: Session, asked: EnvironmentAsked) -> list[Mapping[str, Any]]:
    """The Environments of the cluster's namespace; none, with a word of it, where no cluster answers."""
    try:
        return session.cluster().environments()
    except StokerError as error:
        session.listener.note(f"no cluster was asked for an image of {asked.source} ({str(error).splitlines()[0]})")
        return []


def _check_given(definition: "Definition", asked: EnvironmentAsked, key: str) -> None:
    """Raises BadInput unless the given image can be the whole environment."""
    if asked.image and not definition.steps and definition.conda is None:
        return
    more = "docker steps" if definition.steps else "packages"
    raise BadInput(
        "--local-runtime",
        f"{asked.source} has {more}, and no cluster that answers has an image of it (key {key[:12]})",
        "run it once with --compute NAME, name the cluster with --context, or name a built image with --environment IMAGE",
        asked.source,
    )
