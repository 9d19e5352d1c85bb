"""The record of a name in a store: who has it, and what becomes of it."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from stoker.controller.asking import Asking
from stoker.core.plan import Answer, Found, NameHolder, Refused, Unavailable
from stoker.storage import layout, records
from stoker.storage.file_store import FileStore
from stoker.storage.removal import remove_run

FIRST, SECOND = "iris-11111111", "iris-22222222"


class Place:
    """An operator's oracle over a store of files."""

    def __init__(self, folder: Path) -> None:
        self.now, self.store = 1_000.0, FileStore(folder)
        nobody = cast(Any, None)
        workspaces = SimpleNamespace(open=lambda _: self.store)
        self.asking = Asking(cast(Any, workspaces), nobody, nobody, lambda: self.now)

    async def holder(self, key: str, since: float = 1_000.0) -> Answer:
        return await self.asking(NameHolder("team", "iris", key, since))

    async def began(self, key: str) -> None:
        await records.write_job(self.store, job_record(key))

    async def ended(self, key: str, phase: str = "Completed") -> None:
        await records.write_result(self.store, cast(Any, _who(key) | {
            "phase": phase, "reason": phase, "message": "", "exitCode": 0, "startedAt": None,
            "finishedAt": "2023-11-14T22:13:20Z", "timings": {}, "attempts": [], "outputs": [],
        }))  # fmt: skip


def _who(key: str) -> dict[str, Any]:
    return {"version": 1, "name": "iris", "namespace": "team", "uid": f"{key[-8:]}-0000", "key": key}


def job_record(key: str) -> records.JobRecord:
    limits = {"timeoutSeconds": 60, "graceSeconds": 600, "logBytes": 1, "scratchBytes": None}
    return cast(records.JobRecord, _who(key) | {
        "submittedAt": "2023-11-14T22:13:20Z", "submittedBy": None, "compute": "cpu", "command": "true", "snapshot": None,
        "image": None, "pip": [], "instanceCount": 1, "env": {}, "inputs": {}, "outputs": {}, "limits": limits,
    })  # fmt: skip


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


async def test_the_first_to_ask_has_the_name_and_keeps_it(place: Place) -> None:
    assert Found({"key": FIRST}) == await place.holder(FIRST)
    await place.began(FIRST)
    assert Found({"key": FIRST}) == await place.holder(FIRST)
    await place.ended(FIRST)

    answer = await place.holder(SECOND)

    assert isinstance(answer, Found)
    assert (FIRST, "Completed") == (answer.value["key"], answer.value["result"]["phase"])


async def test_a_run_that_never_began_leaves_its_name_free(place: Place) -> None:
    await place.holder(FIRST)

    assert Found({"key": SECOND}) == await place.holder(SECOND)
    assert Found({"key": SECOND}) == await place.holder(SECOND)


async def test_a_run_deleted_before_its_end_is_waited_for_and_then_told_as_deleted(place: Place) -> None:
    await place.holder(FIRST)
    await place.began(FIRST)
    place.now = 1_719.0
    waits = await place.holder(SECOND)
    assert isinstance(waits, Unavailable)
    assert ("FormerRunEnding", 1_720.0) == (waits.reason, waits.retry_at)

    place.now = 1_720.0
    answer = await place.holder(SECOND)

    assert isinstance(answer, Found)
    assert ("Canceled", "Deleted") == (answer.value["result"]["phase"], answer.value["result"]["reason"])
    assert answer.value["result"] == await records.read_result(place.store, FIRST)


async def test_a_removed_run_gives_its_name_back(place: Place) -> None:
    await place.holder(FIRST)
    await place.began(FIRST)
    await place.ended(FIRST)
    await remove_run(place.store, FIRST)

    assert Found({"key": SECOND}) == await place.holder(SECOND)


@pytest.mark.parametrize("content", [b"", b"{}", b'{"key": 7}', b'{"key": "../x"}', b"\xff", b"[]"])
async def test_a_record_that_nobody_can_read_is_no_free_name(place: Place, content: bytes) -> None:
    await place.store.put(layout.by_name("iris"), content)

    answer = await place.holder(SECOND)

    assert isinstance(answer, Refused)
    assert "RecordUnreadable" == answer.reason
    assert layout.by_name("iris") in answer.message
