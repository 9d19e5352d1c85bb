"""Which file goes up next: small ones first and together, and no time is lost over many."""

import time
from collections import deque
from collections.abc import Callable
from typing import Any

import pytest

from stoker.runtime.lanes import Done
from stoker.runtime.saving import FileSaver, Settings, StoreState
from stoker.runtime.scan import Found
from stoker.runtime.upload import Failure
from stoker.runtime.web import Transient


class FakeLanes:
    """Lanes whose calls end when they are told to."""

    def __init__(self, count: int = 1) -> None:
        self.free = count
        self.batches: deque[Callable[[], None]] = deque()

    def start(self, call: Callable[[], Any], then: Callable[[Done[Any]], None]) -> None:
        self.free -= 1

        def end() -> None:
            self.free += 1
            try:
                done: Done[Any] = Done(call(), None)
            except Transient as error:
                done = Done(None, error)
            then(done)

        self.batches.append(end)

    def end_one(self) -> None:
        self.batches.popleft()()


class Recorder:
    """Uploader and journal in one: what was sent is saved, unless `answers` has a failure or an error for it."""

    def __init__(self) -> None:
        self.saved: dict[str, Any] = {}
        self.sent: list[list[str]] = []
        self.answers: dict[str, Any] = {}

    def save(self, batch: list[Found]) -> list[Failure]:
        self.sent.append([found.path for found in batch])
        failures = []
        for found in batch:
            answer = self.answers.pop(found.path, None)
            if isinstance(answer, Exception):
                raise answer
            if answer is None:
                self.saved[found.path] = found
            else:
                failures.append(Failure(found.path, found.stamp, answer, 2))
        return failures


def file(path: str, size: int = 1, modified: int = 0) -> Found:
    return Found(path, path, (size, modified, 1))


def saver(recorder: Recorder, lanes: FakeLanes) -> FileSaver:
    state = StoreState(lambda line: None)
    return FileSaver(recorder, recorder, lanes, state, Settings(), lambda line: None)  # type: ignore[arg-type]


def until_done(files: FileSaver, lanes: FakeLanes, seconds: float = 10) -> None:
    deadline = time.monotonic() + seconds
    while files.pending:
        files.feed()
        while lanes.batches:
            lanes.end_one()
        assert time.monotonic() < deadline, "not all was sent"


def test_small_files_go_first_and_together_and_large_ones_alone() -> None:
    recorder, lanes = Recorder(), FakeLanes()
    files = saver(recorder, lanes)
    files.offer([file("large", 9 << 20), file("b", 2), file("larger", 10 << 20), file("a", 1)])

    until_done(files, lanes)

    assert [["a", "b"], ["large"], ["larger"]] == recorder.sent


def test_what_is_offered_anew_replaces_what_waited() -> None:
    recorder, lanes = Recorder(), FakeLanes()
    files = saver(recorder, lanes)
    files.offer([file("gone"), file("same"), file("changed", 1)])
    files.offer([file("same"), file("changed", 2, modified=5)])

    until_done(files, lanes)

    assert [["same", "changed"]] == recorder.sent
    assert 2 == recorder.saved["changed"].size


@pytest.mark.parametrize("answer", ["Unreadable: no right", Transient("the store is away")])
def test_what_failed_is_sent_again_after_a_while_and_the_rest_does_not_wait_for_it(answer: Any) -> None:
    recorder, lanes = Recorder(), FakeLanes()
    files = saver(recorder, lanes)
    recorder.answers["a"] = answer
    files.offer([file("a"), file("b", 9 << 20)])

    until_done(files, lanes)

    assert {"a", "b"} == recorder.saved.keys()
    assert (["a"], 2) == (recorder.sent[0], recorder.sent.count(["a"]))


def test_a_hundred_thousand_files_cost_no_more_each_than_a_few() -> None:
    """Finding the next batch must not look at all that waits: with 100,000 files that took a minute and a half."""
    recorder, lanes = Recorder(), FakeLanes()
    files = saver(recorder, lanes)
    files.offer(file(f"{n}") for n in range(100_000))
    begun = time.process_time()

    until_done(files, lanes, seconds=120)

    assert 100_000 == len(recorder.saved)
    assert time.process_time() - begun < 15
