"""`azureml.core`: ScriptRunConfig and an Experiment that it is submitted to."""

import os
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from stoker.azure.absent import names_of
from stoker.sdk import BuildContext, Client, DockerConfiguration, Job, RunConfiguration, ScriptRunConfig
from stoker.sdk import Environment as _Environment

_NOTE = "stoker.azureml: subscription, resource group and workspace are not used: the kubeconfig says which cluster and namespace"


class Workspace:
    """The namespace that the kubeconfig names. What names a place in Azure is accepted and not used."""

    def __init__(self, *names: Any, client: Client | None = None, **more: Any) -> None:
        self.client = client or Client()
        if names or more:
            warnings.warn(_NOTE, stacklevel=2)

    @classmethod
    def from_config(cls, path: str | os.PathLike[str] | None = None, **more: Any) -> "Workspace":
        """The namespace of the kubeconfig. path: a config.json of Azure ML, which is not used."""
        if path is not None or more:
            warnings.warn(_NOTE, stacklevel=2)
        return cls()

    get = from_config

    @property
    def compute_targets(self) -> dict[str, Any]:
        """The pools by name."""
        return {one.name: one for one in self.client.compute.list()}


class Environment(_Environment):
    """An environment, by version 1's ways of making one."""

    @staticmethod
    def from_conda_specification(name: str, file_path: str | os.PathLike[str]) -> _Environment:
        """Of a conda file, with the image that the Workspace has for those without one."""
        return _Environment(name=name, conda_file=file_path)

    @staticmethod
    def from_pip_requirements(name: str, file_path: str | os.PathLike[str]) -> _Environment:
        """Of a requirements file."""
        return _Environment(name=name, pip_file=file_path)

    @staticmethod
    def from_docker_image(
        name: str, image: str, conda_specification: str | None = None, pip_requirements: str | None = None
    ) -> _Environment:
        """Of an image, with packages or without."""
        return _Environment(name=name, image=image, conda_file=conda_specification, pip_file=pip_requirements)

    @staticmethod
    def from_dockerfile(name: str, dockerfile: str | os.PathLike[str]) -> _Environment:
        """Of a Dockerfile."""
        folder, file = os.path.split(os.fspath(dockerfile))
        return _Environment(name=name, build=BuildContext(path=folder or ".", dockerfile_path=file))

    @staticmethod
    def get(workspace: Workspace, name: str, version: str | None = None) -> _Environment:
        """One of the namespace."""
        return workspace.client.environments.get(name, version)


@dataclass
class Run:
    """A run of an experiment."""

    experiment: "Experiment"
    job: Job

    @property
    def id(self) -> str:
        """The run's name."""
        return self.job.name

    def get_status(self) -> str:
        """Where it stands now."""
        return self._now().status

    def get_portal_url(self) -> str | None:
        """None: there is no web page of runs yet."""
        return self.job.studio_url

    def wait_for_completion(self, show_output: bool = False, **_: Any) -> dict[str, Any]:
        """Wait for the end, with the log printed. Raises JobFailed. show_output: accepted; a run's log is printed anyway."""
        self.experiment.workspace.client.jobs.stream(self.job)
        return {"runId": self.id, "status": self.get_status()}

    def cancel(self) -> None:
        """Ask that it ends."""
        self.experiment.workspace.client.jobs.cancel(self.job)

    def _now(self) -> Job:
        self.job = self.experiment.workspace.client.jobs.get(self.job)
        return self.job


@dataclass
class Experiment:
    """A group of runs."""

    workspace: Workspace
    name: str

    def submit(self, config: ScriptRunConfig, tags: Mapping[str, str] | None = None, **_: Any) -> Run:
        """Start a run in this group."""
        jobs = self.workspace.client.jobs
        return Run(self, jobs.create_or_update(config, tags=tags, experiment_name=self.name))


__getattr__ = names_of(__name__)

__all__ = [
    "DockerConfiguration", "Environment", "Experiment", "Run", "RunConfiguration", "ScriptRunConfig", "Workspace",
]  # fmt: skip
