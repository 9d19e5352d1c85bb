"""Finds where a user wrote what a builder names: builders see the canonical form, people know their own lines."""

import re
from collections.abc import Iterator, Mapping
from typing import Any

from stoker.api.environment import EnvironmentSpec

_NAME = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?")
#: `pip.requirements[0]: numpy==99` or `conda.dependencies[2]: numpy<1`, as builders say it.
_WHERE = re.compile(r"(?P<kind>pip|conda)\.[a-z]+\[[0-9]+\]: (?P<text>.+)", re.DOTALL)


def place_of(where: str, spec: EnvironmentSpec, files: Mapping[str, str | None]) -> str:
    """A builder's `where` in the user's words, such as `pip[1]: numpy==99` or `requirements.txt:3: numpy==99`; as it came
    where nothing there has that name. files: those that the spec names, by path."""
    match = _WHERE.match(where)
    name = _name(match["text"]) if match else ""
    if match is None or not name:
        return where
    found = next((place for place, text in _lines(spec, files) if _name(text) == name), "")
    return f"{found}: {match['text']}" if found else where


def _lines(spec: EnvironmentSpec, files: Mapping[str, str | None]) -> Iterator[tuple[str, str]]:
    """Each thing that the user wrote, with its place."""
    for number, text in enumerate(spec.pip):
        yield f"pip[{number}]", text
    if isinstance(spec.conda, str):
        for number, line in enumerate(spec.conda.splitlines(), 1):
            yield f"conda, line {number}", line
    elif spec.conda is not None:
        yield from _entries(spec.conda.get("dependencies"), "conda.dependencies")
    for path, content in files.items():
        for number, line in enumerate((content or "").splitlines(), 1):
            yield f"{path}:{number}", line


def _entries(entries: Any, place: str) -> Iterator[tuple[str, str]]:
    for number, entry in enumerate(entries if isinstance(entries, list | tuple) else ()):
        if isinstance(entry, str):
            yield f"{place}[{number}]", entry
        elif isinstance(entry, Mapping):
            yield from _entries(entry.get("pip"), f"{place}[{number}].pip")


def _name(text: str) -> str:
    """The package that a line is about, in PEP 503's form. A conda channel before it (`forge::numpy`) is none of it."""
    plain = text.strip().lstrip("-").strip().strip("'\"").rpartition("::")[2]
    match = _NAME.match(plain)
    return re.sub(r"[-_.]+", "-", match[0]).lower() if match else ""
