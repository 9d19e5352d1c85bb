"""Events on our objects, for people: repeated ones are counted in one, and a burst cannot flood the API server.

An ordinary run has none; what machines need is in status.
"""

import asyncio
import hashlib
import logging
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from stoker.api.kube import ObjectMeta
from stoker.kube.bucket import TokenBucket
from stoker.kube.client import KubeClient
from stoker.kube.errors import KubeError
from stoker.kube.resources import EVENTS

LOG = logging.getLogger(__name__)

#: Events per second over time, and at once.
RATE_PER_SECOND, BURST = 5.0, 25.0
#: The same event again is counted, and sent at most so often (seconds).
QUIET_SECONDS = 60.0
MOST_REMEMBERED = 4096
MOST_WAITING = 1000
MOST_MESSAGE = 1024


@dataclass(frozen=True, slots=True)
class Note:
    """An event to be sent. count: how often it happened so far; first, last: seconds since the epoch."""

    metadata: ObjectMeta
    kind: str
    api_version: str
    reason: str
    message: str
    count: int
    first: float
    last: float

    @property
    def name(self) -> str:
        """The same happening on the same object has the same name."""
        what = hashlib.sha256(f"{self.metadata.uid} {self.reason} {self.message}".encode()).hexdigest()[:16]
        return f"{self.metadata.name[:200]}.{what}"

    def manifest(self, component: str) -> dict[str, Any]:
        meta = self.metadata
        return {
            "apiVersion": "v1",
            "kind": "Event",
            "metadata": {"name": self.name, "namespace": meta.namespace or "default"},
            "involvedObject": {
                "apiVersion": self.api_version, "kind": self.kind, "namespace": meta.namespace, "name": meta.name,
                "uid": meta.uid,
            },
            "type": "Warning",
            "reason": self.reason,
            "message": self.message,
            "count": self.count,
            "firstTimestamp": _rfc3339(self.first),
            "lastTimestamp": _rfc3339(self.last),
            "source": {"component": component},
        }  # fmt: skip


class Aggregator:
    """What is to be sent now, if anything. Knows no loop and no clock."""

    def __init__(self) -> None:
        self._seen: OrderedDict[str, tuple[Note, float]] = OrderedDict()  # by name: the note, when sent
        self._bucket = TokenBucket(RATE_PER_SECOND, BURST)

    def note(
        self, metadata: ObjectMeta, kind: str, api_version: str, reason: str, message: str, now: float
    ) -> Note | None:
        """Count one happening; the event to send, or None while it was sent lately or too many are under way."""
        new = Note(metadata, kind, api_version, reason, message[:MOST_MESSAGE], 1, now, now)
        known, sent = self._seen.pop(new.name, (None, float("-inf")))
        if known is not None:
            new = replace(new, count=known.count + 1, first=known.first)
        due = now - sent >= QUIET_SECONDS and self._bucket.take(now)
        self._seen[new.name] = (new, now if due else sent)
        if len(self._seen) > MOST_REMEMBERED:
            self._seen.popitem(last=False)
        return new if due else None


class Recorder:
    """Sends events in the background; one that cannot be sent is lost, for nothing rests on them."""

    def __init__(self, client: KubeClient, component: str, clock: Callable[[], float] = time.time) -> None:
        self._client = client
        self._component = component
        self._clock = clock
        self._aggregator = Aggregator()
        self._waiting: asyncio.Queue[Note] = asyncio.Queue(MOST_WAITING)

    def warn(self, metadata: ObjectMeta, kind: str, api_version: str, reason: str, message: str) -> None:
        """Something on an object that a person should see."""
        note = self._aggregator.note(metadata, kind, api_version, reason, message, self._clock())
        if note is not None and not self._waiting.full():
            self._waiting.put_nowait(note)

    @property
    def waiting(self) -> int:
        """Events that are not sent yet."""
        return self._waiting.qsize()

    async def run(self) -> None:
        while True:
            note = await self._waiting.get()
            path = EVENTS.path(note.metadata.namespace or "default", note.name)
            try:
                await self._client.apply(path, note.manifest(self._component))
            except KubeError as error:
                LOG.info("event %s is lost: %s", note.name, error)


def _rfc3339(moment: float) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(moment))
