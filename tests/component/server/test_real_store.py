"""What a stolen or replayed URL can do at a real S3 server, with the URLs that the server hands out."""

import asyncio
import hashlib
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from stoker.controller.closing import close_rank
from stoker.core.plan import CloseRank
from stoker.server.workspaces import Place
from stoker.storage import layout, records
from stoker.storage.objects import ObjectStore, StoreOptions, open_store
from stoker.storage.signing import Signer
from tests.component.server.test_ranks import KEY, seal, write
from tests.component.storage.conftest import s3 as s3
from tests.component.storage.test_removal import open_uploads
from tests.support.serving import Answer, Served, job_record, listed, serving

pytestmark = pytest.mark.lab

MODEL = b"the weights, all of them"


class AtS3(Served):
    """A server with the store and the signer that the product has."""

    def place(self, url: str) -> Place:
        return Place(open_store(url, self.settings.options), Signer(url, self.settings.options))

    @property
    def real(self) -> ObjectStore:
        return self.place(f"{self.settings.storage_url}/team").store

    async def content(self, path: str) -> bytes | None:
        return await self.real.get(layout.rank_prefix(KEY, 1, 0) + path)

    def entry(self, grant: str, path: str, content: bytes) -> dict[str, Any]:
        answer = write(self, grant, listed(path, content))
        assert 200 == answer.status, answer.body
        found: dict[str, Any] = answer.json["objects"][0]
        return found


@pytest.fixture
def served(tmp_path: Path, s3: tuple[str, StoreOptions]) -> Iterator[AtS3]:
    url, options = s3
    served = AtS3(tmp_path, storage_url=f"{url}/{secrets.token_hex(4)}", options=options)
    served.kube.run()
    with serving(served):
        yield served


@pytest.fixture
async def grant(served: AtS3) -> str:
    await records.write_job(served.real, job_record())  # type: ignore[arg-type]
    return served.granted()


def changed(served: AtS3, entry: dict[str, Any], content: bytes, url: str = "", **headers: str) -> Answer:
    return served.put({"url": url or entry["url"], "headers": {**entry["headers"], **headers}}, content)


async def test_a_url_stores_its_file_once(served: AtS3, grant: str) -> None:
    entry = served.entry(grant, "outputs/a model (1) é.bin", MODEL)

    assert 200 == served.put(entry, MODEL).status
    assert 412 == served.put(entry, MODEL).status
    assert MODEL == await served.content("outputs/a model (1) é.bin")


async def test_a_stolen_url_takes_no_other_key_body_length_digest_or_condition(served: AtS3, grant: str) -> None:
    entry = served.entry(grant, "outputs/x", MODEL)
    other = b"x" * len(MODEL)
    digest = served.entry(grant, "outputs/y", other)["headers"]["x-amz-checksum-sha256"]
    unconditional = {
        "url": entry["url"],
        "headers": {k: v for k, v in entry["headers"].items() if k != "If-None-Match"},
    }

    for name in ("outputs/y", "seal.json", "logs/std_log.txt"):
        assert 403 == changed(served, entry, MODEL, entry["url"].replace("outputs/x", name)).status
    assert 403 == changed(served, entry, MODEL, entry["url"].replace("attempts/1/0", "attempts/1/1")).status
    assert 403 == changed(served, entry, MODEL + b"!").status, "bigger"
    assert 403 == changed(served, entry, MODEL[:-1]).status, "smaller"
    assert 400 == changed(served, entry, other).status, "other bytes"
    assert 403 == changed(served, entry, other, **{"x-amz-checksum-sha256": digest}).status, "other digest"
    assert 403 == served.put(unconditional, MODEL).status, "without its condition"
    assert 403 == served.call("DELETE", entry["url"]).status
    assert 403 == served.call("GET", entry["url"]).status
    assert None is await served.content("outputs/x")


async def test_the_end_of_a_url_is_signed_too(served: AtS3, grant: str) -> None:
    place = served.place(f"{served.settings.storage_url}/team")
    short = Signer(place.store.url, served.settings.options, expires=1)
    key = layout.rank_prefix(KEY, 1, 0) + "outputs/x"
    signed = short.put(key, len(MODEL), hashlib.sha256(MODEL).hexdigest())
    stale = {"url": signed.url.replace("X-Amz-Expires=1&", "X-Amz-Expires=900&"), "headers": signed.headers}

    assert 403 == served.put(stale, MODEL).status


async def test_an_older_url_does_not_bring_back_an_older_file(served: AtS3, grant: str) -> None:
    first = served.entry(grant, "outputs/ckpt", b"epoch 1")
    never_used = served.entry(grant, "outputs/ckpt", b"epoch 0")
    served.put(first, b"epoch 1")
    second = served.entry(grant, "outputs/ckpt", b"epoch 2")
    assert 200 == served.store_as(grant, second, b"epoch 2").status
    third = served.entry(grant, "outputs/ckpt", b"epoch 3")
    assert 200 == served.store_as(grant, third, b"epoch 3").status

    for entry, content in ((first, b"epoch 1"), (never_used, b"epoch 0")):
        assert 412 == served.put(entry, content).status
    for entry, content in ((second, b"epoch 2"), (third, b"epoch 3")):
        assert 404 == served.put(entry, content).status, "its upload is complete"
    assert b"epoch 3" == await served.content("outputs/ckpt")


async def test_after_the_seal_no_sealed_object_changes(served: AtS3, grant: str) -> None:
    early = served.entry(grant, "outputs/x", b"other")
    served.send(grant, "outputs/x", MODEL)
    replacing = served.entry(grant, "outputs/x", b"later")
    served.send(grant, "outputs/x", b"latest")
    assert 200 == seal(served, grant, listed("outputs/x", b"latest")).status

    assert 409 == write(served, grant, listed("outputs/x", MODEL)).status
    assert 412 == served.put(early, b"other").status
    assert 404 == served.put(replacing, b"later").status
    assert b"latest" == await served.content("outputs/x")


async def test_the_seal_is_checked_against_the_stores_own_checksum(served: AtS3, grant: str) -> None:
    served.send(grant, "outputs/x", MODEL)
    lie = listed("outputs/x", bytes(len(MODEL)))

    assert (422, ["outputs/x"]) == ((answer := seal(served, grant, lie)).status, answer.json["absent"])
    assert 200 == seal(served, grant, listed("outputs/x", MODEL)).status
    assert 409 == seal(served, grant).status


@pytest.mark.parametrize("before", [None, b"", b"another content"], ids=["new", "was empty", "replaced"])
@pytest.mark.parametrize("content", [MODEL, b""], ids=["some", "none"])
async def test_what_is_stored_already_is_told_and_may_be_sealed(
    served: AtS3, grant: str, before: bytes | None, content: bytes
) -> None:
    if before is not None:
        served.send(grant, "outputs/x", before)
    assert 200 == served.send(grant, "outputs/x", content).status

    (entry,) = write(served, grant, listed("outputs/x", content)).json["objects"]

    assert entry.get("stored")
    assert "uploadId" in write(served, grant, listed("outputs/x", b"more")).json["objects"][0]
    assert 422 == seal(served, grant, listed("outputs/x", bytes(len(content) or 1))).status
    assert 200 == seal(served, grant, listed("outputs/x", content)).status
    assert content == await served.content("outputs/x")


async def test_a_pod_of_the_protocol_before_replaces_by_a_condition(served: AtS3, grant: str) -> None:
    old = served.call("POST", "/v1/grant", {"protocol": 1}, "pod-token").json["grant"]
    served.send(old, "outputs/x", b"epoch 1")

    (entry,) = write(served, old, listed("outputs/x", MODEL)).json["objects"]

    assert "uploadId" not in entry
    assert 200 == served.put(entry, MODEL).status
    assert 412 == served.put(entry, MODEL).status
    assert MODEL == await served.content("outputs/x")


async def test_uploads_that_nobody_completed_are_gone_after_the_seal(served: AtS3, grant: str) -> None:
    served.send(grant, "outputs/x", MODEL)
    kept = served.entry(grant, "outputs/x", b"never completed")
    served.call("POST", "/v1/multipart", {"grant": grant, "action": "create", "path": "outputs/big"})
    assert 200 == seal(served, grant, listed("outputs/x", MODEL)).status

    assert 0 == await served.real.drop_leftovers(layout.rank_prefix(KEY, 1, 0))
    assert 404 == served.put(kept, b"never completed").status


async def test_parts_are_signed_one_by_one_and_closed_by_the_server(served: AtS3, grant: str) -> None:
    pieces = [secrets.token_bytes(5 << 20), b"the rest"]
    same = {"grant": grant, "path": "outputs/big"}
    same["uploadId"] = served.call("POST", "/v1/multipart", {**same, "action": "create"}).json["uploadId"]
    parts = [{"number": n, "size": len(p), "sha256": hashlib.sha256(p).hexdigest()} for n, p in enumerate(pieces, 1)]
    signed = served.call("POST", "/v1/multipart", {**same, "action": "sign", "parts": parts}).json["parts"]

    assert 400 == served.put(signed[1], b"not this").status
    assert (
        403
        == served.put({**signed[1], "url": signed[1]["url"].replace("partNumber=2", "partNumber=3")}, pieces[1]).status
    )
    assert (
        403
        == served.call(
            "POST", urlsplit(signed[0]["url"])._replace(query=f"uploadId={same['uploadId']}").geturl()
        ).status
    )
    done = [
        {"number": entry["number"], "etag": served.put(entry, piece).headers["etag"], "sha256": part["sha256"]}
        for entry, piece, part in zip(signed, pieces, parts, strict=True)
    ]
    for _ in range(2):  # a lost answer is asked for again
        assert 200 == served.call("POST", "/v1/multipart", {**same, "action": "complete", "parts": done}).status
    assert 404 == served.put(signed[1], pieces[1]).status, "a part of an upload that is complete"
    whole = b"".join(pieces)
    assert 200 == seal(served, grant, listed("outputs/big", whole)).status
    assert whole == await served.content("outputs/big")


@pytest.mark.parametrize("sealer", ["ship", "operator", "ship, asking again"])
async def test_what_was_begun_in_parts_and_never_ended_goes_with_the_seal(
    served: AtS3, grant: str, sealer: str
) -> None:
    """A create whose answer was lost is an upload that nobody knows; a pod that died aborts nothing."""
    for path in ("outputs/big", "outputs/big", "outputs/other"):
        assert 200 == served.call("POST", "/v1/multipart", {"grant": grant, "path": path, "action": "create"}).status
    signer = Signer(served.real.url, served.settings.options)
    other_rank = await asyncio.to_thread(signer.create_upload, layout.rank_prefix(KEY, 1, 1) + "outputs/theirs")
    assert 4 == len(open_uploads(signer, served.real.url))

    if sealer == "operator":
        await close_rank(served.real, CloseRank("team", KEY, 1, 0, "NodeLost", "node n0 is gone"), 0.0)
    else:
        for _ in range(1 + sealer.endswith("again")):
            assert 200 == seal(served, grant).status

    assert [other_rank] == [upload for _, upload in open_uploads(signer, served.real.url)]


async def test_a_read_url_reads_one_object(served: AtS3, grant: str) -> None:
    served.send(grant, "outputs/x", MODEL)
    seal(served, grant, listed("outputs/x", MODEL))
    served.kube.run(attempt=2, token="second")
    key = layout.rank_prefix(KEY, 1, 0) + "outputs/x"
    url = served.call("POST", "/v1/reads", {"grant": served.granted("second"), "keys": [key]}).json["urls"][key]

    assert MODEL == served.call("GET", url).body
    assert MODEL[4:8] == served.call("GET", url, Range="bytes=4-7").body
    assert 403 == served.call("GET", url.replace("outputs/x", "seal.json")).status
    assert served.call("PUT", url, b"x").status in (400, 403)
    assert served.call("DELETE", url).status in (400, 403)
