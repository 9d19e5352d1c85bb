"""Which packages share a layer, and in which order layers lie."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stoker.core.environment.layering import ALONE, BUCKETS, MOST_LAYERS, Part, Unit, fold, package_key, split


def part(name: str, *, size: int = 10, stability: int = 2, pinned: bool = False) -> Part:
    return Part(name, f"key-{name}", size, stability, pinned)


def names(units: tuple[Unit, ...]) -> list[list[str]]:
    return [[one.name for one in unit.parts] for unit in units]


def test_up_to_the_limit_every_package_has_a_layer_to_itself() -> None:
    parts = [part(f"p{number:02}") for number in range(MOST_LAYERS)]

    assert [[one.name] for one in parts] == names(split(parts))


def test_above_the_limit_the_largest_stay_alone_and_the_rest_is_bucketed() -> None:
    parts = [part(f"p{number:03}", size=number) for number in range(100)]

    units = split(parts)

    alone = {unit.parts[0].name for unit in units if len(unit.parts) == 1}
    assert {f"p{number:03}" for number in range(60, 100)} <= alone
    assert len(units) <= ALONE + BUCKETS
    assert sorted(one.name for one in parts) == sorted(name for unit in names(units) for name in unit)


def test_a_pinned_part_stays_alone_however_small_it_is() -> None:
    units = split([*(part(f"p{number:03}", size=100) for number in range(100)), part("venv", size=0, pinned=True)])

    assert ["venv"] in names(units)


def test_one_small_package_more_touches_one_bucket() -> None:
    parts = [part(f"p{number:03}", size=1000 - number) for number in range(100)]
    before = {unit.key for unit in split(parts)}

    after = {unit.key for unit in split([*parts, part("new", size=1)])}

    assert 1 == len(after - before)


def test_what_changes_least_lies_lowest_and_size_does_not_matter() -> None:
    units = split([part("b", stability=1, size=1), part("a", stability=2, size=999), part("c", stability=0)])

    assert [["c"], ["b"], ["a"]] == names(units)


@given(st.lists(st.tuples(st.text("abcdefgh", min_size=1), st.integers(0, 99)), max_size=150, unique_by=lambda t: t[0]))
def test_the_order_in_which_packages_come_changes_nothing(found: list[tuple[str, int]]) -> None:
    parts = [part(name, size=size) for name, size in found]
    shuffled = random.Random(1).sample(parts, len(parts))

    units = split(parts)

    assert units == split(shuffled)
    assert len(units) <= MOST_LAYERS


def test_packages_that_own_one_file_share_a_layer() -> None:
    units = split([part("a"), part("b"), part("c"), part("d")])
    files = {"key-a": ["x"], "key-b": ["y"], "key-c": ["x", "z"], "key-d": ["z"]}

    assert [["b"], ["a", "c", "d"]] == names(fold(units, files))


def test_packages_without_common_files_are_not_folded() -> None:
    units = split([part("a"), part("b")])

    assert units == fold(units, {"key-a": ["x"], "key-b": ["y"]})


@pytest.mark.parametrize(
    "other",
    [
        {"sha256": "bb"},
        {"python": "cp312"},
        {"prefix": "/other"},
        {"layer_format": "2"},
        {"builder": "sha256:1"},
        {"kind": "conda"},
        {"extra": "x"},
    ],
)
def test_another_input_of_a_layer_is_another_key(other: dict[str, str]) -> None:
    same = {"kind": "pypi", "sha256": "aa", "python": "cp311", "prefix": "/opt/stoker/env", "layer_format": "1"}

    assert package_key(**same) == package_key(**same)
    assert package_key(**same) != package_key(**(same | other))


def test_of_parts_in_one_layer_pips_come_after_condas() -> None:
    """As with installs one after the other: of a file that both bring, pip's stays."""
    units = split([part("z-of-conda", stability=1), part("a-of-pip", stability=3)])

    (folded,) = fold(units, {"key-z-of-conda": ["x"], "key-a-of-pip": ["x"]})

    assert ["z-of-conda", "a-of-pip"] == [one.name for one in folded.parts]


def test_of_parts_in_one_bucket_pips_come_after_condas() -> None:
    many = [part(f"p{number:03}", size=10, stability=1 + number % 3) for number in range(100)]

    for unit in split(many):
        assert sorted(one.stability for one in unit.parts) == [one.stability for one in unit.parts]
