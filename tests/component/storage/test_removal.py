"""Runs and snapshots taken out of real stores: all of them, nothing else, and also after a kill at any point."""

import asyncio
import os
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

from stoker.core.retention import DAY, Policy
from stoker.storage import layout, records, removal, snapshots
from stoker.storage.objects import ObjectStore, StoreError, StoreOptions, open_store
from stoker.storage.signing import Signer

NOW = 1_800_000_000.0
UID = "0123abcd-1111-4222-8333-444455556666"
CODE = {"train.py": "print('hi')\n"}


def job(name: str, **more: Any) -> dict[str, Any]:
    return {
        "version": 1, "name": name, "namespace": "team", "uid": UID, "key": layout.job_key(name, UID),
        "submittedAt": "2026-01-02T03:04:05Z", "submittedBy": None, "compute": "local", "command": "python train.py",
        "snapshot": None, "image": None, "pip": [], "instanceCount": 1, "env": {}, "inputs": {}, "outputs": {},
        "limits": {"timeoutSeconds": None, "graceSeconds": 30, "logBytes": 1 << 30, "scratchBytes": None}, **more,
    }  # fmt: skip


def result(name: str) -> dict[str, Any]:
    return {
        "version": 1, "name": name, "namespace": "team", "uid": UID, "key": layout.job_key(name, UID), "phase": "Completed",
        "reason": "Completed", "message": "", "exitCode": 0, "startedAt": None, "finishedAt": "2026-01-02T04:00:00Z",
        "timings": {}, "attempts": [], "outputs": [],
    }  # fmt: skip


async def keep(store: ObjectStore, name: str, *, ended: bool = True, **more: Any) -> str:
    """A run with a log, an output and its record; its key."""
    key = layout.job_key(name, UID)
    await store.put(layout.job_record(key), records.encode(job(name, **more)))
    await store.put(layout.std_log(key, 1, 0), b"epoch 1\n")
    await store.put(layout.rank_prefix(key, 1, 0) + "outputs/model/weights.bin", b"w" * 100)
    await store.put(layout.seal(key, 1, 0), b"{}")
    if ended:
        await store.put(layout.job_result(key), records.encode(result(name)))
    return key


async def names(store: ObjectStore) -> list[str]:
    return [one.key async for one in store.list()]


async def test_all_of_a_run_goes_and_nothing_else(store: ObjectStore) -> None:
    key, other = await keep(store, "iris"), await keep(store, "iris-2")
    await snapshots.push_inline(store, CODE)
    sizes = [one.size async for one in store.list(layout.job_prefix(key))]
    before = [name for name in await names(store) if not name.startswith(layout.job_prefix(key))]

    done = await removal.remove_run(store, key)

    assert (key, len(sizes), sum(sizes)) == (done.key, done.objects, done.size)
    assert before == await names(store)
    assert [other] == await records.job_keys(store)


async def test_what_is_gone_is_removed_again_without_an_error(store: ObjectStore) -> None:
    key = await keep(store, "iris")
    await removal.remove_run(store, key)

    assert 0 == (await removal.remove_run(store, key)).objects
    assert [] == await names(store)


class Dying:
    """A store whose process is killed at the n-th change, before it or after it."""

    def __init__(self, store: ObjectStore, dies_at: int, *, after: bool) -> None:
        self._store, self._left, self._after = store, dies_at, after

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    async def put(self, key: str, content: bytes | Path, *, only_if_absent: bool = False) -> bool:
        await self._change(lambda: self._store.put(key, content, only_if_absent=only_if_absent))
        return True

    async def delete(self, keys: Iterable[str]) -> None:
        for key in keys:  # one by one: a store may do half of a batch
            await self._change(lambda key=key: self._store.delete([key]))  # type: ignore[misc]

    async def _change(self, change: Any) -> None:
        self._left -= 1
        if self._left < 0:
            raise Killed
        if self._left > 0 or self._after:
            await change()
        if self._left == 0:
            raise Killed


class Killed(Exception):
    pass


@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize("ended", [False, True])
async def test_killed_at_any_change_the_same_again_does_the_rest(store: ObjectStore, ended: bool, after: bool) -> None:
    changes = 0
    while True:
        changes += 1
        key = await keep(store, "iris", ended=ended)
        try:
            await removal.remove_run(Dying(store, changes, after=after), key)  # type: ignore[arg-type]
        except Killed:
            pass
        else:
            break
        found = await removal.contents(store)
        plan = await removal.make_plan(store, found, Policy(), NOW, (), ())
        begun = changes > 1 or after
        if begun and await names(store):
            assert [key] == [one.what for one in plan.runs], "what was cut off goes, whatever the policy"
        await removal.remove_run(store, key)
        assert [] == await names(store)
        assert [] == await records.job_keys(store)
    assert changes > (6 if ended else 5)


async def test_the_record_stays_while_somebody_goes_on_writing(store: ObjectStore) -> None:
    key = await keep(store, "iris")

    class Written:
        def __getattr__(self, name: str) -> Any:
            return getattr(store, name)

        async def delete(self, keys: Iterable[str]) -> None:
            await store.delete(keys)
            await store.put(layout.segment(key, 1, 0, 0), b"more")

    with pytest.raises(StoreError, match="goes on writing"):
        await removal.remove_run(Written(), key)  # type: ignore[arg-type]

    assert await store.head(layout.job_record(key)) is not None


async def test_a_job_that_ended_before_it_began_is_an_ordinary_finished_run(store: ObjectStore) -> None:
    key = layout.job_key("iris", UID)
    await store.put(layout.job_result(key), records.encode(result("iris")))

    run = (await removal.contents(store)).runs[0]

    assert (key, False, 1_767_326_400.0) == (run.key, run.removing, run.finished_at)


async def test_contents_tell_what_each_record_names(store: ObjectStore) -> None:
    code, data = "sha256:" + "a" * 64, "sha256:" + "b" * 64
    await keep(store, "iris", snapshot=code, experiment="x", inputs={"data": {"source": f"snapshot:{data}"}})
    await keep(store, "other", ended=False, compute="cpu", namespace="their")

    found = await removal.contents(store)

    iris, other = found.runs
    assert ("x", frozenset({code, data})) == (iris.experiment, iris.snapshots)
    assert (None, frozenset({"their"})) == (other.finished_at, found.namespaces)


@pytest.mark.parametrize(
    ("content", "readable"), [(b'{"version": 9, "snapshot": "sha256:%s"}' % (b"a" * 64), True), (b'{"vers', False)]
)
async def test_a_record_of_another_version_names_what_it_names_and_a_broken_one_holds_all(
    store: ObjectStore, content: bytes, readable: bool
) -> None:
    key = await keep(store, "iris")
    await store.put(layout.job_record(key), content)
    stored = (await snapshots.push_inline(store, CODE)).digest

    found = await removal.contents(store)
    plan = await removal.make_plan(store, found, Policy(0, 0), time.time() + 9 * DAY, (), ())

    assert ((), readable) == (plan.runs, found.runs[0].readable)
    assert ([stored] if readable else []) == [one.what for one in plan.snapshots]


async def test_gc_twice_removes_nothing_the_second_time(store: ObjectStore) -> None:
    kept, swept = (
        (await snapshots.push_inline(store, CODE)).digest,
        (await snapshots.push_inline(store, {"a": "b"})).digest,
    )
    for number in range(3):
        await keep(store, f"iris-{number}", snapshot=kept)
    later = time.time() + 2 * DAY

    async def once() -> tuple[int, list[str]]:
        plan = await removal.make_plan(store, await removal.contents(store), Policy(keep_last=1), later, (), ())
        for run in plan.runs:
            await removal.remove_run(store, run.what)
        for one in plan.snapshots:
            assert await removal.remove_snapshot(store, one.what, later)
        return len(plan.runs), [one.what for one in plan.snapshots]

    assert (2, [swept]) == await once()
    left = await names(store)
    assert (0, []) == await once()
    assert left == await names(store)
    assert await snapshots.present(store, kept)


# -- Snapshots.


async def test_half_a_snapshot_is_no_snapshot_and_the_next_push_mends_it(store: ObjectStore) -> None:
    digest = (await snapshots.push_inline(store, CODE)).digest
    later = time.time() + 2 * DAY
    with pytest.raises(Killed):
        await removal.remove_snapshot(Dying(store, 1, after=True), digest, later)  # type: ignore[arg-type]

    assert not await snapshots.present(store, digest)
    assert [digest] == [one.digest for one in await removal.stored_snapshots(store)]
    await snapshots.push_inline(store, CODE)
    assert 1 == len(await snapshots.read_manifest(store, digest) or ())


async def test_a_snapshot_that_was_written_again_since_the_plan_stays(store: ObjectStore) -> None:
    digest = (await snapshots.push_inline(store, CODE)).digest

    assert not await removal.remove_snapshot(store, digest, time.time())
    assert await snapshots.present(store, digest)


async def test_who_uses_an_old_snapshot_again_makes_it_young(tmp_path: Path) -> None:
    store = open_store(tmp_path.as_uri())
    digest = (await snapshots.push_inline(store, CODE)).digest
    long_ago = time.time() - 9 * DAY
    for path in (tmp_path / "snapshots/sha256").iterdir():
        os.utime(path, (long_ago, long_ago))
    assert [True] == [one.modified < time.time() - DAY for one in await removal.stored_snapshots(store)]

    assert not (await snapshots.push_inline(store, CODE)).sent

    assert [True] == [one.modified > time.time() - DAY for one in await removal.stored_snapshots(store)]
    assert not await removal.remove_snapshot(store, digest, time.time())


async def test_a_claim_of_a_snapshot_whose_zip_a_sweep_just_took_sends_it_again(tmp_path: Path) -> None:
    store = open_store(tmp_path.as_uri())
    digest = (await snapshots.push_inline(store, CODE)).digest
    long_ago = time.time() - 9 * DAY
    os.utime(tmp_path / layout.snapshot_manifest(digest), (long_ago, long_ago))
    await store.delete([layout.snapshot_zip(digest)])

    assert (await snapshots.push_inline(store, CODE)).sent
    assert await store.head(layout.snapshot_zip(digest)) is not None


# -- Uploads in parts, and folders.


@pytest.mark.lab
async def test_unfinished_uploads_of_the_run_are_aborted_and_no_others(s3: tuple[str, StoreOptions]) -> None:
    url, options = s3
    url += "/uploads of æ"
    store, signer = open_store(url, options), Signer(url, options)
    key, other = await keep(store, "iris"), await keep(store, "iris-2")

    def begin(key: str, name: str) -> tuple[str, str]:
        path = layout.rank_prefix(key, 1, 0) + "outputs/" + name
        return path, signer.create_upload(path)

    begun = [await asyncio.to_thread(begin, key, name) for name in ("big.bin", "a b+c=ü&.bin", "big.bin")]
    theirs = await asyncio.to_thread(begin, other, "big.bin")

    done = await removal.remove_run(store, key)

    assert 3 == done.uploads
    assert [theirs] == sorted(await asyncio.to_thread(open_uploads, signer, url))
    assert 3 == len({upload for _, upload in begun})


def open_uploads(signer: Signer, url: str) -> list[tuple[str, str]]:
    from stoker.storage.objects import split_s3_url
    from stoker.storage.signing import s3_client

    bucket, prefix = split_s3_url(url)
    answer = s3_client(signer.options).list_multipart_uploads(Bucket=bucket, Prefix=prefix + "/")
    return [(one["Key"][len(prefix) + 1 :], one["UploadId"]) for one in answer.get("Uploads", ())]


@pytest.mark.lab
async def test_keys_that_the_environment_lacks_are_told_and_refused_ones_raise(s3: tuple[str, StoreOptions]) -> None:
    url, options = s3
    without = StoreOptions(options.endpoint, options.region)
    wrong = StoreOptions(options.endpoint, options.region, options.access_key, "wrong")

    assert await open_store(url, without).drop_leftovers("jobs/a-01234567/") is None
    with pytest.raises(StoreError, match="403"):
        await open_store(url, wrong).drop_leftovers("jobs/a-01234567/")


async def test_empty_folders_of_a_run_go_too(tmp_path: Path) -> None:
    store = open_store(tmp_path.as_uri())
    key = await keep(store, "iris")
    (tmp_path / layout.rank_prefix(key, 1, 0) / "outputs/empty/deeper").mkdir(parents=True)
    (tmp_path / layout.rank_prefix(key, 2, 0)).mkdir(parents=True)

    await removal.remove_run(store, key)

    assert [] == list((tmp_path / "jobs").rglob("*"))
