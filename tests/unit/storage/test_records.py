"""The record of a job: written once, checked, read back; and its log, whole or in pieces."""

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stoker.storage import layout, records
from stoker.storage.objects import ObjectStore, open_store, run

KEY = "iris-0123abcd"


@pytest.fixture
def store(tmp_path: Path) -> ObjectStore:
    return open_store(tmp_path.as_uri())


def job(**changes: Any) -> Any:
    return {
        "version": 1, "name": "iris", "namespace": "ml", "uid": "0123abcd-0000", "key": KEY, "submittedAt": "2026-01-01T00:00:00Z",
        "submittedBy": None, "compute": "cpu", "command": "python train.py", "snapshot": None, "commit": None, "image": None, "pip": [],
        "instanceCount": 1, "env": {}, "inputs": {}, "outputs": {},
        "limits": {"timeoutSeconds": 60, "graceSeconds": 600, "logBytes": 1 << 30, "scratchBytes": None},
    } | changes  # fmt: skip


def result(**changes: Any) -> Any:
    return {
        "version": 1, "name": "iris", "namespace": "ml", "uid": "0123abcd-0000", "key": KEY, "phase": "Completed", "reason": "Completed",
        "message": "", "exitCode": 0, "startedAt": "2026-01-01T00:00:00Z", "finishedAt": "2026-01-01T00:01:00Z", "timings": {"Running": 60},
        "attempts": [], "outputs": [{"path": "outputs/m", "size": 1, "sha256": "0" * 64, "attempt": 1, "rank": 0}],
    } | changes  # fmt: skip


def seal(attempt: int = 1, rank: int = 0, **changes: Any) -> Any:
    return {
        "version": 1, "job": KEY, "attempt": attempt, "rank": rank, "complete": True, "reason": None, "message": "", "exit": None,
        "files": [{"path": "outputs/m", "size": 1, "sha256": "0" * 64}], "missing": [], "sealedAt": "2026-01-01T00:01:00Z", "sealedBy": "server",
    } | changes  # fmt: skip


async def test_records_are_written_once_and_read_back(store: ObjectStore) -> None:
    assert await records.read_job(store, KEY) is None
    assert await records.write_job(store, job(newer={"field": 1}))
    assert not await records.write_job(store, job(command="other"))
    assert await records.write_result(store, result())
    assert not await records.write_result(store, result(phase="Failed"))
    assert await records.write_seal(store, seal())

    assert job(newer={"field": 1}) == await records.read_job(store, KEY), "what a newer writer added is kept"
    assert result() == await records.read_result(store, KEY)
    assert seal() == await records.read_seal(store, KEY, 1, 0)


async def test_a_records_bytes_are_the_same_whatever_the_order(store: ObjectStore) -> None:
    assert (
        b'{\n  "a": 1,\n  "b": "\xc3\xa9"\n}\n'
        == records.encode({"b": "é", "a": 1})
        == records.encode({"a": 1, "b": "é"})
    )


@pytest.mark.parametrize(
    ("record", "field"),
    [
        (job(command=7), "command"),
        (job(version=2), "version 2"),
        (job(limits={}), "limits"),
        ({name: value for name, value in job().items() if name != "compute"}, "compute"),
        (job(inputs=[]), "inputs"),
        (job(env={"A": 1}), "env"),
    ],
)
async def test_a_bad_record_is_refused_before_it_is_sent_and_when_it_is_read(
    store: ObjectStore, record: Any, field: str
) -> None:
    with pytest.raises(records.BadRecord, match=field):
        await records.write_job(store, record)
    assert await store.head(layout.job_record(KEY)) is None
    await store.put(layout.job_record(KEY), records.encode(record))
    with pytest.raises(records.BadRecord, match=rf"{KEY}/job\.json: .*{field}"):
        await records.read_job(store, KEY)


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"\xff", b"null"])
async def test_bytes_that_are_no_record_are_named(store: ObjectStore, content: bytes) -> None:
    await store.put(layout.job_result(KEY), content)

    with pytest.raises(records.BadRecord, match=rf"{KEY}/result\.json"):
        await records.read_result(store, KEY)


@pytest.mark.parametrize("changes", [{"phase": "Done"}, {"exitCode": "0"}, {"outputs": [{"path": "x"}]}])
async def test_a_bad_result_is_refused(store: ObjectStore, changes: dict[str, Any]) -> None:
    with pytest.raises(records.BadRecord):
        await records.write_result(store, result(**changes))


async def test_jobs_and_their_seals_are_listed(store: ObjectStore) -> None:
    for attempt, rank in ((10, 0), (2, 1), (2, 0)):
        await records.write_seal(store, seal(attempt, rank))
    await store.put(layout.std_log(KEY, 3, 0), b"")
    await store.put(layout.job_record("a-00000000"), b"{}")
    await store.put(layout.by_name("iris"), b"")

    assert await records.job_keys(store) == ["a-00000000", KEY]
    assert await records.ranks(store, KEY) == [(2, 0), (2, 1), (3, 0), (10, 0)]
    assert [(one["attempt"], one["rank"]) for one in await records.seals(store, KEY)] == [(2, 0), (2, 1), (10, 0)]


async def pieces(store: ObjectStore, *contents: bytes) -> bytes:
    offset = 0
    for content in contents:
        await store.put(layout.segment(KEY, 1, 0, offset), content)
        offset += len(content)
    return b"".join(contents)


async def test_a_log_is_read_from_its_pieces_while_it_grows(store: ObjectStore) -> None:
    await pieces(store, b"one\n", b"two\n", b"three\n")

    piece = await records.read_log(store, KEY, 1, 0)
    assert (piece.offset, piece.content, piece.complete) == (0, b"one\ntwo\nthree\n", False)
    assert (await records.read_log(store, KEY, 1, 0, 6)).content == b"o\nthree\n"
    end = await records.read_log(store, KEY, 1, 0, 14)
    assert (end.content, end.complete) == (b"", False)


async def test_a_gap_in_the_pieces_ends_the_reading(store: ObjectStore) -> None:
    await store.put(layout.segment(KEY, 1, 0, 0), b"one\n")
    await store.put(layout.segment(KEY, 1, 0, 8), b"three\n")

    assert (await records.read_log(store, KEY, 1, 0)).content == b"one\n"


async def test_the_whole_log_is_complete_at_its_end(store: ObjectStore) -> None:
    await pieces(store, b"one\n")
    await store.put(layout.std_log(KEY, 1, 0), b"one\ntwo\n")

    first = await records.read_log(store, KEY, 1, 0, 0, most=5)
    assert (first.content, first.complete) == (b"one\nt", False)
    second = await records.read_log(store, KEY, 1, 0, 5)
    assert (second.content, second.complete) == (b"wo\n", True)
    assert ((past := await records.read_log(store, KEY, 1, 0, 99)).content, past.complete) == (b"", True)


async def test_a_sealed_rank_without_a_whole_log_ends_where_its_pieces_end(store: ObjectStore) -> None:
    await pieces(store, b"one\n")
    await records.write_seal(store, seal(complete=False, reason="NodeLost"))

    assert (await records.read_log(store, KEY, 1, 0)).content == b"one\n"
    assert (await records.read_log(store, KEY, 1, 0, 4)).complete


async def test_no_log_yet_is_no_error(store: ObjectStore) -> None:
    piece = await records.read_log(store, KEY, 1, 0)

    assert (piece.content, piece.complete) == (b"", False)


@given(
    contents=st.lists(st.binary(min_size=1, max_size=9), max_size=6),
    overlap=st.booleans(),
    offset=st.integers(0, 60),
    most=st.integers(1, 60),
)
def test_any_cut_of_a_log_reads_the_same(
    tmp_path_factory: pytest.TempPathFactory, contents: list[bytes], overlap: bool, offset: int, most: int
) -> None:
    """Pieces may repeat what another holds, as after a restart of ship; what is read is the log all the same."""
    store = open_store(tmp_path_factory.mktemp("log").as_uri())

    async def read() -> None:
        whole = await pieces(store, *contents)
        if overlap and len(whole) > 4:
            await store.put(layout.segment(KEY, 1, 0, len(whole) // 2), whole[len(whole) // 2 :])
        assert whole[offset : offset + most] == (await records.read_log(store, KEY, 1, 0, offset, most)).content

    run(read())
