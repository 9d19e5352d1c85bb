"""What a folder must do beyond the shared promise."""

import os
import sys
import time
from pathlib import Path

import pytest

from stoker.storage.file_store import FileStore
from stoker.storage.objects import BadStoreUrl, StoreRefused, StoreUnavailable, open_store


async def test_a_folder_with_odd_characters_is_reached_by_its_url(tmp_path: Path) -> None:
    store = open_store((tmp_path / "a b#%é").as_uri())

    await store.put("k", b"v")

    assert (tmp_path / "a b#%é" / "k").read_bytes() == b"v"


async def test_nothing_is_made_before_the_first_write(tmp_path: Path) -> None:
    store = open_store((tmp_path / "s").as_uri())

    assert await store.get("k") is None
    assert not (tmp_path / "s").exists()


async def test_a_failed_write_leaves_nothing(tmp_path: Path) -> None:
    store = FileStore(tmp_path / "s")

    with pytest.raises(StoreRefused, match="k: No such file"):
        await store.put("k", tmp_path / "gone")

    assert [one async for one in store.list()] == []
    assert list((tmp_path / "s" / ".incoming").iterdir()) == []


async def test_what_a_killed_writer_left_is_swept_and_never_listed(tmp_path: Path) -> None:
    old, young = tmp_path / ".incoming" / "1-old", tmp_path / ".incoming" / "2-young"
    old.parent.mkdir()
    old.write_text("half")
    young.write_text("half")
    os.utime(old, (time.time() - 100_000,) * 2)
    store = FileStore(tmp_path)

    assert [one async for one in store.list()] == []
    assert await store.folders() == ()
    await store.put("k", b"v")

    assert not old.exists()
    assert young.exists()


async def test_a_file_in_the_way_of_a_folder_is_named(tmp_path: Path) -> None:
    store = FileStore(tmp_path)
    await store.put("a", b"")

    with pytest.raises(StoreRefused, match="a/b"):
        await store.put("a/b", b"")
    assert await store.get("a/b") is None


async def test_the_stores_own_folder_is_no_key(tmp_path: Path) -> None:
    with pytest.raises(StoreRefused, match=r"\.incoming"):
        await FileStore(tmp_path).put(".incoming/x", b"")


@pytest.mark.skipif(sys.platform == "win32", reason="the file system's errors are POSIX ones")
async def test_errors_say_whether_to_ask_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import errno

    store = FileStore(tmp_path)
    for number, kind in ((errno.EIO, StoreUnavailable), (errno.EACCES, StoreRefused), (errno.ENOSPC, StoreRefused)):

        def fails(*_: object, number: int = number) -> None:
            raise OSError(number, os.strerror(number))

        monkeypatch.setattr(os, "link", fails)
        with pytest.raises(kind, match=r"file:.*: k: "):
            await store.put("k", b"", only_if_absent=True)


@pytest.mark.parametrize(
    "url",
    [
        "",
        "x",
        "/tmp/x",
        "file:x",
        "file://host/x",
        "http://x/y",
        "s3:/x",
        "s3:///x",
        "s3://b/a/../b",
        "s3://k:s@b/p",
        "gs://x",
    ],
)
def test_a_url_that_names_no_store_says_what_a_good_one_is(url: str) -> None:
    with pytest.raises(BadStoreUrl, match=r"s3://bucket/prefix|file:///"):
        open_store(url)
