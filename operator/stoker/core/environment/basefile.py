"""A Dockerfile as a base image and steps: one stage, whose FROM is the base."""

import re
from collections.abc import Collection

from stoker.core.environment import steps
from stoker.core.environment.dockerfile import Step, parse, unquoted, words
from stoker.core.environment.problems import Place, Problem

_VARIABLE = re.compile(r"\$(?:(\w+)|\{(\w+)(?::-([^}]*))?\})")


def read(text: str, place: Place, secret_ids: Collection[str]) -> tuple[str, tuple[Step, ...], list[Problem]]:
    """The base as written (empty where there is none), the steps after FROM, and what is wrong.

    ARG before FROM may give parts of the base's name; nothing sets it from outside.
    """
    found, problems = parse(text, place)
    arguments: dict[str, str] = {}
    image, begun = "", 0
    for number, step in enumerate(found, 1):
        if step.keyword == "ARG":
            for word in words(step.rest):
                name, _, value = word.partition("=")
                arguments[name] = unquoted(value)
        elif step.keyword == "FROM":
            begun = number
            image, said = _base(step, arguments, place.on(step.line))
            problems += said
            break
        else:
            fix = "write FROM and an image before the first step"
            problems.append(place.on(step.line).problem(f"{step.keyword} stands before FROM", fix))
            break
    else:
        problems.append(place.problem("the Dockerfile has no FROM", "write FROM and the base image"))
        return "", (), problems
    rest = tuple(found[begun:])
    for step in rest:
        here = place.on(step.line)
        if step.keyword == "FROM":
            message = "a second FROM: a Dockerfile with stages has no one base"
            problems.append(
                here.problem(message, "keep one stage, and take files of others with COPY --from=IMAGE@sha256:...")
            )
        else:
            problems += [here.problem(*said) for said in steps.offences(step, secret_ids, has_context=True)]
    return image, tuple(step for step in rest if step.keyword != "FROM"), sorted(problems, key=lambda one: one.line)


def _base(step: Step, arguments: dict[str, str], place: Place) -> tuple[str, list[Problem]]:
    problems = []
    for name, _ in step.flags:
        problems.append(place.problem(f"FROM has --{name}", "remove it, and list `platforms` of the environment"))
    missing: list[str] = []

    def value(match: re.Match[str]) -> str:
        name = match[1] or match[2]
        found = arguments.get(name) or match[3] or ""
        if not found:
            missing.append(name)
        return found

    image = _VARIABLE.sub(value, words(step.rest)[0])
    problems += [
        place.problem(f"FROM has the variable {name}, which has no value", f"write ARG {name}=value before FROM")
        for name in dict.fromkeys(missing)
    ]
    if image == "scratch":
        problems.append(place.problem("FROM scratch has neither a shell nor a C library", "write a base image"))
    return ("" if missing else image), problems
