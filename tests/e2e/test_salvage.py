"""A pod that dies whole loses nothing that was on its scratch claim; a claim that cannot be had is named."""

import json
import re
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.test_attempts import NODE_LOSS_SECONDS, pods
from tests.support.installed import Stoker, training_job

pytestmark = pytest.mark.lab

#: Counts as fast as it can, first on its output and then in its checkpoint, which so never rests for long enough to be
#: saved while it runs; the one of step 5 does. Its first attempt never ends by itself.
COUNTS = """
import os, pathlib
kept = pathlib.Path(os.environ["STOKER_CHECKPOINT_DIR"], "step.txt")
kept.parent.mkdir(parents=True, exist_ok=True)
settled = kept.with_name("settled.txt")
step = next((int(one.read_text()) for one in (kept, settled) if one.exists()), 0)
print("attempt", os.environ["STOKER_ATTEMPT"], "starts at", step, flush=True)
while os.environ["STOKER_ATTEMPT"] == "1":
    step += 1
    print("step", step, flush=True)
    kept.with_suffix(".new").write_text(str(step))
    kept.with_suffix(".new").rename(kept)
    if step == 5:
        settled.write_text("5")
print("done at", step)
"""
#: A class whose one volume every node can mount, as a network file system's.
SHARED = "shared"
KILL_POD = """
pids=$(grep -lE '%s|%s' /proc/[0-9]*/cgroup | cut -d/ -f3)
[ -n "$pids" ] && kill -9 $pids
"""


def counting(stoker: Stoker, name: str, compute: str, storage_class: str, **spec: Any) -> Mapping[str, Any]:
    """The pod of a run on a scratch claim that has counted for a while."""
    manifest = training_job(
        name, "exec python3 train.py", image=stoker.lab.images["base"], compute=compute, files={"train.py": COUNTS}, **spec
    )  # fmt: skip
    manifest["spec"]["command"]["resources"]["scratch"] = {"size": "1Gi", "storageClassName": storage_class}
    stoker.apply(manifest)
    stoker.until("trainingjob", name, lambda job: job["status"]["phase"] == "Running")
    deadline = time.monotonic() + 60
    while b"5" not in stored(stoker, name, 1, "outputs/checkpoints/").values():
        assert time.monotonic() < deadline, "the checkpoint of step 5 did not reach the store"
        time.sleep(0.2)
    (pod,) = pods(stoker, name)
    return pod


def stored(stoker: Stoker, name: str, attempt: int, below: str) -> dict[str, bytes]:
    """What rank 0 of an attempt has in the store below a path."""
    logs = stoker.get("trainingjob", name)["status"]["logs"]
    return stoker.objects(f"{logs.rpartition('/attempts/')[0]}/attempts/{attempt}/0/{below}")


def seal_of(stoker: Stoker, name: str) -> Any:
    """The seal of the first attempt."""
    (content,) = stored(stoker, name, 1, "seal.json").values()
    return json.loads(content)


def nothing_is_missing(stoker: Stoker, name: str) -> int:
    """The step from which the second attempt went on: the last one that the first had reached."""
    (log,) = stored(stoker, name, 1, "logs/std_log.txt").values()
    steps = [int(line.split()[1]) for line in log.decode().split("\n")[:-1] if line.startswith("step ")]
    assert steps == list(range(1, len(steps) + 1)), "a line is missing or doubled"
    found = re.search(r"attempt 2 starts at (\d+)", stoker.cli("logs", name).stdout)
    assert found is not None
    # A line is written before its checkpoint, so the kill hits between the two at the most.
    assert int(found[1]) in (steps[-1], steps[-1] - 1)
    return int(found[1])


def claims(stoker: Stoker, name: str) -> list[str]:
    return [claim["metadata"]["name"] for claim in stoker.items("persistentvolumeclaims", f"stoker.dev/job={name}")]


def no_claims(stoker: Stoker, name: str, but: tuple[str, ...] = ()) -> None:
    deadline = time.monotonic() + 30
    while set(claims(stoker, name)) != set(but):
        assert time.monotonic() < deadline, claims(stoker, name)
        time.sleep(0.2)


def test_a_run_on_a_claim_leaves_none(stoker: Stoker, cpu: str) -> None:
    manifest = training_job("on-a-claim", "echo done", image=stoker.lab.images["base"], compute=cpu)
    manifest["spec"]["command"]["resources"]["scratch"] = {"size": "1Gi", "storageClassName": "local"}
    stoker.apply(manifest)

    assert stoker.finished("on-a-claim")["phase"] == "Completed"

    no_claims(stoker, "on-a-claim")


def test_every_process_of_a_pod_killed_at_once_loses_nothing(stoker: Stoker, cpu: str) -> None:
    pod = counting(stoker, "killed-whole", cpu, "local", retry={"limit": 1})
    uid = pod["metadata"]["uid"]

    stoker.lab.on_node(pod["spec"]["nodeName"], "sh", "-c", KILL_POD % (uid, uid.replace("-", "_")))

    status = stoker.finished("killed-whole")
    assert (status["phase"], len(status["attempts"]), status.get("keptClaims", [])) == ("Completed", 2, [])
    seal = seal_of(stoker, "killed-whole")
    assert (seal["complete"], seal["sealedBy"], seal["exit"]["code"]) == (True, "server", None)
    nothing_is_missing(stoker, "killed-whole")
    no_claims(stoker, "killed-whole")


def test_a_pod_that_is_deleted_without_grace_loses_nothing(stoker: Stoker, cpu: str) -> None:
    pod = counting(stoker, "forced-out", cpu, "local")

    stoker.lab.kubectl("delete", "pod", pod["metadata"]["name"], "--grace-period=0", "--force")

    status = stoker.finished("forced-out")
    assert (status["phase"], status["interruptions"], status.get("keptClaims", [])) == ("Completed", 1, [])
    assert seal_of(stoker, "forced-out")["complete"]
    nothing_is_missing(stoker, "forced-out")
    no_claims(stoker, "forced-out")


def test_a_volume_that_goes_dark_with_its_node_is_named_and_costs_no_more_than_ninety_seconds(stoker: Stoker) -> None:
    stoker.pool("dim", most=2, idle=30)
    pod = counting(stoker, "dark-volume", "dim", "local")

    took = power_off(stoker, "dark-volume", pod)

    status = stoker.finished("dark-volume")
    assert status["phase"] == "Completed", status
    (kept,) = status["keptClaims"]
    assert "is not ready" in kept["message"]
    no_claims(stoker, "dark-volume", but=(kept["name"],))
    restored = re.search(r"attempt 2 starts at (\d+)", stoker.cli("logs", "dark-volume").stdout)
    assert restored is not None
    assert int(restored[1]) >= 5, "what had rested long enough was saved while it ran"
    print(f"from power-off to the next attempt, with a volume that cannot be had: {took:.1f} s")
    assert took <= NODE_LOSS_SECONDS
    # The kept claim goes with its job; the object of the dead node's pod keeps it until the node goes too.
    stoker.lab.kubectl("delete", "trainingjob", "dark-volume", "--wait=false")
    stoker.lab.remove_node(pod["spec"]["nodeName"])


@pytest.fixture
def shared_volume(stoker: Stoker) -> Iterator[Path]:
    """Two volumes that every node has: folders of the machine on which the nodes are. Returns where they are."""
    place = stoker.lab.state_dir / "volumes" / SHARED
    volumes = []
    for number in range(2):
        folder = place / str(number)
        folder.mkdir(parents=True, exist_ok=True)
        folder.chmod(0o777)
        volumes.append(
            {
                "apiVersion": "v1",
                "kind": "PersistentVolume",
                "metadata": {"name": f"{SHARED}-{number}"},
                "spec": {
                    "storageClassName": SHARED,
                    "capacity": {"storage": "1Gi"},
                    "accessModes": ["ReadWriteOnce"],
                    "persistentVolumeReclaimPolicy": "Retain",
                    "hostPath": {"path": str(folder)},
                },
            }
        )
    stoker.apply(
        {
            "apiVersion": "storage.k8s.io/v1",
            "kind": "StorageClass",
            "metadata": {"name": SHARED},
            "provisioner": "kubernetes.io/no-provisioner",
            "volumeBindingMode": "Immediate",
        },
        *volumes,
    )
    yield place
    names = [volume["metadata"]["name"] for volume in volumes]
    stoker.lab.kubectl("delete", "persistentvolume", *names, "--wait=false")
    stoker.lab.kubectl("delete", "storageclass", SHARED)


@pytest.mark.usefixtures("shared_volume")
def test_a_volume_that_another_node_can_mount_loses_nothing_with_its_node(stoker: Stoker) -> None:
    stoker.pool("lit", most=2, idle=30)
    pod = counting(stoker, "lit-volume", "lit", SHARED)

    took = power_off(stoker, "lit-volume", pod)

    status = stoker.finished("lit-volume")
    assert (status["phase"], status.get("keptClaims", [])) == ("Completed", []), status
    assert [attempt["reason"] for attempt in status["attempts"]] == ["NodeLost", "Completed"]
    seal = seal_of(stoker, "lit-volume")
    assert (seal["complete"], seal["sealedBy"], seal["exit"]["reason"]) == (True, "server", "NodeLost")
    step = nothing_is_missing(stoker, "lit-volume")
    print(f"from power-off to the next attempt, all {step} steps saved from the claim: {took:.1f} s")
    assert took <= NODE_LOSS_SECONDS
    stoker.lab.kubectl("delete", "trainingjob", "lit-volume", "--wait=false")
    stoker.lab.remove_node(pod["spec"]["nodeName"])


def power_off(stoker: Stoker, name: str, pod: Mapping[str, Any]) -> float:
    """Pull the cable of a pod's node; the seconds until the next attempt has its child."""
    off = time.monotonic()
    stoker.lab.power_off(pod["spec"]["nodeName"])
    stoker.until(
        "trainingjob",
        name,
        lambda job: any(attempt["number"] == 2 and attempt.get("child") for attempt in job["status"]["attempts"]),
        seconds=NODE_LOSS_SECONDS + 30,
    )
    return time.monotonic() - off
