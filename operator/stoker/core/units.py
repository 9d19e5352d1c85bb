"""Kubernetes quantities: read, reckoned with exactly, and written back."""

import re
from collections.abc import Mapping
from fractions import Fraction
from functools import lru_cache

_FORM = re.compile(
    r"(?P<number>[0-9]+(\.[0-9]*)?|\.[0-9]+)(?P<unit>[numkMGTPE]|[KMGTPE]i|[eE](?P<exponent>[+-]?[0-9]{1,32}))?\Z"
)
_UNITS: dict[str | None, Fraction] = {
    None: Fraction(1),
    "n": Fraction(1, 10**9), "u": Fraction(1, 10**6), "m": Fraction(1, 1000),
    **{unit: Fraction(1000**power) for power, unit in enumerate("kMGTPE", 1)},
    **{unit: Fraction(1024**power) for power, unit in enumerate(("Ki", "Mi", "Gi", "Ti", "Pi", "Ei"), 1)},
}  # fmt: skip
#: Kubernetes itself keeps no more than 2^63-1; a larger exponent would only cost memory here.
_MOST_EXPONENT = 30

_BYTES = ("memory", "ephemeral-storage", "storage", "hugepages-")
#: What a container cannot ask for, though a node offers it.
_NOT_REQUESTABLE = frozenset({"pods"})


@lru_cache(maxsize=4096)  # a pool's nodes say the same few quantities over and over
def parse(quantity: str) -> Fraction:
    """The exact amount of `500m`, `2`, `16Gi`, `1e3`; raises ValueError on anything that is no quantity."""
    match = _FORM.match(quantity)
    if match is None:
        raise ValueError(f"{quantity!r} is not a quantity such as 500m, 2 or 16Gi")
    number = Fraction(match["number"].rstrip("."))
    if match["exponent"] is not None:
        exponent = max(-_MOST_EXPONENT, min(_MOST_EXPONENT, int(match["exponent"])))
        scale = Fraction(10 ** abs(exponent))
        return number * scale if exponent >= 0 else number / scale
    return number * _UNITS[match["unit"]]


def quantity(name: str, amount: Fraction) -> str:
    """An amount of the resource `name` as a quantity, rounded down to what Kubernetes keeps: thousandths of a CPU,
    whole bytes, whole devices."""
    if name == "cpu":
        thousandths = int(amount * 1000)
        return f"{thousandths}m" if thousandths % 1000 else str(thousandths // 1000)
    whole = int(amount)
    if whole and name.startswith(_BYTES):
        for unit in ("Ti", "Gi", "Mi", "Ki"):
            if whole % int(_UNITS[unit]) == 0:
                return f"{whole // int(_UNITS[unit])}{unit}"
    return str(whole)


def less(offered: Mapping[str, str], *taken: Mapping[str, str]) -> dict[str, str]:
    """What stays of the resources a node offers when others have taken theirs; never below zero, and only resources
    that are offered and that a container can ask for. Nothing left of a resource leaves it out."""
    left = {}
    for name, amount in offered.items():
        if name in _NOT_REQUESTABLE:
            continue
        rest = parse(amount) - sum((parse(part[name]) for part in taken if name in part), Fraction(0))
        if rest > 0:
            left[name] = quantity(name, rest)
    return left


def is_extended(name: str) -> bool:
    """Whether a resource is a device of its own (`nvidia.com/gpu`), not one of Kubernetes' own kinds."""
    return "/" in name
