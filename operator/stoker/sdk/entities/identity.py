"""Who a command is, as Azure ML has it. In a cluster it is its pod's ServiceAccount; a warning says so."""

from dataclasses import dataclass

from stoker.sdk.entities.entity import Entity


@dataclass(kw_only=True, repr=False)
class UserIdentityConfiguration(Entity):
    """The user's own."""


@dataclass(kw_only=True, repr=False)
class AmlTokenConfiguration(Entity):
    """Azure ML's token."""


@dataclass(kw_only=True, repr=False)
class ManagedIdentityConfiguration(Entity):
    """A managed identity."""

    client_id: str | None = None
    object_id: str | None = None
    resource_id: str | None = None
