"""Signed URLs: what a pod or a person may do with one object for a quarter of an hour, without any credential.

A signature covers the method, the key, and every header named with it: the length, the SHA-256 of the content and,
where asked, `If-None-Match: *`. The holder sends exactly these headers. Parts of large files are signed one by one;
starting, completing and aborting an upload in parts stays with the server.
"""

import base64
import functools
import hashlib
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, NamedTuple, cast

from stoker.storage.objects import (
    BadStoreUrl,
    StoreError,
    StoreOptions,
    StoreRefused,
    StoreUnavailable,
    check_key,
    split_s3_url,
)

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

#: How long a signed URL works (seconds).
EXPIRES = 900
#: An upload in parts may have this many; S3 wants 5 MiB or more in each but the last.
MOST_PARTS = 10_000
_ONE_PART = "-1"

_PASSING_CODES = {"RequestTimeout", "SlowDown", "ServiceUnavailable", "InternalError", "OperationAborted", "Throttling"}


class Signed(NamedTuple):
    """A URL and the headers that must be sent with it, no fewer and with these values."""

    url: str
    headers: dict[str, str]


class Part(NamedTuple):
    """A part as stored. number: from 1. etag: as the store answered it. sha256: hex of the part's content."""

    number: int
    etag: str
    sha256: str


@dataclass
class Signer:
    """Signs for the objects below one store URL. client_endpoint: where people reach the store, if elsewhere than pods.

    Safe to share between threads. Calls that ask the store (create, complete, abort, checksum) block: from a loop, use
    asyncio.to_thread.
    """

    url: str
    options: StoreOptions
    client_endpoint: str = ""
    expires: int = EXPIRES
    _lock: threading.Lock = field(default_factory=threading.Lock, init=False, repr=False)
    _clients: dict[str, "S3Client"] = field(default_factory=dict, init=False, repr=False)

    def __post_init__(self) -> None:
        self._bucket, self._prefix = split_s3_url(self.url)
        if not 1 <= self.expires <= 604_800:
            raise BadStoreUrl(f"expires={self.expires}: a signed URL works for 1 to 604800 seconds")

    def get(self, key: str, *, for_people: bool = False) -> Signed:
        """Read one object (any range of it)."""
        return self._signed("get_object", key, {}, {}, for_people)

    def put(
        self,
        key: str,
        size: int,
        sha256: str,
        *,
        only_if_absent: bool = False,
        if_match: str = "",
        for_people: bool = False,
    ) -> Signed:
        """Store exactly these bytes under the key. sha256: hex. if_match: only in place of the object of this etag."""
        params: dict[str, Any] = {"ContentLength": size, "ChecksumSHA256": _base64(sha256)}
        headers = {"Content-Length": str(size), "x-amz-checksum-sha256": _base64(sha256)}
        if only_if_absent:
            params["IfNoneMatch"] = headers["If-None-Match"] = "*"
        if if_match:
            quoted = if_match if if_match.startswith('"') else f'"{if_match}"'
            params["IfMatch"] = headers["If-Match"] = quoted
        return self._signed("put_object", key, params, headers, for_people)

    def put_part(self, key: str, upload_id: str, number: int, size: int, sha256: str) -> Signed:
        """Store exactly these bytes as one part (from 1) of an upload that `create_upload` started."""
        if not 1 <= number <= MOST_PARTS:
            raise StoreRefused(f"{key}: part {number}: parts count from 1 to {MOST_PARTS}", "InvalidPart")
        params = {
            "UploadId": upload_id,
            "PartNumber": number,
            "ContentLength": size,
            "ChecksumSHA256": _base64(sha256),
        }
        headers = {"Content-Length": str(size), "x-amz-checksum-sha256": _base64(sha256)}
        return self._signed("upload_part", key, params, headers, False)

    def create_upload(self, key: str) -> str:
        """Start an upload in parts; returns its id."""
        answer = self._ask("create_multipart_upload", key, ChecksumAlgorithm="SHA256")
        return cast(str, answer["UploadId"])

    def complete_upload(self, key: str, upload_id: str, parts: Sequence[Part]) -> None:
        """Make the object out of its parts. One that a lost answer hid is found and counts as done."""
        stored = [
            {"PartNumber": part.number, "ETag": part.etag, "ChecksumSHA256": _base64(part.sha256)}
            for part in sorted(parts)
        ]
        try:
            self._ask("complete_multipart_upload", key, UploadId=upload_id, MultipartUpload={"Parts": stored})
        except StoreRefused as error:
            if error.code != "NoSuchUpload" or self._etag(key) != _etag_of(sorted(parts)):
                raise

    def abort_upload(self, key: str, upload_id: str) -> None:
        """Forget an upload and its parts; one that is not there is no error."""
        try:
            self._ask("abort_multipart_upload", key, UploadId=upload_id)
        except StoreRefused as error:
            if error.code != "NoSuchUpload":
                raise

    def checksum(self, key: str) -> str | None:
        """What the store itself keeps to know an object's content by; `is_of` compares it with a SHA-256.

        None: it keeps nothing of use (an upload in several parts, a store without checksums), or there is no such object.
        """
        try:
            answer = self._ask("head_object", key, ChecksumMode="ENABLED")
        except StoreRefused as error:
            if error.code in ("404", "NoSuchKey"):
                return None
            raise
        value = str(answer.get("ChecksumSHA256") or "")
        digest, _, parts = value.partition("-")
        if not digest or ((parts or answer.get("ChecksumType") == "COMPOSITE") and parts != "1"):
            return None
        return base64.b64decode(digest).hex() + (_ONE_PART if parts else "")

    def _etag(self, key: str) -> str | None:
        try:
            return str(self._ask("head_object", key)["ETag"]).strip('"')
        except StoreRefused as error:
            if error.code in ("404", "NoSuchKey"):
                return None
            raise

    def _full(self, key: str) -> str:
        check_key(key)
        return f"{self._prefix}/{key}" if self._prefix else key

    def _signed(
        self, method: str, key: str, params: Mapping[str, Any], headers: dict[str, str], for_people: bool
    ) -> Signed:
        client = self._client(self.client_endpoint if for_people else "")
        url = client.generate_presigned_url(
            method,
            Params={"Bucket": self._bucket, "Key": self._full(key), **params},
            ExpiresIn=self.expires,
        )
        return Signed(url, headers)

    def _ask(self, method: str, key: str, **params: Any) -> dict[str, Any]:
        from botocore.exceptions import BotoCoreError, ClientError

        call = getattr(self._client(""), method)
        try:
            return cast(dict[str, Any], call(Bucket=self._bucket, Key=self._full(key), **params))
        except ClientError as error:
            raise _said(f"{self.url}: {key}", error.response) from error
        except BotoCoreError as error:
            raise StoreUnavailable(f"{self.url}: {key}: {error}") from error

    def _client(self, endpoint: str) -> "S3Client":
        with self._lock:
            if endpoint not in self._clients:
                self._clients[endpoint] = s3_client(replace(self.options, endpoint=endpoint or self.options.endpoint))
            return self._clients[endpoint]


def is_of(checksum: str, sha256: str) -> bool:
    """Whether a store's checksum (see Signer.checksum) is that of a content with this SHA-256 (hex)."""
    if checksum.endswith(_ONE_PART):
        # S3's sum over parts is the SHA-256 of the parts' SHA-256s.
        return checksum == hashlib.sha256(bytes.fromhex(sha256)).hexdigest() + _ONE_PART
    return checksum == sha256


@functools.lru_cache(maxsize=64)
def s3_client(options: StoreOptions) -> "S3Client":
    """A boto3 client as every S3 store understands it: no checksum trailers of its own accord (they broke many
    stores), signature version 4, addresses by path wherever an endpoint is given."""
    import boto3
    from botocore.config import Config

    return boto3.session.Session().client(
        "s3",
        endpoint_url=options.endpoint or None,
        region_name=options.region,
        aws_access_key_id=options.access_key or None,
        aws_secret_access_key=options.secret_key or None,
        aws_session_token=options.session_token or None,
        config=Config(
            signature_version="s3v4",
            s3={"addressing_style": "path" if options.uses_path_style else "virtual"},
            request_checksum_calculation="when_required",
            response_checksum_validation="when_required",
            connect_timeout=5,
            read_timeout=120,
            retries={"mode": "standard", "total_max_attempts": 4},
        ),
    )


def _base64(sha256: str) -> str:
    try:
        digest = bytes.fromhex(sha256)
    except ValueError:
        digest = b""
    if len(digest) != 32:
        raise StoreRefused(f"sha256 {sha256!r} is not 64 hex digits", "BadDigest")
    return base64.b64encode(digest).decode()


def _etag_of(parts: Sequence[Part]) -> str | None:
    """The etag that S3 gives an object made of these parts; None where the store's etags are not MD5 sums."""
    try:
        sums = b"".join(bytes.fromhex(part.etag.strip('"')) for part in parts)
    except ValueError:
        return None
    return f"{hashlib.md5(sums, usedforsecurity=False).hexdigest()}-{len(parts)}"


def _said(where: str, response: Mapping[str, Any]) -> StoreError:
    code = str(response.get("Error", {}).get("Code", ""))
    status = int(response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))
    if status >= 500 or status in (408, 429) or code in _PASSING_CODES:
        return StoreUnavailable(f"{where}: the store answered {status} {code}".rstrip())
    return StoreRefused(f"{where}: the store answered {status} {code}".rstrip(), code)
