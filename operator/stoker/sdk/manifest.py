"""TrainingJob manifests: read as they are into a draft, and written from a draft once everything in it has its digest."""

import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from stoker.api.names import API_VERSION, GROUP, slug
from stoker.core.yaml12 import Document, WrittenFloat, WrittenInt, dotted
from stoker.errors import BadInput, BadInputs
from stoker.sdk import environments
from stoker.sdk.draft import Draft, EnvironmentAsked, LocalInput, shown

#: No vowels and no look-alikes: a name that nobody has to spell twice, and that spells nothing.
_LETTERS = "bcdfghjkmnpqrstvwxz23456789"


def is_resource(value: Any) -> bool:
    """Whether a document is a Kubernetes object and not a job file."""
    return isinstance(value, dict) and ("apiVersion" in value or "kind" in value)


def read(document: Document, folder: Path) -> Draft:
    """The draft of a TrainingJob manifest. Raises BadInputs with every field that the API server would refuse."""
    from stoker.api.validate import problems

    value = document.value
    if value.get("kind") != "TrainingJob" or not str(value.get("apiVersion", "")).startswith(GROUP + "/"):
        message = f"{shown(value.get('kind'))} of {shown(value.get('apiVersion'))} is not a TrainingJob"
        raise BadInput(
            "kind", message, f"write apiVersion: {API_VERSION} and kind: TrainingJob", document.where(("kind",))
        )
    plain_value = plain_data({key: item for key, item in value.items() if key != "status"})
    generated = plain_value.get("metadata", {}).get("generateName")
    checked = plain_value
    if generated and "name" not in plain_value["metadata"]:
        checked = {**plain_value, "metadata": {**plain_value["metadata"], "name": f"{generated}x"}}
    found = problems("TrainingJob", checked)
    if found:
        raise BadInputs(tuple(
            BadInput(one.path, _message(one.message, one.value), one.fix, document.where(field_path(one.path))) for one in found
        ))  # fmt: skip
    spec = dict(plain_value["spec"])
    compute = spec.pop("compute", None)
    command = dict(spec["command"])
    code = command.pop("code", None) or {}
    environment = _environment(command.pop("environment"), document)
    metadata = dict(plain_value.get("metadata") or {})
    return Draft(
        base=str(generated).rstrip("-.") if generated else folder.resolve().name, source=document.source,
        spec={**spec, "command": command}, environment=environment, inline=code.get("inline"), snapshot=code.get("snapshot"),
        name=metadata.get("name"), compute=compute,
        metadata={key: metadata[key] for key in ("namespace", "labels", "annotations") if key in metadata},
    )  # fmt: skip


def _message(message: str, value: Any) -> str:
    return (
        message
        if value is None or shown(value) in message or repr(value) in message
        else f"{message} (got {shown(value)})"
    )


def field_path(dotted_path: str) -> tuple[str | int, ...]:
    """`spec.pip[2]` as the path of a value."""
    parts: list[str | int] = []
    for part in dotted_path.replace("[", ".[").split("."):
        number = part.removeprefix("[").rstrip("]")
        parts.append(int(number) if part.startswith("[") and number.isdecimal() else part)
    return tuple(parts)


def _environment(choice: Mapping[str, Any], document: Document) -> EnvironmentAsked:
    if choice.get("name"):
        return EnvironmentAsked("name", document.source, name=str(choice["name"]))
    at = ("spec", "command", "environment", "spec")
    lines = {path[4:]: document.where(path) for path in document.lines if path[:4] == at}
    return environments.from_spec(choice.get("spec") or {}, document.source, lines, "spec.command.environment.spec")


def plain_data(value: Any) -> Any:
    """The same value in the plain types that JSON has, without the memory of how a number was written."""
    if isinstance(value, Mapping):
        return {key: plain_data(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain_data(item) for item in value]
    if isinstance(value, WrittenInt):
        return int(value)
    return float(value) if isinstance(value, WrittenFloat) else value


def check(kind: str, document: dict[str, Any], source: str) -> None:
    """Raises BadInputs with what the API server would refuse."""
    from stoker.api.validate import problems

    found = problems(kind, document)
    if found:
        raise BadInputs(tuple(BadInput(one.path, one.message, one.fix, source) for one in found))


def generated_name(base: str) -> str:
    """`<base>-<4 letters>`, fit for a TrainingJob."""
    return f"{slug(base, 50)}-{''.join(secrets.choice(_LETTERS) for _ in range(4))}"


def write(
    draft: Draft, name: str, namespace: str | None, snapshot: str | None, inputs: Mapping[str, str]
) -> dict[str, Any]:
    """The TrainingJob that a draft becomes. snapshot: digest of the code. inputs: digest of each local input."""
    spec: dict[str, Any] = {key: item for key, item in draft.spec.items() if key not in ("command", "inputs")}
    if draft.compute and draft.compute != "local":
        spec["compute"] = draft.compute
    all_inputs = {**draft.spec.get("inputs", {}), **_sent_inputs(draft.local_inputs, inputs)}
    if all_inputs:
        spec["inputs"] = all_inputs
    command = dict(draft.spec["command"])
    if draft.inline:
        command["code"] = {"inline": dict(draft.inline)}
    elif snapshot:
        command["code"] = {"snapshot": snapshot}
    command["environment"] = environment_block(draft.environment)
    spec["command"] = command
    metadata: dict[str, Any] = {"name": name, **{k: v for k, v in draft.metadata.items() if k != "namespace"}}
    if namespace:
        metadata["namespace"] = namespace
    return {"apiVersion": API_VERSION, "kind": "TrainingJob", "metadata": metadata, "spec": spec}


def environment_block(asked: EnvironmentAsked | None) -> dict[str, Any]:
    """`command.environment` of a manifest."""
    if asked is None:
        return {"spec": {}}
    if asked.kind == "name":
        return {"name": asked.name}
    return {"spec": plain_data(asked.spec)}


def _sent_inputs(local: Mapping[str, LocalInput], digests: Mapping[str, str]) -> dict[str, Any]:
    return {
        name: {"type": one.kind, "path": f"snapshot:{digests[name]}", "mode": "download"} for name, one in local.items()
    }


__all__ = ["check", "dotted", "environment_block", "generated_name", "is_resource", "plain_data", "read", "write"]
