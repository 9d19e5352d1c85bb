"""What cuts a run off costs the time since its last checkpoint: the next attempt goes on from there."""

import time
from collections.abc import Mapping
from typing import Any

import pytest

from tests.support.installed import Stoker, training_job

pytestmark = pytest.mark.lab

#: Counts to five, keeps each step, and says what it starts from. Its first attempt never ends by itself.
RESUMES = """
import os, pathlib, signal, sys
signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
kept = pathlib.Path(os.environ["STOKER_CHECKPOINT_DIR"], "step.txt")
kept.parent.mkdir(parents=True, exist_ok=True)
step = int(kept.read_text()) if kept.exists() else 0
print("attempt", os.environ["STOKER_ATTEMPT"], "starts at", step, flush=True)
while step < 5:
    step += 1
    kept.with_suffix(".new").write_text(str(step))
    kept.with_suffix(".new").rename(kept)
if os.environ["STOKER_ATTEMPT"] == "1":
    while True:
        signal.pause()
print("done at", step)
"""
#: From the loss of a node to the next attempt's start where a node is free, in seconds (about 50 of them are
#: Kubernetes' own, until it says that the node is silent).
NODE_LOSS_SECONDS = 90.0


def running(stoker: Stoker, name: str, compute: str, **spec: Any) -> dict[str, Any]:
    """The pod of a run whose checkpoint of step 5 is in the store."""
    stoker.apply(
        training_job(
            name,
            "exec python3 train.py",
            image=stoker.lab.images["base"],
            compute=compute,
            files={"train.py": RESUMES},
            **spec,
        )
    )
    status = stoker.until("trainingjob", name, lambda job: job["status"]["phase"] == "Running")["status"]
    place = f"{status['logs'].rpartition('/attempts/')[0]}/attempts/1/0/outputs/checkpoints/"
    deadline = time.monotonic() + 30
    while not any(text == b"5" for text in stoker.objects(place).values()):
        assert time.monotonic() < deadline, f"no checkpoint of step 5 below {place}: {stoker.objects(place)}"
        time.sleep(0.2)
    (pod,) = pods(stoker, name)
    return pod


def pods(stoker: Stoker, name: str) -> list[dict[str, Any]]:
    return stoker.items("pods", f"stoker.dev/job={name}")


def goes_on(stoker: Stoker, name: str, *reasons: str) -> Mapping[str, Any]:
    """The status at the end of a run whose second attempt went on from step 5."""
    status = stoker.finished(name)
    assert status["phase"] == "Completed", status
    first, second = status["attempts"]
    assert first["reason"] in reasons, status["attempts"]
    assert first["counted"] == "Interruption", status["attempts"]
    assert (second["number"], status["interruptions"], status.get("failures", 0)) == (2, 1, 0)
    assert "attempt 2 starts at 5" in stoker.cli("logs", name).stdout
    return status


@pytest.mark.parametrize("grace", [0, 5, 600])
def test_a_deleted_pod_is_an_interruption_and_the_next_attempt_goes_on(stoker: Stoker, cpu: str, grace: int) -> None:
    pod = running(stoker, f"deleted-{grace}", cpu)
    force = ["--force"] if grace == 0 else []
    stoker.lab.kubectl("delete", "pod", pod["metadata"]["name"], f"--grace-period={grace}", "--wait=false", *force)

    # Without grace the pod's object goes at once: how its container ended is seen only if the kubelet was quicker.
    goes_on(stoker, f"deleted-{grace}", *(("PodLost", "PodStopped") if grace == 0 else ("PodStopped",)))


def test_a_drained_node_gives_its_run_to_another_attempt(stoker: Stoker, cpu: str) -> None:
    pod = running(stoker, "drained", cpu)
    node = pod["spec"]["nodeName"]
    try:
        stoker.lab.kubectl(
            "drain", node, "--ignore-daemonsets", "--delete-emptydir-data", "--force", "--pod-selector=stoker.dev/job"
        )

        goes_on(stoker, "drained", "Evicted")
    finally:
        stoker.lab.kubectl("uncordon", node)


def test_a_node_short_of_disk_gives_its_run_to_another_attempt_elsewhere(stoker: Stoker) -> None:
    """An eviction by the kubelet, which leaves the pod a second: what was saved before is what there is."""
    stoker.pool("tight", most=2, idle=30, machines={"disk": "256m"})
    pod = running(stoker, "squeezed", "tight")
    name, node = pod["metadata"]["name"], pod["spec"]["nodeName"]
    stoker.lab.fill_disk(node)
    filled = time.monotonic()

    evicted = stoker.until("pod", name, lambda seen: seen["status"].get("reason") == "Evicted")["status"]
    status = goes_on(stoker, "squeezed", "Evicted")

    took = time.monotonic() - filled
    assert "The node was low on resource: ephemeral-storage" in evicted["message"]
    # The first is short for five minutes more: it refuses pods for so long, and nothing is sent there.
    assert [one["nodes"] == [node] for one in status["attempts"]] == [True, False]
    print(f"from the full disk to the end of the next attempt on another node: {took:.1f} s")


def test_a_node_that_is_taken_back_gives_its_run_to_another_attempt_before_it_goes(stoker: Stoker) -> None:
    """As a spot machine's end is told: the command has its grace, what it wrote is saved, and no failure is counted."""
    stoker.pool("spot", most=2, idle=5)
    pod = running(stoker, "taken-back", "spot", retry={"limit": 0})
    node = pod["spec"]["nodeName"]

    stoker.lab.take_back(node, notice_seconds=20, taint="stoker.dev/preempted:NoExecute")
    told = stoker.until("computecluster", "spot", lambda pool: pool["status"]["nodes"]["preempted"] == 1, seconds=15)
    status = goes_on(stoker, "taken-back", "Preempted")

    first, second = status["attempts"]
    assert [("Preempted", "Preempted")] == [
        (one["state"], one["reason"]) for one in told["status"]["members"] if one["name"] == node
    ]
    assert ([node], False) == (first["nodes"], node in second["nodes"])
    # Told to stop, the command left in good order: sealed by its own pod, and the pool is at zero in the end.
    assert 143 == stoker.seal(status, attempt=1)["exit"]["code"]
    stoker.until_empty("spot")


def test_a_node_without_power_costs_ninety_seconds_at_most(stoker: Stoker) -> None:
    stoker.pool("dark", most=2, idle=30)
    pod = running(stoker, "in-the-dark", "dark")

    off = time.monotonic()
    stoker.lab.power_off(pod["spec"]["nodeName"])
    stoker.until(
        "trainingjob",
        "in-the-dark",
        lambda job: any(attempt["number"] == 2 and attempt.get("child") for attempt in job["status"]["attempts"]),
        seconds=NODE_LOSS_SECONDS,
    )
    took = time.monotonic() - off

    goes_on(stoker, "in-the-dark", "NodeLost")
    print(f"from power-off to the next attempt: {took:.1f} s")
    assert took <= NODE_LOSS_SECONDS


def test_a_failure_that_the_user_named_is_tried_again_from_its_checkpoint(stoker: Stoker, cpu: str) -> None:
    code = RESUMES.replace("while True:\n        signal.pause()", "sys.exit(75)")
    stoker.apply(
        training_job(
            "try-again",
            "python3 train.py",
            image=stoker.lab.images["base"],
            compute=cpu,
            files={"train.py": code},
            retry={"limit": 1, "exitCodes": [75]},
        )
    )

    status = stoker.finished("try-again")

    assert status["phase"] == "Completed", status
    assert status["attempts"][0]["reason"] == "CommandFailed"
    assert (status["failures"], status.get("interruptions", 0)) == (1, 0)
    assert "attempt 2 starts at 5" in stoker.cli("logs", "try-again").stdout
