"""A list of runs reads each ended run once."""

from pathlib import Path
from typing import Any

import pytest

from stoker.local import kept, shorts
from stoker.local.kept import Kept
from stoker.storage import layout, records
from stoker.storage.objects import run


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Kept:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return Kept((tmp_path / "runs").as_uri())


def end(store: Kept, number: int, **result: Any) -> str:
    """A run in the store; without members of a result one that has no end."""
    key = f"run-{number}-{number:08x}"
    job = {
        "version": 1, "name": key[:-9], "namespace": "local", "uid": f"{number:08x}", "key": key, "submittedBy": None,
        "submittedAt": f"2026-01-01T00:00:{number:02}Z", "compute": "local", "command": "true", "snapshot": None, "image": None,
        "pip": [], "instanceCount": 1, "env": {}, "inputs": {}, "outputs": {},
        "limits": {"timeoutSeconds": None, "graceSeconds": 600, "logBytes": 1, "scratchBytes": None},
    }  # fmt: skip
    run(store.store.put(layout.job_record(key), records.encode(job)))
    if result:
        told = {
            "version": 1, "name": key[:-9], "namespace": "local", "uid": f"{number:08x}", "key": key, "phase": "Completed",
            "reason": "Completed", "message": "", "exitCode": 0, "startedAt": None, "finishedAt": "2026-01-01T00:01:00Z",
            "timings": {}, "attempts": [], "outputs": [], **result,
        }  # fmt: skip
        run(store.store.put(layout.job_result(key), records.encode(told)))
    return key


def listed(store: Kept, monkeypatch: pytest.MonkeyPatch) -> tuple[list[str], list[str]]:
    """The keys of a list, and those whose records it read."""
    read: list[str] = []
    real = Kept.job

    def job(self: Kept, key: str) -> Any:
        read.append(key)
        return real(self, key)

    with monkeypatch.context() as patch:
        patch.setattr(Kept, "job", job)
        return [one["key"] for one in store.jobs(pytest.fail)], read


def test_an_ended_run_is_read_once(store: Kept, monkeypatch: pytest.MonkeyPatch) -> None:
    keys = [end(store, 1, phase="Completed"), end(store, 2, phase="Failed", reason="CommandFailed")]

    assert (keys, keys) == listed(store, monkeypatch)
    assert (keys, []) == listed(store, monkeypatch)


def test_a_run_without_an_end_is_read_each_time(store: Kept, monkeypatch: pytest.MonkeyPatch) -> None:
    """It may go on elsewhere, and its end may still come."""
    key = end(store, 1)

    assert [key] == listed(store, monkeypatch)[1]
    assert [key] == listed(store, monkeypatch)[1]
    assert kept.INTERRUPTED == store.jobs(pytest.fail)[0]["result"]["reason"]


def test_a_removed_run_is_not_listed(store: Kept, monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = end(store, 1, phase="Completed"), end(store, 2, phase="Completed")
    listed(store, monkeypatch)
    run(store.store.delete([layout.job_record(first), layout.job_result(first)]))
    run(store.store.drop_leftovers(layout.JOBS))

    assert ([second], []) == listed(store, monkeypatch)


def test_a_line_that_was_cut_off_costs_one_read(store: Kept, monkeypatch: pytest.MonkeyPatch) -> None:
    keys = [end(store, number, phase="Completed") for number in (1, 2)]
    listed(store, monkeypatch)
    (file,) = (Path(shorts.cache_folder().parent) / "runs").iterdir()
    file.write_bytes(file.read_bytes()[:-5])

    assert (keys, [keys[1]]) == listed(store, monkeypatch)
    assert (keys, []) == listed(store, monkeypatch)


def test_a_list_says_the_same_from_memory(store: Kept) -> None:
    end(store, 1, phase="Failed", reason="CommandFailed", message="m" * 5000, exitCode=3)

    assert store.jobs(pytest.fail) == store.jobs(pytest.fail)
