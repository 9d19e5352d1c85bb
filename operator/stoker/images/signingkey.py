"""The private key that images are signed with: ECDSA P-256, as cosign keeps it or in plain PEM.

cosign's form is PEM around JSON: scrypt of the password makes the key of a secret box (NaCl) that holds PKCS #8
(go-securesystemslib, package encrypted). No message here holds a byte of key or password.
"""

import base64
import binascii
import hashlib
import re
from dataclasses import dataclass, field

import msgspec
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.kdf.scrypt import Scrypt
from nacl.exceptions import CryptoError
from nacl.secret import SecretBox

_SEALED = frozenset({"ENCRYPTED SIGSTORE PRIVATE KEY", "ENCRYPTED COSIGN PRIVATE KEY"})
_PLAIN = frozenset({"PRIVATE KEY", "EC PRIVATE KEY", "ENCRYPTED PRIVATE KEY"})
_PEM = re.compile(rb"-----BEGIN ([A-Z0-9 ]+)-----\s(.*?)-----END \1-----", re.DOTALL)
#: The strengths of scrypt that cosign knows (N, r, p). Any other could ask for all the memory that there is.
_STRENGTHS = frozenset({(1 << 15, 8, 1), (1 << 16, 8, 1), (1 << 17, 8, 1)})


class BadSigningKey(ValueError):
    """The key cannot be used; the message says why and names `cosign.key` or `cosign.password`."""


@dataclass(frozen=True, slots=True)
class SigningKey:
    """fingerprint: SHA-256 over the public key's DER (SubjectPublicKeyInfo), as `sha256:...`."""

    fingerprint: str
    _private: ec.EllipticCurvePrivateKey = field(repr=False)

    def sign(self, content: bytes) -> bytes:
        """ECDSA over SHA-256, in DER. The same content gives the same bytes (RFC 6979)."""
        return self._private.sign(content, ec.ECDSA(hashes.SHA256(), deterministic_signing=True))

    def made(self, signature: bytes, content: bytes) -> bool:
        """Whether the signature is this key's."""
        try:
            self._private.public_key().verify(signature, content, ec.ECDSA(hashes.SHA256()))
        except InvalidSignature:
            return False
        return True


class _Parameters(msgspec.Struct):
    N: int
    r: int
    p: int


class _Kdf(msgspec.Struct):
    name: str
    params: _Parameters
    salt: bytes


class _Cipher(msgspec.Struct):
    name: str
    nonce: bytes


class _Sealed(msgspec.Struct):
    kdf: _Kdf
    cipher: _Cipher
    ciphertext: bytes


def read_key(content: bytes, password: bytes | None) -> SigningKey:
    """content: of `cosign.key`. password: of `cosign.password`; None where there is none. Raises BadSigningKey."""
    found = _PEM.search(content)
    label = found[1].decode() if found else ""
    if found is None or label not in _SEALED | _PLAIN:
        held = f"a {label}" if label else "no PEM"
        raise BadSigningKey(
            f"cosign.key holds {held}; make one with `cosign generate-key-pair`, or as PEM of an EC key on P-256"
        )
    try:
        if label in _SEALED:
            private = serialization.load_der_private_key(_opened(found[2], password), None)
        else:
            secret = password if label == "ENCRYPTED PRIVATE KEY" else None
            if label == "ENCRYPTED PRIVATE KEY" and not password:
                raise BadSigningKey("cosign.key is encrypted, and there is no cosign.password")
            private = serialization.load_pem_private_key(found[0], secret)
    except BadSigningKey:
        raise
    except (ValueError, TypeError, UnsupportedAlgorithm):
        # Without the library's words: they may quote what they could not read.
        raise BadSigningKey(
            "cosign.key cannot be read" + (f", or {_wrong(password)}" if label == "ENCRYPTED PRIVATE KEY" else "")
        ) from None
    if not isinstance(private, ec.EllipticCurvePrivateKey):
        raise BadSigningKey("cosign.key is no EC key; signing needs ECDSA on P-256")
    if not isinstance(private.curve, ec.SECP256R1):
        raise BadSigningKey(f"cosign.key is on the curve {private.curve.name}; signing needs P-256 (secp256r1)")
    public = private.public_key().public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    return SigningKey(f"sha256:{hashlib.sha256(public).hexdigest()}", private)


def _opened(body: bytes, password: bytes | None) -> bytes:
    """What cosign's box holds."""
    try:
        sealed = msgspec.json.decode(base64.b64decode(b"".join(body.split()), validate=True), type=_Sealed)
    except (binascii.Error, msgspec.MsgspecError):
        raise BadSigningKey("cosign.key has cosign's PEM header and not its content") from None
    strength = (sealed.kdf.params.N, sealed.kdf.params.r, sealed.kdf.params.p)
    if (sealed.kdf.name, sealed.cipher.name) != ("scrypt", "nacl/secretbox") or strength not in _STRENGTHS:
        raise BadSigningKey("cosign.key is encrypted in a way that cosign does not use")
    if password is None:
        raise BadSigningKey("cosign.key is encrypted, and there is no cosign.password")
    key = Scrypt(sealed.kdf.salt, SecretBox.KEY_SIZE, *strength).derive(password)
    try:
        return SecretBox(key).decrypt(sealed.ciphertext, sealed.cipher.nonce)
    except (CryptoError, ValueError):
        raise BadSigningKey(_wrong(password)) from None


def _wrong(password: bytes | None) -> str:
    ended = password is not None and password.endswith((b"\n", b"\r"))
    return "cosign.password does not open cosign.key" + ("; it ends with a line end, which counts" if ended else "")
