"""What a command's code and last lines say."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stoker.runtime.diagnose import diagnose, log_tail


@pytest.mark.parametrize(
    ("code", "tail", "expected"),
    [
        (127, "sh: 1: pyhton: not found\n", "CommandNotFound"),
        (127, "sh: line 1: pyhton: command not found\n", "CommandNotFound"),
        (127, "/bin/sh: pyhton: not found\n", "CommandNotFound"),
        (127, "my own 127\n", None),
        (2, "python3: can't open file '/w/train.py': [Errno 2] No such file or directory\n", "EntryFileMissing"),
        (2, "sh: 0: cannot open run.sh: No such file\n", "EntryFileMissing"),
        (2, "usage: train.py [-h]\n", None),
        (1, "sh: 1: pyhton: not found\n", None),
        (0, "", None),
        (None, "", None),
    ],
)
def test_a_command_with_nothing_to_run_is_told_by_its_own_words(
    code: int | None, tail: str, expected: str | None
) -> None:
    assert expected == diagnose(code, tail, "/w").reason


@given(st.binary(max_size=500), st.integers(10, 100))
def test_a_tail_is_text_within_its_limit(content: bytes, limit: int) -> None:
    assert len(log_tail(content, limit).encode()) <= limit


def test_a_tail_starts_with_a_whole_line() -> None:
    assert log_tail(b"line 1\nline 2\nline 3\n", 18) == "line 2\nline 3\n"


def test_a_progress_bar_leaves_only_its_last_state() -> None:
    assert log_tail(b"1%\r50%\r100%\r\ndone\n") == "100%\ndone\n"
