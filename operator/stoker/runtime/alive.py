"""Is the command still running? Answered by the kernel: end-of-file on the FIFO that launch holds open."""

from __future__ import annotations

import contextlib
import os
import select
import threading
from typing import Callable, Optional

from stoker.runtime.layout import Scratch

_PAUSE_SECONDS = 0.05


class AliveWatch(threading.Thread):
    """Calls `ended` once, when the command of a scratch folder has ended or its launcher has died.

    Works after a restart of ship too: `run/started` is written by launch when it already holds the FIFO, so a FIFO
    without a writer then means that launch is gone.
    """

    def __init__(self, scratch: Scratch, ended: Callable[[], None]) -> None:
        super().__init__(name="alive", daemon=True)
        self._scratch, self._ended = scratch, ended
        self._closed = threading.Event()

    def run(self) -> None:
        descriptor: Optional[int] = None
        try:
            while not self._closed.is_set():
                if os.path.exists(self._scratch.exit):
                    self._ended()
                    return
                if descriptor is None and hasattr(os, "mkfifo"):
                    with contextlib.suppress(FileNotFoundError):
                        descriptor = os.open(self._scratch.alive, os.O_RDONLY | os.O_NONBLOCK)
                if descriptor is None:
                    self._closed.wait(_PAUSE_SECONDS)
                elif self._is_gone(descriptor):
                    self._ended()
                    return
        finally:
            if descriptor is not None:
                os.close(descriptor)

    def close(self) -> None:
        self._closed.set()

    def _is_gone(self, descriptor: int) -> bool:
        # Asked before the FIFO: then launch held it at that moment or earlier.
        started = os.path.exists(self._scratch.started)
        try:
            os.read(descriptor, 1)
        except BlockingIOError:
            # Someone holds it. The kernel wakes us when that ends.
            select.select([descriptor], [], [], 1.0)
            return False
        if not started:
            self._closed.wait(_PAUSE_SECONDS)
        return started
