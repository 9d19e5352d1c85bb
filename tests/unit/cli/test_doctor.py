"""What `stoker doctor` makes of what it found: its lines, its exit code."""

import pytest

from stoker.cli.doctor import OLDEST, Line, exit_code, lines_of
from stoker.controller import preflight as of_the_operator
from stoker.storage.preflight import Preflight, Probe

PROMISE = "without it all is lost"
OK, FAILS, UNKNOWN = Line("ok", "a", ""), Line("fails", "b", ""), Line("unknown", "c", "")


@pytest.mark.parametrize(
    ("lines", "code"), [([OK], 0), ([OK, FAILS], 1), ([OK, UNKNOWN], 125), ([UNKNOWN, FAILS, OK], 1)]
)
def test_the_exit_code_is_the_worst_that_is_sure(lines: list[Line], code: int) -> None:
    assert code == exit_code(lines)


@pytest.mark.parametrize(
    ("holds", "state", "fix"), [(True, "ok", ""), (False, "fails", PROMISE), (None, "unknown", PROMISE)]
)
def test_a_promise_is_one_line_and_says_what_is_lost(holds: bool | None, state: str, fix: str) -> None:
    found = Preflight("s3://b", (Probe("list", holds, "as seen", PROMISE),))

    assert [Line(state, "list", "as seen", fix, PROMISE)] == lines_of(found)


def test_a_store_that_cannot_be_used_is_unknown_and_not_broken() -> None:
    lines = lines_of(Preflight("s3://b", unreachable="connection refused"))

    assert [("unknown", "storage", "connection refused")] == [(one.state, one.what, one.detail) for one in lines]
    assert "AWS_ENDPOINT_URL" in lines[0].fix
    assert 125 == exit_code(lines)


def test_operator_and_command_line_want_the_same_kubernetes() -> None:
    assert of_the_operator.OLDEST == OLDEST
