"""Connections between the pods of one attempt: frames of JSON, each signed with a key that only these pods have.

Both ends prove that they hold the attempt's secret by the first frame that they send: its key is made of the secret and
of a number that each end draws for this connection alone, so that nothing recorded can be played again.
"""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import json
import os
import socket
import struct
from typing import Any, Dict, Optional

_DRAWN_BYTES = 32
_MAC_BYTES = 32
_LENGTH = struct.Struct(">I")
#: Command lines of launchers have a few KB.
MOST_FRAME_BYTES = 1 << 20
_HANDSHAKE_SECONDS = 10.0


class NotTrusted(Exception):
    """The other end does not hold the secret, or what came is not what was sent."""


class Channel:
    """One connection. Frames come in the order in which they were sent, none twice, none left out."""

    def __init__(self, connection: socket.socket, secret: bytes, *, calls: bool) -> None:
        """Shake hands; calls: whether we are the end that called. Raises NotTrusted, OSError."""
        self._socket = connection
        connection.settimeout(_HANDSHAKE_SECONDS)
        drawn = os.urandom(_DRAWN_BYTES)
        connection.sendall(drawn)
        other = self._exactly(_DRAWN_BYTES)
        if other is None:
            raise NotTrusted("the other end hung up")
        both = drawn + other if calls else other + drawn
        self._mine = hmac.new(secret, (b"calls" if calls else b"answers") + both, hashlib.sha256).digest()
        self._theirs = hmac.new(secret, (b"answers" if calls else b"calls") + both, hashlib.sha256).digest()
        self._sent, self._taken = 0, 0
        self.send({"hello": 1})
        if self.take() != {"hello": 1}:
            raise NotTrusted("the other end hung up, or speaks another protocol")
        connection.settimeout(None)
        # A node that is cut off is noticed within about a minute.
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        for name, value in (("TCP_KEEPIDLE", 20), ("TCP_KEEPINTVL", 10), ("TCP_KEEPCNT", 4)):
            if hasattr(socket, name):
                connection.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)

    def send(self, document: Dict[str, Any]) -> None:
        """Send one frame. Raises OSError."""
        content = json.dumps(document).encode("utf-8")
        mac = self._mac(self._mine, self._sent, content)
        self._sent += 1
        self._socket.sendall(_LENGTH.pack(len(content)) + content + mac)

    def take(self) -> Optional[Dict[str, Any]]:
        """The next frame, None when the other end hung up. Raises NotTrusted, OSError."""
        head = self._exactly(_LENGTH.size)
        if head is None:
            return None
        (length,) = _LENGTH.unpack(head)
        if length > MOST_FRAME_BYTES:
            raise NotTrusted("a frame of %d bytes" % length)
        content, mac = self._exactly(length), self._exactly(_MAC_BYTES)
        if content is None or mac is None:
            return None
        if not hmac.compare_digest(mac, self._mac(self._theirs, self._taken, content)):
            raise NotTrusted("a frame is not signed by a pod of this attempt")
        self._taken += 1
        found = json.loads(content.decode("utf-8"))
        if not isinstance(found, dict):
            raise NotTrusted("a frame that is no object")
        return found

    def close(self) -> None:
        """Hang up; whoever waits for a frame, here or there, hears of it."""
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()

    @staticmethod
    def _mac(key: bytes, number: int, content: bytes) -> bytes:
        return hmac.new(key, b"%d:" % number + content, hashlib.sha256).digest()

    def _exactly(self, count: int) -> Optional[bytes]:
        pieces = bytearray()
        while len(pieces) < count:
            piece = self._socket.recv(count - len(pieces))
            if not piece:
                return None
            pieces += piece
        return bytes(pieces)
