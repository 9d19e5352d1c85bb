"""The rules of tools/chaos see what breaks them: a run of chaos that finds nothing means something."""

import hashlib
import json
import random
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from tools.chaos import faults, invariants, work

RUN = "jobs/real-0005-0123abcd/"
LOG = "\n".join([*(f"line {number}" for number in range(1, 4)), "lines 3"]).encode()


def job(phase: str, code: int = 0, exit_code: int | None = 0, note: str = "") -> dict[str, Any]:
    notes = {"chaos-code": str(code), **({f"chaos-{note}": "yes"} if note else {})}
    return {
        "metadata": {"name": "real-0005", "annotations": notes},
        "status": {"phase": phase, "exitCode": exit_code, "attempts": [{"number": 1}]},
    }


def rank(attempt: int = 1, *, log: bytes = LOG, checkpoint: bytes = b"4") -> dict[str, bytes]:
    """The objects of one sealed rank."""
    prefix = f"{RUN}attempts/{attempt}/0/"
    files = {"logs/std_log.txt": log, "outputs/checkpoints/step.txt": checkpoint}
    listed = [
        {"path": path, "size": len(body), "sha256": hashlib.sha256(body).hexdigest()} for path, body in files.items()
    ]
    return {
        **{prefix + path: body for path, body in files.items()},
        f"{prefix}seal.json": json.dumps({"files": listed}).encode(),
    }


def result(phase: str) -> dict[str, bytes]:
    return {f"{RUN}result.json": json.dumps({"phase": phase}).encode()}


@pytest.mark.parametrize(
    ("ended", "stored", "broken"),
    [
        (job("Completed"), "Completed", False),
        (job("Failed", 3, 3), "Failed", False),
        (job("Canceled", note="canceled"), "Canceled", False),
        (job("Completed", note="canceled"), "Completed", False),
        (job("Failed", 0, 137, note="killed"), "Failed", False),
        (job("Failed", 0, 1, note="killed"), "Failed", True),
        (job("Failed", 0, 137), "Failed", True),
        (job("Running"), "Running", True),
        (job("Completed"), "Failed", True),
        (job("Failed"), "Failed", True),
        (job("Canceled"), "Canceled", True),
        (job("Completed", 3), "Completed", True),
        (job("Failed", 3, 125), "Failed", True),
    ],
)
def test_an_end_that_is_not_the_commands_own_is_told(ended: dict[str, Any], stored: str, broken: bool) -> None:
    assert bool(list(invariants.true_ends([ended], result(stored)))) is broken


def test_an_end_without_a_stored_result_is_told() -> None:
    assert list(invariants.true_ends([job("Completed")], {}))


def test_a_child_that_was_made_twice_is_told() -> None:
    assert not list(invariants.no_doubled_child(Counter({"default/a-1": 1}), [job("Completed")]))
    assert list(invariants.no_doubled_child(Counter({"default/a-1": 2}), []))


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({}, 0),
        ({"logs/std_log.txt": b"line 1\nline 3\n"}, 2),
        ({"outputs/checkpoints/step.txt": b"5"}, 1),
        ({"logs/std_log.txt": LOG.replace(b"lines 3", b"lines 4")}, 2),
    ],
)
def test_what_a_seal_lists_and_the_store_has_not_is_told(changed: dict[str, bytes], told: int) -> None:
    objects = rank() | {f"{RUN}attempts/1/0/{path}": body for path, body in changed.items()}
    assert told == len(list(invariants.sealed_truthfully(objects)))


def test_an_attempt_that_begins_before_a_saved_checkpoint_is_told() -> None:
    later = rank(2, log=b"attempt 2 from 4\nline 1\n")
    lost = rank(2, log=b"attempt 2 from 0\nline 1\n")
    assert not list(invariants.goes_on([], rank() | later))
    assert list(invariants.goes_on([], rank() | lost))


def test_leftovers_are_told(tmp_path: Path) -> None:
    child = {"metadata": {"name": "a-1"}, "status": {"conditions": [{"type": "Complete", "status": "True"}]}}
    pod = {"metadata": {"name": "a-1-0"}, "status": {"phase": "Succeeded"}, "spec": {"nodeName": "n"}}
    assert not list(invariants.nothing_left([child], [pod], [], rank(), tmp_path))

    open_child = {**child, "status": {}}
    running = {**pod, "status": {"phase": "Running"}}
    piece = rank() | {f"{RUN}attempts/1/0/logs/.segments/0000000000000000": b""}
    (tmp_path / "bucket/.sgwtmp/multipart/abc/upload").mkdir(parents=True)
    told = list(invariants.nothing_left([open_child], [running], [{"metadata": {"name": "scratch"}}], piece, tmp_path))
    assert 5 == len(told), told


def test_signals_go_to_the_labs_own_processes_alone() -> None:
    """This test's process has the words in its command line and is in no group of a lab."""
    assert [] == faults.pids("stoker-lab/no-such-lab", "python")


def test_the_same_seed_makes_the_same_jobs() -> None:
    def made(seed: int) -> list[dict[str, Any]]:
        rng = random.Random(seed)
        return [work.job(number, "image", rng, real=number % 5 == 0) for number in range(50)]

    assert made(1) == made(1)
    assert made(1) != made(2)
