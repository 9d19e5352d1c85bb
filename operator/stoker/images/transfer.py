"""Images in and out of registries: a base's documents, blobs from one repository to another, a finished image."""

import asyncio
from collections.abc import Iterable, Mapping

import msgspec

from stoker.core.reference import Reference, parse
from stoker.images.client import RegistryClient, same_registry
from stoker.images.compose import MANIFEST_TYPE, BaseImage, Image, sha256
from stoker.images.failure import BuildFailed
from stoker.images.layers import Layer
from stoker.images.together import together

#: Blobs on their way at once.
_AT_ONCE = 8


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
    manifest = await client.get_manifest(reference.name, reference.target)
    if manifest is None:
        raise BuildFailed("BaseImageNotFound", f"image {text}: the registry {reference.registry} has no such image")
    document = manifest.document()
    if "config" not in document:
        raise BuildFailed("BadBaseImage", f"image {text}: it is no manifest of one platform")
    config = await client.get_blob(reference.name, document["config"]["digest"])
    if config is None:
        raise BuildFailed("BadBaseImage", f"image {text}: the registry lacks its config; push it again")
    return BaseImage(reference.name, manifest.digest, document, msgspec.json.decode(config))


async def move(client: RegistryClient, blobs: Iterable[tuple[Layer, str]], target: str) -> int:
    """Has the repository `target` hold all blobs, each from the one named with it; returns how many bytes were sent.

    In the same registry a blob is mounted and no byte moves; from another one it streams through.
    """
    seen = {layer.digest: (layer, source) for layer, source in blobs}
    slots = asyncio.Semaphore(_AT_ONCE)

    async def one(layer: Layer, source: str) -> int:
        async with slots:
            return await _move(client, layer, source, target)

    return sum(await together(one(layer, source) for layer, source in seen.values()))


async def _move(client: RegistryClient, layer: Layer, source: str, target: str) -> int:
    if source == target:
        return 0
    if same_registry(source, target) and await client.mount_blob(target, layer.digest, source.partition("/")[2]):
        return 0
    if await client.blob_size(target, layer.digest) is not None:
        return 0
    await client.push_blob(target, layer.digest, layer.size, lambda: client.stream_blob(source, layer.digest))
    return layer.size


async def put_image(client: RegistryClient, image: Image, sources: Mapping[str, str], target: str, tag: str) -> int:
    """Stores an image under a tag; returns how many bytes were sent. sources: a layer's digest -> who has it.

    The manifest goes last: a registry refuses one whose blobs it lacks, and nobody sees half an image.
    """
    sent = await move(client, ((layer, sources[layer.digest]) for layer in image.layers), target)
    sent += await push_bytes(client, target, image.config)
    await client.put_manifest(target, tag, image.manifest, MANIFEST_TYPE)
    return sent + len(image.manifest)


async def push_bytes(client: RegistryClient, place: str, content: bytes) -> int:
    """Stores a small blob, unless it is there; returns how many bytes were sent."""
    digest = sha256(content)
    if await client.blob_size(place, digest) is not None:
        return 0
    await client.push_blob(place, digest, len(content), content)
    return len(content)
