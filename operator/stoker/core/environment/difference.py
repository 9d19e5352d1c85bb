"""Which input makes two definitions differ, in words: what `stoker env diff` says, and why an edit made a new key."""

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from difflib import SequenceMatcher
from typing import Any, NamedTuple

from stoker.core.environment.definition import Definition

_NAME = re.compile(r"(?:.*::)?([A-Za-z0-9][A-Za-z0-9._-]*)")


class Difference(NamedTuple):
    """One input that differs. input: `image`, `steps[2]`, `conda.dependencies`. one, other: what stands there; None for
    nothing."""

    input: str
    one: str | None
    other: str | None


def differences(one: Definition, other: Definition) -> tuple[Difference, ...]:
    """Everything in which two definitions differ, in the order of their inputs; nothing exactly where their keys are equal."""
    return tuple(_all(one, other))


def _all(one: Definition, other: Definition) -> Iterator[Difference]:
    if one.image != other.image:
        yield Difference("image", one.image or None, other.image or None)
    yield from _in_order("steps", one.steps, other.steps)
    if one.context_digest != other.context_digest:
        yield Difference("contextDigest", one.context_digest, other.context_digest)
    yield from _in_order("conda.channels", _of(one.conda, "channels"), _of(other.conda, "channels"))
    yield from _by_name("conda.dependencies", _of(one.conda, "dependencies"), _of(other.conda, "dependencies"))
    for member in ("requirements", "constraints"):
        yield from _by_name(f"pip.{member}", _of(one.pip, member), _of(other.pip, member))
    yield from _in_order("pip.index", _of(one.pip, "index"), _of(other.pip, "index"))
    yield from _by_name("pip.options", _of(one.pip, "options"), _of(other.pip, "options"))
    if one.cache_epoch != other.cache_epoch:
        yield Difference("cacheEpoch", str(one.cache_epoch), str(other.cache_epoch))


def _of(part: Mapping[str, Any] | None, member: str) -> Sequence[str]:
    found: Sequence[str] = (part or {}).get(member, ())
    return found


def _in_order(name: str, one: Sequence[str], other: Sequence[str]) -> Iterator[Difference]:
    """Lists whose order counts: each changed place, by its place in the first, or in the second for what is new."""
    for tag, a, b, c, d in SequenceMatcher(None, one, other, autojunk=False).get_opcodes():
        if tag != "equal":
            for step in range(max(b - a, d - c)):
                left = one[a + step] if a + step < b else None
                right = other[c + step] if c + step < d else None
                yield Difference(f"{name}[{a + step if left is not None else c + step}]", left, right)


def _by_name(name: str, one: Sequence[str], other: Sequence[str]) -> Iterator[Difference]:
    """Lists whose order does not count: a package that both have in different versions is one difference."""
    gone, new = list((Counter(one) - Counter(other)).elements()), list((Counter(other) - Counter(one)).elements())
    for text in gone:
        partner = next((each for each in new if _package(each) == _package(text)), None)
        if partner is not None:
            new.remove(partner)
        yield Difference(name, text, partner)
    for text in new:
        yield Difference(name, None, text)


def _package(text: str) -> str:
    match = _NAME.match(text)
    return match[1] if match else text
