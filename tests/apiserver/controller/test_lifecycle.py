"""What ends an attempt, keeps one from starting, or lets the next begin, on a real API server."""

from typing import Any

import pytest

from tests.apiserver.controller.conftest import Cluster, Operator, until

pytestmark = pytest.mark.lab


def change(cluster: Cluster, namespace: str, name: str, spec: str) -> None:
    """Change a job's spec by a JSON merge patch."""
    cluster.lab.kubectl("patch", "trainingjob", name, "-n", namespace, "--type=merge", "-p", f'{{"spec":{spec}}}')


def status_of(cluster: Cluster, namespace: str, name: str) -> Any:
    return cluster.get("trainingjob", name, "-n", namespace).get("status", {})


def test_a_job_that_is_suspended_gives_its_node_back_and_goes_on_when_resumed(
    cluster: Cluster, operator: Operator, namespace: str
) -> None:
    cluster.job(namespace, "iris", suspend=True)
    until("it is suspended", lambda: cluster.phase(namespace, "iris") == "Suspended", 20)
    assert cluster.items("jobs", "-n", namespace) == []

    change(cluster, namespace, "iris", '{"suspend":false}')
    until("it runs", lambda: cluster.phase(namespace, "iris") == "Running")
    change(cluster, namespace, "iris", '{"suspend":true}')
    until("it is suspended again", lambda: cluster.phase(namespace, "iris") == "Suspended", 120)
    assert cluster.items("jobs", "-n", namespace) == []
    until("its pods are gone", lambda: cluster.items("pods", "-n", namespace) == [])

    change(cluster, namespace, "iris", '{"suspend":false}')
    until("it runs again", lambda: cluster.phase(namespace, "iris") == "Running")
    status = status_of(cluster, namespace, "iris")
    assert [(one["number"], one.get("counted")) for one in status["attempts"]] == [(1, "Neither"), (2, None)]
    assert (status.get("failures", 0), status.get("interruptions", 0)) == (0, 0)
    assert [one["status"] for one in status["conditions"] if one["type"] == "Suspended"] == ["False"]


def test_a_job_that_gets_no_nodes_in_time_fails_with_a_result(
    cluster: Cluster, operator: Operator, namespace: str
) -> None:
    cluster.job(namespace, "first", command={"resources": {"instanceCount": 4}})
    until("it has the whole pool", lambda: cluster.phase(namespace, "first") == "Running")
    cluster.job(namespace, "second", limits={"queueTimeoutSeconds": 8})

    until("it has failed", lambda: cluster.phase(namespace, "second") == "Failed", 40)

    status = status_of(cluster, namespace, "second")
    assert status["reason"] == "QueueTimedOut"
    assert status["message"].startswith("no nodes within 8s of its submission (limits.queueTimeoutSeconds)")
    assert cluster.phase(namespace, "first") == "Running"
