"""Signatures and attestations of an image as cosign finds and verifies them.

They lie beside the image under tags made of its digest: `sha256-<hex>.sig` has a layer per signature, `sha256-<hex>.att`
one per attested statement (cosign's specs/SIGNATURE_SPEC.md and ATTESTATION_SPEC.md). What others have put there stays.
"""

import base64
from collections.abc import Mapping
from typing import Any

import msgspec

from stoker.images.client import RegistryClient
from stoker.images.compose import CONFIG_TYPE, MANIFEST_TYPE, sha256
from stoker.images.errors import Refused
from stoker.images.recordnames import SIGNED_BY
from stoker.images.signingkey import SigningKey
from stoker.images.transfer import push_bytes

SIGNATURE_TYPE = "application/vnd.dev.cosign.simplesigning.v1+json"
ENVELOPE_TYPE = "application/vnd.dsse.envelope.v1+json"
STATEMENT_TYPE = "application/vnd.in-toto+json"
SIGNATURE = "dev.cosignproject.cosign/signature"
PREDICATE = "predicateType"
_NEVER = "0001-01-01T00:00:00Z"


def tag(digest: str, kind: str) -> str:
    """Where cosign looks. kind: sig | att."""
    return f"{digest.replace(':', '-')}.{kind}"


def payload(place: str, digest: str) -> bytes:
    """What is signed: simple signing's words for the image `place@digest`, as cosign writes them."""
    image = {"docker-manifest-digest": digest}
    critical = {
        "identity": {"docker-reference": place},
        "image": image,
        "type": "cosign container image signature",
    }
    return msgspec.json.encode({"critical": critical, "optional": None})


def envelope(statement: bytes, key: SigningKey) -> bytes:
    """An in-toto statement, signed (DSSE 1)."""
    signed = b"DSSEv1 %d %s %d %s" % (len(STATEMENT_TYPE), STATEMENT_TYPE.encode(), len(statement), statement)
    return msgspec.json.encode(
        {
            "payloadType": STATEMENT_TYPE,
            "payload": base64.b64encode(statement).decode(),
            "signatures": [{"keyid": "", "sig": base64.b64encode(key.sign(signed)).decode()}],
        }
    )


async def sign(client: RegistryClient, place: str, digest: str, key: SigningKey) -> bool:
    """Signs the manifest `digest` in the repository `place`; False where this key had done so before."""
    content = payload(place, digest)
    layers = await _layers(client, place, tag(digest, "sig"))
    if any(one.get("digest") == sha256(content) and _is_by(key, one, content) for one in layers):
        return False
    annotations = {SIGNATURE: base64.b64encode(key.sign(content)).decode()}
    await _add(client, place, tag(digest, "sig"), layers, _entry(SIGNATURE_TYPE, content, annotations), content)
    return True


async def attest(
    client: RegistryClient, place: str, digest: str, statements: Mapping[str, bytes], key: SigningKey
) -> None:
    """Attests in-toto statements (predicate type -> statement) about an image, those of a kind that this key has not
    attested before."""
    for predicate, statement in statements.items():
        layers = await _layers(client, place, tag(digest, "att"))
        # By which key it is, so that a later build adds none of the same kind.
        told = {SIGNATURE: "", PREDICATE: predicate, SIGNED_BY: key.fingerprint}
        if any((one.get("annotations") or {}) == told for one in layers):
            continue
        content = envelope(statement, key)
        await _add(client, place, tag(digest, "att"), layers, _entry(ENVELOPE_TYPE, content, told), content)


def _is_by(key: SigningKey, entry: Mapping[str, Any], content: bytes) -> bool:
    try:
        signature = base64.b64decode((entry.get("annotations") or {}).get(SIGNATURE, ""), validate=True)
    except ValueError:
        return False
    return key.made(signature, content)


def _entry(media_type: str, content: bytes, annotations: Mapping[str, str]) -> dict[str, Any]:
    return {
        "mediaType": media_type,
        "size": len(content),
        "digest": sha256(content),
        "annotations": dict(annotations),
    }


async def _layers(client: RegistryClient, place: str, where: str) -> list[dict[str, Any]]:
    """Raises Refused where something else lies under the tag."""
    found = await client.get_manifest(place, where)
    if found is None:
        return []
    layers = found.document().get("layers")
    if not isinstance(layers, list):
        raise Refused(f"{place}:{where}: signatures lie there, and it holds {found.media_type}; remove that tag")
    return layers


async def _add(
    client: RegistryClient, place: str, where: str, layers: list[dict[str, Any]], entry: dict[str, Any], content: bytes
) -> None:
    """cosign reads this as an image whose layers are documents."""
    everything = [*layers, entry]
    config = msgspec.json.encode(
        {
            "architecture": "",
            "created": _NEVER,
            "history": [{"created": _NEVER} for _ in everything],
            "os": "",
            "rootfs": {"type": "layers", "diff_ids": [one["digest"] for one in everything]},
            "config": {},
        }
    )
    document = {
        "schemaVersion": 2,
        "mediaType": MANIFEST_TYPE,
        "config": {"mediaType": CONFIG_TYPE, "size": len(config), "digest": sha256(config)},
        "layers": everything,
    }
    await push_bytes(client, place, content)
    await push_bytes(client, place, config)
    await client.put_manifest(place, where, msgspec.json.encode(document), MANIFEST_TYPE)
