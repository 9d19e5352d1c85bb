"""The builder's credentials, and what registries' errors mean for a build."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from stoker.core.environment.request import REGISTRY_AUTH_DIRECTORY, BuildRequest
from stoker.images.auth import BadCredentials, Keyring, from_docker_config
from stoker.images.errors import (
    DigestMismatch,
    PushDenied,
    RegistryError,
    RegistryUnreachable,
    RepositoryMissing,
    Unauthorized,
)
from stoker.images.failure import BuildFailed


def keyring(folder: Path = Path(REGISTRY_AUTH_DIRECTORY)) -> Keyring:
    """All credentials that are mounted. Raises BuildFailed for a file that cannot be read."""
    found = Keyring()
    for path in sorted(folder.glob("*/.dockerconfigjson")):
        try:
            found += from_docker_config(json.loads(path.read_text()), f"Secret {path.parent.name}")
        except (BadCredentials, ValueError) as error:
            raise BuildFailed("BadCredentials", str(error)) from error
    return found


@contextmanager
def as_build_failures(request: BuildRequest) -> Iterator[None]:
    """Turns the registry client's errors into the reasons of a build."""
    try:
        yield
    except PushDenied as error:
        raise BuildFailed("PushDenied", f"{error}; {error.fix}") from error
    except Unauthorized as error:
        host = request.base.partition("/")[0]
        reason = "BaseImageUnauthorized" if host in str(error) else "RegistryUnauthorized"
        raise BuildFailed(reason, f"{error}; {error.fix}") from error
    except RepositoryMissing as error:
        raise BuildFailed("RepositoryMissing", str(error)) from error
    except DigestMismatch as error:
        raise BuildFailed("HashMismatch", str(error), transient=True) from error
    except RegistryUnreachable as error:
        raise BuildFailed("RegistryUnreachable", str(error), transient=True) from error
    except RegistryError as error:
        raise BuildFailed("RegistryRefused", str(error)) from error
