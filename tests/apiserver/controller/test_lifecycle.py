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


def reason_of(cluster: Cluster, namespace: str, name: str) -> str:
    """Why a job waits."""
    reason: str = (status_of(cluster, namespace, name).get("waiting") or {}).get("reason", "")
    return reason


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


def test_a_job_whose_pods_cannot_be_keeps_no_node_from_others(
    cluster: Cluster, operator: Operator, namespace: str
) -> None:
    whole_pool = {"resources": {"instanceCount": 4}}
    cluster.job(
        namespace, "refused", command={**whole_pool, "pod": {"volumeMounts": [{"name": "nope", "mountPath": "/x"}]}}
    )
    until("it is told", lambda: reason_of(cluster, namespace, "refused") == "PodsRejected", 60)

    cluster.job(namespace, "next", command=whole_pool)

    until("the next has the whole pool", lambda: cluster.phase(namespace, "next") == "Running", 60)
    assert reason_of(cluster, namespace, "refused") == "PodsRejected"
    assert cluster.phase(namespace, "refused") == "Pending"


@pytest.mark.usefixtures("sealer")
def test_a_name_with_run_policy_per_name_runs_once_however_often_it_is_created(
    cluster: Cluster, operator: Operator, namespace: str
) -> None:
    cluster.job(namespace, "once", runPolicy="PerName")
    until("it is done", lambda: cluster.phase(namespace, "once") == "Completed")
    first = status_of(cluster, namespace, "once")
    cluster.lab.kubectl("delete", "trainingjob", "once", "-n", namespace)
    until("nothing is left of it", lambda: cluster.items("jobs", "-n", namespace) == [])

    cluster.job(namespace, "once", runPolicy="PerName")
    until("it shows an end", lambda: cluster.phase(namespace, "once") == "Completed", 20)

    status = status_of(cluster, namespace, "once")
    assert (status["key"], status["finishedAt"]) == (first["key"], first["finishedAt"])
    assert status["message"].startswith("spec.runPolicy PerName: the name ran before")
    assert cluster.items("jobs", "-n", namespace) == []


def test_a_name_is_created_again_while_its_old_pods_are_still_there(
    cluster: Cluster, operator: Operator, namespace: str
) -> None:
    cluster.job(namespace, "again", command={"resources": {"instanceCount": 2}})
    until("it runs", lambda: cluster.phase(namespace, "again") == "Running")
    old = {pod["metadata"]["uid"] for pod in cluster.items("pods", "-n", namespace)}
    for pod in cluster.items("pods", "-n", namespace):
        # A kubelet takes its time; the finalizer keeps these pods until the test lets them go.
        name = pod["metadata"]["name"]
        held = '{"metadata":{"finalizers":["stoker.dev/test"]}}'
        cluster.lab.kubectl("patch", "pod", name, "-n", namespace, "--type=merge", "-p", held)
    cluster.lab.kubectl("delete", "trainingjob", "again", "-n", namespace, "--wait=false")
    cluster.job(namespace, "again", command={"resources": {"instanceCount": 2}})

    def runs() -> bool:
        return cluster.phase(namespace, "again") == "Running"

    until("the new one runs", runs, 90)
    pods = cluster.items("pods", "-n", namespace)
    status = status_of(cluster, namespace, "again")
    ending = [pod for pod in pods if pod["metadata"]["uid"] in old]
    mine = [pod for pod in pods if pod["metadata"]["uid"] not in old]
    for pod in ending:
        free = '{"metadata":{"finalizers":null}}'
        cluster.lab.kubectl("patch", "pod", pod["metadata"]["name"], "-n", namespace, "--type=merge", "-p", free)
    assert len(ending) == 2
    assert sorted(pod["spec"]["nodeName"] for pod in mine) == sorted(status["attempts"][0]["nodes"])
    assert [one["number"] for one in status["attempts"]] == [1]
    assert len(mine) == 2


@pytest.mark.usefixtures("sealer")
def test_pods_go_when_they_are_to_and_the_run_stays_readable(
    cluster: Cluster, operator: Operator, namespace: str
) -> None:
    cluster.job(namespace, "iris")
    until("it is done", lambda: cluster.phase(namespace, "iris") == "Completed")
    before = status_of(cluster, namespace, "iris")
    assert len(cluster.items("pods", "-n", namespace)) == 1

    change(cluster, namespace, "iris", '{"cleanup":{"podsAfterSeconds":60}}')
    until("its child is gone", lambda: cluster.items("jobs", "-n", namespace) == [], 90)
    until("its pods are gone", lambda: cluster.items("pods", "-n", namespace) == [])

    assert status_of(cluster, namespace, "iris") == before
