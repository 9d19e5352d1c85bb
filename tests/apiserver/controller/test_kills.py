"""The operator is killed around each of its writes in turn: no child is lost or doubled, and the job completes."""

import json
import signal
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from stoker.kube.access import from_kubeconfig
from tests.apiserver.controller.conftest import Cluster, Operator, until
from tests.support.cutting_proxy import Cut, CuttingProxy, Side

pytestmark = [pytest.mark.lab, pytest.mark.usefixtures("sealer"), pytest.mark.timeout(180)]

NAME = "killed"
#: What a run that nobody disturbs writes, as test_an_undisturbed_run_makes_the_writes_that_are_cut shows.
API_WRITES = ("child", "Running", "Completed")
#: Around each of these writes, in the order in which they are made.
STORE_WRITES = ("job.json", "result.json")
SIDES: tuple[Side, ...] = ("before", "after")


@dataclass
class Bench:
    """An operator that reaches the API server and the object store through proxies that can hold its writes."""

    cluster: Cluster
    operator: Operator
    api: CuttingProxy
    store: CuttingProxy


def of_a_run(_: str, path: str) -> bool:
    """Writes on jobs, children and events: all that belongs to one run."""
    return f"/{NAME}" in path or path.endswith(("/jobs", "/events"))


def record_of_a_run(_: str, path: str) -> bool:
    return path.endswith(STORE_WRITES)


@pytest.fixture(scope="module")
def bench(cluster: Cluster, operator: Operator, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    """In the place of the session's operator: two would both work."""
    assert operator.end() == 0
    folder = tmp_path_factory.mktemp("killed")
    access = from_kubeconfig(cluster.lab.kubeconfig)
    with (
        CuttingProxy(access.server, of_a_run, tls=access.tls) as api,
        CuttingProxy(cluster.lab.s3.endpoint, record_of_a_run, keep_host=True) as store,
    ):
        killed = Operator(cluster, folder, kubeconfig=kubeconfig(folder, api.url), storage_endpoint=store.url)
        killed.start()
        yield Bench(cluster, killed, api, store)
        assert killed.end() == 0, killed.log
    operator.start()


def kubeconfig(folder: Path, server: str) -> Path:
    """A way to the proxy, which has the lab's own credentials."""
    file = folder / "kubeconfig"
    content: dict[str, Any] = {
        "current-context": "c",
        "clusters": [{"name": "k", "cluster": {"server": server}}],
        "users": [{"name": "u", "user": {}}],
        "contexts": [{"name": "c", "context": {"cluster": "k", "user": "u"}}],
    }
    file.write_text(json.dumps(content))
    return file


@pytest.fixture(autouse=True)
def _nothing_is_cut(bench: Bench) -> None:
    bench.api.cut(None)
    bench.store.cut(None)


def run_and_kill(bench: Bench, namespace: str, proxy: CuttingProxy, cut: Cut) -> None:
    """Run a job whose operator is killed at `cut` and started again, and look at all that came of it."""
    since = bench.cluster.lab.audit_log.stat().st_size
    proxy.cut(cut)
    bench.cluster.job(namespace, NAME)
    assert proxy.struck.wait(60), f"write {cut.number} was not made, only {proxy.seen}"
    bench.operator.end(signal.SIGKILL)
    proxy.cut(None)
    bench.operator.start()
    until("the job completes", lambda: bench.cluster.phase(namespace, NAME) == "Completed")
    assert_one_run(bench.cluster, namespace, since)


def assert_one_run(cluster: Cluster, namespace: str, since: int) -> None:
    """One child was ever made, it is the one that is there, and it goes with its job."""
    created = [
        event
        for event in cluster.audited(since, f"/{namespace}/")
        if event["verb"] == "create" and event["objectRef"]["resource"] == "jobs" and succeeded(event)
    ]
    children = cluster.items("jobs", "-n", namespace)
    pods = cluster.items("pods", "-n", namespace)
    job = cluster.get("trainingjob", NAME, "-n", namespace)
    assert (len(created), len(children), len(pods)) == (1, 1, 1)
    assert pods[0]["status"]["phase"] == "Succeeded"
    assert [owner["uid"] for owner in children[0]["metadata"]["ownerReferences"]] == [job["metadata"]["uid"]]
    assert len(job["status"]["attempts"]) == 1

    cluster.lab.kubectl("delete", "trainingjob", NAME, "-n", namespace)
    until("nothing is left", lambda: not cluster.items("jobs,pods", "-n", namespace))


def succeeded(event: dict[str, Any]) -> bool:
    return bool(event["responseStatus"]["code"] < 300)


def test_an_undisturbed_run_makes_the_writes_that_are_cut(bench: Bench, namespace: str) -> None:
    since = bench.cluster.lab.audit_log.stat().st_size
    bench.cluster.job(namespace, NAME)
    until("the job completes", lambda: bench.cluster.phase(namespace, NAME) == "Completed")

    assert [method for method, _ in bench.api.seen] == ["POST", "PATCH", "PATCH"]
    assert [path.rpartition("/")[2] for _, path in bench.store.seen] == list(STORE_WRITES)
    assert_one_run(bench.cluster, namespace, since)


@pytest.mark.parametrize("side", SIDES)
@pytest.mark.parametrize("number", range(1, len(API_WRITES) + 1), ids=API_WRITES)
def test_a_kill_around_a_write_to_the_api_server(bench: Bench, namespace: str, number: int, side: Side) -> None:
    run_and_kill(bench, namespace, bench.api, Cut(number, side))


@pytest.mark.parametrize("side", SIDES)
@pytest.mark.parametrize("number", range(1, len(STORE_WRITES) + 1), ids=STORE_WRITES)
def test_a_kill_around_a_write_to_the_object_store(bench: Bench, namespace: str, number: int, side: Side) -> None:
    run_and_kill(bench, namespace, bench.store, Cut(number, side))
