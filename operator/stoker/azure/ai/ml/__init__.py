"""`azure.ai.ml`: the client, `command`, inputs and outputs."""

import os
import re
import warnings
from typing import TYPE_CHECKING, Any

from stoker.azure.absent import names_of, told
from stoker.sdk import (
    Client,
    Command,
    Input,
    MpiDistribution,
    Output,
    PyTorchDistribution,
    RayDistribution,
    TensorFlowDistribution,
    load_job,
)
from stoker.sdk import command as _command
from stoker.sdk.entities.identity import (
    AmlTokenConfiguration,
    ManagedIdentityConfiguration,
    UserIdentityConfiguration,
)

_NOTE = (
    "stoker.azure: credential, subscription, resource group and workspace are not used: the kubeconfig says which cluster and "
    "namespace, or MLClient(context=..., namespace=...)"
)
#: NAME:VERSION and NAME@LABEL, which Azure ML takes for its own environments.
_ASSET = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*(?::[A-Za-z0-9._-]+|@latest)\Z")


class MLClient(Client):
    """The client, with the constructor of Azure's. What names a place in Azure is accepted and not used."""

    def __init__(
        self, credential: Any = None, subscription_id: str | None = None, resource_group_name: str | None = None,
        workspace_name: str | None = None, *, context: str | None = None, namespace: str | None = None, quiet: bool = False,
        **_: Any,
    ) -> None:  # fmt: skip
        super().__init__(context, namespace, quiet=quiet)
        if any(one is not None for one in (credential, subscription_id, resource_group_name, workspace_name)):
            warnings.warn(_NOTE, stacklevel=2)

    @classmethod
    def from_config(cls, credential: Any = None, *, path: str | os.PathLike[str] | None = None, **_: Any) -> "MLClient":
        """The client of the kubeconfig. path: a config.json of Azure ML, which is not used."""
        if credential is not None or path is not None:
            warnings.warn(_NOTE, stacklevel=2)
        return cls()

    if not TYPE_CHECKING:

        def __getattr__(self, name: str) -> Any:
            raise AttributeError(told("MLClient", name))


def command(**given: Any) -> Command:
    """`stoker.command`, where an environment NAME:VERSION is one that was registered, and no image."""
    environment = given.get("environment")
    if isinstance(environment, str) and _ASSET.match(environment):
        given["environment"] = f"azureml:{environment}"
    return _command(**given)


__getattr__ = names_of(__name__)

__all__ = [
    "AmlTokenConfiguration", "Input", "MLClient", "ManagedIdentityConfiguration", "MpiDistribution", "Output",
    "PyTorchDistribution", "RayDistribution", "TensorFlowDistribution", "UserIdentityConfiguration", "command", "load_job",
]  # fmt: skip
