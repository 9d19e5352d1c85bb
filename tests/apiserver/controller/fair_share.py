"""Two namespaces on a full pool whose nodes fall free at a steady pace: who takes them, and how soon.

The control plane, the operator, the Job controller and the scheduler are real; kwok plays the nodes, and this module the
pods' part: it seals one running pod after the other and lets it end.
"""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass, field
from typing import Any

import aiohttp

from lab import Lab
from lab.sealer import Sealer
from stoker.api.kube import BatchJob, Pod
from stoker.api.names import LABEL_JOB, LABEL_JOB_UID
from stoker.kube.client import KubeClient
from stoker.kube.errors import Gone, Unavailable
from stoker.storage.objects import StoreOptions, open_store

POOL = "fair"
_CHILDREN = "/apis/batch/v1/jobs"
#: POSTs of jobs at a time.
IN_FLIGHT = 16


@dataclass(frozen=True)
class Contest:
    """How many jobs of which namespaces want how many nodes, and how many nodes fall free a second. after: how many more
    nodes must be taken once the few are served."""

    big: str
    small: str
    many: int
    few: int
    nodes: int = 24
    pace: float = 2.0
    after: int = 20


@dataclass
class Seen:
    """What happened, in seconds of one clock. Jobs are (namespace, name).

    submitted: its POST was sent. taken: its child, which names its node, was seen. bound: its pod was seen on the node.
    freed: its pod was seen to have ended.
    """

    submitted: dict[tuple[str, str], float] = field(default_factory=dict)
    taken: dict[tuple[str, str], float] = field(default_factory=dict)
    bound: dict[tuple[str, str], float] = field(default_factory=dict)
    freed: dict[tuple[str, str], float] = field(default_factory=dict)

    def delays(self, namespace: str) -> list[float]:
        """Of each job of a namespace, in the order in which they took nodes: seconds since the next node fell free.

        The next: the first after the job was submitted that no job of the namespace before it counts as its own.
        """
        jobs = sorted((at, job) for job, at in self.taken.items() if job[0] == namespace)
        free = iter(sorted(self.freed.values()))
        found = []
        for at, job in jobs:
            fell = next((moment for moment in free if moment > self.submitted[job]), None)
            found.append(0.0 if fell is None else max(0.0, at - fell))
        return found

    def taken_by(self, namespace: str, since: float = 0.0, until: float = float("inf")) -> int:
        """How many jobs of a namespace took a node in that time."""
        return sum(job[0] == namespace and since <= at <= until for job, at in self.taken.items())

    def last(self, namespace: str) -> float:
        """When the last job of a namespace that took a node did so."""
        return max(at for job, at in self.taken.items() if job[0] == namespace)


class Player(Sealer):
    """Notes when each job takes a node and when its pod has ended; ends one pod for each `let_go`."""

    def __init__(self, kube: KubeClient, http: aiohttp.ClientSession, store: Any, seen: Seen) -> None:
        super().__init__(kube, http, "", store)
        self._happened = seen
        self._leave = asyncio.Semaphore(0)
        self._news = asyncio.Event()

    def let_go(self) -> None:
        """One more running pod may end; none, if none runs that waits to."""
        if self._leave.locked():
            self._leave.release()

    async def until(self, true: Any, what: str, seconds: float) -> None:
        """Wait for something that comes with news of a pod; raises TimeoutError that says what did not come."""
        try:
            async with asyncio.timeout(seconds):
                while not true():
                    self._news.clear()
                    await self._news.wait()
        except TimeoutError:
            raise TimeoutError(f"not within {seconds:.0f} s: {what}") from None

    async def _note(self, pod: Pod, tasks: asyncio.TaskGroup) -> None:
        job = (pod.metadata.namespace, pod.metadata.labels[LABEL_JOB])
        if pod.spec.node_name:
            self._happened.bound.setdefault(job, time.monotonic())
            self._news.set()
        if pod.status.phase in ("Succeeded", "Failed"):
            self._happened.freed.setdefault(job, time.monotonic())
        await super()._note(pod, tasks)

    async def follow_children(self) -> None:
        """Note the children that come, for ever."""
        while True:
            with contextlib.suppress(Gone, Unavailable):  # listed anew
                listing = await self._kube.list(_CHILDREN, BatchJob, label_selector=LABEL_JOB_UID)
                for child in listing.items:
                    self._note_child(child)
                async for event in self._kube.watch(
                    _CHILDREN, BatchJob, resource_version=listing.resource_version, label_selector=LABEL_JOB_UID
                ):
                    if event.object is not None:
                        self._note_child(event.object)

    def _note_child(self, child: BatchJob) -> None:
        self._happened.taken.setdefault((child.metadata.namespace, child.metadata.labels[LABEL_JOB]), time.monotonic())
        self._news.set()

    async def _seal(self, pod: Pod) -> None:
        await self._leave.acquire()
        await super()._seal(pod)


def pool(nodes: int) -> list[dict[str, Any]]:
    """The manifests of a pool of kwok nodes, and of the ComputeCluster over them."""
    size = {"cpu": "8", "memory": "32Gi"}
    return [
        {
            "apiVersion": "lab.stoker.dev/v1", "kind": "NodePool", "metadata": {"name": POOL},
            "spec": {"replicas": nodes, "kind": "Kwok", "labels": {"pool": POOL}, "capacity": {**size, "pods": "50"}},
        },
        {
            "apiVersion": "stoker.dev/v1alpha1", "kind": "ComputeCluster", "metadata": {"name": POOL},
            "spec": {
                "provider": {"type": "Static", "static": {"nodeSelector": {"pool": POOL}}},
                "maxInstances": nodes, "allowedNamespaces": {},
                "instanceTypes": [{"name": "std", "resources": size}],
            },
        },
    ]  # fmt: skip


async def play(lab: Lab, contest: Contest) -> Seen:
    """Fill the pool, submit the rest of the many and then the few, free nodes at the pace, and see who takes them.

    Raises TimeoutError when a node is not taken within a minute.
    """
    seen = Seen()
    async with _player(lab, seen) as (kube, player):
        big = [(contest.big, f"many-{number}") for number in range(contest.many)]
        small = [(contest.small, f"few-{number}") for number in range(contest.few)]
        await _submit(kube, lab, big[: contest.nodes], seen)
        await player.until(lambda: len(seen.bound) == contest.nodes, "the pool is full", 120)
        pacing = asyncio.create_task(_pace(player, contest.pace))
        try:
            # The few come last, so age speaks against them.
            await _submit(kube, lab, [*big[contest.nodes :], *small], seen)
            seconds = 60 + contest.few / contest.pace
            served = lambda: seen.taken_by(contest.small) == contest.few  # noqa: E731
            await player.until(served, f"all {contest.few} of {contest.small} have a node", seconds)
            goal = min(len(seen.taken) + contest.after, contest.many + contest.few)
            seconds = 60 + contest.after / contest.pace
            await player.until(lambda: len(seen.taken) >= goal, "the many go on", seconds)
        finally:
            pacing.cancel()
            await asyncio.gather(pacing, return_exceptions=True)
    return seen


@contextlib.asynccontextmanager
async def _player(lab: Lab, seen: Seen) -> AsyncIterator[tuple[KubeClient, Player]]:
    s3 = lab.s3
    options = StoreOptions(s3.endpoint, s3.region, s3.access_key, s3.secret_key)
    store = open_store(f"s3://{s3.bucket}", options)
    kube = KubeClient.from_kubeconfig(lab.kubeconfig, user_agent="stoker-fair-share")
    async with kube, aiohttp.ClientSession() as http:
        player = Player(kube, http, store, seen)
        following = [asyncio.create_task(player.follow()), asyncio.create_task(player.follow_children())]
        try:
            yield kube, player
        finally:
            for one in following:
                one.cancel()
            await asyncio.gather(*following, return_exceptions=True)


async def _pace(player: Player, pace: float) -> None:
    """Let nodes fall free, so many a second."""
    while True:
        await asyncio.sleep(1 / pace)
        player.let_go()


async def _submit(kube: KubeClient, lab: Lab, jobs: Iterable[tuple[str, str]], seen: Seen) -> None:
    """POST jobs in this order, several at a time."""
    places = asyncio.Semaphore(IN_FLIGHT)

    async def post(namespace: str, name: str) -> None:
        body = {
            "apiVersion": "stoker.dev/v1alpha1", "kind": "TrainingJob", "metadata": {"name": name},
            "spec": {
                "compute": POOL,
                "command": {"command": "true", "environment": {"spec": {"image": lab.images["base"]}}},
            },
        }  # fmt: skip
        async with places:
            seen.submitted[namespace, name] = time.monotonic()
            await kube.create(f"/apis/stoker.dev/v1alpha1/namespaces/{namespace}/trainingjobs", body)

    async with asyncio.TaskGroup() as posts:
        for namespace, name in jobs:
            posts.create_task(post(namespace, name))
