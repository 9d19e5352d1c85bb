"""The pods of a node that may go are looked at anew when it counts, and not for every word that comes in between."""

import asyncio

import pytest

from stoker.api.kube import Node
from stoker.controller.looks import AT_ONCE, Looks
from tests.support import build


class Server:
    """The API server's answers, and the clock."""

    def __init__(self) -> None:
        self.now, self.asked, self.at_once, self.most = build.T0 + 100, list[str](), 0, 0
        self.occupied = set[str]()
        self.looks = Looks(self._is_occupied, lambda: self.now)

    async def _is_occupied(self, node: str) -> bool:
        self.asked.append(node)
        self.at_once += 1
        self.most = max(self.most, self.at_once)
        await asyncio.sleep(0)
        self.at_once -= 1
        return node in self.occupied


def leaving(since: float) -> Node:
    return build.node("n0", taints=[build.leaving(since)])


@pytest.mark.parametrize(
    ("node", "later", "looks"),
    [
        (build.node("n0"), 0.5, 1),
        (build.node("n0"), 1.0, 2),
        (leaving(99), 0.5, 1),
        (leaving(95), 0.5, 2),
        (leaving(50), 0.0, 2),
    ],
    ids=["idle", "idle for longer", "tainted just now", "last look", "long tainted"],
)
async def test_a_look_is_good_for_a_second_and_the_last_one_is_always_new(node: Node, later: float, looks: int) -> None:
    server = Server()
    assert frozenset() == await server.looks.occupied([node])
    server.now += later
    server.occupied.add("n0")

    assert (looks == 2) == ("n0" in await server.looks.occupied([node]))
    assert looks == len(server.asked)


async def test_many_nodes_are_looked_at_side_by_side() -> None:
    server = Server()
    nodes = [build.node(f"n{number}") for number in range(3 * AT_ONCE)]
    server.occupied = {"n7", "n40"}

    assert {"n7", "n40"} == await server.looks.occupied(nodes)
    assert AT_ONCE == server.most
