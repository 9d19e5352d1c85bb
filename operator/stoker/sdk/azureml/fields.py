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
        "RANK, LOCAL_RANK, WORLD_SIZE, LOCAL_WORLD_SIZE, NODE_RANK, MASTER_ADDR and MASTER_PORT for each process"
    ),
    "distribution.type: mpi": _works("rank 0 runs the command under the image's mpirun (Open MPI), on all nodes, without sshd"),
    "distribution.type: tensorflow": _works("TF_CONFIG for each process"),
    "distribution.type: jax": _own("JAX_COORDINATOR_ADDRESS, JAX_NUM_PROCESSES and JAX_PROCESS_ID for each process"),
    "distribution.type: ray": _works("rank 0 starts the head of a Ray cluster of all nodes and runs the command, with RAY_ADDRESS"),
    "distribution.address": _warns("the head is rank 0, and its address is made by Stoker"),
    "distribution.port": _works("of ray: port of the head; missing: 6379"),
    "distribution.include_dashboard": _works("of ray: missing: none"),
    "distribution.dashboard_port": _works("of ray: missing: Ray's"),
    "distribution.head_node_additional_args": _works("of ray: more for `ray start` on rank 0"),
    "distribution.worker_node_additional_args": _works("of ray: more for `ray start` on the other nodes"),
    "distribution.process_count_per_instance": _works("processes on each node, of pytorch, jax and mpi, which needs it; missing: 1"),
    "distribution.worker_count": _works("of tensorflow: workers, spread over the nodes; missing: one on each"),
    "distribution.parameter_server_count": _works("of tensorflow: missing: 0; more on one node alone"),
}  # fmt: skip
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
    "environment: azureml:NAME@latest": _works("the newest Environment NAME-v… of the namespace whose version begins with a digit, else NAME"),
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
    "compute: serverless": _works("the cheapest ComputeCluster that the namespace may use and that fits"),
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
#: A file with an environment alone.
ENVIRONMENT: Table = {
    "$schema": _works("a hint of what the file is, no more"),
    "name": _works("metadata.name; names that start with AzureML- or Microsoft are refused; missing: the file's name"),
    "version": _works("metadata.name is NAME-vVERSION"),
    "description": _works("for people; it is in no manifest"),
    "tags": _works("for people; they are in no manifest"),
    "image": _works("spec.image"),
    "conda_file": _works("spec.conda: a path beside the file, or the file's content in place"),
    "build.path": _works("folder of a Dockerfile, whose FROM is spec.image and whose other lines are spec.dockerSteps; a COPY from it is refused"),
    "build.dockerfile_path": _works("missing: Dockerfile"),
    "os_type": _works("linux; anything else is refused"),
    "inference_config": ENVIRONMENTS["environment.inference_config"],
    "datastore": ENVIRONMENTS["environment.datastore"],
    **{
        key: _own(f"spec.{member}")
        for key, member in (
            ("conda", "conda"), ("pip", "pip"), ("pip_file", "pip"), ("docker_steps", "dockerSteps"), ("context", "context"),
            ("platforms", "platforms"), ("secrets", "secrets"), ("base_policy", "basePolicy"), ("refresh", "refresh"),
            ("cache_epoch", "cacheEpoch"), ("image_pull_secrets", "imagePullSecrets"),
        )
    },
    "build.dockerfile": _own("the same as dockerfile_path"),
    "build.bytecode": _own("spec.build.bytecode"),
}  # fmt: skip
_OF_AUTOSCALER = (
    "with provider External it is for the cluster's autoscaler to say; it is written into the manifest all the same"
)
_OF_NODES = _warns("nodes are made by whoever brings them, not by a manifest")
COMPUTE: Table = {
    "$schema": _works("a hint of what the file is, no more"),
    "type": _works("amlcompute; other types are refused"),
    "name": _works("metadata.name, in small letters"),
    "description": _works("for people; it is in no manifest"),
    "tags": _works("for people; they are in no manifest"),
    "size": _works("spec.instanceTypes[0] with an estimate of what it offers, and the label that nodes must have; a size that is not known is refused"),
    "tier": _works("dedicated or low_priority: instanceTypes[0].tier Dedicated or Spot"),
    "max_instances": _works("spec.maxInstances; missing: 1"),
    "min_instances": _warns(_OF_AUTOSCALER),
    "idle_time_before_scale_down": _warns(_OF_AUTOSCALER),
    "location": _OF_NODES,
    "ssh_public_access_enabled": _OF_NODES,
    "ssh_settings": _OF_NODES,
    "network_settings": _OF_NODES,
    "enable_node_public_ip": _OF_NODES,
    "identity": _warns("a pod's identity is its ServiceAccount"),
}  # fmt: skip
_NO_DATA_V1 = _refused(
    "data of version 1 is not supported yet", "write the paths into arguments, or a version 2 job with inputs"
)
_OTHER_FRAMEWORK = _works("of another framework; nothing is taken from it")
#: Version 1's run configurations; keys below an asterisk may be any.
RUNCONFIG: Table = {
    "script": _works("`python SCRIPT ARGUMENTS` in the source directory: the folder above .azureml, else the file's"),
    "arguments": _works("a list"),
    "command": _works("a text or a list, instead of script and arguments"),
    "framework": _works("the values below, in any letters; missing: Python"),
    "framework: Python": _works("the command is started once on each node"),
    "framework: PyTorch": _works("distribution pytorch"),
    "framework: TensorFlow": _works("with communicator ParameterServer distribution tensorflow"),
    "framework: PySpark": _refused("Spark is not supported yet", "start Spark in the script, with framework: Python"),
    "framework: Cntk": _refused("CNTK is not supported", "use framework: Python"),
    "communicator": _works("the values below, in any letters; missing: None"),
    "communicator: None": _works("nothing is set"),
    "communicator: OpenMpi": _works("distribution mpi"),
    "communicator: IntelMpi": _works("distribution mpi"),
    "communicator: Mpi": _works("distribution mpi"),
    "communicator: ParameterServer": _works("distribution tensorflow"),
    "communicator: Nccl": _works("distribution pytorch"),
    "communicator: Gloo": _works("distribution pytorch"),
    "target": _works("compute; missing: local"),
    "target: amlcompute": _works("the pool that amlcompute.name names"),
    "autoPrepareEnvironment": _works("true; false gives a warning"),
    "autoPrepareEnvironment: false": _warns("an image that is not there is built all the same"),
    "maxRunDurationSeconds": _works("limits.timeout"),
    "nodeCount": _works("resources.instance_count"),
    "jobName": _works("display_name"),
    "environment.name": _works("without an image and packages: as `azureml:NAME:VERSION` in version 2"),
    "environment.version": _works("with environment.name"),
    "environment.environmentVariables": _works("environment_variables"),
    "environment.python.userManagedDependencies": _works("true: no packages are installed"),
    "environment.python.interpreterPath": _works("what starts the script where dependencies are the user's; missing: python"),
    "environment.python.condaDependenciesFile": _works("relative to the source directory, else to the file"),
    "environment.python.condaDependencies": _works("conda_file in place"),
    "environment.python.baseCondaEnvironment": _warns("packages are installed into an environment of their own"),
    "environment.docker.enabled": _works("a cluster runs every command in an image"),
    "environment.docker.baseImage": _works("environment.image"),
    "environment.docker.baseDockerfile": _refused("a Dockerfile in place is not supported", "write it into a file: version 2 has environment.build"),
    "environment.docker.sharedVolumes": _works("of this machine alone; nothing to do"),
    "environment.docker.gpuSupport": _works("a pool's nodes have GPUs or not"),
    "environment.docker.shmSize": _works("resources.shm_size"),
    "environment.docker.arguments": RESOURCES["resources.docker_args"],
    "environment.docker.baseImageRegistry.address": _works("goes before the image's name"),
    "environment.docker.baseImageRegistry.username": _warns("credentials are not taken from files; spec.imagePullSecrets of the Workspace has them"),
    "environment.docker.baseImageRegistry.password": _warns("credentials are not taken from files; spec.imagePullSecrets of the Workspace has them"),
    "environment.spark": _OTHER_FRAMEWORK,
    "environment.databricks": _OTHER_FRAMEWORK,
    "environment.inferencingStackVersion": _warns("belongs to inference, which Stoker does not do"),
    "docker.useDocker": _works("a cluster runs every command in an image"),
    "docker.sharedVolumes": _works("of this machine alone; nothing to do"),
    "docker.shmSize": _works("resources.shm_size"),
    "docker.arguments": RESOURCES["resources.docker_args"],
    "history.outputCollection": _works("true; false gives a warning"),
    "history.outputCollection: false": _warns("./outputs and ./logs are always kept"),
    "history.snapshotProject": _works("true; false gives a warning"),
    "history.snapshotProject: false": _warns("the code is always kept as a snapshot"),
    "history.directoriesToWatch": _works("logs; other folders give a warning"),
    "history.directoriesToWatch: others": _warns("what lies in ./outputs and ./logs is kept, nothing else"),
    "spark": _OTHER_FRAMEWORK,
    "hdi": _OTHER_FRAMEWORK,
    "tensorflow.workerCount": _works("distribution.worker_count, with communicator ParameterServer"),
    "tensorflow.parameterServerCount": _works("distribution.parameter_server_count, with communicator ParameterServer"),
    "mpi.processCountPerNode": _works("distribution.process_count_per_instance, with an MPI communicator"),
    "pytorch.communicationBackend": _works("the script chooses it"),
    "pytorch.processCount": _works("a multiple of nodeCount: distribution.process_count_per_instance"),
    "dataReferences": _NO_DATA_V1,
    "data": _NO_DATA_V1,
    "outputData": _refused("outputs of version 1 are not supported yet", "write to ./outputs, or a version 2 job with outputs"),
    "sourceDirectoryDataStore": _warns("the code goes to the workspace's storage"),
    "amlcompute.name": _works("compute, with target: amlcompute"),
    "amlcompute.vmSize": _warns("a pool is made beforehand: see `stoker convert` of a compute file"),
    "amlcompute.vmPriority": _warns("a pool's instance types have tiers"),
    "amlcompute.retainCluster": _works("pools stay, and shrink to zero"),
    "amlcompute.clusterMaxNodeCount": _warns("a pool has its own maxInstances"),
}  # fmt: skip
