"""What a command tracks: the book, its files, and MLflow's API over it."""

import math
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stoker.runtime import wire
from stoker.runtime.layout import Scratch
from stoker.runtime.tracking import book as books
from stoker.runtime.tracking.book import Book, Refused, summary
from stoker.runtime.tracking.mlflow import Api
from stoker.runtime.tracking.pieces import FOLDER, lines_of, read


@pytest.fixture
def scratch(tmp_path: Path) -> Scratch:
    made = Scratch(str(tmp_path))
    made.make()
    return made


@pytest.fixture
def api(scratch: Scratch) -> Api:
    return Api(Book(scratch), "/out", lambda: "iris")


def post(api: Api, path: str, **asked: Any) -> dict[str, Any]:
    return api.answer("POST", path, asked)


def start(api: Api) -> str:
    return str(post(api, "runs/create", experiment_id="0", start_time="5")["run"]["info"]["run_id"])


def told(api: Api, run: str) -> dict[str, Any]:
    run_: dict[str, Any] = api.answer("GET", "runs/get", {"run_id": run})["run"]
    return run_


def test_what_is_logged_is_told(api: Api) -> None:
    run = start(api)
    post(api, "runs/log-metric", run_id=run, key="loss", value=0.5, step="1", timestamp="7")
    post(api, "runs/log-parameter", run_id=run, key="lr", value="0.1")
    post(api, "runs/set-tag", run_id=run, key="team", value="vision")
    post(api, "runs/update", run_id=run, status="FINISHED", end_time="9")

    found = told(api, run)

    assert [{"key": "loss", "value": 0.5, "timestamp": 7, "step": 1}] == found["data"]["metrics"]
    assert [{"key": "lr", "value": "0.1"}] == found["data"]["params"]
    assert {"key": "team", "value": "vision"} in found["data"]["tags"]
    assert ("FINISHED", 5, 9) == (found["info"]["status"], found["info"]["start_time"], found["info"]["end_time"])


def test_the_first_run_is_the_jobs_own_and_its_artifacts_are_outputs(api: Api) -> None:
    first, second = start(api), start(api)

    assert ["file:///out", f"file:///out/{second}"] == [
        told(api, run)["info"]["artifact_uri"] for run in (first, second)
    ]


def test_every_experiment_is_the_jobs(api: Api) -> None:
    """A script that sets an experiment and then starts a run must not fail because its run is elsewhere."""
    found = api.answer("GET", "experiments/get-by-name", {"experiment_name": "mine"})["experiment"]

    assert ("0", "mine") == (found["experiment_id"], found["name"])
    assert "0" == post(api, "experiments/create", name="another")["experiment_id"]


def test_the_last_value_is_that_of_the_highest_step(api: Api) -> None:
    run = start(api)
    for step, value in ((2, 0.2), (1, 0.1)):
        post(api, "runs/log-metric", run_id=run, key="loss", value=value, step=step)

    assert 0.2 == told(api, run)["data"]["metrics"][0]["value"]


@pytest.mark.parametrize(("sent", "shown"), [("NaN", "NaN"), (float("inf"), "Infinity"), ("-Infinity", "-Infinity")])
def test_what_is_no_number_goes_as_a_word(api: Api, sent: Any, shown: str) -> None:
    run = start(api)
    post(api, "runs/log-metric", run_id=run, key="loss", value=sent)

    assert shown == told(api, run)["data"]["metrics"][0]["value"]


def test_a_batch_is_kept_whole(api: Api) -> None:
    run = start(api)
    metrics = [{"key": "a", "value": number, "step": number} for number in range(100)]
    post(api, "runs/log-batch", run_id=run, metrics=metrics, params=[{"key": "p", "value": "1"}], tags=[])

    history = api.answer("GET", "metrics/get-history", {"run_id": run, "metric_key": "a", "max_results": "60"})
    rest = api.answer(
        "GET", "metrics/get-history", {"run_id": run, "metric_key": "a", "page_token": history["next_page_token"]}
    )

    assert list(range(100)) == [one["value"] for one in (*history["metrics"], *rest["metrics"])]
    assert "next_page_token" not in rest


def test_a_batch_with_a_bad_entry_leaves_nothing(api: Api) -> None:
    run = start(api)
    with pytest.raises(Refused, match="is not a number"):
        post(api, "runs/log-batch", run_id=run, metrics=[{"key": "a", "value": 1}, {"key": "b", "value": "x"}])

    assert [] == told(api, run)["data"]["metrics"]


def test_a_parameter_has_one_value(api: Api) -> None:
    run = start(api)
    post(api, "runs/log-parameter", run_id=run, key="lr", value="0.1")
    post(api, "runs/log-parameter", run_id=run, key="lr", value="0.1")

    with pytest.raises(Refused, match="Changing param values is not allowed"):
        post(api, "runs/log-parameter", run_id=run, key="lr", value="0.2")


@pytest.mark.parametrize(
    ("method", "path", "asked", "code"),
    [
        ("GET", "runs/get", {"run_id": "nobody"}, "RESOURCE_DOES_NOT_EXIST"),
        ("POST", "runs/log-metric", {"run_id": "nobody", "key": "a", "value": 1}, "RESOURCE_DOES_NOT_EXIST"),
        ("POST", "registered-models/create", {}, "ENDPOINT_NOT_FOUND"),
        ("POST", "runs/search", {"filter": "metrics.a > 1"}, "INVALID_PARAMETER_VALUE"),
        ("GET", "logged-models/m-1", {}, "RESOURCE_DOES_NOT_EXIST"),
    ],
)
def test_what_cannot_be_meant_is_refused_in_mlflows_words(
    api: Api, method: str, path: str, asked: dict[str, Any], code: str
) -> None:
    with pytest.raises(Refused) as refused:
        api.answer(method, path, asked)

    assert code == refused.value.code


def test_names_are_bounded(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(books, "MOST_NAMES", 2)
    run = start(api)
    for key in ("a", "b", "a"):
        post(api, "runs/log-metric", run_id=run, key=key, value=1)

    with pytest.raises(Refused, match="at most 2 names"):
        post(api, "runs/log-metric", run_id=run, key="c", value=1)


def test_a_server_that_was_killed_goes_on_where_it_was(scratch: Scratch) -> None:
    run = start(api := Api(Book(scratch), "/out", lambda: "iris"))
    post(api, "runs/log-metric", run_id=run, key="loss", value=0.5, step=1)

    again = Api(Book(scratch), "/out", lambda: "iris")
    post(again, "runs/log-metric", run_id=run, key="loss", value=0.25, step=2)

    assert {"loss": 0.25} == summary(scratch)
    assert 2 == len(list(Path(scratch.work, FOLDER).iterdir())), "a file that another process began is not written to"


@settings(max_examples=60)
@given(st.lists(st.floats(allow_nan=False, allow_infinity=False), min_size=1, max_size=5), st.data())
def test_a_file_cut_at_any_byte_holds_what_was_whole(values: list[float], data: st.DataObject) -> None:
    import json

    lines = [{"t": "metric", "k": "a", "v": value} for value in values]
    content = b"".join(json.dumps(line).encode() + b"\n" for line in lines)
    cut = data.draw(st.integers(0, len(content)))

    found = list(lines_of(content[:cut].splitlines(keepends=True)))

    assert lines[: content[:cut].count(b"\n")] == found


def test_what_a_script_writes_into_the_files_is_not_believed(scratch: Scratch) -> None:
    folder = Path(scratch.work, FOLDER)
    folder.mkdir(parents=True)
    (folder / "000001.jsonl").write_bytes(
        b'[]\nnonsense\n{"t": "metric", "run": 5}\n{"t": "metric", "run": "x", "k": "a", "v": 1}\n'
    )

    assert {} == summary(scratch)
    assert 2 == len(list(read(scratch)))


def test_a_summary_has_numbers_alone_and_not_too_many(scratch: Scratch) -> None:
    api = Api(Book(scratch), "/out", lambda: "iris")
    run = start(api)
    names = [{"key": f"m{number:03}", "value": number} for number in range(100)]
    post(api, "runs/log-batch", run_id=run, metrics=[*names, {"key": "a", "value": "NaN"}])

    found = summary(scratch)

    assert wire.MOST_METRICS == len(found)
    assert all(math.isfinite(value) for value in found.values())


@pytest.mark.parametrize(
    "told", [[], {"a": "1"}, {"a": True}, {"": 1.0}, {"a": float("nan")}, {str(n): 1.0 for n in range(65)}]
)
def test_an_exit_record_with_odd_metrics_is_refused(told: Any) -> None:
    with pytest.raises(wire.WireError, match="metrics"):
        wire.exit_record({**wire.ExitRecord().document(), "metrics": told})


def test_an_exit_record_carries_metrics_and_one_without_is_as_it_was() -> None:
    record = wire.ExitRecord(code=0, metrics={"a": 1.5})

    assert record == wire.exit_record(record.document())
    assert "metrics" not in wire.ExitRecord(code=0).document()
