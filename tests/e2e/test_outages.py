"""What a run stands on goes away while it runs, and comes back: the run ends well, and not a moment before."""

import json
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tests.support.installed import Stoker, training_job

pytestmark = pytest.mark.lab

#: Writes for some seconds, so that it ends while what it stands on is away.
CODE = """
import pathlib, time
for number in range(40):
    print("line", number, flush=True)
    pathlib.Path("outputs/model-%02d.bin" % number).write_bytes(bytes([number]) * 100_000)
    time.sleep(0.2)
"""


@contextmanager
def object_store_away(stoker: Stoker) -> Iterator[None]:
    """It takes connections and answers none."""
    store = stoker.lab.state.processes.get("versitygw")
    assert store is not None
    store.signal(signal.SIGSTOP)
    try:
        yield
    finally:
        store.signal(signal.SIGCONT)


@contextmanager
def operator_and_server_away(stoker: Stoker) -> Iterator[None]:
    parts = ("deployment/stoker-operator", "statefulset/stoker-server")
    try:
        for part in parts:
            stoker.lab.kubectl("scale", part, "-n", "stoker-system", "--replicas=0")
        for name in ("operator", "server"):
            stoker.lab.kubectl(
                "wait",
                "pod",
                "-n",
                "stoker-system",
                "-l",
                f"app.kubernetes.io/component={name}",
                "--for=delete",
                "--timeout=60s",
            )
        yield
    finally:
        for part in parts:
            stoker.lab.kubectl("scale", part, "-n", "stoker-system", "--replicas=1")
            stoker.lab.kubectl("rollout", "status", part, "-n", "stoker-system", "--timeout=90s")


def submit(stoker: Stoker, name: str, compute: str) -> None:
    stoker.apply(
        training_job(
            name, "python3 train.py", image=stoker.lab.images["base"], compute=compute, files={"train.py": CODE}
        )
    )
    stoker.until("trainingjob", name, lambda job: job["status"]["phase"] == "Running")


def whole(stoker: Stoker, name: str) -> None:
    """Completed, with every line and every file."""
    status = stoker.finished(name)
    assert status["phase"] == "Completed", json.dumps(status, indent=1)
    assert [f"line {number}" for number in range(40)] == stoker.cli("logs", name).stdout.splitlines()
    assert [f"model-{number:02d}.bin" for number in range(40)] == sorted(one["path"] for one in status["outputs"])


def test_with_the_store_away_at_the_end_a_run_waits_in_finalizing_and_completes_when_it_is_back(
    stoker: Stoker, cpu: str
) -> None:
    submit(stoker, "no-store", cpu)

    with object_store_away(stoker):
        seen = stoker.until("trainingjob", "no-store", lambda job: job["status"]["phase"] != "Running")
        assert seen["status"]["phase"] == "Finalizing", seen["status"]
        later = time.monotonic() + 10
        while time.monotonic() < later:
            assert stoker.get("trainingjob", "no-store")["status"]["phase"] == "Finalizing"
            time.sleep(1)

    whole(stoker, "no-store")


def test_with_operator_and_server_away_training_goes_on_and_ends_well_when_they_are_back(
    stoker: Stoker, cpu: str
) -> None:
    submit(stoker, "nobody-home", cpu)

    with operator_and_server_away(stoker):
        (pod,) = stoker.items("pods", "stoker.dev/job=nobody-home")
        deadline = time.monotonic() + 60
        # What the command prints reaches the pod's own log without any part of Stoker's.
        while "line 39" not in stoker.lab.kubectl("logs", pod["metadata"]["name"], "-c", "main", "--tail=5"):
            assert time.monotonic() < deadline, "the command does not go on by itself"
            time.sleep(0.5)
        assert stoker.get("trainingjob", "nobody-home")["status"]["phase"] == "Running"

    whole(stoker, "nobody-home")
