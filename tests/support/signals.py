"""Signals as the kernel may deliver them: to any thread of a process that does not block them."""

import ctypes
import os
import signal
import time
from pathlib import Path


def to_another_thread(process: int, number: signal.Signals) -> None:
    """Send a signal to a thread of the process that is not its main thread, as the kernel does when that one has just
    been busy with another. Waits until there is such a thread."""
    deadline = time.monotonic() + 10
    while True:
        others = [int(task.name) for task in Path(f"/proc/{process}/task").iterdir() if int(task.name) != process]
        for thread in others:
            # Short-lived threads may be gone by now.
            if ctypes.CDLL(None, use_errno=True).tgkill(process, thread, int(number)) == 0:
                return
        assert time.monotonic() < deadline, f"process {process} has no other thread"
        os.sched_yield()
