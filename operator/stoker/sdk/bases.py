"""What a base image's tag means on a platform, asked from this machine."""

import asyncio
import json
import os
from pathlib import Path

from stoker.core.reference import BadReference
from stoker.errors import StokerError
from stoker.images.auth import BadCredentials, Keyring, from_docker_config
from stoker.images.errors import RegistryError
from stoker.images.registry import Registry

USER_AGENT = "stoker"


class BaseUnknown(StokerError):
    """The digest of a base cannot be told: no such image, no credentials for it, or no answer."""


def resolve(image: str, platform: str, insecure: frozenset[str] = frozenset()) -> str:
    """`registry/repository@digest` of an image on a platform, with the credentials that `docker login` keeps; raises
    BaseUnknown. insecure: `host:port` of registries that speak http."""
    try:
        return asyncio.run(_resolve(image, platform, insecure))
    except (RegistryError, BadReference, BadCredentials) as error:
        raise BaseUnknown(str(error)) from error


async def _resolve(image: str, platform: str, insecure: frozenset[str]) -> str:
    async with Registry(insecure=insecure, user_agent=USER_AGENT) as registry:
        return await registry.resolve(image, platform, keyring())


def keyring() -> Keyring:
    """The credentials in docker's own config file; raises BadCredentials for one that cannot be read."""
    path = Path(os.environ.get("DOCKER_CONFIG") or Path.home() / ".docker") / "config.json"
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return Keyring()
    except (OSError, ValueError) as error:
        raise BadCredentials(f"{path} cannot be read: {error}") from error
    return from_docker_config({"auths": {}, **document} if isinstance(document, dict) else {}, str(path))
