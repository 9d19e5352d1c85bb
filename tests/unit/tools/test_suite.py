"""`make test` runs every test once, and says what came of all of them."""

import re
from collections.abc import Iterable
from pathlib import Path

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
