"""The promise of an object store, kept by every kind of it."""

import asyncio
from pathlib import Path

import pytest

from stoker.storage.objects import NoSuchObject, ObjectStore, StoreRefused


async def keys(store: ObjectStore, prefix: str = "") -> list[str]:
    return [stored.key async for stored in store.list(prefix)]


async def test_what_was_put_is_got(store: ObjectStore) -> None:
    assert await store.put("a/b.txt", b"hello")

    assert await store.get("a/b.txt") == b"hello"
    found = await store.head("a/b.txt")
    assert found is not None
    assert (found.key, found.size) == ("a/b.txt", 5)
    assert found.modified > 1_600_000_000


async def test_nothing_is_there_before_it_was_put(store: ObjectStore) -> None:
    assert await store.get("no/such") is None
    assert await store.get("no/such", 2, 3) is None
    assert await store.head("no/such") is None
    assert await keys(store) == []
    assert await store.folders() == ()
    with pytest.raises(NoSuchObject, match="no/such"):
        [piece async for piece in store.stream("no/such")]


@pytest.mark.parametrize(
    ("start", "end", "expected"),
    [
        (0, None, b"0123456789"),
        (3, None, b"3456789"),
        (0, 4, b"0123"),
        (3, 5, b"34"),
        (8, 99, b"89"),
        (10, None, b""),
        (50, 60, b""),
    ],
)
async def test_a_range_is_what_is_there_of_it(store: ObjectStore, start: int, end: int | None, expected: bytes) -> None:
    await store.put("digits", b"0123456789")

    assert expected == await store.get("digits", start, end)
    assert expected == b"".join([piece async for piece in store.stream("digits", start, end)])


async def test_empty_objects_are_objects(store: ObjectStore, tmp_path: Path) -> None:
    (tmp_path / "empty").touch()
    for number in range(20):
        assert await store.put(f"outputs/{number}", b"" if number % 2 else tmp_path / "empty")

    assert await store.get("outputs/7") == b""
    assert len(await keys(store)) == 20


async def test_a_put_replaces_unless_it_must_be_the_first(store: ObjectStore) -> None:
    assert await store.put("k", b"one", only_if_absent=True)
    assert not await store.put("k", b"two", only_if_absent=True)
    assert await store.get("k") == b"one"
    assert await store.put("k", b"three")
    assert await store.get("k") == b"three"


async def test_a_second_put_of_the_same_content_is_not_the_first(store: ObjectStore) -> None:
    assert await store.put("k", b"one", only_if_absent=True)
    assert not await store.put("k", b"one", only_if_absent=True)


@pytest.mark.parametrize("as_files", [False, True])
async def test_of_writers_at_once_exactly_one_is_the_first(store: ObjectStore, tmp_path: Path, as_files: bool) -> None:
    contents: list[bytes | Path] = [b"%d" % number * 1000 for number in range(16)]
    if as_files:
        for number, content in enumerate(contents):
            (tmp_path / f"{number}").write_bytes(bytes(content))
        contents = [tmp_path / f"{number}" for number in range(16)]

    won = await asyncio.gather(*(store.put("jobs/race", content, only_if_absent=True) for content in contents))

    assert sum(won) == 1
    winner = contents[won.index(True)]
    assert (winner.read_bytes() if isinstance(winner, Path) else winner) == await store.get("jobs/race")
    assert await keys(store) == ["jobs/race"], "no loser leaves anything"


async def test_large_files_go_and_come_whole(store: ObjectStore, tmp_path: Path) -> None:
    content = bytes(range(256)) * (70 << 12)  # 70 MiB: more than one PUT carries
    (tmp_path / "large").write_bytes(content)

    assert await store.put("large", tmp_path / "large")
    assert await store.put("once", tmp_path / "large", only_if_absent=True)

    assert content == b"".join([piece async for piece in store.stream("large")])
    assert content[-5:] == await store.get("once", len(content) - 5)


async def test_a_listing_is_sorted_and_within_its_folder(store: ObjectStore) -> None:
    for key in ("jobs/a/x", "jobs/a.txt", "jobs/a-1/y", "jobs/ab", "jobsx/z", "jobs/é", "jobs/a/deep/er/w"):
        await store.put(key, b"1")

    below = ["jobs/a-1/y", "jobs/a.txt", "jobs/a/deep/er/w", "jobs/a/x", "jobs/ab", "jobs/é"]
    assert below == await keys(store, "jobs/")
    assert [*below, "jobsx/z"] == await keys(store)
    assert await store.folders("jobs/") == ("a", "a-1")
    assert await store.folders() == ("jobs", "jobsx")
    assert await keys(store, "nothing/") == []


async def test_a_listing_has_all_pages(store: ObjectStore) -> None:
    await asyncio.gather(*(store.put(f"many/{number:04}", b"") for number in range(1205)))

    assert [f"many/{number:04}" for number in range(1205)] == await keys(store, "many/")


async def test_deleting_twice_is_no_error(store: ObjectStore) -> None:
    for key in ("d/a", "d/b", "d/sub/c"):
        await store.put(key, b"1")

    await store.delete(["d/a", "d/gone", "d/sub/c"])
    await store.delete(["d/a"])
    await store.delete([])

    assert await keys(store) == ["d/b"]
    assert await store.folders("d/") == ()


@pytest.mark.parametrize(
    "key",
    [
        "a b#%[~]{}^`|<>\"'?*&=+$,;:@!().txt",
        "été/日本語/😀.txt",
        "%2e%2e/x",
        ".hidden/.x",
        "a/-",
        "x" * 200,
        "trailing.",
        " space ",
    ],
)
async def test_odd_names_are_names(store: ObjectStore, key: str) -> None:
    assert await store.put(key, b"odd", only_if_absent=True)

    assert await store.get(key) == b"odd"
    assert await store.get(key, 0, 2) == b"od"
    assert [key] == await keys(store)
    await store.delete([key])
    assert await store.head(key) is None


@pytest.mark.parametrize(
    "key", ["", "/abs", "a//b", "../x", "a/../b", "a/.", "a/", "nul\0", "line\n", "back\\slash", "é" * 600, "\udcff"]
)
async def test_bad_names_are_refused_by_name(store: ObjectStore, key: str) -> None:
    for call in (store.put(key, b""), store.get(key), store.head(key), store.delete([key])):
        with pytest.raises(StoreRefused, match="the name"):
            await call


@pytest.mark.parametrize("prefix", ["jobs", "../", "/", "a//"])
async def test_a_prefix_is_a_folder(store: ObjectStore, prefix: str) -> None:
    with pytest.raises(StoreRefused, match="ends in `/`"):
        await store.folders(prefix)
    with pytest.raises(StoreRefused, match="ends in `/`"):
        await keys(store, prefix)
