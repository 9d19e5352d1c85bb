"""What a signed URL allows, and that the store holds its holder to it."""

import hashlib
import urllib.error
import urllib.request

import pytest

from stoker.storage.objects import StoreOptions, StoreRefused, StoreUnavailable, open_store
from stoker.storage.signing import MOST_PARTS, Part, Signed, Signer, is_of

pytestmark = pytest.mark.lab


def send(
    method: str, signed: Signed, body: bytes | None = None, without: str = "", **more: str
) -> tuple[int, bytes, str]:
    """Status, body and etag of a request with a signed URL."""
    headers = {name: value for name, value in signed.headers.items() if name != without} | more
    request = urllib.request.Request(signed.url, data=body, method=method, headers=headers)
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:
            return answer.status, answer.read(), answer.headers.get("ETag", "")
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read(), ""


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def put(signer: Signer, key: str, content: bytes, **options: bool) -> Signed:
    return signer.put(key, len(content), sha256(content), **options)


@pytest.mark.parametrize("key", ["a", "jobs/x-00000000/attempts/1/0/outputs/a b#%[~]é+&=.txt", "deep/er/est"])
def test_a_signed_put_stores_and_a_signed_get_reads(signer: Signer, key: str) -> None:
    assert send("PUT", put(signer, key, b"hello"), b"hello")[0] == 200

    assert send("GET", signer.get(key))[:2] == (200, b"hello")
    assert send("GET", signer.get(key), Range="bytes=1-3")[:2] == (206, b"ell")
    assert sha256(b"hello") == signer.checksum(key)


def test_empty_files_go_one_after_another(signer: Signer) -> None:
    for number in range(20):
        assert send("PUT", put(signer, f"empty/{number}", b""), b"")[0] == 200
    assert sha256(b"") == signer.checksum("empty/3")


def test_other_bytes_than_signed_are_refused(signer: Signer) -> None:
    signed = put(signer, "k", b"hello")

    assert send("PUT", signed, b"HELLO")[0] == 400
    assert signer.checksum("k") is None


def test_another_length_than_signed_is_refused(signer: Signer) -> None:
    signed = put(signer, "k", b"hello")

    for body in (b"hell", b"hello, world"):
        longer = Signed(signed.url, {**signed.headers, "Content-Length": str(len(body))})
        assert send("PUT", longer, body)[0] == 403


@pytest.mark.parametrize("name", ["x-amz-checksum-sha256", "If-None-Match"])
def test_a_signed_header_cannot_be_left_out(signer: Signer, name: str) -> None:
    assert send("PUT", put(signer, "k", b"hello", only_if_absent=True), b"hello", without=name)[0] == 403


def test_a_url_is_for_one_key_and_one_method(signer: Signer) -> None:
    signed = put(signer, "mine", b"hello")

    assert send("PUT", Signed(signed.url.replace("/mine?", "/yours?"), signed.headers), b"hello")[0] == 403
    assert send("DELETE", signed, b"hello")[0] == 403
    assert send("GET", Signed(signed.url, {}))[0] == 403


def test_only_the_first_put_counts_where_asked(signer: Signer) -> None:
    assert send("PUT", put(signer, "once", b"one", only_if_absent=True), b"one")[0] == 200
    assert send("PUT", put(signer, "once", b"two", only_if_absent=True), b"two")[0] == 412
    assert send("GET", signer.get("once"))[1] == b"one"


def test_an_expired_url_is_refused(s3: tuple[str, StoreOptions], monkeypatch: pytest.MonkeyPatch) -> None:
    import datetime

    import botocore.auth

    url, options = s3
    real = botocore.auth.get_current_datetime
    monkeypatch.setattr(
        botocore.auth, "get_current_datetime", lambda *a, **k: real(*a, **k) - datetime.timedelta(seconds=901)
    )
    signed = put(Signer(url, options), "late", b"hello")
    monkeypatch.undo()

    assert send("PUT", signed, b"hello")[0] == 403


def test_a_large_file_goes_in_signed_parts(signer: Signer) -> None:
    contents = [b"a" * (5 << 20), b"b" * (5 << 20), b"tail"]
    upload = signer.create_upload("large.bin")
    parts = []
    for number, content in enumerate(contents, start=1):
        status, _, etag = send(
            "PUT", signer.put_part("large.bin", upload, number, len(content), sha256(content)), content
        )
        assert status == 200
        parts.append(Part(number, etag, sha256(content)))

    assert signer.checksum("large.bin") is None
    signer.complete_upload("large.bin", upload, list(reversed(parts)))
    signer.complete_upload("large.bin", upload, parts)  # as after a lost answer

    assert b"".join(contents) == send("GET", signer.get("large.bin"))[1]
    assert signer.checksum("large.bin") is None, "a sum over parts is not the content's"


def test_a_part_of_other_bytes_is_refused(signer: Signer) -> None:
    upload = signer.create_upload("k")

    assert send("PUT", signer.put_part("k", upload, 1, 5, sha256(b"hello")), b"HELLO")[0] == 400
    signer.abort_upload("k", upload)
    signer.abort_upload("k", upload)
    with pytest.raises(StoreRefused, match="k: the store answered 404 NoSuchUpload"):
        signer.complete_upload("k", upload, [Part(1, '"%s"' % ("0" * 32), sha256(b"hello"))])


def test_people_may_reach_the_store_elsewhere(s3: tuple[str, StoreOptions]) -> None:
    url, options = s3
    signer = Signer(url, options, client_endpoint="https://store.example:444")

    assert signer.get("k").url.startswith(options.endpoint)
    assert signer.get("k", for_people=True).url.startswith("https://store.example:444/")


@pytest.mark.parametrize("number", [0, MOST_PARTS + 1])
def test_part_numbers_have_bounds(signer: Signer, number: int) -> None:
    with pytest.raises(StoreRefused, match="parts count from 1"):
        signer.put_part("k", "u", number, 1, sha256(b""))


@pytest.mark.parametrize("digest", ["", "abc", "z" * 64, sha256(b"")[:-2]])
def test_a_digest_that_is_none_is_refused(signer: Signer, digest: str) -> None:
    with pytest.raises(StoreRefused, match="not 64 hex digits"):
        signer.put("k", 1, digest)


async def test_errors_say_whether_to_ask_again(s3: tuple[str, StoreOptions]) -> None:
    url, options = s3
    wrong_secret = StoreOptions(options.endpoint, options.region, options.access_key, "wrong")
    away = StoreOptions("http://127.0.0.1:9", options.region, options.access_key, options.secret_key)
    no_bucket = "s3://" + "no-such-bucket/x"

    for where, how, kind, message in (
        (url, wrong_secret, StoreRefused, "403"),
        (no_bucket, options, StoreRefused, "there is no bucket 'no-such-bucket'"),
        (url, away, StoreUnavailable, "127.0.0.1:9"),
    ):
        store = open_store(where, how)
        for call in (
            store.get("k"),
            store.put("k", b""),
            store.put("k", b"", only_if_absent=True),
            store.folders("x/"),
        ):
            with pytest.raises(kind, match=message):
                await call
    with pytest.raises(StoreRefused, match="NoSuchBucket"):
        Signer(no_bucket, options).create_upload("k")
    with pytest.raises(StoreUnavailable, match=r"127\.0\.0\.1:9"):
        Signer(url, away).create_upload("k")


@pytest.mark.parametrize("content", [b"", b"hello"])
def test_the_sum_over_one_part_tells_the_content(signer: Signer, content: bytes) -> None:
    upload = signer.create_upload("one")
    status, _, etag = send("PUT", signer.put_part("one", upload, 1, len(content), sha256(content)), content)
    assert status == 200

    signer.complete_upload("one", upload, [Part(1, etag, sha256(content))])

    found = signer.checksum("one")
    assert found is not None
    assert is_of(found, sha256(content))
    assert not is_of(found, sha256(b"other"))
    assert not is_of(sha256(content), sha256(b"other"))
    assert content == send("GET", signer.get("one"))[1]
