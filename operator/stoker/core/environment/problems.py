"""What is wrong with a definition, and where."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import NamedTuple

from stoker.core.yaml12 import Path, dotted
from stoker.errors import said


class Problem(NamedTuple):
    """One thing that cannot be meant.

    path: below the Environment's spec, such as `("conda", "dependencies", 2)`. message: what is wrong, without any value
    that may be a secret. fix: what to do. file: a file in the code where it stands, or empty. line: in that file, or in
    the text at `path`, from 1; 0 where there is none.
    """

    path: Path
    message: str
    fix: str
    file: str = ""
    line: int = 0

    @property
    def field(self) -> str:
        """`conda.dependencies[2]`."""
        return dotted(self.path)

    @property
    def where(self) -> str:
        """`envs/conda.yaml:7`, `line 7`, or nothing."""
        if self.file:
            return f"{self.file}:{self.line}" if self.line else self.file
        return f"line {self.line}" if self.line else ""

    def __str__(self) -> str:
        return said(self.field, self.message, self.fix, self.where)


class BadDefinition(Exception):
    """A definition that names no environment; `problems` has all that was found, in the order of the spec."""

    def __init__(self, problems: tuple[Problem, ...]) -> None:
        super().__init__(problems)
        self.problems = problems

    def __str__(self) -> str:
        return "\n".join(map(str, self.problems))


@dataclass(frozen=True, slots=True)
class Place:
    """Where a text stands. lines: of a YAML text, the line of each value. inside: which of them it is."""

    path: Path
    file: str = ""
    line: int = 0
    lines: Mapping[Path, int] = field(default_factory=dict)
    inside: Path = ()

    def below(self, *parts: str | int) -> "Place":
        """The place of a value inside."""
        inside = (*self.inside, *parts)
        line = next((self.lines[inside[:n]] for n in range(len(inside), -1, -1) if inside[:n] in self.lines), self.line)
        return replace(self, path=(*self.path, *parts), line=line, inside=inside)

    def on(self, line: int) -> "Place":
        """A line of the text. A text of one line needs no number where its field says enough."""
        return replace(self, line=line)

    def __str__(self) -> str:
        """File and line where there is a file, else the field."""
        found = self.problem("", "")
        return found.where if found.file else found.field

    def problem(self, message: str, fix: str) -> Problem:
        return Problem(self.path, message, fix, self.file, self.line)
