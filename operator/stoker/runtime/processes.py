"""The processes of a distributed command on one node, as one: started together, ended together, each with a log of its own."""

from __future__ import annotations

import os
import signal
import threading
from typing import Callable, List, Mapping, NamedTuple, Optional

from stoker.runtime import userlogs, wire
from stoker.runtime.command import Command, Ended
from stoker.runtime.distribution import Process
from stoker.runtime.tail import LineTail


class Blamed(NamedTuple):
    """The process that failed first. log_tail: the end of its own log."""

    number: int
    ended: Ended
    log_tail: str

    @property
    def words(self) -> str:
        """How it ended, in a sentence."""
        how = "ended with exit code %d" % self.ended.code
        if self.ended.signal is not None:
            how = "was ended by %s" % _signal_name(self.ended.signal)
        return "process %d %s" % (self.number, how)


class _One:
    """A started process. log: its own, open as long as we need it: the command may move or remove the file."""

    def __init__(self, process: Process, command: Command, log: int, tail: LineTail) -> None:
        self.process, self.command, self.log, self.tail = process, command, log, tail
        self.ended: Optional[Ended] = None


class Processes:
    """What `Command` is for one process. Their lines come into `log` whole, with `[p<number>] ` in front. Raises OSError
    when one cannot be started; those that were are ended then."""

    def __init__(
        self, arguments: List[str], work: str, environment: Mapping[str, str], plan: List[Process], log: int
    ) -> None:
        self._lock = threading.Lock()
        self._first: Optional[_One] = None
        self._all: List[_One] = []
        folder = os.path.join(work, userlogs.SAVED)
        os.makedirs(folder, exist_ok=True)
        try:
            for process in plan:
                self._all.append(self._start(arguments, work, environment, process, folder, log, process is plan[-1]))
        except OSError:
            self.signal_group(getattr(signal, "SIGKILL", signal.SIGTERM))
            raise

    @staticmethod
    def _start(
        arguments: List[str],
        work: str,
        environment: Mapping[str, str],
        process: Process,
        folder: str,
        log: int,
        last: bool,
    ) -> _One:
        path = os.path.join(folder, userlogs.name(process.number))
        own = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o666)
        try:
            command = Command(arguments, work, {**environment, **process.variables}, own, leftovers=last)
        except OSError:
            os.close(own)
            raise
        tail = LineTail(path, log, b"[p%d] " % process.number)
        tail.start()
        return _One(process, command, own, tail)

    def watch(self, ended: Callable[[Ended], None], wind_down: Callable[[], None]) -> None:
        """Call `ended` once, when all have ended, and before it `wind_down`, once, when those that are left have no more
        reason to run: one has failed, or only such as serve others are left."""
        for one in self._all:
            one.command.watch(lambda end, one=one: self._one_ended(one, end, ended, wind_down))  # type: ignore[misc]

    def _one_ended(self, one: _One, end: Ended, ended: Callable[[Ended], None], wind_down: Callable[[], None]) -> None:
        with self._lock:
            was_over = self._is_over()
            one.ended = end
            # What serves the others is told to stop, and how it then ends says nothing.
            if end.code != 0 and not was_over:
                self._first = one
            is_over, left = self._is_over(), [other for other in self._all if other.ended is None]
        if is_over and not was_over and left:
            wind_down()
        if not left:
            ended(self._first.ended if self._first and self._first.ended else Ended(0, None))

    def _is_over(self) -> bool:
        return self._first is not None or all(one.ended for one in self._all if not one.process.serves)

    def signal_group(self, number: int) -> None:
        """Send a signal to each process that has not ended, and to what it started."""
        for one in self._all:
            if one.ended is None:
                one.command.signal_group(number)

    def end_group(self) -> None:
        """After the last end: end what they left running, and have all that they wrote in the log."""
        for one in self._all:
            one.command.end_group()
        for one in self._all:
            one.tail.finish()

    def blamed(self) -> Optional[Blamed]:
        """The process that failed first, None when none did."""
        one = self._first
        if one is None or one.ended is None:
            return None
        with open(os.dup(one.log), "rb") as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - 4 * wire.LOG_TAIL_BYTES))
            return Blamed(one.process.number, one.ended, file.read().decode("utf-8", "replace"))

    def close(self) -> None:
        """Give back the descriptors of the logs."""
        for one in self._all:
            os.close(one.log)


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return "signal %d" % number
