"""The way in for people: snapshots, records, files, logs; each namespace for itself."""

import hashlib
import io
import os
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import pytest

from stoker.kube.errors import Unavailable
from stoker.runtime.wire import Entry, encode_manifest, manifest_digest
from stoker.storage import layout
from stoker.storage.records import encode
from tests.component.server.conftest import keep
from tests.support.serving import JOB_UID, Answer, Served, job_record, listed, serving

KEY = f"iris-{JOB_UID[:8]}"
TEAM = "/v1/namespaces/team"
FILE = f"{TEAM}/jobs/{KEY}/file?attempt=1&rank=0&path="
LOG = f"{TEAM}/jobs/{KEY}/log?attempt=1&rank=0"

CODE = b"print('hi')\n"
MANIFEST = encode_manifest([Entry("train.py", len(CODE), hashlib.sha256(CODE).hexdigest())])
HEX = manifest_digest(MANIFEST).removeprefix("sha256:")


def packed() -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        archive.writestr("train.py", CODE)
    return out.getvalue()


@pytest.fixture(autouse=True)
def people(served: Served) -> None:
    for namespace in ("team", "other"):
        for account in ("stoker-editor", "stoker-viewer", "default"):
            served.kube.account(f"{namespace}-{account}", namespace, account)


def edit(served: Served, method: str, path: str, body: object = None, **headers: str) -> Answer:
    return served.call(method, path, body, "team-stoker-editor", **headers)


# -- who


@pytest.mark.parametrize(
    "token", ["other-stoker-editor", "other-stoker-viewer", "team-default", "pod-token", "", "junk"]
)
def test_only_the_namespaces_own_accounts_are_let_in(served: Served, token: str) -> None:
    for path in (f"{TEAM}/jobs", f"{TEAM}/snapshots/{HEX}", f"{TEAM}/jobs/{KEY}", f"{FILE}outputs/x", LOG):
        assert served.call("GET", path, token=token).status in (401, 403), path


def test_a_viewer_reads_and_writes_nothing(served: Served) -> None:
    assert 200 == served.call("GET", f"{TEAM}/jobs", token="team-stoker-viewer").status
    for method, path in (("POST", ""), ("PUT", "/zip"), ("PUT", "/manifest")):
        answer = served.call(
            method, f"{TEAM}/snapshots/{HEX}{path}", {"size": 1, "sha256": "0" * 64}, "team-stoker-viewer"
        )
        assert (403, "Forbidden") == (answer.status, answer.reason)


# -- snapshots


def test_a_snapshot_is_pushed_through_the_server(served: Served) -> None:
    path, body = f"{TEAM}/snapshots/{HEX}", packed()

    assert {"present": False} == edit(served, "GET", path).json
    assert {"stream": True} == edit(
        served, "POST", path, {"size": len(body), "sha256": hashlib.sha256(body).hexdigest()}
    ).json
    sent = edit(served, "PUT", path + "/zip", body)
    assert (True, hashlib.sha256(body).hexdigest()) == (sent.json["stored"], sent.json["sha256"])
    assert {"present": False} == edit(served, "GET", path).json, "without its manifest a snapshot is not there"
    assert 200 == edit(served, "PUT", path + "/manifest", MANIFEST).status
    assert {"present": True} == edit(served, "GET", path).json
    assert 200 == edit(served, "PUT", path + "/manifest", MANIFEST).status, "a second time is as good"
    assert body == served.store().path(layout.snapshot_zip(f"sha256:{HEX}")).read_bytes()


def test_a_zip_is_written_once(served: Served) -> None:
    edit(served, "PUT", f"{TEAM}/snapshots/{HEX}/zip", b"first")

    assert not edit(served, "PUT", f"{TEAM}/snapshots/{HEX}/zip", b"second").json["stored"]
    assert b"first" == served.store().path(layout.snapshot_zip(f"sha256:{HEX}")).read_bytes()


def test_a_manifest_must_be_the_digests_own_and_come_after_its_zip(served: Served) -> None:
    path = f"{TEAM}/snapshots/{HEX}/manifest"
    junk = b"stoker-manifest/v1\njunk"

    assert "ZipMissing" == edit(served, "PUT", path, MANIFEST).reason
    assert "DigestMismatch" == edit(served, "PUT", path, MANIFEST + b" ").reason
    assert (
        "BadManifest"
        == edit(served, "PUT", f"{TEAM}/snapshots/{hashlib.sha256(junk).hexdigest()}/manifest", junk).reason
    )


@pytest.mark.parametrize("name", ["abc", "A" * 64, "..%2f" + "0" * 60])
def test_a_digest_must_be_one(served: Served, name: str) -> None:
    assert edit(served, "GET", f"{TEAM}/snapshots/{name}").status in (400, 404)


def test_too_large_a_zip_is_refused_and_leaves_nothing(served: Served, tmp_path: Path) -> None:
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    object.__setattr__(served.settings, "snapshot_bytes", 100)
    object.__setattr__(served.settings, "scratch", scratch)

    assert 413 == edit(served, "PUT", f"{TEAM}/snapshots/{HEX}/zip", b"x" * 101).status
    assert 413 == edit(served, "POST", f"{TEAM}/snapshots/{HEX}", {"size": 101, "sha256": "0" * 64}).status
    assert [] == list(scratch.iterdir())


@pytest.fixture
def direct(tmp_path: Path) -> Iterator[Served]:
    """A server whose store people reach themselves."""
    served = Served(tmp_path / "direct", client_endpoint="https://store.example")
    served.kube.account("team-stoker-editor", "team", "stoker-editor")
    with serving(served):
        yield served


def test_with_a_client_endpoint_bytes_do_not_pass_through_the_server(direct: Served) -> None:
    body = packed()
    asked = {"size": len(body), "sha256": hashlib.sha256(body).hexdigest()}

    signed = edit(direct, "POST", f"{TEAM}/snapshots/{HEX}", asked).json

    assert "*" == signed["headers"]["If-None-Match"]
    assert 200 == direct.put(signed, body).status
    file = direct.store().path(layout.rank_prefix(KEY, 1, 0) + "outputs/x")
    file.parent.mkdir(parents=True)
    file.write_bytes(b"12345")
    answer = edit(direct, "GET", f"{FILE}outputs/x")
    assert 307 == answer.status
    assert b"12345" == direct.call("GET", answer.headers["location"]).body


# -- jobs


def test_jobs_are_listed_with_their_results(served: Served) -> None:
    other = job_record(name="net", submittedAt="2025-01-01T00:00:00Z")
    keep(served, other)
    result = {
        "version": 1, "name": "net", "namespace": "team", "uid": JOB_UID, "key": other["key"], "phase": "Completed", "reason": "",
        "message": "", "exitCode": 0, "startedAt": None, "finishedAt": "2025-01-01T00:01:00Z", "timings": {"Running": 3.0},
        "attempts": [], "outputs": [{"path": "outputs/x", "size": 1, "sha256": "0" * 64, "attempt": 1, "rank": 0}],
    }  # fmt: skip
    served.store().path(layout.job_result(other["key"])).write_bytes(encode(result))

    jobs = edit(served, "GET", f"{TEAM}/jobs").json["jobs"]

    assert [("net", "Completed"), ("iris", None)] == [
        (j["job"]["name"], j["result"] and j["result"]["phase"]) for j in jobs
    ]
    told = edit(served, "GET", f"{TEAM}/jobs/{other['key']}").json
    # Where it lies is told too: the TrainingJob that knew may be gone.
    assert told.pop("storage").endswith(f"/jobs/{other['key']}")
    assert {"job": other, "result": result} == told
    assert jobs == edit(served, "GET", f"{TEAM}/jobs").json["jobs"]


def test_an_unknown_job_is_not_found(served: Served) -> None:
    for path in ("gone-01234567", "gone-01234567/files"):
        assert (404, "NotFound") == ((answer := edit(served, "GET", f"{TEAM}/jobs/{path}")).status, answer.reason)
    assert 400 == edit(served, "GET", f"{TEAM}/jobs/Not-A-Key").status


def test_files_are_listed_before_and_after_the_seal(served: Served) -> None:
    grant = served.granted()
    served.send(grant, "outputs/x", b"12345")
    served.send(grant, "logs/.segments/0000000000000000", b"log")
    before = edit(served, "GET", f"{TEAM}/jobs/{KEY}/files").json["files"]
    served.call("POST", "/v1/seal", {"grant": grant, "exit": None, "files": [listed("outputs/x", b"12345")]})

    after = edit(served, "GET", f"{TEAM}/jobs/{KEY}/files").json["files"]

    assert [{"path": "outputs/x", "size": 5, "sha256": None, "attempt": 1, "rank": 0, "sealed": False}] == before
    assert [{**listed("outputs/x", b"12345"), "attempt": 1, "rank": 0, "sealed": True}] == after


@pytest.mark.parametrize(
    ("asked", "status", "content", "content_range"),
    [
        (None, 200, b"0123456789", None),
        ("bytes=2-4", 206, b"234", "bytes 2-4/10"),
        ("bytes=7-", 206, b"789", "bytes 7-9/10"),
        ("bytes=-3", 206, b"789", "bytes 7-9/10"),
        ("bytes=5-99", 206, b"56789", "bytes 5-9/10"),
        ("bytes=0-0", 206, b"0", "bytes 0-0/10"),
        ("bytes=1-2,4-5", 200, b"0123456789", None),
        ("lines=1-2", 200, b"0123456789", None),
        ("bytes=10-", 416, None, None),
        ("bytes=4-2", 416, None, None),
    ],
)
def test_a_file_comes_whole_or_in_ranges(
    served: Served, asked: str | None, status: int, content: bytes | None, content_range: str | None
) -> None:
    served.send(served.granted(), "outputs/a b.txt", b"0123456789")

    answer = edit(served, "GET", f"{FILE}outputs/a%20b.txt", **({"Range": asked} if asked else {}))

    assert (status, content_range) == (answer.status, answer.headers.get("content-range"))
    assert content is None or content == answer.body


@pytest.mark.parametrize("path", ["", "seal.json", "../../../../job.json", "outputs/../../0/seal.json"])
def test_only_files_of_a_rank_are_given_out(served: Served, path: str) -> None:
    assert 400 == edit(served, "GET", FILE + path).status


def test_a_log_is_followed_while_it_grows(served: Served) -> None:
    grant = served.granted()
    served.send(grant, "logs/.segments/0000000000000000", b"epoch 1\n")
    first = edit(served, "GET", LOG)
    served.send(grant, "logs/.segments/0000000000000008", b"epoch 2\n")
    second = edit(served, "GET", LOG + "&offset=8")
    served.send(grant, "logs/std_log.txt", b"epoch 1\nepoch 2\ndone\n")
    third = edit(served, "GET", LOG + "&offset=16")

    assert [b"epoch 1\n", b"epoch 2\n", b"done\n"] == [first.body, second.body, third.body]
    assert ["0", "8", "16"] == [answer.headers["stoker-log-offset"] for answer in (first, second, third)]
    assert ["false", "false", "true"] == [answer.headers["stoker-log-complete"] for answer in (first, second, third)]


# -- around it


def test_a_workspace_may_not_take_another_namespaces_storage(served: Served) -> None:
    served.kube.workspace("other", "s3://bucket/stoker/team")

    answer = served.call("GET", "/v1/namespaces/other/jobs", token="other-stoker-viewer")

    assert (409, "StorageUrlTaken") == (answer.status, answer.reason)
    assert 200 == edit(served, "GET", f"{TEAM}/jobs").status


def test_errors_have_one_shape_and_an_id(served: Served) -> None:
    for method, path, status in (("GET", "/nowhere", 404), ("GET", "/v1/grant", 405), ("POST", "/v1/writes", 400)):
        answer = served.call(method, path, b"{" if method == "POST" else None, X_Request_Id="mine-1")
        assert (status, "mine-1") == (answer.status, answer.headers["x-request-id"])
        assert {"reason", "message", "requestId"} == set(answer.json["error"])


def test_probes_and_metrics(served: Served) -> None:
    served.granted()
    edit(served, "GET", f"{TEAM}/jobs/{KEY}")

    metrics = served.call("GET", "/metrics").body.decode()

    assert 200 == served.call("GET", "/livez").status == served.call("GET", "/readyz").status
    assert 'stoker_server_requests_total{method="POST",route="/v1/grant",status="200"} 1.0' in metrics
    assert 'route="/v1/namespaces/{ns}/jobs/{key}"' in metrics
    assert KEY not in metrics


def test_without_its_key_a_server_is_alive_and_not_ready(tmp_path: Path) -> None:
    served = Served(tmp_path)
    served.kube.away = Unavailable("connection refused")
    with serving(served):
        assert (200, 503) == (served.call("GET", "/livez").status, served.call("GET", "/readyz").status)


def test_no_token_grant_or_url_reaches_the_log(served: Served, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("DEBUG")
    grant = served.granted()
    served.send(grant, "outputs/x", b"12345")
    served.call("POST", "/v1/seal", {"grant": grant, "exit": None, "files": [listed("outputs/x", b"12345")]})

    # uvicorn's own access log is switched off; pytest listens to it all the same.
    lines = [record for record in caplog.records if record.name != "uvicorn.access"]
    text = repr([(record.getMessage(), getattr(record, "fields", {})) for record in lines])

    assert ["grant", "upload", "seal"] == [record.message for record in caplog.records if record.name == "stoker.audit"]
    for secret in ("pod-token", grant, grant.split(".")[2], "mac="):
        assert secret not in text


def test_what_nobody_foresaw_is_an_error_with_an_id_and_a_trace_in_the_log(
    served: Served, caplog: pytest.LogCaptureFixture
) -> None:
    served.kube.away = ZeroDivisionError("a bug")  # type: ignore[assignment]

    answer = served.call("GET", f"{TEAM}/jobs", token="new", X_Request_Id="mine-2")

    assert (500, "InternalError", "mine-2") == (answer.status, answer.reason, answer.json["error"]["requestId"])
    assert "a bug" not in answer.body.decode()
    assert any("a bug" in (record.exc_text or "") for record in caplog.records if record.name == "stoker.requests")


# -- removal


async def test_an_editor_removes_a_finished_run_and_again_without_an_error(served: Served) -> None:
    await kept(served)
    await served.store().put(layout.job_result(KEY), encode(result()))
    assert 1 == len(edit(served, "GET", f"{TEAM}/jobs").json["jobs"])

    first, again = (edit(served, "DELETE", f"{TEAM}/jobs/{KEY}") for _ in range(2))

    assert (200, 3, 200, 0) == (first.status, first.json["objects"], again.status, again.json["objects"])
    assert [] == edit(served, "GET", f"{TEAM}/jobs").json["jobs"]
    assert 404 == edit(served, "GET", f"{TEAM}/jobs/{KEY}").status
    assert [] == [one async for one in served.store().list()]


@pytest.mark.parametrize("token", ["team-stoker-viewer", "other-stoker-editor", "team-default", "pod-token", ""])
async def test_nobody_else_removes_anything(served: Served, token: str) -> None:
    await kept(served)
    await served.store().put(layout.job_result(KEY), encode(result()))

    assert served.call("DELETE", f"{TEAM}/jobs/{KEY}", token=token).status in (401, 403)
    assert 3 == len([one async for one in served.store().list()])


async def test_a_run_without_a_result_is_not_removed(served: Served) -> None:
    await kept(served)
    answer = edit(served, "DELETE", f"{TEAM}/jobs/{KEY}")
    assert (409, "NotFinished") == (answer.status, answer.reason)
    assert "stoker cancel" in answer.json["error"]["message"]

    await served.store().delete([layout.job_record(KEY)])
    answer = edit(served, "DELETE", f"{TEAM}/jobs/{KEY}")
    assert (409, "NotFinished") == (answer.status, answer.reason)
    assert 1 == len([one async for one in served.store().list()])


async def test_a_removal_that_was_cut_off_is_done_by_the_next(served: Served) -> None:
    await kept(served)
    await served.store().put(layout.job_removing(KEY), b"{}")

    assert 200 == edit(served, "DELETE", f"{TEAM}/jobs/{KEY}").status
    assert [] == [one async for one in served.store().list()]


async def kept(served: Served) -> None:
    await served.store().put(layout.job_record(KEY), encode(job_record()))
    await served.store().put(layout.rank_prefix(KEY, 1, 0) + "outputs/model.bin", b"m")


def result() -> dict[str, object]:
    return {
        "version": 1, "name": "iris", "namespace": "team", "uid": JOB_UID, "key": KEY, "phase": "Completed",
        "reason": "Completed", "message": "", "exitCode": 0, "startedAt": None, "finishedAt": "2026-01-02T04:00:00Z",
        "timings": {}, "attempts": [], "outputs": [],
    }  # fmt: skip


# -- a snapshot that is used again


def test_only_an_editor_makes_an_old_snapshot_young(served: Served) -> None:
    path = f"{TEAM}/snapshots/{HEX}"
    edit(served, "PUT", path + "/zip", packed())
    edit(served, "PUT", path + "/manifest", MANIFEST)
    manifest = Path(unquote(urlsplit(served.store().url).path), layout.snapshot_manifest(f"sha256:{HEX}"))
    ago = time.time() - 9 * 86_400
    os.utime(manifest, (ago, ago))

    assert {"present": True} == served.call("GET", path, token="team-stoker-viewer").json
    assert manifest.stat().st_mtime < time.time() - 86_400
    assert {"present": True} == edit(served, "GET", path).json
    assert manifest.stat().st_mtime > time.time() - 86_400


# -- environments

SPEC_KEY = "a" * 64
BUILT = f"{TEAM}/environments/{SPEC_KEY}"


def leave(served: Served, content: dict[str, bytes]) -> None:
    """Stores what a build leaves."""
    for key, text in content.items():
        path = served.store("team").path(key)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(text)


def test_viewers_read_what_a_build_said_and_which_packages_it_chose(served: Served) -> None:
    leave(
        served, {layout.build_log(SPEC_KEY): b"solve 12 packages\ndone\n", layout.lock(SPEC_KEY): b'{"packages": []}'}
    )

    whole = served.call("GET", f"{BUILT}/log", token="team-stoker-viewer")
    rest = served.call("GET", f"{BUILT}/log?offset=18", token="team-stoker-viewer")
    end = served.call("GET", f"{BUILT}/log?offset=23", token="team-stoker-viewer")

    assert [b"solve 12 packages\ndone\n", b"done\n", b""] == [whole.body, rest.body, end.body]
    assert ["23"] * 3 == [one.headers["stoker-log-size"] for one in (whole, rest, end)]
    assert b'{"packages": []}' == served.call("GET", f"{BUILT}/lock", token="team-stoker-viewer").body


def test_the_log_of_each_try_is_read_by_its_place(served: Served) -> None:
    """The newest try is told once, whether it goes on or has ended."""
    first, second = "2026-01-02T03:04:05Z", "2026-01-02T03:05:05Z"
    leave(served, {layout.try_log(SPEC_KEY, first): b"no route\n", layout.build_log(SPEC_KEY): b"no room\n"})

    def tries() -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = served.call("GET", f"{BUILT}/tries", token="team-stoker-viewer").json["tries"]
        return found

    def read(number: int) -> bytes:
        return served.call("GET", f"{BUILT}/log?try={number}", token="team-stoker-viewer").body

    assert [{"startedAt": first, "size": 9}, {"startedAt": "", "size": 8}] == tries()
    leave(served, {layout.try_log(SPEC_KEY, second): b"no room\n"})
    assert [{"startedAt": first, "size": 9}, {"startedAt": second, "size": 8}] == tries()
    assert [b"no room\n", b"no route\n", b"no room\n"] == [read(number) for number in (0, 1, 2)]
    leave(served, {layout.build_log(SPEC_KEY): b"another"})
    assert [b"no route\n", b"no room\n", b"another"] == [read(number) for number in (1, 2, 3)]
    assert 404 == served.call("GET", f"{BUILT}/log?try=4", token="team-stoker-viewer").status


def test_what_was_not_built_here_has_no_log(served: Served) -> None:
    for what in ("log", "lock"):
        answer = served.call("GET", f"{BUILT}/{what}", token="team-stoker-viewer")
        assert (404, "NotFound") == (answer.status, answer.reason)
        assert 403 == served.call("GET", f"{BUILT}/{what}", token="other-stoker-viewer").status
        assert 400 == served.call("GET", f"{TEAM}/environments/x/{what}", token="team-stoker-viewer").status
    assert {"tries": []} == served.call("GET", f"{BUILT}/tries", token="team-stoker-viewer").json
    assert 403 == served.call("GET", f"{BUILT}/tries", token="other-stoker-viewer").status
