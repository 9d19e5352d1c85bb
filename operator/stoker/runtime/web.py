"""HTTP for the agent: kept connections, bodies that stream, and three kinds of answers.

An answer is good (2xx), may be better later (`Transient`), or is a no (`Refused`). Nothing here waits or repeats;
`patiently` does, for callers that have nothing else to do.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import random
import select
import socket
import ssl
import sys
import threading
import time
from typing import Any, Callable, Dict, Iterator, Mapping, NamedTuple, Optional, Protocol, Tuple, TypeVar, Union, cast
from urllib.parse import urlsplit

_CHUNK = 256 * 1024
#: Sent at once. Python counts the timeout over one whole send: a large one would not get through a slow network.
_SEND_BYTES = 16 * 1024
#: Longest answer that is kept in memory.
MAX_ANSWER_BYTES = 64 * 1024 * 1024
Body = Union[bytes, Callable[[], Iterator[bytes]], None]
Result = TypeVar("Result")


class Transient(Exception):
    """It did not work now and may later: no connection, 408, 429 or 5xx. retry_after: seconds, if the server said."""

    def __init__(self, message: str, retry_after: Optional[float] = None) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class Refused(Exception):
    """A definite no. status: HTTP status; reason: the server's CamelCase word or empty; answer: its JSON or None."""

    def __init__(self, message: str, status: int, reason: str = "", answer: Any = None) -> None:
        super().__init__(message)
        self.status, self.reason, self.answer = status, reason, answer


class Answer(NamedTuple):
    """A 2xx or 3xx answer. Header names are lower case."""

    status: int
    headers: Dict[str, str]
    body: bytes


class Sink(Protocol):
    """Where the body of an answer goes. begin: called before the first byte, with the HTTP status."""

    def begin(self, status: int) -> None: ...

    def write(self, chunk: bytes) -> None: ...


class Web:
    """Connections kept per thread and host. Safe to share between threads. timeout: seconds without a byte in either
    direction, after which a connection is given up; a slow one that moves is not."""

    def __init__(self, timeout: float = 60.0) -> None:
        self._timeout = timeout
        self._local = threading.local()
        self._tls: Optional[ssl.SSLContext] = None

    def request(
        self,
        method: str,
        url: str,
        headers: Optional[Mapping[str, str]] = None,
        body: Body = None,
        size: Optional[int] = None,
        into: Optional[Sink] = None,
        limit: int = MAX_ANSWER_BYTES,
    ) -> Answer:
        """One request. body: bytes, or a function that yields `size` bytes afresh at every call. into: where the
        body of a 2xx answer goes (else it is kept, at most `limit` bytes). Raises Transient or Refused."""
        parts = urlsplit(url)
        sent = dict(headers or {})
        if method in ("PUT", "POST") and "content-length" not in {name.lower() for name in sent}:
            sent["Content-Length"] = str(len(body) if isinstance(body, bytes) else size or 0)
        target = (parts.path or "/") + ("?" + parts.query if parts.query else "")
        for last_try in (False, True):
            connection, reused = self._connection(parts.scheme, parts.netloc)
            try:
                # A server that refuses a body may close before it has read all: its answer is there to be read.
                with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                    connection.request(method, target, _in_pieces(body), sent)
                    self._await_sent(connection)
                response = connection.getresponse()
                return self._answer(method, url, connection, response, into, limit)
            except (OSError, http.client.HTTPException) as error:
                self._forget(parts.scheme, parts.netloc)
                # A kept connection may have been closed by the other side meanwhile: that is no failure yet.
                if reused and not last_try and not isinstance(error, socket.timeout):
                    continue
                raise Transient("%s %s: %s" % (method, _shown(url), _words(error))) from None
            except BaseException:
                self._forget(parts.scheme, parts.netloc)
                raise
        raise AssertionError("unreachable")

    def post(self, url: str, document: Any) -> Any:
        """POST a JSON document and return the JSON of the answer."""
        answer = self.request("POST", url, {"Content-Type": "application/json"}, json.dumps(document).encode("ascii"))
        try:
            return json.loads(answer.body.decode("utf-8") or "null")
        except ValueError as error:
            raise Transient("POST %s: the answer is not JSON: %s" % (_shown(url), error)) from None

    def close(self) -> None:
        """Close this thread's connections."""
        for connection in self._kept().values():
            connection.close()
        self._kept().clear()

    def _kept(self) -> Dict[Tuple[str, str], http.client.HTTPConnection]:
        if not hasattr(self._local, "kept"):
            self._local.kept = {}
        return cast("Dict[Tuple[str, str], http.client.HTTPConnection]", self._local.kept)

    def _connection(self, scheme: str, host: str) -> Tuple[http.client.HTTPConnection, bool]:
        kept = self._kept().get((scheme, host))
        if kept is not None:
            return kept, True
        if scheme == "https":
            if self._tls is None:
                self._tls = ssl.create_default_context()
            new = http.client.HTTPSConnection(host, timeout=self._timeout, context=self._tls)
        elif scheme == "http":
            new = http.client.HTTPConnection(host, timeout=self._timeout)  # type: ignore[assignment]
        else:
            raise Refused("%s://%s is neither http nor https" % (scheme, host), 0)
        self._kept()[(scheme, host)] = new
        return new, False

    def _await_sent(self, connection: http.client.HTTPConnection) -> None:
        """Wait while the network still takes what we have sent: over a slow one that is longer than the timeout."""
        left = _unsent_bytes(connection.sock)
        while left and not select.select([connection.sock], [], [], self._timeout)[0]:
            before, left = left, _unsent_bytes(connection.sock)
            if left >= before:
                raise socket.timeout("no byte was taken for %g s" % self._timeout)

    def _forget(self, scheme: str, host: str) -> None:
        kept = self._kept().pop((scheme, host), None)
        if kept is not None:
            kept.close()

    def _answer(
        self,
        method: str,
        url: str,
        connection: http.client.HTTPConnection,
        response: http.client.HTTPResponse,
        into: Optional[Sink],
        limit: int,
    ) -> Answer:
        headers = {name.lower(): value for name, value in response.getheaders()}
        if response.status < 300 and into is not None:
            _copy(response, into, headers)
            body = b""
        else:
            body = response.read(limit + 1)
            if len(body) > limit:
                raise Refused("%s %s: the answer has more than %d bytes" % (method, _shown(url), limit), 0)
        if response.status < 400:
            return Answer(response.status, headers, body)
        raise _failure(method, url, response.status, headers, body)


def _in_pieces(body: Body) -> Union[bytes, Iterator[Any], None]:
    if isinstance(body, bytes):
        return body if len(body) <= _SEND_BYTES else _pieces(iter([body]))
    return _pieces(body()) if body is not None else None


def _pieces(chunks: Iterator[bytes]) -> Iterator[Any]:
    for chunk in chunks:
        view = memoryview(chunk)
        for start in range(0, len(view), _SEND_BYTES):
            yield view[start : start + _SEND_BYTES]


def _unsent_bytes(connected: Any) -> int:
    """Bytes that the kernel holds for the other side and that this has not confirmed; 0 where nobody can tell."""
    if sys.platform != "linux":
        return 0
    import fcntl
    import struct
    import termios

    return int(struct.unpack("i", fcntl.ioctl(connected.fileno(), termios.TIOCOUTQ, bytes(4)))[0])


def _copy(response: http.client.HTTPResponse, into: Sink, headers: Mapping[str, str]) -> None:
    received = 0
    into.begin(response.status)
    while True:
        chunk = response.read(_CHUNK)
        if not chunk:
            break
        into.write(chunk)
        received += len(chunk)
    # http.client does not complain about a body that ends early when it is read in pieces.
    if "content-length" in headers and received != int(headers["content-length"]):
        raise http.client.IncompleteRead(b"", int(headers["content-length"]) - received)


def _failure(method: str, url: str, status: int, headers: Mapping[str, str], body: bytes) -> Exception:
    answer, reason, words = None, "", body[:300].decode("utf-8", "replace").strip()
    try:
        answer = json.loads(body.decode("utf-8"))
        reason, words = answer["error"]["reason"], answer["error"]["message"]
    except (ValueError, KeyError, TypeError):
        pass
    message = "%s %s: %d %s" % (method, _shown(url), status, words)
    # S3 answers 400 RequestTimeout when a part came too slowly, and 409 when two writes met: both may be repeated.
    odd = (status == 400 and b"RequestTimeout" in body) or (status == 409 and b"ConditionalRequestConflict" in body)
    if status in (408, 425, 429) or status >= 500 or odd:
        return Transient(message, _seconds(headers.get("retry-after")))
    return Refused(message, status, str(reason), answer)


def _seconds(text: Optional[str]) -> Optional[float]:
    return float(text) if text is not None and text.strip().isdigit() else None


def _shown(url: str) -> str:
    """A URL without its query: signatures do not belong into logs."""
    return url.split("?", 1)[0]


def _words(error: BaseException) -> str:
    return str(error) or type(error).__name__


def backoff(failures: int, retry_after: Optional[float] = None, most: float = 15.0) -> float:
    """Seconds to wait after so many failures in a row (1 = the first): doubling from 0.2 s, jittered, bounded; a
    server's Retry-After is a lower bound (at most 60 s)."""
    wait = min(most, 0.2 * 2.0 ** min(failures - 1, 16)) * random.uniform(0.5, 1.0)
    return max(wait, min(retry_after or 0.0, 60.0) * random.uniform(1.0, 1.1))


def patiently(
    call: Callable[[], Result],
    deadline: float,
    say: Callable[[str], None],
    sleep: Callable[[float], None] = time.sleep,
    now: Callable[[], float] = time.monotonic,
) -> Result:
    """Repeat a call while it raises Transient, until `deadline` (monotonic seconds); then the last Transient."""
    failures = 0
    while True:
        try:
            return call()
        except Transient as error:
            failures += 1
            wait = backoff(failures, error.retry_after, most=5.0)
            if now() + wait > deadline:
                raise
            say("%s; next try in %.1f s" % (error, wait))
        sleep(wait)
