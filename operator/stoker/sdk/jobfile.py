"""A job file in the shape of Azure ML's command job, turned into a draft of a TrainingJob.

Every problem of a file is told at once, with its line. Keys of that format which Stoker cannot honour yet are errors that
name the key, never ignored.
"""

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from stoker.core.yaml12 import Document, dotted, text_of
from stoker.core.yaml12 import Path as FieldPath
from stoker.errors import BadInput, BadInputs, did_you_mean
from stoker.sdk import environments
from stoker.sdk.draft import Draft, EnvironmentAsked, LocalInput, check_name, seconds, shown

KEYS = frozenset({
    "$schema", "type", "name", "display_name", "experiment_name", "description", "tags", "command", "code", "environment",
    "environment_variables", "compute", "inputs", "outputs", "resources", "limits", "queue_settings",
})  # fmt: skip
NOT_YET = {
    "component": "components are not supported yet; write `command` and `code` here",
    "distribution": "launching several processes per node is not supported yet; start them in `command` (torchrun reads MASTER_ADDR and NODE_RANK)",
    "services": "interactive services are not supported yet; leave them out",
    "identity": "identities are not supported yet; leave it out",
    "schedule": "schedules are not supported yet; leave it out",
    "parent_job_name": "it is Azure ML's own field; leave it out",
    "properties": "it is Azure ML's own field; use tags",
    "jobs": "pipelines are not supported yet; write one file per command",
    "trial": "sweeps are not supported yet; write one command with fixed inputs",
    **{
        key: f"a job file cannot say it; write a TrainingJob manifest, where it is spec.{field}"
        for key, field in (
            ("retry", "retry"),
            ("cleanup", "cleanup"),
            ("suspend", "suspend"),
            ("run_policy", "runPolicy"),
        )
    },
}
_LIMITS_NOT_YET = {
    "trial_timeout": "sweeps are not supported yet; use timeout",
    **{
        key: f"a job file has no limit but timeout; write a TrainingJob manifest, where it is spec.limits.{field}"
        for key, field in (
            ("queue_timeout", "queueTimeoutSeconds"),
            ("save_stall", "saveStallSeconds"),
            ("no_progress", "noProgressSeconds"),
            ("grace", "graceSeconds"),
        )
    },
}
_QUEUE_NOT_YET = {"job_tier": "tiers are chosen by `compute` and its instance types; leave it out"}
_RESOURCES = frozenset({"instance_count", "instance_type", "shm_size", "requests"})
_RESOURCES_NOT_YET = {
    "docker_args": "arguments of docker have no meaning in a cluster; use shm_size or a TrainingJob manifest's `pod`",
    "locations": "places are chosen by `compute`; leave it out",
    "max_instance_count": "elastic jobs are not supported yet; use instance_count",
    "properties": "it is Azure ML's own field; leave it out",
}
_INPUT_TYPES = ("uri_folder", "uri_file")
_ASSET_TYPES = ("mltable", "mlflow_model", "custom_model", "triton_model")
_RESERVED = frozenset({"path", "ld_library_path", "user", "logname", "home", "pwd", "shell"})
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*\Z")
_SECRET = {"name": re.compile(r"[a-z0-9.-]{1,253}\Z"), "key": re.compile(r"[-._A-Za-z0-9]{1,253}\Z")}
_SHM = re.compile(r"(\d+(?:\.\d+)?)([bkmg])\Z", re.IGNORECASE)
_QUANTITY = re.compile(r"([0-9]+(\.[0-9]*)?|\.[0-9]+)(m|k|M|G|T|P|E|Ki|Mi|Gi|Ti|Pi|Ei|[eE][0-9]+)?\Z")
_REMOTE = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+)://")


def read(document: Document, folder: Path) -> Draft:
    """The draft that a job file asks for; paths are relative to folder. Raises BadInputs with every problem."""
    return _JobFile(document, folder).draft()


def _line(problem: BadInput) -> int:
    number = problem.where.rpartition(":")[2]
    return int(number) if number.isdecimal() else 0


class _JobFile:
    def __init__(self, document: Document, folder: Path) -> None:
        self.document = document
        self.folder = folder
        self.problems: list[BadInput] = []
        self.local_inputs: dict[str, LocalInput] = {}

    def draft(self) -> Draft:
        root = self.document.value
        if not isinstance(root, dict):
            raise BadInput(
                "", f"a job file is a mapping, not {shown(root)}", "start with command: ...", self.document.source
            )
        self._keys((), root, KEYS, NOT_YET)
        self._type(root.get("type"))
        spec: dict[str, Any] = {"type": "command"}
        for key, member in (
            ("experiment_name", "experiment"),
            ("display_name", "displayName"),
            ("description", "description"),
        ):
            if (text := self._text((key,), root.get(key))) is not None:
                spec[member] = text
        if tags := self._texts(("tags",), root.get("tags")):
            spec["tags"] = tags
        if inputs := self._inputs(root.get("inputs")):
            spec["inputs"] = inputs
        if outputs := self._outputs(root.get("outputs")):
            spec["outputs"] = outputs
        if (timeout := self._limits(root.get("limits"))) is not None:
            spec["limits"] = {"timeoutSeconds": timeout}
        if (priority := self._priority(root.get("queue_settings"))) is not None:
            spec["queue"] = {"priority": priority}
        command: dict[str, Any] = {"command": self._command(root.get("command"))}
        if env := self._variables(root.get("environment_variables")):
            command["env"] = env
        if resources := self._resources(root.get("resources")):
            command["resources"] = resources
        spec["command"] = command
        made = Draft(
            base=self.folder.resolve().name or "train", source=self.document.source, spec=spec,
            environment=self._environment(root.get("environment")), code=self._code(root.get("code")),
            local_inputs=self.local_inputs, name=self._name(root.get("name")), compute=self._compute(root.get("compute")),
        )  # fmt: skip
        if self.problems:
            raise BadInputs(tuple(sorted(self.problems, key=_line)))
        return made

    # -- Small readers. Each notes its problems and returns what a caller can go on with.

    def _bad(self, path: FieldPath, message: str, fix: str) -> None:
        self.problems.append(BadInput(dotted(path), message, fix, self.document.where(path)))

    def _try(self, read_it: Callable[[], Any]) -> Any:
        try:
            return read_it()
        except BadInput as problem:
            self.problems.append(problem)
            return None
        except BadInputs as several:
            self.problems += several.problems
            return None

    def _keys(
        self, path: FieldPath, value: Mapping[str, Any], known: frozenset[str], not_yet: Mapping[str, str]
    ) -> None:
        for key in value:
            if key in not_yet:
                message, _, fix = not_yet[key].partition("; ")
                self._bad((*path, key), message, fix)
            elif key not in known:
                self._bad((*path, key), "unknown key", did_you_mean(key, known - {"$schema"}))

    def _mapping(self, path: FieldPath, value: Any) -> dict[str, Any]:
        if value is None or isinstance(value, dict):
            return value or {}
        self._bad(path, f"{shown(value)} is not a mapping", "write name: value, one per line")
        return {}

    def _text(self, path: FieldPath, value: Any) -> str | None:
        if value is None:
            return None
        if isinstance(value, dict | list):
            self._bad(path, f"{shown(value)} is not text", "write one value")
            return None
        return text_of(value)

    def _texts(self, path: FieldPath, value: Any) -> dict[str, str]:
        pairs = self._mapping(path, value)
        return {key: self._text((*path, key), item) or "" for key, item in pairs.items()}

    # -- The keys of the file, one by one.

    def _type(self, value: Any) -> None:
        if value is not None and str(value).lower() != "command":
            self._bad(("type",), f"{shown(value)} is not supported yet", "this version runs type: command")

    def _name(self, value: Any) -> str | None:
        if value is None:
            return None
        found: str | None = self._try(lambda: check_name(text_of(value), "name", self.document.where(("name",))))
        return found

    def _command(self, value: Any) -> str:
        if isinstance(value, str) and value.strip():
            return value
        problem = "is missing" if value is None else f"{shown(value)} is not shell text"
        self._bad(("command",), problem, "write what to run, such as command: python train.py")
        return ""

    def _code(self, value: Any) -> Path | None:
        if value is None:
            return None
        if not isinstance(value, str) or _REMOTE.match(value) or value.startswith("azureml:"):
            self._bad(
                ("code",), f"{shown(value)} is not a local folder", "name a folder beside this file, such as code: ."
            )
            return None
        path = (self.folder / value.removeprefix("file:")).resolve()
        if not path.exists():
            self._bad(
                ("code",), f"{shown(value)} does not exist ({path})", "name a folder beside this file, such as code: ."
            )
            return None
        return path

    def _environment(self, value: Any) -> EnvironmentAsked | None:
        if value is None:
            return None
        at, where = ("environment",), self.document.where(("environment",))
        if isinstance(value, str):
            found = self._try(
                lambda: environments.from_text(value, self.folder, "environment", where, self.document.source)
            )
        elif isinstance(value, dict):
            found = self._try(lambda: environments.from_mapping(self.document, at, self.folder, self.document.source))
        else:
            self._bad(
                at,
                f"{shown(value)} is not an environment",
                "write a name, a file, an image, system, or a mapping of image, conda_file and pip",
            )
            return None
        asked: EnvironmentAsked | None = found
        return asked

    def _compute(self, value: Any) -> str | None:
        if value is None:
            return None
        text = str(value).removeprefix("azureml:")
        if not isinstance(value, str) or not re.fullmatch(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?", text) or len(text) > 63:
            self._bad(
                ("compute",),
                f"{shown(value)} is not the name of a ComputeCluster",
                "write local or a name, such as cpu",
            )
            return None
        if text == "serverless":
            self._bad(("compute",), "serverless is not supported yet", "name a ComputeCluster, or write local")
        return text

    def _variables(self, value: Any) -> list[dict[str, str]]:
        found = []
        for key, text in self._texts(("environment_variables",), value).items():
            if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_.-]*", key):
                self._bad(
                    ("environment_variables", key),
                    f"{shown(key)} is not a variable's name",
                    "use letters, digits and _",
                )
            elif key.startswith("STOKER_"):
                self._bad(
                    ("environment_variables", key), "names that start with STOKER_ are Stoker's own", "choose another"
                )
            else:
                found.append({"name": key, "value": text})
        return found

    def _resources(self, value: Any) -> dict[str, Any]:
        given = self._mapping(("resources",), value)
        self._keys(("resources",), given, _RESOURCES, _RESOURCES_NOT_YET)
        found: dict[str, Any] = {}
        if (count := given.get("instance_count")) is not None:
            if isinstance(count, int) and not isinstance(count, bool) and 1 <= count <= 10000:
                found["instanceCount"] = int(count)
            else:
                self._bad(
                    ("resources", "instance_count"), f"{shown(count)} is not a number of nodes", "write 1 to 10000"
                )
        if (kind := self._text(("resources", "instance_type"), given.get("instance_type"))) is not None:
            found["instanceType"] = kind
        if (size := given.get("shm_size")) is not None and (quantity := self._shm(text_of(size))):
            found["shmSize"] = quantity
        requests = self._texts(("resources", "requests"), given.get("requests"))
        for key, text in requests.items():
            if not _QUANTITY.match(text):
                self._bad(
                    ("resources", "requests", key), f"{shown(text)} is not a quantity", "write such as 2, 500m or 4Gi"
                )
        if requests:
            found["requests"] = requests
        return found

    def _shm(self, text: str) -> str | None:
        if match := _SHM.match(text):
            unit = {"b": "", "k": "Ki", "m": "Mi", "g": "Gi"}[match[2].lower()]
            return match[1] + unit
        if _QUANTITY.match(text):
            return text
        self._bad(
            ("resources", "shm_size"), f"{shown(text)} is not a size", "write a number and b, k, m or g, such as 2g"
        )
        return None

    def _limits(self, value: Any) -> int | None:
        given = self._mapping(("limits",), value)
        self._keys(("limits",), given, frozenset({"timeout"}), _LIMITS_NOT_YET)
        if given.get("timeout") is None:
            return None
        at: FieldPath = ("limits", "timeout")
        found: int | None = self._try(lambda: seconds(given["timeout"], "limits.timeout", self.document.where(at)))
        return found

    def _priority(self, value: Any) -> str | None:
        """Azure ML writes it in small letters."""
        given = self._mapping(("queue_settings",), value)
        self._keys(("queue_settings",), given, frozenset({"priority"}), _QUEUE_NOT_YET)
        priority = given.get("priority")
        if priority is None or str(priority).lower() in ("low", "medium", "high"):
            return None if priority is None else str(priority).capitalize()
        self._bad(("queue_settings", "priority"), f"{shown(priority)} is no priority", "write low, medium or high")
        return None

    def _port_name(self, at: FieldPath, name: str) -> bool:
        if _VARIABLE.match(name) and len(name) <= 64 and name.lower() not in _RESERVED:
            return True
        fix = "use letters, digits and _, at most 64, and none of: " + ", ".join(sorted(_RESERVED))
        self._bad(at, f"{shown(name)} is not a name for it", fix)
        return False

    def _inputs(self, value: Any) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for name, item in self._mapping(("inputs",), value).items():
            at: FieldPath = ("inputs", name)
            if not self._port_name(at, name):
                continue
            if item is None or isinstance(item, list):
                self._bad(
                    at,
                    "has no value" if item is None else f"{shown(item)} is a list",
                    "write a literal, or type and path",
                )
            elif isinstance(item, dict) and "secret_ref" in item:
                if (secret := self._secret(at, item)) is not None:
                    found[name] = {"secretRef": secret}
            elif not isinstance(item, dict):
                found[name] = {"value": text_of(item)}
            elif (data := self._data(at, name, item)) is not None:
                found[name] = data
        return found

    def _secret(self, at: FieldPath, item: dict[str, Any]) -> dict[str, str] | None:
        """The key of a Secret that an input names. None when it has a problem."""
        before = len(self.problems)
        for key in item.keys() - {"secret_ref"}:
            self._bad((*at, key), "does not belong beside secret_ref", "remove it: a secret has secret_ref alone")
        here = (*at, "secret_ref")
        given = self._mapping(here, item["secret_ref"])
        self._keys(here, given, frozenset({"name", "key"}), {})
        for key, pattern in _SECRET.items():
            if key not in given:
                self._bad(here, f"{key} is missing", "write secret_ref: {name: THE_SECRET, key: A_KEY_IN_IT}")
            elif not isinstance(given[key], str) or not pattern.match(given[key]):
                self._bad(
                    (*here, key), f"{shown(given[key])} is not the {key} of a Secret", "see `kubectl get secrets`"
                )
        return None if len(self.problems) > before else {key: str(given[key]) for key in _SECRET}

    def _data(self, at: FieldPath, name: str, item: dict[str, Any]) -> dict[str, Any] | None:
        """An input with a path; a local one is kept apart, to be sent as a snapshot. None when it has a problem."""
        before = len(self.problems)
        if "value" in item:
            self._bad((*at, "value"), "unknown key", f"a literal stands by itself: {name}: {text_of(item['value'])}")
        unsupported = {"datastore": "datastores are not supported yet; write the storage URL as path"}
        self._keys(at, item, frozenset({"type", "path", "mode", "value"}), unsupported)
        kind = item.get("type", "uri_folder")
        if kind not in _INPUT_TYPES:
            said = "is not supported yet" if kind in _ASSET_TYPES else "is not a type of input"
            self._bad((*at, "type"), f"{shown(kind)} {said}", "write uri_folder or uri_file")
        if item.get("mode") not in (None, "download"):
            self._bad((*at, "mode"), f"{shown(item['mode'])} is not supported yet", "write download, or leave it out")
        path = item.get("path")
        if not isinstance(path, str) or not path:
            said = "is missing" if path is None else f"{shown(path)} is not a path"
            self._bad((*at, "path"), said, "name a folder, a file or s3://...")
            return None
        if len(self.problems) > before:
            return None
        if path.startswith(("s3://", "file://", "snapshot:sha256:")):
            return {"type": kind, "path": path, "mode": "download"}
        self._local(at, name, str(kind), path)
        return None

    def _local(self, at: FieldPath, name: str, kind: str, path: str) -> None:
        scheme = _REMOTE.match(path)
        if scheme or path.startswith("azureml:"):
            message = f"{shown(path)}: {scheme[1] if scheme else 'azureml'} is not supported yet"
            self._bad((*at, "path"), message, "name a local path, or s3:// below the workspace's storage")
            return
        place = (self.folder / path.removeprefix("file:")).resolve()
        if not place.exists():
            self._bad((*at, "path"), f"{shown(path)} does not exist ({place})", "name a folder, a file or s3://...")
        elif place.is_dir() != (kind == "uri_folder"):
            is_a, right = ("a folder", "uri_folder") if place.is_dir() else ("a file", "uri_file")
            self._bad((*at, "type"), f"{shown(kind)}, but {path} is {is_a}", f"write type: {right}")
        else:
            self.local_inputs[name] = LocalInput(place, kind)

    def _outputs(self, value: Any) -> dict[str, Any]:
        found: dict[str, Any] = {}
        not_yet = {
            "path": "a place of its own is not supported yet; leave it out, the files are stored with the run",
            "name": "registering an output is not supported yet; leave it out",
            "version": "registering an output is not supported yet; leave it out",
        }
        for name, item in self._mapping(("outputs",), value).items():
            at: FieldPath = ("outputs", name)
            given = self._mapping(at, item)
            self._keys(at, given, frozenset({"type", "mode"}), not_yet)
            kind, mode = given.get("type", "uri_folder"), given.get("mode", "upload")
            if kind not in _INPUT_TYPES:
                said = "is not supported yet" if kind in _ASSET_TYPES else "is not a type of output"
                self._bad((*at, "type"), f"{shown(kind)} {said}", "write uri_folder or uri_file")
            if mode != "upload":
                self._bad((*at, "mode"), f"{shown(mode)} is not supported yet", "write upload, or leave it out")
            if self._port_name(at, name):
                found[name] = {"type": kind, "mode": "upload"}
        return found
