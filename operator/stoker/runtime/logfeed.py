"""The log of a run on its way to the store: live pieces while it grows, the whole of it at the end."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import threading
from typing import Callable, Optional, Tuple

from stoker.runtime import wire
from stoker.runtime.beneath import open_file_beneath
from stoker.runtime.diagnose import log_tail
from stoker.runtime.journal import Journal, Stamp
from stoker.runtime.layout import Scratch
from stoker.runtime.logcopy import LogCopy
from stoker.runtime.transport import Transport
from stoker.runtime.upload import Uploader

_LOG = "log/std_log.txt"
#: A piece is sent when the log grew by so much, or after the interval.
PIECE_BYTES = 1 << 20
#: Most bytes in one piece: what waited while the store was away goes up in these.
_LARGEST_PIECE = 4 << 20
#: After so many pieces they come every 5 s: a job of days must not leave a million objects.
_MANY_PIECES = 1800
#: A log that is emptied loses what was written in so long before, and never more than that of a second.
_LOOK_SECONDS = 0.1
#: The copy of the log, and the whole of it once it is stored from there.
_COPY, _WHOLE = "log.copy", "log.whole"


class LogFeed:
    """The log of a scratch folder. `send_piece` and `send_whole` are called by one thread at a time."""

    def __init__(self, scratch: Scratch, transport: Transport, journal: Journal) -> None:
        self._scratch, self._transport, self._journal = scratch, transport, journal
        self._copy = LogCopy(os.path.join(scratch.journal, _COPY), self._open)
        self._pieces, self._whole_of = 0, -1
        self._closed = threading.Event()
        self._follower: Optional[threading.Thread] = None

    def follow(self, say: Callable[[str], None]) -> None:
        """Read the log from now on, in a thread of its own: a walk over many files must not keep us from it."""
        self._follower = threading.Thread(target=self._follow, args=(say,), name="log", daemon=True)
        self._follower.start()

    def _follow(self, say: Callable[[str], None]) -> None:
        trouble = ""
        while not self._closed.wait(_LOOK_SECONDS):
            try:
                self._copy.catch_up()
                trouble = ""
            except OSError as error:
                if str(error) != trouble:
                    trouble = str(error)
                    say("the log is not copied for now, trying again: %s" % error)

    def close(self) -> None:
        self._closed.set()
        if self._follower is not None:
            self._follower.join()
        self._copy.close()

    @property
    def interval_factor(self) -> int:
        """How many times the ordinary interval lies between two pieces."""
        return 1 if self._pieces < _MANY_PIECES else 5

    def waiting_bytes(self) -> int:
        """Bytes of the log that are not stored yet; of what cannot be looked at now, 0."""
        size = self._copy.size
        with contextlib.suppress(OSError):
            found = self._stamp()
            if found is not None:
                size += max(0, found[0] - self._copy.position)
        return max(0, size - self._journal.log_offset)

    @property
    def is_there(self) -> bool:
        """Whether there is a log to save, of whatever kind."""
        return bool(self._copy.size) or os.path.lexists(self._scratch.raw_log)

    def send_piece(self) -> bool:
        """Store the next piece; whether there was one. Raises Transient, Refused and OSError."""
        offset, trouble = self._journal.log_offset, None
        try:
            self._copy.catch_up()
        except OSError as error:
            trouble = error
        piece = self._copy.read(offset, _LARGEST_PIECE)
        if not piece and trouble is not None:
            raise trouble
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
        try:
            self._copy.catch_up()
        except OSError:
            # Without room for more of the copy the log itself still does, as long as nobody has emptied it.
            if self._copy.emptied:
                raise
        if stamp is None and not self._copy.size:
            return None
        name = _LOG
        if not self._is_whole():
            name = "journal/" + _WHOLE
            stamp = self._write_whole()
        assert stamp is not None
        saved = self._journal.saved.get(wire.LOG_PATH)
        if saved is not None and saved.stamp == stamp:
            return saved.file
        return uploader.save_log(name, wire.LOG_PATH, stamp, self._scratch.root)

    def _is_whole(self) -> bool:
        """Whether all of the log is in its file."""
        try:
            with os.fdopen(self._open(), "rb", buffering=0) as log:
                return self._copy.is_in(log)
        except FileNotFoundError:
            return False

    def _write_whole(self) -> Stamp:
        """The whole log as a file beside the copy, written once for each state of the copy."""
        path = os.path.join(self._scratch.journal, _WHOLE)
        if self._whole_of != self._copy.size:
            with open(path, "wb") as target, contextlib.ExitStack() as stack:
                log = None
                with contextlib.suppress(FileNotFoundError):
                    log = stack.enter_context(os.fdopen(self._open(), "rb", buffering=0))
                self._copy.write_whole(target, log)
            self._whole_of = self._copy.size
        status = os.stat(path)
        return status.st_size, status.st_mtime_ns, status.st_ino

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
