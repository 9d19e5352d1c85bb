"""The log file copied to a descriptor as it grows."""

from __future__ import annotations

import contextlib
import os
import threading
import time

_CHUNK = 256 * 1024
#: Longest time that a written byte waits for being copied.
_PAUSE_SECONDS = 0.04
#: A reader of our stdout that does not read must not keep the run from ending.
_FINISH_SECONDS = 10.0


class LogTail(threading.Thread):
    """Copies a file to a descriptor from its start, in large pieces. When the descriptor is gone it stops quietly:
    the file is the record."""

    def __init__(self, path: str, target: int) -> None:
        super().__init__(name="tail", daemon=True)
        self._path, self._target = path, target
        self._last = threading.Event()

    def run(self) -> None:
        with contextlib.suppress(OSError), open(self._path, "rb", buffering=0) as file:
            while True:
                # Asked before reading: what was written before the end is then read for certain.
                last = self._last.is_set()
                self._copy(file.fileno())
                if last:
                    return
                self._last.wait(_PAUSE_SECONDS)

    def _copy(self, source: int) -> None:
        while True:
            chunk = os.read(source, _CHUNK)
            if not chunk:
                # Someone reopened the log for writing (`> /dev/stdout`) and so emptied it: go on from its start.
                if os.fstat(source).st_size < os.lseek(source, 0, os.SEEK_CUR):
                    os.lseek(source, 0, os.SEEK_SET)
                    continue
                return
            self._take(chunk)

    def _take(self, chunk: bytes) -> None:
        self._write(chunk)

    def _write(self, chunk: bytes) -> None:
        view = memoryview(chunk)
        while view:
            try:
                view = view[os.write(self._target, view) :]
            except BlockingIOError:
                time.sleep(_PAUSE_SECONDS)

    def finish(self) -> None:
        """Copy what is there and stop; gives up after 10 s on a reader that does not read."""
        self._last.set()
        self.join(_FINISH_SECONDS)


class LineTail(LogTail):
    """The same for one of several files that share a descriptor: whole lines, with `front` before each."""

    def __init__(self, path: str, target: int, front: bytes) -> None:
        super().__init__(path, target)
        self._front, self._begun = front, b""

    def run(self) -> None:
        super().run()
        if self._begun:
            with contextlib.suppress(OSError):
                self._write(self._front + self._begun + b"\n")

    def _take(self, chunk: bytes) -> None:
        lines = (self._begun + chunk).split(b"\n")
        self._begun = lines.pop()
        if len(self._begun) > _CHUNK:
            lines, self._begun = [*lines, self._begun], b""
        if lines:
            # In one write: the descriptor is an appending file, and no other's line then comes in between.
            self._write(b"".join(self._front + line + b"\n" for line in lines))
