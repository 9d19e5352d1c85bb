"""The names that content gives: SHA-256 over a domain tag and canonical JSON (RFC 8785, UTF-8, Unicode NFC).

definitionKey: of what was written, the same everywhere. specKey: of a definition on a platform, with the base's digest;
a registry is asked for it. stepsKey: of the base and the docker steps alone, so that another package makes no step run
again. lockKey: of the exact packages, and of how layers are made: the image's tag.
"""

import base64
import hashlib
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import rfc8785

if TYPE_CHECKING:
    # The builder needs keys, and no reader of definitions.
    from stoker.core.environment.definition import Definition

#: Where packages go in every image. Scripts and records have it in them, so another one makes other layers.
PREFIX = "/opt/stoker/env"

#: Name, version, build (empty for pip's), SHA-256 in hex.
Package = tuple[str, str, str, str]


def definition_key(definition: "Definition") -> str:
    """Hex SHA-256. Neither a platform nor a registry is needed for it."""
    return _hash("env-def/v1", definition.canonical())


def spec_key(definition: "Definition", base: str, platform: str) -> str:
    """Hex SHA-256. base: `registry/repository@digest` of the platform's manifest. platform: `linux/amd64`."""
    content = definition.canonical()
    del content["image"]
    return _hash("env-spec/v1", {**content, "base": base, "platform": platform})


def steps_key(steps: Sequence[str], context_digest: str | None, base: str, platform: str) -> str:
    """Hex SHA-256: names the base with the docker steps done, which without steps is the base itself."""
    content = {"base": base, "platform": platform, "steps": list(steps), "contextDigest": context_digest}
    return _hash("env-steps/v1", content)


def lock_key(steps_key: str, platform: str, prefix: str, layer_format: str, packages: Iterable[Package]) -> str:
    """Hex SHA-256, whatever the order of the packages. layer_format: of core.environment's makers of layers."""
    content = {
        "stepsKey": steps_key,
        "platform": platform,
        "prefix": prefix,
        "layerFormat": layer_format,
        "packages": sorted(list(package) for package in packages),
    }
    return _hash("env-lock/v1", content)


def short(key: str) -> str:
    """The first 32 characters of a key in lower-case base32: fit for tags, names and labels. The whole key is compared
    wherever something is found by it."""
    return base64.b32encode(bytes.fromhex(key)).decode()[:32].lower()


def canonical_json(value: Any) -> bytes:
    """RFC 8785's form of a value whose texts are brought into NFC first."""
    return rfc8785.dumps(_nfc(value))


def _hash(domain: str, content: Mapping[str, Any]) -> str:
    return hashlib.sha256(f"{domain}\n".encode() + canonical_json(content)).hexdigest()


def _nfc(value: Any) -> Any:
    if isinstance(value, str):
        return unicodedata.normalize("NFC", str(value))
    if isinstance(value, Mapping):
        return {_nfc(name): _nfc(member) for name, member in value.items()}
    if isinstance(value, list | tuple):
        return [_nfc(item) for item in value]
    return value
