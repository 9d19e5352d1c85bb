"""What the terminal shows, to the letter."""

import json
from typing import Any

import pytest

from stoker.cli.output import Output, as_yaml, step_line
from stoker.cli.plan import environment_words
from stoker.sdk.draft import EnvironmentAsked
from stoker.sdk.environments import from_spec
from stoker.sdk.outcome import exit_code, run_record
from stoker.sdk.outputs import local_paths


def _asked(**spec: Any) -> EnvironmentAsked:
    return from_spec(spec, "job.yaml")


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (
            ("snapshot", "14 files, 62 KB", "unchanged, nothing sent", 0.1),
            "  snapshot    14 files, 62 KB             unchanged, nothing sent           0.1 s",
        ),
        (
            ("run", "iris-7f3k", "log follows; Ctrl-C detaches"),
            "  run         iris-7f3k                   log follows; Ctrl-C detaches",
        ),
        (("compute", "local"), "  compute     local"),
    ],
)
def test_a_step_is_one_line(arguments: tuple[Any, ...], expected: str) -> None:
    assert expected == step_line(*arguments)


@pytest.mark.parametrize(
    ("asked", "local", "expected"),
    [
        (None, True, ("this Python", "no environment named")),
        (EnvironmentAsked("system", "--environment"), True, ("this Python", "--environment")),
        (EnvironmentAsked("name", "job.yaml", name="torch"), False, ("Environment/torch", "job.yaml")),
        (_asked(image="ml:1", pip=["a"]), True, ("1 package", "job.yaml; the image is for clusters")),
        (_asked(image="ml:1", pip=["a", "b"]), False, ("ml:1", "job.yaml; with 2 packages")),
        (_asked(image="ml:1", dockerSteps=["RUN true"]), False, ("ml:1", "job.yaml; with 1 step")),
        (_asked(image="ml:1"), False, ("ml:1", "job.yaml")),
        (_asked(conda={"dependencies": ["lightgbm", "python=3.11"]}, dockerSteps=["RUN true"]), False, ("the workspace's image", "job.yaml; with 1 package, python 3.11 and 1 step")),
        (_asked(conda={"dependencies": ["python=3.11", {"pip": ["a"]}]}), True, ("1 package, python 3.11", "job.yaml")),
    ],
)  # fmt: skip
def test_the_plan_says_where_the_environment_comes_from(
    asked: EnvironmentAsked | None, local: bool, expected: tuple[str, str]
) -> None:
    assert expected == environment_words(asked, local=local)


def output(path: str, rank: int = 0, attempt: int = 1) -> dict[str, Any]:
    return {"path": path, "rank": rank, "attempt": attempt, "size": 1, "sha256": "0"}


@pytest.mark.parametrize(
    ("outputs", "expected"),
    [
        ([output("m"), output("m", 1), output("n", 1)], ["m", "n", "rank-1/m"]),
        ([output("old"), output("new", attempt=2)], ["new"]),
        ([output("a"), output("a/b", 1)], ["a", "rank-1/a/b"]),
        ([output("a/b"), output("a", 1)], ["a/b", "rank-1/a"]),
        ([output("Model"), output("model", 1)], ["Model", "rank-1/model"]),
        ([], []),
    ],
)
def test_ranks_come_together_in_one_folder(outputs: list[dict[str, Any]], expected: list[str]) -> None:
    assert expected == [path for path, _ in local_paths(outputs)]


@pytest.mark.parametrize(
    ("phase", "reason", "code", "expected"),
    [
        ("Completed", "Completed", 0, 0),
        ("Failed", "CommandFailed", 3, 3),
        ("Failed", "TimedOut", 143, 124),
        ("Failed", "QueueTimedOut", None, 124),
        ("Failed", "BaseImageNotFound", None, 125),
        ("Failed", "OutputsNotSaved", 0, 125),
        ("Canceled", "Canceled", 0, 130),
    ],
)
def test_exit_codes(phase: str, reason: str, code: int | None, expected: int) -> None:
    assert expected == exit_code({"phase": phase, "reason": reason, "exitCode": code})


def test_the_record_has_exactly_its_keys() -> None:
    result = {"name": "n", "phase": "Completed", "exitCode": 0, "reason": "", "message": "", "outputs": [output("m")], "timings": {"Running": 1.5}, "more": 1}  # fmt: skip

    record = run_record(result, "file:///l", "file:///s")

    assert {"name", "phase", "exitCode", "reason", "message", "outputs", "logs", "storage", "timings"} == set(record)
    assert [{"path": "m", "size": 1, "sha256": "0"}] == record["outputs"]


@pytest.mark.parametrize(
    ("form", "expected"), [("json", '{\n  "a": 1\n}\n'), ("yaml", "a: 1\n"), ("name", "x\n"), ("table", "t\n")]
)
def test_data_in_the_form_that_was_asked_for(form: str, expected: str, capsys: pytest.CaptureFixture[str]) -> None:
    Output(form).emit({"a": 1}, lambda: print("t"), ["x"])

    assert expected == capsys.readouterr().out


def test_prose_goes_to_standard_error_and_quiet_has_none(capsys: pytest.CaptureFixture[str]) -> None:
    Output().step("a", "b")
    Output(quiet=True).step("c", "d")

    shown = capsys.readouterr()
    assert ("", "  a           b\n") == (shown.out, shown.err)


def test_yaml_quotes_what_yaml_1_1_would_read_otherwise() -> None:
    assert {"a": "yes", "b": "1e3"} == json.loads(json.dumps({"a": "yes", "b": "1e3"}))
    assert "a: 'yes'\n" == as_yaml({"a": "yes"})
    assert "a: |\n  one\n  two\n" == as_yaml({"a": "one\ntwo\n"})
