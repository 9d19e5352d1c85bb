"""A small S3 server in this process that keeps every promise but those it is told to break.

    with loose("if-none-match") as store: ...

It checks signed URLs as S3 does (signature version 4) and believes every request that is signed in its headers.
"""

import base64
import hashlib
import hmac
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import product
from typing import Any
from urllib.parse import parse_qsl, quote, unquote, urlsplit
from xml.etree import ElementTree
from xml.sax.saxutils import escape

from stoker.storage.objects import StoreOptions

ACCESS_KEY, SECRET_KEY = "AKIALOOSE", "secret"
BUCKET = "bucket"


class LooseStore:
    """breaks: of `if-none-match`, `complete-condition`, `if-match`, `length`, `sha256`, `key`, `dropped-header`,
    `abort`, `list`, `delete`, `signed`, `multipart`, `date`. skew: seconds that its clock is ahead. refuse: answers everything
    with this status and code. after: so many requests are served before it hangs up on all others."""

    def __init__(self, *breaks: str, skew: float = 0.0, refuse: tuple[int, str] | None = None, after: int = -1) -> None:
        self.breaks, self.skew, self.refuse, self.after = set(breaks), skew, refuse, after
        self.objects: dict[str, bytes] = {}
        self.uploads: dict[str, dict[int, bytes]] = {}
        self.seen: list[str] = []
        self.written: set[str] = set()
        self.lock = threading.Lock()
        self.url = ""

    @property
    def options(self) -> StoreOptions:
        return StoreOptions(self.url, access_key=ACCESS_KEY, secret_key=SECRET_KEY)


@contextmanager
def loose(*breaks: str, **how: Any) -> Iterator[LooseStore]:
    """The server, closed at the end of the block."""
    store = LooseStore(*breaks, **how)
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"store": store}))
    server.daemon_threads, server.block_on_close = True, False
    store.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield store
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    store: LooseStore

    def log_message(self, *_: object) -> None:
        """Say nothing."""

    def date_time_string(self, timestamp: float | None = None) -> str:
        return formatdate((timestamp or time.time()) + self.store.skew, usegmt=True)

    def serve(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if self.headers.get("x-amz-content-sha256", "").startswith("STREAMING"):
            raise AssertionError("a body in signed pieces is not known here")
        parts = urlsplit(self.path)
        self.key, self.query = unquote(parts.path), dict(parse_qsl(parts.query, keep_blank_values=True))
        with self.store.lock:
            if self.store.after == 0:
                self.close_connection = True
                return
            self.store.after -= 1
            if self.store.refuse is not None:
                self.say(*self.store.refuse)
            elif "X-Amz-Signature" in self.query and not self.is_signed(parts.path):
                self.say(403, "SignatureDoesNotMatch")
            else:
                getattr(self, f"on_{self.command.lower()}")(body)

    do_GET = do_PUT = do_HEAD = do_POST = do_DELETE = serve

    def say(self, status: int, code: str = "", body: bytes = b"", **headers: str) -> None:
        if code:
            body = f"<?xml version='1.0'?><Error><Code>{code}</Code><Message>m</Message></Error>".encode()
        self.send_response_only(status)
        if "date" not in self.store.breaks:
            self.send_header("Date", self.date_time_string())
        named = {"Content-Length": str(len(body)), **{name.replace("_", "-"): text for name, text in headers.items()}}
        for name, value in named.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    # -- Signed URLs.

    def is_signed(self, path: str) -> bool:
        """Whether the signature is for this request, or, where a check is broken, for one that differs in that."""
        breaks = self.store.breaks
        if "signed" in breaks:
            return False
        lengths = map(str, range(64)) if "length" in breaks else [self.headers.get("Content-Length", "")]
        paths = [path, *self.store.seen] if "key" in breaks else [path]
        conditions = [self.headers.get("If-None-Match"), *(["*"] if "dropped-header" in breaks else [])]
        for length, tried, condition in product(lengths, paths, conditions):
            if (
                self.signature(tried, {"content-length": length, "if-none-match": condition})
                == self.query["X-Amz-Signature"]
            ):
                self.store.seen.append(path)
                return True
        return False

    def signature(self, path: str, instead: dict[str, str | None]) -> str:
        signed = self.query["X-Amz-SignedHeaders"].split(";")
        headers = {name: instead.get(name, self.headers.get(name)) for name in signed}
        if any(value is None for value in headers.values()):
            return ""
        query = "&".join(
            f"{quote(name, safe='-_.~')}={quote(value, safe='-_.~')}"
            for name, value in sorted(self.query.items()) if name != "X-Amz-Signature"
        )  # fmt: skip
        lines = "".join(f"{name}:{value}\n" for name, value in headers.items())
        canonical = f"{self.command}\n{path}\n{query}\n{lines}\n{';'.join(signed)}\nUNSIGNED-PAYLOAD"
        at, scope = self.query["X-Amz-Date"], self.query["X-Amz-Credential"].partition("/")[2]
        text = f"AWS4-HMAC-SHA256\n{at}\n{scope}\n{hashlib.sha256(canonical.encode()).hexdigest()}"
        key = b"AWS4" + SECRET_KEY.encode()
        for part in (*scope.split("/"), text):
            key = hmac.new(key, part.encode(), hashlib.sha256).digest()
        return key.hex()

    # -- Objects and uploads.

    def on_head(self, body: bytes) -> None:
        self.on_get(body)

    def on_get(self, _: bytes) -> None:
        if "list-type" in self.query:
            self.say_list()
        elif self.key in self.store.objects:
            self.say_object(self.store.objects[self.key])
        else:
            self.say(404, "NoSuchKey")

    def say_object(self, content: bytes) -> None:
        self.say(200, body=content, ETag=_etag(content), Last_Modified=formatdate(time.time(), usegmt=True))

    def say_list(self) -> None:
        prefix = f"/{BUCKET}/{self.query.get('prefix', '')}"
        found = {} if "list" in self.store.breaks else self.store.objects
        entries = "".join(
            f"<Contents><Key>{escape(key.removeprefix(f'/{BUCKET}/'))}</Key><LastModified>2026-01-02T03:04:05.000Z</LastModified>"
            f"<ETag>{escape(_etag(content))}</ETag><Size>{len(content)}</Size><StorageClass>STANDARD</StorageClass></Contents>"
            for key, content in sorted(found.items()) if key.startswith(prefix)
        )  # fmt: skip
        text = f"<?xml version='1.0'?><ListBucketResult><IsTruncated>false</IsTruncated>{entries}</ListBucketResult>"
        self.say(200, body=text.encode())

    def is_refused(self, check_none: str, check_match: str) -> bool:
        """Answers 412 when a condition of this request does not hold and is checked."""
        there = self.store.objects.get(self.key)
        if self.headers.get("If-None-Match") == "*" and there is not None and check_none not in self.store.breaks:
            self.say(412, "PreconditionFailed")
            return True
        wanted = self.headers.get("If-Match")
        if wanted is not None and check_match not in self.store.breaks and (there is None or wanted != _etag(there)):
            self.say(412, "PreconditionFailed")
            return True
        return False

    def on_put(self, body: bytes) -> None:
        promised = self.headers.get("x-amz-checksum-sha256")
        if (
            promised
            and promised != base64.b64encode(hashlib.sha256(body).digest()).decode()
            and "sha256" not in self.store.breaks
        ):
            self.say(400, "BadDigest")
        elif "uploadId" in self.query:
            self.put_part(body)
        elif not self.is_refused("if-none-match", "if-match"):
            self.keep(body)
            self.say(200, ETag=_etag(body))

    def put_part(self, body: bytes) -> None:
        upload = self.store.uploads.get(self.query["uploadId"])
        if upload is None:
            self.say(404, "NoSuchUpload")
            return
        upload[int(self.query["partNumber"])] = body
        self.say(200, ETag=_etag(body))

    def on_post(self, body: bytes) -> None:
        if "uploads" in self.query:
            self.create_upload()
        elif "delete" in self.query:
            self.delete_many(body)
        elif self.query["uploadId"] not in self.store.uploads:
            self.say(404, "NoSuchUpload")
        elif not self.is_refused("complete-condition", "if-match"):
            upload = self.store.uploads.pop(self.query["uploadId"])
            content = b"".join(part for _, part in sorted(upload.items()))
            self.keep(content)
            text = (
                f"<CompleteMultipartUploadResult><ETag>{escape(_etag(content))}</ETag></CompleteMultipartUploadResult>"
            )
            self.say(200, body=text.encode())

    def create_upload(self) -> None:
        if "multipart" in self.store.breaks:
            self.say(405, "MethodNotAllowed")
            return
        upload_id = f"upload-{len(self.store.written)}-{len(self.store.uploads)}-{time.monotonic_ns()}"
        self.store.uploads[upload_id] = {}
        text = f"<InitiateMultipartUploadResult><UploadId>{upload_id}</UploadId></InitiateMultipartUploadResult>"
        self.say(200, body=text.encode())

    def delete_many(self, body: bytes) -> None:
        if "delete" in self.store.breaks:
            self.say(403, "AccessDenied")
            return
        keys = [str(one.text) for one in ElementTree.fromstring(body).iter() if one.tag.rpartition("}")[2] == "Key"]
        for key in keys:
            self.store.objects.pop(f"/{BUCKET}/{key}", None)
        gone = "".join(f"<Deleted><Key>{escape(key)}</Key></Deleted>" for key in keys)
        self.say(200, body=f"<?xml version='1.0'?><DeleteResult>{gone}</DeleteResult>".encode())

    def on_delete(self, _: bytes) -> None:
        if "uploadId" not in self.query:
            self.store.objects.pop(self.key, None)
        elif "abort" not in self.store.breaks:
            self.store.uploads.pop(self.query["uploadId"], None)
        self.say(204)

    def keep(self, content: bytes) -> None:
        self.store.objects[self.key] = content
        self.store.written.add(self.key)


def _etag(content: bytes) -> str:
    return f'"{hashlib.md5(content, usedforsecurity=False).hexdigest()}"'
