"""Every grant, seal, upload and removal leaves one line with who, what and how it ended; and nothing secret, anywhere."""

import hashlib
import json
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from stoker.kube.errors import Unavailable
from stoker.runtime.wire import Entry, ExitRecord, encode_manifest, manifest_digest
from stoker.server.audit import JsonLines
from stoker.storage import layout
from stoker.storage.objects import StoreOptions
from tests.component.server.conftest import keep
from tests.component.server.test_ranks import KEY, seal, write
from tests.support.serving import Served, job_record, listed, serving

TEAM = "/v1/namespaces/team"
#: Each stands in one place where a secret can be; none may be in a log line.
CANARIES = [
    "canary-pod-token", "canary-editor-token", "canary-stranger", "canary-env", "canary-log-tail", "canary-content",
    "canary-secret-key", "canary-query", "canary-pushed-code", "canary-exit-message",
]  # fmt: skip
POD, EDITOR, STRANGER, ENV, TAIL, CONTENT, STORE_KEY, QUERY, CODE, MESSAGE = CANARIES


class Log(logging.Handler):
    """What the server's standard output would have."""

    def __init__(self) -> None:
        super().__init__(logging.DEBUG)
        self.lines: list[str] = []
        self.setFormatter(JsonLines())

    def emit(self, record: logging.LogRecord) -> None:
        # The servers of these tests have uvicorn's own access log on; the product has it off.
        if record.name != "uvicorn.access":
            self.lines.append(self.format(record))

    def audit(self) -> list[dict[str, Any]]:
        return [line for line in map(json.loads, self.lines) if line["logger"] == "stoker.audit"]


@pytest.fixture
def log() -> Iterator[Log]:
    log, root = Log(), logging.getLogger()
    level = root.level
    root.addHandler(log)
    root.setLevel(logging.DEBUG)
    yield log
    root.removeHandler(log)
    root.setLevel(level)


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Served]:
    served = Served(tmp_path, options=StoreOptions(access_key="id", secret_key=STORE_KEY))
    served.kube.run(token=POD)
    served.kube.account(EDITOR, "team", "stoker-editor")
    with serving(served):
        keep(served, job_record(env={"PASSWORD": ENV}))
        yield served


def last(log: Log, *names: str) -> tuple[Any, ...]:
    return tuple(log.audit()[-1].get(name) for name in ("message", "outcome", *names))


WHO = {"namespace": "team", "job": KEY, "attempt": 1, "rank": 0}


def test_a_grant_says_who_what_and_how_it_ended(served: Served, log: Log) -> None:
    served.granted(POD)

    (line,) = log.audit()
    assert WHO == {name: line[name] for name in WHO}
    assert ("grant", "Done", 200) == (line["message"], line["outcome"], line["status"])
    assert line["podUid"].startswith("pod-1-0")
    assert line["client"] == "127.0.0.1"
    assert line["requestId"]
    assert line["expires"] > 0


def test_a_grant_that_is_refused_is_there_too(served: Served, log: Log) -> None:
    served.grant(STRANGER)
    assert ("grant", "Unauthenticated", 401) == last(log, "status")
    served.kube.account("account", "team", "default", "stoker-run")
    served.grant("account")
    assert ("grant", "NotARank", "team") == last(log, "namespace")
    served.kube.away = Unavailable("down")
    served.grant("new")
    assert ("grant", "ApiServerUnavailable", 503) == last(log, "status")
    served.kube.away = ZeroDivisionError("a bug")  # type: ignore[assignment]
    served.grant("newer")
    assert ("grant", "InternalError", 500) == last(log, "status")
    assert 4 == len(log.audit())


def test_uploads_of_a_pod_are_counted(served: Served, log: Log) -> None:
    grant = served.granted(POD)

    write(served, grant, listed("outputs/x", b"12345"), listed("outputs/y", b"1"))
    assert ("upload", "Done", "sign", 2, 6, KEY, 0) == last(log, "action", "objects", "bytes", "job", "rank")
    write(served, grant, {"path": "seal.json", "size": 1, "sha256": "0" * 64})
    assert ("upload", "BadPath", "sign", KEY) == last(log, "action", "job")
    write(served, "made.up.grant.x", listed("outputs/x", b"1"))
    assert ("upload", "GrantInvalid", "sign", None) == last(log, "action", "job")
    for action in ("create", "abort"):
        body = {"grant": grant, "action": action, "path": "outputs/big", "uploadId": "upload-0"}
        served.call("POST", "/v1/multipart", body)
        assert ("upload", "Done", action, "outputs/big", KEY) == last(log, "action", "path", "job")


def test_a_seal_says_what_it_says_and_whose_it_is(served: Served, log: Log) -> None:
    grant = served.granted(POD)
    served.send(grant, "outputs/x", b"12345")

    seal(served, grant, listed("outputs/gone", b""))
    assert ("seal", "FilesAbsent", KEY, 0) == last(log, "job", "rank")
    seal(served, grant, listed("outputs/x", b"12345"))
    assert ("seal", "Done", True, True, 1, 5) == last(log, "ours", "complete", "files", "bytes")
    seal(served, grant)
    assert ("seal", "Sealed", False, True) == last(log, "ours", "complete")


def push(served: Served, token: str = EDITOR) -> str:
    manifest = encode_manifest([Entry("train.py", 3, hashlib.sha256(b"x=1").hexdigest())])
    digest = manifest_digest(manifest).removeprefix("sha256:")
    url = f"{TEAM}/snapshots/{digest}"
    served.call("POST", url, {"size": 3, "sha256": "0" * 64}, token)
    served.call("PUT", f"{url}/zip", CODE.encode(), token)
    served.call("PUT", f"{url}/manifest", manifest, token)
    return digest


def test_what_people_push_and_remove_is_there_with_their_token_s_id(served: Served, log: Log) -> None:
    digest = push(served)
    pushed = [(line["message"], line["action"], line["snapshot"], line["outcome"]) for line in log.audit()]
    assert [("upload", action, digest, "Done") for action in ("begin", "zip", "manifest")] == pushed
    assert {"team/stoker-editor"} == {line["account"] for line in log.audit()}
    assert {f"sha256:{hashlib.sha256(EDITOR.encode()).hexdigest()[:16]}"} == {line["token"] for line in log.audit()}

    served.call("DELETE", f"{TEAM}/jobs/{KEY}", token=EDITOR)
    assert ("remove", "NotFinished", KEY, "team/stoker-editor") == last(log, "job", "account")
    served.store().path(layout.job_result(KEY)).write_bytes(b"{}")
    served.call("DELETE", f"{TEAM}/jobs/{KEY}", token=EDITOR)
    assert ("remove", "Done", KEY, "team/stoker-editor", "team") == last(log, "job", "account", "namespace")
    served.call("DELETE", f"{TEAM}/jobs/{KEY}", token=STRANGER)
    assert ("remove", "Unauthenticated", KEY, None) == last(log, "job", "account")


def test_the_api_servers_own_id_of_a_token_is_kept(served: Served, log: Log) -> None:
    """By it the cluster's audit log tells which person asked for the token."""
    served.kube.account("t", "team", "stoker-editor", credential_id="JTI=0d6c")

    push(served, "t")

    assert {"JTI=0d6c"} == {line["token"] for line in log.audit()}


def test_nothing_secret_is_in_any_line(served: Served, log: Log) -> None:
    """Through every route, as it should go and as it should not."""
    grant = served.granted(POD)
    served.grant(STRANGER)
    served.send(grant, "outputs/x", CONTENT.encode())
    entry = write(served, grant, listed("outputs/y", b"1")).json["objects"][0]
    served.put(entry, b"other")
    served.call("POST", "/v1/reads", {"grant": grant, "keys": ["x"]})
    served.call("POST", "/v1/reads", {"grant": grant[:-2], "keys": ["x"]})
    served.call("POST", "/v1/writes", f'{{"grant": "{grant}", "objects": "{CONTENT}"}}'.encode())
    create = {"grant": grant, "action": "create", "path": "outputs/big"}
    upload = served.call("POST", "/v1/multipart", create).json["uploadId"]
    part = {"number": 1, "size": 1, "sha256": "0" * 64}
    same = {**create, "uploadId": upload}
    served.call("POST", "/v1/multipart", {**same, "action": "sign", "parts": [part]})
    exit_record = ExitRecord(code=1, log_tail=TAIL, message=MESSAGE).document()
    served.call("POST", "/v1/seal", {"grant": grant, "exit": exit_record, "files": []})
    push(served)
    for path in ("jobs", f"jobs/{KEY}", f"jobs/{KEY}/files", f"jobs/{KEY}/log", f"jobs/{KEY}/file?path=outputs/x"):
        served.call("GET", f"{TEAM}/{path}", token=EDITOR)
        served.call("GET", f"{TEAM}/{path}", token=STRANGER)
    served.call("GET", f"{TEAM}/jobs?token={QUERY}", token=EDITOR)
    served.call("DELETE", f"{TEAM}/jobs/{KEY}", token=EDITOR)
    served.kube.away = ZeroDivisionError("a bug")  # type: ignore[assignment]
    served.grant(f"{STRANGER} again")

    text = "\n".join(log.lines)
    key = served.kube.objects["/api/v1/namespaces/stoker-system/secrets/stoker-grant-key"]["data"]["current"]
    signed = [entry["url"].split("mac=")[1], grant, grant.split(".")[2], grant.split(".")[3]]
    assert [] == [secret for secret in (*CANARIES, key, *signed) if secret in text]
    assert text.count("stoker.audit") >= 10
    assert "a bug" in text, "what went wrong is told all the same"
