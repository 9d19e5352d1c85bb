"""spec.retention of a Workspace, from its manifest to the store: what it does not keep is gone, and the rest is whole."""

import time

import pytest

from tests.support.installed import Stoker, training_job

pytestmark = pytest.mark.lab

NAMESPACE = "keeps-one"
#: The operator gives a new retention a minute, in which a slip can be corrected; then it looks.
LOOKED_SECONDS = 120.0


def runs(stoker: Stoker) -> set[str]:
    """The runs of the namespace of which the store has anything, by name."""
    found = stoker.keys(f"s3://{stoker.lab.s3.bucket}/{NAMESPACE}/jobs/")
    return {key.split("/jobs/")[1].partition("/")[0].rpartition("-")[0] for key in found}


def test_a_workspace_keeps_what_it_says_and_what_still_has_a_job(stoker: Stoker, cpu: str) -> None:
    stoker.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}})
    for name in ("stands", "oldest", "newest"):
        command = f"echo {name} | tee outputs/name.txt"
        stoker.apply(training_job(name, command, image=stoker.lab.images["base"], compute=cpu, namespace=NAMESPACE))
        assert stoker.finished(name, NAMESPACE)["phase"] == "Completed"
    stoker.lab.kubectl("delete", "trainingjob", "oldest", "newest", "-n", NAMESPACE)
    assert runs(stoker) == {"stands", "oldest", "newest"}

    stoker.apply(
        {
            "apiVersion": "stoker.dev/v1alpha1",
            "kind": "Workspace",
            "metadata": {"name": "default", "namespace": NAMESPACE},
            "spec": {"retention": {"keepLast": 1}},
        }
    )

    deadline = time.monotonic() + LOOKED_SECONDS
    while "oldest" in runs(stoker) and time.monotonic() < deadline:
        time.sleep(1)
    assert runs(stoker) == {"stands", "newest"}
    assert stoker.cli("logs", "newest", "-n", NAMESPACE).stdout == "newest\n"
    stoker.lab.kubectl("delete", "namespace", NAMESPACE, "--wait=false")
