"""Inputs and outputs of a job."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from stoker.errors import BadInput, did_you_mean
from stoker.sdk.entities.entity import Entity, said

#: Types whose value is the input itself.
LITERALS = ("string", "number", "integer", "boolean")


@dataclass(kw_only=True, repr=False)
class Input(Entity):
    """Data that a job reads, or a literal with a type.

    type: `uri_folder` (what a missing one means), `uri_file`, `mltable`, `mlflow_model`, `custom_model`, `triton_model`; or
    `string`, `number`, `integer`, `boolean`, whose value is `default`. path: a local path, which is sent once for each
    content, or a URL. mode: `download`, `ro_mount`, `direct`. description: for people. optional, min, max, enum: as a
    component's file has them; a job's value is not held against them.
    """

    type: str | None = None
    path: str | os.PathLike[str] | None = None
    mode: str | None = None
    default: Any = None
    datastore: str | None = None
    description: str | None = None
    optional: bool | None = None
    min: float | None = None
    max: float | None = None
    enum: list[Any] | None = None

    def as_mapping(self) -> Any:
        """What a job's file has for it: the literal, or type, path and mode."""
        if self.type in LITERALS:
            if self.default is None:
                raise BadInput("Input", f"type {self.type} has no value", "write default=..., or the value itself")
            return self.default
        return said(type=self.type, path=self.path, mode=self.mode, datastore=self.datastore)


@dataclass(kw_only=True, repr=False)
class Output(Entity):
    """Data that a job writes: a folder or a file that is kept with the run.

    type: as Input's. mode: `upload`, `rw_mount`. path: where it is kept, if not with the run. name, version: the data asset
    that it becomes.
    """

    type: str | None = None
    path: str | os.PathLike[str] | None = None
    mode: str | None = None
    name: str | None = None
    version: str | None = None
    description: str | None = None

    def as_mapping(self) -> dict[str, Any]:
        """What a job's file has for it."""
        return said(type=self.type, path=self.path, mode=self.mode, name=self.name, version=self.version)


class Ports(dict[str, Any]):
    """The inputs, or the outputs, of a job: `job.inputs.lr = 0.1` and `job.inputs["lr"] = 0.1` are the same."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        if name not in self:
            raise AttributeError(f"no {name} among {', '.join(self) or 'none'}; {did_you_mean(name, set(self))}")
        return self[name]

    def __setattr__(self, name: str, value: Any) -> None:
        self[name] = value

    def __delattr__(self, name: str) -> None:
        del self[name]


def ports(given: Mapping[str, Any] | None) -> Ports:
    """A copy as Ports."""
    return Ports(given or {})
