"""etcd is compacted while the operator's watches are cut: it asks for what is no more, lists anew, and has no ghosts.

The API server that it talks to serves watches from etcd itself. One with a cache would serve them from memory, and a
compaction would not be seen.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from stoker.kube.access import from_kubeconfig
from tests.apiserver.controller.conftest import Cluster, Operator, until
from tests.apiserver.controller.test_kills import kubeconfig
from tests.support.watch_proxy import WatchProxy

pytestmark = pytest.mark.lab

#: The kinds that the operator's decisions rest on.
WATCHED = {"trainingjobs", "computeclusters", "jobs", "pods", "nodes"}


@dataclass
class Bench:
    """An operator whose watches can be cut, on an API server without a cache of them."""

    cluster: Cluster
    operator: Operator
    proxy: WatchProxy


@pytest.fixture
def bench(cluster: Cluster, operator: Operator, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    """In the place of the session's operator: two would both work."""
    assert operator.end() == 0
    folder = tmp_path_factory.mktemp("compacted")
    tls = from_kubeconfig(cluster.lab.kubeconfig).tls
    with cluster.lab.uncached_api_server() as server, WatchProxy(server, tls=tls) as proxy:
        ours = Operator(cluster, folder, kubeconfig=kubeconfig(folder, proxy.url))
        ours.start()
        yield Bench(cluster, ours, proxy)
        proxy.let_watches()
        assert ours.end() == 0, ours.log
    operator.start()


def jobs_known(operator: Operator) -> int:
    """How many TrainingJobs the operator takes for there, by its own metrics."""
    return sum(int(float(count)) for count in re.findall(r"^stoker_jobs\{.*\} (\S+)$", operator.probe("metrics"), re.M))


def test_a_compacted_etcd_costs_a_list_and_leaves_no_ghosts(
    bench: Bench, namespace: str, request: pytest.FixtureRequest
) -> None:
    cluster, proxy = bench.cluster, bench.proxy
    cluster.job(namespace, "stays")
    cluster.job(namespace, "goes", command={"resources": {"instanceCount": 3}})
    until("the pool is full", lambda: {cluster.phase(namespace, name) for name in ("stays", "goes")} == {"Running"})

    proxy.cut_watches()
    until("every watch asks to go on", lambda: {plural for plural, _ in proxy.resumed} >= WATCHED)
    cluster.lab.kubectl("delete", "trainingjob", "goes", "-n", namespace)
    of_goes = ("-n", namespace, "-l", "stoker.dev/job=goes")
    until("its child is gone", lambda: not cluster.items("jobs", *of_goes))
    cluster.lab.kubectl("delete", "pods", *of_goes, "--grace-period=0", "--force")
    cluster.job(namespace, "comes", command={"resources": {"instanceCount": 3}})
    compacted = cluster.lab.compact()
    asked = {plural: int(version) for plural, version in proxy.resumed}
    proxy.let_watches()

    # It has the nodes of the one that went, so that one's child and pods are forgotten.
    until("the next one has its nodes", lambda: cluster.phase(namespace, "comes") == "Running")
    assert all(version < compacted for version in asked.values()), (asked, compacted)
    assert proxy.gone >= WATCHED
    there = len(cluster.items("trainingjobs", "-A"))
    until("it knows the jobs that there are", lambda: jobs_known(bench.operator) == there, 20)
    assert bench.operator.leads
    stays = cluster.get("trainingjob", "stays", "-n", namespace)["status"]
    assert (stays["phase"], len(stays["attempts"])) == ("Running", 1)

    # And it still hears what comes: both end.
    request.getfixturevalue("sealer")
    for name in ("stays", "comes"):
        until(f"{name} is done", lambda name=name: cluster.phase(namespace, name) == "Completed")  # type: ignore[misc]
