"""The way to Stoker's server with nothing but a kubeconfig: a short-lived token, and a road to the port.

The road: STOKER_SERVER, else the URL in ConfigMap stoker-system/stoker-public, else a port-forward through the API server.
"""

import contextlib
import hashlib
import http.client
import io
import os
import struct
import tempfile
import time
from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import quote, urlencode, urlsplit

from stoker.api.names import SYSTEM_NAMESPACE
from stoker.errors import StokerError
from stoker.runtime.wire import CLIENT_AUDIENCE
from stoker.sdk.http import TIMEOUT, Answer, Http, Unreachable
from stoker.sdk.kube import Kube, Refused
from stoker.sdk.prepare import Tree
from stoker.storage.archive import write_zip

TOKEN_SECONDS = 600
#: A token is replaced when less than this is left of it (seconds): the longest upload must not outlive it at its start.
_RENEW = 120
_POD, _PORT = "stoker-server-", 8080
#: The chart has at most so many replicas; the Role for port-forwards names those that there are.
_MOST_REPLICAS = 9
_CHUNK = 32 << 10


class ServerError(StokerError):
    """The server refused, or is away. status: HTTP's; reason: its CamelCase word."""

    def __init__(self, status: int, reason: str, message: str) -> None:
        super().__init__(message)
        self.status, self.reason = status, reason


class NoToken(StokerError):
    """You may not use Stoker in this namespace, or it does not serve it."""


class Server:
    """Stoker's server for one namespace. Used by one thread at a time."""

    def __init__(self, kube: Kube, namespace: str) -> None:
        self._kube, self._namespace = kube, namespace
        self._token, self._token_until = "", 0.0
        self._replica = 0
        self._url = self._find_url()
        self._where = self._url or f"stoker's server (by port-forward to {SYSTEM_NAMESPACE}/{_POD}0 or another replica)"
        self._http = Http(self._where, self._connect, self._auth)
        self._base = f"{urlsplit(self._url).path.rstrip('/')}/v1/namespaces/{quote(namespace)}"

    # -- The road and the token.

    def _find_url(self) -> str:
        if url := os.environ.get("STOKER_SERVER"):
            return url
        try:
            found = self._kube.get(f"/api/v1/namespaces/{SYSTEM_NAMESPACE}/configmaps/stoker-public")
        except Refused as error:
            if error.status not in (403, 404):
                raise
            return ""
        return str((found.get("data") or {}).get("url") or "")

    def _connect(self) -> http.client.HTTPConnection:
        if not self._url:
            return _Forwarded(self._kube, self._replica)
        parts = urlsplit(self._url)
        if parts.scheme == "https":
            return http.client.HTTPSConnection(parts.hostname or "", parts.port or 443, timeout=TIMEOUT)
        return http.client.HTTPConnection(parts.hostname or "", parts.port or 80, timeout=TIMEOUT)

    def _auth(self) -> dict[str, str]:
        if time.monotonic() > self._token_until - _RENEW:
            self._token = self._new_token()
            self._token_until = time.monotonic() + TOKEN_SECONDS
        return {"Authorization": f"Bearer {self._token}"}

    def _new_token(self) -> str:
        asked = {
            "apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest",
            "spec": {"audiences": [CLIENT_AUDIENCE], "expirationSeconds": TOKEN_SECONDS},
        }  # fmt: skip
        first: Refused | None = None
        for account in ("stoker-editor", "stoker-viewer"):
            path = f"/api/v1/namespaces/{self._namespace}/serviceaccounts/{account}/token"
            try:
                return str(self._kube.create(path, asked)["status"]["token"])
            except Refused as error:
                if error.status == 404:
                    raise NoToken(
                        f"namespace {self._namespace} has no ServiceAccount {account}: there is no such namespace, Stoker "
                        "is not installed, or does not serve it; choose another with -n, or see chart value jobNamespaces"
                    ) from error
                if error.status != 403:
                    raise
                first = first or error
        raise NoToken(
            f"you may not use Stoker in namespace {self._namespace}: {first}; ask for a RoleBinding to ClusterRole stoker-editor"
        ) from first

    def check_token(self) -> None:
        """Get a token for this namespace, unless one is at hand. Raises NoToken, Refused, Unreachable."""
        self._auth()

    def check_way(self) -> str:
        """Ask something small, once; returns where the server was reached. Raises StokerError."""
        answer = self._http.call("GET", f"{self._base}/snapshots/{'0' * 64}")
        if answer.status >= 400:
            raise _error(answer.status, answer.json())
        return self._where

    # -- Requests.

    def _do(
        self, method: str, path: str, body: Any = None, headers: Mapping[str, str] | None = None, **query: Any
    ) -> Any:
        target = self._base + path + (f"?{urlencode(query)}" if query else "")
        deadline, pause = time.monotonic() + 30.0, 0.2
        while True:
            answer = self._ask(method, target, body, headers)
            if answer.status < 400:
                return answer
            if answer.status not in (429, 503) or time.monotonic() > deadline:
                raise _error(answer.status, answer.json())
            # These say that waiting helps and how long: we asked too much at once, or what the server needs is away.
            time.sleep(_wait(answer.headers.get("Retry-After"), pause))
            pause = min(pause * 2, 5.0)
            if hasattr(body, "seek"):
                body.seek(0)

    def _ask(self, method: str, target: str, body: Any, headers: Mapping[str, str] | None) -> Answer:
        """One answer; a replica behind a port-forward that does not give any is passed over once."""
        try:
            return self._http.call(method, target, body, headers)
        except Unreachable:
            if self._url:
                raise
        self._replica += 1
        if hasattr(body, "seek"):
            body.seek(0)
        return self._http.call(method, target, body, headers)

    def push(self, tree: Tree) -> bool:
        """Make the namespace's store hold a snapshot; False when it did already and nothing was sent."""
        hexadecimal = tree.digest.removeprefix("sha256:")
        path = f"/snapshots/{hexadecimal}"
        if self._do("GET", path).json().get("present"):
            return False
        with tempfile.TemporaryFile() as packed:
            size = write_zip(tree.root, tree.hashed.entries, packed)
            packed.seek(0)
            digest = hashlib.file_digest(packed, "sha256").hexdigest()
            answer = self._do("POST", path, _json({"size": size, "sha256": digest}), _JSON).json()
            packed.seek(0)
            if "url" not in answer or not _put_direct(answer["url"], answer.get("headers") or {}, packed, size):
                packed.seek(0)
                headers = {"Content-Type": "application/zip", "Content-Length": str(size)}
                self._do("PUT", f"{path}/zip", packed, headers)
        self._do("PUT", f"{path}/manifest", tree.hashed.manifest, {"Content-Type": "application/octet-stream"})
        return True

    def jobs(self) -> list[dict[str, Any]]:
        """The records of all runs, oldest first: [{"key", "job", "result"}]."""
        found: list[dict[str, Any]] = self._do("GET", "/jobs").json()["jobs"]
        return found

    def job(self, key: str) -> dict[str, Any]:
        """{"job": job.json, "result": result.json or None}."""
        found: dict[str, Any] = self._do("GET", f"/jobs/{quote(key)}").json()
        return found

    def plan(self, name: str) -> dict[str, Any]:
        """What the operator would do now for a TrainingJob, and why: {"plan", "facts", "waiting", "madeAt", "leader"}.
        Raises ServerError: 403 for those who may not get it, 404 for a job it does not know."""
        try:
            found: dict[str, Any] = self._do("GET", f"/trainingjobs/{quote(name)}/plan").json()
        except ServerError as error:
            if error.reason != "NoSuchRoute":
                raise
            told = f"{self._where} is of a version that shows no plans: upgrade Stoker in the cluster"
            raise ServerError(error.status, error.reason, told) from error
        return found

    def remove(self, key: str) -> dict[str, Any]:
        """Remove a finished run's record, logs and outputs: {"key", "objects", "bytes", "uploads"}. Raises ServerError 409
        for one that has not ended, 403 for a viewer."""
        found: dict[str, Any] = self._do("DELETE", f"/jobs/{quote(key)}").json()
        return found

    def files(self, key: str) -> list[dict[str, Any]]:
        """Every stored file of a run: path below the rank's folder, size, sha256, attempt, rank, sealed."""
        found: list[dict[str, Any]] = self._do("GET", f"/jobs/{quote(key)}/files").json()["files"]
        return found

    def log(self, key: str, attempt: int, rank: int, offset: int) -> tuple[bytes, bool]:
        """Bytes of a rank's stored log from an offset on, and whether it ends there."""
        answer = self._do("GET", f"/jobs/{quote(key)}/log", attempt=attempt, rank=rank, offset=offset)
        return answer.body, answer.headers.get("Stoker-Log-Complete") == "true"

    def build_log(self, spec_key: str, offset: int = 0, number: int = 0) -> tuple[bytes, int]:
        """Bytes of a build's stored log from an offset on, and how many it has; 0 where there is none. Another try begins
        a log of its own, which may have fewer. number: of one of `build_tries`, from 1 on; 0 for the newest."""
        which = {"try": number} if number else {}
        answer = self._of_environment(f"/environments/{quote(spec_key)}/log", offset=offset, **which)
        return (b"", 0) if answer is None else (answer.body, int(answer.headers.get("Stoker-Log-Size", "0")))

    def build_tries(self, spec_key: str) -> list[dict[str, Any]]:
        """The tries whose logs are stored, oldest first: startedAt (RFC 3339; empty while it runs) and size in bytes."""
        try:
            found: list[dict[str, Any]] = self._do("GET", f"/environments/{quote(spec_key)}/tries").json()["tries"]
        except ServerError as error:
            # A server of before knows the newest log alone.
            if error.status == 404:
                return []
            raise
        return found

    def lock(self, spec_key: str) -> bytes | None:
        """lock.json of the image that was built under a specKey; None where there is none."""
        answer = self._of_environment(f"/environments/{quote(spec_key)}/lock")
        content: bytes | None = None if answer is None else answer.body
        return content

    def manifest(self, digest: str) -> bytes | None:
        """The manifest of a snapshot; None where there is none."""
        answer = self._of_environment(f"/snapshots/{digest.removeprefix('sha256:')}/manifest")
        content: bytes | None = None if answer is None else answer.body
        return content

    def _of_environment(self, path: str, **query: Any) -> Any:
        """The answer; None where nothing is stored."""
        try:
            return self._do("GET", path, **query)
        except ServerError as error:
            if error.status != 404 or error.reason == "NoSuchRoute":
                raise
            return None

    @contextlib.contextmanager
    def open_file(
        self, key: str, attempt: int, rank: int, path: str, start: int = 0
    ) -> Iterator[http.client.HTTPResponse]:
        """A stored file from byte `start` on, as an open response."""
        query = urlencode({"attempt": attempt, "rank": rank, "path": path})
        headers = {"Range": f"bytes={start}-"} if start else {}
        target, deadline, pause = f"{self._base}/jobs/{quote(key)}/file?{query}", time.monotonic() + 30.0, 0.2
        while True:
            with self._http.stream("GET", target, headers) as response:
                if response.status == 307:
                    with _open_direct(response.headers["Location"], headers) as direct:
                        yield direct
                    return
                if response.status < 400:
                    yield response
                    return
                if response.status not in (429, 503) or time.monotonic() > deadline:
                    raise _error(response.status, _json_of(response.read()))
                wait = _wait(response.headers.get("Retry-After"), pause)
            time.sleep(wait)
            pause = min(pause * 2, 5.0)


_JSON = {"Content-Type": "application/json"}


def _wait(retry_after: str | None, otherwise: float) -> float:
    """Seconds until the next try."""
    return min(float(retry_after) if retry_after and retry_after.isdecimal() else otherwise, 5.0)


def _json(document: Any) -> bytes:
    import json

    return json.dumps(document).encode()


def _json_of(body: bytes) -> Any:
    import json

    try:
        return json.loads(body)
    except ValueError:
        return {}


def _error(status: int, document: Any) -> ServerError:
    told = document.get("error") if isinstance(document, dict) else None
    told = told if isinstance(told, dict) else {}
    return ServerError(
        status, str(told.get("reason") or ""), str(told.get("message") or f"stoker's server answered {status}")
    )


def _direct(url: str) -> tuple[http.client.HTTPConnection, str]:
    parts = urlsplit(url)
    kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
    return kind(parts.hostname or "", parts.port, timeout=TIMEOUT), parts.path + (
        f"?{parts.query}" if parts.query else ""
    )


def _put_direct(url: str, headers: Mapping[str, str], content: Any, size: int) -> bool:
    """PUT to a signed URL; False when the store cannot be reached from here (the server then streams)."""
    connection, target = _direct(url)
    try:
        connection.request("PUT", target, body=content, headers={"Content-Length": str(size), **headers})
        response = connection.getresponse()
        body = response.read()
    except OSError:
        return False
    finally:
        connection.close()
    # 412 and 409: another client stored the same bytes at the same time.
    if response.status >= 400 and response.status not in (409, 412):
        raise ServerError(
            response.status, "StoreRefused", f"the store refused the snapshot: {body[:300].decode('utf-8', 'replace')}"
        )
    return True


@contextlib.contextmanager
def _open_direct(url: str, headers: Mapping[str, str]) -> Iterator[http.client.HTTPResponse]:
    connection, target = _direct(url)
    try:
        connection.request("GET", target, headers=dict(headers))
        response = connection.getresponse()
        if response.status >= 400:
            raise ServerError(response.status, "StoreRefused", f"the store answered {response.status} for a signed URL")
        yield response
    except OSError as error:
        raise Unreachable(f"the store does not answer: {error}") from error
    finally:
        connection.close()


# -- A port-forward as the socket of an HTTP connection.


class _Forwarded(http.client.HTTPConnection):
    """HTTP to a pod of the server through the API server: one websocket is one TCP connection there. The first replica
    that can be reached is taken, from `first` on."""

    def __init__(self, kube: Kube, first: int = 0) -> None:
        super().__init__(f"{_POD}{first}", _PORT, timeout=TIMEOUT, blocksize=_CHUNK)
        self._kube, self._first = kube, first

    def connect(self) -> None:
        why: Refused | None = None
        for number in _from(self._first):
            path = f"/api/v1/namespaces/{SYSTEM_NAMESPACE}/pods/{_POD}{number}/portforward"
            try:
                self.sock = ForwardedSocket(self._kube.websocket(path, "v4.channel.k8s.io", ports=str(_PORT)))
                return
            except Refused as error:
                # What is said of the first is what matters: beyond the last replica the answer is 403 or 404.
                why = why or error
        assert why is not None
        raise StokerError(_no_road(why)) from why


def _from(first: int) -> Iterator[int]:
    """Replicas in the order in which they are tried."""
    return (number % _MOST_REPLICAS for number in range(first, first + _MOST_REPLICAS))


def _no_road(error: Refused) -> str:
    if error.status == 404:
        return f"stoker's server is not there: {error}; is Stoker installed in this cluster? (helm install; namespace {SYSTEM_NAMESPACE})"
    if error.status == 403:
        return f"no way to stoker's server: {error}; set STOKER_SERVER to its URL, or ask for port-forward to {_POD}0"
    return f"the port-forward to {SYSTEM_NAMESPACE}/{_POD}0 failed: {error}"


class ForwardedSocket:
    """What http.client needs of a socket, over the channels of a port-forward: 0 carries data, 1 errors. Each begins with
    a frame that names the port (two bytes)."""

    def __init__(self, websocket: Any) -> None:
        self._websocket = websocket
        self._greeted: set[int] = set()
        self._pending = b""
        self._ended = False

    def sendall(self, content: Any) -> None:
        view = memoryview(content)
        for start in range(0, len(view), _CHUNK):
            self._send(bytes(view[start : start + _CHUNK]))

    def _send(self, piece: bytes) -> None:
        from websocket import WebSocketException

        try:
            self._websocket.send_binary(b"\0" + piece)
        except WebSocketException as error:
            raise ConnectionError(f"the port-forward closed: {error}") from error

    def makefile(self, mode: str, buffering: int | None = None) -> io.BufferedReader:
        return io.BufferedReader(_Reader(self), _CHUNK)

    def receive(self, most: int) -> bytes:
        """At most so many bytes; nothing at the end."""
        from websocket import WebSocketConnectionClosedException, WebSocketException

        while not self._pending and not self._ended:
            try:
                opcode, frame = self._websocket.recv_data()
            except WebSocketConnectionClosedException:
                self._ended = True
                break
            except WebSocketException as error:
                raise ConnectionError(f"the port-forward broke: {error}") from error
            if opcode == 8 or not frame:
                self._ended = opcode == 8
                continue
            self._take(frame[0], frame[1:])
        piece, self._pending = self._pending[:most], self._pending[most:]
        return piece

    def _take(self, channel: int, content: bytes) -> None:
        if channel not in self._greeted:
            self._greeted.add(channel)
            if len(content) == 2 and struct.unpack("<H", content)[0] == _PORT:
                return
        if channel == 0:
            self._pending += content
        elif content:
            raise ConnectionError(f"the port-forward failed: {content.decode('utf-8', 'replace').strip()}")

    def settimeout(self, seconds: float | None) -> None:
        self._websocket.settimeout(seconds)

    def setsockopt(self, *_: Any) -> None:
        """Options of TCP do not apply here."""

    def shutdown(self, how: int) -> None:
        self.close()

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self._websocket.close(timeout=1)


class _Reader(io.RawIOBase):
    def __init__(self, source: ForwardedSocket) -> None:
        self._source = source

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        piece = self._source.receive(len(buffer))
        buffer[: len(piece)] = piece
        return len(piece)


__all__ = ["ForwardedSocket", "Server", "ServerError"]
