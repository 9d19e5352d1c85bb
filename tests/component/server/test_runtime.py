"""The pods' own agent against the server: fetch, launch and ship as processes, over HTTP."""

import hashlib
import io
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from stoker.runtime.wire import Entry, encode_manifest, manifest_digest
from stoker.storage import layout, records
from tests.component.runtime.pod import Pod
from tests.component.server.conftest import keep
from tests.support.serving import JOB_UID, Served, job_record

KEY = f"iris-{JOB_UID[:8]}"
TRAIN = b"""
import os, pathlib
for epoch in range(3):
    print("epoch", epoch, flush=True)
out = pathlib.Path("outputs/checkpoints")
out.mkdir(parents=True, exist_ok=True)
former = (out / "last").read_text() if (out / "last").exists() else "none"
print("restored", former, pathlib.Path(os.environ["DATA"], "one.csv").read_text())
(out / "last").write_text(os.environ["ATTEMPT"])
pathlib.Path("outputs/model.bin").write_bytes(b"w" * 100_000)
"""


def push(served: Served, name: str, content: bytes) -> str:
    """A snapshot of one file; its digest."""
    manifest = encode_manifest([Entry(name, len(content), hashlib.sha256(content).hexdigest())])
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        archive.writestr(zipfile.ZipInfo(name), content)
    digest = manifest_digest(manifest)
    served.kube.account("editor", "team", "stoker-editor")
    url = f"/v1/namespaces/team/snapshots/{digest.removeprefix('sha256:')}"
    assert 200 == served.call("PUT", url + "/zip", out.getvalue(), "editor").status
    assert 200 == served.call("PUT", url + "/manifest", manifest, "editor").status
    return digest


@pytest.fixture
def pods(tmp_path: Path) -> Iterator[list[Pod]]:
    made: list[Pod] = []
    yield made
    for pod in made:
        pod.close()


def run(served: Served, pods: list[Pod], folder: Path, attempt: int) -> tuple[Pod, int]:
    """One attempt of the job as its pod runs it; the exit code of main."""
    token = f"token-{attempt}"
    served.kube.run(attempt=attempt, token=token)
    pod = Pod(folder)
    pods.append(pod)
    pod.token.write_text(token)
    where = {"STOKER_SERVER": served.url, "STOKER_ATTEMPT": str(attempt), "STOKER_RANK": "0"}
    code, errors = pod.fetch(**where)
    assert 0 == code, errors
    ship = pod.ship(**where)
    data = str(Path(pod.scratch.root, "inputs", "data"))
    main = pod.launch("sh", "-c", "python3 train.py", wait=True, ATTEMPT=str(attempt), DATA=data)
    main.communicate(timeout=60)
    ship.terminate()
    ship.wait(30)
    return pod, main.returncode


async def test_a_job_runs_from_its_snapshot_to_its_seal_and_again_from_its_checkpoint(
    served: Served, pods: list[Pod], tmp_path: Path
) -> None:
    inputs = {
        "data": {
            "type": "uri_folder",
            "mode": "download",
            "source": "./data",
            "snapshot": push(served, "one.csv", b"1,2"),
        }
    }
    path = served.store().path(layout.job_record(KEY))
    path.unlink()
    keep(served, job_record(snapshot=push(served, "train.py", TRAIN), inputs=inputs))

    _, first = run(served, pods, tmp_path / "first", 1)
    _, second = run(served, pods, tmp_path / "second", 2)

    assert (0, 0) == (first, second)
    store = served.store()
    seals = await records.seals(store, KEY)
    assert [(1, True), (2, True)] == [(seal["attempt"], seal["complete"]) for seal in seals]
    for seal in seals:
        assert {"logs/std_log.txt", "outputs/checkpoints/last", "outputs/model.bin"} == {
            file["path"] for file in seal["files"]
        }
        for file in seal["files"]:
            content = await store.get(layout.rank_prefix(KEY, seal["attempt"], 0) + file["path"])
            assert content is not None
            assert (file["size"], file["sha256"]) == (len(content), hashlib.sha256(content).hexdigest())
        assert seal["exit"] is not None
        assert 0 == seal["exit"]["code"]
    log = served.call("GET", f"/v1/namespaces/team/jobs/{KEY}/log?attempt=2", token="editor").body
    assert b"epoch 0\nepoch 1\nepoch 2\nrestored 1 1,2\n" == log
    assert [] == [one async for one in store.list(layout.segments_prefix(KEY, 2, 0))]


async def test_the_next_attempt_starts_with_what_was_salvaged(served: Served, pods: list[Pod], tmp_path: Path) -> None:
    path = served.store().path(layout.job_record(KEY))
    path.unlink()
    data = {
        "data": {
            "type": "uri_folder",
            "mode": "download",
            "source": "./data",
            "snapshot": push(served, "one.csv", b"1,2"),
        }
    }
    keep(served, job_record(snapshot=push(served, "train.py", TRAIN), inputs=data))
    lost = Pod(tmp_path / "first")
    pods.append(lost)
    where = {"STOKER_SERVER": served.url, "STOKER_ATTEMPT": "1", "STOKER_RANK": "0"}
    served.kube.run(token="first")
    lost.token.write_text("first")
    assert lost.fetch(**where)[0] == 0
    # Nothing of it is saved by ship, and its end is seen by nobody.
    place = str(Path(lost.scratch.root, "inputs", "data"))
    main = lost.launch("sh", "-c", "python3 train.py && kill -9 $PPID", ATTEMPT="1", DATA=place)
    main.communicate(timeout=60)
    served.kube.run(salvages=0, token="salvage")
    lost.token.write_text("salvage")

    assert lost.salvage(**where).wait(60) == 0
    _, second = run(served, pods, tmp_path / "second", 2)

    assert second == 0
    first = await records.read_seal(served.store(), KEY, 1, 0)
    assert first is not None
    assert (first["complete"], (first["exit"] or {})["reason"]) == (True, "PodLost")
    log = served.call("GET", f"/v1/namespaces/team/jobs/{KEY}/log?attempt=2", token="editor").body
    assert b"restored 1 1,2" in log
