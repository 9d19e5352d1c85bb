"""What counts as progress of a run, and for which rank it is asked."""

import os
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from stoker.runtime.progress import ProgressWatch, limit_of


@pytest.mark.parametrize(
    ("environment", "limit"),
    [
        ({}, None),
        ({"STOKER_NO_PROGRESS_SECONDS": "900"}, 900.0),
        ({"STOKER_NO_PROGRESS_SECONDS": "900", "STOKER_RANK": "0"}, 900.0),
        ({"STOKER_NO_PROGRESS_SECONDS": "900", "STOKER_RANK": "1"}, None),
        ({"STOKER_NO_PROGRESS_SECONDS": "soon"}, None),
        ({"STOKER_NO_PROGRESS_SECONDS": "0"}, None),
    ],
)
def test_the_limit_is_rank_0s(environment: dict[str, str], limit: float | None) -> None:
    assert limit == limit_of(environment)


class Run:
    """A run that is watched: what it does, again and again, and whether it was found to stand still."""

    def __init__(self, folder: Path, limit: float | None = 1.0) -> None:
        self.folder, self.stalled = folder, threading.Event()
        self.watch = ProgressWatch(str(folder), limit, self.stalled.set)

    def goes_on(self, do: Callable[[int], None], seconds: float = 2.5) -> bool:
        """Whether it is left alone while it does something every now and then."""
        end, count = time.monotonic() + seconds, 0
        while time.monotonic() < end and not self.stalled.wait(0.1):
            do(count)
            count += 1
        return not self.stalled.is_set()


@pytest.fixture
def run(tmp_path: Path) -> Run:
    (tmp_path / "outputs" / "checkpoints").mkdir(parents=True)
    (tmp_path / "outputs" / "log.csv").write_text("0\n")
    return Run(tmp_path)


def test_a_run_that_does_nothing_is_found_out(run: Run) -> None:
    begun = time.monotonic()

    assert run.stalled.wait(10)
    assert time.monotonic() - begun >= 0.9


def test_a_log_that_grows_is_progress(run: Run) -> None:
    assert run.goes_on(run.watch.printed)


def test_a_log_that_stays_as_long_as_it_is_is_none(run: Run) -> None:
    assert not run.goes_on(lambda _: run.watch.printed(7), seconds=10)


def _new_file(folder: Path, count: int) -> None:
    (folder / "outputs" / "checkpoints" / f"{count}.pt").write_bytes(b"")


def _growing_file(folder: Path, count: int) -> None:
    with (folder / "outputs" / "log.csv").open("a") as log:
        log.write(f"{count}\n")


def _old_file_moved_in(folder: Path, count: int) -> None:
    fresh = folder / "fresh"
    fresh.write_text("x")
    os.utime(fresh, (1, 1))
    fresh.rename(folder / "outputs" / "model.pt")


def _file_removed(folder: Path, count: int) -> None:
    _new_file(folder, count)
    (folder / "outputs" / "checkpoints" / f"{count}.pt").unlink()


@pytest.mark.parametrize("change", [_new_file, _growing_file, _old_file_moved_in, _file_removed])
def test_a_file_that_changes_is_progress(run: Run, change: Callable[[Path, int], None]) -> None:
    assert run.goes_on(lambda count: change(run.folder, count))


def test_reading_is_no_progress(run: Run) -> None:
    assert not run.goes_on(lambda _: [one.read_text() for one in run.folder.rglob("*.csv")] and None, seconds=10)


def test_without_a_limit_nothing_is_watched(tmp_path: Path) -> None:
    before = threading.active_count()

    Run(tmp_path, None)

    assert threading.active_count() == before


def test_a_watch_that_was_closed_says_nothing(run: Run) -> None:
    run.watch.close()

    assert not run.stalled.wait(2)
