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
    """A started command. Raises OSError when it cannot be started. leftovers: whether all else that runs in our container
    is this command's to end."""

    def __init__(
        self, arguments: List[str], work: str, environment: Mapping[str, str], log: int, *, leftovers: bool = True
    ) -> None:
        # As the first process of a container we are also the parent of everything that is orphaned in it.
        self._is_init = os.getpid() == 1
        self._takes_all = self._is_init and leftovers
        options: Dict[str, Any] = {}
        if _HAS_GROUPS:
            options["start_new_session"] = True
        elif sys.platform == "win32":
            options["creationflags"] = subprocess.CREATE_NEW_PROCESS_GROUP
        self._told = _Once()

        def start() -> int:
            self._process = subprocess.Popen(
                arguments, cwd=work, env=dict(environment), stdin=subprocess.DEVNULL, stdout=log, stderr=log, **options
            )
            return self._process.pid

        if self._is_init:
            _REAPER.start(start, self._reaped)
        else:
            start()
            threading.Thread(target=self._wait, name="wait", daemon=True).start()

    def watch(self, ended: Callable[[Ended], None]) -> None:
        """Call `ended` once, when the command has ended: from another thread, or at once."""
        self._told.to(ended)

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
        if self._takes_all:
            # Those who left the group: the container is ours alone.
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(-1, number)
                found = True
        return found

    def _wait(self) -> None:
        self._told.say(_ended(self._process.wait()))

    def _reaped(self, status: int) -> None:
        code = -os.WTERMSIG(status) if os.WIFSIGNALED(status) else os.WEXITSTATUS(status)
        self._process.returncode = code
        self._told.say(_ended(code))


class _Once:
    """An end that is told once, whichever comes first: the end, or who wants to hear of it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._ended: Optional[Ended] = None
        self._hears: Optional[Callable[[Ended], None]] = None

    def say(self, ended: Ended) -> None:
        with self._lock:
            self._ended, hears = ended, self._hears
        if hears is not None:
            hears(ended)

    def to(self, hears: Callable[[Ended], None]) -> None:
        with self._lock:
            self._hears, ended = hears, self._ended
        if ended is not None:
            hears(ended)


class _Reaper:
    """Waits for every child, as the first process of a container must: also for those that it did not start."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._asked: Dict[int, Callable[[int], None]] = {}
        self._runs = False

    def start(self, start: Callable[[], int], told: Callable[[int], None]) -> None:
        """Start a process, and have its status told from another thread. start: its pid, or an OSError."""
        # Under the lock: nobody's status is looked at before we know whose it is.
        with self._lock:
            self._asked[start()] = told
            if not self._runs:
                self._runs = True
                threading.Thread(target=self._run, name="wait", daemon=True).start()

    def _run(self) -> None:
        while True:
            try:
                pid, status = os.waitpid(-1, 0)
            except ChildProcessError:
                with self._lock:
                    if not self._asked:
                        self._runs = False
                        return
                continue
            with self._lock:
                told = self._asked.pop(pid, None)
            if told is not None:
                told(status)


_REAPER = _Reaper()


def _ended(returncode: int) -> Ended:
    if returncode < 0:
        return Ended(128 - returncode, -returncode)
    return Ended(returncode & 0xFF if _HAS_GROUPS else returncode, None)
