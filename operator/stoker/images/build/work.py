"""One build while it runs: what all its stages share."""

import contextlib
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import aiohttp

from stoker.core.environment import keys
from stoker.core.environment.lock import Lock, pins
from stoker.core.environment.request import BuildRequest
from stoker.images.build.log import Log
from stoker.images.client import RegistryClient

#: Digest of the image that this runs in, or whatever else names its tools.
BUILDER_VARIABLE = "STOKER_BUILDER_IMAGE"


@dataclass
class Work:
    """session: for package indexes. scratch: an empty folder. seconds: by stage. sent: bytes that went to the registry."""

    request: BuildRequest
    client: RegistryClient
    session: aiohttp.ClientSession
    scratch: Path
    log: Log
    seconds: dict[str, float] = field(default_factory=dict)
    sent: int = 0

    @property
    def place(self) -> str:
        """The repository of the image and its record."""
        return environments(self.request.registry)

    @property
    def trusted(self) -> list[str]:
        """Others that are read."""
        return [environments(registry) for registry in self.request.trusted]

    @contextlib.contextmanager
    def timed(self, stage: str) -> Iterator[list[str]]:
        """Counts a stage's seconds; what is put into the list is said when it has come to its end."""
        said: list[str] = []
        start = time.monotonic()
        try:
            yield said
            if said:
                self.log.fact(stage, said[-1], time.monotonic() - start)
        finally:
            self.seconds[stage] = self.seconds.get(stage, 0.0) + time.monotonic() - start


def environments(registry: str) -> str:
    """The repository of images and records in a registry of environments."""
    return f"{registry.rstrip('/')}/environments"


def lock_key_of(request: BuildRequest, lock: Lock) -> str:
    """Names the image of a lock on the request's base."""
    packages = [(name, version, build, sha256) for name, version, build, sha256 in pins(lock)]
    return keys.lock_key(request.steps_key, lock.platform, lock.prefix, lock.layer_format, packages)
