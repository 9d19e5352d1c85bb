"""Threads for calls that block: those that wait for the store have their own, so that a store that does not answer
keeps nobody from signing, which needs no answer."""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")

#: As many as a boto3 client keeps connections.
STORE_CALLS = 10

_store = ThreadPoolExecutor(STORE_CALLS, thread_name_prefix="store")


async def ask_store(call: Callable[..., T], *arguments: object) -> T:
    """The result of a call that waits for the store."""
    return await asyncio.get_running_loop().run_in_executor(_store, call, *arguments)
