"""A file on its way through the tables of fields: all its problems and warnings are gathered, each with line and column."""

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from stoker.core.yaml12 import Document, dotted, text_of
from stoker.core.yaml12 import Path as FieldPath
from stoker.errors import BadInput, BadInputs, did_you_mean, said
from stoker.sdk.azureml.fields import Field, Table
from stoker.sdk.draft import shown


class Reader:
    """A document with what was found wrong (problems) and what will not be as it says (warnings). folder: of the file, that
    paths in it are relative to."""

    def __init__(self, document: Document, folder: Path) -> None:
        self.document = document
        self.folder = folder
        self.problems: list[BadInput] = []
        self.warnings: list[str] = []

    @property
    def root(self) -> dict[str, Any]:
        """The document's mapping; raises BadInput."""
        if not isinstance(self.document.value, dict):
            fix = "start with command: ..."
            raise BadInput("", f"a job file is a mapping, not {shown(self.document.value)}", fix, self.document.source)
        return self.document.value

    def done(self) -> None:
        """Raises BadInputs with all problems, in the order of their lines, where there is one."""
        if self.problems:
            raise BadInputs(tuple(sorted(self.problems, key=_place)))

    # -- What is told.

    def bad(self, path: FieldPath, message: str, fix: str) -> None:
        """Note a problem."""
        self.problems.append(BadInput(dotted(path), message, fix, self.document.point(path)))

    def warn(self, path: FieldPath, message: str) -> None:
        """Note something that will not be as the file says."""
        self.warnings.append(said(dotted(path), message, "", self.document.point(path)))

    def attempt(self, read_it: Callable[[], Any]) -> Any:
        """What a function returns; None where it raises BadInput or BadInputs, which are noted."""
        try:
            return read_it()
        except BadInput as problem:
            self.problems.append(problem)
        except BadInputs as several:
            self.problems += several.problems
        return None

    # -- Keys and values by the tables.

    def keys(self, path: FieldPath, value: Mapping[str, Any], table: Table, front: str | None = None) -> None:
        """Note what becomes of each key of a mapping. front: its place in the table, if that is not its path."""
        front = dotted(path) if front is None else front
        known = below(table, front)
        for key, item in value.items():
            if key not in known:
                shown_keys = {name for name in known if name != "$schema" and known[name].state != "refused"}
                self.bad((*path, key), "unknown key", did_you_mean(key, shown_keys))
            elif item is not None:
                self.field((*path, key), known[key])

    def field(self, path: FieldPath, field: Field, front: str = "") -> bool:
        """Note what becomes of a value; False where that is a problem. front: what stands before the words."""
        if field.state == "refused":
            self.bad(path, front + field.says, field.fix)
        elif field.state == "warns":
            self.warn(path, front + field.says)
        return field.state != "refused"

    def choice(self, path: FieldPath, value: Any, table: Table, place: str) -> str | None:
        """One of the values that a table has for a key, in any letters; None for another one, or one that is refused, which
        is noted. place: the key in the table."""
        choices = {name.partition(": ")[2]: field for name, field in table.items() if name.startswith(f"{place}: ")}
        choices = {name: field for name, field in choices.items() if " " not in name}
        text = value.lower() if isinstance(value, str) else None
        if text not in choices:
            good = [name for name, field in choices.items() if field.state != "refused"]
            said = "is missing" if value is None else f"{shown(value)} is not one of {', '.join(choices)}"
            self.bad(path, said, f"write {' or '.join(good[:2])}")
            return None
        return text if self.field(path, choices[text], f"{shown(value)}: ") else None

    def mapping(self, path: FieldPath, value: Any) -> dict[str, Any]:
        if value is None or isinstance(value, dict):
            return value or {}
        self.bad(path, f"{shown(value)} is not a mapping", "write name: value, one per line")
        return {}

    def text(self, path: FieldPath, value: Any) -> str | None:
        if value is None:
            return None
        if isinstance(value, dict | list):
            self.bad(path, f"{shown(value)} is not text", "write one value")
            return None
        return text_of(value)

    def texts(self, path: FieldPath, value: Any) -> dict[str, str]:
        pairs = self.mapping(path, value)
        return {key: self.text((*path, key), item) or "" for key, item in pairs.items()}

    def number(self, path: FieldPath, value: Any, least: int, most: int, what: str) -> int | None:
        """A whole number within bounds; None for nothing and for anything else, which is noted."""
        if value is None:
            return None
        if isinstance(value, int) and not isinstance(value, bool) and least <= value <= most:
            return int(value)
        self.bad(path, f"{shown(value)} is not {what}", f"write {least} to {most}")
        return None

    def local(self, path: FieldPath, value: Any, what: str, fix: str) -> Path | None:
        """A path of this machine that is there; None for anything else, which is noted. what: such as a local folder."""
        if not isinstance(value, str) or not value or is_remote(value):
            self.bad(path, f"{shown(value)} is not {what}", fix)
            return None
        place = (self.folder / value.removeprefix("file:")).resolve()
        if not place.exists():
            self.bad(path, f"{shown(value)} does not exist ({place})", fix)
            return None
        return place


def below(table: Table, front: str) -> dict[str, Field]:
    """The keys that a table has directly below a place; `*` is any name."""
    start = f"{front}." if front else ""
    found: dict[str, Field] = {}
    for name, field in table.items():
        if name.startswith(start) and ": " not in name:
            key, dot, _ = name.removeprefix(start).partition(".")
            if not dot:
                found[key] = field
            else:
                found.setdefault(key, Field("works"))
    return found


def is_remote(text: str) -> bool:
    """Whether a text is a URL or a reference into Azure ML, not a path of this machine."""
    return bool(re.match(r"(?!file:)[A-Za-z][A-Za-z0-9+.-]+://", text)) or text.startswith("azureml:")


def _place(problem: BadInput) -> tuple[int, int]:
    found = re.search(r":(\d+)(?::(\d+))?\Z", problem.where)
    return (int(found[1]), int(found[2] or 0)) if found else (0, 0)
