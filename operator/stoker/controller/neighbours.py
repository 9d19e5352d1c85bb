"""What pods that are none of a job's attempts, as a DaemonSet's, ask for on nodes that jobs share."""

import asyncio
import time
from collections.abc import Callable, Collection, Iterable, Mapping
from fractions import Fraction
from typing import Any

import msgspec

from stoker.api.kube import Lean, ObjectMeta
from stoker.api.names import LABEL_ATTEMPT, LABEL_JOB_UID
from stoker.core import podrequests, units
from stoker.kube.client import KubeClient
from stoker.kube.resources import PODS

#: A node is looked at again after so long, in seconds; sooner while it is new and its DaemonSets' pods are still coming.
LOOK_SECONDS, NEW_LOOK_SECONDS, NEW_SECONDS = 60.0, 5.0, 60.0
#: Nodes that are looked at at a time: one request each.
AT_A_TIME = 8

Requests = tuple[tuple[str, str], ...]


class PodNeeds(Lean, frozen=True):
    """A pod of which its labels and what it asks for matter."""

    metadata: ObjectMeta
    spec: dict[str, Any] = msgspec.field(default_factory=dict)


class Neighbours:
    """Keeps what was seen on each node for a while."""

    def __init__(self, client: KubeClient, clock: Callable[[], float] = time.time) -> None:
        self._client = client
        self._clock = clock
        self._seen: dict[str, tuple[Requests, float, float]] = {}  # node -> requests, first look, next look

    async def on(self, nodes: Collection[str]) -> Mapping[str, Requests]:
        """What is asked for on each of these nodes, seen a short while ago at most. Raises KubeError."""
        now = self._clock()
        due = [name for name in nodes if name not in self._seen or now >= self._seen[name][2]]
        for start in range(0, len(due), AT_A_TIME):
            some = due[start : start + AT_A_TIME]
            found = await asyncio.gather(*(self._look(name) for name in some))
            for name, requests in zip(some, found, strict=True):
                first = self._seen[name][1] if name in self._seen else now
                again = LOOK_SECONDS if now >= first + NEW_SECONDS else NEW_LOOK_SECONDS
                self._seen[name] = requests, first, now + again
        return {name: self._seen[name][0] for name in nodes}

    def keep(self, nodes: Collection[str]) -> None:
        """Forget the nodes that are none of these."""
        self._seen = {name: seen for name, seen in self._seen.items() if name in nodes}

    async def _look(self, node: str) -> Requests:
        selector = f"spec.nodeName={node},status.phase!=Succeeded,status.phase!=Failed"
        pods = await self._client.list(PODS.path(), PodNeeds, field_selector=selector)
        return _summed(pod.spec for pod in pods.items if not _is_an_attempts(pod.metadata))


def _is_an_attempts(pod: ObjectMeta) -> bool:
    return LABEL_JOB_UID in pod.labels and LABEL_ATTEMPT in pod.labels


def _summed(specs: Iterable[Mapping[str, Any]]) -> Requests:
    total: dict[str, Fraction] = {}
    for spec in specs:
        for name, amount in (*podrequests.of_pod(spec).items(), ("pods", Fraction(1))):
            total[name] = total.get(name, Fraction(0)) + amount
    # Not rounded down: a little more than is there would be given away.
    return tuple(sorted((name, units.quantity(name, amount + _part(name))) for name, amount in total.items()))


def _part(name: str) -> Fraction:
    return Fraction(999, 10**6) if name == "cpu" else Fraction(999, 1000)
