"""Reads the pull secrets that images are looked up with; keeps none of them for long."""

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from stoker.images.auth import Keyring, from_secret
from stoker.images.errors import Unauthorized
from stoker.images.registry import BaseImageUnauthorized
from stoker.kube.client import KubeClient
from stoker.kube.resources import SECRETS

#: Long enough for one job's questions, short enough that a new password is seen.
KEPT_SECONDS = 30.0


class PullSecrets:
    def __init__(self, client: KubeClient) -> None:
        self._client = client
        self._kept: dict[tuple[str, tuple[str, ...]], tuple[Keyring, float]] = {}

    @asynccontextmanager
    async def used(self, namespace: str, names: tuple[str, ...]) -> AsyncIterator[Keyring]:
        """The same, for a block that asks registries with it: what one of them refuses there is not kept, for the next who
        asks may do so because the Secret is mended."""
        keyring = await self.keyring(namespace, names)
        try:
            yield keyring
        except (Unauthorized, BaseImageUnauthorized):
            self._kept.pop((namespace, names), None)
            raise

    async def keyring(self, namespace: str, names: tuple[str, ...]) -> Keyring:
        """The credentials in these Secrets; raises KubeError where one cannot be read, BadCredentials where it is none."""
        now = time.monotonic()
        self._kept = {key: kept for key, kept in self._kept.items() if kept[1] > now}
        if (kept := self._kept.get((namespace, names))) is not None:
            return kept[0]
        keyring = Keyring()
        for name in names:
            keyring += from_secret(await self._client.get(SECRETS.path(namespace, name)), name)
        if names:
            self._kept[namespace, names] = (keyring, now + KEPT_SECONDS)
        return keyring
