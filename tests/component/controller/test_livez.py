"""/livez tells each trouble that only a new process mends."""

import re
import time
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest

from stoker.controller import kopf_front
from stoker.controller.app import DEAF_SECONDS, STUCK_SECONDS, Operator
from stoker.controller.config import Config
from stoker.core.lease import Lease, Standing
from stoker.kube.client import SILENT_SECONDS
from stoker.kube.store import Key
from tests.support.fake_api import kubeconfig
from tests.support.probing import probed

KEY = Key("TrainingJob", "n", "iris")


@pytest.fixture
async def operator(tmp_path: Path) -> AsyncIterator[Operator]:
    """Its parts, put together and not run: what they know of themselves is set by the tests."""
    found = Operator(
        Config(agent_image="agent", server_url="http://server", kubeconfig=kubeconfig(tmp_path, "http://127.0.0.1:1"))
    )
    yield found
    await found.answers.close()
    await found.client.close()
    await found.registry.close()


async def livez(operator: Operator) -> tuple[int, str]:
    async with probed(operator.probes) as url, aiohttp.ClientSession() as session, session.get(f"{url}/livez") as told:
        return told.status, await told.text()


async def test_nothing_to_tell(operator: Operator) -> None:
    assert await livez(operator) == (200, "ok")


@pytest.mark.parametrize("plural", ["pods", "jobs", "events", "nodes", "namespaces"])
async def test_a_stream_that_is_silent_for_too_long(operator: Operator, plural: str) -> None:
    stream = next(one for one in operator.reflectors if one.resource.plural == plural)
    stream.heard_at = time.monotonic() - DEAF_SECONDS - 1
    status, told = await livez(operator)

    assert (status, told.startswith(f"the watch of {plural}")) == (503, True)


def lead(operator: Operator, seconds: float) -> None:
    """As a replica that has led for so long."""
    now = time.monotonic()
    operator.gate._standing = Standing("me", Lease("me", "1"), now, now + 1000)
    operator.gate._elected_at = now - seconds


async def test_a_key_that_no_worker_takes(operator: Operator) -> None:
    lead(operator, 10 * STUCK_SECONDS)
    operator.queue.schedule.add(KEY, time.time() - STUCK_SECONDS - 1)
    status, told = await livez(operator)

    assert (503, True) == (
        status, re.fullmatch(r"TrainingJob/n/iris waits for a worker: all of them are busy, for 30\d s", told) is not None
    )  # fmt: skip


async def test_on_a_replica_that_has_just_been_elected_no_key_is_late(operator: Operator) -> None:
    lead(operator, 1)
    operator.queue.schedule.add(KEY, time.time() - STUCK_SECONDS - 1)

    assert await livez(operator) == (200, "ok")


async def test_a_key_that_a_worker_took_and_does_not_give_back(operator: Operator) -> None:
    began = time.time() - STUCK_SECONDS - 1
    operator.queue.schedule.add(KEY, began)
    operator.queue.schedule.take(began)
    lead(operator, 10 * STUCK_SECONDS)
    status, told = await livez(operator)
    operator.queue.done(KEY)

    assert (status, await livez(operator)) == (503, (200, "ok"))
    assert told.startswith("TrainingJob/n/iris is still worked on: its worker hangs, for 30")


async def test_a_replica_is_ready_once_its_caches_are_whole_and_kopf_has_started(operator: Operator) -> None:
    for reflector in operator.reflectors:
        reflector.synced.set()
    operator.sweeper.synced.set()
    assert ["kopf has not started yet"] == list(operator._unready())
    operator._kopf_started.set()

    assert [] == list(operator._unready())


async def test_a_key_waits_as_long_as_another_replica_leads(operator: Operator) -> None:
    operator.queue.schedule.add(KEY, time.time() - STUCK_SECONDS - 1)

    assert await livez(operator) == (200, "ok")


async def test_a_key_that_is_put_off_for_long_is_no_trouble(operator: Operator) -> None:
    operator.queue.schedule.add_at(KEY, time.time() + 10 * STUCK_SECONDS)

    assert await livez(operator) == (200, "ok")


def test_dead_connections_are_given_up_long_before_the_process_is() -> None:
    kopfs = kopf_front.settings().watching.inactivity_timeout
    assert kopfs is not None
    assert max(kopfs, SILENT_SECONDS) * 2 < DEAF_SECONDS
