"""The remains of a pod that died whole, saved from its scratch claim by salvage."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from stoker.runtime import wire
from stoker.runtime.layout import write_json
from tests.component.runtime.pod import Cloud, Pod, eventually

COMMAND = (
    'echo one; mkdir outputs/checkpoints; echo 5 > outputs/checkpoints/new; '
    'mv outputs/checkpoints/new outputs/checkpoints/step; exec sleep 60'
)  # fmt: skip


def died(pod: Pod, cloud: Cloud) -> None:
    """A pod of which every process was killed, after ship had saved its checkpoint and before it had saved `late`."""
    ship = pod.ship()
    launch = pod.launch("sh", "-c", COMMAND, wait=True)
    eventually(lambda: "outputs/checkpoints/step" in cloud.stored)
    ship.kill()
    ship.wait()
    Path(pod.work, "outputs", "late").write_bytes(b"late")
    with open(pod.scratch.raw_log, "ab") as log:
        log.write(b"two\n")
    pod.close()
    assert launch.poll() is not None


def sent(cloud: Cloud, path: str) -> int:
    """How often a file's bytes went to the store."""
    return [which for method, which in cloud.requests if method == "PUT"].count(f"/o/{cloud.prefix}{path}")


def test_all_that_stood_on_the_claim_is_stored_and_sealed_with_the_reason(cloud_pod: Pod, cloud: Cloud) -> None:
    died(cloud_pod, cloud)

    assert cloud_pod.salvage("NodeLost", "node n1 is not ready").wait(30) == 0

    seal = cloud.seal
    assert seal is not None
    assert (seal["complete"], seal["missing"]) == (True, [])
    assert {file["path"] for file in seal["files"]} == {"outputs/checkpoints/step", "outputs/late", wire.LOG_PATH}
    assert (b"late", b"one\ntwo\n") == (cloud.stored["outputs/late"], cloud.stored[wire.LOG_PATH])
    exit_record = seal["exit"]
    assert (exit_record["code"], exit_record["reason"]) == (None, "NodeLost")
    assert exit_record["message"] == "node n1 is not ready"
    assert exit_record["startedAt"]
    assert sent(cloud, "outputs/checkpoints/step") == 1, "the journal says that the store has it"


def test_a_command_that_had_ended_keeps_its_own_exit(cloud_pod: Pod, cloud: Cloud) -> None:
    launch = cloud_pod.launch("sh", "-c", "echo done > outputs/model; exit 3", wait=True)
    eventually(lambda: os.path.exists(cloud_pod.scratch.exit))
    launch.kill()

    assert cloud_pod.salvage().wait(30) == 0

    assert cloud.seal is not None
    assert (cloud.seal["exit"]["code"], cloud.seal["exit"]["reason"]) == (3, None)
    assert cloud.stored["outputs/model"] == b"done\n"


def test_a_pod_that_never_started_its_command_is_sealed_at_once(cloud_pod: Pod, cloud: Cloud) -> None:
    assert cloud_pod.salvage().wait(30) == 0

    assert cloud.seal is not None
    assert (cloud.seal["exit"]["reason"], cloud.seal["files"]) == ("PodLost", [])


def test_a_command_that_still_runs_is_waited_for(cloud_pod: Pod, cloud: Cloud) -> None:
    """The object of a pod can be gone before its processes are."""
    launch = cloud_pod.launch("sh", "-c", "echo one; exec sleep 60", wait=True)
    eventually(lambda: os.path.exists(cloud_pod.scratch.started))
    salvage = cloud_pod.salvage()
    eventually(lambda: any(path.startswith("logs/") for path in cloud.stored))

    assert (salvage.poll(), cloud.seal) == (None, None)
    os.killpg(launch.pid, signal.SIGKILL)

    assert salvage.wait(30) == 0
    assert cloud.stored[wire.LOG_PATH] == b"one\n"


def test_a_rank_that_is_sealed_already_stays_as_it_is(cloud_pod: Pod, cloud: Cloud) -> None:
    died(cloud_pod, cloud)
    cloud.objects[cloud.prefix + "seal.json"] = wire.json_bytes({"files": [], "complete": False, "reason": "NodeLost"})

    assert cloud_pod.salvage().wait(30) == 0

    assert "outputs/late" not in cloud.stored


def test_what_the_pod_says_of_its_own_seal_is_not_believed(cloud_pod: Pod, cloud: Cloud) -> None:
    died(cloud_pod, cloud)
    write_json(cloud_pod.scratch.sealed, {"version": 1, "complete": True, "reason": None, "message": ""})

    assert cloud_pod.salvage().wait(30) == 0

    assert cloud.stored["outputs/late"] == b"late"


def test_a_store_that_takes_nothing_leaves_the_rank_open_for_another_try(cloud_pod: Pod, cloud: Cloud) -> None:
    died(cloud_pod, cloud)
    cloud.fault = lambda method, path: (403, {}, b"AccessDenied") if path == "/v1/seal" else None

    assert cloud_pod.salvage(STOKER_REFUSED_SECONDS="0.5").wait(30) == 1

    assert cloud.seal is None
    cloud.fault = lambda method, path: None
    assert cloud_pod.salvage().wait(30) == 0
    assert cloud.stored["outputs/late"] == b"late"


@pytest.mark.parametrize("arguments", [["salvage"], ["salvage", "--lost-as", "PodLost", "--server", ""]])
def test_what_is_missing_is_named(arguments: list[str]) -> None:
    # A process of its own: the parts of a pod hold signals back from their first line.
    done = subprocess.run([sys.executable, "-m", "stoker.runtime", *arguments], capture_output=True, text=True)

    assert 2 == done.returncode
    assert "--lost-as" in done.stderr
