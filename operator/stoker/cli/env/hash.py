"""`stoker env hash`: the keys of a definition, and what went in."""

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from stoker.cli.options import Common, common
from stoker.cli.output import as_yaml
from stoker.errors import BadInput

if TYPE_CHECKING:
    from stoker.core.environment.definition import Definition

PLATFORMS = ("linux/amd64", "linux/arm64")


@click.command(
    epilog="""\b
Examples:
  stoker env hash                                        what `stoker run` takes in this folder
  stoker env hash environment.yaml                       an Environment, or Azure ML's environment file
  stoker env hash conda.yaml --image python:3.12-slim    a conda file or requirements.txt, and its base
  stoker env hash env.yaml --base-digest sha256:1f2e...  no registry is asked
  stoker env hash env.yaml -o json                       for programs
"""
)
@click.argument("file", type=click.Path(path_type=Path, exists=True), required=False)
@click.option("--image", metavar="IMAGE", help="Base image of a file that names none.")
@click.option(
    "--platform", type=click.Choice(PLATFORMS), default=PLATFORMS[0], show_default=True, help="Of specKey and stepsKey."
)
@click.option(
    "--base-digest",
    metavar="sha256:...",
    help="Digest of the base's manifest on that platform; else its registry is asked.",
)
@click.option(
    "--insecure-registry", "insecure", multiple=True, metavar="HOST:PORT", help="A registry that speaks http."
)
@common
def hash(
    common: Common, file: Path | None, image: str | None, platform: str, base_digest: str | None, insecure: tuple[str, ...]
) -> None:  # fmt: skip
    """Print the keys of the environment in FILE, and what went into them. A job's file, or a folder (else the current one),
    means what `stoker run` takes from it.

    definitionKey is the content's name everywhere, on a laptop too. specKey is what a registry is asked for: the same with
    the base's digest and the platform. stepsKey names the base with its docker steps. lockKey is known once the packages
    have been chosen. Paths in FILE are relative to its folder.
    """
    if base_digest is not None and not re.fullmatch(r"sha256:[0-9a-f]{64}", base_digest):
        raise BadInput("--base-digest", f"{base_digest!r} is not a digest", "write sha256:<64 hex digits>")
    from stoker.core.environment import keys
    from stoker.sdk.definition_in import definition_in

    definition = definition_in(file or common.here, common.here, image or "")
    base = _base(common, definition, platform, base_digest, frozenset(insecure))
    steps = keys.steps_key(definition.steps, definition.context_digest, base, platform) if base else None
    value = {
        "definitionKey": keys.definition_key(definition),
        "specKey": keys.spec_key(definition, base, platform) if base else None,
        "stepsKey": steps,
        "lockKey": None,
        "platform": platform,
        "base": base,
        "canonical": definition.canonical(),
    }
    common.output.emit(value, lambda: _print(value), [str(value["definitionKey"])])


def _print(value: dict[str, Any]) -> None:
    unknown = {"lockKey": "known once the packages have been chosen"}
    for name, member in value.items():
        if name != "canonical":
            print(f"{name:<15} {member or unknown.get(name, 'not known: no digest of the base')}")
    print()
    print(as_yaml({name: member for name, member in value["canonical"].items() if member not in (None, [])}), end="")


def _base(
    common: Common, definition: "Definition", platform: str, digest: str | None, insecure: frozenset[str]
) -> str | None:
    """`registry/repository@digest` of the base on the platform; None, and said, where nobody can tell."""
    from stoker.core import reference

    if not definition.image:
        common.output.warn("no base image is named: add --image IMAGE for specKey and stepsKey")
        return None
    if digest is not None:
        return reference.parse(definition.image).pinned(digest)
    try:
        from stoker.sdk.bases import BaseUnknown, resolve
    except ModuleNotFoundError as error:
        common.output.warn(f"{error.name} is not installed, so no registry is asked: add --base-digest sha256:...")
        return None
    try:
        return resolve(definition.image, platform, insecure)
    except BaseUnknown as error:
        common.output.warn(f"{error}; specKey and stepsKey need it: add --base-digest sha256:...")
        return None
