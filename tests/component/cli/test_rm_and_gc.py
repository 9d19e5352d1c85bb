"""Removing runs through the real command line: what goes, what is refused, what is said and how it exits."""

import asyncio
import os
import pty
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from stoker.core.retention import DAY, Going, Plan, Snapshot, but
from stoker.storage import layout, records, removal, snapshots
from stoker.storage.objects import ObjectStore, StoreOptions, open_store
from tests.component.cli.test_cluster_run import World
from tests.component.cli.test_cluster_run import world as world
from tests.component.storage.conftest import s3 as s3
from tests.component.storage.test_removal import keep, names, result
from tests.support.apiserver import JOBS
from tests.support.cli import Cli

UID8 = "0123abcd"


@pytest.fixture
def store(cli: Cli) -> ObjectStore:
    """Where the runs of the command line's folder are kept."""
    return open_store((cli.folder / ".stoker").as_uri())


def kept(store: ObjectStore, name: str, **more: Any) -> str:
    return asyncio.run(keep(store, name, **more))


def left(store: ObjectStore) -> list[str]:
    return asyncio.run(records.job_keys(store))


def old_snapshot(cli: Cli, store: ObjectStore, text: str) -> str:
    """A snapshot that was written two days ago."""
    digest = asyncio.run(snapshots.push_inline(store, {"train.py": text})).digest
    ago = time.time() - 2 * DAY
    for path in (layout.snapshot_zip(digest), layout.snapshot_manifest(digest)):
        os.utime(cli.folder / ".stoker" / path, (ago, ago))
    return digest


# -- rm


def test_rm_removes_a_run_that_was_trained_here_and_only_that(cli: Cli, repository: Path) -> None:
    for name in ("first", "second"):
        cli("run", str(repository / "examples" / "hello"), "--name", name, "-q")

    value = cli.json("rm", "second", "-y")

    assert (["second"], []) == ([one["name"] for one in value["removed"]], value["notThere"])
    assert value["removed"][0]["objects"] >= 5
    assert ["first"] == [one["name"] for one in cli.json("ls")]
    assert not list((cli.folder / ".stoker/jobs").glob("second*")), "nor a link that leads nowhere"
    assert "first" == cli.json("show", "@last")["name"]


def test_rm_of_a_name_that_two_runs_have_is_refused_and_tells_them_apart(cli: Cli, store: ObjectStore) -> None:
    """`show` takes the newest; what is removed for good is named exactly."""
    cli.write(t__py="print(1)\n")
    for _ in range(2):
        cli("run", "t.py", "--environment", "system", "--name", "twin", "-q")
    first, second = sorted(left(store), key=lambda key: asyncio.run(records.read_job(store, key))["submittedAt"])  # type: ignore[index]

    said = cli("rm", "twin", "-y", code=2).stderr

    assert "2 runs are named twin: " in said
    assert all(f"{key} (of 20" in said for key in (first, second))
    assert "name one of them with these 8 digits" in said
    assert sorted((first, second)) == left(store)
    cli("rm", first[:-2], "-y")
    assert [second] == left(store)
    cli("rm", "twin", "-y")
    assert [] == left(store)


def test_rm_of_several_takes_each_once(cli: Cli, store: ObjectStore) -> None:
    a, b = kept(store, "a"), kept(store, "b")

    assert [a, b] == cli("rm", "a", "b", a, "-y", "-o", "name").stdout.split()
    assert [] == left(store)


def test_rm_of_a_whole_key_again_is_no_error_and_of_a_name_it_is(cli: Cli, store: ObjectStore) -> None:
    key = kept(store, "iris")
    cli("rm", key, "-y")

    assert {"removed": [], "notThere": [key]} == cli.json("rm", key)
    assert "no run 'iris'" in cli("rm", "iris", "-y", code=2).stderr


def test_nothing_is_removed_when_one_name_is_wrong(cli: Cli, store: ObjectStore) -> None:
    key = kept(store, "iris")

    cli("rm", "iris", "irsi", "-y", code=2)

    assert [key] == left(store)


def test_rm_of_a_running_run_is_refused_and_names_cancel(cli: Cli, store: ObjectStore) -> None:
    cli.write(long__py="import time\nprint('begun', flush=True)\ntime.sleep(60)\n")
    process = cli.start("run", "long.py", "--name", "long")
    try:
        assert process.stdout is not None
        assert "begun" in process.stdout.readline()

        said = cli("rm", "long", "-y", code=2).stderr

        assert "is running; end it first: stoker cancel long-" in said
        assert 1 == len(left(store))
        cli("cancel", "long")
    finally:
        process.communicate(timeout=60)
    cli("rm", "long", "-y")
    assert [] == left(store)


def test_a_run_that_was_killed_can_be_removed_here(cli: Cli, store: ObjectStore) -> None:
    kept(store, "iris", ended=False)

    cli("rm", "iris", "-y")

    assert [] == left(store)


def test_a_clusters_run_in_a_storage_is_removed_through_its_cluster(cli: Cli, store: ObjectStore) -> None:
    key = kept(store, "iris", compute="cpu")

    said = cli("rm", "iris", "-y", code=2).stderr

    assert f"is a run of namespace team; remove it there: stoker rm {key} -n team" in said
    assert [key] == left(store)


def test_off_a_terminal_the_flag_must_say_yes(cli: Cli, store: ObjectStore) -> None:
    key = kept(store, "iris")

    assert "add -y to say yes" in cli("rm", "iris", code=2).stderr
    assert "add -y to say yes" in cli("gc", "--keep-last", "0", code=2).stderr
    assert [key] == left(store)


@pytest.mark.parametrize(("answer", "code"), [("y", 0), ("n", 2)])
def test_on_a_terminal_it_asks(cli: Cli, store: ObjectStore, answer: str, code: int) -> None:
    key = kept(store, "iris")
    ours, theirs = pty.openpty()
    command = [sys.executable, "-P", "-m", "stoker.cli", "rm", "iris"]
    process = subprocess.Popen(
        command, cwd=cli.folder, env=cli.environment(), stdin=theirs, stderr=subprocess.PIPE, text=True
    )
    os.write(ours, f"{answer}\n".encode())
    _, err = process.communicate(timeout=60)
    os.close(ours)
    os.close(theirs)

    assert code == process.returncode, err
    assert f"remove 1 run for good: {key}?" in err
    assert ("stopped; nothing was removed" in err) is (answer == "n")
    assert ([] if answer == "y" else [key]) == left(store)


@pytest.mark.lab
def test_rm_in_a_bucket_leaves_alone_what_may_run_elsewhere(cli: Cli, s3: tuple[str, StoreOptions]) -> None:
    url, options = s3
    url += "/rm"
    cli.env = {
        "AWS_ENDPOINT_URL": options.endpoint, "AWS_REGION": options.region, "AWS_ACCESS_KEY_ID": options.access_key,
        "AWS_SECRET_ACCESS_KEY": options.secret_key,
    }  # fmt: skip
    store = open_store(url, options)
    running, key = kept(store, "elsewhere", ended=False), kept(store, "iris")

    assert "may run on another machine" in cli("rm", "elsewhere", "-y", "--storage", url, code=2).stderr
    assert [key] == [one["key"] for one in cli.json("rm", "iris", "-y", "--storage", url)["removed"]]
    assert [running] == left(store)


# -- gc


def test_a_dry_run_says_what_would_go_and_why_and_removes_nothing(cli: Cli, store: ObjectStore) -> None:
    used, unused = old_snapshot(cli, store, "used"), old_snapshot(cli, store, "unused")
    key, other = kept(store, "a", snapshot=used, experiment="mnist"), kept(store, "b", snapshot=used, experiment="iris")
    before = asyncio.run(names(store))

    value = cli.json("gc", "--keep-last", "0", "--keep-days", "1", "--dry-run")
    shown = cli("gc", "--keep-last", "1", "--dry-run").stdout

    assert (False, "") == (value["removed"], value["held"])
    assert [key, other] == [one["key"] for one in value["runs"]]
    assert "number 1 of experiment mnist, 0 are kept; ended" in value["runs"][0]["reason"]
    assert sorted([used, unused]) == [one["digest"] for one in value["snapshots"]]
    assert value["bytes"] == sum(one["bytes"] for one in (*value["runs"], *value["snapshots"])) > 200
    assert "no run names it; written 2.0 days ago" in shown
    assert "0 runs, 1 snapshot" in shown
    assert before == asyncio.run(names(store))


def test_gc_removes_what_it_says_and_a_second_time_nothing(cli: Cli, store: ObjectStore) -> None:
    used, unused = old_snapshot(cli, store, "used"), old_snapshot(cli, store, "unused")
    young = asyncio.run(snapshots.push_inline(store, {"train.py": "young"})).digest
    kept(store, "a", snapshot=unused, experiment="x")
    second = kept(store, "b", snapshot=used, experiment="y")
    running = kept(store, "c", ended=False, experiment="x")
    asyncio.run(store.put(layout.job_result(kept(store, "d", experiment="x")), later_result("d")))

    value = cli.json("gc", "--keep-last", "1", "-y")

    assert (True, [f"a-{UID8}"], [unused]) == (
        value["removed"], [one["key"] for one in value["runs"]], [one["digest"] for one in value["snapshots"]]
    )  # fmt: skip
    assert [second, running, f"d-{UID8}"] == left(store)
    assert sorted([used, young]) == sorted(one.digest for one in asyncio.run(_stored(store)))
    again = cli.json("gc", "--keep-last", "1", "-y")
    assert ([], [], 0) == (again["runs"], again["snapshots"], again["bytes"])


def later_result(name: str) -> bytes:
    return records.encode({**result(name), "finishedAt": "2026-01-03T00:00:00Z"})


async def _stored(store: ObjectStore) -> tuple[Snapshot, ...]:
    return await removal.stored_snapshots(store)


def test_gc_without_a_policy_removes_no_run(cli: Cli, store: ObjectStore) -> None:
    key = kept(store, "a")

    assert "nothing to remove" in cli("gc").stderr
    assert [key] == left(store)


def test_gc_where_nothing_was_ever_kept(cli: Cli) -> None:
    assert [] == cli.json("gc", "--keep-last", "0")["runs"]
    assert not (cli.folder / ".stoker").exists()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--keep-last", "-1"], "--keep-last"),
        (["--keep-days", "soon"], "--keep-days"),
        (["--storage", "ftp://x"], "ftp://x"),
    ],
)
def test_what_gc_cannot_mean_is_a_usage_error(cli: Cli, arguments: list[str], words: str) -> None:
    assert words in cli("gc", *arguments, code=2).stderr


def test_gc_of_a_clusters_storage_without_its_cluster_removes_nothing(cli: Cli, store: ObjectStore) -> None:
    key = kept(store, "iris", compute="cpu")

    said = cli("gc", "--keep-last", "0", "-y", code=125).stderr

    assert "nothing is removed: this storage has runs of namespace team" in said
    assert [key] == left(store)


def test_a_broken_record_holds_the_snapshots_and_is_told(cli: Cli, store: ObjectStore) -> None:
    unused = old_snapshot(cli, store, "unused")
    asyncio.run(store.put(layout.job_record(kept(store, "a")), b'{"ver'))

    done = cli("gc", "--keep-last", "0", "-y")

    assert f"no snapshot is removed: the record of a-{UID8} cannot be read" in done.stderr
    assert [unused] == [one.digest for one in asyncio.run(_stored(store))]


# -- In a cluster.


def test_rm_of_a_clusters_run_removes_record_and_object(world: World) -> None:
    done = world.finished()
    name = done["metadata"]["name"]

    value = world.cli.json("rm", name, "-y")

    assert [world.key(done)] == [one["key"] for one in value["removed"]]
    assert f"{JOBS}/{name}" not in world.api.objects
    assert [] == left(world.served.store())
    assert [] == world.cli.json("ls", "-n", "team")


def test_rm_of_a_running_one_in_a_cluster_is_refused(world: World) -> None:
    process, started = world.submit("-q")
    world.start_pod(started, b"epoch 1\n")
    name = started["metadata"]["name"]

    said = world.cli("rm", name, "-y", code=2).stderr

    assert f"{name} is Running; end it first: stoker cancel {name}" in said
    assert f"{JOBS}/{name}" in world.api.objects
    world.finish(started)
    process.communicate(timeout=30)


def test_rm_cut_off_between_record_and_object_is_finished_by_the_next(world: World) -> None:
    done = world.finished()
    for path in asyncio.run(names(world.served.store())):
        if path.startswith("jobs/"):
            asyncio.run(world.served.store().delete([path]))

    world.cli("rm", done["metadata"]["name"], "-y")

    assert f"{JOBS}/{done['metadata']['name']}" not in world.api.objects


def test_gc_of_a_namespace_shows_what_its_workspaces_retention_would_remove(world: World) -> None:
    done = world.finished()
    del world.api.objects[f"{JOBS}/{done['metadata']['name']}"]
    path = JOBS.replace("trainingjobs", "workspaces/default")
    spec = {"storage": {"url": world.served.store().url}, "retention": {"keepLast": 0, "keepDays": 36500}}
    world.api.objects[path] = {"metadata": {"name": "default"}, "spec": spec}

    assert [] == world.cli.json("gc", "-n", "team", "--dry-run")["runs"]
    spec["retention"] = {"keepLast": 0}
    shown = world.cli("gc", "-n", "team", "--dry-run")
    value = world.cli.json("gc", "-n", "team", "--dry-run")

    assert "spec.retention of Workspace/default: keepLast 0" in shown.stderr
    assert ([world.key(done)], False) == ([one["key"] for one in value["runs"]], value["removed"])
    assert [] == world.cli.json("gc", "-n", "team", "--dry-run", "--keep-last", "1")["runs"], "a flag says more"


def test_gc_of_a_namespace_needs_a_storage_that_somebody_names(world: World) -> None:
    said = world.cli("gc", "-n", "team", code=2).stderr

    assert "--storage: the namespace's Workspace names none; give the storage URL of the namespace" in said


def test_gc_of_a_clusters_storage_keeps_what_exists_there(world: World) -> None:
    done = world.finished()
    storage = world.served.store().url
    gone = kept(world.served.store(), "gone", compute="cpu")

    value = world.cli.json("gc", "--storage", storage, "--keep-last", "0", "-y")

    assert [gone] == [one["key"] for one in value["runs"]]
    assert [world.key(done)] == left(world.served.store())


def test_a_queued_jobs_snapshot_stays_although_it_has_no_record(world: World) -> None:
    submitted = world.cli.json("run", "t.py", "--compute", "cpu", "--environment", "a:1", "--detach")
    digest = world.api.objects[f"{JOBS}/{submitted['name']}"]["spec"]["command"]["code"]["snapshot"]
    root = Path(world.served.store().url.removeprefix("file://"))
    ago = time.time() - 9 * DAY
    for path in (layout.snapshot_zip(digest), layout.snapshot_manifest(digest)):
        os.utime(root / path, (ago, ago))

    value = world.cli.json("gc", "--storage", world.served.store().url, "-n", "team", "-y")

    assert [] == value["snapshots"]
    assert (root / layout.snapshot_manifest(digest)).is_file()


def test_the_beginning_of_a_name_means_the_newest_run_of_it_and_no_former_one(world: World) -> None:
    done = world.finished()
    name = done["metadata"]["name"]
    former = kept(world.served.store(), name, compute="cpu")
    last = layout.job_key(name, "ffffffff-1111-4222-8333-444455556666")
    for path in ("job.json", "result.json"):
        content = asyncio.run(world.served.store().get(f"jobs/{former}/{path}")) or b""
        asyncio.run(world.served.store().put(f"jobs/{last}/{path}", content))

    value = world.cli.json("rm", name[:-1], "-y")

    assert [world.key(done)] == [one["key"] for one in value["removed"]]
    assert sorted([former, last]) == left(world.served.store())
    assert f"{JOBS}/{name}" not in world.api.objects


def test_a_former_run_is_removed_by_its_key_and_the_object_of_its_name_stays(world: World) -> None:
    name = world.finished()["metadata"]["name"]
    former = kept(world.served.store(), name, compute="cpu")

    world.cli("rm", former, "-y")

    assert f"{JOBS}/{name}" in world.api.objects
    assert former not in left(world.served.store())


def test_a_run_whose_object_was_deleted_before_its_end_waits_for_its_result(world: World) -> None:
    key = kept(world.served.store(), "iris", ended=False, compute="cpu")

    assert f"{key} has not ended" in world.cli("rm", "iris", "-y", code=2).stderr
    assert [key] == left(world.served.store())


def test_what_came_to_exist_while_the_yes_was_awaited_stays() -> None:
    run, other, snapshot = Going("a", 1, ""), Going("b", 2, ""), Going("sha256:c", 4, "")

    assert Plan((other,), ()) == but(Plan((run, other), (snapshot,)), {"a"}, {"sha256:c"})
