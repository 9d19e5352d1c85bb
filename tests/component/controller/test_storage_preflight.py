"""A workspace's store is tried once, at most hourly, and only while it is that namespace's."""

import asyncio
from types import SimpleNamespace
from typing import Any, cast

import pytest

from stoker.controller import asking as asking_module
from stoker.controller.answers import Answers
from stoker.controller.asking import Asking
from stoker.controller.gate import AlwaysOpen
from stoker.core.plan import Answer, Found, Refused, StoragePreflight, Unavailable
from stoker.core.trainingjob.view import WorkspaceView
from stoker.kube.store import Key
from tests.support.loose_store import LooseStore, loose

URL = "s3://bucket/team"
QUESTION = StoragePreflight("team", URL)


class World:
    """An operator's oracle for a namespace whose settings and clock the test has."""

    def __init__(self, store: LooseStore) -> None:
        self.now, self.store = 1_000.0, store
        self.view = WorkspaceView(URL)
        workspaces = SimpleNamespace(view=lambda _: self.view, options=store.options)
        nobody = cast(Any, None)
        self.ask = Asking(cast(Any, workspaces), nobody, nobody, lambda: self.now)

    def tries(self) -> int:
        """How often something was written: each trial has a folder of its own."""
        return len({key.rsplit("/", 1)[0] for key in self.store.written})


async def test_a_good_store_is_tried_once_for_good() -> None:
    with loose() as store:
        world = World(store)
        for hours in (0, 1, 100):
            world.now += hours * 3600.0
            assert Found(True) == await world.ask(QUESTION)

        assert 1 == world.tries()


async def test_missing_promises_are_listed_and_tried_again_after_an_hour_at_the_soonest() -> None:
    with loose("length", "if-match") as store:
        world = World(store)
        first = await world.ask(QUESTION)
        assert isinstance(first, Refused)
        assert ("PromisesMissing", 4600.0) == (first.reason, first.retry_at)
        assert "signed-length does not hold" in first.message
        assert "if-match does not hold" in first.message
        assert "signed-key" not in first.message

        world.now = 4599.0
        assert first == await world.ask(QUESTION)
        assert 1 == world.tries()

        store.breaks.clear()
        world.now = 4600.0
        assert Found(True) == await world.ask(QUESTION)
        assert 2 == world.tries()


async def test_a_store_that_is_away_is_unreachable_and_left_alone_for_an_hour() -> None:
    with loose(refuse=(403, "AccessDenied")) as store:
        world = World(store)
        answer = await world.ask(QUESTION)

    assert isinstance(answer, Unavailable)
    assert ("StorageUnreachable", 4600.0) == (answer.reason, answer.retry_at)
    assert "403 AccessDenied" in answer.message


@pytest.mark.parametrize(
    "view", [WorkspaceView("s3://bucket/elsewhere"), WorkspaceView(URL, problem=("StorageUrlTaken", "team-b's"))]
)
async def test_a_place_that_is_not_the_namespaces_any_more_is_not_written_to(view: WorkspaceView) -> None:
    with loose() as store:
        world = World(store)
        world.view = view

        assert await world.ask(QUESTION) is None
        assert 0 == world.tries()


async def test_a_defect_of_ours_does_not_try_the_store_again_and_again(monkeypatch: pytest.MonkeyPatch) -> None:
    async def broken(*_: Any) -> Any:
        raise ZeroDivisionError

    with loose() as store:
        world = World(store)
        monkeypatch.setattr(asking_module, "check_store", broken)
        with pytest.raises(ZeroDivisionError):
            await world.ask(QUESTION)

        answer = await world.ask(QUESTION)
        assert isinstance(answer, Unavailable)
        assert 4600.0 == answer.retry_at


async def test_a_workspace_that_comes_and_goes_does_not_have_its_store_tried_each_time() -> None:
    with loose("length") as store:
        world = World(store)
        key, woken = Key("Workspace", "team", "default"), asyncio.Event()
        answers = Answers(world.ask, lambda _: woken.set(), AlwaysOpen(), lambda: world.now)
        found: list[Answer] = []
        for _ in range(3):
            woken.clear()
            answers.ask(QUESTION, key)
            async with asyncio.timeout(30):
                await woken.wait()
            found.append(answers.look_up(QUESTION, key))
            answers.forget(key)
            await asyncio.sleep(0)  # a flight ends one turn of the loop after it has told
        await answers.close()

        assert 1 == world.tries()
        assert [found[0]] * 3 == found
        assert isinstance(found[0], Refused)
