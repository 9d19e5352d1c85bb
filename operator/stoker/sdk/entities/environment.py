"""What a job's command runs in."""

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from stoker.sdk.entities.entity import Entity, said


@dataclass(repr=False)
class BuildContext(Entity):
    """A folder with a Dockerfile."""

    path: str | os.PathLike[str] | None = None
    dockerfile_path: str | None = None

    def as_mapping(self) -> dict[str, Any]:
        """What an environment's file has for it."""
        return said(path=self.path, dockerfile_path=self.dockerfile_path)


@dataclass(kw_only=True, repr=False)
class Environment(Entity):
    """An image, alone or with packages, or a folder with a Dockerfile.

    image: the base. conda_file: a path, or the file's content as a mapping. pip: requirements, one text each; pip_file: a
    file of them. docker_steps: lines of a Dockerfile behind the base. build: a folder with a Dockerfile instead of image.
    name, version: of the Environment in the cluster that `client.environments.create_or_update` makes; in a job with
    neither image nor packages: the Environment that is meant. os_type: Linux, as every environment is.
    """

    name: str | None = None
    version: str | int | None = None
    description: str | None = None
    tags: Mapping[str, str] | None = None
    image: str | None = None
    conda_file: str | os.PathLike[str] | Mapping[str, Any] | None = None
    pip: list[str] | None = None
    pip_file: str | os.PathLike[str] | None = None
    docker_steps: list[str] | None = None
    build: BuildContext | Mapping[str, Any] | None = None
    os_type: str | None = None
    inference_config: Mapping[str, Any] | None = None

    def __post_init__(self) -> None:
        self._object: str | None = None

    @property
    def id(self) -> str:
        """The reference that another job names it by."""
        return self.reference

    @property
    def reference(self) -> str:
        """The Environment of the cluster that name and version mean; `@latest` without a version."""
        if self._object is not None:
            return self._object
        return f"azureml:{self.name}:{self.version}" if self.version is not None else f"azureml:{self.name}@latest"

    @property
    def has_content(self) -> bool:
        """Whether it says itself what it is, and not only its name."""
        return any(
            value is not None
            for value in (self.image, self.conda_file, self.pip, self.pip_file, self.docker_steps, self.build)
        )

    def content(self) -> dict[str, Any]:
        """What an environment's file has but for names."""
        return said(
            image=self.image, conda_file=self.conda_file, pip=self.pip, pip_file=self.pip_file,
            docker_steps=self.docker_steps, build=self.build, os_type=self.os_type, inference_config=self.inference_config,
        )  # fmt: skip

    def as_mapping(self) -> Any:
        """What a job's file has for it: the content, else a reference."""
        if self._object is not None or (self.name is not None and not self.has_content):
            return self.reference
        return self.content()

    def as_file(self) -> dict[str, Any]:
        """What an environment's own file has."""
        version = str(self.version) if self.version is not None else None
        return said(name=self.name, version=version, description=self.description, tags=self.tags) | self.content()


_VERSIONED = re.compile(r"(?P<name>.+)-v(?P<version>\d[A-Za-z0-9.-]*)\Z")


def of_object(found: Mapping[str, Any]) -> Environment:
    """The Environment that an object of the cluster is. A job that gets it names it."""
    name, spec = str(found["metadata"]["name"]), found.get("spec") or {}
    parts = _VERSIONED.match(name)
    made = Environment(
        name=parts["name"] if parts else name, version=parts["version"] if parts else None, image=spec.get("image"),
        conda_file=spec.get("conda"), pip=spec.get("pip"), docker_steps=spec.get("dockerSteps"),
    )  # fmt: skip
    made._object = name
    return made
