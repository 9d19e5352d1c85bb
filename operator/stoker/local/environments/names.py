"""Short names of keys, for folders."""

import base64


def short(key: str) -> str:
    """The first 32 characters of lower-case base32 of a hex key: one path part on every file system."""
    return base64.b32encode(bytes.fromhex(key)).decode().lower()[:32]
