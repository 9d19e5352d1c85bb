"""What all entities share: attributes that cannot be misspelled, one look at the terminal and in notebooks, one way out."""

import dataclasses
import os
from collections.abc import Mapping
from html import escape
from typing import Any

from stoker.errors import BadInput, did_you_mean, shown

#: A value's text in a repr or a table is cut behind so many characters.
_LONGEST = 120


class Entity:
    """Base of the dataclasses here. An attribute that does not exist is refused, with the one that was meant."""

    def __setattr__(self, name: str, value: Any) -> None:
        if not name.startswith("_") and name not in _names(type(self)):
            kind = type(self).__name__
            raise BadInput(
                f"{kind}.{name}", f"{shown(value)}: no such attribute", did_you_mean(name, _names(type(self)))
            )
        object.__setattr__(self, name, value)

    def __repr__(self) -> str:
        parts = [f"{name}={_cut(repr(value))}" for name, value in self._told()]
        line = f"{type(self).__name__}({', '.join(parts)})"
        return line if len(line) <= _LONGEST else f"{type(self).__name__}(\n    " + ",\n    ".join(parts) + ",\n)"

    def _repr_html_(self) -> str:
        return html_table(type(self).__name__, {name: str(value) for name, value in self._told()})

    def _told(self) -> list[tuple[str, Any]]:
        """What was said of it, in order."""
        assert dataclasses.is_dataclass(self)
        fields = [one.name for one in dataclasses.fields(self) if one.repr]
        pairs = [(name, getattr(self, name)) for name in fields]
        return [(name, value) for name, value in pairs if value is not None and value != {}]


def html_table(title: str, rows: Mapping[str, str]) -> str:
    """A two-column table for notebooks."""
    lines = "".join(
        f'<tr><th style="text-align:left">{escape(name)}</th><td style="text-align:left">{escape(_cut(text))}</td></tr>'
        for name, text in rows.items()
    )
    return f"<table><caption>{escape(title)}</caption>{lines}</table>"


def said(**values: Any) -> dict[str, Any]:
    """The mapping of a job's file: what was given, nothing for None and for what is empty. Paths and entities become what
    a file would have."""
    found = {name: plain(value) for name, value in values.items()}
    return {name: value for name, value in found.items() if value is not None and value != {} and value != []}


def plain(value: Any) -> Any:
    """A value as a file has it."""
    if isinstance(value, Entity):
        return value.as_mapping()  # type: ignore[attr-defined]
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    return [plain(item) for item in value] if isinstance(value, list | tuple) else value


def _names(kind: type) -> set[str]:
    return {one.name for one in dataclasses.fields(kind)} | {
        name for name in dir(kind) if isinstance(getattr(kind, name, None), property)
    }


def _cut(text: str) -> str:
    return text if len(text) <= _LONGEST else text[: _LONGEST - 1] + "…"
