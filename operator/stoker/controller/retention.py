"""Takes out of each workspace's store, and registry, what its spec.retention does not keep, every few hours, as `stoker gc` and
`stoker env gc` do for people.

What goes is decided by core.retention; storage.removal takes it out, in an order that a kill at any point leaves mendable:
the next look removes what a former one began. A run whose TrainingJob exists stays, as the API server says right before.
"""

import asyncio
import logging
import random
import time
from collections.abc import Callable
from typing import Any

import msgspec

from stoker.api.names import job_key
from stoker.api.workspace import Retention as Wanted
from stoker.api.workspace import Workspace
from stoker.controller.answers import Answers
from stoker.controller.gate import Gate
from stoker.controller.image_retention import ImageRetention
from stoker.controller.workspaces import Workspaces
from stoker.core.plan import Answer, Cleaned, Found, Question, Refused, Retained, Unavailable
from stoker.core.retention import Plan, Policy, Report, but
from stoker.kube.client import KubeClient, Listing
from stoker.kube.errors import KubeError
from stoker.kube.resources import TRAINING_JOBS
from stoker.kube.store import Key, Store
from stoker.storage import removal
from stoker.storage.objects import ObjectStore, StoreError

LOG = logging.getLogger(__name__)

#: A store is looked at so often, and so long after a look that failed (seconds; somewhat spread).
EVERY_SECONDS, AGAIN_SECONDS = 6 * 3600.0, 600.0
#: From the start, or from a change of a Workspace, to the look (seconds).
SOON_SECONDS = 60.0


class Retention:
    """wake: told which Workspace has news. clock: seconds since the epoch. soon: seconds to the first look."""

    def __init__(
        self,
        client: KubeClient,
        store: Store,
        workspaces: Workspaces,
        answers: Answers,
        gate: Gate,
        wake: Callable[[Key], None],
        images: ImageRetention,
        clock: Callable[[], float] = time.time,
        soon: float = SOON_SECONDS,
    ) -> None:
        self._client = client
        self._store = store
        self._workspaces = workspaces
        self._answers = answers
        self._gate = gate
        self._wake = wake
        self._images = images
        self._clock = clock
        self._soon = soon
        self._due: dict[str, float] = {}
        self._alarm = asyncio.Event()
        store.listen(self._changed)

    def _changed(self, kind: str, old: Workspace | None, new: Workspace | None) -> None:
        if kind != "Workspace":
            return
        if new is None:
            self._due.pop(old.metadata.namespace if old is not None else "", None)
        elif old is None or _asked(old) != _asked(new):
            # Time for a slip to be corrected, and for a start to be over.
            self._due[new.metadata.namespace] = self._clock() + self._soon
            self._alarm.set()

    async def run(self) -> None:
        """Look at each store when its time has come; for ever. Raises NotLeading when another replica leads."""
        while True:
            await self._gate.wait()
            self._alarm.clear()
            now = self._clock()
            for namespace in sorted(name for name, due in self._due.items() if due <= now):
                ended = await self.look(namespace)
                self._due[namespace] = self._clock() + ended * random.uniform(0.9, 1.1)
            try:
                await asyncio.wait_for(self._alarm.wait(), self._pause())
            except TimeoutError:
                continue

    def _pause(self) -> float:
        """At most a minute: a wall clock may be stepped."""
        return min(max(0.01, min(self._due.values(), default=60.0 + self._clock()) - self._clock()), 60.0)

    async def look(self, namespace: str) -> float:
        """Remove what goes of a namespace's store and tell it; returns after how many seconds to look again."""
        workspace: Workspace | None = self._store.get("Workspace", namespace, "default")
        view = self._workspaces.view(namespace)
        if workspace is None or workspace.spec.retention is None or view.problem is not None:
            return EVERY_SECONDS
        wanted = workspace.spec.retention
        found: dict[Question, Answer] = {}
        found[Retained(namespace, view.storage_url)] = await self._answer(namespace, wanted)
        if wanted.environment_days is not None:
            # After the runs: an image stays while the record of one names it.
            found[Cleaned(namespace)] = await self._images.clean(namespace, wanted.environment_days)
        for question, answer in found.items():
            self._answers.note(question, answer)
        self._wake(Key("Workspace", namespace, "default"))
        done = all(isinstance(answer, Found) for answer in found.values())
        return EVERY_SECONDS if done else AGAIN_SECONDS

    async def _answer(self, namespace: str, wanted: Wanted) -> Answer:
        again = self._clock() + AGAIN_SECONDS
        try:
            return await self._apply(namespace, self._workspaces.open(namespace), wanted)
        except StoreError as error:
            fix = "see whether the object store answers and what its credentials allow"
            return Unavailable("StorageUnavailable", f"nothing more is removed: {error}", fix, again)
        except KubeError as error:
            message = f"nothing is removed while it is not known which TrainingJobs exist: {error}"
            return Unavailable("ApiServerUnavailable", message, "see whether the API server answers", again)

    async def _apply(self, namespace: str, store: ObjectStore, wanted: Wanted) -> Answer:
        found = await removal.contents(store)
        if strangers := sorted(found.namespaces - {namespace}):
            return Refused(
                "OtherNamespaces",
                f"{store.url} has runs of {', '.join(strangers[:5])}, and whether their TrainingJobs exist is not known here",
                "give each namespace a store of its own, or use `stoker gc --storage URL`",
                self._clock() + AGAIN_SECONDS,
            )
        policy = Policy(wanted.keep_last, wanted.keep_days)
        plan = await removal.make_plan(store, found, policy, self._clock(), *await self._standing(namespace))
        if not plan.runs and not plan.snapshots:
            return Found(Report(self._clock(), held=plan.held))
        # Listed anew: the sizes took their time, and a job may have been submitted that names what was to go.
        return await self._remove(store, but(plan, *await self._standing(namespace)))

    async def _standing(self, namespace: str) -> tuple[set[str], set[str]]:
        """Keys of the TrainingJobs that exist, and the digests that they name, from the API server itself."""
        listing: Listing[dict[str, Any]] = await self._client.list(TRAINING_JOBS.path(namespace))
        live = {job_key(job["metadata"]["name"], job["metadata"]["uid"]) for job in listing.items}
        named = {digest for job in listing.items for digest in removal.digests_in(msgspec.json.encode(job))}
        return live, named

    async def _remove(self, store: ObjectStore, plan: Plan) -> Answer:
        """Carry a plan out. A run that cannot be removed keeps no other from it."""
        runs: list[str] = []
        snapshots = size = 0
        failed: list[str] = []
        for run in plan.runs:
            try:
                done = await removal.remove_run(store, run.what)
            except StoreError as error:
                failed.append(f"{run.what}: {error}")
                continue
            LOG.info("retention: removed run %s of %s, %d bytes: %s", run.what, store.url, done.size, run.reason)
            runs.append(run.what)
            size += done.size
        for one in plan.snapshots:
            if await removal.remove_snapshot(store, one.what, self._clock()):
                LOG.info("retention: removed %s of %s, %d bytes: %s", one.what, store.url, one.size, one.reason)
                snapshots, size = snapshots + 1, size + one.size
        if failed:
            return Unavailable(
                "NotAllRemoved",
                f"{len(failed)} of {len(plan.runs)} runs could not be removed, such as {failed[0]}",
                "see what the store says; it is tried again",
                self._clock() + AGAIN_SECONDS,
            )
        return Found(Report(self._clock(), tuple(runs), snapshots, size, plan.held))


def _asked(workspace: Workspace) -> tuple[object, ...]:
    """What a look rests on."""
    return workspace.spec.retention, workspace.spec.storage, workspace.spec.registry
