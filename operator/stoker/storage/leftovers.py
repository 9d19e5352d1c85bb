"""Uploads in parts that nobody finished: listed and aborted with the standard library, since the CLI has no boto3 and
obstore can do neither.

Requests are signed by AWS signature version 4, in the header.
"""

import hashlib
import hmac
import http.client
import time
from collections.abc import Mapping
from typing import NamedTuple
from urllib.parse import quote, urlencode, urlsplit
from xml.etree import ElementTree

from stoker.storage.objects import StoreError, StoreOptions, StoreRefused, StoreUnavailable

_TIMEOUT = 30.0
_EMPTY = hashlib.sha256(b"").hexdigest()
#: What stores answer that know no such listing: then they leave nothing that we could find.
_UNKNOWN_TO_STORE = {(405, "MethodNotAllowed"), (501, "NotImplemented")}


class Upload(NamedTuple):
    """key: in the bucket, the store's prefix included."""

    key: str
    upload_id: str


class Uploads:
    """The unfinished uploads in parts of one bucket. Blocks: from a loop, use a thread."""

    def __init__(self, bucket: str, options: StoreOptions) -> None:
        self._options = options
        endpoint = options.endpoint or f"https://s3.{options.region}.amazonaws.com"
        parts = urlsplit(endpoint)
        self._tls, self._host, self._base = parts.scheme == "https", parts.netloc, parts.path.rstrip("/")
        if options.uses_path_style:
            self._base += f"/{bucket}"
        else:
            self._host = f"{bucket}.{parts.netloc}"

    def abort_below(self, prefix: str) -> int:
        """Abort the unfinished uploads of keys with this prefix; how many. One that has ended meanwhile is no error."""
        found = self._below(prefix)
        for upload in found:
            status, body = self._send("DELETE", upload.key, {"uploadId": upload.upload_id})
            if status >= 400 and _code(body) != "NoSuchUpload":
                raise self._error(upload.key, status, body)
        return len(found)

    def _below(self, prefix: str) -> list[Upload]:
        found: list[Upload] = []
        marker: dict[str, str] = {}
        while True:
            status, body = self._send("GET", "", {"prefix": prefix, "uploads": "", **marker})
            if (status, _code(body)) in _UNKNOWN_TO_STORE:
                return []
            if status >= 400:
                raise self._error(prefix, status, body)
            page = _parsed(body)
            found += [
                Upload(_text(one, "Key"), _text(one, "UploadId"))
                for one in page.iterfind("{*}Upload")
                # A store that does not heed the prefix must not make us abort another run's upload.
                if _text(one, "Key").startswith(prefix)
            ]
            following = {
                "key-marker": _text(page, "NextKeyMarker"),
                "upload-id-marker": _text(page, "NextUploadIdMarker"),
            }
            if _text(page, "IsTruncated") != "true" or following == marker:
                return found
            marker = following

    def _send(self, method: str, key: str, query: Mapping[str, str]) -> tuple[int, bytes]:
        path = quote(f"{self._base}/{key}" if key else self._base or "/", safe="/-_.~")
        text = urlencode(sorted(query.items()), quote_via=quote, safe="-_.~")
        headers = self._signed(method, path, text)
        kind = http.client.HTTPSConnection if self._tls else http.client.HTTPConnection
        connection = kind(self._host, timeout=_TIMEOUT)
        try:
            connection.request(method, f"{path}?{text}", headers=headers)
            response = connection.getresponse()
            return response.status, response.read()
        except (OSError, http.client.HTTPException) as error:
            raise StoreUnavailable(f"{self._host}{path}: {error or type(error).__name__}") from error
        finally:
            connection.close()

    def _signed(self, method: str, path: str, query: str) -> dict[str, str]:
        moment = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
        headers = {"host": self._host, "x-amz-content-sha256": _EMPTY, "x-amz-date": moment}
        if self._options.session_token:
            headers["x-amz-security-token"] = self._options.session_token
        names = ";".join(sorted(headers))
        lines = "".join(f"{name}:{headers[name]}\n" for name in sorted(headers))
        canonical = "\n".join([method, path, query, lines, names, _EMPTY])
        scope = f"{moment[:8]}/{self._options.region}/s3/aws4_request"
        to_sign = "\n".join(["AWS4-HMAC-SHA256", moment, scope, hashlib.sha256(canonical.encode()).hexdigest()])
        key = f"AWS4{self._options.secret_key}".encode()
        for part in (*scope.split("/"), to_sign):
            key = hmac.digest(key, part.encode(), "sha256")
        credential = f"Credential={self._options.access_key}/{scope}"
        return {
            **headers,
            "Authorization": f"AWS4-HMAC-SHA256 {credential}, SignedHeaders={names}, Signature={key.hex()}",
        }

    def _error(self, key: str, status: int, body: bytes) -> StoreError:
        text = f"{self._host}: {key}: unfinished uploads: the store answered {status} {_code(body)}".rstrip()
        if status >= 500 or status in (408, 429):
            return StoreUnavailable(text)
        return StoreRefused(text, _code(body))


def _parsed(body: bytes) -> ElementTree.Element:
    try:
        return ElementTree.fromstring(body)
    except ElementTree.ParseError as error:
        raise StoreUnavailable(f"the store's list of unfinished uploads is no XML: {error}") from error


def _text(element: ElementTree.Element, name: str) -> str:
    return element.findtext(f"{{*}}{name}") or ""


def _code(body: bytes) -> str:
    _, _, rest = body.partition(b"<Code>")
    return rest.partition(b"</Code>")[0].decode("utf-8", "replace") if rest else ""
