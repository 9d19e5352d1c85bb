"""The builder's signing key, from the Secret that the Workspace names."""

from pathlib import Path

from stoker.core.environment.request import SIGNING_DIRECTORY
from stoker.images.failure import BuildFailed
from stoker.images.signingkey import BadSigningKey, SigningKey, read_key

KEY, PASSWORD = "cosign.key", "cosign.password"


def signing_key(secret: str, folder: Path = Path(SIGNING_DIRECTORY)) -> SigningKey:
    """secret: the Secret's name, for messages. Raises BuildFailed."""
    try:
        content = (folder / KEY).read_bytes()
        password = (folder / PASSWORD).read_bytes() if (folder / PASSWORD).exists() else None
    except FileNotFoundError:
        # The Secret is mounted as optional: without it the pod would wait for ever, and say nothing here.
        raise BuildFailed(
            "SigningKeyNotFound",
            f"images are to be signed, and the namespace has no Secret {secret} with the key {KEY}",
            transient=True,
        ) from None
    try:
        return read_key(content, password)
    except BadSigningKey as error:
        raise BuildFailed("SigningKeyInvalid", f"Secret {secret}: {error}", transient=True) from error
