"""What a caller may ask for, and when it is told to come back."""

from collections.abc import Callable
from typing import Any

import pytest

from stoker.server.errors import Refusal
from stoker.server.limits import BURST_SECONDS, Buckets, Load, hold


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def refusal(call: Callable[..., Any], *arguments: Any) -> Refusal:
    with pytest.raises(Refusal) as caught:
        call(*arguments)
    return caught.value


def test_a_burst_is_given_and_then_the_rate() -> None:
    clock = Clock()
    buckets = Buckets("pod", 10, clock)
    for _ in range(int(10 * BURST_SECONDS)):
        buckets.take("a")

    refused = refusal(buckets.take, "a")

    assert (429, "TooManyRequests", 0.1) == (refused.status, refused.reason, pytest.approx(refused.retry_after))
    assert "one pod" in refused.message
    buckets.take("b")
    clock.now += 0.1
    buckets.take("a")
    assert 429 == refusal(buckets.take, "a").status


def test_a_refusal_is_not_counted() -> None:
    """Else a caller that asks again too early would wait for ever."""
    clock = Clock()
    buckets = Buckets("pod", 1, clock)
    buckets.take("a", BURST_SECONDS)
    for _ in range(100):
        refusal(buckets.take, "a")
    clock.now += 1.0

    buckets.take("a")


def test_nothing_is_saved_up_beyond_the_burst() -> None:
    clock = Clock()
    buckets = Buckets("pod", 1, clock)
    buckets.take("a")
    clock.now += 3_600.0

    buckets.take("a", BURST_SECONDS)
    assert 429 == refusal(buckets.take, "a").status


def test_work_that_is_more_than_a_burst_waits_for_a_full_one_and_is_done() -> None:
    clock = Clock()
    buckets = Buckets("pod", 1, clock)
    buckets.take("a")

    assert pytest.approx(1.0) == refusal(buckets.take, "a", 1_000.0).retry_after
    clock.now += 1.0
    buckets.take("a", 1_000.0)


def test_to_check_counts_nothing() -> None:
    buckets = Buckets("address", 1, Clock())
    for _ in range(100):
        buckets.check("a")
    buckets.take("a", BURST_SECONDS)

    assert 429 == refusal(buckets.check, "a").status


def test_callers_without_end_do_not_fill_the_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("stoker.server.limits.MOST_CALLERS", 3)
    buckets = Buckets("pod", 1, Clock())
    for caller in range(10):
        buckets.take(caller, BURST_SECONDS)

    assert 3 == len(buckets._left)
    assert 429 == refusal(buckets.take, 9).status, "who was here last is remembered"


def scope(path: str) -> dict[str, Any]:
    return {"type": "http", "path": path}


def test_each_side_has_its_own_room() -> None:
    load, people = Load(most_requests=1), scope("/v1/namespaces/team/jobs")
    load.enter(people)

    assert (503, "ServerBusy") == ((no := refusal(load.enter, scope("/v1/namespaces/x/jobs"))).status, no.reason)
    load.enter(scope("/v1/grant"))
    load.leave(people)
    load.enter(scope("/v1/namespaces/x/jobs"))


def test_bytes_in_memory_are_bounded_and_free_again_with_the_answer() -> None:
    load, first, second = Load(most_held=10), scope("/v1/seal"), scope("/v1/seal")
    load.enter(first)
    load.enter(second)
    hold(first, 6)

    assert 503 == refusal(hold, second, 6).status
    load.leave(first)
    hold(second, 6)
    load.leave(second)
    assert [(0, 0)] == [(side.requests, side.held) for side in load._sides.values()]
