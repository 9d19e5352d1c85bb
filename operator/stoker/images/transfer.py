"""Images in and out of registries: a base's documents, blobs from one repository to another, a finished image."""

from collections.abc import Iterable, Mapping

import msgspec

from stoker.core.reference import Reference, parse
from stoker.images.assemble import together
from stoker.images.client import RegistryClient
from stoker.images.compose import MANIFEST_TYPE, BaseImage, Image, sha256
from stoker.images.failure import BuildFailed
from stoker.images.layers import Layer
from stoker.images.places import repository


def mirrored(reference: Reference, mirrors: Mapping[str, str]) -> Reference:
    """Where the image is fetched from: its registry's mirror, if there is one."""
    mirror = mirrors.get(reference.registry)
    if not mirror:
        return reference
    host, _, path = mirror.strip("/").partition("/")
    name = f"{path}/{reference.repository}" if path else reference.repository
    return Reference(host, name, reference.tag, reference.digest)


async def load_base(client: RegistryClient, text: str, mirrors: Mapping[str, str]) -> BaseImage:
    """An image pinned by the digest of a platform's manifest. Raises BuildFailed and the client's errors."""
    reference = mirrored(parse(text), mirrors)
    manifest = await client.get_manifest(reference, reference.target)
    if manifest is None:
        raise BuildFailed("BaseImageNotFound", f"image {text}: the registry {reference.registry} has no such image")
    document = msgspec.json.decode(manifest.content)
    if "config" not in document:
        raise BuildFailed("BadBaseImage", f"image {text}: it is no manifest of one platform")
    config = msgspec.json.decode(await client.get_blob(reference, document["config"]["digest"]))
    return BaseImage(reference.name, sha256(manifest.content), document, config)


async def move(
    client: RegistryClient, blobs: Iterable[tuple[Layer, Reference]], target: Reference
) -> int:
    """Has the target hold all blobs, each from the repository named with it; returns how many bytes were sent.

    In the same registry a blob is mounted and no byte moves; from another one it streams through.
    """
    seen = {layer.digest: (layer, source) for layer, source in blobs}
    return sum(await together(_move(client, layer, source, target) for layer, source in seen.values()))


async def _move(client: RegistryClient, layer: Layer, source: Reference, target: Reference) -> int:
    if source.name == target.name:
        return 0
    if source.registry == target.registry and await client.mount_blob(target, layer.digest, source.repository):
        return 0
    if await client.blob_exists(target, layer.digest):
        return 0
    await client.push_blob(target, layer.digest, layer.size, client.stream_blob(source, layer.digest))
    return layer.size


async def put_image(
    client: RegistryClient, image: Image, sources: Mapping[str, Reference], target: Reference, tag: str
) -> int:
    """Stores an image under a tag; returns how many bytes were sent. sources: a layer's digest -> who has it.

    The manifest goes last: a registry refuses one whose blobs it lacks, and nobody sees half an image.
    """
    sent = await move(client, ((layer, sources[layer.digest]) for layer in image.layers), target)
    config_digest = sha256(image.config)
    if not await client.blob_exists(target, config_digest):
        await client.push_blob(target, config_digest, len(image.config), image.config)
        sent += len(image.config)
    await client.put_manifest(target, tag, image.manifest, MANIFEST_TYPE)
    return sent


def base_sources(base: BaseImage) -> dict[str, Reference]:
    """Who has the base's layers."""
    place = repository(base.place)
    return {layer.digest: place for layer in base.layers}


