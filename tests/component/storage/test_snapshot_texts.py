"""A definition's files are read out of a stored snapshot without fetching all of it."""

import os
from pathlib import Path
from typing import Any, cast

import pytest

from stoker.storage import layout, snapshots
from stoker.storage.objects import NoSuchObject, ObjectStore
from stoker.storage.snapshot import hash_files, scan
from stoker.storage.snapshot_texts import MOST_TEXT_BYTES, NotText, read_texts
from stoker.storage.snapshots import SnapshotCorrupt
from tests.support.trees import tree


async def pushed(store: ObjectStore, root: Path, files: dict[str, Any]) -> str:
    tree(root, files)
    return (await snapshots.push(store, root, hash_files(scan(root)))).digest


async def test_texts_come_as_they_are_and_what_is_not_there_is_none(store: ObjectStore, tmp_path: Path) -> None:
    digest = await pushed(store, tmp_path, {"envs/conda.yaml": "channels: [ä]\n", "train.py": "print(1)\n"})

    found = await read_texts(store, digest, ("envs/conda.yaml", "nowhere.txt"))

    assert {"envs/conda.yaml": "channels: [ä]\n", "nowhere.txt": None} == found


async def test_little_is_fetched_of_a_large_snapshot(store: ObjectStore, tmp_path: Path) -> None:
    tree(tmp_path, {"requirements.txt": "numpy\n"})
    (tmp_path / "weights.bin").write_bytes(os.urandom(8 << 20))
    digest = (await snapshots.push(store, tmp_path, hash_files(scan(tmp_path)))).digest
    fetched = 0

    class Counting:
        url = store.url
        head = store.head

        async def get(self, key: str, start: int = 0, end: int | None = None) -> bytes | None:
            nonlocal fetched
            content = await store.get(key, start, end)
            fetched += len(content or b"")
            return content

    found = await read_texts(cast(ObjectStore, Counting()), digest, ("requirements.txt",))

    assert {"requirements.txt": "numpy\n"} == found
    assert fetched < 2 << 20


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [("a.txt", b"\xff\xfe", "no UTF-8"), ("b.txt", b"x" * (MOST_TEXT_BYTES + 1), "at most")],
)
async def test_what_is_no_small_text_is_named(
    store: ObjectStore, tmp_path: Path, name: str, content: bytes, words: str
) -> None:
    (tmp_path / name).write_bytes(content)
    digest = (await snapshots.push(store, tmp_path, hash_files(scan(tmp_path)))).digest

    with pytest.raises(NotText, match=f"{name}.*{words}"):
        await read_texts(store, digest, (name,))


async def test_a_snapshot_that_is_not_there_or_is_another_is_told(store: ObjectStore, tmp_path: Path) -> None:
    with pytest.raises(NoSuchObject):
        await read_texts(store, "sha256:" + "0" * 64, ("a",))
    digest = await pushed(store, tmp_path / "one", {"a.txt": "one\n"})
    other = await pushed(store, tmp_path / "two", {"a.txt": "two\n"})
    content = await store.get(layout.snapshot_zip(other))
    await store.put(layout.snapshot_zip(digest), content or b"")
    with pytest.raises(SnapshotCorrupt):
        await read_texts(store, digest, ("a.txt",))
