"""`make test` runs every test once, and says what came of all of them."""

import re
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

import pytest

from tools import suite


def test_every_folder_with_tests_is_in_one_stream(repository: Path) -> None:
    with_tests = {
        f"tests/{path.relative_to(repository / 'tests').parts[0]}" for path in repository.glob("tests/**/test_*.py")
    }

    assert sorted(with_tests) == sorted((*suite.FIRST, *suite.SECOND))


def _labs(repository: Path, folders: Iterable[str]) -> set[str]:
    """The labs that a stream's tests start, by the names that stand in them."""
    texts = [path.read_text() for folder in folders for path in (repository / folder).rglob("*.py")]
    named = re.compile(r'(?:labs\.running\(|^NAME = |_LAB", )"(stoker-[a-z-]+)"', re.MULTILINE)
    return {name for text in texts if "labs" in text for name in named.findall(text)}


def test_no_stream_ends_the_other_ones_lab(repository: Path) -> None:
    first, second = _labs(repository, suite.FIRST), _labs(repository, suite.SECOND)

    assert {"stoker-test", "stoker-context"} <= first
    assert {"stoker-api", "stoker-identity"} <= second
    assert not first & second


def test_the_counts_of_both_streams_are_one_line() -> None:
    total = suite.counted(
        ["===== 2 failed, 60 passed, 1 error in 9.13s =====", "== 4000 passed, 3 skipped in 900.00s (0:15:00) =="]
    )

    assert (4060, 3, 3) == (total["passed"], total["failed"], total["skipped"])


def test_a_stream_that_died_has_no_closing_line() -> None:
    assert "" == suite.closing_line("collected 3 items\n===== 3 items =====\nTraceback\n")
    assert "== 1 passed in 2s ==" == suite.closing_line("== 1 passed in 2s ==\nException ignored in: x\n")


@pytest.mark.parametrize(
    ("codes", "failed", "count", "expected"),
    [
        ([1, 0], ["a::b"], 1, ["a::b"]),
        ([1, 1], ["a::b", "a::c"], 2, ["a::b", "a::c"]),
        ([1, 0], ["a::b"] * 5, 5, []),
        ([1, 0], ["a::b"], 2, []),
        ([1, -9], ["a::b"], 1, []),
        ([2, 0], ["a::b"], 1, []),
        ([0, 0], [], 0, []),
    ],
    ids=["one", "one of each stream", "too many", "one without a name", "a stream died", "interrupted", "none"],
)
def test_a_few_tests_that_failed_run_once_more(
    codes: list[int], failed: list[str], count: int, expected: list[str]
) -> None:
    assert expected == suite.again(codes, failed, Counter(failed=count))


SOMETIMES = """
import pathlib
def test_passes_at_the_second_try(tmp_path_factory):
    seen = pathlib.Path(__file__).with_name("seen")
    was = seen.exists()
    seen.touch()
    assert was
"""


@pytest.mark.parametrize(
    ("more", "code", "closing"),
    [
        ("", 0, "4 passed, 0 failed, 0 skipped"),
        ("def test_never():\n    assert False\n", 1, "4 passed, 1 failed, 0 skipped"),
    ],
    ids=["only a flaky one", "one that is broken too"],
)
def test_a_flaky_test_is_named_and_a_broken_one_still_fails_it_all(
    repository: Path, tmp_path: Path, more: str, code: int, closing: str
) -> None:
    """On a repository of its own that has one quick test in each folder."""
    for folder in (*suite.FIRST[:2], *suite.SECOND[:1]):
        (tmp_path / folder).mkdir(parents=True)
        (tmp_path / folder / f"test_{Path(folder).name}.py").write_text("def test_passes():\n    pass\n")
    for folder in (*suite.FIRST[2:], *suite.SECOND[1:]):
        (tmp_path / folder).mkdir(parents=True)
    (tmp_path / "tests/e2e/test_sometimes.py").write_text(SOMETIMES + more)
    (tmp_path / "tools").mkdir()
    shutil.copy(repository / "tools/suite.py", tmp_path / "tools")

    done = subprocess.run([sys.executable, "tools/suite.py"], cwd=tmp_path, capture_output=True, text=True)

    assert code == done.returncode, done.stdout + done.stderr
    lines = done.stdout.splitlines()
    assert closing == lines[-1]
    assert ["FLAKY tests/e2e/test_sometimes.py::test_passes_at_the_second_try"] == [
        line.partition(": ")[0] for line in lines if line.startswith("FLAKY")
    ]
