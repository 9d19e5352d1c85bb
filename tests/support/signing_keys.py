"""Keys that sign images in tests, in the forms that people keep them in."""

import base64
import hashlib

import msgspec
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.kdf.scrypt import Scrypt
from nacl.secret import SecretBox

#: The private key and, for the message `sample`, the signature of RFC 6979, A.2.5.
RFC_KEY = ec.derive_private_key(0xC9AFA9D845BA75166B5C215767B1D6934E50C3DB36E89B127B8A622B120F6721, ec.SECP256R1())
RFC_R = 0xEFD48B2AACB6A8FD1140DD9CD45E81D69D2C877B56AAF991C34D0EA84EAF3716
RFC_S = 0xF7CB1C942D657C41D436C7A1B6E29F65F3E900DBB9AFF4064DC4AB2F843ACDA8
#: A key as cosign 2.6.5 made it with the password `open sesame`, and the fingerprint of its cosign.pub. It signs nothing.
COSIGN_KEY = b"""\
-----BEGIN ENCRYPTED SIGSTORE PRIVATE KEY-----
eyJrZGYiOnsibmFtZSI6InNjcnlwdCIsInBhcmFtcyI6eyJOIjo2NTUzNiwiciI6
OCwicCI6MX0sInNhbHQiOiJNckR3WGRjV1o5R0VPSWJHUkFYaXhwVkNZMFptTjlT
U2s5a2UzWjl4TjRFPSJ9LCJjaXBoZXIiOnsibmFtZSI6Im5hY2wvc2VjcmV0Ym94
Iiwibm9uY2UiOiJ0R0xPMmhHSzRKRndRYUlzQzllR1RzaWRXNitMZnRjayJ9LCJj
aXBoZXJ0ZXh0IjoiU3dPMWhsYUVpSUh4TExqcmJVM28zcE9WVStzY0dxWkVlamJH
SjRkTTljVjNDREpuYTJBNGR3aTlEU2VwcTFsM1l2YjFtSUxnRkdpY3Y3WVRzanNR
bnk0SkJwNlBySXcrQmFPWTZpTGdESWNtOTRxU2hsSGhhbkdNSEsyNDZMeGtlelVD
azdlSTlCVUVlZWlWUUgrNUNjeVpzSklBVEQxQllmc1NpVjJnRS9Falk3b2tBUnYw
VXFUZUROemNTL1RnWFZ6U0IzQ0UwempJSnc9PSJ9
-----END ENCRYPTED SIGSTORE PRIVATE KEY-----
"""
COSIGN_PASSWORD = b"open sesame"
COSIGN_FINGERPRINT = "sha256:f53e70907ee08e12e612fcfb808a0fed107cae5ac0bf1802e2433fa6ab6351c3"


def new_key() -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(ec.SECP256R1())


def pem(
    key: ec.EllipticCurvePrivateKey,
    form: serialization.PrivateFormat = serialization.PrivateFormat.PKCS8,
    password: bytes | None = None,
) -> bytes:
    hidden = serialization.BestAvailableEncryption(password) if password else serialization.NoEncryption()
    return key.private_bytes(serialization.Encoding.PEM, form, hidden)


def fingerprint(key: ec.EllipticCurvePrivateKey) -> str:
    der = key.public_key().public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    return f"sha256:{hashlib.sha256(der).hexdigest()}"


def scalar(key: ec.EllipticCurvePrivateKey) -> bytes:
    """What nobody but the builder may ever see."""
    return key.private_numbers().private_value.to_bytes(32, "big")


def sealed(
    key: ec.EllipticCurvePrivateKey, password: bytes, label: str = "ENCRYPTED SIGSTORE PRIVATE KEY", n: int = 1 << 15
) -> bytes:
    """As cosign encrypts it."""
    inner = key.private_bytes(
        serialization.Encoding.DER, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    salt, nonce = b"s" * 32, b"n" * 24
    box = SecretBox(Scrypt(salt, 32, n, 8, 1).derive(password))
    document = {
        "kdf": {"name": "scrypt", "params": {"N": n, "r": 8, "p": 1}, "salt": salt},
        "cipher": {"name": "nacl/secretbox", "nonce": nonce},
        "ciphertext": box.encrypt(inner, nonce).ciphertext,
    }
    return armored(label, msgspec.json.encode(document))


def armored(label: str, content: bytes) -> bytes:
    text = base64.b64encode(content)
    lines = b"\n".join(text[start : start + 64] for start in range(0, len(text), 64))
    return b"-----BEGIN %s-----\n%s\n-----END %s-----\n" % (label.encode(), lines, label.encode())


def is_signed(public: ec.EllipticCurvePublicKey, signature: bytes, content: bytes) -> None:
    """Raises InvalidSignature where it is not."""
    public.verify(signature, content, ec.ECDSA(hashes.SHA256()))
