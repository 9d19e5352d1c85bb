"""What is signed is, byte for byte, what cosign writes."""

import base64
import json

from stoker.images import signatures
from stoker.images.signingkey import read_key
from tests.support import signing_keys as keys

DIGEST = "sha256:" + "ab" * 32
PLACE = "registry.example.com/ml/team/environments"
KEY = read_key(keys.pem(keys.RFC_KEY), None)


def test_the_payload_is_simple_signing_as_cosign_writes_it() -> None:
    assert (
        b'{"critical":{"identity":{"docker-reference":"registry.example.com/ml/team/environments"},'
        b'"image":{"docker-manifest-digest":"sha256:' + b"ab" * 32 + b'"},'
        b'"type":"cosign container image signature"},"optional":null}'
    ) == signatures.payload(PLACE, DIGEST)


def test_cosign_looks_under_tags_made_of_the_digest() -> None:
    assert "sha256-" + "ab" * 32 + ".sig" == signatures.tag(DIGEST, "sig")


def test_an_attested_statement_is_signed_with_its_type_and_length() -> None:
    made = json.loads(signatures.envelope(b'{"a":1}', KEY))

    assert ("application/vnd.in-toto+json", b'{"a":1}') == (made["payloadType"], base64.b64decode(made["payload"]))
    (signature,) = made["signatures"]
    keys.is_signed(
        keys.RFC_KEY.public_key(),
        base64.b64decode(signature["sig"]),
        b'DSSEv1 28 application/vnd.in-toto+json 7 {"a":1}',
    )
