"""What a command's code and last lines say."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stoker.runtime.diagnose import diagnose, log_tail

NO_LIBRARY = "cannot open shared object file: No such file or directory"


@pytest.mark.parametrize(
    ("library", "step"),
    [
        ("libgomp.so.1", "RUN apt-get update && apt-get install -y --no-install-recommends libgomp1"),
        ("libGL.so.1", "RUN apt-get update && apt-get install -y --no-install-recommends libgl1"),
        (
            "libnobody.so.7",
            "a docker step (on Debian the package that has it is found with `apt-file search libnobody.so.7`)",
        ),
    ],
)
def test_a_library_that_the_image_lacks_is_named_with_the_step_that_brings_it(library: str, step: str) -> None:
    said = diagnose(1, f"OSError: {library}: {NO_LIBRARY}\n", "/w").message

    assert library in said
    assert step in said


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
        (1, f"Traceback (most recent call last):\nOSError: libgomp.so.1: {NO_LIBRARY}\n", "SystemLibraryMissing"),
        (1, f"ImportError: libGL.so.1: {NO_LIBRARY}\n\n", "SystemLibraryMissing"),
        (127, f"train: error while loading shared libraries: libmpi.so.40: {NO_LIBRARY}\n", "SystemLibraryMissing"),
        (1, f"Original error was: libopenblas.so.0: {NO_LIBRARY}\n", "SystemLibraryMissing"),
        (1, f"OSError: libgomp.so.1: {NO_LIBRARY}\n" + "going on without\n" * 5 + "ValueError: 3\n", None),
        (1, f"OSError: /data/libown.so: {NO_LIBRARY}\n", None),
        (0, f"OSError: libgomp.so.1: {NO_LIBRARY}\n", None),
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
