"""A command component's file that a job names: what the job does not say comes from it."""

import re
from pathlib import Path
from typing import Any

from stoker.core.yaml12 import Path as FieldPath
from stoker.core.yaml12 import parse, text_of
from stoker.errors import BadInput
from stoker.sdk.azureml import kinds
from stoker.sdk.azureml.fields import COMMAND, COMPONENT
from stoker.sdk.azureml.reading import Reader
from stoker.sdk.draft import shown

LITERALS = {"string": "text", "number": "a number", "integer": "a whole number", "boolean": "true or false"}
_OPTIONAL = re.compile(r"\$\[\[(.*?)\]\]", re.DOTALL)
_INPUT = re.compile(r"\$\{\{\s*inputs\.([A-Za-z_][A-Za-z0-9_]*)\s*\}\}")


def named(job: Reader, value: Any) -> Reader | None:
    """The file that a job's `component` names, its keys looked at; None for one that cannot be had, which is noted."""
    at: FieldPath = ("component",)
    if isinstance(value, str) and value.startswith("azureml:"):
        job.field(at, COMMAND["component: azureml:NAME:VERSION"], f"{shown(value)}: ")
        return None
    path = job.local(at, value, "a file of a component", "name a component's file beside this one")
    if path is None:
        return None
    found: Reader | None = job.attempt(lambda: _read(path, str(value).removeprefix("file:")))
    return found


def _read(path: Path, source: str) -> Reader:
    try:
        documents = parse(path.read_text(encoding="utf-8"), source)
    except (OSError, UnicodeDecodeError) as error:
        raise BadInput("component", f"cannot read {path}: {error}", "name a readable UTF-8 file") from None
    if len(documents) != 1 or not isinstance(documents[0].value, dict):
        raise BadInput("component", f"{source} is not one mapping", "write one component into it", source)
    document = documents[0]
    kind = kinds.kind_of(document, path.name)
    if kind not in ("command", "component"):
        raise BadInput("component", f"{source} is no command component", "name a file with type: command", source)
    reader = Reader(document, path.parent)
    reader.keys((), reader.root, COMPONENT)
    for part in ("inputs", "outputs"):
        for name, one in reader.mapping((part,), reader.root.get(part)).items():
            reader.keys((part, name), reader.mapping((part, name), one), COMPONENT, f"{part}.*")
    return reader


def inputs(job: Reader, component: Reader, given: dict[str, Any]) -> dict[str, Any]:
    """The job's inputs with the component's defaults and types, as a job's file has them."""
    declared = _declared(component, "inputs")
    for name in given.keys() - declared.keys():
        known = ", ".join(declared) or "none"
        job.bad(("inputs", name), f"the component declares no input {shown(name)}", f"it has: {known}")
    found = {name: item for name, item in given.items() if name in declared}
    for name, one in declared.items():
        if name in found and found[name] is not None:
            found[name] = _checked(job, name, found[name], one)
        elif one.get("default") is not None:
            found[name] = _checked(component, name, one["default"], one)
        elif one.get("optional") is True:
            found.pop(name, None)
        else:
            job.bad(("inputs",), f"{name} has no value, and the component needs it", f"write {name}: a value")
    return found


def outputs(component: Reader, given: dict[str, Any]) -> dict[str, Any]:
    """The job's outputs with those that the component declares."""
    declared = {
        name: {key: one[key] for key in ("type", "mode") if key in one} or None
        for name, one in _declared(component, "outputs").items()
    }
    both = {**declared, **given}
    return {
        name: {**(declared.get(name) or {}), **item} if isinstance(item, dict) else declared.get(name, item)
        for name, item in both.items()
    }


def command(text: Any, having: set[str]) -> Any:
    """A component's command with its optional parts kept where every input in them has a value."""
    if not isinstance(text, str):
        return text
    return _OPTIONAL.sub(lambda part: part[1] if set(_INPUT.findall(part[1])) <= having else "", text)


def _declared(component: Reader, part: str) -> dict[str, dict[str, Any]]:
    found = component.root.get(part)
    pairs = found.items() if isinstance(found, dict) else ()
    return {name: one for name, one in pairs if isinstance(one, dict)}


def _checked(reader: Reader, name: str, value: Any, declared: dict[str, Any]) -> Any:
    """A value that fits its declaration; what does not fit is noted."""
    at, kind = ("inputs", name), str(declared.get("type", "")).lower()
    if kind not in LITERALS:
        if isinstance(value, dict) and kind:
            defaults = {key: declared[key] for key in ("type", "mode") if key in declared}
            return {**defaults, **value}
        return value
    if isinstance(value, dict | list) or not _is(kind, value):
        reader.bad(at, f"{shown(value)} is not {LITERALS[kind]}", f"the component declares {name} as {kind}")
        return value
    for bound in ("min", "max"):
        limit = declared.get(bound)
        if not isinstance(limit, int | float) or not isinstance(value, int | float):
            continue
        if value < limit if bound == "min" else value > limit:
            reader.bad(at, f"{shown(value)} is beyond {bound} {text_of(limit)}", "the component sets that bound")
    choices = declared.get("enum")
    if isinstance(choices, list) and text_of(value) not in map(text_of, choices):
        reader.bad(
            at, f"{shown(value)} is not in the component's enum", f"write one of {', '.join(map(text_of, choices))}"
        )
    return value


def _is(kind: str, value: Any) -> bool:
    if kind == "boolean":
        return isinstance(value, bool) or text_of(value).lower() in ("true", "false")
    if kind == "integer":
        return isinstance(value, int) and not isinstance(value, bool)
    if kind == "number":
        return isinstance(value, int | float) and not isinstance(value, bool)
    return True
