"""Waits in the first thread, where signals are handled."""

from __future__ import annotations

import queue
from typing import TYPE_CHECKING, TypeVar, Union

T = TypeVar("T")
if TYPE_CHECKING:
    Line = Union[queue.Queue[T], queue.SimpleQueue[T]]

#: A signal that another thread took is handled so late at the most, in seconds.
_PAUSE_SECONDS = 0.2


def next_of(line: Line[T]) -> T:
    """What comes next in a line. Meanwhile signals are handled.

    Python runs a handler in the first thread alone, and a signal that another thread takes does not wake that one: a wait
    without end would never see it.
    """
    while True:
        try:
            return line.get(timeout=_PAUSE_SECONDS)
        except queue.Empty:
            continue
