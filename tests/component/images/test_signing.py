"""The builder signs what it makes, as `cosign verify` wants it, and the key stays in its hands."""

import base64
import hashlib
import json
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from lab import packages
from stoker.core.environment import keys
from stoker.core.environment.request import BuildRequest
from stoker.images.client import RegistryClient
from tests.support import environments, signing_keys
from tests.support.environments import Built, build, request
from tests.support.registries import RunningRegistry

PASSWORD = b"a word of pass that is in no other file"
KEY, OTHER = signing_keys.new_key(), signing_keys.new_key()
SEALED = {"cosign.key": signing_keys.sealed(KEY, PASSWORD), "cosign.password": PASSWORD}


def mounted(folder: Path, files: Mapping[str, bytes]) -> Sequence[str]:
    """Words before the builder's command: it sees the files as its pod mounts them, and nobody else does."""
    secret = folder / "secret"
    secret.mkdir(exist_ok=True)
    for name, content in files.items():
        (secret / name).write_bytes(content)
    place = "/run/stoker/signing"
    mounts = f"mount -t tmpfs none /run && mkdir -p {place} && mount --bind {secret} {place}"
    return ("unshare", "--mount", "sh", "-c", f'{mounts} && exec "$@"', "sh")


def asked(
    registry: RunningRegistry, base: str, served: packages.Packages, *, team: str, **changes: Any
) -> BuildRequest:
    changes = {"pip": {"requirements": ["stoker-tiny==1.0"]}, "signing": "cosign", **changes}
    return request(registry, base, served, registry=f"{registry.address}/{team}", **changes)


def signed(
    registry: RunningRegistry,
    base: str,
    served: packages.Packages,
    folder: Path,
    files: Mapping[str, bytes],
    **more: Any,
) -> Built:
    built = build(asked(registry, base, served, **more), folder, within=mounted(folder, files))
    assert 0 == built.code, built.log
    return built


def layers_of(registry: RunningRegistry, image: str, kind: str) -> list[tuple[dict[str, str], bytes]]:
    """The annotations and contents beside an image. kind: sig | att."""
    place, _, digest = image.partition("@")
    found = environments.manifest_of(registry, f"{place}@{digest.replace(':', '-')}.{kind}")
    config = json.loads(environments.blob(registry, place, found["config"]["digest"]))
    assert [one["digest"] for one in found["layers"]] == config["rootfs"]["diff_ids"]
    return [(one["annotations"], environments.blob(registry, place, one["digest"])) for one in found["layers"]]


def signatures_of(registry: RunningRegistry, image: str) -> list[tuple[bytes, bytes]]:
    """Signature and what it is of."""
    return [
        (base64.b64decode(told["dev.cosignproject.cosign/signature"]), content)
        for told, content in layers_of(registry, image, "sig")
    ]


def record_of(registry: RunningRegistry, built: Built, wanted: BuildRequest) -> dict[str, str]:
    place = built.result.image.partition("@")[0]
    found = environments.manifest_of(registry, f"{place}@spec-{keys.short(wanted.spec_key)}")
    annotations: dict[str, str] = found["annotations"]
    return annotations


@pytest.fixture(scope="module")
def image(
    registry: RunningRegistry, base: str, served: packages.Packages, tmp_path_factory: pytest.TempPathFactory
) -> Built:
    """An image whose builder had a key as cosign keeps it."""
    return signed(registry, base, served, tmp_path_factory.mktemp("image"), SEALED, team="signed")


def test_the_manifests_digest_is_signed_where_cosign_looks(registry: RunningRegistry, image: Built) -> None:
    place, _, digest = image.result.image.partition("@")

    ((signature, content),) = signatures_of(registry, image.result.image)

    signing_keys.is_signed(KEY.public_key(), signature, content)
    critical = json.loads(content)["critical"]
    assert {"docker-manifest-digest": digest} == critical["image"]
    assert {"docker-reference": place} == critical["identity"]


def test_provenance_and_bill_of_materials_are_attested(registry: RunningRegistry, image: Built) -> None:
    digest = image.result.image.partition("@sha256:")[2]
    found = {}
    for told, content in layers_of(registry, image.result.image, "att"):
        envelope = json.loads(content)
        statement = base64.b64decode(envelope["payload"])
        words = b"DSSEv1 28 application/vnd.in-toto+json %d %s" % (len(statement), statement)
        signing_keys.is_signed(KEY.public_key(), base64.b64decode(envelope["signatures"][0]["sig"]), words)
        found[told["predicateType"]] = json.loads(statement)

    assert {"https://slsa.dev/provenance/v1", "https://spdx.dev/Document"} == set(found)
    for kind, statement in found.items():
        assert (kind, digest) == (statement["predicateType"], statement["subject"][0]["digest"]["sha256"])
    names = [one["name"] for one in found["https://spdx.dev/Document"]["predicate"]["packages"]]
    assert "stoker-tiny" in names


def test_record_and_log_name_the_key_by_its_fingerprint(
    registry: RunningRegistry, base: str, served: packages.Packages, image: Built
) -> None:
    der = subprocess.run(
        ["openssl", "pkey", "-pubout", "-outform", "DER"], input=signing_keys.pem(KEY), capture_output=True, check=True
    ).stdout
    fingerprint = f"sha256:{hashlib.sha256(der).hexdigest()}"

    assert (
        fingerprint == record_of(registry, image, asked(registry, base, served, team="signed"))["dev.stoker.signed-by"]
    )
    assert f"by the key {fingerprint}" in image.log


def test_the_key_is_in_no_log_layer_or_answer(registry: RunningRegistry, image: Built) -> None:
    secret = [
        PASSWORD,
        signing_keys.scalar(KEY),
        base64.b64encode(PASSWORD),
        SEALED["cosign.key"].splitlines()[3],
        signing_keys.scalar(KEY).hex().encode(),
    ]
    stored = [path.read_bytes() for path in registry.folder.rglob("*") if path.is_file()]

    told = [image.log.encode(), str(image.result).encode(), *stored]
    assert len(stored) > 10
    assert not [one for one in secret for place in told if one in place]


def test_the_same_image_again_keeps_its_one_signature(
    registry: RunningRegistry, base: str, served: packages.Packages, image: Built, tmp_path: Path
) -> None:
    again = signed(registry, base, served, tmp_path, SEALED, team="signed", refresh="again")

    assert image.result.image == again.result.image
    assert "as before" in again.log
    assert 1 == len(signatures_of(registry, image.result.image))
    assert 2 == len(layers_of(registry, image.result.image, "att"))


def test_an_image_that_is_there_is_signed_by_the_new_key_too(
    registry: RunningRegistry, base: str, served: packages.Packages, tmp_path: Path
) -> None:
    """Built before anybody signed, then with one key, then with another: each signature is added, none is lost."""
    bare = build(asked(registry, base, served, team="grown", signing=""), tmp_path)
    assert "dev.stoker.signed-by" not in record_of(
        registry, bare, asked(registry, base, served, team="grown", signing="")
    )
    for key in (KEY, OTHER):
        built = signed(registry, base, served, tmp_path, {"cosign.key": signing_keys.pem(key)}, team="grown")
        assert bare.result.image == built.result.image

    first, second = signatures_of(registry, bare.result.image)

    signing_keys.is_signed(KEY.public_key(), *first)
    signing_keys.is_signed(OTHER.public_key(), *second)
    assert 4 == len(layers_of(registry, bare.result.image, "att"))


def test_something_else_under_the_signatures_tag_is_not_overwritten(
    registry: RunningRegistry, base: str, served: packages.Packages, tmp_path: Path
) -> None:
    bare = build(asked(registry, base, served, team="taken", signing=""), tmp_path)
    place, _, digest = bare.result.image.partition("@")
    index = json.dumps(
        {"schemaVersion": 2, "mediaType": "application/vnd.oci.image.index.v1+json", "manifests": []}
    ).encode()

    async def put(client: RegistryClient) -> None:
        await client.put_manifest(
            place, f"{digest.replace(':', '-')}.sig", index, "application/vnd.oci.image.index.v1+json"
        )

    environments.with_client(registry, put)
    built = build(asked(registry, base, served, team="taken"), tmp_path, within=mounted(tmp_path, SEALED))

    assert (1, "RegistryRefused") == (built.code, built.result.reason)
    assert "remove that tag" in built.result.message


@pytest.mark.parametrize(
    ("files", "reason", "words"),
    [
        ({}, "SigningKeyNotFound", "no Secret cosign with the key cosign.key"),
        ({"cosign.password": PASSWORD}, "SigningKeyNotFound", "no Secret cosign with the key cosign.key"),
        ({"cosign.key": SEALED["cosign.key"]}, "SigningKeyInvalid", "Secret cosign: cosign.key is encrypted"),
        ({**SEALED, "cosign.password": b"no"}, "SigningKeyInvalid", "Secret cosign: cosign.password does not open"),
        ({"cosign.key": b"secret words"}, "SigningKeyInvalid", "Secret cosign: cosign.key holds no PEM"),
    ],
    ids=["nothing", "no-key", "no-password", "wrong-password", "no-pem"],
)
def test_a_key_that_cannot_sign_ends_the_build_before_it_begins(
    registry: RunningRegistry,
    served: packages.Packages,
    tmp_path: Path,
    files: Mapping[str, bytes],
    reason: str,
    words: str,
) -> None:
    """No base is asked for: this one does not exist."""
    nowhere = f"{registry.address}/bases/none@sha256:{'0' * 64}"

    built = build(asked(registry, nowhere, served, team="none"), tmp_path, within=mounted(tmp_path, files))

    assert (2, reason) == (built.code, built.result.reason)
    assert words in built.result.message
    assert "secret words" not in built.log
