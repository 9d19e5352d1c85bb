"""How long whoever is small waits, counted in takes."""

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from stoker.kube.store import Key
from stoker.kube.turns import Turns
from stoker.kube.workqueue import Schedule


def test_a_single_key_is_taken_second_after_two_thousand_of_another_namespace() -> None:
    queue = Schedule(jitter=lambda: 0.5)
    for number in range(2000):
        queue.add(Key("TrainingJob", "big", str(number)), 0)
    queue.take(0)
    single = Key("TrainingJob", "small", "one")
    queue.add(single, 1)

    takes = 1
    while (taken := queue.take(1)) is not None and taken[0] != single:
        takes += 1

    assert takes <= 2


def test_keys_that_come_again_at_once_do_not_push_others_back() -> None:
    """A namespace whose keys always have more to do has its turns and no more."""
    queue, taken = Schedule(jitter=lambda: 0.5), Counter[str]()
    for number in range(100):
        queue.add(Key("TrainingJob", "busy", str(number)), 0)
    for number in range(10):
        queue.add(Key("TrainingJob", "small", str(number)), 0)
    for _ in range(20):
        found = queue.take(0)
        assert found is not None
        taken[found[0].namespace] += 1
        if found[0].namespace == "busy":
            queue.add(found[0], 0)
        queue.done(found[0], 0)

    assert taken == {"busy": 10, "small": 10}


@given(st.lists(st.tuples(st.sampled_from("abcd"), st.booleans())))
def test_the_first_of_a_lane_is_taken_within_as_many_takes_as_there_are_lanes(steps: list[tuple[str, bool]]) -> None:
    turns, lanes, passed = Turns[tuple[str, int]](), Counter[str](), Counter[str]()
    for number, (namespace, take) in enumerate(steps):
        turns.add(namespace, (namespace, number))
        lanes[namespace] += 1
        if not take:
            continue
        found = turns.take()
        assert found is not None
        lanes[found[0]] -= 1
        passed[found[0]] = 0
        for other in "abcd":
            if other != found[0] and lanes[other]:
                passed[other] += 1
                assert passed[other] <= 3, "each of the three others has had one turn"

    assert len(turns) == lanes.total()


@given(st.lists(st.sampled_from("abc")))
def test_in_a_lane_the_first_comes_first_and_everything_comes_once(namespaces: list[str]) -> None:
    turns = Turns[tuple[str, int]]()
    things = [(namespace, number) for number, namespace in enumerate(namespaces)]
    for thing in things:
        turns.add(thing[0], thing)

    taken = list(iter(turns.take, None))

    assert sorted(taken) == sorted(things)
    for namespace in "abc":
        assert [one for one in taken if one[0] == namespace] == [one for one in things if one[0] == namespace]


def test_who_is_passed_over_keeps_its_place() -> None:
    turns = Turns[str]()
    for namespace in ("a", "b", "a", "b"):
        turns.add(namespace, namespace)

    assert turns.take({"a", "b"}) is None
    assert [turns.take({"a"}), turns.take(), turns.take(), turns.take(), turns.take()] == ["b", "a", "b", "a", None]
