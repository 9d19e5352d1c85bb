"""What an environment that was asked for means: checked before anything is sent, its files taken in, its content named."""

import hashlib
import posixpath
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from stoker.api.environment import EnvironmentSpec
from stoker.api.names import API_VERSION
from stoker.core.environment import definition, pip
from stoker.core.environment.definition import BadDefinition, Definition, Problem
from stoker.core.yaml12 import Path as FieldPath
from stoker.core.yaml12 import dotted
from stoker.errors import BadInput, BadInputs
from stoker.sdk.draft import EnvironmentAsked, shown

if TYPE_CHECKING:
    from stoker.runtime.wire import Entry


def defined(asked: EnvironmentAsked) -> EnvironmentAsked:
    """The same with its definition, unless files of the code are still to be read. Raises BadInputs with everything that is
    wrong, each with file and line."""
    from stoker.sdk.manifest import plain_data

    asked = replace(asked, spec=plain_data(asked.spec))
    spec = spec_of(asked)
    if definition.files_wanted(spec):
        return replace(asked, definition=None)
    # A file's own context is a path on this machine: the spec has none until the code folder is known.
    checked = msgspec.structs.replace(spec, context=".") if asked.context and spec.context is None else spec
    return replace(asked, definition=_read(asked, checked, with_context=False))


def settled(asked: EnvironmentAsked, code: Path | None, inline: Mapping[str, str] | None) -> EnvironmentAsked:
    """The same with the code's files taken in, and the context as a path in the code. code: the folder (or single file)
    that goes. Without code and inline text, files that the spec names stay named: they lie in a snapshot."""
    if asked.kind != "packages":
        return asked
    spec = spec_of(asked)
    folder = code if code is not None and code.is_dir() else None
    if definition.files_wanted(spec):
        if folder is None and inline is None:
            return asked
        at_hand: dict[str, str | None] = {}
        while wanted := definition.files_wanted(spec, at_hand):
            at_hand |= {path: _text(path, folder, inline) for path in wanted}
        found = _read(asked, spec, files=at_hand, with_context=False)
        asked = replace(asked, spec=_taken_in(asked.spec, spec, found), definition=found)
    return _with_context(asked, folder)


def with_entries(asked: EnvironmentAsked, entries: "Sequence[Entry] | None") -> EnvironmentAsked:
    """The same with the context's digest in its definition, now that the code is listed."""
    if asked.kind != "packages" or asked.definition is None:
        return asked
    return replace(asked, definition=_read(asked, spec_of(asked), entries=entries))


def of_file(path: Path, source: str, image: str = "", *, only_if_missing: bool = False) -> Definition:
    """The definition in a file on this machine, whose folder stands for the code. image: the base of a file without one;
    for a file with one it is an error, or means nothing (only_if_missing). Raises BadInput and BadInputs."""
    from stoker.sdk import environments
    from stoker.sdk.prepare import code_tree

    folder = path.resolve().parent
    asked = environments.from_file(path, source, "" if only_if_missing else image)
    if only_if_missing and image and not asked.image and not (asked.spec.get("build") or {}).get("dockerfile"):
        asked = environments.from_file(path, source, image)
    asked = settled(asked, folder, None)
    entries = code_tree(folder).hashed.entries if definition.reads_context(spec_of(asked)) else None
    found = with_entries(asked, entries).definition
    assert found is not None, "its files have been read"
    return found


def inline_entries(inline: Mapping[str, str]) -> "list[Entry]":
    """The listing of code that stands in a manifest."""
    from stoker.runtime.wire import Entry

    texts = {path: text.encode() for path, text in inline.items()}
    return [Entry(path, len(text), hashlib.sha256(text).hexdigest()) for path, text in texts.items()]


def spec_of(asked: EnvironmentAsked) -> EnvironmentSpec:
    """The spec as a value; raises BadInputs with every field that the API server would refuse."""
    from stoker.api.validate import problems
    from stoker.sdk.manifest import field_path

    document = {
        "apiVersion": API_VERSION, "kind": "Environment", "metadata": {"name": "environment"}, "spec": dict(asked.spec),
    }  # fmt: skip
    found = problems("Environment", document)
    if found:
        raise BadInputs(tuple(
            _bad(asked, field_path(one.path)[1:], one.message if one.value is None or shown(one.value) in one.message
                 or repr(one.value) in one.message else f"{one.message} (got {shown(one.value)})", one.fix)
            for one in found
        ))  # fmt: skip
    return msgspec.convert(dict(asked.spec), EnvironmentSpec)


def _read(
    asked: EnvironmentAsked, spec: EnvironmentSpec, *, files: Mapping[str, str | None] | None = None,
    entries: "Sequence[Entry] | None" = None, with_context: bool = True,
) -> Definition:  # fmt: skip
    try:
        return definition.read(spec, files, entries, image_needed=False, with_context=with_context)
    except BadDefinition as error:
        raise BadInputs(tuple(_told(asked, error.problems))) from None


def _told(asked: EnvironmentAsked, problems: Iterable[Problem]) -> Iterable[BadInput]:
    for one in problems:
        yield _bad(asked, one.path, one.message, one.fix, one)


def _bad(asked: EnvironmentAsked, path: FieldPath, message: str, fix: str, of: Problem | None = None) -> BadInput:
    where = next((asked.where[path[:n]] for n in range(len(path), -1, -1) if path[:n] in asked.where), asked.source)
    if of is not None and of.file:
        where = of.where
    elif of is not None and of.line:
        # A text in a YAML file: its first line is the one below the key.
        file, colon, line = where.rpartition(":")
        where = f"{file}:{int(line) + of.line}" if colon and line.isdecimal() else where
    # A flag has no fields of its own.
    field = asked.front if asked.front.startswith("-") else ".".join(filter(None, (asked.front, dotted(path))))
    return BadInput(field, message, fix, where)


def _text(path: str, folder: Path | None, inline: Mapping[str, str] | None) -> str | None:
    """A file of the code; None for one that is not there."""
    if inline is not None:
        return inline.get(path)
    assert folder is not None, "asked only where there is code"
    place = folder / path
    if not place.is_file():
        return None
    try:
        return place.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise BadInput("environment", f"cannot read {place}: {error}", "name a readable UTF-8 file") from None


def _taken_in(written: Mapping[str, Any], spec: EnvironmentSpec, found: Definition) -> dict[str, Any]:
    """A spec in which nothing is named by a path in the code, but for the context."""
    told = {key: item for key, item in written.items() if key not in ("condaFile", "pipFile")}
    if spec.conda_file is not None or spec.pip_file is not None:
        told |= {"conda": found.conda, "pip": pip.lines(found.pip) if found.pip else None}
        told = {key: item for key, item in told.items() if item is not None}
    if spec.build is not None and spec.build.dockerfile is not None:
        told["build"] = {key: item for key, item in told["build"].items() if key != "dockerfile"}
        told |= {"image": found.image, "dockerSteps": list(found.steps)}
        told["context"] = definition.context_folder(spec) or "."
    if not told.get("dockerSteps"):
        told.pop("context", None)
        told.pop("dockerSteps", None)
    return {key: item for key, item in told.items() if item != {}}


def _with_context(asked: EnvironmentAsked, code: Path | None) -> EnvironmentAsked:
    """The folder of a Dockerfile as a path in the code, where a step copies from it."""
    if asked.context is None or asked.spec.get("context") is not None or asked.definition is None:
        return asked
    named = msgspec.structs.replace(spec_of(asked), context=".")
    if not definition.reads_context(named):
        return replace(asked, context=None)
    if code is None or not asked.context.is_relative_to(code.resolve()):
        place = f"the code folder {code}" if code is not None else "any code folder"
        message = f"steps copy files from {asked.context}, which is not in {place}"
        raise BadInput(
            asked.front or "environment",
            message,
            "put that folder into the code folder",
            asked.where.get((), asked.source),
        )
    inside = (
        posixpath.join(*asked.context.relative_to(code.resolve()).parts) if asked.context != code.resolve() else "."
    )
    return replace(asked, spec={**asked.spec, "context": inside}, context=None)
