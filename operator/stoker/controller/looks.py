"""Looks at the pods of nodes that may go soon: each look asks the API server anew, for a cache may be late."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Collection

from stoker.api.kube import Node
from stoker.core.cluster.pool import leaving_since

#: From so long after a node's taint on its pods are looked at in every pass, in seconds; before that, a look is good for
#: this long.
LAST_LOOK_FROM, GOOD_FOR = 5.0, 1.0
#: Looks at a time.
AT_ONCE = 16


class Looks:
    """is_occupied: whether a node has pods that keep it, by name, as the API server says now."""

    def __init__(self, is_occupied: Callable[[str], Awaitable[bool]], clock: Callable[[], float] = time.time) -> None:
        self._is_occupied = is_occupied
        self._clock = clock
        self._turns = asyncio.Semaphore(AT_ONCE)
        #: What was seen lately, and when.
        self._seen: dict[str, tuple[bool, float]] = {}

    async def occupied(self, nodes: Collection[Node]) -> frozenset[str]:
        """Those of the nodes that have pods which keep them."""
        now = self._clock()
        self._seen = {name: seen for name, seen in self._seen.items() if now < seen[1] + GOOD_FOR}
        found = await asyncio.gather(*(self._look(node) for node in nodes))
        return frozenset(node.metadata.name for node, occupied in zip(nodes, found, strict=True) if occupied)

    async def _look(self, node: Node) -> bool:
        name, since = node.metadata.name, leaving_since(node)
        if name in self._seen and (since is None or self._clock() < since + LAST_LOOK_FROM):
            return self._seen[name][0]
        async with self._turns:
            at = self._clock()
            occupied = await self._is_occupied(name)
        self._seen[name] = occupied, at
        return occupied
