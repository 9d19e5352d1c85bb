"""Lists our own kinds whole, and makes the store equal to the list.

kopf watches them, but it never infers that something was deleted while it did not look. So each kind is listed at the
start, at once when kopf has listed anew, and every ten minutes besides.
"""

import asyncio
import logging
import random

from stoker.kube.client import KubeClient
from stoker.kube.errors import KubeError
from stoker.kube.resources import COMPUTE_CLUSTERS, ENVIRONMENTS, RESOURCES, TRAINING_JOBS, WORKSPACES
from stoker.kube.store import Store

LOG = logging.getLogger(__name__)

OWN_KINDS = (TRAINING_JOBS, ENVIRONMENTS, COMPUTE_CLUSTERS, WORKSPACES)
EVERY_SECONDS = 600.0
#: kopf lists in pages, and several kinds at a time: one sweep answers for all of them.
TOGETHER_SECONDS = 1.0
AGAIN_SECONDS = 5.0


class Sweeper:
    """namespaces: those that are looked at; empty means all. synced: set once every kind was listed."""

    def __init__(self, client: KubeClient, store: Store, namespaces: tuple[str, ...] = ()) -> None:
        self.synced = asyncio.Event()
        self._client = client
        self._store = store
        self._namespaces = namespaces or ("",)
        self._wanted = {resource.kind for resource in OWN_KINDS}
        self._never_listed = set(self._wanted)
        self._due: dict[str, asyncio.TimerHandle] = {}
        self._alarm = asyncio.Event()
        self._alarm.set()

    def request(self, kind: str) -> None:
        """List this kind soon."""
        self._wanted.add(kind)
        self._alarm.set()

    async def run(self) -> None:
        """Sweep when asked to, and every ten minutes; for ever."""
        while True:
            await self._alarm.wait()
            if self.synced.is_set():
                await asyncio.sleep(TOGETHER_SECONDS)
            self._alarm.clear()
            kinds, self._wanted = sorted(self._wanted), set()
            for kind in kinds:
                try:
                    await self._sweep(kind)
                except KubeError as error:
                    LOG.warning("cannot list %s, again in %.0f s: %s", kind, AGAIN_SECONDS, error)
                    self._request_in(AGAIN_SECONDS, kind)
                else:
                    self._request_in(EVERY_SECONDS, kind)

    def _request_in(self, seconds: float, kind: str) -> None:
        """One alarm per kind: a sweep that was asked for puts off the regular one."""
        if (handle := self._due.pop(kind, None)) is not None:
            handle.cancel()
        loop = asyncio.get_running_loop()
        self._due[kind] = loop.call_later(seconds * random.uniform(0.8, 1.2), self.request, kind)

    async def _sweep(self, kind: str) -> None:
        resource = RESOURCES[kind]
        for namespace in self._namespaces if resource.namespaced else ("",):
            listing = await self._client.list(resource.path(namespace), resource.shape)
            self._store.replace(kind, listing.items, listing.resource_version, namespace)
        self._never_listed.discard(kind)
        if not self._never_listed:
            self.synced.set()
