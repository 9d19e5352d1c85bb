"""Processes of one command on two nodes: they find each other, and the first that fails ends them all and is told."""

import json
from typing import Any

import pytest

from lab import images
from tests.component.runtime.test_distribution import ALL_REDUCE
from tests.component.runtime.test_mpi import HELLO
from tests.support.installed import Stoker, training_job

pytestmark = pytest.mark.lab

FAILS = """
import os, sys, time
print("I am rank", os.environ["RANK"], flush=True)
if os.environ["RANK"] == "3":
    sys.exit(7)
time.sleep(600)
"""
TELLS_TF_CONFIG = "import os; open('outputs/told.json', 'w').write(os.environ['TF_CONFIG'])"


def distributed(stoker: Stoker, name: str, script: str, image: str = "base", **distribution: Any) -> dict[str, Any]:
    """A job on two nodes of the pool `cpu`."""
    reference = stoker.lab.image_of(images.MPI) if image == "mpi" else stoker.lab.images[image]
    made = training_job(name, "python3 train.py", image=reference, compute="cpu", files={"train.py": script}, nodes=2)
    made["spec"]["command"]["distribution"] = distribution
    return made


def test_four_ranks_on_two_nodes_add_up(stoker: Stoker, cpu: str) -> None:
    stoker.apply(distributed(stoker, "sums", ALL_REDUCE, type="pytorch", processCountPerInstance=2))

    status = stoker.finished("sums")

    assert (status["phase"], status["exitCode"]) == ("Completed", 0), status
    assert len(set(status["attempts"][0]["nodes"])) == 2
    files = [one["path"] for rank in (0, 1) for one in stoker.seal(status, attempt=1, rank=rank)["files"]]
    assert {f"logs/user_logs/std_log_process_{rank}.txt" for rank in range(4)} <= set(files)


def test_a_rank_that_fails_ends_all_and_its_own_log_is_in_the_reason(stoker: Stoker, cpu: str) -> None:
    stoker.apply(distributed(stoker, "third-fails", FAILS, type="pytorch", processCountPerInstance=2))

    status = stoker.finished("third-fails")

    assert (status["phase"], status["reason"], status["exitCode"]) == ("Failed", "CommandFailed", 7), status
    assert "rank 1: process 3 ended with exit code 7" in status["message"]
    assert "I am rank 3" in status["message"]
    assert "I am rank 2" not in status["message"]


def test_each_worker_of_tensorflow_is_told_its_cluster(stoker: Stoker, cpu: str) -> None:
    stoker.apply(distributed(stoker, "workers", TELLS_TF_CONFIG, type="tensorflow"))

    status = stoker.finished("workers")

    assert status["phase"] == "Completed", status
    prefix = status["logs"].split("/attempts/")[0]
    for rank in (0, 1):
        told = json.loads(next(iter(stoker.objects(f"{prefix}/attempts/1/{rank}/outputs/told.json").values())))
        assert told["task"] == {"type": "worker", "index": rank}
        assert len(told["cluster"]["worker"]) == 2


def test_open_mpi_runs_on_both_nodes_without_sshd(stoker: Stoker, cpu: str) -> None:
    stoker.apply(distributed(stoker, "mpi-hello", HELLO, "mpi", type="mpi", processCountPerInstance=2))

    status = stoker.finished("mpi-hello")

    assert (status["phase"], status["exitCode"]) == ("Completed", 0), status
    said = next(iter(stoker.objects(status["logs"]).values())).decode()
    for rank in range(4):
        assert f"rank {rank} on node {rank // 2} has 6" in said
