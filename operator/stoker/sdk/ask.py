"""From what a person typed to a draft: a folder, a job file, a manifest, or a script with its arguments; and the flags.

Nothing here hashes, sends or starts anything.
"""

import os
import re
import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from stoker.core.yaml12 import Document, dotted, parse, plain, text_of, text_problem
from stoker.core.yaml12 import Path as FieldPath
from stoker.errors import BadInput, BadInputs, did_you_mean
from stoker.sdk import environments, manifest
from stoker.sdk.azureml import command, kinds, runconfig
from stoker.sdk.definitions import defined, settled
from stoker.sdk.draft import LOCAL, Draft, EnvironmentAsked, check_name, seconds, shown

JOB_FILES = ("job.yaml", "job.yml")
#: Ends of the names of job files; anything else is a script.
JOB_SUFFIXES = (".yaml", ".yml", ".json", ".runconfig")


@dataclass(frozen=True)
class Flags:
    """What the command line says about a run, over what its file says. set: `PATH=VALUE` texts, in order."""

    compute: str | None = None
    environment: str | None = None
    code: Path | None = None
    name: str | None = None
    display_name: str | None = None
    experiment: str | None = None
    tags: tuple[str, ...] = ()
    env: tuple[str, ...] = ()
    set: tuple[str, ...] = ()
    instance_count: int | None = None
    timeout: str | None = None


def ask(target: Path | None, arguments: Sequence[str], flags: Flags, here: Path) -> Draft:
    """The draft of `stoker run TARGET [-- ARGUMENTS]`. here: the current folder. Raises BadInput and BadInputs."""
    target = target if target is not None else here
    if not target.exists():
        fix = "name a folder with a job.yaml, a job file, or a script"
        raise BadInput("TARGET", f"{shown(str(target))} does not exist", fix)
    if target.is_dir():
        draft = _from_file(_job_file_in(target), flags, here)
    elif target.suffix in JOB_SUFFIXES:
        draft = _from_file(target, flags, here)
    else:
        draft = from_script(target, arguments, flags, here)
        arguments = ()
    if arguments:
        fix = "write them into `command`, or use --set inputs.NAME=VALUE"
        raise BadInput(
            "--", f"arguments {shown(list(arguments))} belong to a script, and {draft.source} has its own command", fix
        )
    draft = _with_flags(draft, flags, here)
    _check(draft)
    return draft


def of_value(value: Mapping[str, Any], source: str, folder: Path) -> Draft:
    """The draft of a job that was made in Python: the mapping that its job file would have. source: what stands in front of
    messages. folder: what paths are relative to. Raises BadInput and BadInputs."""
    return completed(command.read(Document(value, source), folder), folder)


def completed(draft: Draft, folder: Path) -> Draft:
    """The draft with the environment that its code has by itself, checked. Raises BadInput and BadInputs."""
    draft = _with_flags(draft, Flags(), folder)
    _check(draft)
    return draft


def _job_file_in(folder: Path) -> Path:
    for name in JOB_FILES:
        if (folder / name).is_file():
            return folder / name
    scripts = sorted(path.name for path in folder.glob("*.py"))
    hint = f"or run a script: stoker run {folder / scripts[0]}" if scripts else "`stoker init` writes one"
    raise BadInput("TARGET", f"{folder} has no job.yaml", hint)


def _from_file(path: Path, flags: Flags, here: Path) -> Draft:
    document = load_one(path, here)
    folder = path.resolve().parent
    document = with_sets(document, flags.set, here)
    if manifest.is_resource(document.value):
        return manifest.read(document, folder)
    return job_of(document, path)


def job_of(document: Document, path: Path) -> Draft:
    """The draft of a job file of Azure ML's, or of Stoker's own in that shape. Raises BadInput and BadInputs."""
    kind = kinds.kind_of(document, path.name)
    if kind == "runconfig":
        return runconfig.read(document, path)
    if kind in ("environment", "compute"):
        article = "an" if kind == "environment" else "a"
        fix = f"create it: stoker job create -f {path}; or write its manifest: stoker convert {path}"
        raise BadInput("", f"is {article} {kind}, and no job", fix, document.source)
    if kind == "component":
        fix = f"write a job beside it with component: {path.name} and its inputs"
        raise BadInput("", "is a component, and no job", fix, document.source)
    return command.read(document, path.resolve().parent)


def load_one(path: Path, here: Path) -> Document:
    """The one document of a YAML file; raises BadInput."""
    source = os.path.relpath(path, here) if path.resolve().is_relative_to(here.resolve()) else str(path)
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise BadInput("TARGET", f"cannot read {path}: {error}", "name a readable UTF-8 file") from None
    documents = parse(text, Path(source).as_posix())
    if len(documents) != 1:
        if not documents:
            raise BadInput("", "is empty", "write at least command: ..., or let `stoker init` write one", source)
        raise BadInput("", f"has {len(documents)} documents; a run needs one", "keep one job per file", source)
    return documents[0]


# -- A script.


def from_script(script: Path, arguments: Sequence[str], flags: Flags, here: Path) -> Draft:
    """`stoker run [flags] train.py -- --lr 0.1`: the code is --code, else the current folder."""
    code = (flags.code or here).resolve()
    check_code(code)
    place = script.resolve()
    if not place.is_relative_to(code):
        fix = f"use --code {shlex.quote(str(script.parent))}, or run from the folder that holds it"
        raise BadInput("TARGET", f"{script} does not lie in the code folder {code}", fix)
    relative = place.relative_to(code).as_posix()
    if script.suffix == ".py":
        words = ["python", relative]
    elif script.suffix == ".sh":
        words = ["sh", relative]
    else:
        raise BadInput("TARGET", f"{shown(str(script))} is no job file and no script", "name a .yaml, .py or .sh file")
    inputs: dict[str, Any] = {}
    for path, value in (_split_set(text) for text in flags.set):
        if path[0] != "inputs" or len(path) != 2:
            raise BadInput("--set", f"{'.'.join(path)}: a script has only inputs to set", "use --set inputs.NAME=VALUE")
        inputs[path[1]] = {"value": value}
    spec: dict[str, Any] = {"type": "command", "command": {"command": shlex.join([*words, *arguments])}}
    if inputs:
        spec["inputs"] = inputs
    return Draft(base=script.stem, source=script.name, spec=spec, environment=None, code=code)


def check_code(code: Path) -> None:
    """Raises BadInput for a code folder that is surely not meant: the home folder, a file system's root."""
    if not code.exists():
        raise BadInput("--code", f"{code} does not exist", "name the folder that holds your code")
    if code == Path.home().resolve() or code == Path(code.anchor):
        fix = "put the code into a folder of its own, or name it with --code"
        raise BadInput("--code", f"{code} as the code folder would send everything in it", fix)


# -- Flags over files.


def _split_set(text: str) -> tuple[tuple[str, ...], str]:
    path, equals, value = text.partition("=")
    if not equals or not all(path.split(".")):
        raise BadInput("--set", f"{shown(text)} is not PATH=VALUE", "write such as --set inputs.lr=0.1")
    return tuple(path.split(".")), value


def with_sets(document: Document, sets: Sequence[str], here: Path) -> Document:
    """The document with `PATH=VALUE` texts laid over it. here: what a path in them is relative to. Raises BadInput."""
    if not sets or not isinstance(document.value, dict):
        return document
    value = manifest_copy(document.value)
    resource = manifest.is_resource(value)
    for text in sets:
        path, given = _split_set(text)
        if path[0] == "inputs":
            _set_input(value, path, given, document, here, resource)
        elif resource and path == ("environment", "image"):
            _set_at(value, ("spec", "command", "environment", "spec", "image"), given, text)
        elif resource:
            raise BadInput(
                "--set", f"{'.'.join(path)} of a manifest", "set inputs.NAME or environment.image, or edit the file"
            )
        else:
            _set_at(value, path, plain(given), text)
    return Document(value, document.source, document.lines, document.columns)


def manifest_copy(value: Any) -> Any:
    """A copy whose containers are our own; scalars are shared."""
    if isinstance(value, dict):
        return {key: manifest_copy(item) for key, item in value.items()}
    return [manifest_copy(item) for item in value] if isinstance(value, list) else value


def _set_at(value: dict[str, Any], path: Sequence[str], given: Any, text: str) -> None:
    here = value
    for part in path[:-1]:
        inner = here.setdefault(part, {})
        if isinstance(inner, str) and part == "environment":
            inner = here[part] = {}
        if not isinstance(inner, dict):
            raise BadInput("--set", f"{shown(text)}: {part} is not a mapping in the file", "set the whole of it")
        here = inner
    here[path[-1]] = given


def _set_input(
    value: dict[str, Any], path: tuple[str, ...], given: str, document: Document, here: Path, resource: bool
) -> None:
    root = value.get("spec", {}) if resource else value
    inputs = root.get("inputs") or {}
    if len(path) < 2 or not isinstance(inputs, dict) or path[1] not in inputs:
        name = path[1] if len(path) > 1 else ""
        hint = did_you_mean(name, set(inputs)) if isinstance(inputs, dict) and inputs else "declare it under inputs"
        raise BadInput("--set", f"{'.'.join(path)}: {document.source} declares no input {shown(name)}", hint)
    current = inputs[path[1]]
    if isinstance(current, dict) and {"secretRef", "secret_ref"} & current.keys():
        # What is set would be stored with the run.
        fix = f"change the Secret; for a local run export STOKER_SECRET_{path[1]}"
        raise BadInput("--set", f"inputs.{path[1]} is a secret and takes no value here", fix)
    if len(path) > 2:
        inputs[path[1]] = {**(current if isinstance(current, dict) else {}), ".".join(path[2:]): given}
    elif isinstance(current, dict) and "path" in current:
        # On the command line a path is meant from where one stands, in the file from where the file is.
        local = not re.match(r"[A-Za-z][A-Za-z0-9+.-]+:", given) and (here / given).exists()
        inputs[path[1]] = {**current, "path": str((here / given).resolve()) if local else given}
    else:
        inputs[path[1]] = {"value": given} if resource else plain(given)


def _with_flags(draft: Draft, flags: Flags, here: Path) -> Draft:
    spec = {**draft.spec, "command": dict(draft.spec["command"])}
    given = {"experiment": flags.experiment, "displayName": flags.display_name}
    spec |= {member: text for member, text in given.items() if text is not None}
    if flags.tags:
        spec["tags"] = {**spec.get("tags", {}), **dict(_pairs(flags.tags, "--tag"))}
    if flags.env:
        spec["command"]["env"] = _merged_env(spec["command"].get("env", []), flags.env)
    if flags.instance_count is not None:
        if not 1 <= flags.instance_count <= 10000:
            raise BadInput("--instance-count", f"{flags.instance_count} is not a number of nodes", "write 1 to 10000")
        spec["command"]["resources"] = {**spec["command"].get("resources", {}), "instanceCount": flags.instance_count}
    if flags.timeout is not None:
        spec["limits"] = {**spec.get("limits", {}), "timeoutSeconds": seconds(flags.timeout, "--timeout")}
    if flags.code is not None and draft.source.endswith(JOB_SUFFIXES):
        code = flags.code.resolve()
        check_code(code)
        draft = replace(draft, code=code, inline=None, snapshot=None)
    if flags.name is not None:
        draft = replace(draft, name=check_name(flags.name, "--name"))
    if flags.environment is not None:
        asked = environments.from_text(flags.environment, here, "--environment", source="--environment")
        draft = replace(draft, environment=_merged_environment(draft.environment, asked))
    elif draft.environment is None and draft.code is not None and draft.code.is_dir():
        draft = replace(draft, environment=environments.found_in(draft.code))
    if draft.environment is not None:
        draft = replace(draft, environment=settled(draft.environment, draft.code, draft.inline))
    return replace(draft, spec=spec, compute=_compute_flag(flags.compute) or draft.compute)


def _compute_flag(text: str | None) -> str | None:
    if text is None or re.fullmatch(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?", text):
        return text
    raise BadInput(
        "--compute", f"{shown(text)} is not the name of a ComputeCluster", "write local or a name, such as cpu"
    )


def _merged_environment(current: EnvironmentAsked | None, asked: EnvironmentAsked) -> EnvironmentAsked:
    """An image on the command line changes the image alone: the list of packages says what the command needs."""
    only_image = asked.kind == "packages" and asked.spec.keys() == {"image"}
    if only_image and current is not None and current.kind == "packages":
        if current.context is not None or "dockerfile" in (current.spec.get("build") or {}):
            fix = "change its FROM, or leave the flag out"
            raise BadInput("--environment", f"{current.source} builds on a base of its own", fix)
        source = f"{asked.source}, {current.source}"
        return defined(replace(current, spec={**current.spec, "image": asked.image}, source=source))
    return asked


def _pairs(texts: Sequence[str], flag: str) -> list[tuple[str, str]]:
    found = []
    for text in texts:
        key, equals, value = text.partition("=")
        if not key or not equals:
            raise BadInput(flag, f"{shown(text)} is not KEY=VALUE", f"write such as {flag} owner=me")
        found.append((key, value))
    return found


def _merged_env(current: Sequence[Mapping[str, Any]], texts: Sequence[str]) -> list[dict[str, Any]]:
    merged: dict[str, Mapping[str, Any]] = {item["name"]: item for item in current}
    for text in texts:
        key, equals, value = text.partition("=")
        if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_.-]*", key):
            raise BadInput("-e", f"{shown(text)} is not KEY or KEY=VALUE", "write such as -e EPOCHS=3, or -e HF_HOME")
        if key.startswith("STOKER_"):
            raise BadInput("-e", f"{key}: names that start with STOKER_ are Stoker's own", "choose another")
        if not equals and key not in os.environ:
            raise BadInput("-e", f"{key} is not set in this shell", f"write -e {key}=VALUE, or export it first")
        merged[key] = {"name": key, "value": value if equals else os.environ[key]}
    return [dict(item) for item in merged.values()]


# -- What is wrong before anything is read.


def _check(draft: Draft) -> None:
    from stoker.core import command as placeholders

    for path, text in _texts(draft.spec, ()):
        if problem := text_problem(text):
            raise BadInput(dotted(path), problem, "leave it out", draft.source)
    is_manifest = draft.inline is not None or draft.snapshot is not None or draft.metadata
    field = "spec.command.command" if is_manifest else "command"
    names = {*draft.spec.get("inputs", {}), *draft.local_inputs}
    found = placeholders.problems(draft.command, names, draft.spec.get("outputs", {}), field)
    if found:
        raise BadInputs(tuple(
            BadInput(one.field, one.message, one.fix.replace("spec.", "") if not is_manifest else one.fix, draft.source)
            for one in found
        ))  # fmt: skip
    if draft.code is not None:
        check_code(draft.code)
        if draft.code.is_dir() and not any(draft.code.iterdir()):
            raise BadInput("code", f"{draft.code} is empty", "name the folder that holds your code", draft.source)


def _texts(value: Any, path: FieldPath) -> Iterator[tuple[FieldPath, str]]:
    """Every text in plain data, keys of mappings too, with its place."""
    if isinstance(value, str):
        yield path, value
    elif isinstance(value, Mapping):
        for key, item in value.items():
            yield (*path, key), str(key)
            yield from _texts(item, (*path, key))
    elif isinstance(value, list | tuple):
        for index, item in enumerate(value):
            yield from _texts(item, (*path, index))


def compute_of(draft: Draft, setting: str | None) -> str:
    """Where a run goes: the flag or the file (already in the draft), then the project's setting, else this machine."""
    return draft.compute or setting or LOCAL


def check_for_cluster(draft: Draft) -> None:
    """Raises BadInput when what was asked for works on this machine alone."""
    asked = draft.environment
    if asked is None:
        fix = "add --environment IMAGE, or `environment: {image: ..., pip: [...]}` to the job file"
        raise BadInput("environment", "is missing, and a cluster needs an image", fix, draft.source)
    if asked.kind == "system":
        raise BadInput(
            "environment", "system is the Python on this machine", "name an image, or use --compute local", draft.source
        )
    if asked.folders:
        message = f"{asked.source} has packages in {asked.folders[0]}, a folder of this machine"
        raise BadInput("environment", message, "name an index that the cluster reaches", draft.source)


__all__ = ["Flags", "ask", "check_for_cluster", "compute_of", "load_one", "text_of"]
