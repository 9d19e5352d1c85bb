"""Whether a run gets anywhere: a log that grows, or files that change in its working folder."""

from __future__ import annotations

import contextlib
import os
import threading
import time
from typing import Callable, Mapping, Optional

#: The variable that says after how many seconds without progress a command is ended.
LIMIT = "STOKER_NO_PROGRESS_SECONDS"


class ProgressWatch:
    """Calls `stalled` once, from a thread of its own, when for `limit` seconds the log did not grow and nothing below
    `folder` was made or changed. limit None: never.

    Files are looked at only once the log has been silent for half of that time: a walk may take long.
    """

    def __init__(self, folder: str, limit: Optional[float], stalled: Callable[[], None]) -> None:
        self._folder, self._stalled = folder, stalled
        self._closed = threading.Event()
        self._moved_at, self._size = time.monotonic(), 0
        if limit is not None:
            threading.Thread(target=self._watch, args=(limit,), name="progress", daemon=True).start()

    def printed(self, size: int) -> None:
        """The log has so many bytes now."""
        if size != self._size:
            self._size, self._moved_at = size, time.monotonic()

    def close(self) -> None:
        self._closed.set()

    def _watch(self, limit: float) -> None:
        pause = least = min(10.0, max(0.1, limit / 20))
        while not self._closed.wait(pause):
            pause = least
            silent = time.monotonic() - self._moved_at
            if silent < limit / 2:
                continue
            begun = time.monotonic()
            changed = time.time() - _last_change(self._folder)
            pause = max(least, 50 * (time.monotonic() - begun))
            # A clock that was set back, or one of a file server that is ahead, makes files younger than now.
            if min(time.monotonic() - self._moved_at, max(0.0, changed)) >= limit:
                self._stalled()
                return


def limit_of(environment: Mapping[str, str]) -> Optional[float]:
    """The seconds without progress after which a command with these variables is ended; None for no such limit.

    Of several nodes rank 0's command speaks for all: the others mostly print nothing.
    """
    if environment.get("STOKER_RANK", "0") != "0":
        return None
    with contextlib.suppress(ValueError):
        seconds = float(environment.get(LIMIT, ""))
        return seconds if seconds > 0 else None
    return None


def _last_change(root: str) -> float:
    """When anything below a folder was made, written, renamed or removed last, in seconds since the epoch."""
    latest, folders = _changed_at(os.stat(root)), [root]
    while folders:
        with contextlib.suppress(OSError), os.scandir(folders.pop()) as entries:
            for entry in entries:
                with contextlib.suppress(OSError):
                    if entry.is_dir(follow_symlinks=False):
                        folders.append(entry.path)
                    latest = max(latest, _changed_at(entry.stat(follow_symlinks=False)))
    return latest


def _changed_at(found: os.stat_result) -> float:
    # The inode's time too: a file that was copied or renamed keeps the old one of its content.
    return max(found.st_mtime, found.st_ctime)
