"""YAML as people mean it: 1.2's booleans and numbers, no key twice, and line and column of every value.

`yes`, `no`, `on`, `off` are text; `1e-3` and `0o17` are numbers; a number remembers how it was written, since
`lr: 0.10` in a job's inputs must reach the command as `0.10`.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import yaml

from stoker.errors import BadInput

Path: TypeAlias = tuple[str | int, ...]

_BOOL = {"true": True, "True": True, "TRUE": True, "false": False, "False": False, "FALSE": False}
_SURROGATE = re.compile("[\ud800-\udfff]")
_NULL = {"", "~", "null", "Null", "NULL"}
_INT = re.compile(r"[-+]?[0-9]+\Z")
_BASED = {"0o": (re.compile(r"0o[0-7]+\Z"), 8), "0x": (re.compile(r"0x[0-9a-fA-F]+\Z"), 16)}
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?\Z")
_SPECIAL = {".inf": "inf", "+.inf": "inf", "-.inf": "-inf", ".nan": "nan"}

#: Python reads no longer ones; a text of digits stays text.
_MOST_DIGITS = 4000
_COLLECTIONS = {"tag:yaml.org,2002:map", "tag:yaml.org,2002:seq"}

#: More values than any job file has: a document that grows by aliases within aliases stops here.
MAX_VALUES = 100_000


class WrittenInt(int):
    """A whole number and how it was written."""

    text: str


class WrittenFloat(float):
    """A number and how it was written."""

    text: str


def text_of(value: Any) -> str:
    """A scalar as the command gets it: numbers as written, booleans as `true` and `false`, nothing as ``."""
    if isinstance(value, WrittenInt | WrittenFloat):
        return value.text
    if isinstance(value, bool):
        return "true" if value else "false"
    return "" if value is None else str(value)


@dataclass(frozen=True)
class Document:
    """One YAML document: its value, the file it came from, and line and column of each key and item (from 1)."""

    value: Any
    source: str
    lines: Mapping[Path, int] = field(default_factory=dict)
    columns: Mapping[Path, int] = field(default_factory=dict)

    def where(self, path: Path) -> str:
        """`file:line` of a value, or of the nearest one around it."""
        while path and path not in self.lines:
            path = path[:-1]
        line = self.lines.get(path)
        return f"{self.source}:{line}" if line else self.source

    def point(self, path: Path) -> str:
        """`file:line:column` of a value, or of the nearest one around it."""
        while path and path not in self.lines:
            path = path[:-1]
        column = self.columns.get(path)
        return f"{self.where(path)}:{column}" if column else self.where(path)


class _Loader(yaml.SafeLoader):
    """Resolves no plain scalar by YAML 1.1's rules: `_scalar` does it by 1.2's."""

    yaml_implicit_resolvers: dict[str | None, list[tuple[str, re.Pattern[str]]]] = {  # noqa: RUF012
        None: [("!plain", re.compile(r".*\Z", re.DOTALL))]
    }


def parse(text: str, source: str) -> tuple[Document, ...]:
    """The documents of a YAML (or JSON) text; empty ones are left out.

    Raises BadInput with line and column for text that is not YAML, a key that stands twice, and tags that are not plain data.
    """
    documents = []
    try:
        loader = _Loader(text.removeprefix("\ufeff"))
        while loader.check_node():
            node = loader.get_node()
            assert node is not None, "check_node has said so"
            builder = _Builder(source)
            value = builder.build(node, ())
            if value is not None:
                documents.append(Document(value, source, builder.lines, builder.columns))
    except RecursionError:
        raise BadInput("", "is nested too deeply", "write it with fewer levels", source) from None
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = f"{source}:{mark.line + 1}:{mark.column + 1}" if mark else source
        raise BadInput(
            "", f"not valid YAML: {error.problem or error.context}", "check indentation and quotes", where
        ) from None
    except yaml.YAMLError as error:
        raise BadInput(
            "", f"not valid YAML: {str(error).splitlines()[0]}", "save the file as UTF-8 text", source
        ) from None
    return tuple(documents)


class _Builder:
    def __init__(self, source: str) -> None:
        self.source = source
        self.lines: dict[Path, int] = {}
        self.columns: dict[Path, int] = {}
        self._open: set[int] = set()

    def build(self, node: yaml.Node, path: Path) -> Any:
        self._note(path, node.start_mark)
        if len(self.lines) > MAX_VALUES:
            raise self._bad(node, path, f"more than {MAX_VALUES} values", "split the file")
        if isinstance(node, yaml.ScalarNode):
            return self._scalar(node, path)
        if node.tag not in _COLLECTIONS:
            raise self._bad(node, path, f"the tag {node.tag} is not plain data", "write the value without a tag")
        if id(node) in self._open:
            raise self._bad(node, path, "an alias that contains itself", "write the value out")
        self._open.add(id(node))
        try:
            if isinstance(node, yaml.SequenceNode):
                return [self.build(item, (*path, index)) for index, item in enumerate(node.value)]
            assert isinstance(node, yaml.MappingNode)
            return self._mapping(node, path)
        finally:
            self._open.discard(id(node))

    def _note(self, path: Path, mark: yaml.Mark) -> None:
        self.lines.setdefault(path, mark.line + 1)
        self.columns.setdefault(path, mark.column + 1)

    def _mapping(self, node: yaml.MappingNode, path: Path) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for key_node, value_node in node.value:
            if not isinstance(key_node, yaml.ScalarNode):
                raise self._bad(key_node, path, "a key that is a list or a mapping", "keys are text")
            key = str(key_node.value)
            if key in found:
                first = self.lines[(*path, key)]
                raise self._bad(key_node, (*path, key), f"stands twice, first on line {first}", "keep one of the two")
            self._note((*path, key), key_node.start_mark)
            found[key] = self.build(value_node, (*path, key))
        return found

    def _scalar(self, node: yaml.ScalarNode, path: Path) -> Any:
        if problem := text_problem(node.value):
            raise self._bad(node, path, problem, "leave it out")
        tag = node.tag.removeprefix("tag:yaml.org,2002:")
        if node.tag in ("!plain", "!"):
            return plain(node.value) if node.style is None and node.tag == "!plain" else node.value
        if tag == "str":
            return node.value
        if tag in ("int", "float", "bool", "null"):
            return plain(node.value)
        raise self._bad(node, path, f"the tag {node.tag} is not plain data", "write the value without a tag")

    def _bad(self, node: yaml.Node, path: Path, message: str, fix: str) -> BadInput:
        mark = node.start_mark
        return BadInput(dotted(path), message, fix, f"{self.source}:{mark.line + 1}:{mark.column + 1}")


def text_problem(text: str) -> str | None:
    """Why no command line, variable or record can carry this text, or None."""
    if "\0" in text:
        return "has a NUL character in it"
    return "is not valid Unicode" if _SURROGATE.search(text) else None


def plain(text: str) -> Any:
    """What a plain scalar means by YAML 1.2's core schema."""
    if text in _NULL:
        return None
    if text in _BOOL:
        return _BOOL[text]
    if _INT.match(text) and len(text) <= _MOST_DIGITS:
        return _written(WrittenInt(text), text)
    for prefix, (pattern, base) in _BASED.items():
        if text.startswith(prefix) and pattern.match(text):
            return _written(WrittenInt(text[2:], base), text)
    if _FLOAT.match(text):
        return _written(WrittenFloat(text), text)
    if text.lower() in _SPECIAL:
        return _written(WrittenFloat(_SPECIAL[text.lower()]), text)
    return text


def _written(number: Any, text: str) -> Any:
    number.text = text
    return number


def dotted(path: Path) -> str:
    """`inputs.lr`, `environment.pip[2]`."""
    out = ""
    for part in path:
        out += f"[{part}]" if isinstance(part, int) else (f".{part}" if out else str(part))
    return out
