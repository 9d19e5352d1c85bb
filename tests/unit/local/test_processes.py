"""What Ctrl-C does to a local run, at each of its moments."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator

import pytest

from stoker.local import processes


class Heard:
    """A listener that keeps what it is told."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def step(self, label: str, what: str, detail: str = "", seconds: float | None = None) -> None:
        self.lines.append(what)

    def note(self, line: str) -> None:
        self.lines.append(line)

    def warn(self, line: str) -> None:
        self.lines.append(line)

    def log_descriptor(self) -> int:
        return sys.stdout.fileno()


@pytest.fixture
def heard() -> Heard:
    return Heard()


@pytest.fixture
def cancelling(heard: Heard) -> Iterator[processes.Cancelling]:
    with processes.Cancelling(heard) as made:
        made.take()
        yield made


def ctrl_c() -> None:
    """To this very thread: what another takes is told to its handler a moment later."""
    signal.raise_signal(signal.SIGINT)


def test_saving_goes_on_after_one_ctrl_c_and_ends_after_two(cancelling: processes.Cancelling, heard: Heard) -> None:
    given_up: list[str] = []
    cancelling.saving([lambda: given_up.append("rank 0")])

    ctrl_c()
    assert ([], False) == (given_up, cancelling.asked)
    assert "Ctrl-C again" in heard.lines[-1]
    ctrl_c()

    # The command had ended by itself: its run is not cancelled, its outputs are not saved.
    assert (["rank 0"], False) == (given_up, cancelling.asked)
    with pytest.raises(KeyboardInterrupt):
        ctrl_c()


def test_handlers_are_given_back() -> None:
    former = signal.getsignal(signal.SIGINT)
    with processes.Cancelling(Heard()) as cancelling:
        cancelling.take()
        assert signal.getsignal(signal.SIGINT) != former

    assert signal.getsignal(signal.SIGINT) == former


@pytest.mark.skipif(sys.platform == "win32", reason="no process groups there")
def test_children_are_found_without_ps(monkeypatch: pytest.MonkeyPatch) -> None:
    """Small images have none; the second Ctrl-C did nothing in them."""
    if sys.platform == "linux":
        monkeypatch.setenv("PATH", "/nonexistent")
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    try:
        assert child.pid in processes._children(os.getpid())
    finally:
        child.communicate(b"\n")


def test_a_variable_is_named_as_the_shell_that_runs_the_command_names_it(monkeypatch: pytest.MonkeyPatch) -> None:
    assert processes.reference("STOKER_INPUT_token") == "${STOKER_INPUT_token}"

    monkeypatch.setattr(processes, "_WINDOWS", True)
    monkeypatch.setattr("shutil.which", lambda name: None)

    assert processes.reference("STOKER_INPUT_token") == "%STOKER_INPUT_token%"
