"""The operator against a real API server: what it makes, what it costs, what it survives."""

import signal
from typing import Any

import pytest

from tests.apiserver.controller.conftest import POOL, Cluster, Operator, until

pytestmark = pytest.mark.lab


def child_of(cluster: Cluster, namespace: str, name: str) -> Any:
    """The child of a job's first attempt."""
    selector = f"stoker.dev/job={name}"
    return until("the job has a child", lambda: cluster.items("jobs", "-n", namespace, "-l", selector))[0]


def named_nodes(child: Any) -> list[str]:
    """The nodes that a child's required affinity names."""
    affinity = child["spec"]["template"]["spec"]["affinity"]["nodeAffinity"]
    terms = affinity["requiredDuringSchedulingIgnoredDuringExecution"]["nodeSelectorTerms"]
    return [
        value
        for term in terms
        for field in term["matchFields"]
        if field["key"] == "metadata.name"
        for value in field["values"]
    ]


def message_of(job: Any) -> str:
    waiting = job.get("status", {}).get("waiting") or {}
    return f"{waiting.get('reason', '')}: {waiting.get('message', '')}"


def test_a_job_gets_a_child_on_exactly_the_node_it_was_given(
    cluster: Cluster, operator: Operator, namespace: str
) -> None:
    cluster.job(namespace, "iris")
    child = child_of(cluster, namespace, "iris")
    until("the job runs", lambda: cluster.phase(namespace, "iris") == "Running")

    nodes = named_nodes(child)
    pod = cluster.items("pods", "-n", namespace)[0]
    status = cluster.get("trainingjob", "iris", "-n", namespace)["status"]
    assert len(nodes) == 1
    assert nodes == [pod["spec"]["nodeName"]] == status["attempts"][0]["nodes"]
    assert [owner["kind"] for owner in child["metadata"]["ownerReferences"]] == ["TrainingJob"]


def test_a_gang_takes_whole_nodes_of_its_own(cluster: Cluster, operator: Operator, namespace: str) -> None:
    cluster.job(namespace, "one", command={"resources": {"instanceCount": 1}})
    cluster.job(namespace, "three", command={"resources": {"instanceCount": 3}})
    until("both run", lambda: {cluster.phase(namespace, name) for name in ("one", "three")} == {"Running"})

    taken = named_nodes(child_of(cluster, namespace, "one")) + named_nodes(child_of(cluster, namespace, "three"))
    assert sorted(taken) == sorted(node["metadata"]["name"] for node in cluster.items("nodes", "-l", f"pool={POOL}"))


def test_a_gang_that_does_not_fit_waits_and_says_why(cluster: Cluster, operator: Operator, namespace: str) -> None:
    cluster.job(namespace, "wide", command={"resources": {"instanceCount": 9}})

    def said() -> bool:
        return "GangLargerThanPool" in message_of(cluster.get("trainingjob", "wide", "-n", namespace))

    until("it says why", said, 10)
    assert cluster.items("jobs", "-n", namespace) == []


@pytest.mark.usefixtures("sealer")
def test_a_job_that_starts_at_once_costs_three_writes(cluster: Cluster, operator: Operator, namespace: str) -> None:
    for number in range(5):
        name = f"cheap-{number}"
        since = cluster.lab.audit_log.stat().st_size
        cluster.job(namespace, name)
        until(f"{name} is done", lambda name=name: cluster.phase(namespace, name) == "Completed")  # type: ignore[misc]
        writes = cluster.writes(since, name)
        timings = cluster.get("trainingjob", name, "-n", namespace)["status"]["timings"]
        # A wait that lasted is shown, which is a write more: only a job that did not have to wait counts.
        if max((seconds for phase, seconds in timings.items() if phase != "Running"), default=0) < 3:
            break

    assert sorted(writes) == [
        ("create", "jobs", ""), ("patch", "trainingjobs", "status"), ("patch", "trainingjobs", "status"),
    ]  # fmt: skip


@pytest.mark.usefixtures("sealer")
def test_an_operator_that_was_killed_goes_on_with_the_same_child(
    cluster: Cluster, operator: Operator, namespace: str
) -> None:
    for number in range(4):
        cluster.job(namespace, f"k-{number}")
    operator.end(signal.SIGKILL)
    operator.start()
    for number in range(4):
        until(f"job {number} is done", lambda n=number: cluster.phase(namespace, f"k-{n}") == "Completed")  # type: ignore[misc]

    children = [job["metadata"]["labels"]["stoker.dev/job"] for job in cluster.items("jobs", "-n", namespace)]
    assert sorted(children) == [f"k-{number}" for number in range(4)]


def test_nodes_stay_taken_over_a_restart(cluster: Cluster, operator: Operator, namespace: str) -> None:
    cluster.job(namespace, "long", command={"resources": {"instanceCount": 3}})
    until("it runs", lambda: cluster.phase(namespace, "long") == "Running")
    assert operator.end() == 0
    operator.start()
    cluster.job(namespace, "next", command={"resources": {"instanceCount": 2}})

    def waits() -> bool:
        return cluster.phase(namespace, "next") == "Queued"

    until("the second waits", waits, 20)
    assert len(cluster.items("jobs", "-n", namespace)) == 1


@pytest.mark.parametrize("counted", ["pods", "count/jobs.batch"])
def test_a_quota_that_rejects_is_told_in_the_servers_words(
    cluster: Cluster, operator: Operator, namespace: str, counted: str
) -> None:
    quota = {"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "none", "namespace": namespace}}
    cluster.apply({**quota, "spec": {"hard": {counted: "0"}}})
    until(
        "the quota holds", lambda: cluster.get("resourcequota", "none", "-n", namespace).get("status", {}).get("hard")
    )
    cluster.job(namespace, "iris")

    def said() -> bool:
        return "exceeded quota: none" in message_of(cluster.get("trainingjob", "iris", "-n", namespace))

    until("the job says what the server said", said, 30)
    cluster.lab.kubectl("delete", "resourcequota", "none", "-n", namespace)
    until("it runs once it may", lambda: cluster.phase(namespace, "iris") == "Running", 120)


def test_a_deleted_job_takes_its_child_along(cluster: Cluster, operator: Operator, namespace: str) -> None:
    cluster.job(namespace, "iris")
    child_of(cluster, namespace, "iris")
    cluster.lab.kubectl("delete", "trainingjob", "iris", "-n", namespace)

    until("the child is gone", lambda: not cluster.items("jobs", "-n", namespace))


def test_every_namespace_gets_the_accounts_of_the_way_in(cluster: Cluster, operator: Operator, namespace: str) -> None:
    def there() -> bool:
        names = {one["metadata"]["name"] for one in cluster.items("serviceaccounts", "-n", namespace)}
        return {"stoker-editor", "stoker-viewer"} <= names

    until("the accounts are there", there, 20)


def test_the_operator_tells_its_metrics(cluster: Cluster, operator: Operator) -> None:
    page = operator.probe("metrics")

    for name in ("stoker_queue_depth", "stoker_queue_seconds", "stoker_reconcile_seconds", "stoker_api_requests_total"):
        assert name in page
    assert operator.probe("livez") == "ok"
