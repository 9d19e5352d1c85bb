"""HTTP through a port-forward's websocket, which is played here over a plain socket to Stoker's real server."""

import http.client
import socket
import struct
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast
from urllib.parse import urlsplit

import pytest
from websocket import WebSocketConnectionClosedException

from stoker.errors import StokerError
from stoker.sdk.kube import Refused
from stoker.sdk.wayin import ForwardedSocket, Server
from tests.support.serving import Served, serving


class Peer:
    """The far end of a websocket: channel 0 is a TCP connection, both channels greet with the port."""

    def __init__(self, address: tuple[str, int], error: bytes = b"") -> None:
        self.tcp = socket.create_connection(address, timeout=10)
        greeting = struct.pack("<H", 8080)
        self.frames = [b"\0" + greeting, b"\1" + greeting] + ([b"\1" + error] if error else [])

    def send_binary(self, frame: bytes) -> None:
        assert frame[:1] == b"\0"
        self.tcp.sendall(frame[1:])

    def recv_data(self) -> tuple[int, bytes]:
        if self.frames:
            return 2, self.frames.pop(0)
        content = self.tcp.recv(1000)
        if not content:
            raise WebSocketConnectionClosedException("closed")
        return 2, b"\0" + content

    def close(self, timeout: float = 0) -> None:
        self.tcp.close()


@pytest.mark.parametrize("size", [10, 300_000])
def test_requests_share_one_forwarded_connection(tmp_path: Path, size: int) -> None:
    with serving(Served(tmp_path)) as served:
        parts = urlsplit(served.url)
        connection = http.client.HTTPConnection("server")
        connection.sock = ForwardedSocket(Peer((str(parts.hostname), int(parts.port or 0))))
        for _ in range(2):
            connection.request("PUT", f"{parts.path}/v1/namespaces/team/snapshots/x/manifest", b"x" * size)
            response = connection.getresponse()
            assert 401 == response.status
            assert b"Unauthenticated" in response.read()
        connection.close()


def test_an_error_of_the_forward_is_told(tmp_path: Path) -> None:
    with serving(Served(tmp_path)) as served:
        parts = urlsplit(served.url)
        forwarded = ForwardedSocket(Peer((str(parts.hostname), int(parts.port or 0)), b"connection refused"))

        with pytest.raises(ConnectionError, match="connection refused"):
            forwarded.receive(10)


class Cluster:
    """An API server as far as a port-forward goes. pods: what stands behind each replica: an address, or a refusal."""

    def __init__(self, *pods: tuple[str, int] | Refused) -> None:
        self.pods, self.asked = pods, list[str]()

    def get(self, path: str) -> dict[str, Any]:
        return {"data": {"url": ""}}

    def create(self, path: str, body: Any) -> dict[str, Any]:
        return {"status": {"token": "editor"}}

    def websocket(self, path: str, protocol: str, **query: str) -> Any:
        name = path.split("/")[-2]
        self.asked.append(name)
        number = int(name.rpartition("-")[2])
        found = self.pods[number] if number < len(self.pods) else Refused(403, "Forbidden", f"{name} is not yours")
        if isinstance(found, Refused):
            raise found
        if found[1] == 0:
            return SimpleNamespace(
                send_binary=lambda frame: None,
                recv_data=lambda: (2, b"\1connection refused"),
                close=lambda timeout: None,
            )
        return Peer(found)


GONE, DEAF = Refused(404, "NotFound", "no such pod"), ("127.0.0.1", 0)


@pytest.mark.parametrize("first", [GONE, Refused(500, "", "pod is not running"), DEAF])
def test_another_replica_is_taken_where_the_first_does_not_answer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, first: Any
) -> None:
    monkeypatch.delenv("STOKER_SERVER", raising=False)
    with serving(Served(tmp_path)) as served:
        served.kube.account("editor", "team", "stoker-editor")
        parts = urlsplit(served.url)
        cluster = Cluster(first, (str(parts.hostname), int(parts.port or 0)))
        server = Server(cast(Any, cluster), "team")
        server._base = f"{parts.path}/v1/namespaces/team"

        assert [] == server.jobs()

    assert ["stoker-server-0", "stoker-server-1"] == cluster.asked


def test_without_any_replica_the_first_ones_words_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("STOKER_SERVER", raising=False)
    server = Server(cast(Any, Cluster(GONE)), "team")

    with pytest.raises(StokerError, match=r"no such pod.*is Stoker installed"):
        server.jobs()
