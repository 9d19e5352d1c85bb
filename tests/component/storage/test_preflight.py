"""Each promise of a store is asked for, a missing one is named, and nothing is left behind."""

import asyncio
import socket
import sys
from pathlib import Path

import pytest

from stoker.storage import preflight
from stoker.storage.objects import BadStoreUrl, StoreOptions, open_store
from stoker.storage.preflight import Preflight, Probe, check_store
from tests.support.loose_store import LooseStore, loose

URL = "s3://bucket/stoker/team"
RANDOM = "0123456789abcdef"
#: What S3 stores are asked, in this order.
ASKED = [
    "clock", "conditional-put", "list", "signed-put", "signed-length", "signed-sha256", "signed-key", "signed-condition",
    "if-match", "multipart", "multipart-abort", "conditional-complete", "delete",
]  # fmt: skip


async def checked(store: LooseStore) -> Preflight:
    return await check_store(URL, RANDOM, store.options)


def fails(found: Preflight) -> list[str]:
    return [probe.name for probe in found.probes if probe.holds is not True]


@pytest.mark.lab
async def test_every_promise_holds_on_versitygw(s3: tuple[str, StoreOptions]) -> None:
    url, options = f"{s3[0]}/preflight", s3[1]

    found = await check_store(url, RANDOM, options)

    assert ("", [], ASKED) == (found.unreachable, fails(found), [probe.name for probe in found.probes]), found
    assert [] == [stored async for stored in open_store(url, options).list()]


async def test_every_promise_holds_on_a_store_that_keeps_them_all() -> None:
    with loose() as store:
        found = await checked(store)

        assert ("", [], ASKED) == (found.unreachable, fails(found), [probe.name for probe in found.probes]), found
        assert ({}, {}) == (store.objects, store.uploads)


async def test_it_writes_only_below_a_folder_of_its_own() -> None:
    with loose() as store:
        store.objects["/bucket/stoker/team/jobs/x/job.json"] = b"{}"
        await checked(store)

        assert {"/bucket/stoker/team/jobs/x/job.json": b"{}"} == store.objects
        assert all(key.startswith(f"/bucket/stoker/team/.stoker-preflight/{RANDOM}/") for key in store.written)
        assert store.written


@pytest.mark.parametrize(
    ("broken", "named"),
    [
        ("if-none-match", ["conditional-put", "signed-condition"]),
        ("complete-condition", ["conditional-complete"]),
        ("if-match", ["if-match"]),
        ("length", ["signed-length"]),
        ("sha256", ["signed-sha256"]),
        ("key", ["signed-key"]),
        ("dropped-header", ["signed-condition"]),
        ("list", ["list"]),
        ("multipart", ["multipart", "multipart-abort", "conditional-complete"]),
    ],
)
async def test_a_missing_promise_is_named_and_nothing_is_left(broken: str, named: list[str]) -> None:
    with loose(broken) as store:
        found = await checked(store)

        assert ("", named) == (found.unreachable, fails(found)), found
        assert ({}, {}) == (store.objects, store.uploads)
        missing = [probe for probe in found.probes if probe.holds is False]
        assert missing
        assert all(probe.detail and probe.promise.startswith("without it ") for probe in missing)


async def test_an_abort_that_does_nothing_is_named() -> None:
    with loose("abort") as store:
        found = await checked(store)

        assert "multipart-abort" in fails(found)
        assert {} == store.objects


async def test_signed_urls_that_never_work_say_so_once_and_leave_the_rest_untold() -> None:
    with loose("signed") as store:
        found = {probe.name: probe for probe in (await checked(store)).probes}

        assert (False, None, None) == tuple(found[name].holds for name in ("signed-put", "signed-length", "multipart"))
        assert "403" in found["signed-put"].detail
        assert True is found["conditional-put"].holds
        assert ({}, {}) == (store.objects, store.uploads)


async def test_what_cannot_be_removed_is_named() -> None:
    with loose("delete") as store:
        found = {probe.name: probe for probe in (await checked(store)).probes}

        assert False is found["delete"].holds
        assert f".stoker-preflight/{RANDOM}/" in found["delete"].detail


@pytest.mark.parametrize("skew", [720.0, -720.0])
async def test_clocks_that_differ_are_told_with_both_times(skew: float, monkeypatch: pytest.MonkeyPatch) -> None:
    with loose(skew=skew) as store:
        found = await check_store(URL, RANDOM, store.options, clock=lambda: 1_800_000_000.0)
        assert "2027-01-15T08:00:00Z" in found.probes[0].detail

        found = await checked(store)

        assert ["clock"] == fails(found)
        assert (
            "720 s" in found.probes[0].detail or "719 s" in found.probes[0].detail or "721 s" in found.probes[0].detail
        )


@pytest.mark.parametrize(("skew", "holds"), [(290.0, True), (310.0, False)])
async def test_five_minutes_are_the_limit(skew: float, holds: bool) -> None:
    with loose(skew=skew) as store:
        assert holds is (await checked(store)).probes[0].holds


async def test_a_store_without_a_date_leaves_the_clock_untold() -> None:
    with loose("date") as store:
        found = (await checked(store)).probes[0]

        assert ("clock", None) == (found.name, found.holds)


async def test_a_store_that_cannot_be_reached_is_one_outcome() -> None:
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        options = StoreOptions(f"http://127.0.0.1:{nobody.getsockname()[1]}", access_key="a", secret_key="s")
        found = await check_store(URL, RANDOM, options)

    assert URL in found.unreachable
    assert [] == [probe for probe in found.probes if probe.holds is not None]


async def test_a_store_that_lets_nobody_in_is_one_outcome() -> None:
    with loose(refuse=(403, "AccessDenied")) as store:
        found = await checked(store)

    assert "403 AccessDenied" in found.unreachable
    assert ["clock"] == [probe.name for probe in found.probes]


async def test_a_refusal_because_of_the_clock_names_both_times() -> None:
    with loose(refuse=(403, "RequestTimeTooSkewed"), skew=1200.0) as store:
        found = await checked(store)

    assert "RequestTimeTooSkewed" in found.unreachable
    assert found.probes[0].detail in found.unreachable


async def test_a_store_that_goes_away_in_the_middle_raises_nothing() -> None:
    with loose(after=9) as store:
        found = await check_store(URL, RANDOM, store.options, seconds=3.0)

    assert found.unreachable
    assert f".stoker-preflight/{RANDOM}/" in found.unreachable


async def test_an_s3_store_without_boto3_is_checked_as_far_as_it_goes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "boto3", None)
    with loose() as store:
        found = {probe.name: probe for probe in (await checked(store)).probes}

    assert (True, True, None) == tuple(found[name].holds for name in ("conditional-put", "clock", "signed-length"))
    assert "pip install 'stoker[server]'" in found["signed-length"].detail


async def test_a_folder_keeps_its_promises_and_stays_as_it_was(tmp_path: Path) -> None:
    root = tmp_path / "store"
    found = await check_store(root.as_uri(), RANDOM)

    assert ["conditional-put", "list", "delete"] == [probe.name for probe in found.probes]
    assert [] == fails(found)
    assert [] == [path for path in root.rglob("*") if path.name != ".incoming"]


async def test_a_folder_that_cannot_be_written_is_one_outcome(tmp_path: Path) -> None:
    (tmp_path / "store").write_text("a file")

    found = await check_store((tmp_path / "store").as_uri(), RANDOM)

    assert "store" in found.unreachable
    assert () == found.probes


async def test_each_probe_is_told_when_it_is_known() -> None:
    told: list[str] = []
    with loose() as store:
        await check_store(URL, RANDOM, store.options, told=lambda probe: told.append(probe.name))

    assert ASKED == told


async def test_a_trial_that_is_cancelled_leaves_nothing() -> None:
    def cancel(probe: Probe) -> None:
        task = asyncio.current_task()
        if probe.name == "multipart" and task is not None:
            task.cancel()

    with loose() as store:
        with pytest.raises(asyncio.CancelledError):
            await check_store(URL, RANDOM, store.options, told=cancel)

        assert store.written
        assert ({}, {}) == (store.objects, store.uploads)


async def test_a_url_that_names_no_store_is_the_callers_mistake() -> None:
    with pytest.raises(BadStoreUrl):
        await check_store("gs://bucket", RANDOM)


def test_every_probe_says_what_is_lost_without_it() -> None:
    assert set(ASKED) == set(preflight.PROMISES)
