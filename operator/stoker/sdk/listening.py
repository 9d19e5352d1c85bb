"""Who hears of progress where there is no terminal command: prose to standard error, a followed log to standard output, as
Python has them now, which in a notebook is the cell."""

import codecs
import os
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TextIO

from stoker.sdk.prose import step_line


class Prose:
    """A Listener. quiet: no prose but warnings. Logs are followed inside `logs`."""

    def __init__(self, quiet: bool = False) -> None:
        self.quiet = quiet
        self._descriptor: int | None = None

    def step(self, label: str, what: str, detail: str = "", seconds: float | None = None) -> None:
        """One phase."""
        if not self.quiet:
            print(step_line(label, what, detail, seconds), file=sys.stderr, flush=True)

    def note(self, line: str) -> None:
        """One line of progress."""
        if not self.quiet:
            print(f"  {line}", file=sys.stderr, flush=True)

    def warn(self, line: str) -> None:
        """Something that a person should know."""
        print(f"  warning     {line}", file=sys.stderr, flush=True)

    def log_descriptor(self) -> int:
        """Where a followed log goes."""
        assert self._descriptor is not None, "logs are followed inside of `logs`"
        return self._descriptor

    @contextmanager
    def logs(self) -> Iterator[int]:
        """While inside, what is written to the descriptor comes out of `sys.stdout`, which need not have one of its own.
        All of it is out at the end."""
        reading, writing = os.pipe()
        pump = threading.Thread(target=_pump, args=(reading, sys.stdout), name="stoker-log", daemon=True)
        pump.start()
        self._descriptor = writing
        try:
            yield writing
        finally:
            self._descriptor = None
            os.close(writing)
            pump.join()


def _pump(reading: int, out: TextIO) -> None:
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    with os.fdopen(reading, "rb", buffering=0) as source:
        while content := source.read(1 << 16):
            out.write(decoder.decode(content))
            out.flush()
        out.write(decoder.decode(b"", True))
        out.flush()
