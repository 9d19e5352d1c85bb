"""What a namespace has to find and build images with: its registries, mirrors, and the builder."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from stoker.core.environment.request import Mirrors
from stoker.core.plan import RegistryPlace


@dataclass(frozen=True, slots=True)
class Builder:
    """How the pods of builds are made: the chart's values. resources: as a container has them. at_a_time: builds of one
    namespace. timeout_seconds: of one try. pull_secrets: Secrets with which `image` is pulled."""

    image: str = ""
    resources: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    at_a_time: int = 4
    timeout_seconds: int = 3600
    pull_secrets: tuple[str, ...] = ()
    node_selector: Mapping[str, str] = field(default_factory=dict)
    tolerations: tuple[Mapping[str, Any], ...] = ()

    def digest(self, buildkit: str = "") -> str:
        """Another one where a build that failed for want of memory, disk or time is worth another try. buildkit: address of
        the daemon that it uses; empty for none."""
        told: list[Any] = [self.image, {name: dict(amounts) for name, amounts in self.resources.items()}]
        told += [self.timeout_seconds, *([buildkit] if buildkit else [])]
        return hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()[:16]


@dataclass(frozen=True, slots=True)
class Means:
    """registry: the namespace's own, where built images go; None: nothing can be found or built. trusted: read only, in
    order. index_secret: Secret whose key `netrc` has the credentials of package indexes. service_account: whose cloud
    identity builds have. signing_secret: Secret with whose key built images are signed; empty: they are not. buildkit:
    `tcp://host:port` of a daemon of one's own. insecure: `host:port` of other registries that speak http. addresses:
    (host of a registry, `host:port` where pods connect instead)."""

    registry: RegistryPlace | None = None
    trusted: tuple[RegistryPlace, ...] = ()
    mirrors: Mirrors = field(default_factory=Mirrors)
    index_secret: str = ""
    service_account: str = ""
    signing_secret: str = ""
    buildkit: str = ""
    insecure: tuple[str, ...] = ()
    addresses: tuple[tuple[str, str], ...] = ()
    builder: Builder = field(default_factory=Builder)

    @property
    def places(self) -> tuple[RegistryPlace, ...]:
        """Where an image is looked for, in order."""
        return (*((self.registry,) if self.registry else ()), *self.trusted)
