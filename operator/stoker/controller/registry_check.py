"""Tries at the start whether nodes can pull from each registry, and keeps what came of it in a ConfigMap.

Pushing is the operator's, pulling is a node's: a tiny image is pushed, and a pod is made that needs it. A registry from
which a node has pulled is not tried again until a setting or Stoker's version changes.
"""

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from stoker.api.kube import Pod
from stoker.controller.gate import Gate
from stoker.core import registrycheck, times
from stoker.core.registrycheck import CHECKS, CONFIG_MAP, FAILS, OK, UNKNOWN, Outcome
from stoker.kube.client import KubeClient
from stoker.kube.errors import Conflict, Gone, KubeError, NotFound, Rejected
from stoker.kube.resources import CONFIG_MAPS, PODS

LOG = logging.getLogger(__name__)

#: A registry that fails is tried again after so long, twice as long each time, up to the second (seconds).
AGAIN_SECONDS = 15.0
LONGEST_SECONDS = 300.0
#: How long one pod may take. A kubelet tries a failed pull again by itself within this time.
PATIENCE_SECONDS = 180.0
#: A pod that waits is looked at anew so often, for what is told by time and by no event.
LOOK_SECONDS = 10.0


class CannotPush(Exception):
    """The test image did not get into the registry. reason: CamelCase. fix: what a person can do."""

    def __init__(self, reason: str, message: str, fix: str) -> None:
        super().__init__(message)
        self.reason, self.fix = reason, fix


#: Pushes the test image below a registry's `host/path` and returns its reference by digest; raises CannotPush.
Push = Callable[[str], Awaitable[str]]


@dataclass(frozen=True, slots=True)
class Checked:
    """A registry to try. url: `host/path`. own: the chart brought it. settings: as `registrycheck.settings_of` says."""

    url: str
    own: bool
    settings: str


class RegistryCheck:
    """namespace: the operator's own. secrets: names of pull secrets there that the pods get."""

    def __init__(
        self, client: KubeClient, gate: Gate, push: Push, registries: Sequence[Checked], secrets: Sequence[str],
        namespace: str, clock: Callable[[], float] = time.time,
    ) -> None:  # fmt: skip
        self._client = client
        self._gate = gate
        self._push = push
        self._registries = {one.url: one for one in registries}
        self._secrets = tuple(secrets)
        self._namespace = namespace
        self._clock = clock
        self._outcomes: dict[str, Outcome] = {}
        self._written: str | None = None
        self._writing = asyncio.Lock()

    async def run(self) -> None:
        """Until all registries were pulled from, then idle for ever. Raises NotLeading when another replica leads."""
        pause = AGAIN_SECONDS
        while True:
            await self._gate.wait()
            if await self._round():
                break
            await asyncio.sleep(pause)
            pause = min(pause * 2, LONGEST_SECONDS)
        await asyncio.Event().wait()

    async def _round(self) -> bool:
        """Try each registry that is not known to be good; True when all are."""
        try:
            await self._recall()
            settings = {url: one.settings for url, one in self._registries.items()}
            good = registrycheck.holds(tuple(self._outcomes.values()), settings)
            tries = [self._try(one) for url, one in self._registries.items() if url not in good]
            # Each to its end: a registry that cannot be tried must not cut the try of another.
            for error in await asyncio.gather(*tries, return_exceptions=True):
                if error is not None:
                    raise error
            await self._write()
        except KubeError as error:
            LOG.warning("registries cannot be tried now: %s", error)
            return False
        return all(outcome.state == OK for outcome in self._outcomes.values())

    async def _recall(self) -> None:
        """What was found out before, by this process or another one; registries that are no longer ours are forgotten."""
        if self._outcomes or not self._registries:
            return
        found: Mapping[str, Any] = {}
        try:
            found = await self._client.get(CONFIG_MAPS.path(self._namespace, CONFIG_MAP))
        except NotFound:
            LOG.info("ConfigMap %s is not there yet: it will be made", CONFIG_MAP)
        text = (found.get("data") or {}).get(CHECKS, "")
        self._outcomes = {one.registry: one for one in registrycheck.decode(text) if one.registry in self._registries}

    async def _try(self, checked: Checked) -> None:
        """Push, have a node pull, tell each thing that is found out on the way."""
        try:
            image = await self._push(checked.url)
        except CannotPush as error:
            await self._tell(checked, Outcome(checked.url, FAILS, error.reason, str(error), error.fix))
            return
        name = registrycheck.pod_name(checked.url)
        try:
            await self._make_anew(name, registrycheck.pod(checked.url, image, self._secrets, self._namespace))
        except Rejected as error:
            fix = f"let the operator make pods in namespace {self._namespace}: see its quotas and admission policies"
            message = f"the test pod was not let in, so nothing is known yet: {error.message}"
            await self._tell(checked, Outcome(checked.url, UNKNOWN, "PodRejected", message, fix))
            return
        former: Outcome | None = None
        started = self._clock()
        try:
            async for seen in self._follow(name):
                if seen is None:
                    gone = f"pod {name} was deleted before it had pulled"
                    await self._tell(
                        checked, Outcome(checked.url, UNKNOWN, "PodGone", gone, "nothing: it is tried again")
                    )
                    return
                waited = self._clock() - started
                outcome = registrycheck.judge(checked.url, seen, waited, checked.own)
                if outcome is not None:
                    former = registrycheck.merged(former, outcome)
                    await self._tell(checked, former)
                    if former.state == OK or waited > PATIENCE_SECONDS:
                        return
        finally:
            await self._remove(name)

    async def _make_anew(self, name: str, body: Mapping[str, Any]) -> None:
        """The pod, in place of one that a former try left. Its kubelet ends that one without grace."""
        await self._remove(name)
        for _ in range(10):
            try:
                await self._client.create(PODS.path(self._namespace), body, strict=True)
                return
            except Conflict:
                await asyncio.sleep(0.5)  # the former one is still ending
        await self._client.create(PODS.path(self._namespace), body, strict=True)

    async def _remove(self, name: str) -> None:
        try:
            await self._client.delete(PODS.path(self._namespace, name))
        except NotFound:
            return

    async def _follow(self, name: str) -> AsyncIterator[Pod | None]:
        """The pod at each change and every few seconds; None once it is gone. For as long as a try may take."""
        path, selector = PODS.path(self._namespace), f"metadata.name={name}"
        until = self._clock() + PATIENCE_SECONDS + LOOK_SECONDS
        while self._clock() < until:
            listing = await self._client.list(path, Pod, field_selector=selector)
            seen = next((one for one in listing.items if one.metadata.name == name), None)
            yield seen
            if seen is None:
                return
            stream = self._client.watch(
                path, Pod, resource_version=listing.resource_version, field_selector=selector,
                timeout_seconds=int(LOOK_SECONDS),
            )  # fmt: skip
            try:
                # What is told by time needs another look, also where the server ends no stream by itself.
                while True:
                    event = await asyncio.wait_for(anext(stream), LOOK_SECONDS)
                    if event.object is not None and event.object.metadata.name == name:
                        yield None if event.type == "DELETED" else event.object
            except (TimeoutError, StopAsyncIteration, Gone):
                continue

    async def _tell(self, checked: Checked, outcome: Outcome) -> None:
        now = times.rfc3339(self._clock())
        known = self._outcomes.get(checked.url)
        told = registrycheck.stamped(outcome, now, checked.settings)
        if known is None or registrycheck.stamped(known, now, known.settings) != told:
            log = LOG.info if outcome.state == OK else LOG.warning
            log(
                "registry %s: %s: %s%s",
                checked.url,
                outcome.reason,
                outcome.message,
                f"; {outcome.fix}" if outcome.fix else "",
            )
            self._outcomes[checked.url] = told
            await self._write()

    async def _write(self) -> None:
        async with self._writing:
            text = registrycheck.encode([self._outcomes[url] for url in self._registries if url in self._outcomes])
            if text == self._written:
                return
            body = {
                "apiVersion": "v1",
                "kind": "ConfigMap",
                "metadata": {"name": CONFIG_MAP, "namespace": self._namespace},
                "data": {CHECKS: text},
            }
            await self._client.apply(CONFIG_MAPS.path(self._namespace, CONFIG_MAP), body)
            self._written = text
