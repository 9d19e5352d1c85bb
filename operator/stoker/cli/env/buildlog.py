"""Prints a build's log as it is stored, and follows it while the build runs."""

import sys
import time
from collections.abc import Callable, Iterator

from stoker.sdk.wayin import Server

#: The operator copies the log about every three seconds.
PAUSE_SECONDS = 1.0


def pieces(server: Server, spec_key: str, number: int = 0) -> Iterator[bytes]:
    """What is stored now. number: of one of the tries that are kept; 0 for the newest."""
    offset = 0
    while piece := server.build_log(spec_key, offset, number)[0]:
        offset += len(piece)
        yield piece


class Following:
    """A log as it grows."""

    def __init__(self, server: Server, offset: int = 0) -> None:
        self._server, self._offset, self._key = server, offset, ""

    def more(self, spec_key: str) -> bytes:
        """What is new. Of another key, or another try, whose log is shorter, all of it."""
        if self._key and self._key != spec_key:
            self._offset = 0
        self._key = spec_key
        piece, size = self._server.build_log(spec_key, self._offset)
        if size < self._offset:
            self._offset = 0
            piece, _ = self._server.build_log(spec_key, 0)
        self._offset += len(piece)
        return piece


def follow(server: Server, spec_key: str, running: Callable[[], bool], write: Callable[[bytes], None]) -> None:
    """Write the log as it grows, until `running` says that it ends."""
    log = Following(server)
    while True:
        goes_on = running()
        if piece := log.more(spec_key):
            write(piece)
        elif not goes_on:
            return
        else:
            time.sleep(PAUSE_SECONDS)


def to_stdout(piece: bytes) -> None:
    sys.stdout.buffer.write(piece)
    sys.stdout.flush()
