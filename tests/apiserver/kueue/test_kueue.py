"""Runs in queues of Kueue itself: it decides when, Stoker brings the nodes first, and says what Kueue says."""

import json

import pytest

from lab import LabError
from stoker.api.names import assigned
from tests.apiserver.controller.conftest import until
from tests.apiserver.kueue.conftest import POOL, Queues

# Kueue's first build takes minutes.
pytestmark = [pytest.mark.lab, pytest.mark.timeout(1800)]


def test_a_run_starts_on_its_nodes_once_it_has_quota_and_the_next_says_that_the_queue_is_full(queues: Queues) -> None:
    queues.make("vision")
    queues.submit("first", "vision")
    queues.runs("first")

    child, node = queues.child("first"), queues.pod("first")["spec"]["nodeName"]
    uid = queues.cluster.get("trainingjob", "first", "-n", queues.namespace)["metadata"]["uid"]
    assert not child["spec"]["suspend"]
    assert assigned(uid, 1) in child["spec"]["template"]["spec"]["nodeSelector"]
    assert {uid: node} == queues.assigned()
    assert [node] == queues.status("first")["attempts"][0]["nodes"]

    queues.submit("second", "vision")
    told = queues.waits("second", "QueueFull")
    assert f"LocalQueue {queues.namespace}/vision has no quota for the run" in told["message"]
    assert "insufficient" in told["message"]
    assert f"raise nominalQuota of ClusterQueue/{queues.namespace}-vision" in told["fix"]
    assert {uid: node} == queues.assigned()

    with pytest.raises(LabError, match="queue is immutable once the run stands in it"):
        queues.change("second", queue={"name": "other"})

    queues.change("first", cancel=True)
    queues.runs("second")
    until("the first one's label has gone", lambda: uid not in queues.assigned())


def test_a_run_that_kueue_preempts_goes_on_as_another_attempt(queues: Queues) -> None:
    queues.make("vision", preemption={"withinClusterQueue": "LowerPriority"})
    queues.submit("patient", "vision", priority="Low")
    queues.runs("patient")

    queues.submit("urgent", "vision", priority="High")
    queues.runs("urgent")
    until("patient waits again", lambda: queues.status("patient").get("phase") in ("Queued", "Preparing"))
    first = queues.status("patient")["attempts"][0]
    assert ("PreemptedByQueue", "Interruption") == (first["reason"], first["counted"])

    queues.change("urgent", cancel=True)
    until("patient runs again", lambda: len(queues.status("patient")["attempts"]) == 2)
    queues.runs("patient")
    status = queues.status("patient")
    assert [1, 2] == [attempt["number"] for attempt in status["attempts"]]
    assert (0, 1) == (status.get("failures", 0), status["interruptions"])


def test_a_default_local_queue_takes_runs_that_name_none(queues: Queues) -> None:
    queues.make("any", local="default")
    queues.submit("plain")
    queues.runs("plain")

    assert "default" == queues.child("plain")["metadata"]["labels"]["kueue.x-k8s.io/queue-name"]
    assert queues.assigned()


def test_where_kueue_manages_every_job_a_run_without_a_queue_is_told_to_name_one(queues: Queues) -> None:
    """manageJobsWithoutQueueName: Kueue suspends the child, which gives its nodes back."""
    queues.make("vision")
    queues.submit("plain")
    told = queues.waits("plain", "QueueMissing")
    assert "LocalQueues there: vision" in told["message"]
    until("its child has gone", lambda: not queues.cluster.items("jobs", "-n", queues.namespace))

    queues.change("plain", queue={"name": "vision"})
    queues.runs("plain")
    assert ["Neither", None] == [attempt.get("counted") for attempt in queues.status("plain")["attempts"]]


def test_a_queue_without_stokers_check_is_told_of_until_it_has_it(queues: Queues) -> None:
    queues.make("bare", checks=())
    queues.submit("iris", "bare")
    told = queues.waits("iris", "QueueHasNoStokerCheck")
    assert f"ClusterQueue/{queues.namespace}-bare" in told["fix"]

    queues.make("bare")
    queues.runs("iris")


def test_quota_is_given_back_while_the_pool_cannot_bring_nodes(queues: Queues) -> None:
    queues.make("vision")
    pause(queues, True)
    try:
        queues.submit("iris", "vision")
        told = queues.waits("iris", "PoolPaused")
        assert "set spec.paused to false" in told["fix"]
        # Kueue evicted it for that, in the pool's words, and gave it quota again, for nobody else waits.
        (workload,) = queues.cluster.items("workloads.kueue.x-k8s.io", "-n", queues.namespace)
        assert ["AdmissionCheck"] == [one["reason"] for one in workload["status"]["schedulingStats"]["evictions"]]
    finally:
        pause(queues, False)
    queues.runs("iris")


def pause(queues: Queues, paused: bool) -> None:
    body = json.dumps({"spec": {"paused": paused}})
    queues.cluster.lab.kubectl("patch", "computecluster", POOL, "--type=merge", "-p", body)
