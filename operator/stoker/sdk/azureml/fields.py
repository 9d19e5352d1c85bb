"""Every key of Azure ML's files that Stoker knows, and what becomes of it.

A key is written as a path: `inputs.*.mode` is a key of any input, `inputs.*.mode: direct` one value of it. A key that is
not here is unknown, and an error. The readers ask these tables, docs/azure.md is printed from them, and a test tries each.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

State = Literal["works", "warns", "refused"]


@dataclass(frozen=True)
class Field:
    """What becomes of a key. says: for a key that works, what it becomes; else what a message says of it. fix: what to do
    instead. own: Stoker's key, which Azure ML does not have."""

    state: State
    says: str = ""
    fix: str = ""
    own: bool = False


Table = Mapping[str, Field]


def _works(says: str) -> Field:
    return Field("works", says)


def _own(says: str) -> Field:
    return Field("works", says, own=True)


def _warns(says: str) -> Field:
    return Field("warns", says)


def _refused(says: str, fix: str) -> Field:
    return Field("refused", says, fix)


_UNMOUNTED_INPUT = _warns("the data is copied to the node before the command starts; nothing is mounted")
_UNMOUNTED_OUTPUT = _warns("files are uploaded while the command runs and after it; nothing is mounted")
_FOLDER = _works("kept as a folder; what is in it is not looked at")
_NO_ASSETS = _refused("assets are not supported yet", "name a local path, or s3:// below the workspace's storage")
_NO_SUCH_STORE = _refused(
    "is not a place that is read yet",
    "name a local path, or s3:// below the workspace's storage; with mode: direct the command gets the URL's text",
)
_ENVIRONMENT_NAME = _warns("name and version of an environment in a job's file mean nothing: its content is its name")
_NO_PROCESSES = "the command is started once on each node"
_NO_SWEEP = _refused("sweeps are not supported yet", "use limits.timeout")


def _in_manifest(field: str) -> Field:
    return Field(
        "refused", "a job file cannot say it", f"write a TrainingJob manifest, where it is spec.{field}", own=True
    )


def _limit_in_manifest(field: str) -> Field:
    fix = f"write a TrainingJob manifest, where it is spec.limits.{field}"
    return Field("refused", "a job file has no limit but timeout", fix, own=True)


RESOURCES: Table = {
    "resources.instance_count": _works("nodes: spec.command.resources.instanceCount; on this machine ranks"),
    "resources.instance_type": _works("name of one of the ComputeCluster's instanceTypes"),
    "resources.shm_size": _works("spec.command.resources.shmSize; missing: the container runtime's default, not 2g"),
    "resources.requests": _own("what each node's command needs; missing: the whole node"),
    "resources.docker_args": _warns("arguments of docker have no meaning in a cluster; resources.shm_size has"),
    "resources.locations": _warns("places are chosen by `compute`"),
    "resources.max_instance_count": _warns("jobs do not grow while they run: instance_count holds"),
    "resources.properties": _warns("it is Azure ML's own field"),
}
DISTRIBUTION: Table = {
    "distribution.type": _works("in any letters; the values below"),
    "distribution.type: pytorch": _works(
        "one process on each node with RANK, LOCAL_RANK and WORLD_SIZE set, beside MASTER_ADDR, MASTER_PORT and NODE_RANK"
    ),
    "distribution.type: mpi": _works("one process in all: the command is started as it is"),
    "distribution.type: tensorflow": _works("one worker: the command is started as it is, without TF_CONFIG"),
    "distribution.type: ray": _refused(
        "ray is not supported yet", "start ray in `command`: STOKER_HOSTS has the nodes"
    ),
    "distribution.process_count_per_instance": _works("1; more is refused"),
    "distribution.process_count_per_instance: more than 1": _refused(
        _NO_PROCESSES, "leave it out and start them in `command`, such as torchrun --nproc-per-node=N"
    ),
    "distribution.worker_count": _works("1; more is refused"),
    "distribution.worker_count: more than 1": _refused(
        "TF_CONFIG is not written yet", "make it in the script, from STOKER_HOSTS and STOKER_RANK"
    ),
    "distribution.parameter_server_count": _works("0; more is refused"),
    "distribution.parameter_server_count: more than 0": _refused(
        "TF_CONFIG is not written yet", "make it in the script, from STOKER_HOSTS and STOKER_RANK"
    ),
}
INPUTS: Table = {
    "inputs.*": _works("a literal: number, integer, boolean or text, as it is written; or data, with the keys below"),
    "inputs.*.type": _works("missing: uri_folder; a file that is named as a folder is taken as a file, with a warning"),
    "inputs.*.type: uri_folder": _works("a folder on the node"),
    "inputs.*.type: uri_file": _works("a file on the node"),
    "inputs.*.type: mltable": _warns("comes as a folder with an MLTable file; to read it is the script's affair"),
    "inputs.*.type: mlflow_model": _works("comes as a folder"),
    "inputs.*.type: custom_model": _works("comes as the file or folder that path names"),
    "inputs.*.type: triton_model": _works("comes as a folder"),
    "inputs.*.type: path": _warns("is the name that early files have for uri_folder, and is taken as that"),
    "inputs.*.path": _works("the values below"),
    "inputs.*.path: local": _works("a path beside the file, `file:` in front or not: sent at submission, once for each content"),
    "inputs.*.path: s3://": _works("below the workspace's storage"),
    "inputs.*.path: azureml:NAME:VERSION": _NO_ASSETS,
    "inputs.*.path: azureml://datastores": _refused(
        "datastores are not supported yet", "name a local path, or s3:// below the workspace's storage"
    ),
    "inputs.*.path: azureml://": _NO_ASSETS,
    "inputs.*.path: https://": _NO_SUCH_STORE,
    "inputs.*.path: http://": _NO_SUCH_STORE,
    "inputs.*.path: wasbs://": _NO_SUCH_STORE,
    "inputs.*.path: abfss://": _NO_SUCH_STORE,
    "inputs.*.path: adl://": _NO_SUCH_STORE,
    "inputs.*.mode": _works("the values below; missing: download"),
    "inputs.*.mode: download": _works("copied to the node before the command starts"),
    "inputs.*.mode: ro_mount": _UNMOUNTED_INPUT,
    "inputs.*.mode: direct": _works("the command gets the text of the URL, any URL; it opens it itself"),
    "inputs.*.mode: eval_mount": _refused("an MLTable is not evaluated", "write download; the script reads the table"),
    "inputs.*.mode: eval_download": _refused("an MLTable is not evaluated", "write download; the script reads the table"),
    "inputs.*.datastore": _refused("datastores are not supported yet", "write the storage URL as path"),
    "inputs.*.secret_ref": _own("a key of a Secret: {name, key}"),
}  # fmt: skip
OUTPUTS: Table = {
    "outputs.*": _works("nothing, or the keys below: a folder or file that is kept with the run"),
    "outputs.*.type": _works("missing: uri_folder"),
    "outputs.*.type: uri_folder": _works("$STOKER_OUTPUT_<name> and ${{outputs.NAME}} are a folder"),
    "outputs.*.type: uri_file": _works("they are a file's path"),
    "outputs.*.type: mltable": _FOLDER,
    "outputs.*.type: mlflow_model": _FOLDER,
    "outputs.*.type: custom_model": _FOLDER,
    "outputs.*.type: triton_model": _FOLDER,
    "outputs.*.mode": _works("the values below; missing: upload"),
    "outputs.*.mode: upload": _works("uploaded while and after the command runs"),
    "outputs.*.mode: rw_mount": _UNMOUNTED_OUTPUT,
    "outputs.*.mode: mount": _UNMOUNTED_OUTPUT,
    "outputs.*.mode: direct": _refused("an output's URL cannot be written to by the command", "write upload"),
    "outputs.*.path": _warns("a place of its own is not supported yet; the files are stored with the run"),
    "outputs.*.name": _warns("outputs are not registered as assets yet; the files are stored with the run"),
    "outputs.*.version": _warns("outputs are not registered as assets yet; the files are stored with the run"),
}
#: Forms of `environment` in a job, and the keys of one in place.
ENVIRONMENTS: Table = {
    "environment": _works("missing: conda.yaml, environment.yml or requirements.txt of the code folder, if there is one"),
    "environment: azureml:NAME:VERSION": _works("the Environment NAME-vVERSION of the namespace; with an alias of the Workspace what that names"),
    "environment: azureml:NAME@latest": _works("the newest Environment NAME-v… of the namespace, else NAME"),
    "environment: azureml://registries/R/environments/N": _works("by the Workspace's environmentAliases, else by the table below; any label or version"),
    "environment: AzureML-NAME": _works("a curated name: by the Workspace's environmentAliases, else by the table below"),
    "environment: file:PATH": _works("an environment's file, a conda file, requirements.txt or a Dockerfile beside the file; `file:` may be missing"),
    "environment.image": _works("the base image"),
    "environment.conda_file": _works("a path beside the file, or the file's content in place"),
    "environment.build.path": _works("folder of a Dockerfile; COPY takes files from it, so it lies in the code folder, or is the code where a job names none"),
    "environment.build.dockerfile_path": _works("missing: Dockerfile"),
    "environment.os_type": _works("linux; anything else is refused"),
    "environment.name": _ENVIRONMENT_NAME,
    "environment.version": _ENVIRONMENT_NAME,
    "environment.description": _works("for people; it is in no manifest"),
    "environment.tags": _works("for people; they are in no manifest"),
    "environment.inference_config": _warns("belongs to inference, which Stoker does not do"),
    "environment.datastore": _refused("datastores are not supported yet", "name files beside this one"),
}  # fmt: skip
COMMAND: Table = {
    "$schema": _works("a hint of what the file is, no more"),
    "type": _works("command; missing: command"),
    "name": _works("the TrainingJob's name; in capitals or with `_` it is rewritten, with a warning; missing: one is made"),
    "display_name": _works("spec.displayName"),
    "experiment_name": _works("spec.experiment; missing: none"),
    "description": _works("spec.description"),
    "tags": _works("spec.tags"),
    "command": _works("shell text; ${{inputs.NAME}} and ${{outputs.NAME}} become texts, blanks in the braces allowed; needed unless `component`"),
    "code": _works("a local folder or one file beside the file; .amlignore, else .gitignore, says what stays"),
    "component": _works("a component's file beside this one; its code and files are relative to itself"),
    "component: azureml:NAME:VERSION": _refused("registered components are not supported yet", "name the component's file"),
    **ENVIRONMENTS,
    "environment_variables": _works("spec.command.env; names that start with STOKER_ are refused"),
    "compute": _works("azureml:NAME or NAME: the ComputeCluster of that name; missing: the project's setting, else this machine"),
    "compute: local": _works("this machine; in a manifest it is left out"),
    "compute: serverless": _warns("there is no serverless compute: the project's `compute` setting holds, else this machine; --compute NAME chooses another"),
    **RESOURCES,
    **DISTRIBUTION,
    "limits.timeout": _works("spec.limits.timeoutSeconds: the run is ended then; `2h` is understood too"),
    "limits.trial_timeout": _NO_SWEEP,
    **INPUTS,
    **OUTPUTS,
    "services": _warns("interactive services (ssh, TensorBoard, Jupyter, VS Code) are not supported yet"),
    "identity": _warns("the command has its pod's ServiceAccount, spec.command.serviceAccountName of a manifest"),
    "queue_settings.priority": _works("spec.queue.priority"),
    "queue_settings.job_tier": _warns("tiers are chosen by `compute` and its instance types"),
    "properties": _warns("it is Azure ML's own field; `tags` are kept"),
    "parent_job_name": _warns("it is Azure ML's own field"),
    "schedule": _refused("schedules are not supported yet", "leave it out"),
    "retry": _in_manifest("retry"),
    "cleanup": _in_manifest("cleanup"),
    "suspend": _in_manifest("suspend"),
    "run_policy": _in_manifest("runPolicy"),
    "limits.queue_timeout": _limit_in_manifest("queueTimeoutSeconds"),
    "limits.save_stall": _limit_in_manifest("saveStallSeconds"),
    "limits.no_progress": _limit_in_manifest("noProgressSeconds"),
    "limits.grace": _limit_in_manifest("graceSeconds"),
}  # fmt: skip
COMPONENT: Table = {
    "$schema": _works("a hint of what the file is, no more"),
    "type": _works("command; missing: command"),
    "name": _works("for people; it is in no manifest"),
    "version": _works("for people; it is in no manifest"),
    "display_name": _works("for people; the job has its own"),
    "description": _works("for people; the job has its own"),
    "tags": _works("for people; the job has its own"),
    "is_deterministic": _works("earlier results are not used again anyway"),
    "command": _works("as in a job; `$[[ … ]]` stays where the optional inputs in it have values"),
    "code": _works("relative to the component's file"),
    **ENVIRONMENTS,
    **DISTRIBUTION,
    **RESOURCES,
    "inputs.*.type": _works("number, integer, boolean, string, or a type of data"),
    "inputs.*.description": _works("for people"),
    "inputs.*.default": _works("taken where the job gives no value; a data input has none"),
    "inputs.*.optional": _works("true: may have no value"),
    "inputs.*.min": _works("of number and integer"),
    "inputs.*.max": _works("of number and integer"),
    "inputs.*.enum": _works("the values that it may have"),
    "inputs.*.mode": _works("as in a job, where the job says none"),
    "outputs.*.type": _works("as in a job"),
    "outputs.*.description": _works("for people"),
    "outputs.*.mode": _works("as in a job, where the job says none"),
    "additional_includes": _refused("folders beside `code` are not supported yet", "put them into the code folder"),
}
