"""Quantities are reckoned with exactly and written as Kubernetes writes them."""

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stoker.core import units


@pytest.mark.parametrize(
    ("text", "amount"),
    [
        ("2", Fraction(2)),
        ("500m", Fraction(1, 2)),
        (".5", Fraction(1, 2)),
        ("5.", Fraction(5)),
        ("16Gi", Fraction(16 * 1024**3)),
        ("1.5G", Fraction(1_500_000_000)),
        ("1e3", Fraction(1000)),
        ("2E3", Fraction(2000)),
        ("1E", Fraction(10**18)),
        ("100n", Fraction(1, 10**7)),
        ("5e-1", Fraction(1, 2)),
    ],
)
def test_a_quantity_has_an_exact_amount(text: str, amount: Fraction) -> None:
    assert amount == units.parse(text)


@pytest.mark.parametrize("text", ["", "1.2.3", "4 Gi", "Gi", "-1", "1KiB", "0x10"])
def test_what_is_no_quantity_is_refused_with_the_text(text: str) -> None:
    with pytest.raises(ValueError, match="is not a quantity"):
        units.parse(text)


def test_an_absurd_exponent_costs_no_memory() -> None:
    assert units.parse("1e99999999999999999999") == units.parse("1e30")


@pytest.mark.parametrize(
    ("name", "text", "written"),
    [
        ("cpu", "3750m", "3750m"),
        ("cpu", "4000m", "4"),
        ("cpu", "0.0015", "1m"),
        ("memory", "1024Mi", "1Gi"),
        ("memory", "1000", "1000"),
        ("nvidia.com/gpu", "1024", "1024"),
    ],
)
def test_an_amount_is_written_as_kubernetes_writes_it(name: str, text: str, written: str) -> None:
    assert written == units.quantity(name, units.parse(text))


def test_what_others_take_is_taken_off_each_resource() -> None:
    left = units.less(
        {"cpu": "4", "memory": "16Gi", "nvidia.com/gpu": "2", "pods": "110", "ephemeral-storage": "1Gi"},
        {"cpu": "200m", "memory": "256Mi"},
        {"cpu": "50m", "memory": "64Mi", "ephemeral-storage": "2Gi"},
    )

    assert left == {"cpu": "3750m", "memory": "16064Mi", "nvidia.com/gpu": "2"}


@given(st.integers(0, 10**18))
def test_bytes_survive_being_written(amount: int) -> None:
    assert amount == units.parse(units.quantity("memory", Fraction(amount)))
