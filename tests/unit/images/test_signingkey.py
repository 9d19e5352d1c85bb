"""Keys that sign images: every form that cosign makes, and words for those that cannot be used."""

import subprocess
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature

from stoker.images.signingkey import BadSigningKey, SigningKey, read_key
from tests.support import signing_keys as keys

PKCS8, SEC1 = serialization.PrivateFormat.PKCS8, serialization.PrivateFormat.TraditionalOpenSSL
KEY = keys.new_key()
PASSWORD = b"open sesame"


@pytest.mark.parametrize(
    ("content", "password"),
    [
        (keys.pem(KEY, PKCS8), None),
        (keys.pem(KEY, SEC1), None),
        (keys.pem(KEY, PKCS8), PASSWORD),
        (keys.pem(KEY, PKCS8, PASSWORD), PASSWORD),
        (keys.sealed(KEY, PASSWORD), PASSWORD),
        (keys.sealed(KEY, PASSWORD, "ENCRYPTED COSIGN PRIVATE KEY"), PASSWORD),
        (keys.sealed(KEY, PASSWORD, n=1 << 16), PASSWORD),
        (keys.sealed(KEY, b""), b""),
        (b"# mine\n" + keys.sealed(KEY, PASSWORD).replace(b"\n", b"\r\n"), PASSWORD),
    ],
    ids=[
        "pkcs8",
        "sec1",
        "password-without-need",
        "encrypted-pkcs8",
        "sigstore",
        "cosign",
        "standard",
        "empty",
        "crlf",
    ],
)
def test_each_form_is_the_same_key(content: bytes, password: bytes | None) -> None:
    assert keys.fingerprint(KEY) == read_key(content, password).fingerprint


def test_a_key_that_cosign_made_is_read() -> None:
    assert keys.COSIGN_FINGERPRINT == read_key(keys.COSIGN_KEY, keys.COSIGN_PASSWORD).fingerprint


def test_a_signature_is_that_of_the_rfc() -> None:
    signature = read_key(keys.pem(keys.RFC_KEY), None).sign(b"sample")

    assert (keys.RFC_R, keys.RFC_S) == decode_dss_signature(signature)


def test_openssl_takes_the_signature_and_prints_the_fingerprint(tmp_path: Path) -> None:
    """As the how-to says to compare it."""
    key = read_key(keys.pem(KEY), None)
    public = KEY.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    (tmp_path / "cosign.pub").write_bytes(public)
    (tmp_path / "signature").write_bytes(key.sign(b"words"))
    (tmp_path / "words").write_bytes(b"words")

    def said(command: str) -> str:
        done = subprocess.run(["sh", "-c", command], cwd=tmp_path, capture_output=True, text=True, timeout=30)
        return done.stdout + done.stderr

    assert "Verified OK" in said("openssl dgst -sha256 -verify cosign.pub -signature signature words")
    printed = said("openssl pkey -pubin -in cosign.pub -outform DER | sha256sum")
    assert key.fingerprint == f"sha256:{printed.split()[0]}"


P384 = ec.generate_private_key(ec.SECP384R1())
RSA = rsa.generate_private_key(65537, 2048).private_bytes(
    serialization.Encoding.PEM, PKCS8, serialization.NoEncryption()
)


@pytest.mark.parametrize(
    ("content", "password", "words"),
    [
        (b"", None, "cosign.key holds no PEM"),
        (b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", None, "holds a CERTIFICATE"),
        (keys.sealed(KEY, PASSWORD), None, "there is no cosign.password"),
        (keys.sealed(KEY, PASSWORD), b"wrong", "cosign.password does not open cosign.key"),
        (keys.sealed(KEY, PASSWORD), PASSWORD + b"\n", "it ends with a line end, which counts"),
        (keys.pem(KEY, PKCS8, PASSWORD), None, "there is no cosign.password"),
        (keys.pem(KEY, PKCS8, PASSWORD), b"wrong", "cosign.password does not open cosign.key"),
        (keys.sealed(KEY, PASSWORD, n=1 << 10), PASSWORD, "in a way that cosign does not use"),
        (keys.armored("ENCRYPTED SIGSTORE PRIVATE KEY", b"{}"), PASSWORD, "not its content"),
        (keys.armored("ENCRYPTED SIGSTORE PRIVATE KEY", b"\xff"), PASSWORD, "not its content"),
        (keys.armored("PRIVATE KEY", b"nothing"), None, "cannot be read"),
        (RSA, None, "is no EC key"),
        (keys.pem(P384), None, "on the curve secp384r1"),
    ],
)
def test_a_key_that_cannot_be_used_is_named_without_a_byte_of_it(
    content: bytes, password: bytes | None, words: str
) -> None:
    with pytest.raises(BadSigningKey, match=words) as raised:
        read_key(content, password)

    told = str(raised.value)
    assert not [line for line in content.decode("latin-1").splitlines()[1:-1] if line and line in told]
    assert "sesame" not in told
    assert raised.value.__cause__ is None


def test_a_key_does_not_print_itself() -> None:
    key: SigningKey = read_key(keys.pem(KEY), None)

    assert f"SigningKey(fingerprint='{key.fingerprint}')" == repr(key)
