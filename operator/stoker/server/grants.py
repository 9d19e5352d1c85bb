"""Grants: what the server promises one pod, signed with the server's own key, so that it need not remember.

A grant is `stoker1.<key id>.<payload>.<mac>`, each part base64url without padding; the MAC is HMAC-SHA-256 over all
that stands before it. It outlives the TrainingJob and the pod's token, so that a deleted job can still flush. It says
nothing about sealed ranks: that is asked of the store each time.
"""

import base64
import binascii
import hashlib
import hmac
from dataclasses import dataclass

import msgspec

from stoker.runtime.wire import GRANT_PROTOCOL
from stoker.server.errors import Refusal

_FORMAT = "stoker1"
KEY_BYTES = 32
#: A grant is good for the longest that its job may take and this much more (seconds).
MARGIN_SECONDS = 7 * 86_400
#: The longest run of a job that sets no limit (seconds).
DEFAULT_TIMEOUT_SECONDS = 30 * 86_400
MOST_GRANT_BYTES = 8192
#: This protocol and the one before: pods that started before an upgrade go on.
PROTOCOLS = tuple(version for version in (GRANT_PROTOCOL, GRANT_PROTOCOL - 1) if version > 0)


class Grant(msgspec.Struct, frozen=True, rename="camel"):
    """One rank's right to store its files and to read its inputs. storage: URL of the namespace's workspace.
    expires: seconds since the epoch."""

    protocol: int
    namespace: str
    storage: str
    key: str
    attempt: int
    rank: int
    pod_uid: str
    expires: int


@dataclass(frozen=True, slots=True)
class Keys:
    """The key that signs, and the one before it, which still verifies while keys are changed (empty: none)."""

    current: bytes
    previous: bytes = b""

    def __post_init__(self) -> None:
        if len(self.current) < KEY_BYTES or (self.previous and len(self.previous) < KEY_BYTES):
            raise ValueError(f"a grant key has at least {KEY_BYTES} bytes")

    def of(self, identifier: str) -> bytes | None:
        return next((key for key in (self.current, self.previous) if key and key_id(key) == identifier), None)


def key_id(key: bytes) -> str:
    return hashlib.sha256(b"stoker-grant-key\0" + key).hexdigest()[:12]


def sign(grant: Grant, keys: Keys) -> str:
    """The grant as the opaque text that pods carry."""
    text = f"{_FORMAT}.{key_id(keys.current)}.{_encode(msgspec.json.encode(grant))}"
    return f"{text}.{_mac(text, keys.current)}"


def gang_key(grant: Grant, keys: Keys) -> str:
    """A secret that the pods of one attempt share and nobody else has. It is made again for each of them, so nothing is
    kept; pods on both sides of a change of keys do not get the same, and their attempt fails at its start."""
    text = "\0".join(("stoker-gang-key", grant.namespace, grant.storage, grant.key, str(grant.attempt)))
    return hmac.new(keys.current, text.encode(), hashlib.sha256).hexdigest()


def verify(text: object, keys: Keys, now: float) -> Grant:
    """The grant in a text. Raises Refusal 401 GrantInvalid or GrantExpired; the pod asks for a new one then."""
    if not isinstance(text, str) or len(text) > MOST_GRANT_BYTES or not text.isascii():
        raise _invalid("it is not a grant")
    signed, _, mac = text.rpartition(".")
    parts = signed.split(".")
    if len(parts) != 3 or parts[0] != _FORMAT:
        raise _invalid("it is not a grant")
    key = keys.of(parts[1])
    # An unknown key and a wrong MAC get one answer: which keys exist is nobody's business.
    if key is None or not hmac.compare_digest(mac, _mac(signed, key)):
        raise _invalid("its signature is not this server's")
    try:
        grant = msgspec.json.decode(_decode(parts[2]), type=Grant)
    except (msgspec.MsgspecError, binascii.Error, ValueError):
        raise _invalid("its content cannot be read") from None
    if grant.protocol not in PROTOCOLS:
        raise _invalid(f"it is of protocol {grant.protocol}; this server speaks {', '.join(map(str, PROTOCOLS))}")
    if grant.expires <= now:
        raise Refusal(401, "GrantExpired", "the grant has expired: ask POST /v1/grant for a new one")
    return grant


def _invalid(why: str) -> Refusal:
    return Refusal(401, "GrantInvalid", f"the grant is refused: {why}; ask POST /v1/grant for a new one")


def _mac(text: str, key: bytes) -> str:
    return _encode(hmac.new(key, text.encode("ascii"), hashlib.sha256).digest())


def _encode(content: bytes) -> str:
    return base64.urlsafe_b64encode(content).rstrip(b"=").decode("ascii")


def _decode(text: str) -> bytes:
    return base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
