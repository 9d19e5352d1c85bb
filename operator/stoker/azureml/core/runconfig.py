"""`azureml.core.runconfig`."""

from stoker.azure.absent import names_of
from stoker.sdk import (
    DockerConfiguration,
    MpiConfiguration,
    PyTorchConfiguration,
    RunConfiguration,
    TensorflowConfiguration,
)

__getattr__ = names_of(__name__)

__all__ = [
    "DockerConfiguration", "MpiConfiguration", "PyTorchConfiguration", "RunConfiguration", "TensorflowConfiguration",
]  # fmt: skip
