"""Which key comes next, without any clock or loop."""

import pytest

from stoker.kube.store import Key
from stoker.kube.workqueue import LONGEST_RETRY_SECONDS, Schedule


def key(name: str, namespace: str = "n") -> Key:
    return Key("TrainingJob", namespace, name)


def schedule() -> Schedule:
    return Schedule(jitter=lambda: 0.5)  # delays as they are


def names(queue: Schedule, now: float = 0.0) -> list[str]:
    taken = []
    while (one := queue.take(now)) is not None:
        taken.append(one[0].name)
    return taken


def test_a_key_is_queued_once_however_often_it_is_added() -> None:
    queue = schedule()
    for _ in range(3):
        queue.add(key("a"), 0)

    assert names(queue) == ["a"]


def test_a_key_that_is_worked_on_is_given_to_nobody_else_and_comes_again_after() -> None:
    queue = schedule()
    queue.add(key("a"), 0)
    queue.take(0)
    queue.add(key("a"), 1)
    queue.add(key("a"), 1)
    assert queue.take(1) is None

    queue.done(key("a"), 2)

    assert names(queue, 2) == ["a"]


def test_namespaces_take_turns() -> None:
    queue = schedule()
    for number in range(4):
        queue.add(key(f"many-{number}", "big"), 0)
    queue.add(key("one", "small"), 0)

    assert names(queue) == ["many-0", "one", "many-1", "many-2", "many-3"]


def test_a_delayed_key_comes_when_it_is_due() -> None:
    queue = schedule()
    queue.add_at(key("a"), 10)
    assert queue.take(9.9) is None
    assert queue.next_due() == 10

    assert names(queue, 10) == ["a"]


def test_of_two_moments_the_earlier_counts() -> None:
    queue = schedule()
    queue.add_at(key("a"), 10)
    queue.add_at(key("a"), 5)
    queue.add_at(key("a"), 20)

    assert names(queue, 5) == ["a"]
    assert queue.next_due() is None


def test_taking_a_key_settles_what_it_was_to_come_back_for() -> None:
    queue = schedule()
    queue.add_at(key("a"), 10)
    queue.add(key("a"), 1)
    queue.take(1)
    queue.done(key("a"), 1)

    assert queue.next_due() is None


def test_done_says_when_to_look_again() -> None:
    queue = schedule()
    queue.add(key("a"), 0)
    queue.take(0)
    queue.done(key("a"), 0, wake_at=30)

    assert queue.next_due() == 30


def test_failures_in_a_row_wait_ever_longer_and_success_forgets_them() -> None:
    queue, delays, now = schedule(), [], 0.0
    for _ in range(12):
        queue.add(key("a"), now)
        queue.take(now)
        delays.append(queue.failed(key("a"), now))
        now += delays[-1]
    assert delays[:4] == pytest.approx([0.2, 0.4, 0.8, 1.6])
    assert max(delays) == LONGEST_RETRY_SECONDS

    queue.take(now)
    queue.done(key("a"), now)
    queue.add(key("a"), now)
    queue.take(now)
    assert queue.failed(key("a"), now) == pytest.approx(0.2)


def test_what_happens_while_a_key_fails_waits_for_its_next_try() -> None:
    queue = schedule()
    queue.add(key("a"), 0)
    queue.take(0)
    queue.add(key("a"), 0)
    delay = queue.failed(key("a"), 0)

    assert queue.take(delay / 2) is None
    assert names(queue, delay) == ["a"]


def test_a_server_that_asks_for_patience_gets_it() -> None:
    queue = schedule()
    queue.add(key("a"), 0)
    queue.take(0)

    assert queue.failed(key("a"), 0, at_least=17) == 17


def test_alarms_that_were_put_off_do_not_pile_up() -> None:
    queue = schedule()
    for number in range(10_000):
        queue.add_at(key("a"), 1e6 - number)

    assert queue.waiting == 1
    assert len(queue._heap) < 2_000


def test_the_oldest_waiting_key_is_known() -> None:
    queue = schedule()
    assert queue.longest(5) == (None, 0, False)
    queue.add(key("a"), 1)
    queue.add(key("b"), 3)

    assert queue.longest(5) == (key("a"), 4, False)
    assert queue.take(5) == (key("a"), 4)


def test_a_key_that_is_worked_on_and_not_given_back_counts_as_waiting() -> None:
    queue = schedule()
    queue.add(key("a"), 1)
    queue.take(2)
    queue.add(key("b"), 6)
    assert queue.longest(7) == (key("a"), 5, True)

    queue.done(key("a"), 7)
    assert queue.longest(7) == (key("b"), 1, False)


def test_whatever_happens_to_a_key_it_is_held_once() -> None:
    queue = schedule()
    for now in range(1000):
        for number in range(10):
            queue.add(key(str(number)), now)
            queue.add_at(key(str(number)), now + 50)
        taken = queue.take(now)
        assert taken is not None
        queue.add(taken[0], now)
        if now % 2:
            queue.failed(taken[0], now)
        else:
            queue.done(taken[0], now, now + 1)

        assert len(queue) <= 10
        assert queue.waiting <= 10
        assert len(queue._heap) <= 2 * 10 + 1001
