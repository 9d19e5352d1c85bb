"""From the environment that a run names to its definition, and to what this machine has to have for it."""

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stoker.errors import BadInput, BadInputs
from stoker.local.environments.wanted import Wanted
from stoker.sdk.draft import EnvironmentAsked, shown

if TYPE_CHECKING:
    from stoker.core.environment.definition import Definition
    from stoker.core.environment.problems import Problem
    from stoker.sdk.prepare import Tree

_CREDENTIALS = re.compile(r"//[^/@\s]+@")
_FOLDER = re.compile(r"(--find-links|-f)[ =](?!https?:)")


def definition_of(asked: EnvironmentAsked, code: "Tree | None" = None) -> "Definition":
    """The definition of an environment that is not `system` and not a name: the same one that a cluster makes of it.

    code: where files are that the environment names. Raises BadInputs with every problem.
    """
    import msgspec

    from stoker.api.environment import EnvironmentSpec
    from stoker.core.environment import definition
    from stoker.core.environment.problems import BadDefinition

    spec = msgspec.convert(_spec(asked), EnvironmentSpec)
    files: dict[str, str | None] = {}
    while wanted := definition.files_wanted(spec, files):
        files |= {path: _text(code, path) for path in wanted}
    try:
        return definition.read(spec, files, code.hashed.entries if code is not None else None, image_needed=False)
    except BadDefinition as error:
        raise BadInputs(tuple(_told(problem, asked) for problem in error.problems)) from None


def wanted_here(asked: EnvironmentAsked | None, code: "Tree | None" = None) -> Wanted:
    """What this machine has to have. Raises BadInput for docker steps, which only a container runtime can do, and
    BadInputs for a definition that cannot be meant."""
    if asked is None:
        return Wanted()
    if asked.kind == "system":
        return Wanted(system=True)
    from stoker.core.environment.keys import definition_key

    definition = definition_of(asked, code)
    if definition.steps:
        raise BadInput(
            "environment.dockerSteps",
            f"the step {shown(definition.steps[0].splitlines()[0])} cannot run on this machine without a container runtime",
            "add --local-runtime docker (or podman), run with --compute NAME, or --environment system",
            asked.source,
        )
    conda, pip = definition.conda or {}, definition.pip or {}
    return Wanted(
        key=definition_key(definition),
        channels=tuple(conda.get("channels", ())),
        conda=tuple(conda.get("dependencies", ())),
        pip=tuple(pip.get("requirements", ())),
        constraints=tuple(pip.get("constraints", ())),
        # As they were written: with the credentials that the definition leaves out.
        options=asked.options or (*pip.get("index", ()), *pip.get("options", ())),
        folders=tuple(line for line in asked.options if _FOLDER.match(line)),
        refresh=str((asked.spec or {}).get("refresh") or ""),
    )


def _spec(asked: EnvironmentAsked) -> dict[str, Any]:
    """The EnvironmentSpec of what was asked for, as plain data."""
    spec: dict[str, Any] = dict(asked.spec or {})
    if asked.image:
        spec["image"] = asked.image
    if asked.spec is not None:
        return spec
    if asked.conda is not None:
        spec["conda"] = asked.conda_text or asked.conda
    else:
        # A folder of wheels is this machine's alone, and credentials are nobody's: neither is part of a definition.
        options = [_CREDENTIALS.sub("//", line) for line in asked.options if not _FOLDER.match(line)]
        spec["pip"] = [*options, *asked.pip]
    if asked.steps:
        spec["dockerSteps"] = list(asked.steps)
    return spec


def _text(code: "Tree | None", path: str) -> str | None:
    """A file of the code that is sent, None where it is not among them."""
    if code is None or all(entry.path != path for entry in code.hashed.entries):
        return None
    try:
        return Path(code.root, path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise BadInput("environment", f"cannot read {path}: {error}", "make it readable UTF-8 text") from None


def _told(problem: "Problem", asked: EnvironmentAsked) -> BadInput:
    where = problem.where
    if not problem.file:
        # A line counts in the text of the file that was named.
        where = f"{asked.source}:{problem.line}" if problem.line else asked.source
    return BadInput(
        f"environment.{problem.field}" if problem.field else "environment", problem.message, problem.fix, where
    )


__all__ = ["definition_of", "wanted_here"]
