"""Every key that the tables know does what its table says: it works without a word, gives one warning that names it, or is
refused by name."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from stoker.errors import BadInput, BadInputs
from stoker.sdk import ask
from stoker.sdk.azureml.fields import COMMAND, COMPONENT, COMPUTE, ENVIRONMENT, RUNCONFIG, Field, Table
from stoker.sdk.azureml.labels import NOBODY_ASKED
from stoker.sdk.convert import convert

COMPONENT_FILE = "command: python train.py\ncode: .\nenvironment: azureml:base:1\n"
#: Keys of the table -> lines that use them, on top of a job with a command and its code. `{}` around keys: flow style.
JOB_LINES = {
    "$schema": "$schema: https://azuremlschemas.azureedge.net/latest/commandJob.schema.json",
    "type": "type: Command",
    "name": "name: hello",
    "display_name": "display_name: Hello there",
    "experiment_name": "experiment_name: greetings",
    "description": "description: says hello",
    "tags": "tags: {owner: me, count: 3}",
    "command": "",
    "code": "",
    "component": "component: ./component.yml",
    "component: azureml:NAME:VERSION": "component: azureml:train:1",
    "environment": "environment: base",
    "environment: azureml:NAME:VERSION": "environment: azureml:base:1",
    "environment: azureml:NAME@latest": "environment: azureml:base@latest",
    "environment: azureml://registries/R/environments/N": "environment: azureml://registries/azureml/environments/sklearn-1.5/labels/latest",
    "environment: AzureML-NAME": "environment: AzureML-sklearn-1.0-ubuntu20.04-py38-cpu",
    "environment: file:PATH": "environment: file:conda.yml",
    "environment.image": "environment: {image: 'ubuntu:22.04'}",
    "environment.conda_file": "environment: {image: 'ubuntu:22.04', conda_file: conda.yml}",
    "environment.build.path": "environment: {build: {path: docker}}",
    "environment.build.dockerfile_path": "environment: {build: {path: docker, dockerfile_path: Dockerfile}}",
    "environment.os_type": "environment: {image: 'ubuntu:22.04', os_type: Linux}",
    "environment.name": "environment: {image: 'ubuntu:22.04', name: mine}",
    "environment.version": "environment: {image: 'ubuntu:22.04', version: 2}",
    "environment.description": "environment: {image: 'ubuntu:22.04', description: mine}",
    "environment.tags": "environment: {image: 'ubuntu:22.04', tags: {a: b}}",
    "environment.inference_config": "environment: {image: 'ubuntu:22.04', inference_config: {liveness_route: {port: 1, path: /}}}",
    "environment.datastore": "environment: {image: 'ubuntu:22.04', datastore: azureml:d}",
    "environment_variables": "environment_variables: {EPOCHS: 3}",
    "compute": "compute: azureml:cpu-cluster",
    "compute: local": "compute: local",
    "compute: serverless": "compute: azureml:serverless",
    "resources.instance_count": "resources: {instance_count: 2}",
    "resources.instance_type": "resources: {instance_type: Standard_DS3_v2}",
    "resources.shm_size": "resources: {shm_size: 4g}",
    "resources.requests": "resources: {requests: {cpu: 2}}",
    "resources.docker_args": "resources: {docker_args: --ipc=host}",
    "resources.locations": "resources: {locations: [westus]}",
    "resources.max_instance_count": "resources: {max_instance_count: 4}",
    "resources.properties": "resources: {properties: {a: b}}",
    "distribution.type": "distribution: {type: PyTorch}",
    "distribution.type: pytorch": "distribution: {type: pytorch}\nresources: {instance_count: 2}",
    "distribution.type: mpi": "distribution: {type: mpi, process_count_per_instance: 1}",
    "distribution.type: tensorflow": "distribution: {type: tensorflow}",
    "distribution.type: jax": "distribution: {type: jax, process_count_per_instance: 2}",
    "distribution.type: ray": "distribution: {type: ray}",
    "distribution.address": "distribution: {type: ray, address: head}",
    "distribution.port": "distribution: {type: ray, port: 6380}",
    "distribution.include_dashboard": "distribution: {type: ray, include_dashboard: true}",
    "distribution.dashboard_port": "distribution: {type: ray, dashboard_port: 8266}",
    "distribution.head_node_additional_args": "distribution: {type: ray, head_node_additional_args: --num-cpus=1}",
    "distribution.worker_node_additional_args": "distribution: {type: ray, worker_node_additional_args: --num-cpus=1}",
    "distribution.process_count_per_instance": "distribution: {type: pytorch, process_count_per_instance: 4}",
    "distribution.worker_count": "distribution: {type: tensorflow, worker_count: 1}",
    "distribution.parameter_server_count": "distribution: {type: tensorflow, parameter_server_count: 0}",
    "limits.timeout": "limits: {timeout: 600}",
    "limits.trial_timeout": "limits: {trial_timeout: 600}",
    "inputs.*": "inputs: {a: 1, b: 0.5, c: true, d: text}",
    "inputs.*.type": "inputs: {d: {type: uri_folder, path: data}}",
    "inputs.*.type: uri_folder": "inputs: {d: {type: uri_folder, path: ./data}}",
    "inputs.*.type: uri_file": "inputs: {d: {type: uri_file, path: data/x.csv}}",
    "inputs.*.type: mltable": "inputs: {d: {type: mltable, path: data}}",
    "inputs.*.type: mlflow_model": "inputs: {d: {type: mlflow_model, path: data}}",
    "inputs.*.type: custom_model": "inputs: {d: {type: custom_model, path: data/x.csv}}",
    "inputs.*.type: triton_model": "inputs: {d: {type: triton_model, path: data}}",
    "inputs.*.type: path": "inputs: {d: {type: path, path: data}}",
    "inputs.*.path": "inputs: {d: {path: data}}",
    "inputs.*.path: local": "inputs: {d: {path: 'file:data'}}",
    "inputs.*.path: s3://": "inputs: {d: {path: 's3://bucket/x/'}}",
    "inputs.*.path: azureml:NAME:VERSION": "inputs: {d: {path: 'azureml:iris:1'}}",
    "inputs.*.path: azureml://datastores": "inputs: {d: {path: 'azureml://datastores/blob/paths/x/'}}",
    "inputs.*.path: azureml://": "inputs: {d: {path: 'azureml://registries/azureml/data/x/versions/1'}}",
    "inputs.*.path: https://": "inputs: {d: {path: 'https://example.com/x.csv', type: uri_file}}",
    "inputs.*.path: http://": "inputs: {d: {path: 'http://example.com/x.csv', type: uri_file}}",
    "inputs.*.path: wasbs://": "inputs: {d: {path: 'wasbs://c@a.blob.core.windows.net/x'}}",
    "inputs.*.path: abfss://": "inputs: {d: {path: 'abfss://c@a.dfs.core.windows.net/x'}}",
    "inputs.*.path: adl://": "inputs: {d: {path: 'adl://a.azuredatalakestore.net/x'}}",
    "inputs.*.mode": "inputs: {d: {path: data, mode: Download}}",
    "inputs.*.mode: download": "inputs: {d: {path: data, mode: download}}",
    "inputs.*.mode: ro_mount": "inputs: {d: {path: data, mode: ro_mount}}",
    "inputs.*.mode: direct": "inputs: {d: {path: 'wasbs://c@a.blob.core.windows.net/x', mode: direct}}",
    "inputs.*.mode: eval_mount": "inputs: {d: {path: data, mode: eval_mount}}",
    "inputs.*.mode: eval_download": "inputs: {d: {path: data, mode: eval_download}}",
    "inputs.*.datastore": "inputs: {d: {path: data, datastore: azureml:d}}",
    "inputs.*.secret_ref": "inputs: {d: {secret_ref: {name: a, key: b}}}",
    "outputs.*": "outputs: {m: }",
    "outputs.*.type": "outputs: {m: {type: URI_folder}}",
    "outputs.*.type: uri_folder": "outputs: {m: {type: uri_folder}}",
    "outputs.*.type: uri_file": "outputs: {m: {type: uri_file}}",
    "outputs.*.type: mltable": "outputs: {m: {type: mltable}}",
    "outputs.*.type: mlflow_model": "outputs: {m: {type: mlflow_model}}",
    "outputs.*.type: custom_model": "outputs: {m: {type: custom_model}}",
    "outputs.*.type: triton_model": "outputs: {m: {type: triton_model}}",
    "outputs.*.mode": "outputs: {m: {mode: Upload}}",
    "outputs.*.mode: upload": "outputs: {m: {mode: upload}}",
    "outputs.*.mode: rw_mount": "outputs: {m: {mode: rw_mount}}",
    "outputs.*.mode: mount": "outputs: {m: {mode: mount}}",
    "outputs.*.mode: direct": "outputs: {m: {mode: direct}}",
    "outputs.*.path": "outputs: {m: {path: 'azureml://datastores/blob/paths/x/'}}",
    "outputs.*.name": "outputs: {m: {name: model}}",
    "outputs.*.version": "outputs: {m: {version: 1}}",
    "services": "services: {board: {type: tensor_board, log_dir: logs}}",
    "identity": "identity: {type: user_identity}",
    "queue_settings.priority": "queue_settings: {priority: High}",
    "queue_settings.job_tier": "queue_settings: {job_tier: spot}",
    "properties": "properties: {a: b}",
    "parent_job_name": "parent_job_name: other",
    "schedule": "schedule: {cron: x}",
    "retry": "retry: {limit: 1}",
    "cleanup": "cleanup: {}",
    "suspend": "suspend: true",
    "run_policy": "run_policy: PerName",
    "limits.queue_timeout": "limits: {queue_timeout: 5}",
    "limits.save_stall": "limits: {save_stall: 5}",
    "limits.no_progress": "limits: {no_progress: 5}",
    "limits.grace": "limits: {grace: 5}",
}
#: The same for a component's file; keys that a job has too are tried above.
COMPONENT_LINES = {
    "$schema": "$schema: https://azuremlschemas.azureedge.net/latest/commandComponent.schema.json",
    "type": "type: command",
    "name": "name: train",
    "version": "version: 0.9.1",
    "display_name": "display_name: Train",
    "description": "description: trains",
    "tags": "tags: {a: b}",
    "is_deterministic": "is_deterministic: false",
    "command": "",
    "code": "",
    "inputs.*.type": "inputs: {lr: {type: number, default: 0.1}}",
    "inputs.*.description": "inputs: {lr: {type: number, default: 0.1, description: rate}}",
    "inputs.*.default": "inputs: {lr: {type: string, default: 0.10}}",
    "inputs.*.optional": "inputs: {lr: {type: number, optional: true}}",
    "inputs.*.min": "inputs: {lr: {type: number, default: 0.1, min: 0}}",
    "inputs.*.max": "inputs: {lr: {type: number, default: 0.1, max: 1}}",
    "inputs.*.enum": "inputs: {lr: {type: string, default: a, enum: [a, b]}}",
    "inputs.*.mode": "inputs: {d: {type: uri_folder, optional: true, mode: download}}",
    "outputs.*.type": "outputs: {m: {type: uri_folder}}",
    "outputs.*.description": "outputs: {m: {type: uri_folder, description: model}}",
    "outputs.*.mode": "outputs: {m: {type: uri_folder, mode: upload}}",
    "additional_includes": "additional_includes: [../shared]",
}


ENVIRONMENT_LINES = {
    "$schema": "$schema: https://azuremlschemas.azureedge.net/latest/environment.schema.json",
    "name": "name: base",
    "version": "version: 3",
    "description": "description: the base",
    "tags": "tags: {a: b}",
    "image": "image: ubuntu:22.04",
    "conda_file": "conda_file: conda.yml",
    "build.path": "build: {path: docker}",
    "build.dockerfile_path": "build: {path: docker, dockerfile_path: Dockerfile}",
    "build.dockerfile": "build: {path: docker, dockerfile: Dockerfile}",
    "build.bytecode": "image: ubuntu:22.04\nbuild: {bytecode: false}",
    "os_type": "os_type: linux",
    "inference_config": "inference_config: {scoring_route: {port: 1, path: /}}",
    "datastore": "datastore: azureml:d",
    "conda": "conda: {dependencies: [python=3.11]}",
    "pip": "pip: [six]",
    "pip_file": "pip_file: requirements.txt",
    "docker_steps": "docker_steps: [RUN true]",
    "context": "docker_steps: [RUN true]\ncontext: docker",
    "platforms": "platforms: [linux/amd64]",
    "secrets": "docker_steps: [RUN true]\nsecrets: [{id: a, secret_ref: {name: s, key: k}}]",
    "base_policy": "base_policy: Always",
    "refresh": "refresh: today",
    "cache_epoch": "cache_epoch: 2",
    "image_pull_secrets": "image_pull_secrets: [mine]",
}
COMPUTE_LINES = {
    "$schema": "$schema: https://azuremlschemas.azureedge.net/latest/amlCompute.schema.json",
    "type": "",
    "name": "",
    "size": "",
    "description": "description: cheap",
    "tags": "tags: {a: b}",
    "tier": "tier: low_priority",
    "max_instances": "max_instances: 8",
    "min_instances": "min_instances: 1",
    "idle_time_before_scale_down": "idle_time_before_scale_down: 60",
    "location": "location: westeurope",
    "ssh_public_access_enabled": "ssh_public_access_enabled: true",
    "ssh_settings": "ssh_settings: {admin_username: me}",
    "network_settings": "network_settings: {vnet_name: a}",
    "enable_node_public_ip": "enable_node_public_ip: false",
    "identity": "identity: {type: system_assigned}",
}
RUNCONFIG_LINES = {
    "script": "",
    "arguments": "arguments: [--lr, 0.10]",
    "command": "command: python train.py",
    "framework": "framework: python",
    "framework: Python": "framework: Python",
    "framework: PyTorch": "framework: PyTorch",
    "framework: TensorFlow": "framework: TensorFlow",
    "framework: PySpark": "framework: PySpark",
    "framework: Cntk": "framework: CNTK",
    "communicator": "communicator: none",
    "communicator: None": "communicator: None",
    "communicator: OpenMpi": "communicator: OpenMpi",
    "communicator: IntelMpi": "communicator: IntelMpi",
    "communicator: Mpi": "communicator: Mpi\nmpi: {processCountPerNode: 1}",
    "communicator: ParameterServer": "communicator: ParameterServer",
    "communicator: Nccl": "communicator: Nccl",
    "communicator: Gloo": "communicator: Gloo",
    "target": "target: cpu-cluster",
    "target: amlcompute": "target: amlcompute\namlcompute: {name: cpu}",
    "autoPrepareEnvironment": "autoPrepareEnvironment: true",
    "autoPrepareEnvironment: false": "autoPrepareEnvironment: false",
    "maxRunDurationSeconds": "maxRunDurationSeconds: 60",
    "nodeCount": "nodeCount: 2",
    "jobName": "jobName: first",
    "environment.name": "environment: {name: base, version: 1}",
    "environment.version": "environment: {name: base, version: 1}",
    "environment.environmentVariables": "environment: {environmentVariables: {A: b}}",
    "environment.python.userManagedDependencies": "environment: {python: {userManagedDependencies: true}}",
    "environment.python.interpreterPath": "environment: {python: {userManagedDependencies: true, interpreterPath: python3}}",
    "environment.python.condaDependenciesFile": "environment: {python: {condaDependenciesFile: conda.yml}}",
    "environment.python.condaDependencies": "environment: {python: {condaDependencies: {dependencies: [python=3.11]}}}",
    "environment.python.baseCondaEnvironment": "environment: {python: {baseCondaEnvironment: base}}",
    "environment.docker.enabled": "environment: {docker: {enabled: true}}",
    "environment.docker.baseImage": "environment: {docker: {baseImage: 'ubuntu:22.04'}}",
    "environment.docker.baseDockerfile": "environment: {docker: {baseDockerfile: FROM ubuntu}}",
    "environment.docker.sharedVolumes": "environment: {docker: {sharedVolumes: false}}",
    "environment.docker.gpuSupport": "environment: {docker: {gpuSupport: true}}",
    "environment.docker.shmSize": "environment: {docker: {shmSize: 1g}}",
    "environment.docker.arguments": "environment: {docker: {arguments: [--ipc=host]}}",
    "environment.docker.baseImageRegistry.address": "environment: {docker: {baseImage: 'a:1', baseImageRegistry: {address: example.com}}}",
    "environment.docker.baseImageRegistry.username": "environment: {docker: {baseImageRegistry: {username: me}}}",
    "environment.docker.baseImageRegistry.password": "environment: {docker: {baseImageRegistry: {password: x}}}",
    "environment.spark": "environment: {spark: {repositories: [], precachePackages: true}}",
    "environment.databricks": "environment: {databricks: {mavenLibraries: []}}",
    "environment.inferencingStackVersion": "environment: {inferencingStackVersion: latest}",
    "docker.useDocker": "docker: {useDocker: true}",
    "docker.sharedVolumes": "docker: {sharedVolumes: true}",
    "docker.shmSize": "docker: {shmSize: 2g}",
    "docker.arguments": "docker: {arguments: [--ipc=host]}",
    "history.outputCollection": "history: {outputCollection: true}",
    "history.outputCollection: false": "history: {outputCollection: false}",
    "history.snapshotProject": "history: {snapshotProject: true}",
    "history.snapshotProject: false": "history: {snapshotProject: false}",
    "history.directoriesToWatch": "history: {directoriesToWatch: [logs]}",
    "history.directoriesToWatch: others": "history: {directoriesToWatch: [logs, runs]}",
    "spark": "spark: {configuration: {a: b}}",
    "hdi": "hdi: {yarnDeployMode: cluster}",
    "tensorflow.workerCount": "communicator: ParameterServer\ntensorflow: {workerCount: 1, parameterServerCount: 0}",
    "tensorflow.parameterServerCount": "communicator: ParameterServer\ntensorflow: {workerCount: 1, parameterServerCount: 0}",
    "mpi.processCountPerNode": "communicator: OpenMpi\nmpi: {processCountPerNode: 1}",
    "pytorch.communicationBackend": "framework: PyTorch\npytorch: {communicationBackend: nccl}",
    "pytorch.processCount": "framework: PyTorch\nnodeCount: 2\npytorch: {processCount: 2}",
    "dataReferences": "dataReferences: {d: {dataStoreName: blob}}",
    "data": "data: {d: {dataLocation: {}}}",
    "outputData": "outputData: {d: {}}",
    "sourceDirectoryDataStore": "sourceDirectoryDataStore: blob",
    "amlcompute.name": "target: amlcompute\namlcompute: {name: cpu}",
    "amlcompute.vmSize": "target: amlcompute\namlcompute: {name: cpu, vmSize: STANDARD_D2}",
    "amlcompute.vmPriority": "target: amlcompute\namlcompute: {name: cpu, vmPriority: lowpriority}",
    "amlcompute.retainCluster": "target: amlcompute\namlcompute: {name: cpu, retainCluster: true}",
    "amlcompute.clusterMaxNodeCount": "target: amlcompute\namlcompute: {name: cpu, clusterMaxNodeCount: 3}",
}


def cases(table: Table, lines: dict[str, str]) -> list[Any]:
    return [pytest.param(key, field, lines[key], id=key) for key, field in table.items() if key in lines]


@pytest.fixture
def project(tmp_path: Path) -> Path:
    files = {
        "train.py": "print(1)\n", "data/x.csv": "1\n", "conda.yml": "dependencies: [python=3.11]\n",
        "docker/Dockerfile": "FROM ubuntu:22.04\nRUN true\n", "component.yml": COMPONENT_FILE, "requirements.txt": "six\n",
    }  # fmt: skip
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    return tmp_path


def test_every_key_of_the_tables_is_tried() -> None:
    assert COMMAND.keys() == JOB_LINES.keys()
    assert COMPONENT_LINES.keys() | COMMAND.keys() >= COMPONENT.keys()
    assert COMPONENT_LINES.keys() <= COMPONENT.keys()
    assert ENVIRONMENT.keys() == ENVIRONMENT_LINES.keys()
    assert COMPUTE.keys() == COMPUTE_LINES.keys()
    assert RUNCONFIG.keys() == RUNCONFIG_LINES.keys()


@pytest.mark.parametrize(("key", "field", "lines"), cases(COMMAND, JOB_LINES))
def test_a_key_of_a_job_does_what_its_table_says(project: Path, key: str, field: Field, lines: str) -> None:
    front = "" if lines.startswith("component:") else "command: python train.py\ncode: .\n"
    (project / "job.yml").write_text(front + lines + "\n")

    check(key, field, project)


@pytest.mark.parametrize(("key", "field", "lines"), cases(COMPONENT, COMPONENT_LINES))
def test_a_key_of_a_component_does_what_its_table_says(project: Path, key: str, field: Field, lines: str) -> None:
    (project / "component.yml").write_text(COMPONENT_FILE + lines + "\n")
    (project / "job.yml").write_text("component: ./component.yml\n")

    check(key, field, project)


@pytest.mark.parametrize(("key", "field", "lines"), cases(ENVIRONMENT, ENVIRONMENT_LINES))
def test_a_key_of_an_environment_does_what_its_table_says(project: Path, key: str, field: Field, lines: str) -> None:
    has_base = lines.startswith(("image:", "build: {path"))
    image = "" if has_base else "image: ubuntu:22.04\n"
    (project / "env.yml").write_text(image + lines + "\n")

    check(key, field, project, lambda: converted(project / "env.yml"))


@pytest.mark.parametrize(("key", "field", "lines"), cases(COMPUTE, COMPUTE_LINES))
def test_a_key_of_a_compute_does_what_its_table_says(project: Path, key: str, field: Field, lines: str) -> None:
    (project / "cpu.yml").write_text(f"type: amlcompute\nname: cpu\nsize: Standard_DS3_v2\n{lines}\n")
    always = "size: provider External is written"

    def warnings() -> list[str]:
        found = converted(project / "cpu.yml")
        assert always in found[-1]
        return found[:-1]

    check(key, field, project, warnings)


@pytest.mark.parametrize(("key", "field", "lines"), cases(RUNCONFIG, RUNCONFIG_LINES))
def test_a_key_of_version_1_does_what_its_table_says(project: Path, key: str, field: Field, lines: str) -> None:
    script = "" if lines.startswith("command:") else "script: train.py\n"
    (project / "train.runconfig").write_text(script + lines + "\n")
    if "environment:" not in lines:
        (project / "train.runconfig").write_text(f"{script}{lines}\nenvironment: {{docker: {{baseImage: 'a:1'}}}}\n")

    check(key, field, project, lambda: warnings_of(project / "train.runconfig"))


def check(key: str, field: Field, project: Path, warnings: Callable[[], Sequence[str]] | None = None) -> None:
    """warnings: reads the file; job.yml when missing."""
    named = last_name(key)
    warnings = warnings or (lambda: warnings_of(project / "job.yml"))
    if field.state == "refused":
        with pytest.raises((BadInput, BadInputs)) as refused:
            warnings()
        problems = refused.value.problems if isinstance(refused.value, BadInputs) else (refused.value,)
        assert [named] == [one.field.rpartition(".")[2] for one in problems]
        assert field.says in str(problems[0])
        assert problems[0].fix
    else:
        told = warnings()
        assert (1 if field.state == "warns" else 0) == len(told), told
        for line in told:
            assert f"{named}: " in line
            assert field.says in line


def last_name(key: str) -> str:
    """`mode` of `inputs.*.mode: direct`: what a message has to name."""
    return key.partition(": ")[0].rpartition(".")[2]


def warnings_of(job: Path) -> Sequence[str]:
    return ask.ask(job, (), ask.Flags(), job.parent).warnings


def converted(path: Path) -> list[str]:
    return list(convert(path, path.parent, "snapshot", NOBODY_ASKED).warnings)


def test_every_field_says_what_becomes_of_it() -> None:
    for field in (one for table in (COMMAND, COMPONENT, ENVIRONMENT, COMPUTE, RUNCONFIG) for one in table.values()):
        assert field.says
        assert bool(field.fix) == (field.state == "refused")
