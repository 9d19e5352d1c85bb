"""Layers of packages in a registry, each under its key, so that a later build takes them without the packages.

`<registry>/packages`, tag `pkg-<short key>`: a manifest of one layer; its config says the tar's digest and which files
are in it. The full key is an annotation and compared: tags are short.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec

from stoker.core.environment.keys import short
from stoker.images.client import RegistryClient
from stoker.images.compose import MANIFEST_TYPE, sha256
from stoker.images.layers import LAYER_TYPE, Layer
from stoker.images.together import together

ARTIFACT_TYPE = "application/vnd.stoker.environment.package.v1+json"
CONFIG_TYPE = "application/vnd.stoker.environment.package.config.v1+json"
KEY_ANNOTATION = "dev.stoker.package-key"
#: A package of some 100,000 files, which is more than any has.
_MOST_CONFIG_BYTES = 64 << 20


class _Config(msgspec.Struct, frozen=True, rename="camel"):
    diff_id: str
    created_by: str
    files: list[str]


@dataclass(frozen=True, slots=True)
class StoredLayer:
    """A layer, the repository (`host/path`) that holds its blob, and the files in it."""

    layer: Layer
    place: str
    files: Sequence[str]


class PackageStore:
    """own: the registry (`host/path`) where new layers go. trusted: where they are looked for, too."""

    def __init__(self, client: RegistryClient, own: str, trusted: Sequence[str]) -> None:
        self._client = client
        self._own = packages(own)
        self._places = [packages(registry) for registry in (own, *trusted)]

    async def find(self, key: str) -> StoredLayer | None:
        """The layer of a key, in the first registry that has it."""
        for place in self._places:
            if (found := await self._look(place, key)) is not None:
                return found
        return None

    async def put(self, key: str, layer: Layer, files: Sequence[str], blob: Path) -> tuple[StoredLayer, int]:
        """Stores a layer whose bytes are in `blob`; returns it and how many bytes were sent."""
        config = msgspec.json.encode(_Config(layer.diff_id, layer.created_by, list(files)), order="sorted")
        blobs: list[tuple[str, int, Path | bytes]] = [
            (layer.digest, layer.size, blob),
            (sha256(config), len(config), config),
        ]
        sent = sum(await together(self._push(*one) for one in blobs))
        manifest = {
            "schemaVersion": 2,
            "mediaType": MANIFEST_TYPE,
            "artifactType": ARTIFACT_TYPE,
            "config": {"mediaType": CONFIG_TYPE, "digest": sha256(config), "size": len(config)},
            "layers": [{"mediaType": LAYER_TYPE, "digest": layer.digest, "size": layer.size}],
            "annotations": {KEY_ANNOTATION: key},
        }
        content = msgspec.json.encode(manifest, order="sorted")
        await self._client.put_manifest(self._own, f"pkg-{short(key)}", content, MANIFEST_TYPE)
        return StoredLayer(layer, self._own, files), sent

    async def _push(self, digest: str, size: int, source: Path | bytes) -> int:
        if await self._client.blob_size(self._own, digest) is not None:
            return 0
        await self._client.push_blob(self._own, digest, size, source)
        return size

    async def _look(self, place: str, key: str) -> StoredLayer | None:
        manifest = await self._client.get_manifest(place, f"pkg-{short(key)}")
        if manifest is None:
            return None
        document = manifest.document()
        if (document.get("annotations") or {}).get(KEY_ANNOTATION) != key:
            return None
        content = await self._client.get_blob(place, document["config"]["digest"], most=_MOST_CONFIG_BYTES)
        if content is None:
            return None
        config = msgspec.json.decode(content, type=_Config)
        (entry,) = document["layers"]
        layer = Layer(entry["mediaType"], entry["digest"], entry["size"], config.diff_id, config.created_by)
        return StoredLayer(layer, place, config.files)


def packages(registry: str) -> str:
    """The repository of package layers in a registry of environments."""
    return f"{registry.rstrip('/')}/packages"
