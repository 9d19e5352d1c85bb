"""kubectl is enough: manifests run as they are, and what cannot run says so at once, in status."""

import json
import subprocess
import time

import pytest
import yaml

from tests.support.installed import Stoker, training_job

pytestmark = pytest.mark.lab


def test_kubectl_apply_of_the_examples_runs_a_job(stoker: Stoker, cpu: str) -> None:
    """The examples' own files; only the image is the lab's, which no public registry can be reached from."""
    folder = stoker.root / "examples" / "manifests"
    environment = yaml.safe_load((folder / "environment.yaml").read_text())
    environment["spec"]["image"] = stoker.lab.images["base"]
    stoker.apply(environment)
    stoker.lab.kubectl("apply", "-f", str(folder / "job.yaml"))

    status = stoker.finished("hello-manifest")

    assert ("Completed", ["loss.txt"]) == (status["phase"], [saved["path"] for saved in status["outputs"]])
    row = stoker.lab.kubectl("get", "stj", "hello-manifest")
    assert ["NAME", "PHASE", "COMPUTE", "REASON", "DURATION", "AGE"] == row.splitlines()[0].split()


@pytest.mark.parametrize(
    ("name", "change", "reason", "words"),
    [
        ("no-pool", {"compute": "gpu"}, "ComputeNotFound", ["gpu", "cpu"]),
        ("no-environment", {"environment": {"name": "torch"}}, "EnvironmentNotFound", ["torch"]),
        ("too-many-nodes", {"resources": {"instanceCount": 9}}, "GangLargerThanPool", ["9", "2", "maxInstances"]),
        ("no-such-type", {"resources": {"instanceType": "huge"}}, "InstanceTypeUnknown", ["huge", "small"]),
    ],
)
def test_what_only_the_user_can_mend_is_told_within_two_seconds(
    stoker: Stoker, cpu: str, name: str, change: dict, reason: str, words: list[str]
) -> None:
    job = training_job(name, "true", image=stoker.lab.images["base"], compute=change.get("compute", cpu))
    job["spec"]["command"].update({key: value for key, value in change.items() if key != "compute"})
    stoker.apply(job)
    applied = time.monotonic()

    seen = stoker.until("trainingjob", name, lambda job: bool(job["status"].get("waiting")), seconds=10)

    took = time.monotonic() - applied
    waiting = seen["status"]["waiting"]
    assert reason == waiting["reason"]
    for word in words:
        assert word in waiting["message"] + waiting["fix"]
    assert took < 2
    stoker.lab.kubectl("delete", "trainingjob", name)


def test_a_field_that_does_not_exist_is_refused_at_admission(stoker: Stoker) -> None:
    job = training_job("typo", "true", image="x", compute="cpu")
    job["spec"]["comand"] = job["spec"]["command"]

    refused = subprocess.run(
        [stoker.lab.bin / "kubectl", "--kubeconfig", stoker.lab.kubeconfig, "apply", "-f", "-"],
        input=json.dumps(job), capture_output=True, text=True,
    )  # fmt: skip

    assert 0 != refused.returncode
    assert "comand" in refused.stderr
