"""What providers of single machines say, and the orders that go to them.

A provider has no watch: its machines are listed when a pool is planned, and a pool is planned again after a while.
"""

import logging
import time
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from typing import cast

from stoker.core.cluster.machines import Capabilities, LaunchFailure, MachinesView, Tier
from stoker.core.cluster.view import Holding
from stoker.core.plan import LaunchMachines, TerminateMachines
from stoker.nodepools.pool import LaunchError, MachinePool, PoolError

LOG = logging.getLogger(__name__)

#: A list of machines is good for so long, in seconds, unless we order something; shorter while machines come or go.
LIST_SECONDS, BUSY_LIST_SECONDS = 10.0, 1.0
#: What a provider can do changes rarely: asked anew after so long, in seconds.
DESCRIBE_SECONDS = 300.0
#: Failures that are remembered for a pool; the oldest go first.
MOST_FAILURES = 64


@dataclass(slots=True)
class _Seen:
    """What is known of one pool. stale: we have ordered something since it was listed. due: when it is to be listed again
    though nobody asks. held: the machines with jobs, as its provider was last told; None: not told yet."""

    pool: MachinePool
    view: MachinesView | None = None
    stale: bool = True
    due: float = 0.0
    capabilities: Capabilities = field(default_factory=Capabilities)
    described_until: float = 0.0
    held: frozenset[str] | None = None
    failures: dict[str, LaunchFailure] = field(default_factory=dict)


class Machines:
    """The machines of all ComputeClusters whose provider launches single ones."""

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        self._clock = clock
        self._seen: dict[str, _Seen] = {}

    async def view(self, cluster: str, pool: MachinePool) -> MachinesView:
        """The pool's machines, listed a short while ago at most."""
        seen = self._of(cluster, pool)
        now = self._clock()
        if seen.view is None or seen.stale or now >= seen.due:
            seen.view, seen.stale = await self._list(seen, now), False
            busy = any(machine.state != "Running" for machine in seen.view.machines)
            seen.due = now + (BUSY_LIST_SECONDS if busy else LIST_SECONDS)
        return seen.view

    def failures(self, cluster: str) -> tuple[LaunchFailure, ...]:
        """The last answer to each launch that failed."""
        seen = self._seen.get(cluster)
        return tuple(seen.failures.values()) if seen is not None else ()

    def keep_failures(self, cluster: str, tokens: Collection[str]) -> None:
        """Forget the failures of other launches than these: what came of those stands in the status."""
        if (seen := self._seen.get(cluster)) is not None:
            seen.failures = {token: one for token, one in seen.failures.items() if token in tokens}

    def due(self, cluster: str) -> float | None:
        """When the machines are to be listed again; None where there are none to list."""
        seen = self._seen.get(cluster)
        return seen.due if seen is not None else None

    def forget(self, cluster: str) -> None:
        """The pool has gone, or is another one."""
        self._seen.pop(cluster, None)

    async def hold(
        self, cluster: str, pool: MachinePool, view: MachinesView, holdings: Collection[Holding]
    ) -> tuple[str, str] | None:
        """Tell the provider which machines of a view have jobs, if that has changed. What it cannot do is no reason not to plan:
        a reason and a message, None when all is well."""
        seen = self._of(cluster, pool)
        if view.problem is not None:
            return None
        taken = {node for holding in holdings for node in holding.nodes}
        held = frozenset(one.id for one in view.machines if one.node in taken)
        if held == seen.held:
            return None
        try:
            await pool.hold(held)
        except PoolError as error:
            LOG.warning("ComputeCluster %s: machines with jobs are not protected: %s", cluster, error.message)
            return error.reason, f"machines with jobs are not protected from others: {error.message}"
        seen.held = held
        return None

    async def launch(self, cluster: str, pool: MachinePool, order: LaunchMachines) -> float:
        """Have machines launched; when to look again, in seconds since the epoch. A failure is kept for the next plan."""
        seen = self._of(cluster, pool)
        LOG.info(
            "ComputeCluster %s: launch %s: %d of %s, %s",
            cluster,
            order.token,
            order.count,
            order.instance_type,
            order.tier,
        )
        try:
            await pool.launch(
                count=order.count, instance_type=order.instance_type, tier=cast(Tier, order.tier), zone=order.zone,
                atomic=order.atomic, token=order.token,
            )  # fmt: skip
        except LaunchError as error:
            LOG.warning("ComputeCluster %s: launch %s: %s: %s", cluster, order.token, error.reason, error.message)
            seen.failures.pop(order.token, None)
            seen.failures[order.token] = LaunchFailure(
                order.token, error.fault, error.reason, error.message, self._clock(), error.launched
            )
            for oldest in list(seen.failures)[:-MOST_FAILURES]:
                del seen.failures[oldest]
            return self._ordered(seen, 0.0)
        seen.failures.pop(order.token, None)
        return self._ordered(seen, BUSY_LIST_SECONDS)

    async def terminate(self, cluster: str, pool: MachinePool, order: TerminateMachines) -> float:
        """Have machines terminated; when to look again. Raises PoolError."""
        seen = self._of(cluster, pool)
        LOG.info("ComputeCluster %s: terminate %s: %s", cluster, order.token, ", ".join(order.ids))
        seen.stale = True
        await pool.terminate(order.ids, token=order.token)
        return self._ordered(seen, BUSY_LIST_SECONDS)

    def _ordered(self, seen: _Seen, after: float) -> float:
        """Something was ordered: whoever looks next lists anew, and somebody does after so many seconds."""
        seen.stale, seen.due = True, self._clock() + after
        return seen.due

    def _of(self, cluster: str, pool: MachinePool) -> _Seen:
        seen = self._seen.get(cluster)
        if seen is None or seen.pool is not pool:
            # Another spec: what was refused for the former one may do now, but its failures are still to be told.
            seen = self._seen[cluster] = _Seen(pool, failures=seen.failures if seen is not None else {})
        return seen

    async def _list(self, seen: _Seen, now: float) -> MachinesView:
        try:
            if now >= seen.described_until:
                seen.capabilities = await seen.pool.describe()
                seen.described_until = now + DESCRIBE_SECONDS
            machines = await seen.pool.list()
        except PoolError as error:
            return MachinesView(capabilities=seen.capabilities, problem=(error.reason, error.message), at=now)
        return MachinesView(machines, seen.capabilities, warnings=seen.capabilities.warnings, at=now)
