"""docs/reference/sdk.md: the SDK's public names, from their signatures and docstrings."""

import inspect
from typing import Any

from stoker import sdk
from stoker.sdk import mlclient

_MOST = 100


def page() -> str:
    """The page."""
    parts = [
        "# Python SDK",
        "",
        "What `from stoker import ...` gives. Generated from the code; [how to use it](../how-to/python-sdk.md).",
        "",
        "`AsyncClient` has the calls of `Client` as coroutines. Names marked with * are in `stoker.sdk` alone.",
        "",
    ]
    import stoker

    for name in sorted(sdk.__all__, key=str.lower):
        found = getattr(sdk, name)
        star = "" if name in dir(stoker) else "*"
        parts += [f"## {name}{star}", "", "```", _signature(name, found), "```", "", _text(found), ""]
    for name in ("JobOperations", "EnvironmentOperations", "ComputeOperations"):
        kind = getattr(mlclient, name)
        attribute = {"JobOperations": "jobs", "EnvironmentOperations": "environments"}.get(name, "compute")
        parts += [f"## client.{attribute}", "", _text(kind), ""]
        for method, function in vars(kind).items():
            if not method.startswith("_"):
                parts += [
                    f"### client.{attribute}.{method}",
                    "",
                    "```",
                    _signature(method, function),
                    "```",
                    "",
                    _text(function),
                    "",
                ]
    return "\n".join(parts).rstrip() + "\n"


def _signature(name: str, found: Any) -> str:
    """`name(a, *, b=None)`, one argument a line where it is long. Types are the editor's affair."""
    arguments, star = [], False
    for one in inspect.signature(found).parameters.values():
        if one.name == "self":
            continue
        if one.kind is one.KEYWORD_ONLY and not star:
            arguments.append("*")
            star = True
        default = "" if one.default is one.empty else f"={_default(one.default)}"
        front = {one.VAR_KEYWORD: "**", one.VAR_POSITIONAL: "*"}.get(one.kind, "")
        arguments.append(f"{front}{one.name}{default}")
    line = f"{name}({', '.join(arguments)})"
    return line if len(line) <= _MOST else f"{name}(\n    " + ",\n    ".join(arguments) + ",\n)"


def _default(value: Any) -> str:
    """A default as it is written; a fresh empty value stands for what a factory makes."""
    return "..." if "factory" in type(value).__name__.lower() else repr(value)


def _text(found: Any) -> str:
    return inspect.cleandoc(found.__doc__ or "")
