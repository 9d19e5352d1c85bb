"""A small HTTP proxy in front of the tests' store which does to its callers what stores and networks do.

    with faulty(cloud.url, Fault(answer=503, times=3)) as proxy: ...

A fault is used up by the requests that it matches, the first of the list first; everything else is passed on whole.
"""

import http.client
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit


def to_the_store(method: str, path: str, body: bytes) -> bool:
    """A signed PUT of an object or a part."""
    return method == "PUT"


@dataclass
class Fault:
    """What happens to the next `times` requests that `matches`. One of the others says what it is.

    answer: this status with `body` in place of the store's. passed_on: the store gets the request all the same, and
    then `answer`, or with none an ended connection, is all that the caller hears. half_close: half of the body is
    read, then our side of the connection is closed. stall: nothing is read or said any more. bytes_per_second: the
    body is read so slowly, and then passed on.
    """

    times: int = 1
    answer: int = 0
    body: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)
    passed_on: bool = False
    half_close: bool = False
    stall: bool = False
    bytes_per_second: int = 0
    matches: Callable[[str, str, bytes], bool] = to_the_store
    met: int = 0


class FaultyStore:
    """The proxy. `faults` may be changed at any time."""

    def __init__(self, upstream: str, *faults: Fault) -> None:
        self.upstream = urlsplit(upstream).netloc
        self.faults = list(faults)
        self.lock = threading.Lock()
        self.closed = threading.Event()
        proxy = self

        class Handler(_Handler):
            owner = proxy

        class Server(ThreadingHTTPServer):
            daemon_threads = True
            block_on_close = False

            def server_bind(self) -> None:
                # A small window: what we do not read stays with the sender, as it does behind a slow network.
                if any(fault.bytes_per_second for fault in faults):
                    self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2304)
                super().server_bind()

        self._server = Server(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()

    def fault(self, method: str, path: str, body: bytes) -> Fault | None:
        """The fault that this request meets; it counts as met."""
        with self.lock:
            for fault in self.faults:
                if fault.met < fault.times and fault.matches(method, path, body):
                    fault.met += 1
                    return fault
        return None

    def close(self) -> None:
        self.closed.set()
        self._server.shutdown()
        self._server.server_close()


@contextmanager
def faulty(upstream: str, *faults: Fault) -> Iterator[FaultyStore]:
    """The proxy, closed at the end of the block."""
    proxy = FaultyStore(upstream, *faults)
    try:
        yield proxy
    finally:
        proxy.close()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    owner: FaultyStore

    def _serve(self) -> None:
        size = int(self.headers.get("Content-Length") or 0)
        # The body of a POST is small and tells what is asked; that of a PUT is what a fault may leave unread.
        body = self.rfile.read(size) if self.command == "POST" else b""
        fault = self.owner.fault(self.command, self.path, body)
        if fault is None:
            self._pass_on(body or self.rfile.read(size))
        elif fault.stall:
            self.close_connection = True
            self.owner.closed.wait()
        elif fault.half_close:
            self.close_connection = True
            self.rfile.read((size - len(body)) // 2)
            self.connection.shutdown(socket.SHUT_WR)
        elif fault.bytes_per_second:
            self._pass_on(self._slowly(size, fault.bytes_per_second))
        else:
            self._answer_instead(fault, size, body)

    do_GET = do_PUT = do_POST = _serve

    def _answer_instead(self, fault: Fault, size: int, body: bytes) -> None:
        whole = body or self.rfile.read(size)
        if fault.passed_on:
            self._ask(whole)
        if fault.answer:
            self._answer(fault.answer, fault.headers, fault.body)
        else:
            self.close_connection = True

    def _slowly(self, size: int, rate: int) -> bytes:
        body, step = b"", max(1, rate // 10)
        while len(body) < size:
            body += self.rfile.read(min(step, size - len(body)))
            time.sleep(step / rate)
        return body

    def _pass_on(self, body: bytes) -> None:
        self._answer(*self._ask(body))

    def _ask(self, body: bytes) -> tuple[int, dict[str, str], bytes]:
        upstream = http.client.HTTPConnection(self.owner.upstream, timeout=30)
        try:
            upstream.request(self.command, self.path, body, dict(self.headers.items()))
            answer = upstream.getresponse()
            kept = {name: value for name, value in answer.getheaders() if name.lower() in ("etag", "content-type")}
            return answer.status, kept, answer.read()
        finally:
            upstream.close()

    def _answer(self, status: int, headers: dict[str, str], body: bytes) -> None:
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(body))}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def setup(self) -> None:
        super().setup()
        # Unbuffered: a buffer of ours would take more of the body than the fault means to read.
        self.rfile.close()
        self.rfile = self.connection.makefile("rb", 512)

    def log_message(self, format: str, *arguments: object) -> None:
        pass
