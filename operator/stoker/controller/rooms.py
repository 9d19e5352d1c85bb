"""Requests for room that stand with the cluster's autoscaler, and the orders that make and end them."""

import logging
import time
from collections.abc import Callable

from stoker.core.cluster.view import RoomsView
from stoker.core.plan import HandOver, TakeBack
from stoker.nodepools.pool import PoolError, RoomPool

LOG = logging.getLogger(__name__)

#: A list of requests is good for so long, in seconds, unless we change one; then nobody tells us of an answer.
LIST_SECONDS, QUIET_SECONDS = 2.0, 30.0


class Rooms:
    """The requests of all ComputeClusters that own no nodes and ask for room."""

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        self._clock = clock
        self._seen: dict[str, tuple[RoomPool, RoomsView, float]] = {}

    async def view(self, cluster: str, pool: RoomPool) -> RoomsView:
        """The pool's requests, listed a short while ago at most."""
        kept = self._seen.get(cluster)
        now = self._clock()
        if kept is not None and kept[0] is pool and now < kept[2]:
            return kept[1]
        try:
            found = RoomsView(await pool.rooms())
        except PoolError as error:
            found = RoomsView(problem=(error.reason, error.message))
        waits = found.problem is not None or any(one.answer == "Waiting" for one in found.requests.values())
        self._seen[cluster] = (pool, found, now + (LIST_SECONDS if waits else QUIET_SECONDS))
        return found

    def due(self, cluster: str) -> float | None:
        """When the requests are to be looked at again; None where there are none."""
        kept = self._seen.get(cluster)
        return kept[2] if kept is not None and (kept[1].requests or kept[1].problem is not None) else None

    def forget(self, cluster: str) -> None:
        self._seen.pop(cluster, None)

    async def do(self, cluster: str, pool: RoomPool, order: HandOver | TakeBack) -> float:
        """Carry an order out; when to look again. Raises PoolError."""
        self._seen.pop(cluster, None)
        if isinstance(order, HandOver):
            LOG.info("ComputeCluster %s: room for %d of %s/%s", cluster, order.count, order.namespace, order.job)
            await pool.hand_over(order)
        else:
            LOG.info("ComputeCluster %s: no more room for %s/%s", cluster, order.namespace, order.name)
            await pool.take_back(order)
        return self._clock() + LIST_SECONDS
