"""No node goes under a pod, however close it lands to the node's end."""

import asyncio
from collections.abc import Iterator

import pytest

from tests.apiserver.controller.conftest import Cluster, Operator
from tools import scale_downs

pytestmark = [pytest.mark.lab, pytest.mark.timeout(600)]
POOLS = 2


@pytest.fixture
def tides(cluster: Cluster) -> Iterator[int]:
    """How many pools race; they go with their nodes."""
    yield POOLS
    names = [f"tide-{number}" for number in range(POOLS)]
    cluster.lab.kubectl("delete", "computeclusters", *names, "--ignore-not-found", "--timeout=90s")


@pytest.mark.usefixtures("sealer", "operator")
def test_two_hundred_scale_downs_against_jobs_and_pods_that_race_for_their_nodes(
    cluster: Cluster, operator: Operator, namespace: str, tides: int
) -> None:
    found = asyncio.run(scale_downs.race(cluster.lab, namespace, pools=tides, nodes=50, wanted=200, seed=7))

    assert ([], []) == (found.killed, found.not_completed)
    assert found.scale_downs >= 200
    assert found.close_calls > 0, "nothing raced: no pod ran on a node that had been told to leave"
