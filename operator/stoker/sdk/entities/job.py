"""A command job."""

import copy
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stoker.errors import BadInput, did_you_mean
from stoker.sdk.entities.data import Input, Output, Ports, ports
from stoker.sdk.entities.entity import Entity, plain, said

if TYPE_CHECKING:
    from stoker.sdk.draft import Draft
    from stoker.sdk.entities.distribution import (
        MpiDistribution,
        PyTorchDistribution,
        RayDistribution,
        TensorFlowDistribution,
    )
    from stoker.sdk.entities.environment import Environment

    Distribution = MpiDistribution | PyTorchDistribution | TensorFlowDistribution | RayDistribution | Mapping[str, Any]

#: What stands in front of messages about a job that was made in Python.
SOURCE = "command()"


@dataclass(kw_only=True, repr=False)
class JobResourceConfiguration(Entity):
    """instance_count: nodes. instance_type: one of the ComputeCluster's. shm_size: such as 2g. requests: what each node's
    command needs; missing: the whole node. docker_args, locations, max_instance_count, properties: Azure ML's own."""

    instance_count: int | None = None
    instance_type: str | None = None
    shm_size: str | None = None
    requests: Mapping[str, Any] | None = None
    docker_args: str | None = None
    locations: list[str] | None = None
    max_instance_count: int | None = None
    properties: Mapping[str, Any] | None = None

    def as_mapping(self) -> dict[str, Any]:
        """What a job's file has for it."""
        return said(**vars(self))


@dataclass(kw_only=True, repr=False)
class CommandJobLimits(Entity):
    """timeout: the longest run, in seconds or as `2h`; the run is cancelled then."""

    timeout: int | str | None = None

    def as_mapping(self) -> dict[str, Any]:
        """What a job's file has for it."""
        return said(timeout=self.timeout)


@dataclass(kw_only=True, repr=False)
class QueueSettings(Entity):
    """priority: low, medium or high. job_tier: Azure ML's own."""

    job_tier: str | None = None
    priority: str | None = None

    def as_mapping(self) -> dict[str, Any]:
        """What a job's file has for it."""
        return said(job_tier=self.job_tier, priority=self.priority)


@dataclass(kw_only=True, repr=False)
class Command(Entity):
    """A command with its code, environment, data and place. `command(...)` makes one; every attribute can be set, so that
    `job.compute = "local"` is all that a run on this machine needs. Called with inputs it gives a copy that has these."""

    command: str | None = None
    code: str | os.PathLike[str] | None = None
    environment: "str | os.PathLike[str] | Environment | Mapping[str, Any] | None" = None
    inputs: Ports = field(default_factory=Ports)
    outputs: Ports = field(default_factory=Ports)
    environment_variables: dict[str, str] = field(default_factory=dict)
    compute: str | None = None
    resources: JobResourceConfiguration = field(default_factory=JobResourceConfiguration)
    distribution: "Distribution | None" = None
    limits: CommandJobLimits = field(default_factory=CommandJobLimits)
    queue_settings: QueueSettings = field(default_factory=QueueSettings)
    name: str | None = None
    display_name: str | None = None
    experiment_name: str | None = None
    description: str | None = None
    tags: dict[str, str] = field(default_factory=dict)
    properties: dict[str, str] = field(default_factory=dict)
    identity: Any = None
    services: Any = None

    def __setattr__(self, name: str, value: Any) -> None:
        taken = {"inputs": ports, "outputs": ports}.get(name)
        super().__setattr__(name, taken(value) if taken else value)

    def __call__(self, **inputs: Any) -> "Command":
        """A copy of the job with other values for some of its inputs."""
        made = copy.deepcopy(self)
        for name, value in inputs.items():
            if name not in self.inputs:
                raise BadInput(f"inputs.{name}", "the job declares no such input", did_you_mean(name, set(self.inputs)))
            made.inputs[name] = value
        return made

    @property
    def type(self) -> str:
        """`command`."""
        return "command"

    def set_resources(self, **values: Any) -> None:
        """Set members of `resources`."""
        _set(self.resources, values)

    def set_limits(self, **values: Any) -> None:
        """Set members of `limits`."""
        _set(self.limits, values)

    def set_queue_settings(self, **values: Any) -> None:
        """Set members of `queue_settings`."""
        _set(self.queue_settings, values)

    def sweep(self, **_: Any) -> None:
        """Sweeps are not supported yet."""
        raise BadInput(
            "sweep", "sweeps are not supported yet", "start one job for each value: job(lr=0.1), job(lr=0.2)"
        )

    def as_mapping(self) -> dict[str, Any]:
        """What its job file has: the keys of Azure ML's command job."""
        inputs = {name: plain(value) for name, value in self.inputs.items()}
        outputs = {name: plain(value) or {} for name, value in self.outputs.items()}
        return said(
            name=self.name, display_name=self.display_name, experiment_name=self.experiment_name,
            description=self.description, tags=self.tags, properties=self.properties, command=self.command, code=self.code,
            environment=self.environment, environment_variables=self.environment_variables, inputs=inputs, outputs=outputs,
            compute=self.compute, resources=self.resources, distribution=self.distribution, limits=self.limits,
            queue_settings=self.queue_settings, identity=_identity(self.identity), services=self.services,
        )  # fmt: skip

    def draft(self, folder: Path) -> "Draft":
        """The run that it asks for. folder: what its paths are relative to. Raises BadInput and BadInputs."""
        from stoker.sdk import ask

        return ask.of_value(self.as_mapping(), SOURCE, folder)


@dataclass(repr=False)
class JobFile(Entity):
    """A job that a file describes; `compute` goes over the file's."""

    source: str | os.PathLike[str]
    compute: str | None = None

    def draft(self, folder: Path) -> "Draft":
        """The run that it asks for. folder: what the file's own path is relative to. Raises BadInput and BadInputs."""
        from stoker.sdk import ask

        return ask.ask(folder / self.source, (), ask.Flags(compute=self.compute), folder)


def load_job(source: str | os.PathLike[str]) -> JobFile:
    """The job of a file: a command job of Azure ML's, a run configuration, a TrainingJob, or a folder with a job.yaml. It is
    read when it is started."""
    return JobFile(source)


def command(
    *,
    command: str | None = None,
    code: str | os.PathLike[str] | None = None,
    environment: "str | os.PathLike[str] | Environment | Mapping[str, Any] | None" = None,
    inputs: Mapping[str, Any] | None = None,
    outputs: Mapping[str, Any] | None = None,
    environment_variables: Mapping[str, str] | None = None,
    compute: str | None = None,
    instance_count: int | None = None,
    instance_type: str | None = None,
    shm_size: str | None = None,
    docker_args: str | None = None,
    locations: list[str] | None = None,
    resources: JobResourceConfiguration | Mapping[str, Any] | None = None,
    distribution: "Distribution | None" = None,
    timeout: int | str | None = None,
    limits: CommandJobLimits | Mapping[str, Any] | None = None,
    queue_settings: QueueSettings | Mapping[str, Any] | None = None,
    job_tier: str | None = None,
    priority: str | None = None,
    name: str | None = None,
    display_name: str | None = None,
    experiment_name: str | None = None,
    description: str | None = None,
    tags: Mapping[str, str] | None = None,
    properties: Mapping[str, str] | None = None,
    identity: Any = None,
    services: Any = None,
    is_deterministic: bool = True,
    parent_job_name: str | None = None,
) -> Command:
    """A command job; `client.jobs.create_or_update` starts it.

    command: shell text; `${{inputs.NAME}}` and `${{outputs.NAME}}` become texts. code: a folder or one file, relative to the
    current folder when the job is started. environment: an Environment, its name, a file, an image, `system`, or a reference
    into Azure ML. inputs: literals and Inputs. outputs: Outputs, or None for a folder. compute: a ComputeCluster, or `local`
    for this machine; missing: the project's setting, else local. instance_count: nodes. timeout: seconds, or `2h`.
    is_deterministic, parent_job_name: of Azure ML; they change nothing here.
    """
    of_resources = _made(JobResourceConfiguration, "resources", resources)
    _set(of_resources, {"instance_count": instance_count, "instance_type": instance_type, "shm_size": shm_size,
                        "docker_args": docker_args, "locations": locations})  # fmt: skip
    of_limits = _made(CommandJobLimits, "limits", limits)
    _set(of_limits, {"timeout": timeout})
    of_queue = _made(QueueSettings, "queue_settings", queue_settings)
    _set(of_queue, {"job_tier": job_tier, "priority": priority})
    return Command(
        command=command, code=code, environment=environment, inputs=ports(inputs), outputs=ports(outputs),
        environment_variables=dict(environment_variables or {}), compute=compute, resources=of_resources,
        distribution=distribution, limits=of_limits, queue_settings=of_queue,
        name=name, display_name=display_name, experiment_name=experiment_name, description=description,
        tags=dict(tags or {}), properties=dict(properties or {}), identity=identity, services=services,
    )  # fmt: skip


def _made(kind: Any, field_name: str, given: Any) -> Any:
    """A copy of a value of a kind, or one made of a mapping."""
    if isinstance(given, Mapping):
        made = kind()
        for name, value in given.items():
            try:
                setattr(made, name, value)
            except BadInput as problem:
                raise BadInput(f"{field_name}.{name}", "unknown key", problem.fix) from None
        return made
    return copy.copy(given) if given is not None else kind()


def _set(entity: Entity, values: Mapping[str, Any]) -> None:
    for name, value in values.items():
        if value is not None:
            setattr(entity, name, value)


def _identity(value: Any) -> Any:
    """Azure ML's identities are classes of its own; what is told of them is the same for all."""
    return {"type": value if isinstance(value, str) else type(value).__name__} if value is not None else None


__all__ = [
    "Command", "CommandJobLimits", "Input", "JobFile", "JobResourceConfiguration", "Output", "QueueSettings", "command", "load_job",
]  # fmt: skip
