"""What the types of this package mean as an OpenAPI schema: structural, closed and bounded, as a CRD needs it.

Pure: types in, dicts out. `tools/generate.py` writes the files, `stoker.api.validate` checks documents against the
same dicts, so that what the API server refuses is refused without one too.
"""

import types
import typing
from collections.abc import Mapping
from functools import cache
from typing import Annotated, Any, Literal, Union

import msgspec

from stoker.api.common import KINDS, Kind
from stoker.api.names import API_VERSION, GROUP, VERSION
from stoker.api.schema import RULES, Rule, Spec

Schema = dict[str, Any]

#: Under this key a schema holds its `Rule`s; `plain` writes them as the API server's x-kubernetes-validations.
RULES_KEY = "x-stoker-rules"

_SCALARS: dict[Any, Schema] = {
    str: {"type": "string"},
    bool: {"type": "boolean"},
    int: {"type": "integer"},
    float: {"type": "number"},
}
_LENGTHS = {"string": "Length", "array": "Items", "object": "Properties"}


class SchemaError(TypeError):
    """A type of the vocabulary that has no structural schema; the message names class and field."""


def crd(kind: Kind) -> Schema:
    """The CustomResourceDefinition of a kind."""
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{kind.plural}.{GROUP}"},
        "spec": {
            "group": GROUP,
            "scope": "Namespaced" if kind.namespaced else "Cluster",
            "names": {
                "kind": kind.kind,
                "listKind": f"{kind.kind}List",
                "plural": kind.plural,
                "singular": kind.kind.lower(),
                "shortNames": [kind.short],
                "categories": ["stoker"],
            },
            "versions": [
                {
                    "name": VERSION,
                    "served": True,
                    "storage": True,
                    "subresources": {"status": {}},
                    "additionalPrinterColumns": [
                        {"name": title, "type": type_, "jsonPath": path} for title, type_, path in kind.columns
                    ],
                    "schema": {"openAPIV3Schema": plain(kind_schema(kind.kind))},
                }
            ],
        },
    }


@cache
def kind_schema(kind: str) -> Schema:
    """The schema of a whole object of a kind, as it stands in its CRD. Not to be changed by callers."""
    of = KINDS[kind].type
    hints = typing.get_type_hints(of, include_extras=True)
    members = {member.name: member for member in msgspec.structs.fields(of)}
    status = _schema(hints["status"], f"{kind}.status", settled=False)
    if KINDS[kind].first_status:
        status["default"] = KINDS[kind].first_status
    schema: Schema = {
        "description": doc(of),
        "type": "object",
        "required": [name for name in ("spec",) if members[name].required],
        "properties": {
            "apiVersion": {"description": f"`{API_VERSION}`.", "type": "string"},
            "kind": {"description": f"`{kind}`.", "type": "string"},
            # A CRD may say nothing of metadata, not even what it is.
            "metadata": {"type": "object"},
            "spec": _with_default(_schema(hints["spec"], f"{kind}.spec"), members["spec"]),
            "status": status,
        },
        RULES_KEY: RULES.get(of.__name__, ()),
    }
    return _without_empty(schema)


def doc(of: type) -> str:
    """A class's docstring with its line breaks taken out."""
    return " ".join((of.__doc__ or "").split())


def _struct(of: type[Spec], where: str, *, settled: bool) -> Schema:
    hints = typing.get_type_hints(of, include_extras=True)
    properties, required = {}, []
    for member in msgspec.structs.fields(of):
        schema = _schema(hints[member.name], f"{where}.{member.encode_name}", settled=settled)
        properties[member.encode_name] = _with_default(schema, member) if settled else schema
        if member.required:
            required.append(member.encode_name)
    return _without_empty(
        {
            "description": doc(of),
            "type": "object",
            "required": required,
            "properties": properties,
            RULES_KEY: RULES.get(of.__name__, ()),
        }
    )


def _schema(hint: Any, where: str, *, settled: bool = True) -> Schema:
    """The schema of one type. settled: defaults are filled in by the API server (in specs; never in a status)."""
    hint, metas = _unwrapped(hint)
    literal = any("type" in meta.extra["schema"] for meta in metas if meta.extra)
    schema = {} if literal else _bare(hint, where, settled=settled)
    for meta in metas:
        schema |= _noted(schema, meta)
    schema = _without_empty(schema)
    if not schema.get("description"):
        raise SchemaError(f"{where}: no description; write Annotated[..., field(...)] or a docstring")
    _check_bounds(schema, where)
    return {"description": schema.pop("description"), **schema}


def _unwrapped(hint: Any) -> tuple[Any, list[msgspec.Meta]]:
    """A type without Annotated and None, and the notes on it, innermost first."""
    metas: list[msgspec.Meta] = []
    while True:
        if typing.get_origin(hint) is Annotated:
            hint, *outer = typing.get_args(hint)
            metas = [note for note in outer if isinstance(note, msgspec.Meta)] + metas
        elif typing.get_origin(hint) in (Union, types.UnionType):
            options = [option for option in typing.get_args(hint) if option is not type(None)]
            if len(options) != 1:
                # Only a quantity has two forms, and its note says so.
                return hint, metas
            hint = options[0]
        else:
            return hint, metas


def _bare(hint: Any, where: str, *, settled: bool) -> Schema:
    if hint in _SCALARS:
        return dict(_SCALARS[hint])
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin is Literal:
        return {"type": "string", "enum": list(arguments)}
    if origin is dict:
        return {"type": "object", "additionalProperties": _item(arguments[1], f"{where}.*", settled=settled)}
    if origin is tuple:
        return {"type": "array", "items": _item(arguments[0], f"{where}[]", settled=settled)}
    if isinstance(hint, type) and issubclass(hint, Spec):
        return _struct(hint, where, settled=settled)
    raise SchemaError(f"{where}: {hint} has no structural schema")


def _item(hint: Any, where: str, *, settled: bool) -> Schema:
    """The schema of a list's or map's item: a plain one needs no description of its own."""
    if hint in _SCALARS:
        return dict(_SCALARS[hint])
    if typing.get_origin(hint) is dict:
        return {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
    if hint is Any:
        return {"x-kubernetes-preserve-unknown-fields": True}
    return _schema(hint, where, settled=settled)


def _noted(schema: Schema, meta: msgspec.Meta) -> Schema:
    extra = meta.extra or {}
    kind = schema.get("type", "string")
    noted: Schema = {"description": meta.description, **extra["bounds"]}
    for edge, length in extra["lengths"].items():
        noted[edge + _LENGTHS[kind]] = length
    if kind == "array":
        key = extra["list_map_key"]
        noted["x-kubernetes-list-type"] = "map" if key else "set" if extra["list_is_set"] else "atomic"
        if key:
            noted["x-kubernetes-list-map-keys"] = [key]
    # A struct brings rules of its own; the field's stand beside them.
    noted[RULES_KEY] = (*schema.get(RULES_KEY, ()), *extra["rules"])
    noted.update(extra["schema"])
    return noted


def _validation(rule: Rule) -> Schema:
    validation = {"rule": rule.holds, "message": rule.said}
    if rule.value:
        validation["messageExpression"] = (
            f"{_cel_text(rule.message)} + ' (here: ' + {rule.value} + ')' + {_cel_text('; ' + rule.fix)}"
        )
    if rule.at:
        validation["fieldPath"] = rule.at
    return validation


def _cel_text(text: str) -> str:
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"


def _with_default(schema: Schema, member: msgspec.structs.FieldInfo) -> Schema:
    """Add what the API server fills in. Empty text, lists and maps are left out: they mean the same as nothing."""
    value = member.default
    if member.default_factory is not msgspec.NODEFAULT:
        value = member.default_factory()
    if value is msgspec.NODEFAULT or value is None or value in ("", (), {}):
        return schema
    if isinstance(value, Spec):
        # Its own members' defaults fill it.
        return schema | {"default": msgspec.to_builtins(value)}
    return schema | {"default": value}


def _check_bounds(schema: Schema, where: str) -> None:
    bound = {"array": "maxItems", "object": "maxProperties"}.get(schema.get("type", ""))
    if bound == "maxProperties" and "additionalProperties" not in schema:
        return
    if bound and bound not in schema:
        raise SchemaError(f"{where}: no {bound}; the API server needs a bound to estimate what its rules cost")


def _without_empty(schema: Schema) -> Schema:
    return {key: part for key, part in schema.items() if part not in ([], ()) and part is not None}


def plain(schema: Any) -> Any:
    """A schema as it is written to a CRD: its rules in the API server's form."""
    if isinstance(schema, Mapping):
        written = {key: plain(part) for key, part in schema.items() if key != RULES_KEY}
        if RULES_KEY in schema:
            written["x-kubernetes-validations"] = [_validation(rule) for rule in schema[RULES_KEY]]
        return written
    if isinstance(schema, list | tuple):
        return [plain(part) for part in schema]
    return schema
