"""A command job, turned into a draft of a TrainingJob. Stoker's own job files have the same shape."""

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

from stoker.core.yaml12 import Document, text_of
from stoker.sdk import environments
from stoker.sdk.azureml import component, placement
from stoker.sdk.azureml.data import Data
from stoker.sdk.azureml.environment import copies
from stoker.sdk.azureml.fields import COMMAND, ENVIRONMENTS
from stoker.sdk.azureml.reading import Reader
from stoker.sdk.draft import Draft, EnvironmentAsked, check_name, shown

_TEXTS = (("experiment_name", "experiment"), ("display_name", "displayName"), ("description", "description"))


def read(document: Document, folder: Path) -> Draft:
    """The draft that a job file asks for; paths are relative to folder. Raises BadInputs with every problem."""
    reader = Reader(document, folder)
    made = _CommandJob(reader).draft()
    reader.done()
    return made


class _CommandJob:
    def __init__(self, reader: Reader) -> None:
        self.reader = reader
        self.root = reader.root
        self.component: Reader | None = None

    def draft(self) -> Draft:
        """What can be made of the file; the reader has its problems."""
        root, reader = self.root, self.reader
        reader.keys((), root, COMMAND)
        data = Data(reader)
        inputs, outputs = root.get("inputs"), root.get("outputs")
        if root.get("component") is not None and (found := component.named(reader, root["component"])) is not None:
            self.component = found
            inputs = component.inputs(reader, found, reader.mapping(("inputs",), inputs))
            outputs = component.outputs(found, reader.mapping(("outputs",), outputs))
        spec: dict[str, Any] = {"type": "command"}
        for key, member in _TEXTS:
            if (text := reader.text((key,), root.get(key))) is not None:
                spec[member] = text
        limit, priority = (
            placement.timeout(reader, root.get("limits")),
            placement.priority(reader, root.get("queue_settings")),
        )
        parts: tuple[tuple[str, Any], ...] = (
            ("tags", reader.texts(("tags",), root.get("tags"))),
            ("inputs", data.inputs(inputs)),
            ("outputs", data.outputs(outputs)),
            ("limits", {"timeoutSeconds": limit} if limit is not None else None),
            ("queue", {"priority": priority} if priority is not None else None),
        )
        spec |= {key: value for key, value in parts if value}
        having = {*spec.get("inputs", {}), *data.local}
        environment, code = self._environment(), self._code()
        made = Draft(
            base=reader.folder.resolve().name or "train", source=reader.document.source,
            spec={**spec, "command": self._command_block(having)}, environment=environment,
            code=code or self._context_as_code(environment), local_inputs=data.local,
            name=self._name(root.get("name")), compute=placement.compute(reader, root.get("compute")),
        )  # fmt: skip
        if self.component is not None:
            reader.problems += self.component.problems
            reader.warnings += self.component.warnings
        return replace(made, warnings=tuple(reader.warnings))

    def _owner(self, key: str) -> tuple[Reader, Any]:
        """A key's value and the file that has it: the job's, else its component's."""
        value = self.root.get(key)
        if value is None and self.component is not None:
            return self.component, self.component.root.get(key)
        return self.reader, value

    def _command_block(self, having: set[str]) -> dict[str, Any]:
        owner, value = self._owner("resources")
        resources = placement.resources(owner, value)
        owner, value = self._owner("distribution")
        distribution = placement.distribution(owner, value, resources.get("instanceCount", 1))
        owner, text = self._owner("command")
        if owner is self.component:
            text = component.command(text, having)
        found = {"command": self._command(owner, text)}
        variables = self._variables(self.root.get("environment_variables"))
        parts = {"env": variables, "resources": resources, "distribution": distribution}
        return {**found, **{key: value for key, value in parts.items() if value}}

    def _name(self, value: Any) -> str | None:
        """Azure ML's names have capitals and `_` in them."""
        if value is None:
            return None
        text, at = text_of(value), ("name",)
        name = re.sub(r"_+", "-", text.lower()).strip("-") if re.fullmatch(r"[A-Za-z0-9_-]+", text) else text
        found: str | None = self.reader.attempt(lambda: check_name(name, "name", self.reader.document.point(at)))
        if found is not None and found != text:
            self.reader.warn(at, f"{shown(text)} is written {found}: Kubernetes has no such letters in names")
        return found

    def _command(self, owner: Reader, value: Any) -> str:
        if isinstance(value, str) and value.strip():
            return value
        if value is None and self.component is None and self.root.get("component") is not None:
            return ""  # that the component cannot be had is told
        problem = "is missing" if value is None else f"{shown(value)} is not shell text"
        owner.bad(("command",), problem, "write what to run, such as command: python train.py")
        return ""

    def _code(self) -> Path | None:
        owner, value = self._owner("code")
        if value is None:
            return None
        fix = "name a folder beside this file, such as code: ."
        return owner.local(("code",), value, "a local folder", fix)

    def _environment(self) -> EnvironmentAsked | None:
        reader, value = self._owner("environment")
        if value is None:
            return None
        at, source = ("environment",), reader.document.source
        where = reader.document.where(at)
        if isinstance(value, str):
            found = reader.attempt(lambda: environments.from_text(value, reader.folder, "environment", where, source))
        elif isinstance(value, dict):
            _warn_of_environment(reader, value)
            found = reader.attempt(lambda: environments.from_mapping(reader.document, at, reader.folder, source))
        else:
            fix = "write a name, a file, an image, system, or a mapping of image, conda_file and pip"
            reader.bad(at, f"{shown(value)} is not an environment", fix)
            return None
        asked: EnvironmentAsked | None = found
        return asked

    def _context_as_code(self, asked: EnvironmentAsked | None) -> Path | None:
        """A Dockerfile's folder is the code of a job that names none: COPY has no other place to take files from."""
        if asked is None or asked.context is None or not copies(asked):
            return None
        words = f"COPY takes files from the job's code, and there is none: the folder {asked.context.name} is sent as the code"
        self.reader.warn(("environment", "build"), words)
        return asked.context

    def _variables(self, value: Any) -> list[dict[str, str]]:
        found = []
        for key, text in self.reader.texts(("environment_variables",), value).items():
            at = ("environment_variables", key)
            if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_.-]*", key):
                self.reader.bad(at, f"{shown(key)} is not a variable's name", "use letters, digits and _")
            elif key.startswith("STOKER_"):
                self.reader.bad(at, "names that start with STOKER_ are Stoker's own", "choose another")
            else:
                found.append({"name": key, "value": text})
        return found


def _warn_of_environment(reader: Reader, value: dict[str, Any]) -> None:
    """name and version together are one warning."""
    told: set[str] = set()
    for key in value:
        field = ENVIRONMENTS.get(f"environment.{key}")
        if field is not None and field.state == "warns" and field.says not in told:
            told.add(field.says)
            reader.field(("environment", key), field)
