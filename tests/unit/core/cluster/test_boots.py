"""How long nodes took to come is counted from their order, once for each, and not at all where nobody knows since when."""

import pytest

from stoker.core import cluster as pools
from stoker.core.cluster.boots import Boot, Seen, came
from stoker.core.cluster.view import ClusterPlan, ClusterView, Demand, Holding, ScaleView
from tests.support import build
from tests.support.cloud import BOOT, Cloud, cloud


class Watched:
    """A pool of machines whose boots are counted at each pass."""

    def __init__(self, world: Cloud) -> None:
        self.world, self.seen, self.boots = world, None, list[Boot]()

    def settle(self, seconds: float) -> None:
        for _ in range(int(seconds)):
            view = self.world.view()
            self.world.operate()
            assert self.world.plan is not None
            self.seen: Seen | None
            self.seen, boots = came(self.seen, view, self.world.plan, self.world.now)
            self.boots += boots
            self.world.pass_time(1)


def test_a_machine_is_counted_once_from_its_launch_until_it_can_take_a_job() -> None:
    watched = Watched(cloud(most=4))
    watched.world.submit(2)
    watched.settle(300)

    assert [Boot("m", BOOT)] * 2 == watched.boots


def test_an_operator_that_starts_meanwhile_counts_from_the_launch_all_the_same() -> None:
    watched = Watched(cloud(most=4))
    watched.world.submit(1)
    watched.settle(40)
    watched.seen = None
    watched.world.restart()
    watched.settle(60)

    assert [Boot("m", BOOT)] == watched.boots


def test_machines_that_are_there_at_the_first_look_are_not_counted() -> None:
    world = cloud(most=4, least=2)
    world.settle(200)
    watched = Watched(world)
    watched.settle(60)

    assert [] == watched.boots


def test_a_node_that_was_away_for_a_while_does_not_boot_again() -> None:
    watched = Watched(cloud(most=4, least=1))
    watched.settle(100)
    (name,) = watched.world.nodes
    there = watched.world.nodes[name]
    watched.world.silence(name)
    watched.settle(3)
    assert watched.world.pool.status.nodes.unusable == 1
    watched.world.nodes[name] = there
    watched.settle(5)

    assert [name] == list(watched.world.nodes)
    assert [Boot("m", BOOT)] == watched.boots


class Counted:
    """A pool that only has a number: passes over what it is told to have."""

    def __init__(self) -> None:
        self.last: ClusterPlan | None = None
        self.seen: Seen | None = None

    def look(self, after: float, *nodes: str, replicas: int) -> list[float]:
        """Nodes with this prefix, all ready; how long those took that are new."""
        view = ClusterView(
            build.cluster(idle=100_000),
            nodes={name: build.node(name, created=after) for name in nodes},
            scale=ScaleView(replicas),
            rhythm=self.last.rhythm if self.last is not None else None,
        )
        self.last = pools.plan(view, build.T0 + after)
        self.seen, boots = came(self.seen, view, self.last, build.T0 + after)
        return [boot.seconds for boot in boots]


def test_a_pool_with_a_number_counts_from_the_oldest_order() -> None:
    pool = Counted()
    assert [] == pool.look(0, replicas=0)
    assert [] == pool.look(10, replicas=1)
    assert [] == pool.look(30, replicas=2)

    assert [60] == pool.look(70, "a", replicas=2)
    assert [60] == pool.look(90, "a", "b", replicas=2)


@pytest.mark.parametrize("replicas", [1, 2])
def test_what_was_ordered_before_the_first_look_is_not_counted(replicas: int) -> None:
    pool = Counted()
    pool.look(0, replicas=replicas)

    assert [] == pool.look(50, "a", replicas=replicas)


def test_nodes_with_a_job_are_ready_and_those_that_boot_are_not() -> None:
    nodes = {"a": build.node("a"), "b": build.node("b", ready="False", created=0, since=0)}
    view = ClusterView(
        build.cluster(), nodes=nodes, scale=ScaleView(3), demands=(Demand("d", "team", "d", 1, 3, build.T0),),
        holdings=(Holding("h", 1, ("a",)),),
    )  # fmt: skip

    assert {"a": "m"} == pools.plan(view, build.T0 + 1).ready
