"""Files that a project has already (requirements, conda files, Dockerfiles), taken into an Environment's spec.

Each gives what the spec says and, for messages, the file and line of every part of it.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from stoker.core.environment import basefile
from stoker.core.environment.pip import logical_lines
from stoker.core.environment.problems import Place
from stoker.core.yaml12 import Document, parse
from stoker.core.yaml12 import Path as FieldPath
from stoker.errors import BadInput, BadInputs
from stoker.sdk.draft import shown

_MOST_DEPTH = 8


@dataclass
class Requirements:
    """Lines of requirements files with their places. folders: of `--find-links FOLDER`, absolute."""

    lines: list[str] = field(default_factory=list)
    where: list[str] = field(default_factory=list)
    folders: list[str] = field(default_factory=list)
    taken: set[tuple[Path, bool]] = field(default_factory=set)

    def take_file(self, path: Path, source: str, *, bounds: bool = False, depth: int = 0, named: str = "") -> None:
        """All lines of a file and of those that it names, each file once; of bounds (`-c`) each as a bound in place. named:
        where."""
        if (path.resolve(), bounds) in self.taken:
            return
        self.taken.add((path.resolve(), bounds))
        text = read_text(path, named)
        for line, number in logical_lines(text):
            self.take(line, path.parent, f"{source}:{number}", bounds=bounds, depth=depth)

    def take(self, line: str, folder: Path, where: str, *, bounds: bool = False, depth: int = 0) -> None:
        """One line of a file in a folder; other files that it names are taken in its place."""
        match = re.match(r"(-r|--requirement|-c|--constraint|-f|--find-links)(?:[= ]\s*|(?=[^-\s=]))(.*)\Z", line)
        word, value = (match[1], match[2].strip()) if match else ("", "")
        if word in ("-f", "--find-links") and "://" not in value:
            self.folders.append(str((folder / value.strip("'\"")).resolve()))
        elif word in ("-r", "--requirement", "-c", "--constraint") and "://" not in value:
            other = folder / value
            if not other.is_file() or depth >= _MOST_DEPTH:
                message = f"{shown(line)}: no such file beside it, or files that name files {_MOST_DEPTH} deep"
                raise BadInput("environment", message, "name a file that exists", where)
            bound = bounds or word in ("-c", "--constraint")
            self.take_file(other, value, bounds=bound, depth=depth + 1, named=where)
        else:
            self.lines.append(f"-c {line}" if bounds and not line.startswith("-") else line)
            self.where.append(where)


def read_text(path: Path, where: str = "") -> str:
    """A file's text; raises BadInput."""
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise BadInput("environment", f"cannot read {path}: {error}", "name a readable UTF-8 file", where) from None


def conda_document(path: Path, source: str) -> Document:
    """The one mapping of a conda file; raises BadInput."""
    documents = parse(read_text(path), source)
    if len(documents) != 1 or not isinstance(documents[0].value, dict):
        raise BadInput("environment", f"{source} is not one mapping", "write channels and dependencies", source)
    return documents[0]


def conda(
    document: Document, at: FieldPath, folder: Path, where: dict[FieldPath, str], folders: list[str]
) -> dict[str, Any]:
    """The `conda` member of a spec from a mapping in a document; its place in the spec goes into where. Requirements files
    that its pip section names are taken in; paths are relative to folder."""
    value: Any = document.value
    for part in at:
        value = value[part]
    where |= {("conda", *path[len(at) :]): document.where(path) for path in document.lines if path[: len(at)] == at}
    found = {key: item for key, item in value.items() if key not in ("name", "prefix")}
    if isinstance(found.get("dependencies"), list):
        found["dependencies"] = list(found["dependencies"])
        for number, item in enumerate(found["dependencies"]):
            if isinstance(item, dict) and set(item) == {"pip"} and isinstance(item["pip"], list):
                place = ("conda", "dependencies", number, "pip")
                found["dependencies"][number] = {"pip": _pip_section(item["pip"], place, folder, where, folders)}
    return found


def _pip_section(
    items: list[Any], place: FieldPath, folder: Path, where: dict[FieldPath, str], folders: list[str]
) -> list[Any]:
    taken = Requirements()
    lines: list[Any] = []
    places = [where.get((*place, number), where.get(place, "")) for number in range(len(items))]
    for item, here in zip(items, places, strict=True):
        before = len(taken.lines)
        if isinstance(item, str):
            for line, _ in logical_lines(item):
                taken.take(line, folder, here)
            lines += zip(taken.lines[before:], taken.where[before:], strict=True)
        else:
            lines.append((item, here))
    where |= {(*place, number): here for number, (_, here) in enumerate(lines)}
    folders += taken.folders
    return [line for line, _ in lines]


def dockerfile(
    path: Path, source: str, secret_ids: set[str], where: dict[FieldPath, str], front: str
) -> Mapping[str, Any]:
    """The `image` and `dockerSteps` of a Dockerfile; raises BadInputs with all that is wrong in it."""
    image, steps, problems = basefile.read(read_text(path), Place(("build",), source), secret_ids)
    if problems:
        raise BadInputs(tuple(BadInput(front, one.message, one.fix, one.where) for one in problems))
    where |= {("dockerSteps", number): f"{source}:{step.line}" for number, step in enumerate(steps)}
    where[("image",)] = source
    return {"image": image, **({"dockerSteps": [step.text for step in steps]} if steps else {})}
