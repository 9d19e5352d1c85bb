"""Whatever the API server does to a watch, the store ends up equal to it."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest

from stoker.kube import reflector as reflector_module
from stoker.kube.client import PAGE, TRIES
from stoker.kube.reflector import Reflector
from stoker.kube.resources import PODS as POD_KIND
from stoker.kube.store import Store
from tests.support.fake_api import FakeApi, Fault

PODS = "/api/v1/namespaces/n/pods"


@asynccontextmanager
async def following(api: FakeApi) -> AsyncIterator[tuple[Reflector, Store]]:
    store = Store()
    async with api.client() as client:
        reflector = Reflector(client, POD_KIND, store)
        task = asyncio.create_task(reflector.run())
        try:
            await asyncio.wait_for(reflector.synced.wait(), 5)
            await until(lambda: api.watching == 1)
            yield reflector, store
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)


async def until(true: Callable[[], bool]) -> None:
    """Let the loop turn until it holds."""
    async with asyncio.timeout(5):
        while not true():  # noqa: ASYNC110 (what is waited for has no event)
            await asyncio.sleep(0.002)


def names(store: Store) -> set[str]:
    return {pod.metadata.name for pod in store.all("Pod")}


async def test_it_follows_what_comes_and_goes(api: FakeApi) -> None:
    await api.put(f"{PODS}/a")
    async with following(api) as (_, store):
        await api.put(f"{PODS}/b")
        await api.remove(f"{PODS}/a")
        await until(lambda: names(store) == {"b"})


async def test_a_cut_stream_goes_on_where_it_was_without_a_new_list(api: FakeApi) -> None:
    async with following(api) as (reflector, store):
        await api.put(f"{PODS}/a")
        await until(lambda: names(store) == {"a"})
        await api.send(None)
        await api.put(f"{PODS}/b")

        await until(lambda: names(store) == {"a", "b"})
        assert reflector.relists == 1


async def test_after_410_what_went_meanwhile_goes_here_too(api: FakeApi) -> None:
    for name in "abc":
        await api.put(f"{PODS}/{name}")
    async with following(api) as (reflector, store):
        # Nobody tells: the stream is cut, the objects go, and the history with them.
        api.fail("WATCH", Fault(503), Fault(503))
        await api.send(None)
        await until(lambda: api.watching == 0)
        await api.remove(f"{PODS}/a")
        await api.remove(f"{PODS}/b")
        api.forget_history()

        await until(lambda: names(store) == {"c"})
        assert reflector.relists >= 2


@pytest.mark.parametrize("code", [400, 403, 409, 410, 429, 500, 504])
async def test_an_error_event_does_not_end_it(api: FakeApi, code: int) -> None:
    async with following(api) as (_, store):
        await api.send(
            {"type": "ERROR", "object": {"kind": "Status", "code": code, "reason": "Expired", "message": "old"}}
        )
        await until(lambda: api.watching == 1 and len(api.seen("WATCH")) == 2)
        await api.put(f"{PODS}/a")

        await until(lambda: names(store) == {"a"})


async def test_a_watch_cut_in_the_middle_of_a_line_loses_nothing_of_it(api: FakeApi) -> None:
    async with following(api) as (reflector, store):
        await api.send_half({"type": "ADDED", "object": {"metadata": {"name": "half", "resourceVersion": "999"}}})
        await api.put(f"{PODS}/a")

        await until(lambda: names(store) == {"a"} and len(api.seen("WATCH")) == 2)
        assert reflector.relists == 1


async def test_a_line_that_is_not_json_does_not_end_it(api: FakeApi) -> None:
    async with following(api) as (_, store):
        await api.send({"type": "ADDED", "object": "what?"})
        await api.put(f"{PODS}/a")

        await until(lambda: names(store) == {"a"})


async def test_a_bookmark_moves_the_place_to_go_on_from(api: FakeApi) -> None:
    async with following(api):
        await api.send({"type": "BOOKMARK", "object": {"metadata": {"resourceVersion": "12345"}}})
        await api.send(None)
        await until(lambda: len(api.seen("WATCH")) == 2)

    assert [query["resourceVersion"] for method, _, query in api.requests if method == "WATCH"] == ["100", "12345"]


async def test_watches_that_bring_nothing_but_errors_lead_to_a_new_list(api: FakeApi) -> None:
    async with following(api) as (reflector, _):
        api.fail("WATCH", *[Fault(403, "Forbidden")] * 3)
        await api.send(None)

        await until(lambda: reflector.relists == 2 and api.watching == 1)


async def test_a_list_that_fails_is_tried_until_it_works(api: FakeApi) -> None:
    api.fail("GET", *[Fault(403, "Forbidden")] * 4)
    await api.put(f"{PODS}/a")
    async with following(api) as (_, store):
        assert names(store) == {"a"}


async def test_a_stale_list_takes_nothing_back(api: FakeApi) -> None:
    await api.put(f"{PODS}/a", status={"phase": "Pending"})
    async with following(api) as (reflector, store):
        await api.put(f"{PODS}/a", status={"phase": "Running"})
        await until(lambda: store.get("Pod", "n", "a").status.phase == "Running")
        newest = api.version
        # A list from a cache that lags: older objects at an older version.
        api.objects[f"{PODS}/a"]["metadata"]["resourceVersion"] = "101"
        api.objects[f"{PODS}/a"]["status"] = {"phase": "Pending"}
        api.fail("WATCH", Fault(410, "Expired"))
        await api.send(None)
        await until(lambda: reflector.relists == 2)

        assert (store.get("Pod", "n", "a").status.phase, str(newest)) == (
            "Running", store.get("Pod", "n", "a").metadata.resource_version
        )  # fmt: skip


async def test_a_stale_list_brings_back_nothing_that_was_seen_to_go(api: FakeApi) -> None:
    gone = await api.put(f"{PODS}/a")
    async with following(api) as (reflector, store):
        await api.remove(f"{PODS}/a")
        await until(lambda: names(store) == set())
        gone["metadata"]["resourceVersion"] = "101"
        api.objects[f"{PODS}/a"] = gone
        api.fail("WATCH", Fault(410, "Expired"))
        await api.send(None)
        await until(lambda: reflector.relists == 2)

        assert names(store) == set()


async def test_410_between_the_pages_of_a_list_leaves_no_ghosts(api: FakeApi) -> None:
    for number in range(PAGE + 2):
        await api.put(f"{PODS}/{number}")
    async with following(api) as (reflector, store):
        api.fail("WATCH", Fault(410, "Expired"))
        api.fail("CONTINUE", Fault(410, "Expired"))
        api.vanish(f"{PODS}/0")
        await api.send(None)
        await until(lambda: reflector.relists == 2)

        assert names(store) == {str(number) for number in range(1, PAGE + 2)}


@pytest.mark.parametrize("fault", [Fault(429), Fault(500), Fault(503), Fault(0, cut=True), Fault(200, text="<html>")])
async def test_a_long_burst_ends_nothing_and_leaves_no_ghosts(api: FakeApi, fault: Fault) -> None:
    for name in "ab":
        await api.put(f"{PODS}/{name}")
    async with following(api) as (_, store):
        api.fail("WATCH", Fault(410), *[fault] * 3)
        api.fail("GET", *[fault] * 2 * TRIES)
        await api.send(None)
        await until(lambda: api.watching == 0)
        await api.remove(f"{PODS}/a")
        api.forget_history()
        await api.put(f"{PODS}/c")

        await until(lambda: names(store) == {"b", "c"} and api.watching == 1)


async def test_a_server_that_is_away_and_comes_back_without_history_leaves_no_ghosts(api: FakeApi) -> None:
    for name in "ab":
        await api.put(f"{PODS}/{name}")
    async with following(api) as (reflector, store):
        await api.stop()
        await until(lambda: reflector.failures >= 3)
        await api.remove(f"{PODS}/a")
        api.forget_history()
        await api.start(api.port)

        await until(lambda: names(store) == {"b"})


async def test_a_stream_that_stays_silent_is_not_heard(api: FakeApi, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reflector_module, "SILENT_SECONDS", 0.02)
    async with following(api) as (reflector, _):
        heard = reflector.heard_at
        await until(lambda: reflector.failures >= 2)

        assert reflector.heard_at == heard
