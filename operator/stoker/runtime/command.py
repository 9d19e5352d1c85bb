"""The user's command as a process group: started, signalled and cleared away as a whole."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from typing import Any, Callable, Dict, List, Mapping, NamedTuple, Optional

_HAS_GROUPS = hasattr(os, "killpg")
#: What the command leaves running after its end gets so long for SIGTERM.
_LEFTOVER_SECONDS = 3.0


class Ended(NamedTuple):
    """code: as a shell reports it, 128+n for signal n; signal: n or None."""

    code: int
    signal: Optional[int]


class Command:
    """A started command. Raises OSError when it cannot be started."""

    def __init__(self, arguments: List[str], work: str, environment: Mapping[str, str], log: int) -> None:
        # As the first process of a container we are also the parent of everything that is orphaned in it.
        self._is_init = os.getpid() == 1
        options: Dict[str, Any] = {}
        if _HAS_GROUPS:
            options["start_new_session"] = True
        elif sys.platform == "win32":
            options["creationflags"] = subprocess.CREATE_NEW_PROCESS_GROUP
        self._process = subprocess.Popen(
            arguments, cwd=work, env=dict(environment), stdin=subprocess.DEVNULL, stdout=log, stderr=log, **options
        )

    def watch(self, ended: Callable[[Ended], None]) -> None:
        """Call `ended` once, from another thread, when the command has ended."""
        threading.Thread(target=self._wait, args=(ended,), name="wait", daemon=True).start()

    def signal_group(self, number: int) -> None:
        """Send a signal to the command and to everything it started that is still in its group."""
        with contextlib.suppress(ProcessLookupError, PermissionError):
            if _HAS_GROUPS:
                os.killpg(self._process.pid, number)
            elif number == getattr(signal, "SIGINT", None) and sys.platform == "win32":
                self._process.send_signal(signal.CTRL_BREAK_EVENT)
            else:
                self._process.terminate()

    def end_group(self) -> None:
        """After the command's end: end what it left running, so that the files stay as they are."""
        if not _HAS_GROUPS:
            return
        for number, seconds in ((signal.SIGTERM, _LEFTOVER_SECONDS), (signal.SIGKILL, 1.0)):
            if not self._signal_leftovers(number):
                return
            deadline = time.monotonic() + seconds
            while time.monotonic() < deadline:
                time.sleep(0.01)
                if not self._signal_leftovers(0):
                    return

    def _signal_leftovers(self, number: int) -> bool:
        found = False
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, number)
            found = True
        if self._is_init:
            # Those who left the group: the container is ours alone.
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(-1, number)
                found = True
        return found

    def _wait(self, ended: Callable[[Ended], None]) -> None:
        if not self._is_init:
            ended(_ended(self._process.wait()))
            return
        while True:
            try:
                pid, status = os.waitpid(-1, 0)
            except ChildProcessError:
                return
            if pid == self._process.pid:
                code = -os.WTERMSIG(status) if os.WIFSIGNALED(status) else os.WEXITSTATUS(status)
                self._process.returncode = code
                ended(_ended(code))


def _ended(returncode: int) -> Ended:
    if returncode < 0:
        return Ended(128 - returncode, -returncode)
    return Ended(returncode & 0xFF if _HAS_GROUPS else returncode, None)
