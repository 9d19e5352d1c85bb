"""How a field of a resource says its meaning, bounds and rules: the source of CRDs, editor schemas and reference pages.

Every field of a resource is `Annotated[type, field(...)]` (or an alias of one). `stoker.api.openapi` reads these.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, TypeVar, dataclass_transform

import msgspec

T = TypeVar("T", bound=type)


class Rule(NamedTuple):
    """One CEL rule: what must hold, what is said when it does not, and what to do then.

    holds: a CEL expression over `self` (and `oldSelf`: then it is checked on updates only). message: what is wrong.
    fix: what to do instead. at: JSONPath of the field it is about, relative to where the rule stands (`.compute`).
    value: a CEL expression that gives the offending value as text, for rules whose own value is a whole object.
    """

    holds: str
    message: str
    fix: str = ""
    at: str = ""
    value: str = ""

    @property
    def said(self) -> str:
        """Message and fix in one line, as the API server prints it."""
        return f"{self.message}; {self.fix}" if self.fix else self.message

    @property
    def transition(self) -> bool:
        """Whether the rule compares with the former object, and so holds for updates only."""
        return "oldSelf" in self.holds


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
    rules: Sequence[Rule] = (),
    schema: Mapping[str, Any] | None = None,
) -> msgspec.Meta:
    """Metadata of one field.

    description: meaning and unit. ge, le: bounds of a number. min_length, max_length: of a string, a list or a map
    (every list and map has a bound, or the API server cannot estimate what a rule costs). list_map_key: the list is a
    map keyed by this member. rules: CEL rules over the field's value. schema: literal parts of the field's OpenAPI
    schema that replace what would be derived.
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


# msgspec's frozen=True is inherited; type checkers learn so from the decorator.
@dataclass_transform(frozen_default=True, kw_only_default=True, field_specifiers=(msgspec.field,))
class Spec(msgspec.Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    """Base of every resource value: immutable, camelCase on the wire, defaults left out when encoded.

    CEL rules over the whole object stand in the decorator `rules`.
    """


#: CEL rules of a struct, found by the generator: {class name: rules}.
RULES: dict[str, tuple[Rule, ...]] = {}


def rules(*of: Rule) -> Any:
    """Class decorator: CEL rules over the whole object."""

    def note(cls: T) -> T:
        RULES[cls.__name__] = of
        return cls

    return note
