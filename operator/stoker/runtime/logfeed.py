"""The log of a run on its way to the store: live pieces while it grows, the whole of it at the end."""

from __future__ import annotations

import errno
import hashlib
import os
from typing import Optional, Tuple

from stoker.runtime import wire
from stoker.runtime.beneath import open_file_beneath
from stoker.runtime.diagnose import log_tail
from stoker.runtime.journal import Journal, Stamp
from stoker.runtime.layout import Scratch
from stoker.runtime.transport import Transport
from stoker.runtime.upload import Uploader

_LOG = "log/std_log.txt"
#: A piece is sent when the log grew by so much, or after the interval.
PIECE_BYTES = 1 << 20
#: Most bytes in one piece: what waited while the store was away goes up in these.
_LARGEST_PIECE = 4 << 20
#: After so many pieces they come every 5 s: a job of days must not leave a million objects.
_MANY_PIECES = 1800


class LogFeed:
    """The raw log of a scratch folder. `send_piece` is called by one thread at a time."""

    def __init__(self, scratch: Scratch, transport: Transport, journal: Journal) -> None:
        self._scratch, self._transport, self._journal = scratch, transport, journal
        self._pieces = 0

    @property
    def interval_factor(self) -> int:
        """How many times the ordinary interval lies between two pieces."""
        return 1 if self._pieces < _MANY_PIECES else 5

    def waiting_bytes(self) -> int:
        """Bytes of the log that are not stored yet; 0 when it cannot be looked at now."""
        try:
            found = self._stamp()
        except OSError:
            return 0
        return 0 if found is None else max(0, found[0] - self._journal.log_offset)

    def send_piece(self) -> bool:
        """Store the next piece; whether there was one. Raises Transient and Refused."""
        offset = self._journal.log_offset
        try:
            descriptor = self._open()
        except FileNotFoundError:
            return False
        with os.fdopen(descriptor, "rb", buffering=0) as file:
            file.seek(offset)
            piece = file.read(_LARGEST_PIECE)
        if not piece:
            return False
        described = wire.StoredFile(wire.segment_path(offset), len(piece), hashlib.sha256(piece).hexdigest())
        for _ in self._transport.put([described], lambda _: lambda: iter([piece])):
            self._pieces += 1
            self._journal.log_stored(offset + len(piece))
        return True

    def send_whole(self, uploader: Uploader) -> Optional[wire.StoredFile]:
        """Store the whole log, once; None when there is none. Raises Transient, Refused, Changed and OSError."""
        stamp = self._stamp()
        if stamp is None:
            return None
        saved = self._journal.saved.get(wire.LOG_PATH)
        if saved is not None and saved.stamp == stamp:
            return saved.file
        return uploader.save_log(_LOG, wire.LOG_PATH, stamp, self._scratch.root)

    def size_and_tail(self) -> Tuple[int, str]:
        """Size of the log in bytes and its last lines."""
        try:
            descriptor = self._open()
        except OSError:
            return 0, ""
        with os.fdopen(descriptor, "rb", buffering=0) as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(0, size - 2 * wire.LOG_TAIL_BYTES))
            return size, log_tail(file.read())

    def _open(self) -> int:
        return open_file_beneath(self._scratch.root, _LOG)

    def _stamp(self) -> Optional[Stamp]:
        try:
            descriptor = self._open()
        except OSError as error:
            if error.errno in (errno.ENOENT, errno.ENOTDIR):
                return None
            raise
        try:
            status = os.fstat(descriptor)
            return status.st_size, status.st_mtime_ns, status.st_ino
        finally:
            os.close(descriptor)
