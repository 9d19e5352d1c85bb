"""The folder that the three containers of a run's pod share, and how they hand things to each other in it.

The local run uses the same layout in a folder of its own.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import tempfile
import time
from typing import Any

from stoker.runtime import wire

#: Files in run/ that only take space and an inode, so that what tells of a stop, the exit record and the outcome can
#: still be written when a run has filled the disk. launch.sh knows their names.
_RESERVES = (".reserve-1", ".reserve-2", ".reserve-3")
_RESERVE_BYTES = 16 * 1024


class Scratch:
    """Paths below one run's scratch folder (`$STOKER_DIR`, in a pod `/stoker`)."""

    def __init__(self, root: str) -> None:
        self.root = os.path.abspath(root)
        self.bin = self._below("bin")
        self.run = self._below("run")
        #: Working directory of the command: the code, `outputs/` and `logs/`.
        self.work = self._below("work")
        self.inputs = self._below("inputs")
        self.tmp = self._below("tmp")
        self.home = self._below("home")
        self.journal = self._below("journal")
        #: What the command wrote to stdout and stderr.
        self.raw_log = self._below("log", "std_log.txt")
        #: FIFO that launch holds open; the kernel closes it when launch dies.
        self.alive = self._below("run", "alive")
        #: Written by launch once it holds the FIFO: from then on end-of-file means that launch is gone.
        self.started = self._below("run", "started")
        #: Written by launch when it is told to stop before the command's end.
        self.stopping = self._below("run", "stopping")
        self.exit = self._below("run", "exit.json")
        self.sealed = self._below("run", "sealed")
        self.job = self._below("run", "job.json")
        self.launch = self._below("run", "launch.json")
        #: launch.json for a launcher that is only `sh`.
        self.launch_env = self._below("run", "launch.env")
        #: The secret that the pods of one attempt share, where they need one; for our user alone.
        self.gang_key = self._below("run", "gang.key")
        #: What lay under outputs/ and logs/ before the command started: {path: {"size", "sha256"}}.
        self.carried = self._below("run", "carried.json")
        self.agent = self._below("bin", "stoker-agent.pyz")
        self.launcher = self._below("bin", "launch")

    def _below(self, *parts: str) -> str:
        return os.path.join(self.root, *parts)

    def make(self) -> None:
        """Make the folders and the FIFO; what is there already stays."""
        for folder in (self.bin, self.run, self.work, self.inputs, self.tmp, self.home, self.journal):
            os.makedirs(folder, exist_ok=True)
        # Ours alone: the log in it can be written by every uid that has it open (see launch).
        os.makedirs(os.path.dirname(self.raw_log), mode=0o700, exist_ok=True)
        if hasattr(os, "mkfifo"):
            with contextlib.suppress(FileExistsError):
                os.mkfifo(self.alive, 0o660)
        for name in _RESERVES:
            with contextlib.suppress(OSError), open(os.path.join(self.run, name), "xb") as file:
                file.write(bytes(_RESERVE_BYTES))


def write_atomic(path: str, content: bytes, mode: int = 0o644) -> None:
    """Put a whole file in place by rename: a reader sees all of it or none. On a full disk a reserve of ours beside
    the file is given up for it."""
    while True:
        try:
            return _write_atomic(path, content, mode)
        except OSError as error:
            if error.errno not in (errno.ENOSPC, errno.EDQUOT) or not _free_reserve(os.path.dirname(path)):
                raise


def _free_reserve(folder: str) -> bool:
    for name in _RESERVES:
        try:
            os.unlink(os.path.join(folder, name))
            return True
        except OSError:
            continue
    return False


def _write_atomic(path: str, content: bytes, mode: int) -> None:
    handle, temporary = tempfile.mkstemp(dir=os.path.dirname(path), prefix="." + os.path.basename(path) + ".")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
        os.chmod(temporary, mode)
        os.replace(temporary, path)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        raise


def write_json(path: str, document: Any) -> None:
    """Put a JSON file in place by rename."""
    write_atomic(path, wire.json_bytes(document))


def read_json(path: str, limit: int = 64 * 1024 * 1024) -> Any:
    """The JSON in a file, or None when there is no such file; raises ValueError when it is not JSON or too long."""
    try:
        with open(path, "rb") as file:
            content = file.read(limit + 1)
    except FileNotFoundError:
        return None
    if len(content) > limit:
        raise ValueError("%s has more than %d bytes" % (path, limit))
    return json.loads(content.decode("utf-8"))


def write_termination_message(text: str) -> None:
    """What `kubectl describe` shows of a container's end; at most 4 KB, and only where there is such a file."""
    path = os.environ.get("STOKER_TERMINATION_LOG", "/dev/termination-log")
    with contextlib.suppress(OSError):
        descriptor = os.open(path, os.O_WRONLY | os.O_TRUNC)
        with os.fdopen(descriptor, "wb") as file:
            file.write(text.encode("utf-8", "replace")[:4000])


def utc_now() -> str:
    """The time now, RFC 3339 in UTC, to the millisecond."""
    now = time.time()
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(now)) + ".%03dZ" % (now % 1 * 1000)


def human_bytes(count: float) -> str:
    """A number of bytes for people: 62 KB, 1.4 GB."""
    for unit in ("bytes", "KB", "MB", "GB"):
        if count < 1000:
            return "%.3g %s" % (count, unit)
        count /= 1000
    return "%.3g TB" % count
