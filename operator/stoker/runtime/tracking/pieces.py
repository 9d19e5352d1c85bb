"""What was tracked, as lines of JSON in numbered files: written before a request is answered, and saved like any log.

A file is closed after so many bytes or so long, so that what is being written is never long without a copy in the store.
A line that was cut off by a kill is the last one of its file and is not read.
"""

from __future__ import annotations

import json
import os
import time
from typing import Any, Dict, Iterator, List

from stoker.runtime.layout import Scratch

#: Below the working directory; `scan` stores it as `metrics/`.
FOLDER = "logs/.metrics"
_PIECE_BYTES = 256 * 1024
#: A file is closed after so many seconds, longer once there are many.
_PIECE_SECONDS = 10.0


class Pieces:
    """Appends to the files of one run. Used by one thread at a time."""

    def __init__(self, scratch: Scratch) -> None:
        self._folder = os.path.join(scratch.work, *FOLDER.split("/"))
        self._number = max(_numbers(self._folder), default=0)
        self._descriptor = -1
        self._size, self._begun = 0, 0.0

    def append(self, lines: List[Dict[str, Any]]) -> None:
        """Write lines to the file system. Raises OSError, and then nothing of them counts."""
        content = b"".join(json.dumps(line, separators=(",", ":")).encode("utf-8") + b"\n" for line in lines)
        if self._descriptor < 0 or self._is_full():
            self._next()
        written = os.write(self._descriptor, content)
        while written < len(content):
            # A disk that fills up takes a part: whoever reads stops at the cut line.
            written += os.write(self._descriptor, content[written:])
        self._size += len(content)

    def close(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def _is_full(self) -> bool:
        age = time.monotonic() - self._begun
        return self._size >= _PIECE_BYTES or age > _PIECE_SECONDS * (1 + self._number / 100)

    def _next(self) -> None:
        self.close()
        os.makedirs(self._folder, exist_ok=True)
        self._number += 1
        path = os.path.join(self._folder, "%06d.jsonl" % self._number)
        self._descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o644)
        self._size, self._begun = 0, time.monotonic()


def read(scratch: Scratch) -> Iterator[Dict[str, Any]]:
    """Every line of a run, oldest first."""
    folder = os.path.join(scratch.work, *FOLDER.split("/"))
    for number in sorted(_numbers(folder)):
        try:
            with open(os.path.join(folder, "%06d.jsonl" % number), "rb") as file:
                yield from lines_of(file)
        except OSError:
            continue  # the command may write there: what it took away is its own loss


def lines_of(content: Any) -> Iterator[Dict[str, Any]]:
    """The lines of a file (an iterable of bytes), without one that is cut off or is none of ours."""
    for line in content:
        if not line.endswith(b"\n"):
            return
        try:
            document = json.loads(line.decode("utf-8"))
        except ValueError:
            continue
        if isinstance(document, dict):
            yield document


def _numbers(folder: str) -> List[int]:
    try:
        names = os.listdir(folder)
    except OSError:
        return []
    return [int(name[:6]) for name in names if len(name) == 12 and name.endswith(".jsonl") and name[:6].isdigit()]
