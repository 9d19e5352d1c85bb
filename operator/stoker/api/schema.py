"""How a field of a resource says its meaning, bounds and rules: the source of CRDs, editor schemas and reference pages.

Every field of a resource is `Annotated[type, field(...)]` (or an alias of one). `tools/generate.py` reads these.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec


def field(
    description: str,
    *,
    ge: int | None = None,
    le: int | None = None,
    min_length: int | None = None,
    max_length: int | None = None,
    pattern: str | None = None,
    list_map_key: str | None = None,
    list_is_set: bool = False,
    rules: Sequence[tuple[str, str]] = (),
    schema: Mapping[str, Any] | None = None,
) -> msgspec.Meta:
    """Metadata of one field.

    description: meaning and unit. ge, le: bounds of a number. min_length, max_length: of a string, a list or a map
    (every list and map has a bound, or the API server cannot estimate what a rule costs). list_map_key: the list is a
    map keyed by this member. rules: (CEL expression over `self`, message that names the fix). schema: literal parts of
    the field's OpenAPI schema that replace what would be derived.
    """
    bounds = {"minimum": ge, "maximum": le, "pattern": pattern}
    lengths = {"min": min_length, "max": max_length}
    return msgspec.Meta(
        description=description,
        # Not msgspec's own constraints: those refuse optional types, and checking is the API server's and the CLI's work.
        extra={
            "bounds": {name: bound for name, bound in bounds.items() if bound is not None},
            "lengths": {name: length for name, length in lengths.items() if length is not None},
            "list_map_key": list_map_key,
            "list_is_set": list_is_set,
            "rules": tuple(rules),
            "schema": dict(schema or {}),
        },
    )


class Spec(msgspec.Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    """Base of every resource value: immutable, camelCase on the wire, defaults left out when encoded.

    A class attribute `RULES` holds CEL rules over the whole object, as in `field`.
    """


#: CEL rules of a struct, found by the generator: {class name: ((rule, message), ...)}.
RULES: dict[str, tuple[tuple[str, str], ...]] = {}


def rules(*pairs: tuple[str, str]) -> Any:
    """Class decorator: CEL rules over the whole object; each is (expression over `self`, message that names the fix)."""

    def note(cls: type) -> type:
        RULES[cls.__name__] = pairs
        return cls

    return note
