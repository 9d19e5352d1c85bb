"""Notes in each workspace's store which images its jobs use, so that the last use is known when jobs and records are gone.

An image is noted when a job starts with it, once an hour while one runs, and when one ends: at most once an hour, however many
jobs use it. `stoker env gc` reads these notes.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Iterator

from stoker.api.names import FINISHED
from stoker.api.trainingjob import TrainingJob
from stoker.controller.gate import Gate
from stoker.controller.workspaces import Workspaces
from stoker.kube.store import Store
from stoker.storage import uses
from stoker.storage.objects import StoreError

LOG = logging.getLogger(__name__)

#: One image is noted at most so often, and again so soon after a note that could not be written (seconds).
EVERY_SECONDS, AGAIN_SECONDS = 3600.0, 60.0
#: Notes under way at once.
_AT_A_TIME = 8

#: A namespace and the digest of an image that a job of it uses.
Use = tuple[str, str]


class Uses:
    """clock: seconds since the epoch."""

    def __init__(
        self, store: Store, workspaces: Workspaces, gate: Gate, clock: Callable[[], float] = time.time
    ) -> None:
        self._store = store
        self._workspaces = workspaces
        self._gate = gate
        self._clock = clock
        #: When each was noted last, or may be tried again.
        self._next: dict[Use, float] = {}
        self._ended: set[Use] = set()
        self._alarm = asyncio.Event()
        store.listen(self._changed)

    def _changed(self, kind: str, old: TrainingJob | None, new: TrainingJob | None) -> None:
        if kind != "TrainingJob" or (old is None and new is None):
            return
        ends = new is None or new.status.phase in FINISHED
        if ends and (old is None or old.status.phase in FINISHED):
            return  # it had ended before: nothing uses its image
        job = new or old
        if job is not None and (use := used(job)) is not None and self._is_due(use):
            if ends:
                self._ended.add(use)
            self._alarm.set()

    async def run(self) -> None:
        """Note what is used as it changes, and once an hour; for ever. Raises NotLeading when another replica leads."""
        while True:
            await self._gate.wait()
            self._alarm.clear()
            await self.note()
            try:
                await asyncio.wait_for(self._alarm.wait(), AGAIN_SECONDS)
            except TimeoutError:
                continue

    async def note(self) -> None:
        """Note every use whose time has come."""
        now = self._clock()
        self._next = {use: at for use, at in self._next.items() if at > now}
        queue = iter(sorted({*self._running(), *self._ended} - set(self._next)))
        self._ended &= set(self._next)

        async def work() -> None:
            for use in queue:
                await self._note(use)

        await asyncio.gather(*(work() for _ in range(_AT_A_TIME)))

    async def _note(self, use: Use) -> None:
        namespace, digest = use
        try:
            await uses.note(self._workspaces.open(namespace), digest, "a job")
        except StoreError as error:
            LOG.warning("that a job of namespace %s uses %s cannot be noted now: %s", namespace, digest, error)
            self._next[use] = self._clock() + AGAIN_SECONDS
            self._ended.add(use)  # the job may be over when it is tried again
            return
        self._next[use] = self._clock() + EVERY_SECONDS

    def _is_due(self, use: Use) -> bool:
        return self._next.get(use, 0.0) <= self._clock()

    def _running(self) -> Iterator[Use]:
        jobs: Iterator[TrainingJob] = self._store.all("TrainingJob")
        for job in jobs:
            if job.status.phase not in FINISHED and (use := used(job)) is not None:
                yield use


def used(job: TrainingJob) -> Use | None:
    """The image that a job has begun to use, if it was found by its content: others are nobody's to clean up."""
    told = job.status.environment
    if told is None or not told.spec_key or not job.status.attempts:
        return None
    digest = told.image.partition("@")[2]
    return (job.metadata.namespace, digest) if digest.startswith("sha256:") else None
