"""In what two runs differ."""

from typing import Any

import pytest

from stoker.core.rundiff import Difference, RunFacts, differences

_DIGEST = {"one": "sha256:" + "1" * 64, "two": "sha256:" + "2" * 64}


def job(**members: Any) -> dict[str, Any]:
    return {
        "name": "iris-1", "key": "iris-1-00000000", "uid": "u", "submittedAt": "2026-01-01T00:00:00Z", "compute": "cpu",
        "snapshot": _DIGEST["one"], "inputs": {"lr": {"type": "literal", "value": "0.1"}},
        "image": {"reference": "ml/base:1", "digest": _DIGEST["one"]}, "spec": {"command": {"command": "python train.py"}},
        **members,
    }  # fmt: skip


def told(one: RunFacts, other: RunFacts) -> list[tuple[str, str, str | None, str | None]]:
    return [(each.part, each.name, each.one, each.other) for each in differences(one, other)]


def test_names_times_and_places_are_no_difference() -> None:
    other = job(name="iris-2", key="iris-2-11111111", uid="v", submittedAt="2026-02-02T00:00:00Z", submittedBy="me")

    assert () == differences(RunFacts(job()), RunFacts(other))


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"inputs": {"lr": {"value": "0.2"}}}, ("inputs", "lr", "0.1", "0.2")),
        ({"inputs": {}}, ("inputs", "lr", "0.1", None)),
        ({"compute": "gpu"}, ("settings", "compute", "cpu", "gpu")),
        ({"env": {"A": "1"}}, ("settings", "env.A", None, "1")),
        ({"spec": {"command": {"command": "python t.py"}}}, ("command", "command", "python train.py", "python t.py")),
        ({"image": {"digest": _DIGEST["two"]}}, ("environment", "image", _DIGEST["one"], _DIGEST["two"])),
        ({"commit": "a" * 40}, ("code", "commit", None, "a" * 40)),
        ({"commit": "a" * 40, "dirty": True}, ("code", "commit", None, "a" * 40 + " with changes")),
    ],
)
def test_what_was_asked_differs(change: dict[str, Any], expected: tuple[str, str, str | None, str | None]) -> None:
    assert [expected] == told(RunFacts(job()), RunFacts(job(**change)))


def test_the_same_data_at_another_place_is_no_difference() -> None:
    one = job(inputs={"d": {"type": "uri_folder", "source": "s3://b/one/", "digest": _DIGEST["one"]}})
    other = job(inputs={"d": {"type": "uri_folder", "source": "s3://b/two/", "digest": _DIGEST["one"]}})

    assert () == differences(RunFacts(one), RunFacts(other))


def test_code_differs_by_its_files() -> None:
    one = RunFacts(job(), files={"a.py": "1", "b.py": "2"})
    other = RunFacts(job(snapshot=_DIGEST["two"]), files={"a.py": "1", "c.py": "3"})

    assert [("code", "b.py", "2", None), ("code", "c.py", None, "3")] == told(one, other)


def test_code_that_cannot_be_read_differs_by_its_digest() -> None:
    one, other = RunFacts(job(), files={"a.py": "1"}), RunFacts(job(snapshot=_DIGEST["two"]))

    assert [("code", "snapshot", _DIGEST["one"], _DIGEST["two"])] == told(one, other)


def test_packages_differ_by_version_and_not_by_their_lock_too() -> None:
    one = RunFacts(job(image=None, environment={"lockKey": "x"}), packages={"numpy": "2.0", "pandas": "2.2"})
    other = RunFacts(job(image=None, environment={"lockKey": "y"}), packages={"numpy": "2.1", "pandas": "2.2"})

    assert [("environment", "numpy", "2.0", "2.1")] == told(one, other)


def test_one_image_is_one_environment_however_it_was_asked_for() -> None:
    one, other = RunFacts(job(environment={"lockKey": "x"})), RunFacts(job())

    assert () == differences(one, other)


def test_a_run_that_goes_on_has_no_result_to_compare() -> None:
    ended = {"phase": "Failed", "reason": "CommandFailed", "exitCode": 1, "outputs": []}

    assert () == differences(RunFacts(job()), RunFacts(job(), ended))


def test_results_and_outputs_differ() -> None:
    one = {
        "phase": "Completed",
        "reason": "Completed",
        "exitCode": 0,
        "outputs": [{"path": "m", "sha256": "1", "rank": 0}],
    }
    other = {
        "phase": "Completed",
        "reason": "Completed",
        "exitCode": 0,
        "outputs": [{"path": "m", "sha256": "2", "rank": 1}],
    }

    assert (Difference("outputs", "m", "1", None), Difference("outputs", "m (rank 1)", None, "2")) == differences(
        RunFacts(job(), one), RunFacts(job(), other)
    )
