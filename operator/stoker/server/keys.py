"""The grant key's home: Secret stoker-grant-key in the server's own namespace, made by whichever replica starts first.

To change the key: put the present `current` into `previous` and 32 new random bytes into `current`. Replicas read the
Secret again every minute, so a replica meets grants under a key that it has not read yet for at most that long: it
then reads at once, at most every few seconds. Remove `previous` once the longest job that started before has ended.
"""

import asyncio
import base64
import binascii
import logging
import secrets
import time
from collections.abc import Callable, Mapping
from typing import Any, Protocol

from stoker.kube.errors import Conflict, KubeError, NotFound
from stoker.kube.resources import SECRETS
from stoker.server.errors import Refusal
from stoker.server.grants import KEY_BYTES, Grant, Keys, verify

_log = logging.getLogger(__name__)

SECRET = "stoker-grant-key"
READ_AGAIN_SECONDS = 60.0
#: The soonest that a grant under an unknown key makes us read again: strangers must not make us ask the API server.
SOONEST_SECONDS = 5.0


class Secrets(Protocol):
    async def get(self, path: str, /) -> dict[str, Any]: ...
    async def create(self, path: str, body: Any, /) -> dict[str, Any]: ...


class BadKey(Exception):
    """The Secret is there and holds no usable key; the message says how to mend it."""


class KeyRing:
    """The keys as last read. now: monotonic seconds."""

    def __init__(self, kube: Secrets, namespace: str, now: Callable[[], float] = time.monotonic) -> None:
        self._kube, self._namespace, self._now = kube, namespace, now
        self._keys: Keys | None = None
        self._read_at = float("-inf")
        self._reading = asyncio.Lock()

    @property
    def ready(self) -> bool:
        return self._keys is not None

    async def keys(self, newer_than: float = READ_AGAIN_SECONDS) -> Keys:
        """The keys, read at most `newer_than` seconds ago. Raises KubeError, BadKey only while none was ever read."""
        if self._keys is not None and self._now() - self._read_at <= newer_than:
            return self._keys
        async with self._reading:
            if self._keys is None:
                self._keys = await self._read_or_make()
                self._read_at = self._now()
            elif self._now() - self._read_at > newer_than:
                self._read_at = self._now()
                await self._read_again()
        return self._keys

    async def verify(self, text: object, now: float) -> Grant:
        """The grant in a text (see grants.verify). now: seconds since the epoch."""
        keys = await self.keys()
        try:
            return verify(text, keys, now)
        except Refusal as refusal:
            newer = keys if refusal.reason != "GrantInvalid" else await self.keys(SOONEST_SECONDS)
            if newer == keys:
                raise
        return verify(text, newer, now)

    async def _read_again(self) -> None:
        try:
            self._keys = _keys(await self._kube.get(SECRETS.path(self._namespace, SECRET)))
        except (KubeError, BadKey) as error:
            # The key in hand is as good as before: an API server that is away must not stop uploads.
            _log.warning("cannot read Secret %s again, the key read before stays: %s", SECRET, error)

    async def _read_or_make(self) -> Keys:
        path = SECRETS.path(self._namespace, SECRET)
        try:
            return _keys(await self._kube.get(path))
        except NotFound:
            pass
        fresh = base64.b64encode(secrets.token_bytes(KEY_BYTES)).decode()
        body = {
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {"name": SECRET, "namespace": self._namespace},
            "type": "Opaque",
            "data": {"current": fresh},
        }
        try:
            return _keys(await self._kube.create(SECRETS.path(self._namespace), body))
        except Conflict:  # another replica was first: its key is everybody's
            return _keys(await self._kube.get(path))


def _keys(secret: Mapping[str, Any]) -> Keys:
    held = secret.get("data") or {}
    try:
        return Keys(*(base64.b64decode(held.get(name) or "", validate=True) for name in ("current", "previous")))
    except (binascii.Error, ValueError) as error:
        raise BadKey(
            f"Secret {SECRET}: {error}; put {KEY_BYTES} random bytes (base64) into data.current, or delete the Secret "
            "and let the server make a new one (pods that run now then ask for new grants)"
        ) from None
