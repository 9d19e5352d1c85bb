"""How much disk a run's scratch folder takes: a run over its limit is stopped with a reason before the kubelet evicts it."""

from __future__ import annotations

import contextlib
import os
import threading
import time
from typing import Callable, Optional

_TICK_SECONDS = 1.0


class ScratchWatch:
    """Adds up a folder now and then, in a thread of its own because a walk may take long, and calls `exceeded` once,
    from that thread, with the bytes in use. limit None: never."""

    def __init__(self, root: str, limit: Optional[int], exceeded: Callable[[int], None]) -> None:
        self._root, self._exceeded = root, exceeded
        self._closed = threading.Event()
        if limit is not None:
            threading.Thread(target=self._watch, args=(limit,), name="scratch", daemon=True).start()

    def _watch(self, limit: int) -> None:
        walked_at, took, free, used = float("-inf"), 0.0, 0, 0
        while not self._closed.wait(_TICK_SECONDS):
            now = time.monotonic()
            # About 2 % of a core. Sooner when so much of the disk went meanwhile that it may have been us: a run can
            # write a long way past its limit in the time that a walk over 100,000 files is worth.
            hurried = free - _free_bytes(self._root) > (limit - used) // 2 and now - walked_at >= 5 * took
            if not hurried and now - walked_at < max(2.0, 50 * took):
                continue
            free, used = _free_bytes(self._root), _used_bytes(self._root)
            walked_at = time.monotonic()
            took = walked_at - now
            if used > limit:
                self._exceeded(used)
                return

    def close(self) -> None:
        self._closed.set()


def _free_bytes(root: str) -> int:
    """Bytes that are free on the folder's disk; 0 where nobody can tell."""
    with contextlib.suppress(OSError, AttributeError):
        status = os.statvfs(root)
        return status.f_bfree * status.f_frsize
    return 0


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
