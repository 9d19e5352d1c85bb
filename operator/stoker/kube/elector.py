"""Leader election over one Lease: core.lease decides, this reads and writes.

A write carries the resourceVersion that the decision rests on, so of two who take the Lease one is refused. Nothing is
sent twice without a new look: a repeat would meet our own first write and take it for another's.
"""

import asyncio
import logging
import random
import time
from collections.abc import Awaitable, Callable
from typing import Any

from stoker.core.lease import LEASE_SECONDS, RETRY_SECONDS, Decision, Lease, Standing
from stoker.kube.client import KubeClient
from stoker.kube.errors import Conflict, KubeError, NotFound
from stoker.kube.resources import LEASES
from stoker.kube.shapes import LeaseObject

LOG = logging.getLogger(__name__)

#: Half of what a leader has for its renewal: a request that hangs leaves time for another.
REQUEST_SECONDS = 5.0
#: A clean exit waits for so long for the API server to take the Lease back.
RELEASE_SECONDS = 3.0


class LeaseLost(Exception):
    """This replica led and leads no more: its process must end."""


class Elector:
    """One candidate, and the gate of everything that it may write only while it leads.

    client: of its own, with one try per request. me: unique to this process. clock: monotonic seconds; wall: seconds
    since the epoch, for what people read in the Lease.
    """

    def __init__(
        self,
        client: KubeClient,
        namespace: str,
        name: str,
        me: str,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self._client = client
        self._namespace = namespace
        self._name = name
        self._clock = clock
        self._sleep = sleep
        self._wall = wall
        self._standing = Standing(me)
        self._elected = asyncio.Event()
        self._elected_at = 0.0
        self._troubled = False

    # -- the gate

    @property
    def open(self) -> bool:
        """Whether this replica leads at this very moment."""
        return self._standing.leads(self._clock())

    async def wait(self) -> None:
        """Returns once this replica leads; never, when it has led and does not any more."""
        await self._elected.wait()
        if not self.open:
            # The process is about to end. Until then nothing more is begun.
            await asyncio.get_running_loop().create_future()

    @property
    def led_seconds(self) -> float:
        """For how long this replica has led; 0 while it does not."""
        return self._clock() - self._elected_at if self.open else 0.0

    @property
    def leader(self) -> str:
        """Who leads, as the Lease said when it was last read; empty while nobody is known to."""
        return self._standing.observed.holder if self._standing.observed is not None else ""

    # -- the candidate

    async def run(self) -> None:
        """Stand for election and stay elected until cancelled. Raises LeaseLost."""
        while True:
            await self._round()
            self._end_if_lost()
            await self._sleep(self._pause())

    async def release(self) -> None:
        """Close the gate, then give the Lease back so that another takes it at once. For a clean end, after `run`."""
        if not self.open:
            return
        self._standing = self._standing.resigned()
        try:
            async with asyncio.timeout(RELEASE_SECONDS):
                await self._give_back()
        except (KubeError, TimeoutError) as error:
            LOG.warning(
                "cannot release %s, another replica takes over in %.0f s: %s", self, LEASE_SECONDS, _said(error)
            )

    def __str__(self) -> str:
        return f"Lease {self._namespace}/{self._name}"

    def _pause(self) -> float:
        """Spread, so that replicas do not keep step; a leader looks at its clock no later than its time is over."""
        pause = RETRY_SECONDS * random.uniform(0.8, 1.2)
        until = self._standing.valid_until
        return pause if until is None else max(0.0, min(pause, until - self._clock()))

    def _end_if_lost(self) -> None:
        if not self._standing.lost(self._clock()):
            return
        lease = self._standing.observed
        holder = lease.holder if lease is not None and lease.version else ""
        if holder == self._standing.me:
            raise LeaseLost(f"{self} was not renewed in time")
        raise LeaseLost(f"{self} was taken by {holder}" if holder else f"{self} is gone or was emptied")

    async def _round(self) -> None:
        """Look and write once, within the time that there is; what fails is tried again in the next round."""
        self._end_if_lost()
        until = self._standing.valid_until
        seconds = REQUEST_SECONDS if until is None else min(REQUEST_SECONDS, until - self._clock())
        try:
            async with asyncio.timeout(seconds):
                await self._stand()
        except (KubeError, TimeoutError) as error:
            self._tell(error)
        else:
            self._troubled = False

    async def _stand(self) -> None:
        if not self._standing.leads(self._clock()):
            await self._look()
        try:
            await self._act()
        except (Conflict, NotFound):
            # Someone wrote or removed the Lease, or it is our own write whose answer was lost: the Lease tells.
            await self._look()
            if self._standing.valid_until is not None and not self._standing.lost(self._clock()):
                await self._act()

    async def _act(self) -> None:
        match self._standing.decision(self._clock()):
            case Decision.TAKE:
                await self._take()
            case Decision.RENEW:
                await self._write(self._standing.me)

    async def _take(self) -> None:
        lease = self._standing.observed or Lease()
        before = lease.holder
        await self._write(
            self._standing.me,
            acquireTime=_micro_time(self._wall()),
            leaseTransitions=lease.changes + bool(lease.version),
        )
        LOG.info("%s is ours%s", self, f", formerly {before}'s" if before not in ("", self._standing.me) else "")

    async def _look(self) -> None:
        try:
            found = _read(await self._client.get(LEASES.path(self._namespace, self._name), LeaseObject))
        except NotFound:
            self._standing = self._standing.seen(None, self._clock())
        else:
            self._standing = self._standing.seen(found, self._clock())

    async def _write(self, holder: str, **spec: Any) -> None:
        """Write us as the holder into the Lease as it was seen; raises Conflict when it is another one now."""
        sent_at = self._clock()
        made = await self._send(holder, **spec)
        now = self._clock()
        if self._standing.lost(now):
            return
        self._standing = self._standing.wrote(made, sent_at, now)
        if self._standing.leads(now) and not self._elected.is_set():
            self._elected_at = now
            self._elected.set()

    async def _send(self, holder: str, **spec: Any) -> Lease:
        lease = self._standing.observed or Lease()
        spec |= {
            "holderIdentity": holder, "leaseDurationSeconds": int(LEASE_SECONDS),
            "renewTime": _micro_time(self._wall()),
        }  # fmt: skip
        metadata = {"name": self._name, "namespace": self._namespace}
        if not lease.version:
            body = {"apiVersion": LEASES.api_version, "kind": LEASES.kind, "metadata": metadata, "spec": spec}
            return _read(await self._client.create(LEASES.path(self._namespace), body, LeaseObject))
        body = {"metadata": {"resourceVersion": lease.version}, "spec": spec}
        return _read(await self._client.patch(LEASES.path(self._namespace, self._name), body, LeaseObject))

    async def _give_back(self) -> None:
        while True:
            # A renewal may have been cut off on its way: what is there now decides.
            await self._look()
            if self._standing.decision(self._clock()) is not Decision.RENEW:
                return
            try:
                await self._send("")
            except Conflict:
                continue
            LOG.info("%s is released", self)
            return

    def _tell(self, error: Exception) -> None:
        """Log a trouble once, not with each try."""
        if not self._troubled:
            LOG.warning("cannot %s %s: %s", "renew" if self.open else "take", self, _said(error))
        self._troubled = True


def _said(error: Exception) -> str:
    return str(error) or "no answer in time"


def _read(found: LeaseObject) -> Lease:
    spec = found.spec
    return Lease(
        holder=spec.holder_identity or "",
        version=found.metadata.resource_version,
        seconds=float(spec.lease_duration_seconds or LEASE_SECONDS),
        changes=spec.lease_transitions or 0,
    )


def _micro_time(moment: float) -> str:
    whole = int(moment)
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(whole)) + f".{int((moment - whole) * 1e6):06d}Z"
