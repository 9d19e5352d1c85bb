"""How much disk a run's scratch folder takes: a run over its limit is stopped with a reason before the kubelet evicts it."""

from __future__ import annotations

import contextlib
import os
import threading
import time
from typing import Callable, Optional


class ScratchWatch:
    """Adds up a folder now and then, in a thread of its own because a walk may take long, and calls `exceeded` once,
    from that thread, with the bytes in use. limit None: never."""

    def __init__(self, root: str, limit: Optional[int], exceeded: Callable[[int], None]) -> None:
        self._root, self._exceeded = root, exceeded
        self._closed = threading.Event()
        if limit is not None:
            threading.Thread(target=self._watch, args=(limit,), name="scratch", daemon=True).start()

    def _watch(self, limit: int) -> None:
        pause = 1.0
        while not self._closed.wait(pause):
            begun = time.monotonic()
            used = _used_bytes(self._root)
            if used > limit:
                self._exceeded(used)
                return
            pause = max(2.0, 50 * (time.monotonic() - begun))

    def close(self) -> None:
        self._closed.set()


def _used_bytes(root: str) -> int:
    """Bytes on disk below a folder, holes not counted; what vanishes meanwhile counts nothing."""
    total, folders = 0, [root]
    while folders:
        with contextlib.suppress(OSError), os.scandir(folders.pop()) as entries:
            for entry in entries:
                with contextlib.suppress(OSError):
                    if entry.is_dir(follow_symlinks=False):
                        folders.append(entry.path)
                    stat = entry.stat(follow_symlinks=False)
                    total += stat.st_blocks * 512 if hasattr(stat, "st_blocks") else stat.st_size
    return total
