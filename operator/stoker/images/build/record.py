"""What a build leaves in the registry beside the image: the record by which it is found, and its papers."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import msgspec

from stoker.core.environment.lock import Lock, decode, encode, layer_format
from stoker.core.environment.request import BuildRequest
from stoker.images.client import RegistryClient
from stoker.images.compose import MANIFEST_TYPE, sha256
from stoker.images.recordnames import (
    DEFINITION_KEY,
    IMAGE_DIGEST,
    IMAGE_SIZE,
    LOCK_KEY,
    LOCK_TYPE,
    RECORD_TYPE,
    REFRESH,
    SIGNED_BY,
    SPEC_KEY,
    record_tag,
)
from stoker.images.together import together
from stoker.images.transfer import push_bytes

EMPTY_TYPE = "application/vnd.oci.empty.v1+json"
SBOM_TYPE = "application/spdx+json"
PROVENANCE_TYPE = "application/vnd.in-toto+json"
#: Kinds of in-toto statements: cosign's words for them are `slsaprovenance1` and `spdxjson`.
PROVENANCE_PREDICATE = "https://slsa.dev/provenance/v1"
SBOM_PREDICATE = "https://spdx.dev/Document"
_EMPTY = b"{}"


@dataclass(frozen=True, slots=True)
class Made:
    """The image of a lock as it lies in a registry. size: bytes of its layers and config."""

    lock_key: str
    digest: str
    size: int


def record(request: BuildRequest, lock: Lock, made: Made, signed_by: str = "") -> bytes:
    """The record's manifest. signed_by: fingerprint of the key that signed the image; empty where none did."""
    content = encode(lock)
    return _artifact(
        RECORD_TYPE,
        LOCK_TYPE,
        content,
        {
            SPEC_KEY: request.spec_key,
            DEFINITION_KEY: request.definition_key,
            LOCK_KEY: made.lock_key,
            IMAGE_DIGEST: made.digest,
            IMAGE_SIZE: str(made.size),
            REFRESH: request.refresh,
            **({SIGNED_BY: signed_by} if signed_by else {}),
        },
    )


async def find_lock(client: RegistryClient, request: BuildRequest, place: str) -> Lock | None:
    """The lock that a repository has on record for what is asked for; None without one, or with one that this build would not
    make: of another `refresh`, prefix, or format of layers."""
    manifest = await client.get_manifest(place, record_tag(request.spec_key))
    if manifest is None:
        return None
    document = manifest.document()
    told = document.get("annotations") or {}
    # The tag is a shortened key: the whole one must be the same.
    expected = (request.spec_key, request.definition_key, request.refresh)
    if expected != (told.get(SPEC_KEY), told.get(DEFINITION_KEY), told.get(REFRESH, "")):
        return None
    content = await client.get_blob(place, document["layers"][0]["digest"])
    lock = decode(content) if content is not None else None
    if lock is None or (lock.prefix, lock.layer_format) != (request.prefix, layer_format(request.bytecode)):
        return None
    return lock


async def put_record(
    client: RegistryClient, request: BuildRequest, lock: Lock, made: Made, place: str, signed_by: str = ""
) -> None:
    """Stores the record under the spec's key; a later solve of the same spec (`refresh`) replaces it."""
    await together(push_bytes(client, place, content) for content in (encode(lock), _EMPTY))
    content = record(request, lock, made, signed_by)
    await client.put_manifest(place, record_tag(request.spec_key), content, MANIFEST_TYPE)


async def put_papers(
    client: RegistryClient, place: str, made: Made, manifest_size: int, papers: Mapping[str, bytes]
) -> None:
    """Attaches documents (media type -> content) to an image as referrers (OCI 1.1)."""
    subject = {"mediaType": MANIFEST_TYPE, "digest": made.digest, "size": manifest_size}
    await together(push_bytes(client, place, content) for content in (_EMPTY, *papers.values()))
    # One after the other: where a registry lists no referrers, each is added to a list that is read and written.
    for media_type, content in papers.items():
        manifest = _artifact(media_type, media_type, content, {}, subject)
        await client.put_manifest(place, sha256(manifest), manifest, MANIFEST_TYPE)


def sbom(lock: Lock, made: Made) -> bytes:
    """The lock as SPDX 2.3: exact, because nothing else is in our layers."""
    packages = [
        {
            "SPDXID": f"SPDXRef-{one.kind}-{index}",
            "name": one.name,
            "versionInfo": one.version,
            "downloadLocation": one.url or "NOASSERTION",
            "filesAnalyzed": False,
            "checksums": [{"algorithm": "SHA256", "checksumValue": one.sha256}],
            "externalRefs": [
                {
                    "referenceCategory": "PACKAGE-MANAGER",
                    "referenceType": "purl",
                    "referenceLocator": f"pkg:{'generic' if one.kind == 'python' else one.kind}/{one.name}@{one.version}",
                }
            ],
            "licenseConcluded": "NOASSERTION",
            "licenseDeclared": "NOASSERTION",
            "copyrightText": "NOASSERTION",
        }
        for index, one in enumerate(lock.packages)
    ]
    document = {
        "spdxVersion": "SPDX-2.3",
        "dataLicense": "CC0-1.0",
        "SPDXID": "SPDXRef-DOCUMENT",
        "name": f"environment {made.lock_key}",
        "documentNamespace": f"https://stoker.dev/spdx/{made.lock_key}/{made.digest.removeprefix('sha256:')}",
        # The lock has no time of its own, and two builds of one lock give the same papers.
        "creationInfo": {"created": "1980-01-02T00:00:00Z", "creators": ["Tool: stoker"]},
        "packages": packages,
        "relationships": [
            {
                "spdxElementId": "SPDXRef-DOCUMENT",
                "relationshipType": "DESCRIBES",
                "relatedSpdxElement": package["SPDXID"],
            }
            for package in packages
        ],
    }
    return msgspec.json.encode(document, order="sorted")


def provenance(request: BuildRequest, lock: Lock, made: Made, builder: str, place: str) -> bytes:
    """How the image came to be: an in-toto statement with SLSA's predicate, version 1."""
    base_name, _, base_digest = request.base.partition("@")
    materials: list[dict[str, Any]] = [
        {"uri": one.url, "digest": {"sha256": one.sha256}} for one in lock.packages if one.url
    ]
    if base_digest:
        materials.insert(0, {"uri": f"oci://{base_name}", "digest": {"sha256": base_digest.removeprefix("sha256:")}})
    predicate = {
        "buildDefinition": {
            "buildType": "https://stoker.dev/environment-build/v1",
            "externalParameters": {
                "definitionKey": request.definition_key,
                "specKey": request.spec_key,
                "platform": request.platform,
                "base": request.base,
                "steps": list(request.steps),
                "conda": request.conda,
                "pip": request.pip,
            },
            "internalParameters": {
                "lockKey": made.lock_key,
                "prefix": lock.prefix,
                "layerFormat": lock.layer_format,
            },
            "resolvedDependencies": materials,
        },
        "runDetails": {"builder": {"id": builder or "https://stoker.dev/builder"}},
    }
    return _statement(made, place, PROVENANCE_PREDICATE, predicate)


def statements(request: BuildRequest, lock: Lock, made: Made, builder: str, place: str) -> dict[str, bytes]:
    """What can be attested of an image: predicate type -> in-toto statement."""
    return {
        PROVENANCE_PREDICATE: provenance(request, lock, made, builder, place),
        SBOM_PREDICATE: _statement(made, place, SBOM_PREDICATE, msgspec.Raw(sbom(lock, made))),
    }


def _statement(made: Made, place: str, kind: str, predicate: Any) -> bytes:
    statement = {
        "_type": "https://in-toto.io/Statement/v1",
        "subject": [{"name": place, "digest": {"sha256": made.digest.removeprefix("sha256:")}}],
        "predicateType": kind,
        "predicate": predicate,
    }
    return msgspec.json.encode(statement, order="sorted")


def _artifact(
    artifact_type: str,
    layer_type: str,
    content: bytes,
    annotations: Mapping[str, str],
    subject: Mapping[str, Any] | None = None,
) -> bytes:
    document = {
        "schemaVersion": 2,
        "mediaType": MANIFEST_TYPE,
        "artifactType": artifact_type,
        "config": {"mediaType": EMPTY_TYPE, "digest": sha256(_EMPTY), "size": len(_EMPTY)},
        "layers": [{"mediaType": layer_type, "digest": sha256(content), "size": len(content)}],
        **({"annotations": dict(annotations)} if annotations else {}),
        **({"subject": dict(subject)} if subject else {}),
    }
    return msgspec.json.encode(document, order="sorted")
