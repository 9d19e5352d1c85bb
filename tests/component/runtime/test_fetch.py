"""fetch, as a real process, against a server and store that can fail."""

import hashlib
import io
import json
import os
import signal
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from stoker.runtime import wire
from stoker.runtime.wire import Entry
from tests.component.runtime.pod import JOB, Cloud, Hangup, Pod, eventually


@pytest.fixture
def pod(tmp_path: Path, cloud: Cloud) -> Iterator[Pod]:
    """A pod in which nothing is yet."""
    one = Pod(tmp_path / "pod", cloud)
    yield one
    one.close()


def snapshot(cloud: Cloud, tree: dict[str, bytes]) -> str:
    """Store a tree as a snapshot; its digest."""
    entries = [Entry(path, len(body), hashlib.sha256(body).hexdigest()) for path, body in tree.items()]
    manifest, buffer = wire.encode_manifest(entries), io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as package:
        for path, body in tree.items():
            package.writestr(path, body)
    digest = wire.manifest_digest(manifest)
    stem = "snapshots/sha256/" + digest.removeprefix("sha256:")
    cloud.objects[stem + ".zip"], cloud.objects[stem + ".manifest"] = buffer.getvalue(), manifest
    return digest


def seal(cloud: Cloud, attempt: int, rank: int, files: dict[str, bytes]) -> None:
    """Store a former attempt's files and seal."""
    prefix = f"jobs/{JOB}/attempts/{attempt}/{rank}/"
    for path, body in files.items():
        cloud.objects[prefix + path] = body
    stored = [wire.StoredFile(path, len(body), hashlib.sha256(body).hexdigest()) for path, body in files.items()]
    document = wire.seal_document(JOB, attempt, rank, None, stored, sealed_at="t", sealed_by="server")
    cloud.objects[prefix + "seal.json"] = wire.json_bytes(document)


def failure(pod: Pod) -> str:
    """The reason that fetch ended with, in all three places where someone looks."""
    code, errors = pod.fetch()
    assert 1 == code
    assert pod.exit["reason"] in errors
    assert pod.termination.read_text().startswith(pod.exit["reason"] + ": ")
    return str(pod.exit["reason"])


def test_code_is_unpacked_and_launch_can_start(pod: Pod, cloud: Cloud) -> None:
    cloud.job["snapshot"] = snapshot(cloud, {"train.py": b"print('trained')\n", "outputs/old.txt": b"old"})
    cloud.job.update(pip=["pytest"], limits={"graceSeconds": 60, "timeoutSeconds": 99}, env={"A": "1"})

    code, errors = pod.fetch()

    assert (0, True) == (code, "2 files" in errors)
    assert cloud.job == json.loads(Path(pod.scratch.job).read_text())
    assert {"outputs/old.txt": {"size": 3, "sha256": hashlib.sha256(b"old").hexdigest()}} == json.loads(
        Path(pod.scratch.carried).read_text()
    )
    assert (pod.work / "logs").is_dir()
    assert [] == os.listdir(pod.scratch.tmp), "the zip stays on scratch"
    assert (0, "trained\n") == pod.run("python3 train.py")[::2]


def test_the_secret_of_a_gang_is_for_its_own_user_alone(pod: Pod, cloud: Cloud) -> None:
    cloud.gang_key = "a" * 64

    code, errors = pod.fetch()

    assert 0 == code, errors
    assert ("a" * 64, 0o600) == (Path(pod.scratch.gang_key).read_text(), os.stat(pod.scratch.gang_key).st_mode & 0o777)
    assert "a" * 64 not in errors + Path(pod.scratch.job).read_text()


@pytest.mark.parametrize(
    ("asked", "disk", "expected"),
    [(None, None, None), (50, None, 50), (50, "70", 50), (50, "40", 40), (None, "40", 40)],
)
def test_the_smaller_bound_on_the_disk_holds(
    pod: Pod, cloud: Cloud, asked: int | None, disk: str | None, expected: int | None
) -> None:
    cloud.job["limits"] = {"scratchBytes": asked}

    code, _ = pod.fetch(**({"STOKER_SCRATCH_BYTES": disk} if disk else {}))

    assert (0, expected) == (code, json.loads(Path(pod.scratch.launch).read_text())["scratchBytes"])


def test_fetch_launch_and_ship_make_a_whole_run(pod: Pod, cloud: Cloud) -> None:
    cloud.job["snapshot"] = snapshot(
        cloud, {"train.py": b"open('outputs/m', 'w').write('model')\n", "outputs/old": b"1"}
    )
    ship = pod.ship_from_outside()
    assert 0 == pod.fetch()[0]

    process = pod.launch("sh", "-c", "python3 train.py && echo done", wait=True)

    assert (0, None) == (process.wait(20), ship.poll())
    assert ["logs/std_log.txt", "outputs/m"] == [file["path"] for file in cloud.seal["files"]]


def test_a_named_output_has_its_folder_before_the_command_starts(pod: Pod, cloud: Cloud) -> None:
    """Scripts write into the folder that they are given and do not make it."""
    cloud.job["outputs"] = {"model": {"type": "uri_folder"}, "report": {"type": "uri_file"}}
    pod.fetch()

    assert 0 == pod.run("echo m > outputs/model/m.bin && echo r > outputs/report")[0]


def test_a_file_in_the_place_of_a_named_output_is_told(pod: Pod, cloud: Cloud) -> None:
    cloud.job["snapshot"] = snapshot(cloud, {"outputs/model": b"a file"})
    cloud.job["outputs"] = {"model": {"type": "uri_folder"}}

    assert "BadSnapshot" == failure(pod)


def test_why_fetch_failed_is_in_the_seal(pod: Pod, cloud: Cloud) -> None:
    cloud.job["snapshot"] = snapshot(cloud, {"outputs": b"a file"})
    pod.ship_from_outside()

    assert "BadSnapshot" == failure(pod)

    assert pod.await_sealed()["complete"]
    assert ("BadSnapshot", None) == (cloud.seal["exit"]["reason"], cloud.seal["exit"]["code"])


def test_inputs_come_where_the_command_looks(pod: Pod, cloud: Cloud) -> None:
    cloud.objects.update({"data/x/a.csv": b"1,2", "data/x/deep/b.csv": b"3,4"})
    listed = [
        {"key": "data/x/a.csv", "path": "a.csv", "size": 3},
        {"key": "data/x/deep/b.csv", "path": "deep/b.csv", "size": 3},
    ]
    cloud.job["inputs"] = {
        "lr": {"type": "literal", "value": "0.1"},
        "data": {"type": "uri_folder", "mode": "download", "source": "s3://b/data/x/", "files": listed},
        "one": {"type": "uri_file", "source": "s3://b/data/x/a.csv", "files": listed[:1]},
        "local": {"type": "uri_file", "source": "iris.csv", "snapshot": snapshot(cloud, {"iris.csv": b"5,6"})},
    }

    assert 0 == pod.fetch()[0]

    script = "cat ../inputs/data/a.csv ../inputs/data/deep/b.csv $STOKER_INPUT_one $STOKER_INPUT_local"
    assert "1,23,41,25,6" == pod.run(script)[2]


def test_a_download_goes_on_where_it_broke_off(pod: Pod, cloud: Cloud) -> None:
    body = os.urandom(3_000_000)
    cloud.job["snapshot"] = snapshot(cloud, {"big.bin": body})
    cloud.cut_after = 1_000_000

    assert 0 == pod.fetch()[0]

    assert body == (pod.work / "big.bin").read_bytes()
    assert any(wanted.startswith("bytes=") for wanted in cloud.ranges)


def test_a_server_that_is_away_for_a_while_is_waited_for(pod: Pod, cloud: Cloud) -> None:
    cloud.job["snapshot"] = snapshot(cloud, {"a": b"1"})
    left = iter(range(4))

    def fault(method: str, path: str) -> tuple[int, dict[str, str], bytes] | None:
        turn = next(left, None)
        if turn is None:
            return None
        if turn % 2:
            raise Hangup
        return 503, {"Retry-After": "0"}, b'{"error": {"reason": "StoreAway", "message": "the store is away"}}'

    cloud.fault = fault

    code, errors = pod.fetch()

    assert 0 == code
    assert "the store is away; next try in" in errors


def test_a_pod_that_is_deleted_while_it_fetches_does_not_wait_for_its_grace_period(pod: Pod, cloud: Cloud) -> None:
    """The first process of a container ignores every signal that it has no handler for."""
    cloud.fault = lambda method, path: (500, {}, b"")
    parent, fetch = pod.as_first_process("fetch")
    eventually(lambda: bool(cloud.requests))

    os.kill(fetch, signal.SIGTERM)

    parent.communicate(timeout=10)
    assert 128 + signal.SIGTERM == parent.returncode


def test_patience_has_an_end(pod: Pod, cloud: Cloud) -> None:
    cloud.fault = lambda method, path: (500, {}, b"")

    code, errors = pod.fetch(STOKER_FETCH_PATIENCE_SECONDS="1")

    assert (1, "ServerUnavailable") == (code, pod.exit["reason"])
    assert "gave up after trying for long: POST" in errors


def test_a_refusal_ends_at_once_in_the_servers_words(pod: Pod, cloud: Cloud) -> None:
    pod.token.write_text("stolen")

    code, errors = pod.fetch()

    assert (1, "TokenRefused") == (code, pod.exit["reason"])
    assert "no such pod" in errors


def test_a_missing_token_is_said(pod: Pod) -> None:
    pod.token.unlink()

    assert "TokenMissing" == failure(pod)


def test_a_url_that_expired_is_asked_for_again(pod: Pod, cloud: Cloud) -> None:
    cloud.job["snapshot"] = snapshot(cloud, {"a": b"1"})
    left = iter([None])

    def expire(method: str, path: str) -> tuple[int, dict[str, str], bytes] | None:
        return (403, {}, b"Request has expired") if method == "GET" and next(left, 1) is None else None

    cloud.fault = expire

    assert 0 == pod.fetch()[0]


@pytest.mark.parametrize("spoiled", [".zip", ".manifest"])
def test_a_spoiled_snapshot_is_refused(pod: Pod, cloud: Cloud, spoiled: str) -> None:
    cloud.job["snapshot"] = snapshot(cloud, {"train.py": b"x" * 1000})
    key = next(key for key in cloud.objects if key.endswith(spoiled))
    cloud.objects[key] = cloud.objects[key].replace(b"train", b"drain")

    assert "SnapshotCorrupt" == failure(pod)


def test_a_snapshot_zip_that_never_ends_is_refused(pod: Pod, cloud: Cloud) -> None:
    cloud.job["snapshot"] = snapshot(cloud, {"a": b"1"})
    key = next(key for key in cloud.objects if key.endswith(".zip"))
    cloud.objects[key] += b"\0" * 10_000_000

    assert "SnapshotCorrupt" == failure(pod)
    assert "more than the" in pod.exit["message"]


def test_an_input_that_changed_since_it_was_listed_is_refused(pod: Pod, cloud: Cloud) -> None:
    cloud.objects["x"] = b"1234"
    cloud.job["inputs"] = {"d": {"type": "uri_folder", "source": "s", "files": [{"key": "x", "path": "x", "size": 3}]}}

    assert "InputChanged" == failure(pod)


@pytest.mark.parametrize("path", ["../../../evil", "/evil", "a/../../b"])
def test_an_input_path_that_leads_out_is_refused(pod: Pod, cloud: Cloud, path: str) -> None:
    cloud.job["inputs"] = {"d": {"type": "uri_folder", "source": "s", "files": [{"key": "x", "path": path, "size": 3}]}}

    assert "BadInput" == failure(pod)


def test_checkpoints_of_the_newest_attempt_that_has_any_come_back(pod: Pod, cloud: Cloud) -> None:
    seal(cloud, 1, 0, {"outputs/checkpoints/1.pt": b"old", "outputs/model": b"m"})
    seal(cloud, 2, 0, {"outputs/checkpoints/e/2.pt": b"new"})
    seal(cloud, 3, 0, {"outputs/model": b"m"})
    cloud.attempt = 5

    assert 0 == pod.fetch()[0]

    found = {str(path.relative_to(pod.work)) for path in (pod.work / "outputs").rglob("*") if path.is_file()}
    assert {"outputs/checkpoints/e/2.pt"} == found
    assert b"new" == (pod.work / "outputs/checkpoints/e/2.pt").read_bytes()


def test_a_job_that_restores_nothing_starts_every_attempt_empty(pod: Pod, cloud: Cloud) -> None:
    seal(cloud, 1, 0, {"outputs/checkpoints/1.pt": b"w"})
    cloud.attempt = 2
    cloud.job["restore"] = "Nothing"

    assert 0 == pod.fetch()[0]

    assert [] == list((pod.work / "outputs").iterdir())


def test_restored_checkpoints_are_saved_again_so_that_the_next_attempt_has_them(pod: Pod, cloud: Cloud) -> None:
    seal(cloud, 1, 0, {"outputs/checkpoints/1.pt": b"w"})
    cloud.attempt = 2
    pod.fetch()
    pod.ship()

    pod.launch("true", wait=True).wait(20)

    assert "outputs/checkpoints/1.pt" in [file["path"] for file in cloud.seal["files"]]


def test_other_ranks_get_rank_0s_checkpoints_and_do_not_save_them_again(pod: Pod, cloud: Cloud) -> None:
    seal(cloud, 1, 0, {"outputs/checkpoints/w.pt": b"w", "outputs/checkpoints/r.pt": b"0"})
    seal(cloud, 1, 1, {"outputs/checkpoints/r.pt": b"1"})
    cloud.attempt, cloud.rank = 2, 1
    pod.fetch()
    pod.ship()

    pod.launch("sh", "-c", "cat outputs/checkpoints/w.pt outputs/checkpoints/r.pt", wait=True).wait(20)

    assert b"w1" == pod.log
    assert ["logs/std_log.txt", "outputs/checkpoints/r.pt"] == [file["path"] for file in cloud.seal["files"]]


def test_a_spoiled_checkpoint_is_refused(pod: Pod, cloud: Cloud) -> None:
    seal(cloud, 1, 0, {"outputs/checkpoints/w.pt": b"w"})
    cloud.objects[f"jobs/{JOB}/attempts/1/0/outputs/checkpoints/w.pt"] = b"x"
    cloud.attempt = 2

    assert "CheckpointCorrupt" == failure(pod)


def test_a_grant_for_another_rank_is_refused(pod: Pod, cloud: Cloud) -> None:
    code, errors = pod.fetch(STOKER_RANK="3")

    assert (1, "WrongGrant") == (code, pod.exit["reason"])
    assert "this pod is attempt 1 rank 3" in errors
