"""HTTP through a port-forward's websocket, which is played here over a plain socket to Stoker's real server."""

import http.client
import socket
import struct
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from websocket import WebSocketConnectionClosedException

from stoker.sdk.wayin import ForwardedSocket
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
