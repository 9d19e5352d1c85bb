"""A node whose devices show late is waited for: nobody brings a second one in its place."""

from typing import Any

import pytest

from tests.support.installed import Stoker, training_job

pytestmark = pytest.mark.lab

GPU, FABRIC = "nvidia.com/gpu", "example.com/fabric"
#: How long after a node's registration its devices show, in seconds.
LATE = 20


def test_a_gpu_that_shows_late_is_no_reason_for_a_second_node(stoker: Stoker) -> None:
    """What the type promises, and what spec.readyResources asks for beside it."""
    stoker.pool(
        "late",
        most=3,
        idle=5,
        machines={"late": {"seconds": LATE, "resources": {GPU: "1", FABRIC: "4"}}},
        instanceTypes=[{"name": "gpu", "resources": {"cpu": "1", "memory": "2Gi", GPU: "1"}}],
        readyResources=[FABRIC],
    )
    stoker.apply(training_job("on-late", "true", image=stoker.lab.images["base"], compute="late"))

    def waits(job: dict[str, Any]) -> bool:
        return (job["status"].get("waiting") or {}).get("reason") == "NodesBooting"

    def ready_and_preparing(pool: dict[str, Any]) -> bool:
        shown = [(one["state"], one["reason"]) for one in pool["status"].get("members", ())]
        return shown == [("Preparing", "Booting")] and all(map(is_ready, stoker.pool_nodes("late")))

    def is_ready(node: str) -> bool:
        conditions = stoker.get("node", node)["status"].get("conditions", ())
        return any(one["type"] == "Ready" and one["status"] == "True" for one in conditions)

    stoker.until("trainingjob", "on-late", waits)
    stoker.until("computecluster", "late", ready_and_preparing)
    status = stoker.finished("on-late")

    assert ("Completed", 0) == (status["phase"], status["exitCode"]), status
    node = stoker.get("node", status["attempts"][0]["nodes"][0])
    assert {GPU: "1", FABRIC: "4"} == {name: node["status"]["allocatable"][name] for name in (GPU, FABRIC)}
    assert 1 == stoker.ever_booted("late")
    stoker.until_empty("late")
