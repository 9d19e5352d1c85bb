"""Namespaces take turns: whoever has a thousand things waiting does not keep another's single one waiting."""

from collections import deque
from collections.abc import Container
from typing import Generic, TypeVar

T = TypeVar("T")


class Turns(Generic[T]):
    """Things that wait, in one lane per namespace: the lanes take turns, and in a lane the first comes first.

    So with n lanes the first thing of a lane is taken within n takes, however long the others are.
    """

    def __init__(self) -> None:
        self._lanes: dict[str, deque[T]] = {}
        self._turns: deque[str] = deque()  # lanes with something in them, next first

    def __len__(self) -> int:
        return sum(map(len, self._lanes.values()))

    def __bool__(self) -> bool:
        return bool(self._turns)

    def add(self, namespace: str, thing: T) -> None:
        """At the end of its lane; the same thing twice is twice there."""
        lane = self._lanes.get(namespace)
        if lane is None:
            lane = self._lanes[namespace] = deque()
            self._turns.append(namespace)
        lane.append(thing)

    def take(self, passed_over: Container[str] = ()) -> T | None:
        """The next thing, or None. passed_over: namespaces that miss this turn and keep their place."""
        namespace = next((one for one in self._turns if one not in passed_over), None)
        if namespace is None:
            return None
        self._turns.remove(namespace)
        lane = self._lanes[namespace]
        thing = lane.popleft()
        if lane:
            self._turns.append(namespace)
        else:
            del self._lanes[namespace]
        return thing

    def clear(self) -> None:
        self._lanes.clear()
        self._turns.clear()
