"""Build a job, submit it, watch it: for Python.

    from stoker import Client, Input, Output, command

    job = command(code="./src", command="python train.py --lr ${{inputs.lr}}", inputs={"lr": 0.1}, compute="local")
    client = Client()
    run = client.jobs.create_or_update(job)
    client.jobs.stream(run.name)

Names are looked up when they are used, so that the CLI, which shares these modules, starts as fast without them.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from stoker.sdk.aio import AsyncClient
    from stoker.sdk.entities.compute import AmlCompute, ComputeCluster
    from stoker.sdk.entities.data import Input, Output
    from stoker.sdk.entities.distribution import (
        MpiDistribution,
        PyTorchDistribution,
        RayDistribution,
        TensorFlowDistribution,
    )
    from stoker.sdk.entities.environment import BuildContext, Environment
    from stoker.sdk.entities.job import (
        Command,
        CommandJobLimits,
        JobResourceConfiguration,
        QueueSettings,
        command,
        load_job,
    )
    from stoker.sdk.entities.run import Job, JobFailed
    from stoker.sdk.entities.runconfig import (
        DockerConfiguration,
        MpiConfiguration,
        PyTorchConfiguration,
        RunConfiguration,
        ScriptRunConfig,
        TensorflowConfiguration,
    )
    from stoker.sdk.mlclient import Client

_MODULES = {
    "aio": ("AsyncClient",),
    "mlclient": ("Client",),
    "entities.compute": ("AmlCompute", "ComputeCluster"),
    "entities.data": ("Input", "Output"),
    "entities.distribution": ("MpiDistribution", "PyTorchDistribution", "RayDistribution", "TensorFlowDistribution"),
    "entities.environment": ("BuildContext", "Environment"),
    "entities.job": ("Command", "CommandJobLimits", "JobResourceConfiguration", "QueueSettings", "command", "load_job"),
    "entities.run": ("Job", "JobFailed"),
    "entities.runconfig": (
        "DockerConfiguration", "MpiConfiguration", "PyTorchConfiguration", "RunConfiguration", "ScriptRunConfig",
        "TensorflowConfiguration",
    ),
}  # fmt: skip
_PLACES = {name: module for module, names in _MODULES.items() for name in names}


def __getattr__(name: str) -> Any:
    if name in _PLACES:
        return getattr(import_module(f"stoker.sdk.{_PLACES[name]}"), name)
    raise AttributeError(f"module 'stoker.sdk' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *_PLACES])


__all__ = [
    "AmlCompute", "AsyncClient", "BuildContext", "Client", "Command", "CommandJobLimits", "ComputeCluster",
    "DockerConfiguration", "Environment", "Input", "Job", "JobFailed", "JobResourceConfiguration", "MpiConfiguration",
    "MpiDistribution", "Output", "PyTorchConfiguration", "PyTorchDistribution", "QueueSettings", "RayDistribution",
    "RunConfiguration", "ScriptRunConfig", "TensorFlowDistribution", "TensorflowConfiguration", "command", "load_job",
]  # fmt: skip
