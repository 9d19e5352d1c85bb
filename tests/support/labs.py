"""One embedded cluster at a time for the tests, by name: the machine has two cores, and two control planes would share them."""

import os

from lab import Lab, down, up

_running: dict[str, Lab] = {}


def running(name: str, *, nodes: int) -> Lab:
    """The lab of this name, started if need be; another one that this session started is ended first."""
    for other in [other for other in _running if other != name]:
        end(other)
    if name not in _running:
        _running[name] = up(name, nodes=nodes)
    return _running[name]


def end(name: str) -> None:
    """End a lab that this session started, unless STOKER_KEEP_LAB asks to keep it for the next run."""
    if _running.pop(name, None) and not os.environ.get("STOKER_KEEP_LAB"):
        down(name)


def end_all() -> None:
    """End every lab that this session started."""
    for name in list(_running):
        end(name)
