"""What a command's exit code and last lines say about why it never got to its work."""

from __future__ import annotations

import os
import re
from typing import NamedTuple, Optional

from stoker.runtime import wire

_NO_FILE = re.compile(r"can't open file '([^']+)': \[Errno 2\]|can't open file ([^\s:]+): No such file")
_NO_SCRIPT = re.compile(r"^(?:sh|bash|dash|ash): (?:\d+: )?(?:cannot open|can't open) '?([^\s':]+)", re.MULTILINE)
_NOT_FOUND = re.compile(r"^\S*?(?:sh|bash|dash|ash): (?:line )?(?:\d+: )?(\S+?): (?:command )?not found", re.MULTILINE)
_NO_LIBRARY = re.compile(
    r"(?:^|\s)(lib[^\s:/]+\.so[^\s:/]*): cannot open shared object file: No such file or directory"
)
#: A program that goes on after such a line and fails later fails of something else.
_LAST_LINES = 5
#: Debian's packages of what wheels take from the system most often.
_DEBIAN = {
    "libgomp.so.1": "libgomp1",
    "libGL.so.1": "libgl1",
    "libgthread-2.0.so.0": "libglib2.0-0",
    "libglib-2.0.so.0": "libglib2.0-0",
    "libSM.so.6": "libsm6",
    "libXext.so.6": "libxext6",
    "libXrender.so.1": "libxrender1",
    "libsndfile.so.1": "libsndfile1",
    "libstdc++.so.6": "libstdc++6",
}


class Diagnosis(NamedTuple):
    """reason: CamelCase or None when the command's own code says it all; message: one sentence with the fix."""

    reason: Optional[str] = None
    message: str = ""


def diagnose(code: Optional[int], log_tail: str, work: str) -> Diagnosis:
    """Why a command ended before its work. Codes that shells and Python use for `there is nothing to run` are looked at
    only with the matching line in the log: a program may use the same codes for its own purposes."""
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
    last = "\n".join(log_tail.rstrip().splitlines()[-_LAST_LINES:])
    library = _NO_LIBRARY.search(last) if code else None
    if library:
        return Diagnosis(
            "SystemLibraryMissing",
            "the image has no %s, which a package takes from the system; bring it with %s, or with a conda part "
            "that has it" % (library.group(1), _step(library.group(1))),
        )
    return Diagnosis()


def _step(library: str) -> str:
    package = _DEBIAN.get(library)
    if package is None:
        return "a docker step (on Debian the package that has it is found with `apt-file search %s`)" % library
    return "the docker step `RUN apt-get update && apt-get install -y --no-install-recommends %s`" % package


def _listing(work: str) -> str:
    try:
        names = sorted(name for name in os.listdir(work) if name not in ("outputs", "logs", "user_logs"))
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
