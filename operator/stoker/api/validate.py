"""Manifests checked without an API server: the same schema and the same rules, with messages for people.

    problems("TrainingJob", document)

gives every problem at once: the field, the value that stands there, what is wrong and what to do.
"""

import re
from collections.abc import Iterator, Mapping
from typing import Any

import msgspec

from stoker.api.names import API_VERSION
from stoker.api.openapi import RULES_KEY, Schema, kind_schema
from stoker.api.resources import kind_named
from stoker.api.twins import offence
from stoker.errors import did_you_mean

_NAME = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*\Z")
_TYPES = {
    "string": ("text", "put it in quotes"),
    "integer": ("a whole number", "write digits without quotes"),
    "number": ("a number", "write digits without quotes"),
    "boolean": ("true or false", "write true or false without quotes"),
    "object": ("a mapping", "write `name: value` lines below it"),
    "array": ("a list", "write items that start with `- ` below it"),
}


class Problem(msgspec.Struct, frozen=True):
    """One thing that the API server would refuse.

    path: dotted, `spec.command.env[2].name`; empty for the document itself. value: what stands there, None when nothing
    does or when it is long. message: what is wrong. fix: what to do.
    """

    path: str
    value: Any
    message: str
    fix: str

    def __str__(self) -> str:
        return f"{self.path}: {self.message}; {self.fix}" if self.path else f"{self.message}; {self.fix}"


def problems(kind: str, document: Any, former: Mapping[str, Any] | None = None) -> list[Problem]:
    """What the API server would refuse in a manifest of a kind, in the order of the schema.

    document: as loaded from YAML or JSON; its status is not looked at. former: the object as it
    is, to check an update. Raises KeyError for a kind that is not Stoker's.
    """
    schema = kind_schema(kind_named(kind).kind)
    if not isinstance(document, Mapping):
        return [Problem("", None, f"this is not a {kind}, but {_named(document)}", "write a manifest (a mapping)")]
    document = {member: value for member, value in document.items() if member != "status"}
    found = [*_head(kind, document), *_shape(schema, document, "")]
    if any(one.path in ("metadata.name", "metadata") for one in found):
        # Rules over the whole object look at the name; said once is enough.
        return found
    before = _settled(schema, former) if former is not None else None
    return [*found, *_broken(schema, _settled(schema, document), before, "", found)]


def _head(kind: str, document: Mapping[str, Any]) -> Iterator[Problem]:
    """apiVersion, kind and name: what is checked before the schema is chosen."""
    for member, expected in (("apiVersion", API_VERSION), ("kind", kind)):
        given = document.get(member)
        if given != expected:
            message = "is missing" if given is None else f"{given!r} is not {expected}"
            yield Problem(member, given, message, f"write {member}: {expected}")
    metadata = document.get("metadata")
    if not isinstance(metadata, Mapping) or not metadata.get("name"):
        yield Problem("metadata.name", None, "is missing", "give the object a name")
        return
    name = metadata["name"]
    if not isinstance(name, str) or len(name) > 253 or not _NAME.match(name):
        message = f"{name!r} is not a name for Kubernetes"
        yield Problem("metadata.name", name, message, "write lower-case letters, digits and dashes, at most 63")


def _shape(schema: Schema, value: Any, path: str) -> Iterator[Problem]:
    """Types, bounds, unknown and missing members."""
    if value is None:
        if "default" not in schema:
            yield Problem(path, None, "is empty (null)", "remove the field or give it a value")
        return
    if schema.get("x-kubernetes-int-or-string"):
        yield from _quantity(schema, value, path)
        return
    expected = schema.get("type")
    if expected is not None and not _is(expected, value):
        what, fix = _TYPES[expected]
        yield Problem(path, value, f"{value!r} is {_named(value)}, not {what}", fix)
        return
    yield from _bounds(schema, value, path)
    if isinstance(value, Mapping):
        yield from _members(schema, value, path)
    elif isinstance(value, list | tuple):
        yield from _items(schema, value, path)


def _quantity(schema: Schema, value: Any, path: str) -> Iterator[Problem]:
    if _is("integer", value) or isinstance(value, str):
        yield from _bounds(schema, value, path)
    else:
        message = f"{value!r} is {_named(value)}, not a quantity"
        yield Problem(path, value, message, f'put it in quotes: "{value}"')


def _members(schema: Schema, value: Mapping[str, Any], path: str) -> Iterator[Problem]:
    properties: dict[str, Schema] = schema.get("properties", {})
    others = schema.get("additionalProperties")
    for name in schema.get("required", ()):
        if value.get(name) is None:
            yield Problem(_join(path, name), None, "is missing", f"add it: {properties[name]['description']}")
    for name, member in value.items():
        here = _join(path, str(name))
        if name in properties:
            if member is not None or name not in schema.get("required", ()):
                yield from _shape(properties[name], member, here)
        elif isinstance(others, dict):
            yield from _shape(others, member, here)
        elif properties and not schema.get("x-kubernetes-preserve-unknown-fields"):
            yield Problem(here, None, f"unknown field {str(name)!r}", did_you_mean(str(name), list(properties)))


def _items(schema: Schema, value: Any, path: str) -> Iterator[Problem]:
    inner = schema.get("items", {})
    keys = schema.get("x-kubernetes-list-map-keys", ())
    seen: set[str] = set()
    for number, item in enumerate(value):
        here = f"{path}[{number}]"
        yield from _shape(inner, item, here)
        key = repr([item.get(name) for name in keys]) if keys and isinstance(item, Mapping) else repr(item)
        if key in seen and schema.get("x-kubernetes-list-type") in ("map", "set"):
            said = f"{keys[0]} {item[keys[0]]!r}" if keys and isinstance(item, Mapping) else repr(item)
            yield Problem(here, None, f"a second item with {said}", "keep one of them")
        seen.add(key)


def _bounds(schema: Schema, value: Any, path: str) -> Iterator[Problem]:
    if "enum" in schema and value not in schema["enum"]:
        allowed = ", ".join(schema["enum"])
        yield Problem(path, value, f"{value!r} is not one of {allowed}", did_you_mean(str(value), schema["enum"]))
    if isinstance(value, int | float) and not isinstance(value, bool):
        low, high = schema.get("minimum"), schema.get("maximum")
        if low is not None and value < low:
            yield Problem(path, value, f"{value} is less than {low}", f"write {low} or more")
        if high is not None and value > high:
            yield Problem(path, value, f"{value} is more than {high}", f"write {high} or less")
        return
    if isinstance(value, str | Mapping | list | tuple):
        yield from _lengths(schema, value, path)
    if isinstance(value, str) and "pattern" in schema and not re.search(_python(schema["pattern"]), value):
        if schema.get("x-kubernetes-int-or-string"):
            fix = "write a number, with a unit where there is one, such as 2, 500m or 16Gi"
            yield Problem(path, value, f"{value!r} is not a quantity of Kubernetes", fix)
        else:
            yield Problem(path, value, f"{value!r} does not fit {schema['pattern']}", f"write {schema['description']}")


_ONE = {"characters": "character", "items": "item", "entries": "entry"}


def _lengths(schema: Schema, value: Any, path: str) -> Iterator[Problem]:
    suffix, unit = ("Length", "characters") if isinstance(value, str) else ("Items", "items")
    if isinstance(value, Mapping):
        suffix, unit = "Properties", "entries"
    low, high = schema.get(f"min{suffix}"), schema.get(f"max{suffix}")
    if low is not None and len(value) < low:
        message = "is empty" if not value else f"has {len(value)} {unit}, fewer than {low}"
        yield Problem(path, None, message, f"write at least {low} {unit if low > 1 else _ONE[unit]}")
    if high is not None and len(value) > high:
        yield Problem(
            path,
            None,
            f"has {len(value)} {unit}, more than {high}",
            f"write at most {high} {unit if high > 1 else _ONE[unit]}",
        )


def _broken(schema: Schema, value: Any, former: Any, path: str, found: list[Problem]) -> Iterator[Problem]:
    """The rules that a value breaks, its members' own included. Rules see only values whose shape is right."""
    for rule in schema.get(RULES_KEY, ()):
        if any(_within(one.path, path) for one in found):
            break
        offending = offence(rule.message, value, former)
        if offending is not None:
            at = path + rule.at if path else rule.at.lstrip(".") or "metadata.name"
            yield Problem(at, offending or None, rule.message, rule.fix)
    if isinstance(value, Mapping):
        for name, member in value.items():
            inner = schema.get("properties", {}).get(name) or schema.get("additionalProperties")
            if isinstance(inner, dict):
                before = former.get(name) if isinstance(former, Mapping) else None
                yield from _broken(inner, member, before, _join(path, str(name)), found)
    elif isinstance(value, list | tuple):
        for number, item in enumerate(value):
            yield from _broken(schema.get("items", {}), item, None, f"{path}[{number}]", found)


def _settled(schema: Schema, value: Any) -> Any:
    """A value with the schema's defaults filled in, as rules see it. Members that are null are left out."""
    if isinstance(value, Mapping):
        properties: dict[str, Schema] = schema.get("properties", {})
        others = schema.get("additionalProperties")
        whole = {name: member for name, member in value.items() if member is not None}
        for name, inner in properties.items():
            if name not in whole and "default" in inner and name != "status":
                whole[name] = inner["default"]
        return {
            name: _settled(properties.get(name) or (others if isinstance(others, dict) else {}), member)
            for name, member in whole.items()
        }
    if isinstance(value, list | tuple):
        return [_settled(schema.get("items", {}), item) for item in value]
    return value


def _within(path: str, outer: str) -> bool:
    return not outer or path == outer or path.startswith((f"{outer}.", f"{outer}["))


def _is(expected: str, value: Any) -> bool:
    if isinstance(value, bool):
        return expected == "boolean"
    if expected == "integer":
        return isinstance(value, int)
    if expected == "number":
        return isinstance(value, int | float)
    shapes: dict[str, Any] = {"string": str, "object": Mapping, "array": (list, tuple)}
    return expected in shapes and isinstance(value, shapes[expected])


def _named(value: Any) -> str:
    """What a person calls a value of this type."""
    if value is None:
        return "nothing"
    if isinstance(value, float):
        return "a fraction"
    return next((what for name, (what, _) in _TYPES.items() if _is(name, value)), type(value).__name__)


def _join(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name


def _python(pattern: str) -> str:
    # RE2's $ is the end of the text; Python's also matches before a last newline.
    return pattern.removesuffix("$") + r"\Z" if pattern.endswith("$") else pattern
