"""That a job uses an image is kept in its namespace's store, with few writes, and outlives the job."""

import asyncio
import contextlib
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from stoker.api.kube import ObjectMeta
from stoker.api.trainingjob import AttemptStatus, ImageStatus, TrainingJob, TrainingJobSpec, TrainingJobStatus
from stoker.controller.gate import AlwaysOpen
from stoker.controller.uses import AGAIN_SECONDS, EVERY_SECONDS, Uses
from stoker.kube.store import Store
from stoker.storage import layout
from stoker.storage.objects import StoreUnavailable, open_store

A, B = (f"sha256:{letter * 64}" for letter in "ab")
KEY = "c" * 64


class World:
    """Jobs of a namespace, and its store, which counts what is written."""

    def __init__(self, folder: Path) -> None:
        self.now, self.version, self.down = 1_000_000.0, 0, False
        self.written: list[str] = []
        self.wrote = asyncio.Event()
        self.objects, self.store = Store(), open_store(folder.as_uri())
        self.uses = Uses(
            self.objects, cast(Any, SimpleNamespace(open=lambda _: self)), cast(Any, AlwaysOpen()), lambda: self.now
        )

    async def put(self, key: str, content: bytes) -> bool:
        if self.down:
            raise StoreUnavailable("not now")
        self.written.append(key)
        self.wrote.set()
        return await self.store.put(key, content)

    def job(self, name: str, phase: str = "Running", digest: str = A, spec_key: str = KEY, attempts: int = 1) -> None:
        self.version += 1
        meta = ObjectMeta(name=name, namespace="team", uid=name, resource_version=str(self.version))
        status = TrainingJobStatus(
            phase=cast(Any, phase), attempts=(AttemptStatus(number=1),) * attempts,
            environment=ImageStatus(spec_key=spec_key, image=f"r/environments@{digest}"),
        )  # fmt: skip
        self.objects.put("TrainingJob", TrainingJob(metadata=meta, spec=TrainingJobSpec(), status=status))

    def gone(self, name: str) -> None:
        self.objects.remove("TrainingJob", self.objects.get("TrainingJob", "team", name))

    async def noted(self) -> list[str]:
        self.written.clear()
        await self.uses.note()
        return list(self.written)


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


def paths(*digests: str) -> list[str]:
    return [layout.used(digest) for digest in digests]


async def test_many_jobs_with_one_image_are_one_write(world: World) -> None:
    for number in range(20):
        world.job(f"iris-{number}")
    world.job("other", digest=B)

    assert paths(A, B) == sorted(await world.noted())
    assert [] == await world.noted()
    content = await world.store.get(layout.used(A))
    assert content is not None
    assert A == json.loads(content)["digest"]


async def test_an_image_is_noted_again_every_hour_while_a_job_runs_and_when_it_ends(world: World) -> None:
    world.job("iris")
    await world.noted()
    world.now += EVERY_SECONDS - 1
    assert [] == await world.noted()
    world.now += 1
    assert paths(A) == await world.noted()
    world.now += EVERY_SECONDS
    world.job("iris", "Completed")
    assert paths(A) == await world.noted()
    world.now += EVERY_SECONDS
    assert [] == await world.noted()


async def test_a_job_that_is_deleted_while_it_runs_counts(world: World) -> None:
    world.job("iris")
    await world.noted()
    world.now += EVERY_SECONDS
    world.gone("iris")

    assert paths(A) == await world.noted()


async def test_only_images_that_were_found_by_content_and_that_a_job_began_with_are_noted(world: World) -> None:
    world.job("given", spec_key="")
    world.job("waits", "Preparing", attempts=0)
    world.job("ended-long-ago", "Completed")

    assert [] == await world.noted()


async def test_a_store_that_is_away_is_tried_again(world: World) -> None:
    world.job("iris")
    world.down = True
    assert [] == await world.noted()
    world.down = False
    world.job("iris", "Completed")
    assert [] == await world.noted()
    world.now += AGAIN_SECONDS
    assert paths(A) == await world.noted()
    world.now += EVERY_SECONDS
    assert [] == await world.noted()


async def test_a_change_is_noted_at_once(world: World) -> None:
    running = asyncio.create_task(world.uses.run())
    try:
        await asyncio.sleep(0)
        world.job("iris")
        async with asyncio.timeout(5):
            await world.wrote.wait()
    finally:
        running.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await running
    assert paths(A) == world.written
