"""Hundreds of jobs of one namespace keep ten of another from nothing."""

from collections.abc import Iterator

import pytest

from tests.apiserver.controller import fair_share
from tests.apiserver.controller.conftest import Cluster, until
from tests.apiserver.controller.fair_share import Contest, Seen

pytestmark = [pytest.mark.lab, pytest.mark.timeout(300)]

BIG, SMALL, NODES = "fair-big", "fair-small", 24


@pytest.fixture
def fair_pool(cluster: Cluster) -> Iterator[None]:
    """A pool of its own, and two namespaces that go with all their jobs."""
    namespaces = [{"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}} for name in (BIG, SMALL)]
    cluster.apply(*namespaces, *fair_share.pool(NODES))
    until(
        "the pool is ready",
        lambda: cluster.get("nodepools.lab.stoker.dev", fair_share.POOL)["status"]["readyReplicas"] == NODES,
    )
    yield
    cluster.lab.kubectl("delete", "namespace", BIG, SMALL, "--wait=false")
    cluster.lab.kubectl("delete", "computecluster,nodepools.lab.stoker.dev", fair_share.POOL)


@pytest.mark.usefixtures("fair_pool", "operator")
async def test_ten_jobs_take_the_next_nodes_whoever_has_hundreds_waiting(cluster: Cluster) -> None:
    contest = Contest(BIG, SMALL, many=400, few=10, nodes=NODES)

    seen = await fair_share.play(cluster.lab, contest)

    delays = seen.delays(SMALL)
    assert len(delays) == 10
    assert max(delays) <= 10.0, delays
    assert seen.taken_by(BIG, since=seen.last(SMALL)) >= contest.after, "and the others go on"


def test_a_delay_counts_from_the_next_node_that_falls_free() -> None:
    seen = Seen(
        submitted={("b", "x"): 10.0, ("b", "y"): 10.0, ("a", "z"): 0.0},
        taken={("b", "x"): 15.0, ("b", "y"): 16.0, ("a", "z"): 1.0},
        freed={("a", "1"): 9.0, ("a", "2"): 11.0, ("a", "3"): 12.5, ("a", "4"): 15.5},
    )

    assert seen.delays("b") == [4.0, 3.5]
