"""Pools of nodes."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stoker.api.names import API_VERSION
from stoker.sdk.entities.entity import Entity, plain, said


@dataclass(kw_only=True, repr=False)
class ComputeCluster(Entity):
    """A pool, in the words of its manifest. provider: {"type": ..., <block of that name>}. instance_types: each with name and
    resources. allowed_namespaces: who may use it; {} is everybody. spec: more of the manifest's spec, keys as there. status:
    what the cluster told of it."""

    name: str
    provider: Mapping[str, Any]
    instance_types: Sequence[Mapping[str, Any]]
    max_instances: int
    min_instances: int | None = None
    idle_seconds_before_scale_down: int | None = None
    allowed_namespaces: Mapping[str, Any] | None = None
    spec: Mapping[str, Any] | None = None
    status: Mapping[str, Any] | None = None

    def manifest(self) -> tuple[dict[str, Any], tuple[str, ...]]:
        """The manifest, and what in it is not as it was said: nothing. Raises BadInputs."""
        from stoker.sdk import manifest

        told = said(
            provider=self.provider, instanceTypes=self.instance_types, maxInstances=self.max_instances,
            minInstances=self.min_instances, idleSecondsBeforeScaleDown=self.idle_seconds_before_scale_down,
        )  # fmt: skip
        spec = {**(self.spec or {}), **told, "allowedNamespaces": plain(self.allowed_namespaces or {})}
        made = {"apiVersion": API_VERSION, "kind": "ComputeCluster", "metadata": {"name": self.name}, "spec": spec}
        manifest.check("ComputeCluster", made, "ComputeCluster()")
        return made, ()


@dataclass(kw_only=True, repr=False)
class AmlCompute(Entity):
    """A pool as Azure ML describes it; docs/azure.md says what each becomes. size: such as Standard_DS3_v2. tier: dedicated or
    low_priority. idle_time_before_scale_down: seconds."""

    name: str
    size: str | None = None
    tier: str | None = None
    min_instances: int | None = None
    max_instances: int | None = None
    idle_time_before_scale_down: int | None = None
    description: str | None = None
    tags: Mapping[str, str] | None = None
    location: str | None = None
    type: str = "amlcompute"
    ssh_public_access_enabled: bool | None = None
    ssh_settings: Any = None
    network_settings: Any = None
    identity: Any = None
    enable_node_public_ip: bool | None = None

    def as_mapping(self) -> dict[str, Any]:
        """What its file has."""
        return said(**vars(self))

    def manifest(self) -> tuple[dict[str, Any], tuple[str, ...]]:
        """The manifest, and what in it is not as it was said. Raises BadInputs."""
        from stoker.core.yaml12 import Document
        from stoker.sdk import manifest
        from stoker.sdk.azureml import compute

        made, warnings = compute.read(Document(self.as_mapping(), "AmlCompute()"), Path.cwd())
        manifest.check("ComputeCluster", made, "AmlCompute()")
        return made, warnings


def of_object(found: Mapping[str, Any]) -> ComputeCluster:
    """The pool that an object of the cluster is."""
    spec = dict(found.get("spec") or {})
    return ComputeCluster(
        name=str(found["metadata"]["name"]), provider=spec.pop("provider", {}), instance_types=spec.pop("instanceTypes", []),
        max_instances=spec.pop("maxInstances", 0), min_instances=spec.pop("minInstances", None),
        idle_seconds_before_scale_down=spec.pop("idleSecondsBeforeScaleDown", None),
        allowed_namespaces=spec.pop("allowedNamespaces", None), spec=spec or None, status=found.get("status"),
    )  # fmt: skip
