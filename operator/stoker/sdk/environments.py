"""What a command runs in: from a flag, from a job file, or from the files that a project already has."""

import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from stoker.core.yaml12 import Document, text_of
from stoker.core.yaml12 import Path as FieldPath
from stoker.errors import BadInput, did_you_mean
from stoker.sdk import environmentfiles as files
from stoker.sdk.azureml import labels
from stoker.sdk.definitions import defined
from stoker.sdk.draft import EnvironmentAsked, shown

#: Looked for in the code's root, in this order, when nobody names an environment.
FOUND_BY_ITSELF = ("conda.yaml", "conda.yml", "environment.yml", "requirements.txt")

#: Keys of an environment in a file, and the member of a spec that each is.
_MEMBERS = {
    "image": "image", "pip": "pip", "docker_steps": "dockerSteps", "context": "context", "platforms": "platforms",
    "secrets": "secrets", "base_policy": "basePolicy", "refresh": "refresh", "cache_epoch": "cacheEpoch",
    "image_pull_secrets": "imagePullSecrets",
}  # fmt: skip
_KEYS = {*_MEMBERS, "pip_file", "conda_file", "conda", "build"}
#: Keys of the managed service's format that say nothing of the content.
_NO_CONTENT = {"name", "version", "description", "tags", "$schema", "inference_config"}
_NOT_HERE = {
    "datastore": ("datastores are not supported yet", "name files beside this one"),
}
_ENVIRONMENT_NAME = re.compile(r"[a-z0-9]([-a-z0-9.]*[a-z0-9])?\Z")


def from_text(text: str, folder: Path, field: str, where: str = "", source: str = "") -> EnvironmentAsked:
    """What `--environment TEXT` or `environment: TEXT` names: `system`, a file (relative to folder), an image, a name."""
    source = source or field
    if text == "system":
        return EnvironmentAsked("system", source)
    if labels.is_label(text):
        labels.parse(text, field, where)
        return EnvironmentAsked("label", source, name=text, where={(): where} if where else {}, front=field)
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
        return defined(EnvironmentAsked("packages", source, spec={"image": text}, where={(): where}, front=field))
    if not _ENVIRONMENT_NAME.match(text):
        raise BadInput(field, f"{shown(text)} is not an environment", "write a name, a file, an image or system", where)
    return EnvironmentAsked("name", source, name=text)


def from_file(path: Path, source: str = "", image: str = "") -> EnvironmentAsked:
    """The environment that a file describes: requirements (.txt), a conda file, a Dockerfile, an Environment's manifest, or
    a mapping as in a job file. image: the base of packages alone; a file with one of its own refuses it."""
    source = source or path.name
    where: dict[FieldPath, str] = {(): source}
    base = {"image": image} if image else {}
    if path.suffix == ".txt":
        taken = files.Requirements()
        taken.take_file(path, source)
        where |= {("pip", number): place for number, place in enumerate(taken.where)}
        return defined(EnvironmentAsked(
            "packages", source, spec={**base, "pip": taken.lines}, folders=tuple(taken.folders), where=where,
        ))  # fmt: skip
    if re.match(r"(?:.*\.)?Dockerfile\b", path.name, re.IGNORECASE):
        spec = files.dockerfile(path, source, set(), where, "environment")
        found = EnvironmentAsked("packages", source, spec=spec, context=path.resolve().parent, where=where)
        return defined(_without_second_base(found, image))
    document = files.conda_document(path, source)
    if "kind" in document.value:
        return _without_second_base(_from_resource(document, source), image)
    if "dependencies" in document.value:
        folders: list[str] = []
        conda = files.conda(document, (), path.parent, where, folders)
        return defined(EnvironmentAsked(
            "packages", source, spec={**base, "conda": conda}, folders=tuple(folders), where=where,
        ))  # fmt: skip
    found = from_mapping(document, (), path.parent, source)
    return _with_image(found, image) if image and not found.image else _without_second_base(found, image)


def _with_image(asked: EnvironmentAsked, image: str) -> EnvironmentAsked:
    return defined(replace(asked, spec={**asked.spec, "image": image}))


def _without_second_base(asked: EnvironmentAsked, image: str) -> EnvironmentAsked:
    if image and asked.image:
        raise BadInput("--image", f"{asked.source} names a base of its own, {asked.image}", "leave --image out")
    return _with_image(asked, image) if image else asked


def _from_resource(document: Document, source: str) -> EnvironmentAsked:
    if document.value.get("kind") != "Environment" or not isinstance(document.value.get("spec"), dict):
        kind = shown(document.value.get("kind"))
        raise BadInput(
            "kind", f"{kind} is not an environment", "name a file with kind: Environment", document.where(("kind",))
        )
    lines = {path[1:]: document.where(path) for path in document.lines if path[:1] == ("spec",)}
    return from_spec(document.value["spec"], source, lines, "spec")


def from_spec(
    spec: Mapping[str, Any], source: str, where: Mapping[FieldPath, str] | None = None, front: str = "environment"
) -> EnvironmentAsked:
    """The environment of an Environment resource's spec. where: file and line of its parts. front: the field of the spec."""
    return defined(EnvironmentAsked("packages", source, spec=spec, where={(): source, **(where or {})}, front=front))


def from_mapping(document: Document, at: FieldPath, folder: Path, source: str) -> EnvironmentAsked:
    """The environment of a mapping in a job file or in a file of its own, in Azure ML's words and ours. Files that it names
    are relative to folder and are taken in."""
    return defined(_Mapping(document, at, folder).asked(source))


class _Mapping:
    """A mapping with snake_case keys on its way into a spec."""

    def __init__(self, document: Document, at: FieldPath, folder: Path) -> None:
        self.document, self.at, self.folder = document, at, folder
        self.value: Any = document.value
        for part in at:
            self.value = self.value[part]
        self.field = ".".join(str(part) for part in at) or "environment"
        self.spec: dict[str, Any] = {}
        self.where: dict[FieldPath, str] = {(): document.where(at)}
        self.folders: list[str] = []
        self.context: Path | None = None

    def asked(self, source: str) -> EnvironmentAsked:
        """Raises BadInput."""
        self._keys()
        for key, member in _MEMBERS.items():
            if (value := self.value.get(key)) is not None:
                self.spec[member] = self._member(key, value)
                self._lines((key,), (member,))
        if "pip" in self.value and "pip_file" in self.value:
            raise self._bad((), "has both pip and pip_file", "keep one list of packages")
        if "conda" in self.value and "conda_file" in self.value:
            raise self._bad((), "has both conda and conda_file", "keep one list of packages")
        if (name := self.value.get("pip_file")) is not None:
            self._pip_file(name)
        for key in ("conda", "conda_file"):
            if (value := self.value.get(key)) is not None:
                self._conda(key, value)
        if (build := self.value.get("build")) is not None:
            self._build(build)
        if not self.spec:
            raise self._bad((), "names neither an image nor packages", "add image, pip, conda_file or build")
        return EnvironmentAsked(
            "packages", source, spec=self.spec, folders=tuple(self.folders), context=self.context, where=self.where,
            front=self.field,
        )  # fmt: skip

    def _bad(self, path: FieldPath, message: str, fix: str) -> BadInput:
        return BadInput(".".join((self.field, *map(str, path))), message, fix, self.document.point((*self.at, *path)))

    def _keys(self) -> None:
        for key, value in self.value.items():
            if key in _NOT_HERE:
                raise self._bad((key,), *_NOT_HERE[key])
            if key == "os_type":
                if str(value).lower() != "linux":
                    raise self._bad((key,), f"{shown(value)}: every environment is Linux", "leave it out")
            elif key not in _KEYS | _NO_CONTENT:
                raise self._bad((key,), "unknown key", did_you_mean(key, _KEYS))

    def _lines(self, key: FieldPath, member: FieldPath) -> None:
        start = (*self.at, *key)
        lines = self.document.lines
        self.where |= {
            (*member, *path[len(start) :]): self.document.where(path) for path in lines if path[: len(start)] == start
        }

    def _member(self, key: str, value: Any) -> Any:
        if key == "docker_steps" and isinstance(value, str):
            return [value]
        if key == "pip":
            if not isinstance(value, list):
                raise self._bad((key,), f"{shown(value)} is not a list", "write - package==1.2, one per line")
            return [text_of(item) if not isinstance(item, dict | list) else item for item in value]
        if key == "refresh":
            return text_of(value)
        if key == "image_pull_secrets" and isinstance(value, list):
            return [{"name": item} if isinstance(item, str) else item for item in value]
        if key == "secrets" and isinstance(value, list):
            return [_secret(item) if isinstance(item, dict) else item for item in value]
        return value

    def _file(self, key: str, name: Any, what: str) -> Path:
        path = self.folder / str(name)
        if not path.is_file():
            raise self._bad((key,), f"{shown(name)} is not a file in {self.folder}", f"name a {what}")
        return path

    def _pip_file(self, name: Any) -> None:
        taken = files.Requirements()
        taken.take_file(self._file("pip_file", name, "requirements file"), str(name))
        self.spec["pip"] = taken.lines
        self.where |= {("pip", number): place for number, place in enumerate(taken.where)}
        self.folders += taken.folders

    def _conda(self, key: str, value: Any) -> None:
        if isinstance(value, dict):
            self.spec["conda"] = files.conda(self.document, (*self.at, key), self.folder, self.where, self.folders)
        elif key == "conda":
            self.spec["conda"] = value
            self._lines((key,), ("conda",))
        else:
            path = self._file(key, value, "conda file")
            document = files.conda_document(path, str(value))
            if "dependencies" not in document.value:
                raise BadInput("dependencies", "is missing", "list packages, such as - numpy=1.26", document.source)
            self.spec["conda"] = files.conda(document, (), path.parent, self.where, self.folders)

    def _build(self, build: Any) -> None:
        if not isinstance(build, dict):
            raise self._bad(("build",), f"{shown(build)} is not a mapping", "write path and dockerfile_path")
        known = ("path", "dockerfile_path", "dockerfile", "bytecode")
        for key in build:
            if key not in known:
                raise self._bad(("build", key), "unknown key", did_you_mean(key, list(known)))
        if "bytecode" in build:
            self.spec["build"] = {"bytecode": build["bytecode"]}
            self._lines(("build",), ("build",))
        if set(build) <= {"bytecode"}:
            return
        for key in ("image", "docker_steps"):
            if key in self.value:
                raise self._bad(
                    (key,), "and build are two bases: the Dockerfile has its own FROM", "keep one of the two"
                )
        folder = self.folder / str(build.get("path", "."))
        name = build.get("dockerfile_path", build.get("dockerfile", "Dockerfile"))
        path = folder / str(name)
        if not path.is_file():
            at = next(key for key in ("dockerfile_path", "dockerfile", "path") if key in build)
            raise self._bad(("build", at), f"there is no file {name} in {folder}", "name a folder with a Dockerfile")
        ids = {str(one.get("id")) for one in self.spec.get("secrets", ()) if isinstance(one, dict)}
        self.spec |= files.dockerfile(path, str(name), ids, self.where, f"{self.field}.build")
        self.context = folder.resolve()


def _secret(item: dict[str, Any]) -> dict[str, Any]:
    return {"secretRef" if key == "secret_ref" else key: value for key, value in item.items()}


def found_in(code: Path) -> EnvironmentAsked | None:
    """The environment that a code folder describes by itself, or None."""
    return next((from_file(code / name) for name in FOUND_BY_ITSELF if (code / name).is_file()), None)
