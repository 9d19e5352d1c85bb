"""Snapshots in a store: pushed once, whole or not there."""

import asyncio
import dataclasses
from collections.abc import Iterable
from pathlib import Path

import pytest

from stoker.storage import layout, snapshots
from stoker.storage.objects import NoSuchObject, ObjectStore
from stoker.storage.snapshot import Hashed, SnapshotError, hash_files, scan
from tests.support.trees import tree


def folder(root: Path, text: str = "print(1)\n") -> tuple[Path, Hashed]:
    tree(root, {"train.py": text, "pkg/données.txt": "é", "empty": ""})
    (root / "link").symlink_to("pkg/données.txt")
    return root, hash_files(scan(root))


async def keys(store: ObjectStore) -> Iterable[str]:
    return [stored.key async for stored in store.list()]


async def test_a_pushed_folder_comes_back_as_it_was(store: ObjectStore, tmp_path: Path) -> None:
    root, hashed = folder(tmp_path / "root")
    back = tmp_path / "back"
    back.mkdir()

    pushed = await snapshots.push(store, root, hashed)
    await snapshots.unpack_to(store, pushed.digest, back)

    assert hashed.digest == pushed.digest == hash_files(scan(back)).digest
    assert pushed.sent
    assert hashed.entries == await snapshots.read_manifest(store, pushed.digest)


async def test_the_second_push_sends_nothing(store: ObjectStore, tmp_path: Path) -> None:
    root, hashed = folder(tmp_path / "root")
    await snapshots.push(store, root, hashed)
    before = {stored.key: stored async for stored in store.list()}

    again = await snapshots.push(store, root, hashed)

    assert (again.sent, again.zip_bytes) == (False, 0)
    assert before == {stored.key: stored async for stored in store.list()}


async def test_pushes_at_once_give_one_snapshot(store: ObjectStore, tmp_path: Path) -> None:
    root, hashed = folder(tmp_path / "root")
    back = tmp_path / "back"
    back.mkdir()

    await asyncio.gather(*(snapshots.push(store, root, hashed) for _ in range(8)))

    assert [layout.snapshot_manifest(hashed.digest), layout.snapshot_zip(hashed.digest)] == await keys(store)
    await snapshots.unpack_to(store, hashed.digest, back)


async def test_a_push_that_died_before_its_manifest_is_no_snapshot_and_is_finished(
    store: ObjectStore, tmp_path: Path
) -> None:
    root, hashed = folder(tmp_path / "root")
    await snapshots.push(store, root, hashed)
    await store.delete([layout.snapshot_manifest(hashed.digest)])

    assert not await snapshots.present(store, hashed.digest)
    with pytest.raises(NoSuchObject, match=hashed.digest):
        await snapshots.unpack_to(store, hashed.digest, tmp_path)
    await snapshots.push(store, root, hashed)
    assert await snapshots.present(store, hashed.digest)


async def test_a_manifest_that_is_not_its_digests_is_corrupt(store: ObjectStore, tmp_path: Path) -> None:
    root, hashed = folder(tmp_path / "root")
    await store.put(layout.snapshot_manifest(hashed.digest), b"stoker-manifest/v1\n")

    for call in (snapshots.present(store, hashed.digest), snapshots.push(store, root, hashed)):
        with pytest.raises(snapshots.SnapshotCorrupt, match="does not hash to its name"):
            await call


async def test_a_zip_of_another_tree_is_corrupt(store: ObjectStore, tmp_path: Path) -> None:
    _, hashed = folder(tmp_path / "root")
    other_root, other = folder(tmp_path / "other", "print(2)\n")
    await snapshots.push(store, other_root, other)
    await store.put(layout.snapshot_zip(hashed.digest), await store.get(layout.snapshot_zip(other.digest)) or b"")
    await snapshots.put_manifest(store, hashed.digest, hashed.manifest)
    back = tmp_path / "back"
    back.mkdir()

    with pytest.raises(snapshots.SnapshotCorrupt, match=hashed.digest):
        await snapshots.unpack_to(store, hashed.digest, back)


async def test_a_zip_that_is_far_too_large_is_not_fetched_to_its_end(store: ObjectStore, tmp_path: Path) -> None:
    root, hashed = folder(tmp_path / "root")
    await snapshots.push(store, root, hashed)
    await store.put(layout.snapshot_zip(hashed.digest), b"x" * (3 << 20))

    with pytest.raises(snapshots.SnapshotCorrupt, match="larger than its manifest allows"):
        await snapshots.unpack_to(store, hashed.digest, tmp_path)


async def test_a_manifest_of_another_digest_is_not_written(store: ObjectStore, tmp_path: Path) -> None:
    _, hashed = folder(tmp_path / "root")

    with pytest.raises(snapshots.SnapshotCorrupt):
        await snapshots.put_manifest(store, "sha256:" + "0" * 64, hashed.manifest)
    assert await keys(store) == []


async def test_a_folder_that_changed_after_hashing_is_not_pushed(store: ObjectStore, tmp_path: Path) -> None:
    root, hashed = folder(tmp_path / "root")
    (root / "train.py").write_text("print(2)\n")

    with pytest.raises(SnapshotError, match=r"train\.py: changed"):
        await snapshots.push(store, root, hashed)
    assert await keys(store) == []


async def test_inline_code_is_an_ordinary_snapshot(store: ObjectStore, tmp_path: Path) -> None:
    files = {"train.py": "print('é')\n", "pkg/__init__.py": ""}
    root = tree(tmp_path / "root", files)

    pushed = await snapshots.push_inline(store, files)

    assert pushed.digest == hash_files(scan(root)).digest
    assert not (await snapshots.push(store, root, hash_files(scan(root)))).sent
    assert dataclasses.replace(pushed, sent=False, zip_bytes=0) == await snapshots.push_inline(store, files)
