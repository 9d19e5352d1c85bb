"""Who may write: a replica that does not lead keeps its caches warm and writes nothing."""

from typing import Protocol


class NotLeading(Exception):
    """A write was about to be made by a replica that may not make it."""

    def __str__(self) -> str:
        return "this replica does not lead"


class Gate(Protocol):
    """Asked before every write. `wait` returns once writes are allowed."""

    @property
    def open(self) -> bool: ...

    async def wait(self) -> None: ...


class AlwaysOpen:
    """The gate of an operator that runs alone."""

    @property
    def open(self) -> bool:
        return True

    async def wait(self) -> None:
        return None


def check(gate: Gate) -> None:
    """Raises NotLeading unless writes are allowed now."""
    if not gate.open:
        raise NotLeading
