"""What a file of Azure ML's is, by its `type`, its keys and, as a hint, its `$schema`."""

import re
from collections.abc import Mapping
from typing import Any, Literal

from stoker.core.yaml12 import Document
from stoker.errors import BadInput
from stoker.sdk.draft import shown

Kind = Literal["command", "component", "environment", "compute", "runconfig"]

#: Kinds with nothing behind them, and what to do instead.
NOT_YET = {
    "pipeline": ("pipelines are not supported yet", "write one file for each command"),
    "sweep": ("sweeps are not supported yet", "write one command with fixed inputs"),
    "automl": ("AutoML jobs are not supported yet", "write a command that trains"),
    "spark": ("Spark jobs are not supported yet", "write a command that starts Spark itself"),
    "parallel": ("parallel jobs are not supported yet", "write a command; STOKER_RANK tells the nodes apart"),
    "finetuning": ("fine-tuning jobs are not supported yet", "write a command that trains"),
    "import": ("import jobs are not supported yet", "copy the data to the workspace's storage"),
    "schedule": ("schedules are not supported yet", "let cron or a CronJob call `stoker run`"),
    "data": ("data assets are not supported yet", "name the path itself in a job's inputs"),
    "model": ("models are not supported yet", "name the path itself in a job's inputs"),
    "computeinstance": ("compute instances are not supported", "use type: amlcompute"),
    "virtualmachine": ("attached virtual machines are not supported", "use a ComputeCluster with provider Static"),
    "kubernetes": ("attached clusters are not supported", "install Stoker in that cluster"),
    "synapsespark": ("Spark pools are not supported", "use type: amlcompute"),
    "datastore": ("datastores are not supported yet", "name the storage URL itself in a job's inputs"),
    "workspace": ("workspaces are not imported", "write a Workspace manifest"),
    "registry": ("registries are not imported", "see spec.globalRegistries of a Workspace"),
    "endpoint": ("endpoints are not supported: Stoker trains and does not serve", "leave it out"),
    "deployment": ("deployments are not supported: Stoker trains and does not serve", "leave it out"),
}
#: The last part of `$schema`, in small letters and without what follows the first dot.
_SCHEMAS = {
    "commandjob": "command", "commandcomponent": "component", "environment": "environment", "amlcompute": "compute",
    "pipelinejob": "pipeline", "pipelinecomponent": "pipeline", "sweepjob": "sweep", "sparkjob": "spark",
    "sparkcomponent": "spark", "paralleljob": "parallel", "parallelcomponent": "parallel", "schedule": "schedule",
    "data": "data", "dataimport": "import", "model": "model", "computeinstance": "computeinstance",
    "virtualmachine": "virtualmachine", "kubernetescompute": "kubernetes", "synapsesparkcompute": "synapsespark",
    "synapsesparkpool": "synapsespark", "workspace": "workspace", "registry": "registry",
}  # fmt: skip
_JOB_TYPES = frozenset({"command", "pipeline", "sweep", "automl", "spark", "parallel", "import", "schedule"})
_COMPUTES = frozenset({"computeinstance", "virtualmachine", "kubernetes", "synapsespark"})
_MODELS = frozenset({"custom_model", "mlflow_model", "triton_model"})
_V1 = frozenset({"script", "framework", "communicator", "target"})


def kind_of(document: Document, name: str = "") -> Kind:
    """What a mapping is; raises BadInput for kinds with nothing behind them, naming the kind. name: of the file."""
    value = document.value
    if not isinstance(value, dict):
        return "command"
    found, at = _found(value, name)
    if found in NOT_YET:
        raise BadInput(at, f"{_front(value, at)}{NOT_YET[found][0]}", NOT_YET[found][1], document.point((at,)))
    return found  # type: ignore[return-value]


def _front(value: Mapping[str, Any], at: str) -> str:
    return f"{shown(value[at])}: " if at in ("type", "$schema") else ""


def _found(value: Mapping[str, Any], name: str) -> tuple[str, str]:
    """The kind, and the key that tells it."""
    if name.endswith(".runconfig") or (_V1 & value.keys() and "command" not in value):
        return "runconfig", "script"
    told = str(value.get("type", "")).lower()
    hint = _schema(value.get("$schema"))
    if told in _JOB_TYPES:
        return ("component" if told == "command" and hint == "component" else told), "type"
    if told == "amlcompute":
        return "compute", "type"
    if told in _COMPUTES:
        return told, "type"
    if "command" not in value:
        for key, kind in (
            ("jobs", "pipeline"), ("pipeline", "pipeline"), ("trial", "sweep"), ("create_job", "schedule"), ("import_data", "schedule"),
            ("training_data", "automl"), ("task", "automl"), ("entry", "spark"),
        ):  # fmt: skip
            if key in value:
                return kind, key
    if hint:
        return hint, "$schema"
    return _by_keys(value, told)


def _by_keys(value: Mapping[str, Any], told: str) -> tuple[str, str]:
    """For a file without a `$schema` that says it."""
    if "command" in value or "component" in value:
        return ("component" if _is_component(value) else "command"), "command"
    if told in _MODELS and "path" in value:
        return "model", "type"
    if "path" in value and "name" in value:
        return "data", "path"
    if {"image", "build", "conda_file"} & value.keys():
        return "environment", "image"
    return "command", "command"


def _is_component(value: Mapping[str, Any]) -> bool:
    return "is_deterministic" in value or "additional_includes" in value


def _schema(value: Any) -> str | None:
    """What a `$schema` hints at; its host and letters do not count."""
    if not isinstance(value, str):
        return None
    last = re.split(r"[/#]", value.rstrip("/#"))[-1].lower().partition(".")[0]
    if last.startswith("automl"):
        return "automl"
    if last.endswith("endpoint"):
        return "endpoint"
    if last.endswith("deployment"):
        return "deployment"
    if last.startswith("azure"):
        return "datastore"
    if last.startswith("finetuning"):
        return "finetuning"
    return _SCHEMAS.get(last)
