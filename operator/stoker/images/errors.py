"""What a registry can say other than yes. 404 alone means that something is not there; the rest is not known."""


class RegistryError(Exception):
    """A registry did not do what it was asked. The message names registry and repository."""


class Unauthorized(RegistryError):
    """401 or 403. fix: what a person can do."""

    def __init__(self, message: str, fix: str) -> None:
        super().__init__(message)
        self.fix = fix


class PushDenied(Unauthorized):
    """401 or 403 to a write."""


class RepositoryMissing(RegistryError):
    """The registry wants repositories to be made before they are pushed to, and this one is not (as AWS ECR has it)."""


class RegistryUnreachable(RegistryError):
    """429, 5xx, a time-out, or an answer that cannot be read. retry_at: when it is worth asking again (seconds since the
    epoch)."""

    def __init__(self, message: str, retry_at: float) -> None:
        super().__init__(message)
        self.retry_at = retry_at


class DigestMismatch(RegistryError):
    """The bytes that came do not hash to the digest that was asked for."""


class Refused(RegistryError):
    """Any other 4xx: the request itself is at fault, and asking again brings nothing."""


class DeletionDisabled(RegistryError):
    """The registry deletes nothing. fix: what whoever runs it can do."""

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.fix = (
            "have it allow deletion (docker-registry: `storage.delete.enabled: true` in its config, or the variable "
            "REGISTRY_STORAGE_DELETE_ENABLED=true), or set a lifecycle rule in the registry itself"
        )
