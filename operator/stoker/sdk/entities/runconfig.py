"""A run as version 1 of Azure ML's SDK describes it."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stoker.errors import BadInput, shown
from stoker.sdk.entities.entity import Entity, said
from stoker.sdk.entities.environment import Environment

if TYPE_CHECKING:
    from stoker.sdk.draft import Draft, EnvironmentAsked

SOURCE = "ScriptRunConfig()"


@dataclass(repr=False)
class MpiConfiguration(Entity):
    """Processes of MPI on each node, and nodes."""

    process_count_per_node: int = 1
    node_count: int = 1

    def as_mapping(self) -> dict[str, Any]:
        """What a run configuration has for it."""
        return {
            "communicator": "OpenMpi", "nodeCount": self.node_count,
            "mpi": {"processCountPerNode": self.process_count_per_node},
        }  # fmt: skip


@dataclass(repr=False)
class PyTorchConfiguration(Entity):
    """Processes of PyTorch in all, and nodes. process_count: missing: one for each node."""

    communication_backend: str = "Nccl"
    process_count: int | None = None
    node_count: int = 1

    def as_mapping(self) -> dict[str, Any]:
        """What a run configuration has for it."""
        block = said(communicationBackend=self.communication_backend, processCount=self.process_count)
        return {
            "framework": "PyTorch", "communicator": self.communication_backend, "nodeCount": self.node_count,
            "pytorch": block,
        }  # fmt: skip


@dataclass(repr=False)
class TensorflowConfiguration(Entity):
    """Workers and parameter servers of TensorFlow."""

    worker_count: int = 1
    parameter_server_count: int = 1

    def as_mapping(self) -> dict[str, Any]:
        """What a run configuration has for it."""
        block = {"workerCount": self.worker_count, "parameterServerCount": self.parameter_server_count}
        return {"framework": "TensorFlow", "communicator": "ParameterServer", "tensorflow": block}


Distributed = MpiConfiguration | PyTorchConfiguration | TensorflowConfiguration


@dataclass(repr=False)
class DockerConfiguration(Entity):
    """Of docker alone shm_size has a meaning here."""

    use_docker: bool | None = None
    shared_volumes: bool | None = None
    arguments: list[str] | None = None
    shm_size: str | None = None

    def as_mapping(self) -> dict[str, Any]:
        """What a run configuration has for it."""
        return said(
            useDocker=self.use_docker,
            sharedVolumes=self.shared_volumes,
            arguments=self.arguments,
            shmSize=self.shm_size,
        )


@dataclass(repr=False)
class RunConfiguration(Entity):
    """Where and in what a script runs, without the script. target: compute. environment: as ScriptRunConfig's."""

    script: str | None = None
    arguments: Sequence[Any] | None = None
    framework: str | None = None
    communicator: str | None = None
    target: Any = None
    environment: "Environment | str | Mapping[str, Any] | None" = None
    environment_variables: dict[str, str] = field(default_factory=dict)
    node_count: int | None = None
    max_run_duration_seconds: int | None = None
    docker: DockerConfiguration | None = None
    mpi: MpiConfiguration | None = None
    pytorch: PyTorchConfiguration | None = None
    tensorflow: TensorflowConfiguration | None = None

    def as_mapping(self) -> dict[str, Any]:
        """What its file has, but for the environment."""
        found: dict[str, Any] = {}
        for part in (self.mpi, self.pytorch, self.tensorflow):
            found |= part.as_mapping() if part is not None else {}
        variables = {"environmentVariables": self.environment_variables} if self.environment_variables else None
        return found | said(
            script=self.script, arguments=self.arguments, framework=self.framework, communicator=self.communicator,
            target=_target(self.target), nodeCount=self.node_count, environment=variables,
            maxRunDurationSeconds=self.max_run_duration_seconds, docker=self.docker,
        )  # fmt: skip


@dataclass(repr=False)
class ScriptRunConfig(Entity):
    """A script of a folder, or a command in it, with where and in what it runs: version 1's job.

    source_directory: the code. script, arguments: what `python` gets; or command, a text or a list. run_config: what is said
    in neither of the others. compute_target: a ComputeCluster's name; missing: local. environment: an Environment, its
    name, a file or an image; missing: the Python of this machine, which a cluster refuses. distributed_job_config: an
    MpiConfiguration, a PyTorchConfiguration or a TensorflowConfiguration. max_run_duration_seconds: the run is ended then.
    """

    source_directory: str | os.PathLike[str] | None = None
    script: str | None = None
    arguments: Sequence[Any] | None = None
    run_config: RunConfiguration | None = None
    compute_target: Any = None
    environment: "Environment | str | Mapping[str, Any] | None" = None
    distributed_job_config: Distributed | None = None
    resume_from: Any = None
    max_run_duration_seconds: int | None = None
    command: str | Sequence[str] | None = None
    docker_runtime_config: DockerConfiguration | None = None

    def as_mapping(self) -> dict[str, Any]:
        """What its run configuration has, but for the environment."""
        found = self.run_config.as_mapping() if self.run_config is not None else {}
        if self.distributed_job_config is not None:
            found |= self.distributed_job_config.as_mapping()
        arguments = [str(one) for one in self.arguments] if self.arguments is not None else None
        return found | said(
            script=self.script, arguments=arguments, command=self.command, target=_target(self.compute_target),
            maxRunDurationSeconds=self.max_run_duration_seconds, docker=self.docker_runtime_config,
        )  # fmt: skip

    def draft(self, folder: Path) -> "Draft":
        """The run that it asks for. folder: what source_directory is relative to. Raises BadInput and BadInputs."""
        from stoker.core.yaml12 import Document
        from stoker.sdk import ask
        from stoker.sdk.azureml import runconfig

        if self.resume_from is not None:
            fix = "read the earlier run's outputs as an input: client.jobs.download"
            raise BadInput("resume_from", f"{shown(self.resume_from)}: not supported", fix, SOURCE)
        source = folder / (self.source_directory or ".")
        if not source.is_dir():
            raise BadInput(
                "source_directory", f"{shown(str(source))} is not a folder", "name the script's folder", SOURCE
            )
        # Its name stands for the file that a run configuration would be.
        draft = runconfig.read(Document(self.as_mapping(), SOURCE), source / "run.runconfig")
        environment = self.environment
        if environment is None and self.run_config is not None:
            environment = self.run_config.environment
        if environment is not None:
            draft = replace(draft, environment=_asked(environment, source))
        return ask.completed(draft, folder)


def _asked(environment: "Environment | str | Mapping[str, Any]", folder: Path) -> "EnvironmentAsked":
    from stoker.core.yaml12 import Document
    from stoker.sdk import environments

    value = environment.as_mapping() if isinstance(environment, Environment) else environment
    if isinstance(value, str):
        return environments.from_text(value, folder, "environment", SOURCE, SOURCE)
    return environments.from_mapping(Document(dict(value), SOURCE), (), folder, SOURCE)


def _target(target: Any) -> str | None:
    """The name of a compute target: of a text, or of an object that has one."""
    name = getattr(target, "name", target)
    if name is None or isinstance(name, str):
        return name
    raise BadInput("compute_target", f"{shown(target)} is not a compute", "name a ComputeCluster, or local", SOURCE)
