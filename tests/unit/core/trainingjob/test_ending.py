"""How a run ended is told from seals, with the exit code, the reason and the last lines of the log."""

from typing import Any

import pytest

from stoker.api.trainingjob import TrainingJobStatus
from stoker.core import trainingjob
from tests.support import build
from tests.support.build import Answering, child, exit_record, job, pod, seal, view


def end(*seals: dict[str, Any], pods: Any = None, status: Any = None, after: float = 20.0) -> TrainingJobStatus:
    """The terminal status of a run with these seals, one for each rank; an interruption ends it too."""
    run = job(nodes=len(seals), status=status, retry={"interruptionLimit": 0})
    given = (
        tuple(pod(rank, run, started=3, exit_code=0, ended=12) for rank in range(len(seals))) if pods is None else pods
    )
    answers = Answering(seals={entry["rank"]: entry for entry in seals})
    made = trainingjob.plan(view(run, children=(child(run),), pods=given, answers=answers), build.T0 + after)
    assert made.status is not None
    return made.status


def test_a_good_end_has_its_outputs_times_and_conditions() -> None:
    status = end(seal())

    assert (status.phase, status.reason, status.exit_code, status.message) == ("Completed", "Completed", 0, "")
    assert [(output.path, output.size) for output in status.outputs] == [("model.pkl", 12)]
    assert status.timings == {"Preparing": 1.0, "Starting": 2.0, "Running": 9.0, "Finalizing": 1.0}
    assert (status.started_at, status.finished_at, status.duration) == (build.stamp(3), build.stamp(13), "10s")
    facts = {entry.type: entry.status for entry in status.conditions}
    assert facts["Complete"] == facts["Ready"] == facts["OutputsSaved"] == "True"
    assert facts["Stalled"] == facts["Reconciling"] == "False"
    assert "Failed" not in facts


def test_a_failure_shows_code_and_the_last_lines() -> None:
    status = end(seal(exit=exit_record(3, tail="almost there\nthen it broke\n")))

    assert (status.phase, status.reason, status.exit_code) == ("Failed", "CommandFailed", 3)
    assert status.message == ("the command ended with exit code 3\nlast lines of the log:\nalmost there\nthen it broke")
    facts = {entry.type: entry.status for entry in status.conditions}
    assert (facts["Failed"], facts["Stalled"], facts["Ready"]) == ("True", "True", "False")


@pytest.mark.parametrize(
    ("made", "reason", "words"),
    [
        (seal(exit=exit_record(137)), "CommandFailed", "exit code 137 (SIGKILL)"),
        (seal(exit=exit_record(None, reason="PackagesNotInImage", message="missing: torch")), "PackagesNotInImage", "missing: torch"),
        (seal(exit=exit_record(143, reason="TimedOut", message="ran 60 s")), "TimedOut", "ran 60 s"),
        (seal(exit=exit_record(0, reason="Stopped")), "PodStopped", "stopped before the command had ended"),
        (seal(complete=False, reason="OutputsNotSaved", message="model.pkl: 403"), "OutputsNotSaved", "model.pkl: 403"),
        (seal(code=None, complete=False, reason="NodeLost", message="node n0 no longer exists"), "NodeLost", "node n0"),
        (seal(code=None), "CommandNotStarted", "never ran to its end"),
    ],
)  # fmt: skip
def test_each_way_to_fail_has_its_reason(made: dict[str, Any], reason: str, words: str) -> None:
    status = end(made)

    assert (status.phase, status.reason) == ("Failed", reason)
    assert words in status.message


def test_memory_that_ran_out_is_told_from_the_pod() -> None:
    state = {
        "terminated": {
            "exitCode": 137,
            "reason": "OOMKilled",
            "startedAt": build.stamp(3),
            "finishedAt": build.stamp(9),
        }
    }

    status = end(seal(exit=exit_record(137)), pods=(pod(started=3, main=state, phase="Failed"),))

    assert (status.reason, status.exit_code) == ("OOMKilled", 137)


@pytest.mark.parametrize(
    ("said", "fix"),
    [
        (
            'runc create failed: exec: "sh": executable file not found in $PATH: unknown',
            "use a base image with a shell",
        ),
        ("runc create failed: error mounting /data: no such device", ""),
    ],
)
def test_a_command_whose_container_could_not_start_is_told_in_the_runtimes_words(said: str, fix: str) -> None:
    state = {"terminated": {"exitCode": 128, "reason": "StartError", "message": said, "finishedAt": build.stamp(9)}}
    never = exit_record(None, reason="NotStarted", message="the pod was ended before the command had started")

    status = end(seal(exit=never), pods=(pod(main=state, phase="Failed"),))

    assert "CommandNotStarted" == status.reason
    assert said in status.message
    assert fix in status.message


def test_a_failed_fetch_is_told_in_its_own_words() -> None:
    fetch = {"terminated": {"exitCode": 1, "message": "input data: 403 on data/a.csv"}}

    status = end(seal(code=None), pods=(pod(fetch=fetch, phase="Failed"),))

    assert (status.reason, status.message) == ("FetchFailed", "input data: 403 on data/a.csv")


def test_the_rank_that_failed_first_is_to_blame() -> None:
    status = end(
        seal(0, exit=exit_record(143, reason="Stopped", at=12.5)),
        seal(1, exit=exit_record(1, at=12, tail="boom")),
        seal(2, exit=exit_record(2, at=14)),
    )

    assert (status.reason, status.exit_code) == ("CommandFailed", 1)
    assert status.message.startswith("rank 1: the command ended with exit code 1")
    assert "boom" in status.message


def test_a_recorded_cancel_wins_over_what_the_stopped_command_said() -> None:
    stopped = {"attempts": [{"number": 1, "reason": "Canceled"}]}

    status = end(seal(exit=exit_record(1, reason="Stopped")), status=stopped)

    assert (status.phase, status.reason, status.message) == ("Canceled", "Canceled", "canceled by spec.cancel")


def test_a_cancel_that_came_too_late_changes_nothing() -> None:
    stopped = {"attempts": [{"number": 1, "reason": "Canceled"}]}

    assert end(seal(), status=stopped).phase == "Completed"


def test_the_status_is_what_was_stored_and_not_what_would_be_stored_now() -> None:
    run = job()
    answers = Answering(seals={0: seal()})
    answers.results[f"ResultWritten/{build.KEY}"] = {
        "phase": "Failed", "reason": "NodeLost", "message": "written by an earlier operator", "exitCode": None,
        "finishedAt": build.stamp(9), "outputs": [], "timings": {},
    }  # fmt: skip
    seen = view(run, children=(child(run),), pods=(pod(started=3, exit_code=0),), answers=answers)

    status = trainingjob.plan(seen, build.T0 + 20).status

    assert status is not None
    assert (status.phase, status.message) == ("Failed", "written by an earlier operator")
