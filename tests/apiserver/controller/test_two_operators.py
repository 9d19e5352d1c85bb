"""Two operator processes against a real API server: one works, and the other takes over."""

import re
import signal
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from stoker.core.lease import LEASE_SECONDS, RETRY_SECONDS
from tests.apiserver.controller.conftest import SYSTEM, Cluster, Operator, until

pytestmark = pytest.mark.lab

#: Longest time from the leader's last renewal to the next leader: the Lease's time, a look, and what two cores allow.
HANDOVER_SECONDS = LEASE_SECONDS + 1.2 * RETRY_SECONDS + 2.0


@dataclass
class Pair:
    leader: Operator
    other: Operator


@pytest.fixture
def pair(cluster: Cluster, operator: Operator, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    """Two operators of the test's own, in the place of the one that the other tests share."""
    assert 0 == operator.end()
    both = [Operator(cluster, tmp_path_factory.mktemp("pair")) for _ in range(2)]
    for one in both:
        one.start()
    leader = until("one of them leads", lambda: next((one for one in both if one.leads), None))
    yield Pair(leader, both[leader is both[0]])
    for one in both:
        one.end()
    operator.start()


@pytest.fixture
def skewed(cluster: Cluster, operator: Operator, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    """A leader with the right time, and another operator whose clock is 20 minutes fast."""
    assert 0 == operator.end()
    leader = Operator(cluster, tmp_path_factory.mktemp("right"))
    fast = Operator(cluster, tmp_path_factory.mktemp("fast"), clock_off="+20m")
    try:
        leader.start()
        until("the first leads", lambda: leader.leads)
        fast.start()
        yield Pair(leader, fast)
    finally:
        for one in (leader, fast):
            one.end()
    operator.start()


def lease(cluster: Cluster) -> dict[str, Any]:
    spec: dict[str, Any] = cluster.get("lease", "stoker-operator", "-n", SYSTEM)["spec"]
    return spec


def children(cluster: Cluster, namespace: str) -> list[tuple[str, str]]:
    """Every child there is, as the job's name and its own uid."""
    found = cluster.items("jobs", "-n", namespace)
    return sorted((job["metadata"]["labels"]["stoker.dev/job"], job["metadata"]["uid"]) for job in found)


def runs(cluster: Cluster, namespace: str, *names: str) -> None:
    for name in names:
        until(f"{name} runs", lambda name=name: cluster.phase(namespace, name) == "Running")  # type: ignore[misc]


def written(operator: Operator) -> set[str]:
    """The resources to which an operator has sent any write, by its own metrics."""
    sent = re.findall(r"stoker_api_requests_total\{(.*?)\}", operator.probe("metrics"))
    labels = [dict(re.findall(r'(\w+)="(.*?)"', one)) for one in sent]
    return {one["resource"] for one in labels if one["verb"] in ("POST", "PATCH", "DELETE")}


def test_one_works_and_the_other_is_ready_and_writes_nothing(cluster: Cluster, pair: Pair, namespace: str) -> None:
    cluster.job(namespace, "iris")
    runs(cluster, namespace, "iris")

    assert "ok" == pair.other.probe("readyz") == pair.other.probe("livez")
    assert (True, False) == (pair.leader.leads, pair.other.leads)
    assert {"jobs", "trainingjobs", "leases"} <= written(pair.leader)
    assert set() == written(pair.other)
    assert 1 == len(children(cluster, namespace))


def test_a_leader_that_is_killed_is_replaced_within_the_leases_time(
    cluster: Cluster, pair: Pair, namespace: str
) -> None:
    pair.leader.end(signal.SIGKILL)
    killed = time.monotonic()
    cluster.job(namespace, "after")
    until("the other leads", lambda: pair.other.leads)

    assert time.monotonic() - killed < HANDOVER_SECONDS
    runs(cluster, namespace, "after")
    assert ["after"] == [job for job, _ in children(cluster, namespace)]


def test_a_leader_that_is_told_to_stop_hands_over_in_under_four_seconds(
    cluster: Cluster, pair: Pair, namespace: str
) -> None:
    cluster.job(namespace, "before")
    runs(cluster, namespace, "before")
    told = time.monotonic()
    pair.leader.send(signal.SIGTERM)
    until("the other leads", lambda: pair.other.leads)

    assert time.monotonic() - told < 4.0
    assert 0 == pair.leader.end()
    cluster.job(namespace, "after")
    runs(cluster, namespace, "after")
    assert ["after", "before"] == [job for job, _ in children(cluster, namespace)]


def test_a_leader_that_stood_still_past_its_time_ends_and_changes_nothing(
    cluster: Cluster, pair: Pair, namespace: str
) -> None:
    for name in ("one", "two"):
        cluster.job(namespace, name)
    stopped = lease(cluster)["holderIdentity"]
    pair.leader.send(signal.SIGSTOP)
    cluster.job(namespace, "three")
    until("the other leads", lambda: pair.other.leads)
    runs(cluster, namespace, "one", "two", "three")
    holder = lease(cluster)["holderIdentity"]
    before = children(cluster, namespace)
    since = cluster.lab.audit_log.stat().st_size
    assert 0 != pair.leader.end(signal.SIGCONT)

    assert ["one", "three", "two"] == [job for job, _ in before]
    assert before == children(cluster, namespace)
    assert [] == cluster.writes(since, namespace, by=stopped)
    assert [] != cluster.writes(0, namespace, by=holder), "and the audit log does name who wrote"
    assert holder == lease(cluster)["holderIdentity"]
    assert pair.other.leads
    assert "this process ends, another replica takes over" in pair.leader.log


def test_a_clock_that_is_20_minutes_fast_takes_nothing_from_the_leader(
    cluster: Cluster, skewed: Pair, namespace: str
) -> None:
    """To the other the Lease looks 20 minutes old from its first look on; what counts is how long it sees it unchanged."""
    holder, seen = lease(cluster)["holderIdentity"], set()

    def renewed_often() -> bool:
        assert not skewed.other.leads
        seen.add(lease(cluster)["renewTime"])
        # More renewals than fit into the time after which an unchanged Lease may be taken.
        return len(seen) * RETRY_SECONDS > 1.5 * LEASE_SECONDS

    until("the leader has renewed its Lease often", renewed_often)

    assert (holder, True) == (lease(cluster)["holderIdentity"], skewed.leader.leads)
    cluster.job(namespace, "iris")
    runs(cluster, namespace, "iris")


def test_a_leader_whose_clock_is_20_minutes_fast_is_replaced_in_time_when_it_dies(
    cluster: Cluster, skewed: Pair, namespace: str
) -> None:
    """Its last renewal lies in the future of the one that takes over."""
    fast, right = skewed.other, skewed.leader
    assert 0 == right.end()
    until("the fast one leads", lambda: fast.leads)
    right.start()
    assert not right.leads

    fast.end(signal.SIGKILL)
    killed = time.monotonic()
    until("the right one leads", lambda: right.leads)

    assert time.monotonic() - killed < HANDOVER_SECONDS
    cluster.job(namespace, "iris")
    runs(cluster, namespace, "iris")
