"""Signals that ask to stop, held back from the first statement of a part until it can take them.

The first process of a container ignores every signal that it has no handler for. One that came while Python still imports
would be lost, and the pod would stay, with its node, for its whole grace period. A blocked signal waits.
"""

from __future__ import annotations

import os
import signal

#: The signals that ask a run to stop.
STOPS = [
    getattr(signal, name) for name in ("SIGTERM", "SIGINT", "SIGHUP", "SIGQUIT", "SIGBREAK") if hasattr(signal, name)
]
#: What a launcher that hands over tells the next of a signal that came: its name without SIG.
TOLD = "STOKER_TOLD"


def hold() -> None:
    """Let every signal that asks to stop wait."""
    if hasattr(signal, "pthread_sigmask"):
        signal.pthread_sigmask(signal.SIG_BLOCK, STOPS)


def release() -> None:
    """Take what has come and what comes: the handlers are there."""
    if hasattr(signal, "pthread_sigmask"):
        signal.pthread_sigmask(signal.SIG_UNBLOCK, STOPS)


def hand_over() -> None:
    """Before this process becomes a program that knows nothing of held signals: what has come is told by its
    environment."""

    def told(number: int, _frame: object) -> None:
        os.environ[TOLD] = signal.Signals(number).name[3:]

    for number in STOPS:
        signal.signal(number, told)
    release()
