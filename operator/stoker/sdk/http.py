"""HTTP as the client needs it: one kept connection to a server, answers as values, long answers line by line."""

import contextlib
import http.client
import json
import socket
import ssl
import weakref
from collections.abc import Callable, Iterator, Mapping
from typing import IO, Any

from stoker import __version__
from stoker.errors import StokerError

USER_AGENT = f"stoker-cli/{__version__}"
#: Longest silence on a connection (seconds) before it counts as dead; a watch hears at least a bookmark in this time.
TIMEOUT = 60.0

Body = bytes | IO[bytes] | None


class Unreachable(StokerError):
    """Nobody answers there; the message says what to check."""


class Answer:
    """A whole answer. Header names as the server sent them; `get` on headers ignores case."""

    def __init__(self, status: int, headers: http.client.HTTPMessage, body: bytes) -> None:
        self.status, self.headers, self.body = status, headers, body

    def json(self) -> Any:
        """The body as JSON; an empty object when it is none."""
        try:
            return json.loads(self.body)
        except ValueError:
            return {}


class _Kept:
    """A place for the connection that is kept: it outlives whoever kept it, to be closed."""

    connection: http.client.HTTPConnection | None = None

    def close(self) -> None:
        if self.connection is not None:
            self.connection.close()
            self.connection = None


class Http:
    """One origin. connect: makes an unconnected or connected http.client connection. headers: sent with every request,
    asked each time. what: the origin in words for messages. Used by one thread at a time."""

    def __init__(
        self, what: str, connect: Callable[[], http.client.HTTPConnection], headers: Callable[[], Mapping[str, str]]
    ) -> None:
        self._what, self._connect, self._headers = what, connect, headers
        self._kept = _Kept()
        # Programs drop their clients without a word, and a garbage collector that meets the socket first complains of it.
        weakref.finalize(self, self._kept.close).atexit = False

    def call(self, method: str, path: str, body: Body = None, headers: Mapping[str, str] | None = None) -> Answer:
        """One request and its whole answer. A kept connection that turns out dead is replaced once: every request of
        ours may be repeated. Raises Unreachable."""
        for last in (False, True):
            kept = self._kept.connection is not None
            try:
                response = self._send(method, path, body, headers)
                return Answer(response.status, response.headers, response.read())
            except (OSError, http.client.HTTPException) as error:
                self.close()
                if last or not kept:
                    raise self._unreachable(error) from error
                if body is not None and not isinstance(body, bytes):
                    body.seek(0)
        raise AssertionError("the loop returns or raises")

    @contextlib.contextmanager
    def stream(
        self, method: str, path: str, headers: Mapping[str, str] | None = None
    ) -> Iterator[http.client.HTTPResponse]:
        """A request whose answer is read while it comes, on a connection of its own. Raises Unreachable."""
        connection = self._connect()
        try:
            try:
                connection.request(
                    method, path, headers={"User-Agent": USER_AGENT, **self._headers(), **(headers or {})}
                )
                response = connection.getresponse()
            except (OSError, http.client.HTTPException) as error:
                raise self._unreachable(error) from error
            yield response
        finally:
            connection.close()

    def close(self) -> None:
        """Let the kept connection go."""
        self._kept.close()

    def _send(self, method: str, path: str, body: Body, headers: Mapping[str, str] | None) -> http.client.HTTPResponse:
        connection = self._kept.connection
        if connection is None:
            connection = self._kept.connection = self._connect()
        sent = {"User-Agent": USER_AGENT, **self._headers(), **(headers or {})}
        connection.request(method, path, body=body, headers=sent)
        return connection.getresponse()

    def _unreachable(self, error: Exception) -> Unreachable:
        return Unreachable(
            f"{self._what} does not answer: {error or type(error).__name__}; check the address and the network"
        )


class TlsConnection(http.client.HTTPSConnection):
    """A connection whose server may have another name in its certificate than in its address."""

    def __init__(self, host: str, port: int, context: ssl.SSLContext, server_name: str | None, timeout: float) -> None:
        super().__init__(host, port, context=context, timeout=timeout)
        self._tls, self._server_name, self._far = context, server_name, host

    def set_tunnel(self, host: str, port: int | None = None, headers: Any = None) -> None:
        super().set_tunnel(host, port, headers)
        self._far = host

    def connect(self) -> None:
        http.client.HTTPConnection.connect(self)
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.sock = self._tls.wrap_socket(self.sock, server_hostname=self._server_name or self._far)
