"""What a command's exit code and last lines say about why it never got to its work."""

from __future__ import annotations

import os
import re
from typing import NamedTuple, Optional

from stoker.runtime import wire

_NO_FILE = re.compile(r"can't open file '([^']+)': \[Errno 2\]|can't open file ([^\s:]+): No such file")
_NO_SCRIPT = re.compile(r"^(?:sh|bash|dash|ash): (?:\d+: )?(?:cannot open|can't open) '?([^\s':]+)", re.MULTILINE)
_NOT_FOUND = re.compile(r"^\S*?(?:sh|bash|dash|ash): (?:line )?(?:\d+: )?(\S+?): (?:command )?not found", re.MULTILINE)


class Diagnosis(NamedTuple):
    """reason: CamelCase or None when the command's own code says it all; message: one sentence with the fix."""

    reason: Optional[str] = None
    message: str = ""


def diagnose(code: Optional[int], log_tail: str, work: str) -> Diagnosis:
    """Why a command ended at once. Only codes that shells and Python use for `there is nothing to run` are looked
    at, and only with the matching line in the log: a program may use the same codes for its own purposes."""
    if code == 127:
        match = _NOT_FOUND.search(log_tail)
        if match:
            return Diagnosis(
                "CommandNotFound",
                "there is no %r on PATH; name an image or an environment that has it, or give "
                "the program's path" % match.group(1),
            )
    if code == 2 or code == 127:
        match = _NO_FILE.search(log_tail) or _NO_SCRIPT.search(log_tail)
        if match:
            path = next(group for group in match.groups() if group)
            return Diagnosis(
                "EntryFileMissing",
                "the command opens %r, which is not there; the code has: %s"
                % (os.path.relpath(path, work) if path.startswith(work + "/") else path, _listing(work)),
            )
    return Diagnosis()


def _listing(work: str) -> str:
    try:
        names = sorted(name for name in os.listdir(work) if name not in ("outputs", "logs"))
    except OSError:
        return "nothing"
    shown = ", ".join(names[:10]) or "nothing"
    return shown + (" and %d more" % (len(names) - 10) if len(names) > 10 else "")


def log_tail(content: bytes, limit: int = wire.LOG_TAIL_BYTES) -> str:
    """The last whole lines of a log within `limit` bytes; the end of the last line when that is longer."""
    text = content[-limit:].decode("utf-8", "replace")
    if len(content) > limit and "\n" in text[:-1]:
        text = text.split("\n", 1)[1]
    # A progress bar rewrites its line: only what was last on it is worth the space.
    lines = text.replace("\r\n", "\n").split("\n")
    shown = "\n".join(line.rstrip("\r").rsplit("\r", 1)[-1] for line in lines)
    while len(shown.encode("utf-8", "replace")) > limit:
        shown = shown[len(shown) // 20 + 1 :]
    return shown
