"""./user_logs in the working directory, where scripts of Azure ML's look for the logs: links to where they are."""

from __future__ import annotations

import contextlib
import os
from typing import Iterable

#: Where the logs of single processes are, relative to the working directory; they are saved as the rest of logs/ is.
SAVED = os.path.join("logs", "user_logs")


def name(number: int) -> str:
    """The file's name of one process's log, as Azure ML has it."""
    return "std_log_process_%d.txt" % number


def show(work: str, numbers: Iterable[int] = ()) -> None:
    """Make the links: to the run's log, and to those of these processes. What is there already stays. Raises OSError."""
    folder = os.path.join(work, "user_logs")
    # Windows gives links to few; a file of the user's own in this place stays theirs.
    if not hasattr(os, "mkfifo") or (os.path.lexists(folder) and not os.path.isdir(folder)):
        return
    os.makedirs(folder, exist_ok=True)
    links = {"std_log.txt": os.path.join("..", "..", "log", "std_log.txt")}
    links.update({name(number): os.path.join("..", SAVED, name(number)) for number in numbers})
    for link, target in links.items():
        with contextlib.suppress(FileExistsError):
            os.symlink(target, os.path.join(folder, link))
