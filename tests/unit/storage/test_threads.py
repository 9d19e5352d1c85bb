"""Blocking calls from a loop: answered, heard or not."""

import asyncio
import threading

import pytest

from stoker.storage.threads import Threads


async def test_calls_give_what_they_give_and_raise_what_they_raise() -> None:
    threads = Threads(2)

    assert [0, 1, 4, 9, 16] == await asyncio.gather(*(threads.call(lambda n=n: n * n) for n in range(5)))  # type: ignore[misc]
    with pytest.raises(ZeroDivisionError):
        await threads.call(lambda: 1 / 0)
    assert 7 == await threads.call(lambda: 7), "a thread outlives what a call raised"


async def test_no_more_run_at_once_than_allowed_and_threads_are_kept() -> None:
    threads, barrier, seen = Threads(3), threading.Barrier(3), set()

    def meet() -> None:
        barrier.wait(timeout=30)  # needs three at once, and breaks when there are not
        seen.add(threading.current_thread().name)

    await asyncio.gather(*(threads.call(meet) for _ in range(12)))

    assert 3 == len(seen)


async def test_a_call_that_was_given_up_ends_unheard() -> None:
    threads, go = Threads(1), threading.Event()
    waiting = asyncio.create_task(threads.call(go.wait))
    await asyncio.sleep(0)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting

    go.set()

    assert 1 == await threads.call(lambda: 1)


def test_a_loop_that_is_gone_does_not_end_the_thread() -> None:
    threads, go = Threads(1), threading.Event()

    async def give_up() -> None:
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(threads.call(go.wait), 0.01)

    asyncio.run(give_up())
    go.set()

    assert 1 == asyncio.run(threads.call(lambda: 1))
