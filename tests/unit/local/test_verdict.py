"""How a local run ended, read from the seals of its ranks."""

import pytest

from stoker.local.run import verdict


def seal(code: int | None, complete: bool = True, reason: str | None = None, tail: str = "") -> dict[str, object]:
    return {
        "complete": complete,
        "message": "disk full",
        "exit": {"code": code, "reason": reason, "message": "", "logTail": tail},
    }


@pytest.mark.parametrize(
    ("seals", "cancelled", "expected"),
    [
        ([seal(0)], False, ("Completed", "Completed", 0)),
        ([seal(3, tail="boom")], False, ("Failed", "CommandFailed", 3)),
        ([seal(0), seal(4)], False, ("Failed", "CommandFailed", 4)),
        ([seal(143, reason="TimedOut")], False, ("Failed", "TimedOut", 143)),
        ([seal(0, complete=False)], False, ("Failed", "OutputsNotSaved", 0)),
        ([seal(None, reason="PackagesNotInImage")], False, ("Failed", "PackagesNotInImage", None)),
        ([None], False, ("Failed", "CommandFailed", None)),
        ([seal(130)], True, ("Canceled", "Canceled", 130)),
    ],
)
def test_how_a_run_ended_is_read_from_its_seals(seals: list, cancelled: bool, expected: tuple[str, str, int]) -> None:
    phase, reason, _, code = verdict(seals, cancelled)

    assert expected == (phase, reason, code)


def test_a_failure_shows_the_last_lines_of_the_log() -> None:
    assert "exit code 3\nboom" in verdict([seal(3, tail="boom\n")], False)[2]
