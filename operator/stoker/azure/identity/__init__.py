"""`azure.identity`: credentials that are accepted and not used. The kubeconfig says who one is."""

from typing import Any, NamedTuple

from stoker.azure.absent import names_of


class AccessToken(NamedTuple):
    """A token: empty, for nothing here asks for one."""

    token: str
    expires_on: int


class _Credential:
    """Takes what Azure's class of the name takes, and keeps nothing of it."""

    def __init__(self, *_: Any, **__: Any) -> None:
        return

    def get_token(self, *_: Any, **__: Any) -> AccessToken:
        """A token that opens nothing."""
        return AccessToken("", 0)


class AzureCliCredential(_Credential):
    """Not used."""


class ClientSecretCredential(_Credential):
    """Not used."""


class DefaultAzureCredential(_Credential):
    """Not used."""


class DeviceCodeCredential(_Credential):
    """Not used."""


class EnvironmentCredential(_Credential):
    """Not used."""


class InteractiveBrowserCredential(_Credential):
    """Not used."""


class ManagedIdentityCredential(_Credential):
    """Not used."""


__getattr__ = names_of(__name__)

__all__ = [
    "AccessToken", "AzureCliCredential", "ClientSecretCredential", "DefaultAzureCredential", "DeviceCodeCredential",
    "EnvironmentCredential", "InteractiveBrowserCredential", "ManagedIdentityCredential",
]  # fmt: skip
