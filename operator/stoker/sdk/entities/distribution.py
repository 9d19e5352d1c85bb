"""How the processes of a job find each other."""

from dataclasses import dataclass
from typing import Any

from stoker.sdk.entities.entity import Entity, said


@dataclass(kw_only=True, repr=False)
class PyTorchDistribution(Entity):
    """Processes of PyTorch. process_count_per_instance: on each node; missing: 1."""

    process_count_per_instance: int | None = None

    def as_mapping(self) -> dict[str, Any]:
        """What a job's file has for it."""
        return said(type="pytorch", process_count_per_instance=self.process_count_per_instance)


@dataclass(kw_only=True, repr=False)
class MpiDistribution(Entity):
    """Processes of MPI. process_count_per_instance: on each node; MPI needs it."""

    process_count_per_instance: int | None = None

    def as_mapping(self) -> dict[str, Any]:
        """What a job's file has for it."""
        return said(type="mpi", process_count_per_instance=self.process_count_per_instance)


@dataclass(kw_only=True, repr=False)
class TensorFlowDistribution(Entity):
    """Workers and parameter servers of TensorFlow. worker_count: missing: one for each node."""

    worker_count: int | None = None
    parameter_server_count: int | None = None

    def as_mapping(self) -> dict[str, Any]:
        """What a job's file has for it."""
        return said(
            type="tensorflow", worker_count=self.worker_count, parameter_server_count=self.parameter_server_count
        )


@dataclass(kw_only=True, repr=False)
class RayDistribution(Entity):
    """A Ray cluster of the job's nodes."""

    port: int | None = None
    address: str | None = None
    include_dashboard: bool | None = None
    dashboard_port: int | None = None
    head_node_additional_args: str | None = None
    worker_node_additional_args: str | None = None

    def as_mapping(self) -> dict[str, Any]:
        """What a job's file has for it."""
        return said(
            type="ray", port=self.port, address=self.address, include_dashboard=self.include_dashboard,
            dashboard_port=self.dashboard_port, head_node_additional_args=self.head_node_additional_args,
            worker_node_additional_args=self.worker_node_additional_args,
        )  # fmt: skip
