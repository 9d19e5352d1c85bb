"""`stoker registry load`: the images of an OCI layout into a registry, for places without a way out."""

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING

import click

from stoker.cli.options import Common, common
from stoker.cli.output import human_bytes, plural
from stoker.errors import BadInput, StokerError

if TYPE_CHECKING:
    from stoker.images.layout import Layout, Loading


@click.command(
    epilog="""\b
Examples:
  stoker registry load curated.tar registry.example.com/curated/torch      a tar of an OCI layout
  stoker registry load ./layout 10.0.0.5:5000/base/python --insecure       a folder; the registry speaks http
  stoker registry load ./layout registry.example.com/base --dry-run        what would be sent
"""
)
@click.argument("layout", type=click.Path(path_type=Path, exists=True))
@click.argument("dest")
@click.option("--insecure", is_flag=True, help="The registry speaks http.")
@click.option("--dry-run", is_flag=True, help="Only say what would be sent.")
@common
def load(common: Common, layout: Path, dest: str, insecure: bool, dry_run: bool) -> None:
    """Put the images in LAYOUT into the repository DEST (host/path), under the tags that the layout gives them.

    LAYOUT is a folder or an uncompressed tar. What the registry has is not sent again, so an interrupted load is simply
    repeated. Credentials are those that `docker login` keeps.
    """
    try:
        from stoker.images import errors
        from stoker.images import layout as layouts
    except ModuleNotFoundError as error:
        fix = "pip install 'stoker[operator]'"
        raise BadInput("stoker registry load", f"{error.name} is not installed here", fix) from error
    from stoker.core.reference import BadReference, parse

    try:
        reference = parse(dest)
    except BadReference as error:
        raise BadInput("DEST", str(error), "write registry.example.com/path/of/repository") from error
    if dest.rstrip().endswith((f":{reference.tag}", f"@{reference.digest}")):
        raise BadInput("DEST", f"{dest!r} has a tag or a digest", f"write {reference.name}: the layout has the tags")
    try:
        found = layouts.read(layout)
        hosts = frozenset({reference.registry}) if insecure else frozenset[str]()
        loading = asyncio.run(_load(common, found, reference.name, hosts, dry_run))
    except (layouts.BadLayout, errors.RegistryError) as error:
        fix = getattr(error, "fix", "")
        raise StokerError(f"{error}; {fix}" if fix else str(error)) from error
    images = [{"digest": one.digest, "tag": one.tag or None} for one in found.manifests]
    value = {
        "place": reference.name,
        "images": images,
        "sentBlobs": sorted(loading.blobs),
        "sentBytes": loading.size,
        "sent": not dry_run,
    }
    names = [f"{reference.name}@{one.digest}" for one in found.manifests]
    common.output.emit(value, lambda: print("\n".join(names)), names)


async def _load(common: Common, found: "Layout", place: str, insecure: frozenset[str], dry_run: bool) -> "Loading":
    from stoker.images import layout as layouts
    from stoker.images.client import RegistryClient
    from stoker.images.connections import Connections
    from stoker.sdk.bases import USER_AGENT, keyring

    connections = Connections(user_agent=USER_AGENT, insecure=insecure)
    try:
        client = RegistryClient(connections, keyring())
        loading = await layouts.plan(client, found, place)
        what = f"{plural(len(loading.manifests), 'manifest')}, {plural(len(loading.blobs), 'blob')}"
        detail = human_bytes(loading.size) if loading.manifests else "everything is there"
        common.output.step("to send" if dry_run else "send", what, detail)
        if not dry_run:
            await layouts.send(client, loading)
        return loading
    finally:
        await connections.close()
