"""What a command runs in: from a flag, from a job file, or from the files that a project already has."""

import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from stoker.core.yaml12 import Document, parse, text_of
from stoker.core.yaml12 import Path as FieldPath
from stoker.errors import BadInput, did_you_mean
from stoker.sdk.draft import EnvironmentAsked, shown

#: Looked for in the code's root, in this order, when nobody names an environment.
FOUND_BY_ITSELF = ("conda.yaml", "conda.yml", "environment.yml", "requirements.txt")

_KEYS = {"image", "pip", "pip_file", "conda_file"}
_NOT_YET = {
    "build": "building an image from a Dockerfile is not supported yet; name a built `image`",
    "inference_config": "it belongs to inference, which Stoker does not do; leave it out",
    "os_type": "every environment is Linux; leave it out",
    "docker_steps": "docker steps are not supported yet; name a built `image`",
}
_ENVIRONMENT_NAME = re.compile(r"[a-z0-9]([-a-z0-9.]*[a-z0-9])?\Z")


def from_text(text: str, folder: Path, field: str, where: str = "", source: str = "") -> EnvironmentAsked:
    """What `--environment TEXT` or `environment: TEXT` names: `system`, a file (relative to folder), an image, a name."""
    source = source or field
    if text == "system":
        return EnvironmentAsked("system", source)
    if text.startswith("azureml:"):
        fix = "name an image, a file of packages, or an Environment of the cluster"
        raise BadInput(field, f"{shown(text)} is a reference into Azure ML, which is not supported yet", fix, where)
    candidate = folder / text.removeprefix("file:")
    if candidate.is_file():
        return from_file(candidate, text)
    if candidate.is_dir() or text.startswith("file:") or re.search(r"\.(ya?ml|txt)\Z", text):
        raise BadInput(
            field, f"{shown(text)} is not a file in {folder}", "name a conda file or a requirements file", where
        )
    if re.search(r"\s", text) or not text:
        raise BadInput(field, f"{shown(text)} is not an environment", "write a name, a file, an image or system", where)
    if "/" in text or ":" in text or "@" in text:
        return EnvironmentAsked("packages", source, image=text)
    if not _ENVIRONMENT_NAME.match(text):
        raise BadInput(field, f"{shown(text)} is not an environment", "write a name, a file, an image or system", where)
    return EnvironmentAsked("name", source, name=text)


def from_file(path: Path, source: str = "") -> EnvironmentAsked:
    """The environment that a file describes: requirements (.txt), a conda file, or a mapping as in a job file."""
    source = source or path.name
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise BadInput("environment", f"cannot read {path}: {error}", "name a readable UTF-8 file") from None
    if path.suffix == ".txt":
        pip, options = requirements(text, path, source)
        return EnvironmentAsked("packages", source, pip=pip, options=options)
    documents = parse(text, source)
    if len(documents) != 1 or not isinstance(documents[0].value, dict):
        raise BadInput("environment", f"{source} is not one mapping", "write a conda file or image and pip")
    document = documents[0]
    if "kind" in document.value:
        return _from_resource(document, source)
    if "dependencies" in document.value:
        return replace(_from_conda(document, (), path.parent, source), conda_text=text)
    return from_mapping(document, (), path.parent, source)


def _from_resource(document: Document, source: str) -> EnvironmentAsked:
    if document.value.get("kind") != "Environment" or not isinstance(document.value.get("spec"), dict):
        kind = shown(document.value.get("kind"))
        raise BadInput(
            "kind", f"{kind} is not an environment", "name a file with kind: Environment", document.where(("kind",))
        )
    return from_spec(document.value["spec"], source)


def from_spec(spec: Mapping[str, Any], source: str) -> EnvironmentAsked:
    """The environment of an Environment resource's spec."""
    return EnvironmentAsked(
        "packages",
        source,
        image=str(spec.get("image") or ""),
        pip=tuple(str(item) for item in spec.get("pip") or ()),
        steps=tuple(spec.get("dockerSteps") or ()),
        spec=spec,
        pull_secrets=tuple(item["name"] for item in spec.get("imagePullSecrets") or ()),
    )


def from_mapping(document: Document, at: FieldPath, folder: Path, source: str) -> EnvironmentAsked:
    """The environment of a mapping in a job file or in a file of its own: image, pip, pip_file, conda_file."""
    value: Any = document.value
    for part in at:
        value = value[part]
    field = ".".join(str(part) for part in at) or "environment"
    for key in value:
        where = document.where((*at, key))
        if key in _NOT_YET:
            raise BadInput(f"{field}.{key}", _NOT_YET[key].split("; ")[0], _NOT_YET[key].split("; ")[1], where)
        if key not in _KEYS | {"name", "version", "description", "tags", "$schema"}:
            raise BadInput(f"{field}.{key}", "unknown key", did_you_mean(key, _KEYS), where)
    asked = EnvironmentAsked("packages", source)
    if (image := value.get("image")) is not None:
        if not isinstance(image, str) or not image or re.search(r"\s", image):
            message = f"{shown(image)} is not an image reference"
            raise BadInput(
                f"{field}.image",
                message,
                "write one reference such as python:3.12-slim",
                document.where((*at, "image")),
            )
        asked = replace(asked, image=image)
    lists = [key for key in ("pip", "pip_file", "conda_file") if value.get(key) is not None]
    if len(lists) > 1:
        raise BadInput(field, f"has both {lists[0]} and {lists[1]}", "keep one list of packages", document.where(at))
    if "pip" in lists:
        asked = replace(asked, pip=_pip_list(document, (*at, "pip"), value["pip"], f"{field}.pip"))
    elif "pip_file" in lists:
        pip, options = _pip_file(document, at, folder, value["pip_file"], field)
        asked = replace(asked, pip=pip, options=options)
    elif "conda_file" in lists:
        conda = _conda_part(document, at, folder, value["conda_file"], field)
        asked = replace(conda, image=asked.image, source=source)
    if not asked.image and not lists:
        raise BadInput(
            field, "names neither an image nor packages", "add image, pip, pip_file or conda_file", document.where(at)
        )
    return asked


def _pip_file(
    document: Document, at: FieldPath, folder: Path, name: Any, field: str
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    path = folder / str(name)
    if not path.is_file():
        message = f"{shown(name)} is not a file in {folder}"
        raise BadInput(f"{field}.pip_file", message, "name a requirements file", document.where((*at, "pip_file")))
    return requirements(path.read_text(encoding="utf-8"), path, str(name))


def _conda_part(document: Document, at: FieldPath, folder: Path, value: Any, field: str) -> EnvironmentAsked:
    if isinstance(value, dict):
        return _from_conda(document, (*at, "conda_file"), folder, document.source)
    path = folder / str(value)
    if not path.is_file():
        message = f"{shown(value)} is not a file in {folder}"
        raise BadInput(f"{field}.conda_file", message, "name a conda file", document.where((*at, "conda_file")))
    return from_file(path, str(value))


def _from_conda(document: Document, at: FieldPath, folder: Path, source: str) -> EnvironmentAsked:
    """A conda file. What it says in full is read with the definition; its pip section and its Python are shown."""
    value: Any = document.value
    for part in at:
        value = value[part]
    dependencies = value.get("dependencies")
    if not isinstance(dependencies, list):
        raise BadInput("dependencies", "is not a list", "list python, pip and a pip section", document.where(at))
    pip: tuple[str, ...] = ()
    python = ""
    listed: list[Any] = []
    for index, item in enumerate(dependencies):
        place = (*at, "dependencies", index)
        if isinstance(item, dict) and set(item) == {"pip"}:
            section = _pip_list(document, (*place, "pip"), item["pip"], "dependencies.pip")
            pip += section
            listed.append({"pip": list(section)})
            continue
        match = re.match(r"(?:\S+::)?([A-Za-z0-9_.-]+)\s*(.*)\Z", item) if isinstance(item, str) else None
        if match is None:
            raise BadInput(
                "dependencies", f"{shown(item)} is not a package", "write name=version", document.where(place)
            )
        if match[1] == "python":
            python = match[2].strip()
        listed.append(item)
    conda: dict[str, Any] = {"dependencies": listed}
    if (channels := value.get("channels")) is not None:
        if not isinstance(channels, list):
            raise BadInput("channels", "is not a list", "write - conda-forge", document.where((*at, "channels")))
        conda["channels"] = [text_of(channel) for channel in channels]
    return EnvironmentAsked("packages", source, pip=pip, python=python, conda=conda)


def _pip_list(document: Document, at: FieldPath, value: Any, field: str) -> tuple[str, ...]:
    if not isinstance(value, list):
        raise BadInput(field, f"{shown(value)} is not a list", "write - package==1.2, one per line", document.where(at))
    found: tuple[str, ...] = ()
    for index, item in enumerate(value):
        line = text_of(item).strip()
        if line.startswith("-"):
            fix = "put such lines into a requirements file and name it as pip_file"
            raise BadInput(field, f"{shown(line)} is an option, not a package", fix, document.where((*at, index)))
        found += (check_requirement(line, field, document.where((*at, index))),)
    return found


#: Lines of a requirements file that say where packages come from: kept, and handed to the installer.
_SOURCES = ("--index-url", "-i", "--extra-index-url", "--find-links", "-f", "--no-index", "--pre")


def requirements(
    text: str, path: Path, source: str, seen: tuple[Path, ...] = ()
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The packages and the option lines of a requirements file; `-r other.txt` is read too.

    Raises BadInput with the line for editable installs, local paths, constraints and options that have no meaning here.
    """
    pip: tuple[str, ...] = ()
    options: tuple[str, ...] = ()
    for number, line in _logical_lines(text):
        where = f"{source}:{number}"
        word, _, rest = line.replace("=", " ", 1).partition(" ") if line.startswith("--") else line.partition(" ")
        if word in ("-r", "--requirement"):
            other = path.parent / rest.strip()
            if not other.is_file() or other in seen or len(seen) > 8:
                raise BadInput(
                    "environment", f"{shown(line)}: no such file, or it names itself", "name a file beside it", where
                )
            more, more_options = requirements(other.read_text(encoding="utf-8"), other, rest.strip(), (*seen, path))
            pip, options = pip + more, options + more_options
        elif word in _SOURCES:
            options += (_resolved_option(word, rest.strip(), path.parent),)
        elif line.startswith("-"):
            fix = "list packages, and put code of your own into the code folder"
            raise BadInput("environment", f"{shown(line)} is not supported", fix, where)
        else:
            line = re.sub(r"\s--hash=\S+", "", line)
            pip += (check_requirement(line.strip(), "environment", where),)
    return pip, options


def _resolved_option(word: str, value: str, folder: Path) -> str:
    if word in ("--find-links", "-f") and "://" not in value:
        value = str((folder / value).resolve())
    return f"{word} {value}".strip()


def _logical_lines(text: str) -> list[tuple[int, str]]:
    found, kept, start = [], "", 0
    for number, raw in enumerate(text.removeprefix("\ufeff").splitlines(), 1):
        line = re.sub(r"(^|\s)#.*", "", raw).rstrip()
        start = start or number
        if line.endswith("\\"):
            kept += line[:-1]
            continue
        if (kept + line).strip():
            found.append((start, (kept + line).strip()))
        kept, start = "", 0
    return found


def check_requirement(line: str, field: str, where: str) -> str:
    """A requirement in PEP 508's form; raises BadInput for paths and for text that is none."""
    from packaging.requirements import InvalidRequirement, Requirement

    try:
        Requirement(line)
    except InvalidRequirement as error:
        reason = str(error).splitlines()[0]
        fix = "write a package as name==1.2; code of your own belongs into the code folder"
        raise BadInput(field, f"{shown(line)} is not a package ({reason})", fix, where) from None
    return line


def found_in(code: Path) -> EnvironmentAsked | None:
    """The environment that a code folder describes by itself, or None."""
    return next((from_file(code / name) for name in FOUND_BY_ITSELF if (code / name).is_file()), None)
