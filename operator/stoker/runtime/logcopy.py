"""ship's own copy of what it has read of the log, so that a log that is emptied loses only what nobody had read yet.

`> /dev/stdout` opens the log file anew and so, on Linux, truncates it. What was in it before is then nowhere but here:
pieces that the store has taken cannot be read back with a grant to write, and the store may be away. The copy is
deflated as it is written; an ordinary log takes a fifth to a tenth of its size once more, and none takes twice its
size, which the limit on the log bounds.

The file is a row of records: a head (`_HEAD`), then the bytes. A record that a kill or a full disk cut off is dropped
and read from the log again.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import struct
import threading
import time
import zlib
from typing import BinaryIO, Callable, Iterator, List, NamedTuple, Optional, Tuple

#: Bytes, bytes as kept, CRC-32 of these, and where the log is read on: 0 says that the record is a line of ours.
_HEAD = struct.Struct(">IIIQ")
_CHUNK = 1 << 20
#: So many first bytes tell whether a log that is long enough is still the one that was read.
_MARK = 512
#: Below this a record is too short to be worth deflating.
_WORTH_DEFLATING = 512


class _Record(NamedTuple):
    """start: of its bytes among all that were read. next: where the log is read on, 0 for a line of ours."""

    start: int
    content: bytes
    next: int


class LogCopy:
    """The copy in one file. `open_log` gives a descriptor of the log for reading, or raises OSError. Safe to share
    between threads, except `read`, which one thread at a time may call."""

    def __init__(self, path: str, open_log: Callable[[], int]) -> None:
        self._path, self._open_log = path, open_log
        self._lock = threading.Lock()
        #: Bytes in the copy, our own lines among them: the log as it is shown and stored.
        self.size = 0
        #: Whether the log was ever emptied: it is then only here as a whole.
        self.emptied = False
        self._start_log()
        self._stored = 0
        self._cursor = (0, 0)
        self._file = open(path, "a+b", buffering=0)  # noqa: SIM115 - kept open as long as the copy is used
        for record, end in self._records(0, 0, os.fstat(self._file.fileno()).st_size):
            self._take(record, end)
        self._file.truncate(self._stored)
        self._looked_at = time.monotonic() - max(0.0, time.time() - os.fstat(self._file.fileno()).st_mtime)

    def close(self) -> None:
        self._file.close()

    @property
    def position(self) -> int:
        """How many bytes of the log file as it is now have been read."""
        return self._position

    def catch_up(self) -> None:
        """Read what is new in the log. Raises OSError: the log cannot be read, or there is no room for the copy."""
        with self._lock:
            try:
                descriptor = self._open_log()
            except FileNotFoundError:
                if self._position:
                    self._note_emptied("its file was removed")
                return
            with os.fdopen(descriptor, "rb", buffering=0) as log:
                if self._was_emptied(log):
                    self._note_emptied("`> /dev/stdout` does that, `>> /dev/stdout` does not")
                log.seek(self._position)
                for chunk in iter(lambda: log.read(_CHUNK), b""):
                    self._append(chunk, self._position + len(chunk))
            self._looked_at = time.monotonic()

    def read(self, offset: int, most: int) -> bytes:
        """At most `most` bytes from byte `offset` of the copy on."""
        position, start = self._cursor if self._cursor[1] <= offset else (0, 0)
        found = b""
        for record, end in self._records(position, start, self._stored):
            found += record.content[max(0, offset - record.start) :][: most - len(found)]
            if len(found) >= most:
                break
            self._cursor = (end, record.start + len(record.content))
        return found

    def is_in(self, log: BinaryIO) -> bool:
        """Whether a log still begins with all that was read of it, and nothing was read before it was emptied."""
        if self.emptied:
            return False
        digest, left = hashlib.sha256(), self._position
        log.seek(0)
        while left:
            chunk = log.read(min(_CHUNK, left))
            if not chunk:
                return False
            digest.update(chunk)
            left -= len(chunk)
        return digest.digest() == self._digest.digest()

    def write_whole(self, target: BinaryIO, log: Optional[BinaryIO]) -> None:
        """Write all that was read, what there was no room for, and then what has been overwritten in the log since:
        who opens a file anew without appending writes over what others have appended."""
        first_of_log = 0
        changed: List[bytes] = []
        for record, _ in self._records(0, 0, self._stored):
            target.write(record.content)
            if not record.next:
                first_of_log, changed = record.start + len(record.content), []
            elif log is not None:
                log.seek(record.start - first_of_log)
                now = log.read(len(record.content))
                if now != record.content:
                    changed.append(now)
        if log is not None:
            log.seek(self._position)
            shutil.copyfileobj(log, target, _CHUNK)
        if changed:
            target.write(
                b"\nstoker: LogTruncated: %d bytes of the log or fewer were overwritten after they had been read; they "
                b"follow as they are now\n" % sum(map(len, changed))
            )
            target.writelines(changed)

    # Writing

    def _was_emptied(self, log: BinaryIO) -> bool:
        if os.fstat(log.fileno()).st_size < self._position:
            return True
        # It may have grown over the old size again since the last look.
        log.seek(0)
        return log.read(len(self._mark)) != self._mark

    def _note_emptied(self, how: str) -> None:
        line = (
            "stoker: LogTruncated: the log was emptied (%s) after %d bytes, which are kept above; what was written "
            "after them, in the %.1f s before, is lost\n"
            % (how, self._position, max(0.1, time.monotonic() - self._looked_at))
        )
        self._append(b"" if self._ends_with_line else b"\n", 0, line.encode("ascii"))

    def _append(self, content: bytes, following: int, more: bytes = b"") -> None:
        content += more
        kept = zlib.compress(content, 1) if len(content) >= _WORTH_DEFLATING else content
        if len(kept) >= len(content):
            kept = content
        record = _HEAD.pack(len(content), len(kept), zlib.crc32(kept), following) + kept
        try:
            if self._file.write(record) != len(record):
                raise OSError("no room for the copy of the log")
        except OSError:
            with contextlib.suppress(OSError):
                self._file.truncate(self._stored)
            raise
        self._take(_Record(self.size, content, following), self._stored + len(record))

    def _take(self, record: _Record, end: int) -> None:
        self.size, self._stored = record.start + len(record.content), end
        self._ends_with_line = record.content.endswith(b"\n")
        if not record.next:
            self.emptied = True
            self._start_log()
            return
        self._position = record.next
        self._digest.update(record.content)
        self._mark += record.content[: _MARK - len(self._mark)]

    def _start_log(self) -> None:
        self._position, self._mark, self._digest = 0, b"", hashlib.sha256()
        self._ends_with_line = True

    # Reading

    def _records(self, position: int, start: int, stored: int) -> Iterator[Tuple[_Record, int]]:
        """The records from a place in the file on, each with where it ends; stops before one that is cut off."""
        with open(self._path, "rb") as file:
            file.seek(position)
            while position < stored:
                head = file.read(_HEAD.size)
                if len(head) < _HEAD.size:
                    return
                size, kept_size, checksum, following = _HEAD.unpack(head)
                kept = file.read(kept_size)
                if len(kept) < kept_size or zlib.crc32(kept) != checksum:
                    return
                content = kept if kept_size == size else zlib.decompress(kept)
                position += _HEAD.size + kept_size
                yield _Record(start, content, following), position
                start += size
