"""One embedded cluster at a time for the tests, by name: the machine has two cores, and two control planes would share them."""

import os
from collections.abc import Callable

from lab import Lab, down, up

_running: dict[str, Lab] = {}
_before_end: dict[str, list[Callable[[], None]]] = {}


def running(name: str, *, nodes: int) -> Lab:
    """The lab of this name, started if need be; another one that this session started is ended first."""
    for other in [other for other in _running if other != name]:
        end(other)
    if name not in _running:
        _running[name] = up(name, nodes=nodes)
    return _running[name]


def before_end(name: str, act: Callable[[], None]) -> None:
    """Do this before the lab ends: whoever lives on it must not outlive it, though its fixture lasts as long as the
    session."""
    _before_end.setdefault(name, []).append(act)


def end(name: str) -> None:
    """End a lab that this session started, unless STOKER_KEEP_LAB asks to keep it for the next run."""
    for act in _before_end.pop(name, ()):
        act()
    if _running.pop(name, None) and not os.environ.get("STOKER_KEEP_LAB"):
        down(name)


def end_all() -> None:
    """End every lab that this session started."""
    for name in list(_running):
        end(name)
