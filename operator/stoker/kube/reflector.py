"""Keeps a store equal to what the API server has of one kind: list in pages, watch, and list anew when in doubt.

A relist replaces, so that what went away while we did not look goes away here too.
"""

import asyncio
import logging
import random
import time
from collections.abc import Callable, Iterable
from typing import Any, Protocol

from stoker.kube.client import SILENT_SECONDS, KubeClient
from stoker.kube.errors import Gone, KubeError, Unavailable
from stoker.kube.resources import Resource
from stoker.kube.store import Stored

LOG = logging.getLogger(__name__)

FIRST_BACKOFF_SECONDS = 0.5
LONGEST_BACKOFF_SECONDS = 30.0
#: A server ends a watch after about so long; no stream is trusted for longer.
STREAM_SECONDS = 290
#: How much later than asked a server may end a stream that has no bookmarks.
SLACK_SECONDS = 15.0
#: After so many watches in a row that brought nothing but an error, the version we go on from is doubted: list anew.
DOUBTFUL_WATCHES = 3


class Sink(Protocol):
    """Where the objects go; `Store` is one."""

    def put(self, kind: str, new: Stored) -> bool: ...

    def remove(self, kind: str, gone: Stored) -> bool: ...

    def replace(
        self,
        kind: str,
        listed: Iterable[Stored],
        at: str,
        namespace: str = ...,
        covers: Callable[[Stored], bool] = ...,
    ) -> None: ...


class Reflector:
    """One list-and-watch. `run` ends only by cancellation: whatever the API server does, it tries again.

    namespace: empty for all. label_selector: with a label's bare name, several may share a kind in one sink. synced: set
    once the first list is in the sink. heard_at: when the API server last answered on this stream (time.monotonic).
    failures: lists and watches that failed in a row.
    """

    def __init__(
        self,
        client: KubeClient,
        resource: Resource,
        sink: Sink,
        *,
        namespace: str = "",
        label_selector: str = "",
        field_selector: str = "",
    ) -> None:
        self.resource = resource
        self.namespace = namespace
        self.synced = asyncio.Event()
        self.heard_at = time.monotonic()
        self.relists = 0
        self._client = client
        self._sink = sink
        self._path = resource.path(namespace)
        self._labels = label_selector
        # Of two lists of a kind neither may remove what only the other has.
        self._label = (
            label_selector if label_selector.replace("-", "").replace(".", "").replace("/", "").isalnum() else ""
        )
        self._fields = field_selector
        self.failures = 0

    async def run(self) -> None:
        while True:
            try:
                version = await self._list()
                await self._follow(version)
            except Gone as gone:
                LOG.info("watch of %s is too far behind, listing anew: %s", self.resource.plural, gone.message)
                self.failures += 1
                # The first time at once; a server that always answers so must not be hammered.
                if self.failures > 1:
                    await self._pause()
            except KubeError as error:
                await self._failed("list", error)

    async def _list(self) -> str:
        listing = await self._client.list(
            self._path, self.resource.shape, label_selector=self._labels, field_selector=self._fields
        )
        kind = self.resource.kind
        if self._label:
            self._sink.replace(kind, listing.items, listing.resource_version, self.namespace, self._covers)
        else:
            self._sink.replace(kind, listing.items, listing.resource_version, self.namespace)
        self.heard_at = time.monotonic()
        self.relists += 1
        self.synced.set()
        return listing.resource_version

    async def _follow(self, version: str) -> None:
        """Watch from `version` on, over as many streams as it takes; returns when the version is to be doubted."""
        barren = 0
        while barren < DOUBTFUL_WATCHES:
            heard_before = self.heard_at
            seconds = int(STREAM_SECONDS * random.uniform(0.8, 1.0))
            try:
                async for event in self._client.watch(
                    self._path,
                    self.resource.shape,
                    resource_version=version,
                    label_selector=self._labels,
                    field_selector=self._fields,
                    timeout_seconds=seconds,
                    silent_seconds=SILENT_SECONDS if self.resource.bookmarks else seconds + SLACK_SECONDS,
                ):
                    version = event.version or version
                    self._heard()
                    self._take(event.type, event.object)
                if not self.resource.bookmarks:
                    self._heard()  # an end in good order is all that such a stream may bring
                # Another that ends at its time brought bookmarks at least.
                barren = barren + 1 if self.heard_at == heard_before else 0
                if barren:
                    await asyncio.sleep(FIRST_BACKOFF_SECONDS)
            except Gone:
                raise
            except KubeError as error:
                barren = barren + 1 if self.heard_at == heard_before else 0
                await self._failed("watch", error)
        LOG.info("watch of %s brings nothing but errors, listing anew", self.resource.plural)

    def _covers(self, item: Stored) -> bool:
        return self._label in item.metadata.labels

    def _take(self, kind: str, item: Any) -> None:
        if kind == "DELETED":
            self._sink.remove(self.resource.kind, item)
        elif item is not None:
            self._sink.put(self.resource.kind, item)

    def _heard(self) -> None:
        self.heard_at = time.monotonic()
        self.failures = 0

    async def _failed(self, what: str, error: KubeError) -> None:
        self.failures += 1
        LOG.warning("%s of %s failed (%d in a row): %s", what, self.resource.plural, self.failures, error)
        await self._pause(error.retry_after if isinstance(error, Unavailable) else 0.0)

    async def _pause(self, at_least: float = 0.0) -> None:
        doubled = FIRST_BACKOFF_SECONDS * 2.0 ** min(self.failures - 1, 10)
        await asyncio.sleep(max(at_least, min(doubled, LONGEST_BACKOFF_SECONDS)) * random.uniform(0.75, 1.25))
