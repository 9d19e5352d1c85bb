"""Which builds of environments there are, who wants which, and whose turn it is.

Everything but the wishes is read from Jobs, pods and events; the wishes come back when each object is planned once.
"""

import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from stoker.api.kube import BatchJob, Event, Pod
from stoker.api.names import LABEL_BUILD
from stoker.controller.answers import Answers
from stoker.controller.workspaces import Workspaces
from stoker.core.environment.builds import Build, is_running
from stoker.core.environment.upkeep import UpkeepView
from stoker.core.plan import Action, Create
from stoker.kube.store import Key, Store

#: A build whose Job was asked for a moment ago takes a turn though the Job is not seen yet, in seconds.
STARTING_SECONDS = 10.0


def build_key(namespace: str, label: str) -> Key:
    """The key under which a build is looked after."""
    return Key("Build", namespace, label)


class _Of(Mapping[str, Build]):
    """The builds of one namespace, looked up as a plan asks."""

    __slots__ = ("_builds", "_namespace")

    def __init__(self, builds: "Builds", namespace: str) -> None:
        self._builds, self._namespace = builds, namespace

    def __getitem__(self, label: str) -> Build:
        found = self._builds.look_up(self._namespace, label)
        if found is None:
            raise KeyError(label)
        return found

    def __iter__(self) -> Iterator[str]:
        return iter(self._builds.labels(self._namespace))

    def __len__(self) -> int:
        return len(self._builds.labels(self._namespace))


class Builds:
    """wake: told which key has something new to look at."""

    def __init__(
        self, store: Store, answers: Answers, workspaces: Workspaces, wake: Callable[[Key], None],
        clock: Callable[[], float] = time.time,
    ) -> None:  # fmt: skip
        self._store = store
        self._answers = answers
        self._workspaces = workspaces
        self._wake = wake
        self._clock = clock
        self._wanted: dict[Key, frozenset[str]] = {}
        self._wanters: dict[tuple[str, str], set[Key]] = {}
        self._unwanted_since: dict[tuple[str, str], float] = {}
        self._starting: dict[tuple[str, str], float] = {}
        store.listen(self._changed)

    # -- for planners

    def of(self, namespace: str) -> Mapping[str, Build]:
        """The builds of a namespace by label."""
        return _Of(self, namespace)

    def labels(self, namespace: str) -> frozenset[str]:
        jobs: Iterable[BatchJob] = self._store.builds_within(namespace)
        now = self._clock()
        starting = (label for (place, label), until in self._starting.items() if place == namespace and until > now)
        return frozenset((*(job.metadata.labels[LABEL_BUILD] for job in jobs), *starting))

    def look_up(self, namespace: str, label: str) -> Build | None:
        """The tries of a build; None where there is none and none is being started."""
        jobs: list[BatchJob] = self._store.of_build("Job", namespace, label)
        starting = not jobs and self._starting.get((namespace, label), 0.0) > self._clock()
        if not jobs and not starting:
            return None
        pods: list[Pod] = self._store.of_build("Pod", namespace, label)
        with_pods = {owner.uid for pod in pods if (owner := pod.metadata.controller) is not None}
        bare = (job for job in jobs if job.metadata.uid not in with_pods)
        events: list[Event] = [event for job in bare for event in self._store.about(job.metadata.uid)]
        return Build(tuple(jobs), tuple(pods), tuple(events), starting)

    def view(self, key: Key) -> UpkeepView:
        """What a build's upkeep rests on."""
        namespace, label = key.namespace, key.name
        build = self.look_up(namespace, label) or Build()
        since: float | None = None
        if build.jobs and not self._wanters.get((namespace, label)):
            since = self._unwanted_since.setdefault((namespace, label), self._clock())
        else:
            self._unwanted_since.pop((namespace, label), None)
        registry = self._workspaces.view(namespace).means.registry
        return UpkeepView(namespace, label, build, since, registry, self._answers.known_to(key))

    # -- told by planning

    def planned(self, key: Key, wants: frozenset[str], actions: Iterable[Action]) -> None:
        """What an object wants by its newest plan, and the builds that the plan starts. Called before anything else is
        planned, so that no two plans take the same turn."""
        for action in actions:
            if isinstance(action, Create) and (label := _label(action.manifest)):
                self._starting[key.namespace, label] = self._clock() + STARTING_SECONDS
        former = self._wanted.get(key, frozenset())
        if former == wants:
            return
        if wants:
            self._wanted[key] = wants
        else:
            self._wanted.pop(key, None)
        for label in wants - former:
            self._wanters.setdefault((key.namespace, label), set()).add(key)
            self._unwanted_since.pop((key.namespace, label), None)
        for label in former - wants:
            self._drop(key, label)

    def forget(self, key: Key) -> None:
        """The object has gone."""
        self.planned(key, frozenset(), ())

    def _drop(self, key: Key, label: str) -> None:
        place = (key.namespace, label)
        wanters = self._wanters.get(place, set())
        wanters.discard(key)
        if not wanters:
            self._wanters.pop(place, None)
            self._wake(build_key(*place))

    # -- told by the store

    def _changed(self, kind: str, old: Any, new: Any) -> None:
        if kind == "Event":
            job = self._store.by_uid(new.involved_object.uid) if new is not None else None
            if isinstance(job, BatchJob):
                self._part_changed(job, job, job)
        elif kind in ("Job", "Pod"):
            self._part_changed(new or old, old, new)

    def _part_changed(self, part: Any, old: Any, new: Any) -> None:
        label = part.metadata.labels.get(LABEL_BUILD)
        if label is None:
            return
        namespace = part.metadata.namespace
        if isinstance(part, BatchJob):
            self._starting.pop((namespace, label), None)
        self._wake(build_key(namespace, label))
        for key in self._wanters.get((namespace, label), ()):
            self._wake(key)
        build = self.look_up(namespace, label)
        if build is None or not is_running(build):
            # A turn is free.
            for place, wanters in self._wanters.items():
                if place[0] == namespace and place[1] != label:
                    for key in wanters:
                        self._wake(key)


def _label(manifest: Mapping[str, Any]) -> str:
    label = manifest["metadata"].get("labels", {}).get(LABEL_BUILD, "")
    return str(label) if manifest["kind"] == "Job" else ""
