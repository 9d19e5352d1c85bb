"""A tiny image that nodes pull to show that they can: an index of one program for amd64 and one for arm64.

The program ends at once with exit code 0. It is made here, byte by byte, so that nothing has to be fetched for it; the
same bytes come out each time, so a registry has one such image however often it is pushed.
"""

import gzip
import hashlib
import io
import json
import struct
import tarfile
from collections.abc import Mapping
from dataclasses import dataclass

from stoker.images.client import RegistryClient

INDEX_TYPE = "application/vnd.oci.image.index.v1+json"
MANIFEST_TYPE = "application/vnd.oci.image.manifest.v1+json"
_CONFIG_TYPE = "application/vnd.oci.image.config.v1+json"
_LAYER_TYPE = "application/vnd.oci.image.layer.v1.tar+gzip"
_PROGRAM = "selftest"
#: By architecture: its number in an ELF header, and the machine's words for exit(0).
_EXITS = {
    "amd64": (62, bytes.fromhex("31ff b83c000000 0f05")),  # xor edi, edi; mov eax, 60; syscall
    "arm64": (183, bytes.fromhex("000080d2 a80b80d2 010000d4")),  # mov x0, 0; mov x8, 93; svc 0
}
#: Where the program is loaded: as linkers do it without being told.
_LOADED_AT = 0x400000


@dataclass(frozen=True, slots=True)
class SelfTest:
    """What to push: blobs by digest, then the platforms' manifests by digest, then the index."""

    blobs: Mapping[str, bytes]
    manifests: Mapping[str, bytes]
    index: bytes

    @property
    def digest(self) -> str:
        return _digest(self.index)


def self_test() -> SelfTest:
    blobs: dict[str, bytes] = {}
    manifests: dict[str, bytes] = {}
    entries = []
    for architecture, (number, code) in _EXITS.items():
        tar = _tar(_elf(number, code))
        layer = gzip.compress(tar, mtime=0)
        config = _json(
            {
                "architecture": architecture,
                "os": "linux",
                "config": {"Entrypoint": [f"/{_PROGRAM}"], "User": "1000:1000"},
                "rootfs": {"type": "layers", "diff_ids": [_digest(tar)]},
            }
        )
        blobs |= {_digest(layer): layer, _digest(config): config}
        manifest = _json(
            {
                "schemaVersion": 2,
                "mediaType": MANIFEST_TYPE,
                "config": _descriptor(_CONFIG_TYPE, config),
                "layers": [_descriptor(_LAYER_TYPE, layer)],
            }
        )
        manifests[_digest(manifest)] = manifest
        platform = {"os": "linux", "architecture": architecture}
        entries.append({**_descriptor(MANIFEST_TYPE, manifest), "platform": platform})
    return SelfTest(blobs, manifests, _json({"schemaVersion": 2, "mediaType": INDEX_TYPE, "manifests": entries}))


async def push(client: RegistryClient, place: str) -> str:
    """Put the image into a repository (`registry/path`); its reference by digest. Raises what the client raises."""
    image = self_test()
    for digest, content in image.blobs.items():
        if await client.blob_size(place, digest) is None:
            await client.push_blob(place, digest, len(content), content)
    for digest, manifest in image.manifests.items():
        await client.put_manifest(place, digest, manifest, MANIFEST_TYPE)
    await client.put_manifest(place, "1", image.index, INDEX_TYPE)
    return f"{place}@{image.digest}"


def _elf(machine: int, code: bytes) -> bytes:
    """A program of one segment: the 64-bit ELF header, one program header, the code (System V ABI, chapters 4 and 5)."""
    headers = 64 + 56
    size = headers + len(code)
    identity = b"\x7fELF" + bytes([2, 1, 1]) + bytes(9)
    header = struct.pack("<HHIQQQIHHHHHH", 2, machine, 1, _LOADED_AT + headers, 64, 0, 0, 64, 56, 1, 0, 0, 0)
    readable_and_executable = 5
    segment = struct.pack("<IIQQQQQQ", 1, readable_and_executable, 0, _LOADED_AT, _LOADED_AT, size, size, 0x1000)
    return identity + header + segment + code


def _tar(program: bytes) -> bytes:
    memory = io.BytesIO()
    with tarfile.open(fileobj=memory, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        entry = tarfile.TarInfo(_PROGRAM)
        entry.size, entry.mode = len(program), 0o755
        tar.addfile(entry, io.BytesIO(program))
    return memory.getvalue()


def _descriptor(media_type: str, content: bytes) -> dict[str, object]:
    return {"mediaType": media_type, "digest": _digest(content), "size": len(content)}


def _json(document: object) -> bytes:
    return json.dumps(document, sort_keys=True, separators=(",", ":")).encode()


def _digest(content: bytes) -> str:
    return f"sha256:{hashlib.sha256(content).hexdigest()}"
