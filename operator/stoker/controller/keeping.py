"""The loop of what keeps something in the cluster as it has to be: looked at whenever it changes, and now and then."""

import asyncio
import random
from collections.abc import Awaitable, Callable

from stoker.controller.gate import Gate

#: How often there is a look though nothing was heard: whatever others changed meanwhile is put right.
EVERY_SECONDS = 600.0


async def keep(gate: Gate, alarm: asyncio.Event, look: Callable[[], Awaitable[bool]], again_seconds: float) -> None:
    """While this replica leads, look at once, at each alarm, and every ten minutes; for ever.

    look: puts right what is not, and returns False when it could not: the next look is after `again_seconds`.
    """
    while True:
        await gate.wait()
        alarm.clear()
        pause = EVERY_SECONDS if await look() else again_seconds
        try:
            await asyncio.wait_for(alarm.wait(), pause * random.uniform(0.8, 1.2))
        except TimeoutError:
            continue
