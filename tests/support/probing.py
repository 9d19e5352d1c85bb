"""Probes that are served while a test asks them."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from stoker.controller.probes import Probes


@asynccontextmanager
async def probed(probes: Probes) -> AsyncIterator[str]:
    """Serve on a free port; yields the URL."""
    serving = asyncio.create_task(probes.run("127.0.0.1", 0))
    try:
        async with asyncio.timeout(5):
            while not probes.port:  # noqa: ASYNC110 (it has no event)
                await asyncio.sleep(0.005)
        yield f"http://127.0.0.1:{probes.port}"
    finally:
        serving.cancel()
        await asyncio.gather(serving, return_exceptions=True)
        probes.port = 0
