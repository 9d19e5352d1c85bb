"""Moments are read and written as Kubernetes does."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stoker.core import times


@given(st.integers(0, 4_000_000_000))
def test_a_second_survives_being_written(moment: int) -> None:
    assert moment == times.seconds(times.rfc3339(moment))


@pytest.mark.parametrize("text", [None, "", "yesterday", "2024-13-01T00:00:00Z"])
def test_what_is_no_time_is_none(text: str | None) -> None:
    assert times.seconds(text) is None


def test_an_offset_and_microseconds_are_understood() -> None:
    assert times.seconds("2024-01-01T01:00:00.500000+01:00") == 1704067200.5


@pytest.mark.parametrize(
    ("moment", "began", "ends"),
    [
        ("2023-11-14T22:13:20Z", "2023-11-01T00:00:00Z", "2023-12-01T00:00:00Z"),
        ("2023-12-31T23:59:59Z", "2023-12-01T00:00:00Z", "2024-01-01T00:00:00Z"),
        ("2024-02-29T12:00:00Z", "2024-02-01T00:00:00Z", "2024-03-01T00:00:00Z"),
        ("2024-03-01T00:00:00Z", "2024-03-01T00:00:00Z", "2024-04-01T00:00:00Z"),
    ],
)
def test_a_month_is_one_of_the_calendar_in_utc(moment: str, began: str, ends: str) -> None:
    seconds = times.seconds(moment)
    assert seconds is not None
    assert (times.seconds(began), times.seconds(ends)) == times.month(seconds)


@pytest.mark.parametrize(
    ("elapsed", "text"),
    [(-1, "0s"), (44.9, "44s"), (60, "1m"), (72, "1m12s"), (7380, "2h3m"), (86400, "1d"), (446400, "5d4h")],
)
def test_a_duration_is_short_for_people(elapsed: float, text: str) -> None:
    assert text == times.duration(elapsed)
