"""What a store tells of the use of images."""

import json
import os
from pathlib import Path

import pytest

from stoker.storage import layout, uses
from stoker.storage.objects import ObjectStore, open_store
from stoker.storage.records import BadRecord

A, B, KEY = ("a" * 64, "b" * 64, "c" * 64)


@pytest.fixture
def store(tmp_path: Path) -> ObjectStore:
    return open_store(tmp_path.as_uri())


async def put(store: ObjectStore, folder: Path, key: str, at: float, content: bytes = b"{}") -> None:
    await store.put(key, content)
    os.utime(folder / key, (at, at))


async def test_the_newest_word_of_an_image_or_a_key_counts(store: ObjectStore, tmp_path: Path) -> None:
    await put(store, tmp_path, layout.used(f"sha256:{A}"), 100)
    await put(store, tmp_path, layout.build_log(KEY), 200)
    await put(store, tmp_path, layout.lock(KEY), 300)
    await put(store, tmp_path, layout.try_log(KEY, "2026-01-02T03:04:05Z"), 150)
    await put(store, tmp_path, "environments/used/notes.txt", 400)

    assert {A: 100, KEY: 300} == await uses.last_uses(store)


async def test_a_note_is_renewed_and_forgotten(store: ObjectStore, tmp_path: Path) -> None:
    await put(store, tmp_path, layout.used(f"sha256:{A}"), 100)
    await uses.note_all(store, [f"sha256:{A}", f"sha256:{B}"], "a job")

    noted = await uses.last_uses(store)
    assert {A, B} == set(noted)
    assert noted[A] > 100
    await uses.forget(store, [f"sha256:{A}", f"sha256:{A[1:]}0"])
    assert {B} == set(await uses.last_uses(store))


async def test_runs_name_what_is_anywhere_in_their_records(store: ObjectStore) -> None:
    record = {"image": {"digest": f"sha256:{A}"}, "environment": {"specKey": KEY}}
    await store.put(layout.job_record("iris-0123abcd"), json.dumps(record).encode())
    await store.put(layout.job_result("gone-0123abcd"), b"{}")

    assert {"iris-0123abcd": {A, KEY}, "gone-0123abcd": frozenset()} == await uses.words_of_runs(store)


@pytest.mark.parametrize("content", [b"", b"{", b"\xff"])
async def test_a_record_that_cannot_be_read_names_nobody_knows_what(store: ObjectStore, content: bytes) -> None:
    await store.put(layout.job_record("iris-0123abcd"), content)

    with pytest.raises(BadRecord, match="iris-0123abcd"):
        await uses.words_of_runs(store)
