"""What a rank may do under its grant, and that a seal says only what is true."""

import hashlib
from typing import Any

import pytest

from stoker.runtime.wire import ExitRecord
from stoker.storage import layout
from stoker.storage.file_store import FileStore
from stoker.storage.objects import StoreRefused
from stoker.storage.records import encode
from tests.component.server.conftest import keep
from tests.support.serving import JOB_UID, Answer, Served, job_record, listed

KEY = f"iris-{JOB_UID[:8]}"
PREFIX = f"jobs/{KEY}/attempts/1/0/"
LOG = b"epoch 1\nepoch 2\n"


def stored(served: Served, path: str) -> bytes | None:
    file = served.store().path(path if path.startswith(("jobs/", "snapshots/")) else PREFIX + path)
    return file.read_bytes() if file.exists() else None


def write(served: Served, grant: str, *objects: dict[str, Any]) -> Answer:
    return served.call("POST", "/v1/writes", {"grant": grant, "objects": objects})


def seal(served: Served, grant: str, *files: dict[str, Any], **more: Any) -> Answer:
    exit_record = ExitRecord(code=0, log_bytes=len(LOG)).document()
    return served.call("POST", "/v1/seal", {"grant": grant, "exit": exit_record, "files": files, "missing": [], **more})


# -- writing


def test_a_file_lands_below_the_ranks_prefix(served: Served) -> None:
    assert 200 == served.send(served.granted(), "outputs/model.bin", b"weights").status

    assert b"weights" == stored(served, "outputs/model.bin")


@pytest.mark.parametrize(
    "path",
    [
        "seal.json", "../1/outputs/x", "outputs/../../0/seal.json", "/outputs/x", "outputs//x", "outputs/", "outputs",
        "outputs/./x", "outputs/a\\b", "outputs/a\nb", "job.json", "snapshots/sha256/x.zip", "outputs/e\u0301",
        "logs/.segments/1", "logs/.segments/" + "0" * 17, "outputs/" + "x" * 900, "",
    ],
)  # fmt: skip
def test_nothing_else_is_signed(served: Served, path: str) -> None:
    answer = write(served, served.granted(), {"path": path, "size": 1, "sha256": "0" * 64})

    assert (400, "BadPath") == (answer.status, answer.reason)
    assert "error" in answer.json


@pytest.mark.parametrize(
    ("size", "sha256"), [(-1, "0" * 64), (1, "0" * 63), (1, "Z" * 64), ("1", "0" * 64), (6 << 30, "0" * 64)]
)
def test_sizes_and_digests_must_be_such(served: Served, size: Any, sha256: str) -> None:
    assert 400 == write(served, served.granted(), {"path": "outputs/x", "size": size, "sha256": sha256}).status


def test_more_than_a_thousand_at_once_is_refused(served: Served) -> None:
    many = [{"path": f"outputs/{n}", "size": 0, "sha256": "0" * 64} for n in range(1001)]

    assert 400 == write(served, served.granted(), *many).status


def test_many_files_are_signed_in_order(served: Served) -> None:
    many = [listed(f"outputs/{n}", str(n).encode()) for n in range(200)]
    grant = served.granted()
    served.send(grant, "outputs/7", b"7")

    entries = write(served, grant, *many).json["objects"]

    assert [file["path"] for file in many] == [entry["path"] for entry in entries]
    assert [7] == [n for n, entry in enumerate(entries) if entry.get("stored")]


def test_a_url_takes_only_the_bytes_it_was_signed_for(served: Served) -> None:
    entry = write(served, served.granted(), listed("outputs/x", b"12345")).json["objects"][0]

    assert 400 == served.put(entry, b"54321").status
    assert 403 == served.put(entry, b"123456").status
    assert 403 == served.put({**entry, "url": entry["url"].replace("outputs/x", "outputs/y")}, b"12345").status
    assert None is stored(served, "outputs/x")


def test_a_url_that_is_used_again_changes_nothing(served: Served) -> None:
    entry = write(served, served.granted(), listed("outputs/x", b"12345")).json["objects"][0]
    served.put(entry, b"12345")

    assert 412 == served.put(entry, b"12345").status


def test_what_the_store_has_need_not_be_sent_again(served: Served) -> None:
    grant = served.granted()
    served.send(grant, "outputs/x", b"12345")

    assert [{"path": "outputs/x", "stored": True}] == write(served, grant, listed("outputs/x", b"12345")).json[
        "objects"
    ]
    assert 200 == served.send(grant, "outputs/x", b"67890").status
    assert b"67890" == stored(served, "outputs/x")


@pytest.mark.parametrize("grant", ["", "x", "stoker1.aa.bb.cc", None, 5])
def test_without_a_grant_nothing_is_done(served: Served, grant: Any) -> None:
    assert served.call("POST", "/v1/writes", {"grant": grant, "objects": []}).status in (400, 401)


def test_a_changed_grant_is_refused(served: Served) -> None:
    grant = served.granted()
    parts = grant.split(".")

    answer = write(served, ".".join([*parts[:2], parts[2][:-4] + "AAAA", parts[3]]), listed("outputs/x", b""))

    assert (401, "GrantInvalid") == (answer.status, answer.reason)


# -- reading


def test_a_rank_reads_what_its_record_names_and_nothing_else(served: Served) -> None:
    code, data = "a" * 64, "b" * 64
    inputs = {
        "data": {"type": "uri_folder", "mode": "download", "source": "snapshot", "snapshot": f"sha256:{data}"},
        "more": {
            "type": "uri_folder",
            "source": "s3",
            "files": [{"key": "sets/one.csv", "path": "one.csv", "size": 3}],
        },
        "lr": {"type": "literal", "value": "0.1"},
    }
    served.kube.run(name="net", token="net")
    keep(served, job_record(name="net", snapshot=f"sha256:{code}", inputs=inputs))
    grant = served.granted("net")
    own = [
        f"snapshots/sha256/{code}.zip",
        f"snapshots/sha256/{code}.manifest",
        f"snapshots/sha256/{data}.zip",
        "sets/one.csv",
    ]

    assert own == list(served.call("POST", "/v1/reads", {"grant": grant, "keys": own}).json["urls"])
    for key in (
        "sets/two.csv",
        f"snapshots/sha256/{'c' * 64}.zip",
        f"jobs/{KEY}/job.json",
        "../x",
        f"{PREFIX}outputs/x",
    ):
        answer = served.call("POST", "/v1/reads", {"grant": grant, "keys": [key]})
        assert (403, "NotReadable") == (answer.status, answer.reason), key


def test_sealed_files_of_former_attempts_may_be_read(served: Served) -> None:
    first = served.granted()
    served.send(first, "outputs/checkpoints/1.pt", b"one")
    served.send(first, "outputs/unlisted", b"x")
    seal(served, first, listed("outputs/checkpoints/1.pt", b"one"))
    served.kube.run(attempt=2, token="second")
    grant, key = served.granted("second"), PREFIX + "outputs/checkpoints/1.pt"

    answer = served.call("POST", "/v1/reads", {"grant": grant, "keys": [key, PREFIX + "seal.json"]})

    assert b"one" == served.call("GET", answer.json["urls"][key]).body
    assert 403 == served.call("POST", "/v1/reads", {"grant": grant, "keys": [PREFIX + "outputs/unlisted"]}).status
    assert 403 == served.call("POST", "/v1/reads", {"grant": first, "keys": [key]}).status, "not its own attempt's"


# -- parts


def test_a_large_file_goes_in_parts(served: Served) -> None:
    grant, parts = served.granted(), [b"a" * 10, b"b" * 5]
    upload = served.call("POST", "/v1/multipart", {"grant": grant, "action": "create", "path": "outputs/big"}).json[
        "uploadId"
    ]
    asked = [
        {"number": n, "size": len(part), "sha256": hashlib.sha256(part).hexdigest()} for n, part in enumerate(parts, 1)
    ]
    same = {"grant": grant, "path": "outputs/big", "uploadId": upload}
    signed = served.call("POST", "/v1/multipart", {**same, "action": "sign", "parts": asked}).json["parts"]
    etags = [served.put(entry, part).headers["etag"] for entry, part in zip(signed, parts, strict=True)]
    done = [{"number": n, "etag": etag, "sha256": asked[n - 1]["sha256"]} for n, etag in enumerate(etags, 1)]

    assert 200 == served.call("POST", "/v1/multipart", {**same, "action": "complete", "parts": done}).status
    assert b"".join(parts) == stored(served, "outputs/big")


def test_parts_of_a_sealed_rank_are_not_taken_but_forgotten(served: Served) -> None:
    grant = served.granted()
    upload = served.call("POST", "/v1/multipart", {"grant": grant, "action": "create", "path": "outputs/big"}).json[
        "uploadId"
    ]
    seal(served, grant)
    same = {"grant": grant, "path": "outputs/big", "uploadId": upload}
    parts = [{"number": 1, "etag": "e", "sha256": "0" * 64}]

    assert 409 == served.call("POST", "/v1/multipart", {**same, "action": "complete", "parts": parts}).status
    assert 409 == served.call("POST", "/v1/multipart", {**same, "action": "create"}).status
    assert 200 == served.call("POST", "/v1/multipart", {**same, "action": "abort"}).status


# -- sealing


def test_a_seal_lists_what_is_there(served: Served) -> None:
    grant = served.granted()
    served.send(grant, "logs/.segments/0000000000000000", LOG[:8])
    served.send(grant, "logs/std_log.txt", LOG)
    served.send(grant, "outputs/model.bin", b"weights")

    answer = seal(served, grant, listed("outputs/model.bin", b"weights"), listed("logs/std_log.txt", LOG))

    assert 200 == answer.status, answer.body
    found = answer.json["seal"]
    assert (True, None, "server") == (found["complete"], found["reason"], found["sealedBy"])
    assert ["logs/std_log.txt", "outputs/model.bin"] == [file["path"] for file in found["files"]]
    assert encode(found) == stored(served, "seal.json")
    assert None is stored(served, "logs/.segments/0000000000000000"), "the live pieces have done their work"


def test_missing_files_make_an_incomplete_seal(served: Served) -> None:
    answer = seal(
        served, served.granted(), missing=[{"path": "outputs/" + "x" * 900, "size": 3, "reason": "NameTooLong: 900"}]
    )

    assert (False, "OutputsNotSaved") == (answer.json["seal"]["complete"], answer.json["seal"]["reason"])


@pytest.mark.parametrize(
    "claimed",
    [
        pytest.param(listed("outputs/x", b"123456"), id="another size"),
        pytest.param(listed("outputs/x", b"54321"), id="another content"),
        pytest.param(listed("outputs/other", b"12345"), id="another name"),
    ],
)
def test_a_file_that_is_not_there_as_listed_is_not_sealed(served: Served, claimed: dict[str, Any]) -> None:
    grant = served.granted()
    served.send(grant, "outputs/x", b"12345")

    answer = seal(served, grant, claimed)

    assert (422, [claimed["path"]]) == (answer.status, answer.json["absent"])
    assert None is stored(served, "seal.json")


def test_the_same_seal_again_is_the_same_answer_and_another_one_is_refused(served: Served) -> None:
    grant = served.granted()
    first = seal(served, grant)

    again, other = (
        seal(served, grant),
        seal(served, grant, missing=[{"path": "outputs/x", "size": 1, "reason": "Gone"}]),
    )

    assert (200, first.json) == (again.status, again.json)
    assert (409, "Sealed", first.json["seal"]) == (other.status, other.reason, other.json["seal"])


def test_after_the_seal_nothing_is_signed(served: Served) -> None:
    grant = served.granted()
    seal(served, grant)

    answer = write(served, grant, listed("outputs/late", b"x"))

    assert (409, "Sealed") == (answer.status, answer.reason)


def test_a_seal_by_the_operator_stands(served: Served) -> None:
    """A lost rank was closed as incomplete; its pod comes back."""
    grant = served.granted()
    standing = {
        "version": 1, "job": KEY, "attempt": 1, "rank": 0, "complete": False, "reason": "NodeLost", "message": "", "exit": None,
        "files": [], "missing": [], "sealedAt": "2026-01-01T00:00:00Z", "sealedBy": "operator",
    }  # fmt: skip
    path = served.store().path(layout.seal(KEY, 1, 0))
    path.parent.mkdir(parents=True)
    path.write_bytes(encode(standing))

    answer = seal(served, grant)

    assert (409, "NodeLost") == (answer.status, answer.json["seal"]["reason"])


def test_a_long_list_is_checked_in_several_requests(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    grant = served.granted()
    served.send(grant, "outputs/x", b"12345")
    monkeypatch.setattr("stoker.server.seals.CHECK_SECONDS", -1.0)

    answer = seal(served, grant, listed("outputs/x", b"12345"))

    assert (503, "StillChecking") == (answer.status, answer.reason)
    assert "retry-after" in answer.headers


@pytest.mark.parametrize(
    "more",
    [
        {"exit": {"version": 2}}, {"exit": {"version": 1, "code": "0"}}, {"files": [{"path": "seal.json", "size": 0, "sha256": "0" * 64}]},
        {"files": [listed("outputs/x", b""), listed("outputs/x", b"")]},
        {"files": [listed("logs/.segments/0000000000000000", b"")]}, {"files": "all"},
    ],
)  # fmt: skip
def test_a_request_to_seal_that_is_no_such_thing_is_refused(served: Served, more: dict[str, Any]) -> None:
    body = {"grant": served.granted(), "exit": None, "files": [], "missing": [], **more}

    assert 400 == served.call("POST", "/v1/seal", body).status
    assert None is stored(served, "seal.json")


def test_the_tail_of_the_log_is_bounded(served: Served) -> None:
    record = ExitRecord(code=1, log_tail="é" * 5000, message="m" * 9000).document()
    body = {"grant": served.granted(), "exit": record, "files": [], "missing": []}

    found = served.call("POST", "/v1/seal", body).json["seal"]["exit"]

    assert len(found["logTail"].encode()) <= 2048
    assert 4096 == len(found["message"])


async def test_a_seal_stands_where_unfinished_uploads_cannot_be_removed_and_they_are_named(
    served: Served, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def refuse(self: FileStore, prefix: str) -> int:
        raise StoreRefused(f"{prefix}: 403 AccessDenied", "AccessDenied")

    monkeypatch.setattr(FileStore, "drop_leftovers", refuse)

    assert 200 == seal(served, served.granted()).status

    assert f"unfinished uploads below {PREFIX} may be left: {PREFIX}: 403 AccessDenied" in caplog.text
