"""`${{inputs.x}}` and `${{outputs.x}}` in a command become texts; anything else in it belongs to the shell."""

import difflib
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

_PLACE = re.compile(r"\$\{\{(?P<body>.*?)\}\}", re.DOTALL)
_NAMED = re.compile(r"\s*(?P<kind>inputs|outputs)\.(?P<name>[A-Za-z_][A-Za-z0-9_]*)\s*\Z")


@dataclass(frozen=True, slots=True)
class CommandProblem:
    """What is wrong with a placeholder: which field, what it says, and what to write instead."""

    field: str
    message: str
    fix: str

    def __str__(self) -> str:
        return f"{self.field}: {self.message}; {self.fix}"


def problems(
    command: str, inputs: Iterable[str], outputs: Iterable[str], field: str = "spec.command.command"
) -> tuple[CommandProblem, ...]:
    """Placeholders that name nothing, in the order of the text. inputs, outputs: the declared names."""
    declared = {"inputs": tuple(inputs), "outputs": tuple(outputs)}
    found = (_problem(match, declared, field) for match in _PLACE.finditer(command))
    return tuple(problem for problem in found if problem)


def resolve(command: str, inputs: Mapping[str, str], outputs: Mapping[str, str]) -> str:
    """The command with every placeholder replaced by its text: an input's literal or place, an output's place.

    The texts go in as they are: the user's own quotes around a placeholder hold. A placeholder that names nothing stays
    as it stands; ask `problems` first.
    """
    texts = {"inputs": inputs, "outputs": outputs}

    def text(match: re.Match[str]) -> str:
        named = _NAMED.match(match["body"])
        return texts[named["kind"]].get(named["name"], match[0]) if named else match[0]

    return _PLACE.sub(text, command)


def _problem(match: re.Match[str], declared: Mapping[str, tuple[str, ...]], field: str) -> CommandProblem | None:
    named = _NAMED.match(match["body"])
    if named is None:
        return CommandProblem(
            field,
            f"{match[0]} is not a placeholder",
            "write ${{inputs.NAME}} or ${{outputs.NAME}}, or $NAME for the shell",
        )
    kind, name = named["kind"], named["name"]
    if name in declared[kind]:
        return None
    known = ", ".join(sorted(declared[kind])) or "none"
    near = difflib.get_close_matches(name, declared[kind], n=1)
    hint = f"did you mean {near[0]}?" if near else f"declare it under spec.{kind}"
    return CommandProblem(field, f"{match[0]} names no declared {kind[:-1]} (declared: {known})", hint)
