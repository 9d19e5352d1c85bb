"""Unfinished uploads as stores list them: in pages, unfiltered, not at all."""

from collections.abc import Mapping
from typing import Any

import pytest

from stoker.storage.leftovers import Uploads
from stoker.storage.objects import StoreError, StoreOptions, StoreRefused, StoreUnavailable

OPTIONS = StoreOptions("http://127.0.0.1:1", access_key="a", secret_key="b")


def page(*found: tuple[str, str], following: tuple[str, str] | None = None) -> bytes:
    uploads = "".join(f"<Upload><Key>{key}</Key><UploadId>{name}</UploadId></Upload>" for key, name in found)
    more = (
        f"<IsTruncated>true</IsTruncated><NextKeyMarker>{following[0]}</NextKeyMarker>"
        f"<NextUploadIdMarker>{following[1]}</NextUploadIdMarker>"
        if following
        else "<IsTruncated>false</IsTruncated>"
    )
    name = "http://s3.amazonaws.com/doc/2006-03-01/"
    return f'<ListMultipartUploadsResult xmlns="{name}">{more}{uploads}</ListMultipartUploadsResult>'.encode()


class Played(Uploads):
    """Answers by a script; what was asked."""

    def __init__(self, *answers: tuple[int, bytes]) -> None:
        super().__init__("bucket", OPTIONS)
        self.answers, self.asked = list(answers), list[Any]()

    def _send(self, method: str, key: str, query: Mapping[str, str]) -> tuple[int, bytes]:
        self.asked.append((method, key, dict(query)))
        return self.answers.pop(0)


def test_every_page_is_read_and_every_upload_aborted() -> None:
    store = Played((200, page(("p/a", "1"), following=("p/a", "1"))), (200, page(("p/a", "2"))), (204, b""), (204, b""))

    assert 2 == store.abort_below("p/")
    assert {"prefix": "p/", "uploads": "", "key-marker": "p/a", "upload-id-marker": "1"} == store.asked[1][2]
    assert [("DELETE", "p/a", {"uploadId": "1"}), ("DELETE", "p/a", {"uploadId": "2"})] == store.asked[2:]


def test_a_store_that_heeds_no_prefix_makes_us_abort_nothing_of_others() -> None:
    store = Played((200, page(("q/a", "1"), ("p/a", "2"))), (204, b""))

    assert 1 == store.abort_below("p/")
    assert ("DELETE", "p/a", {"uploadId": "2"}) == store.asked[-1]


def test_an_upload_that_ended_meanwhile_is_no_error() -> None:
    assert 1 == Played((200, page(("p/a", "1"))), (404, b"<Error><Code>NoSuchUpload</Code></Error>")).abort_below("p/")


@pytest.mark.parametrize(("status", "code"), [(501, b"NotImplemented"), (405, b"MethodNotAllowed")])
def test_a_store_that_does_not_list_uploads_leaves_none_to_abort(status: int, code: bytes) -> None:
    assert 0 == Played((status, b"<Error><Code>" + code + b"</Code></Error>")).abort_below("p/")


@pytest.mark.parametrize(
    ("status", "body", "kind", "words"),
    [
        (403, b"<Error><Code>AccessDenied</Code></Error>", StoreRefused, "403 AccessDenied"),
        (503, b"<Error><Code>SlowDown</Code></Error>", StoreUnavailable, "503 SlowDown"),
        (200, b"no xml", StoreUnavailable, "no XML"),
    ],
)
def test_other_answers_are_errors(status: int, body: bytes, kind: type[StoreError], words: str) -> None:
    with pytest.raises(kind, match=words):
        Played((status, body)).abort_below("p/")


def test_nobody_there_is_worth_another_try() -> None:
    with pytest.raises(StoreUnavailable, match=r"127\.0\.0\.1:1"):
        Uploads("bucket", OPTIONS).abort_below("p/")
