"""A rank has one seal: of two that come at once, of a pod that comes back, of a request that is cut off."""

import asyncio
import http.client
import json
import secrets
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from stoker.controller.closing import close_rank
from stoker.core.plan import CloseRank
from stoker.storage import layout, records
from stoker.storage.objects import StoreOptions, StoreRefused
from tests.component.server.test_ranks import KEY, seal, write
from tests.component.server.test_real_store import AtS3
from tests.component.storage.conftest import s3 as s3
from tests.support.serving import Answer, Served, job_record, listed, serving

LOST = CloseRank("team", KEY, 1, 0, "NodeLost", "node n0 is gone")


@pytest.fixture(params=["folder", pytest.param("versitygw", marks=pytest.mark.lab)])
async def served(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Served]:
    """A server with one running job of one rank, at a store of each kind."""
    if request.param == "folder":
        served = Served(tmp_path)
    else:
        url, options = request.getfixturevalue("s3")
        served = AtS3(tmp_path, storage_url=f"{url}/{secrets.token_hex(4)}", options=options)
    served.kube.run()
    with serving(served):
        await records.write_job(store_of(served), job_record())  # type: ignore[arg-type]
        yield served


def store_of(served: Served) -> Any:
    return served.place(f"{served.settings.storage_url}/team").store


async def standing(served: Served) -> bytes | None:
    content: bytes | None = await store_of(served).get(layout.seal(KEY, 1, 0))
    return content


async def test_of_many_seals_at_once_one_stands(served: Served) -> None:
    grant = served.granted()
    rivals = [[{"path": f"outputs/{n}", "size": n, "reason": "Gone"}] for n in range(8)]

    with ThreadPoolExecutor(len(rivals)) as threads:
        answers = list(threads.map(lambda missing: seal(served, grant, missing=missing), rivals))

    (winner,) = [answer.json["seal"] for answer in answers if answer.status == 200]
    assert [409] * 7 == [answer.status for answer in answers if answer.status != 200]
    assert [winner] * 8 == [answer.json["seal"] for answer in answers]
    assert records.encode(winner) == await standing(served)


async def test_a_seal_and_the_closing_of_a_lost_rank_at_once_leave_one(served: Served) -> None:
    grant = served.granted()

    closed, answer = await asyncio.gather(
        close_rank(store_of(served), LOST, 0.0), asyncio.to_thread(seal, served, grant)
    )

    found = json.loads(await standing(served) or b"")
    assert found == closed == answer.json["seal"]
    assert answer.status == (200 if found["sealedBy"] == "server" else 409)


async def test_a_lost_pod_that_comes_back_is_given_nothing_and_seals_nothing(served: Served) -> None:
    grant = served.granted()
    served.send(grant, "outputs/x", b"before")
    upload = served.call("POST", "/v1/multipart", {"grant": grant, "action": "create", "path": "outputs/big"}).json
    early = write(served, grant, listed("outputs/y", b"after")).json["objects"][0]
    served.send(grant, "outputs/y", b"before")
    await close_rank(store_of(served), LOST, 0.0)
    before = await standing(served)

    part = {"number": 1, "size": 1, "sha256": "0" * 64}
    same = {"grant": grant, "path": "outputs/big", "uploadId": upload["uploadId"]}
    refused: list[Answer] = [
        served.grant(),
        write(served, grant, listed("outputs/x", b"after")),
        served.call("POST", "/v1/multipart", {**same, "action": "create"}),
        served.call("POST", "/v1/multipart", {**same, "action": "sign", "parts": [part]}),
        served.call("POST", "/v1/multipart", {**same, "action": "complete", "parts": [{**part, "etag": "e"}]}),
        seal(served, grant, listed("outputs/x", b"before")),
    ]

    assert [(409, "Sealed")] * len(refused) == [(answer.status, answer.reason) for answer in refused]
    assert 412 == served.put(early, b"after").status
    assert before == await standing(served)
    assert b"before" == await store_of(served).get(layout.rank_prefix(KEY, 1, 0) + "outputs/x")


@pytest.mark.parametrize("left", [1, 40])
async def test_a_request_to_seal_that_is_cut_off_seals_nothing(served: Served, left: int) -> None:
    body = json.dumps({"grant": served.granted(), "exit": None, "files": []}).encode()
    parts = urlsplit(served.url)
    connection = http.client.HTTPConnection(parts.netloc, timeout=10)
    connection.putrequest("POST", f"{parts.path}/v1/seal")
    connection.putheader("Content-Length", str(len(body)))
    connection.endheaders(body[:-left])
    connection.close()

    assert 200 == served.call("GET", "/livez").status
    assert None is await standing(served)


@pytest.mark.parametrize("content", [b"", b"{", b'{"complete": true}'])
async def test_over_a_seal_that_nobody_can_read_none_is_written(served: Served, content: bytes) -> None:
    grant = served.granted()
    await store_of(served).put(layout.seal(KEY, 1, 0), content)

    assert 502 == seal(served, grant).status
    assert 409 == served.grant().status
    assert content == await standing(served)


# -- what the store refuses


@pytest.mark.parametrize(
    ("code", "expected"), [("AccessDenied", 424), ("NoSuchBucket", 424), ("QuotaExceeded", 424), ("NoSuchUpload", 404)]
)
async def test_a_no_of_the_store_is_no_outage_to_a_pod_that_saves(
    served: Served, monkeypatch: pytest.MonkeyPatch, code: str, expected: int
) -> None:
    grant = served.granted()

    async def no(*_: Any, **__: Any) -> Any:
        raise StoreRefused(f"the store answered {code}", code)

    monkeypatch.setattr(type(store_of(served)), "head", no)
    monkeypatch.setattr(type(store_of(served)), "get", no)

    assert expected == write(served, grant, listed("outputs/x", b"x")).status
    assert expected == seal(served, grant).status


@pytest.mark.lab
async def test_an_upload_that_the_store_forgot_is_started_anew(tmp_path: Path, s3: tuple[str, StoreOptions]) -> None:
    """Its lifecycle rule took it, or somebody aborted it: the pod must not complete it again and again."""
    url, options = s3
    served = AtS3(tmp_path, storage_url=f"{url}/{secrets.token_hex(4)}", options=options)
    served.kube.run()
    with serving(served):
        await records.write_job(store_of(served), job_record())  # type: ignore[arg-type]
        same = {"grant": served.granted(), "path": "outputs/big"}
        same["uploadId"] = served.call("POST", "/v1/multipart", {**same, "action": "create"}).json["uploadId"]
        served.call("POST", "/v1/multipart", {**same, "action": "abort"})
        parts = [{"number": 1, "etag": "0" * 32, "sha256": "0" * 64}]

        answer = served.call("POST", "/v1/multipart", {**same, "action": "complete", "parts": parts})

    assert (404, "NoSuchUpload") == (answer.status, answer.reason)
