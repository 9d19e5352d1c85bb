"""`make test` runs every test once, and says what came of all of them."""

from pathlib import Path

from tools import suite


def test_every_folder_with_tests_is_in_one_stream(repository: Path) -> None:
    with_tests = {
        f"tests/{path.relative_to(repository / 'tests').parts[0]}" for path in repository.glob("tests/**/test_*.py")
    }

    assert sorted(with_tests) == sorted((*suite.ON_A_CLUSTER, *suite.ELSEWHERE))


def test_the_counts_of_both_streams_are_one_line() -> None:
    total = suite.counted(
        ["===== 2 failed, 60 passed, 1 error in 9.13s =====", "== 4000 passed, 3 skipped in 900.00s (0:15:00) =="]
    )

    assert (4060, 3, 3) == (total["passed"], total["failed"], total["skipped"])


def test_a_stream_that_died_has_no_closing_line() -> None:
    assert "" == suite.closing_line("collected 3 items\n===== 3 items =====\nTraceback\n")
    assert "== 1 passed in 2s ==" == suite.closing_line("== 1 passed in 2s ==\nException ignored in: x\n")
