"""Two server processes behind one address, with one store: whichever answers, it is the same server."""

import hashlib
import http.client
import json
import secrets
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from stoker.server.keys import SECRET
from stoker.storage import layout, records
from stoker.storage.objects import ObjectStore, StoreOptions, open_store
from tests.component.runtime.pod import Pod, eventually
from tests.component.server.test_audit import push
from tests.component.server.test_ranks import KEY, seal, write
from tests.component.storage.conftest import s3 as s3
from tests.support.replicas import Replicas, replicas
from tests.support.serving import SYSTEM, Answer, FakeKube, Served, job_record, listed

pytestmark = pytest.mark.lab

TEAM = "/v1/namespaces/team"


class Caller(Served):
    """Requests to the replicas, each to the next one."""

    def __init__(self, both: Replicas) -> None:
        self.both, self.kube, self.url = both, both.kube, both.url

    @property
    def real(self) -> ObjectStore:
        return open_store(f"{self.both.storage_url}/team", self.both.options)


@pytest.fixture
async def caller(tmp_path: Path, s3: tuple[str, StoreOptions]) -> AsyncIterator[Caller]:
    """Two replicas that came up together in a cluster without a grant key, and one running job of one rank."""
    url, options = s3
    kube = FakeKube()
    kube.run()
    kube.account("editor", "team", "stoker-editor")
    with replicas(tmp_path, kube, f"{url}/{secrets.token_hex(4)}", options) as both:
        caller = Caller(both)
        await records.write_job(caller.real, job_record())  # type: ignore[arg-type]
        yield caller


async def test_every_step_may_be_taken_at_another_replica(caller: Caller) -> None:
    """An odd number of requests each time round, so that each kind meets both."""
    secret = caller.kube.objects[f"/api/v1/namespaces/{SYSTEM}/secrets/{SECRET}"]
    assert ["current"] == list(secret["data"]), "one key, though both looked for it at once"
    grants = [caller.granted() for _ in range(3)]
    for number, grant in enumerate(grants):
        assert 200 == caller.send(grant, f"outputs/{number}", b"x" * number).status
        same: dict[str, Any] = {"grant": grant, "path": f"outputs/big-{number}"}
        same["uploadId"] = parts(caller, **same, action="create").json["uploadId"]
        part = {"number": 1, "size": 4, "sha256": hashlib.sha256(b"part").hexdigest()}
        signed = parts(caller, **same, action="sign", parts=[part]).json["parts"][0]
        etag = caller.put(signed, b"part").headers["etag"]
        done = {"number": 1, "etag": etag, "sha256": part["sha256"]}
        for _ in range(2):  # a lost answer is asked for again, of the other one
            assert 200 == parts(caller, **same, action="complete", parts=[done]).status
    files = [listed(f"outputs/{n}", b"x" * n) for n in range(3)]
    files += [listed(f"outputs/big-{n}", b"part") for n in range(3)]

    answers = [seal(caller, grants[0], *files) for _ in range(4)]

    assert [200] * 4 == [answer.status for answer in answers]
    assert [answers[0].json] * 4 == [answer.json for answer in answers]
    assert [(409, "Sealed")] * 2 == [(a.status, a.reason) for a in (caller.grant(), caller.grant())]
    late = [write(caller, grants[1], listed("outputs/late", b"")) for _ in range(2)]
    assert [409, 409] == [answer.status for answer in late]
    assert all(replica.served > 5 for replica in caller.both.all)


def parts(caller: Caller, **body: Any) -> Answer:
    return caller.call("POST", "/v1/multipart", body)


async def test_a_snapshot_is_pushed_in_steps_and_there_for_both(caller: Caller) -> None:
    digest = push(caller, "editor")

    answers = [caller.call("GET", f"{TEAM}/snapshots/{digest}", token="editor") for _ in range(2)]

    assert [{"present": True}] * 2 == [answer.json for answer in answers]


async def test_what_one_replica_removed_no_other_lists(caller: Caller) -> None:
    result = {
        "version": 1, "name": "iris", "namespace": "team", "uid": job_record()["uid"], "key": KEY, "phase": "Completed",
        "reason": "Completed", "message": "", "exitCode": 0, "startedAt": None, "finishedAt": "2026-01-02T03:05:05Z",
        "timings": {}, "attempts": [], "outputs": [],
    }  # fmt: skip
    await records.write_result(caller.real, result)  # type: ignore[arg-type]
    for _ in range(2):
        assert [KEY] == [one["key"] for one in caller.call("GET", f"{TEAM}/jobs", token="editor").json["jobs"]]

    assert 200 == caller.call("DELETE", f"{TEAM}/jobs/{KEY}", token="editor").status

    for _ in range(2):
        assert [] == caller.call("GET", f"{TEAM}/jobs", token="editor").json["jobs"]
        assert 404 == caller.call("GET", f"{TEAM}/jobs/{KEY}", token="editor").status


SCRIPT = "for n in 1 2 3 4 5 6 7 8; do echo line $n; echo $n > outputs/$n; echo $n > outputs/last; sleep 0.3; done"


def begin(caller: Caller, folder: Path) -> tuple[Pod, Any, Any]:
    """A run as its pod runs it."""
    pod = Pod(folder / "pod").prepare()
    pod.token.write_text("pod-token")
    where = {"STOKER_SERVER": caller.url, "STOKER_ATTEMPT": "1", "STOKER_RANK": "0"}
    return pod, pod.ship(**where), pod.launch("sh", "-c", SCRIPT, wait=True, **where)


async def saved_whole(caller: Caller) -> None:
    found = await records.read_seal(caller.real, KEY, 1, 0)
    assert found is not None
    assert found["complete"]
    names = {"logs/std_log.txt", "outputs/last", *(f"outputs/{n}" for n in range(1, 9))}
    assert names == {file["path"] for file in found["files"]}
    assert b"8\n" == await caller.real.get(layout.rank_prefix(KEY, 1, 0) + "outputs/last"), "it was replaced"
    assert 0 == await caller.real.drop_leftovers(layout.rank_prefix(KEY, 1, 0)), "no upload is left"
    assert b"".join(b"line %d\n" % n for n in range(1, 9)) == await caller.real.get(layout.std_log(KEY, 1, 0))


async def test_a_run_is_saved_through_both(caller: Caller, tmp_path: Path) -> None:
    pod, ship, main = begin(caller, tmp_path)
    try:
        main.communicate(timeout=60)
        ship.terminate()
        ship.communicate(timeout=30)
    finally:
        pod.close()

    assert 0 == main.returncode
    await saved_whole(caller)
    assert all(replica.served > 3 for replica in caller.both.all)


async def test_a_run_goes_on_when_one_replica_dies(caller: Caller, tmp_path: Path) -> None:
    """Half of the requests find nobody from then on, as until a Service has noticed."""
    pod, ship, main = begin(caller, tmp_path)
    try:
        eventually(lambda: all(replica.served > 1 for replica in caller.both.all), 30)
        caller.both.all[0].kill()
        main.communicate(timeout=90)
        ship.terminate()
        ship.communicate(timeout=30)
    finally:
        pod.close()

    assert 0 == main.returncode
    await saved_whole(caller)


async def test_one_replica_holds_no_more_than_it_says_of_a_caller(caller: Caller) -> None:
    """What a replica remembers of a caller is its own: none is refused at one for what it asked of the other."""
    grant = caller.granted()
    first, second = (urlsplit(replica.url).netloc for replica in caller.both.all)
    body = json.dumps({"grant": grant, "objects": []}).encode()

    statuses = [ask(first, body) for _ in range(400)]

    assert 429 in statuses
    assert 200 == ask(second, body)


def ask(host: str, body: bytes) -> int:
    connection = http.client.HTTPConnection(host, timeout=30)
    try:
        connection.request("POST", "/v1/writes", body)
        return connection.getresponse().status
    finally:
        connection.close()
