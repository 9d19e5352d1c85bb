"""Reads what a base brings, once for each base."""

import asyncio
import io
from collections.abc import Sequence

import msgspec

from stoker.core.environment.keys import short
from stoker.images.build.record import EMPTY_TYPE
from stoker.images.bytes import Feed
from stoker.images.client import RegistryClient
from stoker.images.compose import MANIFEST_TYPE, BaseImage, sha256
from stoker.images.failure import BuildFailed
from stoker.images.probe import BROKEN, PROBE_TYPE, Findings, Probe, conclude, probe_key
from stoker.images.transfer import push_bytes

_KEY = "dev.stoker.probe-key"


async def probe_base(
    client: RegistryClient, base: BaseImage, place: str, trusted: Sequence[str] = ()
) -> tuple[Probe, bool]:
    """The base's Python and C library, and whether they were known already. place: the repository that remembers; trusted:
    others that are believed."""
    key = probe_key(base.digest)
    for one in (place, *trusted):
        known = await _known(client, one, key)
        if known is not None:
            return known, True
    findings = Findings()
    loop = asyncio.get_running_loop()
    for layer in base.layers:
        stream = client.stream_blob(base.place, layer.digest)
        try:
            await asyncio.to_thread(findings.read, io.BufferedReader(Feed(stream, loop), 1 << 20))
        except BROKEN as error:
            words = f"{base.place}: its layer {layer.digest} cannot be read: {error}; push the image again"
            raise BuildFailed("BadBaseImage", words, where="image") from error
    probe = conclude(findings, base.config)
    await _remember(client, place, key, probe)
    return probe, False


async def _known(client: RegistryClient, place: str, key: str) -> Probe | None:
    manifest = await client.get_manifest(place, f"probe-{short(key)}")
    if manifest is None:
        return None
    document = manifest.document()
    if (document.get("annotations") or {}).get(_KEY) != key:
        return None
    content = await client.get_blob(place, document["layers"][0]["digest"])
    return msgspec.json.decode(content, type=Probe) if content is not None else None


async def _remember(client: RegistryClient, place: str, key: str, probe: Probe) -> None:
    content = msgspec.json.encode(probe)
    await push_bytes(client, place, content)
    await push_bytes(client, place, b"{}")
    manifest = {
        "schemaVersion": 2,
        "mediaType": MANIFEST_TYPE,
        "artifactType": PROBE_TYPE,
        "config": {"mediaType": EMPTY_TYPE, "digest": sha256(b"{}"), "size": 2},
        "layers": [{"mediaType": PROBE_TYPE, "digest": sha256(content), "size": len(content)}],
        "annotations": {_KEY: key},
    }
    await client.put_manifest(
        place, f"probe-{short(key)}", msgspec.json.encode(manifest, order="sorted"), MANIFEST_TYPE
    )
