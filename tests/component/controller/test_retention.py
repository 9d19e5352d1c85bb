"""What a Workspace's retention removes from a real store, and what it never does."""

import asyncio
import contextlib
import os
import time
from collections.abc import AsyncIterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from stoker.api.kube import ObjectMeta
from stoker.api.names import job_key
from stoker.api.workspace import Retention as Wanted
from stoker.api.workspace import Workspace, WorkspaceSpec
from stoker.controller.answers import Answers
from stoker.controller.gate import AlwaysOpen, NotLeading
from stoker.controller.gated_store import GatedStore
from stoker.controller.retention import AGAIN_SECONDS, EVERY_SECONDS, Retention
from stoker.core.environment.cleaning import Report as ImagesReport
from stoker.core.plan import Answer, Cleaned, Found, Retained, Unavailable
from stoker.core.retention import DAY
from stoker.core.trainingjob.view import WorkspaceView
from stoker.kube.client import KubeClient
from stoker.kube.store import Key, Store
from stoker.storage import layout, records, snapshots
from stoker.storage.objects import ObjectStore, open_store
from tests.component.storage.test_removal import UID, Dying, Killed, keep
from tests.support.cli import Cli
from tests.support.fake_api import FakeApi, Fault

JOBS = "/apis/stoker.dev/v1alpha1/namespaces/team/trainingjobs"
NAME = Key("Workspace", "team", "default")


class World:
    """A namespace with a store on disk, and the part of the operator that looks after it."""

    def __init__(self, api: FakeApi, folder: Path, client: KubeClient) -> None:
        self.api, self.folder, self.version = api, folder, 0
        self.store: ObjectStore = open_store(folder.as_uri())
        self.gate = AlwaysOpen()
        self.images: Answer = Found(ImagesReport(0.0))
        self.cleaned: list[tuple[str, float]] = []
        self.objects, self.woken = Store(), asyncio.Queue[Key]()
        self.answers = Answers(cast(Any, None), lambda _: None, self.gate)
        self.view = WorkspaceView(folder.as_uri())
        workspaces = SimpleNamespace(
            view=lambda _: self.view, open=lambda _: GatedStore(self.store, cast(Any, self.gate))
        )
        self.retention = Retention(
            client,
            self.objects,
            cast(Any, workspaces),
            self.answers,
            cast(Any, self.gate),
            self.woken.put_nowait,
            cast(Any, self),
            soon=0.0,
        )

    async def clean(self, namespace: str, days: float) -> Answer:
        """In the place of what looks after the registry."""
        self.cleaned.append((namespace, days))
        return self.images

    def wants(self, **retention: int) -> None:
        self.version += 1
        meta = ObjectMeta(name="default", namespace="team", uid="u", resource_version=str(self.version))
        self.objects.put("Workspace", Workspace(metadata=meta, spec=WorkspaceSpec(retention=Wanted(**retention))))

    async def look(self) -> Answer:
        self.next = await self.retention.look("team")
        return self.answers.look_up(Retained("team", self.view.storage_url), NAME)

    async def ran(self, name: str, **more: Any) -> str:
        """A finished run of the cluster."""
        return await keep(self.store, name, **{"compute": "cpu", **more})

    async def stands(self, name: str, **spec: Any) -> None:
        """Its TrainingJob exists."""
        await self.api.put(f"{JOBS}/{name}", metadata={"uid": UID}, spec=spec)

    async def left(self) -> list[str]:
        return [key[: -len("-01234567")] for key in await records.job_keys(self.store)]

    async def snapshot(self, text: str, days: float) -> str:
        digest = (await snapshots.push_inline(self.store, {"train.py": text})).digest
        ago = time.time() - days * DAY
        for path in (layout.snapshot_zip(digest), layout.snapshot_manifest(digest)):
            os.utime(self.folder / path, (ago, ago))
        return digest


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    api = FakeApi()
    await api.start()
    async with api.client() as client:
        yield World(api, tmp_path / "store", client)
    await api.stop()


def removed(answer: Answer) -> tuple[tuple[str, ...], int]:
    assert isinstance(answer, Found), answer
    return answer.value.runs, answer.value.snapshots


async def test_a_run_goes_that_is_not_kept_and_whose_trainingjob_is_gone(world: World) -> None:
    for name in ("gone", "stands"):
        await world.ran(name)
    await world.ran("open", ended=False)
    await world.stands("stands")
    world.wants(keep_last=0)

    assert ((job_key("gone", UID),), 0) == removed(await world.look())
    assert ["open", "stands"] == await world.left()
    assert (EVERY_SECONDS, NAME) == (world.next, world.woken.get_nowait())
    # The next look finds nothing to do.
    assert ((), 0) == removed(await world.look())


async def test_runs_that_either_rule_keeps_stay(world: World) -> None:
    await world.ran("iris")
    for rules in ({"keep_last": 1}, {"keep_last": 1, "keep_days": 1}, {"keep_last": 0, "keep_days": 36500}, {}):
        world.wants(**rules)
        assert ((), 0) == removed(await world.look())
    world.wants(keep_days=1)

    assert ((job_key("iris", UID),), 0) == removed(await world.look())


async def test_without_retention_nothing_is_looked_at(world: World) -> None:
    await world.ran("iris")
    meta = ObjectMeta(name="default", namespace="team", uid="u", resource_version="1")
    world.objects.put("Workspace", Workspace(metadata=meta))

    assert await world.look() is None
    assert (["iris"], []) == (await world.left(), world.api.requests)


async def test_snapshots_go_that_nothing_names(world: World) -> None:
    unused, young = await world.snapshot("1", 3), await world.snapshot("2", 0.5)
    of_run, of_job = await world.snapshot("3", 3), await world.snapshot("4", 3)
    await world.ran("iris", snapshot=of_run)
    await world.stands("next", command={"code": {"snapshot": of_job}})
    world.wants()

    assert ((), 1) == removed(await world.look())
    kept = [one for one in (unused, young, of_run, of_job) if await snapshots.present(world.store, one)]
    assert [young, of_run, of_job] == kept


async def test_nothing_goes_while_it_is_not_known_which_trainingjobs_exist(world: World) -> None:
    await world.ran("iris")
    world.wants(keep_last=0)
    world.api.outage = Fault(403, "Forbidden")
    answer = await world.look()

    assert ("ApiServerUnavailable", AGAIN_SECONDS) == (getattr(answer, "reason", ""), world.next)
    assert ["iris"] == await world.left()


async def test_what_is_submitted_while_the_look_goes_on_stays(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    await world.ran("iris")
    code = await world.snapshot("1", 3)
    world.wants(keep_last=0)
    listed = world.retention._standing

    async def standing(namespace: str) -> tuple[set[str], set[str]]:
        found = await listed(namespace)
        await world.stands("iris", command={"code": {"snapshot": code}})
        return found

    monkeypatch.setattr(world.retention, "_standing", standing)

    assert ((), 0) == removed(await world.look())
    assert (["iris"], True) == (await world.left(), await snapshots.present(world.store, code))


@pytest.mark.parametrize("after", [False, True])
async def test_killed_at_any_change_the_next_look_does_the_rest(world: World, after: bool) -> None:
    whole = world.store
    for dies_at in range(1, 30):
        await world.ran("gone")
        await world.ran("stands")
        await world.stands("stands")
        code = await world.snapshot("1", 3)
        world.wants(keep_last=0)
        world.store = cast(ObjectStore, Dying(whole, dies_at, after=after))
        try:
            await world.look()
            survived = True
        except Killed:
            survived = False
        world.store = whole
        await world.look()
        assert ["stands"] == await world.left(), dies_at
        assert [] == [one.key async for one in whole.list(layout.job_prefix(job_key("gone", UID)))]
        assert [None, None] == [
            await whole.head(part(code)) for part in (layout.snapshot_zip, layout.snapshot_manifest)
        ]
        if survived:
            return
    pytest.fail("it never came to its end")


async def test_a_replica_that_does_not_lead_removes_nothing(world: World) -> None:
    await world.ran("iris")
    world.wants(keep_last=0)
    world.gate = cast(Any, SimpleNamespace(open=False))
    with pytest.raises(NotLeading):
        await world.look()

    assert ["iris"] == await world.left()


async def test_a_store_with_runs_of_another_namespace_is_left_alone(world: World) -> None:
    await world.ran("iris")
    await world.ran("theirs", namespace="other")
    world.wants(keep_last=0)

    assert "OtherNamespaces" == getattr(await world.look(), "reason", "")
    assert ["iris", "theirs"] == await world.left()


async def test_a_run_that_cannot_be_removed_keeps_no_other_from_it(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    from stoker.storage import removal
    from stoker.storage.objects import StoreRefused

    remove = removal.remove_run

    async def refusing(store: ObjectStore, key: str) -> Any:
        if key.startswith("bad"):
            raise StoreRefused("no right to delete", "AccessDenied")
        return await remove(store, key)

    monkeypatch.setattr(removal, "remove_run", refusing)
    await world.ran("bad")
    await world.ran("good")
    world.wants(keep_last=0)
    answer = await world.look()

    assert ("NotAllRemoved", True) == (getattr(answer, "reason", ""), "bad" in getattr(answer, "message", ""))
    assert (["bad"], AGAIN_SECONDS) == (await world.left(), world.next)


async def test_it_looks_by_itself_and_again_when_the_workspace_changes(world: World) -> None:
    await world.ran("iris")
    world.wants(keep_last=1)
    running = asyncio.create_task(world.retention.run())
    async with asyncio.timeout(10):
        await world.woken.get()
        assert ["iris"] == await world.left()
        world.wants(keep_last=0)
        await world.woken.get()
    running.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await running

    assert [] == await world.left()


async def test_gc_shows_the_same_decision(world: World, tmp_path: Path) -> None:
    for name in ("a", "b"):
        await world.ran(name, compute="local")
    code = await world.snapshot("1", 3)
    cli = Cli(tmp_path, tmp_path / "cache")
    asked = ("gc", "--dry-run", "--storage", str(world.folder), "--keep-last", "1")
    shown = await asyncio.to_thread(lambda: cli.json(*asked))
    world.wants(keep_last=1)

    assert (tuple(one["key"] for one in shown["runs"]), len(shown["snapshots"])) == removed(await world.look())
    assert not await snapshots.present(world.store, code)


async def test_images_are_looked_after_only_where_the_workspace_says_how_long_they_stay(world: World) -> None:
    world.wants(keep_last=3)
    await world.look()
    assert [] == world.cleaned

    world.wants(environment_days=30)
    await world.look()

    assert [("team", 30)] == world.cleaned
    assert world.images == world.answers.look_up(Cleaned("team"), NAME)
    assert EVERY_SECONDS == world.next


async def test_a_registry_that_cannot_be_cleaned_is_tried_again_soon(world: World) -> None:
    world.wants(environment_days=30)
    world.images = Unavailable("RegistryUnavailable", "503", "see")

    assert isinstance(await world.look(), Found), "the store is another matter"
    assert world.images == world.answers.look_up(Cleaned("team"), NAME)
    assert AGAIN_SECONDS == world.next
