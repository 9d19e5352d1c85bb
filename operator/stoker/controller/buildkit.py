"""Wakes a namespace's BuildKit when a build there needs it, and lets it sleep when none has for a while.

The Jobs of builds say who needs it; what a daemon is made of is core's. Nothing about it is stored: after a restart a
daemon that runs and is not needed counts as idle from then on.
"""

import asyncio
import logging
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from stoker.api.kube import BatchJob
from stoker.api.names import ANNOTATION_BUILDKIT
from stoker.api.workspace import Workspace
from stoker.controller.gate import Gate, NotLeading
from stoker.core.environment.buildkit import (
    COMPONENT,
    LABEL_FOR,
    NAMESPACE,
    Daemons,
    Need,
    labels,
    objects,
    replicas,
    sleeps_at,
)
from stoker.kube.client import KubeClient
from stoker.kube.errors import KubeError, NotFound
from stoker.kube.store import Store

LOG = logging.getLogger(__name__)

AGAIN_SECONDS = 10.0
_SELECTOR = f"app.kubernetes.io/component={COMPONENT},{LABEL_FOR}"
_PATHS = {
    "ConfigMap": f"/api/v1/namespaces/{NAMESPACE}/configmaps",
    "Service": f"/api/v1/namespaces/{NAMESPACE}/services",
    "NetworkPolicy": f"/apis/networking.k8s.io/v1/namespaces/{NAMESPACE}/networkpolicies",
    "StatefulSet": f"/apis/apps/v1/namespaces/{NAMESPACE}/statefulsets",
}


class BuildKits:
    """The daemons of all namespaces."""

    def __init__(
        self,
        client: KubeClient,
        store: Store,
        daemons: Daemons,
        gate: Gate,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._client = client
        self._store = store
        self._daemons = daemons
        self._gate = gate
        self._clock = clock
        #: Running or waiting builds that need BuildKit, by namespace.
        self._builds: dict[str, set[str]] = {}
        self._idle_since: dict[str, float] = {}
        #: What was asked for last, by namespace.
        self._asked: dict[str, tuple[dict[str, Any], ...]] = {}
        self._gone: set[str] = set()
        self._looked = False
        self._alarm = asyncio.Event()
        store.listen(self._changed)

    def _changed(self, kind: str, old: Any, new: Any) -> None:
        if kind == "Namespace" and new is None and old is not None:
            self._gone.add(old.metadata.name)
            self._alarm.set()
        elif kind == "Job":
            self._job(new if new is not None else old, there=new is not None)

    def _job(self, job: BatchJob, *, there: bool) -> None:
        if job.metadata.annotations.get(ANNOTATION_BUILDKIT) != "true":
            return
        namespace, builds = job.metadata.namespace, self._builds.setdefault(job.metadata.namespace, set())
        before = bool(builds)
        if there and not _ended(job):
            builds.add(job.metadata.name)
        else:
            builds.discard(job.metadata.name)
        if bool(builds) != before:
            self._idle_since.pop(namespace, None)
            if not builds:
                self._idle_since[namespace] = self._clock()
            self._alarm.set()

    async def run(self) -> None:
        """Look at once, whenever builds come and go, and when a daemon may sleep; for ever."""
        while True:
            await self._gate.wait()
            self._alarm.clear()
            try:
                pause = await self.once()
            except NotLeading:
                # Another replica asked for other things meanwhile: look anew when it is our turn again.
                self._looked, pause = False, AGAIN_SECONDS
            except KubeError as error:
                LOG.warning("BuildKit in %s: %s", NAMESPACE, error)
                pause = AGAIN_SECONDS
            try:
                await asyncio.wait_for(self._alarm.wait(), pause)
            except TimeoutError:
                continue

    async def once(self) -> float | None:
        """Do what is to be done now; in how many seconds to look again, None: when something happens."""
        if not self._looked:
            await self._look()
        for namespace in sorted(self._gone):
            await self._remove(namespace)
        for namespace in sorted({*self._builds, *self._idle_since}):
            await self._keep(namespace)
        return self._until_next_sleep()

    async def _look(self) -> None:
        """What a former leader left: it runs until it has been idle here."""
        found = await self._client.list(_PATHS["StatefulSet"], dict, label_selector=_SELECTOR)
        self._asked.clear()
        for one in found.items:
            namespace = one["metadata"]["labels"][LABEL_FOR]
            if self._store.count("Namespace") and self._store.get("Namespace", "", namespace) is None:
                self._gone.add(namespace)
            elif one["spec"].get("replicas") and not self._builds.get(namespace):
                self._idle_since.setdefault(namespace, self._clock())
        self._looked = True

    def _need(self, namespace: str) -> Need:
        return Need(len(self._builds.get(namespace, ())), self._idle_since.get(namespace))

    async def _keep(self, namespace: str) -> None:
        need = self._need(namespace)
        count = replicas(need, self._daemons, self._clock())
        if not need.builds and need.since_idle is None:
            return  # no build here ever needed it
        wanted = objects(namespace, self._daemons_of(namespace), count)
        if self._asked.get(namespace) == wanted:
            return
        for manifest in wanted:
            path = f"{_PATHS[manifest['kind']]}/{manifest['metadata']['name']}"
            await self._client.apply(path, manifest, dict)
        self._asked[namespace] = wanted
        LOG.info("BuildKit of %s: %s", namespace, "wakes up" if count else "goes to sleep")
        if not count:
            self._idle_since.pop(namespace, None)
            self._builds.pop(namespace, None)

    def _daemons_of(self, namespace: str) -> Daemons:
        """With the namespace's own registries that speak http."""
        workspace: Workspace | None = self._store.get("Workspace", namespace, "default")
        if workspace is None:
            return self._daemons
        own = (workspace.spec.registry, *workspace.spec.global_registries)
        plain = {place.url.partition("/")[0]: ("", True) for place in own if place is not None and place.insecure}
        return replace(self._daemons, registries={**plain, **self._daemons.registries})

    async def _remove(self, namespace: str) -> None:
        """Everything of a namespace that has gone; the claim goes with the StatefulSet."""
        selector = ",".join(f"{name}={value}" for name, value in labels(namespace).items())
        for path in reversed(_PATHS.values()):
            for one in (await self._client.list(path, dict, label_selector=selector)).items:
                try:
                    await self._client.delete(f"{path}/{one['metadata']['name']}", uid=one["metadata"]["uid"])
                except NotFound:
                    continue
        for known in (self._builds, self._idle_since, self._asked):
            known.pop(namespace, None)
        self._gone.discard(namespace)

    def _until_next_sleep(self) -> float | None:
        """Seconds; None: nothing runs that could sleep."""
        times = [sleeps_at(self._need(namespace), self._daemons) for namespace in self._idle_since]
        due = [at for at in times if at is not None]
        return max(min(due) - self._clock(), 0.0) if due else None


def _ended(job: BatchJob) -> bool:
    if job.metadata.deletion_timestamp is not None:
        return True
    return any(one.type in ("Complete", "Failed") and one.status == "True" for one in job.status.conditions)
