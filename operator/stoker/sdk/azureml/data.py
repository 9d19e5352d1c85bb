"""Inputs and outputs of a command job."""

import re
from typing import Any

from stoker.core.yaml12 import Path as FieldPath
from stoker.core.yaml12 import text_of
from stoker.sdk.azureml.fields import INPUTS, OUTPUTS
from stoker.sdk.azureml.reading import Reader, is_remote
from stoker.sdk.draft import LocalInput, shown

_RESERVED = frozenset({"path", "ld_library_path", "user", "logname", "home", "pwd", "shell"})
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*\Z")
_SECRET = {"name": re.compile(r"[a-z0-9.-]{1,253}\Z"), "key": re.compile(r"[-._A-Za-z0-9]{1,253}\Z")}
#: Read by fetch, below the workspace's storage.
_READ = ("s3://", "file://", "snapshot:sha256:")
#: Types whose data may be a file or a folder: what path names decides.
_EITHER = frozenset({"custom_model"})
_MOST_LITERAL = 4096


class Data:
    """Reads the inputs and outputs of a document. local: inputs that lie on this machine, by name."""

    def __init__(self, reader: Reader) -> None:
        self.reader = reader
        self.local: dict[str, LocalInput] = {}

    def inputs(self, value: Any) -> dict[str, Any]:
        """`spec.inputs`, but for those that lie on this machine."""
        found: dict[str, Any] = {}
        for name, item in self.reader.mapping(("inputs",), value).items():
            at: FieldPath = ("inputs", name)
            if self._port_name(at, name) and (one := self._input(at, name, item)) is not None:
                found[name] = one
        return found

    def outputs(self, value: Any) -> dict[str, Any]:
        """`spec.outputs`."""
        found: dict[str, Any] = {}
        reader = self.reader
        for name, item in reader.mapping(("outputs",), value).items():
            at: FieldPath = ("outputs", name)
            given = reader.mapping(at, item)
            reader.keys(at, given, OUTPUTS, "outputs.*")
            kind = given.get("type")
            kind = reader.choice((*at, "type"), kind, OUTPUTS, "outputs.*.type") if kind is not None else "uri_folder"
            if (mode := given.get("mode")) is not None:
                reader.choice((*at, "mode"), mode, OUTPUTS, "outputs.*.mode")
            if self._port_name(at, name):
                found[name] = {"type": "uri_file" if kind == "uri_file" else "uri_folder", "mode": "upload"}
        return found

    def _port_name(self, at: FieldPath, name: str) -> bool:
        if _VARIABLE.match(name) and len(name) <= 64 and name.lower() not in _RESERVED:
            return True
        fix = "use letters, digits and _, at most 64, and none of: " + ", ".join(sorted(_RESERVED))
        self.reader.bad(at, f"{shown(name)} is not a name for it", fix)
        return False

    def _input(self, at: FieldPath, name: str, item: Any) -> dict[str, Any] | None:
        if item is None or isinstance(item, list):
            said = "has no value" if item is None else f"{shown(item)} is a list"
            self.reader.bad(at, said, "write a literal, or type and path")
            return None
        if not isinstance(item, dict):
            return self._literal(at, text_of(item))
        if "secret_ref" in item:
            return self._secret(at, item)
        return self._data(at, name, item)

    def _literal(self, at: FieldPath, text: str) -> dict[str, Any] | None:
        if len(text) <= _MOST_LITERAL:
            return {"value": text}
        self.reader.bad(
            at, f"a literal of {len(text)} characters", f"write at most {_MOST_LITERAL}, or put it in a file"
        )
        return None

    def _secret(self, at: FieldPath, item: dict[str, Any]) -> dict[str, Any] | None:
        """The key of a Secret that an input names. None when it has a problem."""
        reader = self.reader
        before = len(reader.problems)
        for key in item.keys() - {"secret_ref"}:
            reader.bad((*at, key), "does not belong beside secret_ref", "remove it: a secret has secret_ref alone")
        here = (*at, "secret_ref")
        given = reader.mapping(here, item["secret_ref"])
        for key in given.keys() - _SECRET.keys():
            reader.bad((*here, key), "unknown key", "a secret has name and key")
        for key, pattern in _SECRET.items():
            if key not in given:
                reader.bad(here, f"{key} is missing", "write secret_ref: {name: THE_SECRET, key: A_KEY_IN_IT}")
            elif not isinstance(given[key], str) or not pattern.match(given[key]):
                message = f"{shown(given[key])} is not the {key} of a Secret"
                reader.bad((*here, key), message, "see `kubectl get secrets`")
        if len(reader.problems) > before:
            return None
        return {"secretRef": {key: str(given[key]) for key in _SECRET}}

    def _data(self, at: FieldPath, name: str, item: dict[str, Any]) -> dict[str, Any] | None:
        """An input with a path; a local one is kept apart, to be sent as a snapshot. None when it has a problem."""
        reader = self.reader
        before = len(reader.problems)
        if "value" in item:
            reader.bad((*at, "value"), "unknown key", f"a literal stands by itself: {name}: {text_of(item['value'])}")
        reader.keys(at, {key: one for key, one in item.items() if key != "value"}, INPUTS, "inputs.*")
        kind, mode = item.get("type"), item.get("mode")
        if kind is not None:
            kind = reader.choice((*at, "type"), kind, INPUTS, "inputs.*.type")
        if mode is not None:
            mode = reader.choice((*at, "mode"), mode, INPUTS, "inputs.*.mode")
        path = item.get("path")
        if not isinstance(path, str) or not path:
            said = "is missing" if path is None else f"{shown(path)} is not a path"
            reader.bad((*at, "path"), said, "name a folder, a file or s3://...")
            return None
        if len(reader.problems) > before:
            return None
        url = path.removeprefix("azureml:") if "://" in path and not path.startswith("azureml://") else path
        if mode == "direct":
            return self._direct(at, url)
        if url.startswith(_READ):
            return {"type": _remote_kind(kind, url), "path": url, "mode": "download"}
        self._local(at, name, kind, url)
        return None

    def _direct(self, at: FieldPath, url: str) -> dict[str, Any] | None:
        if not is_remote(url) and not url.startswith("file://"):
            self.reader.bad((*at, "mode"), f"direct, and {shown(url)} is no URL", "write download, or a URL as path")
            return None
        if url.startswith("azureml:"):
            self._unread(at, url)
            return None
        return self._literal((*at, "path"), url)

    def _unread(self, at: FieldPath, url: str) -> None:
        """A place that nothing here reads."""
        scheme = url.partition("://")[0] + "://" if "://" in url else "azureml:NAME:VERSION"
        if url.startswith("azureml://datastores/") or (url.startswith("azureml://") and "/datastores/" in url):
            scheme = "azureml://datastores"
        known = INPUTS.get(f"inputs.*.path: {scheme.replace('wasb:', 'wasbs:').replace('abfs:', 'abfss:')}")
        unread = known or INPUTS["inputs.*.path: https://"]
        self.reader.field((*at, "path"), unread, f"{shown(url)}: ")

    def _local(self, at: FieldPath, name: str, kind: str | None, path: str) -> None:
        if is_remote(path):
            self._unread(at, path)
            return
        place = self.reader.local((*at, "path"), path, "a local path", "name a folder, a file or s3://...")
        if place is None:
            return
        if place.is_dir():
            if kind == "uri_file":
                self.reader.bad((*at, "type"), f'"uri_file", but {path} is a folder', "write type: uri_folder")
                return
            self.local[name] = LocalInput(place, "uri_folder")
            return
        if kind != "uri_file" and kind not in _EITHER:
            was = f'"{kind}"' if kind else "uri_folder, which a missing type means"
            self.reader.warn((*at, "type") if kind else at, f"{was}, but {path} is a file: taken as uri_file")
        self.local[name] = LocalInput(place, "uri_file")


def _remote_kind(kind: str | None, url: str) -> str:
    if kind == "uri_file":
        return kind
    is_file = kind in _EITHER and not url.endswith("/") and "." in url.rpartition("/")[2]
    return "uri_file" if is_file else "uri_folder"
