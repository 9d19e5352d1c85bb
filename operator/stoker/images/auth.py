"""Credentials for registries: what docker config files and pull secrets say, and bearer tokens."""

import base64
import binascii
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

#: Names under which docker.io's credentials are kept by the tools that write such files.
_DOCKER_HUB = ("docker.io", "index.docker.io", "registry-1.docker.io")


class BadCredentials(ValueError):
    """A pull secret cannot be read; the message names it and says what it should hold."""


@dataclass(frozen=True, slots=True)
class Credential:
    """A user's name and password, or an identity token (user `<token>`)."""

    username: str
    password: str = field(repr=False)

    @property
    def basic(self) -> str:
        """Value of an Authorization header."""
        return "Basic " + base64.b64encode(f"{self.username}:{self.password}".encode()).decode()


@dataclass(frozen=True, slots=True)
class Keyring:
    """Credentials by registry, or by registry and the beginning of a repository's path; the longest match wins."""

    credentials: tuple[tuple[str, Credential], ...] = ()

    def find(self, registry: str, repository: str) -> Credential | None:
        places = _DOCKER_HUB if registry == "docker.io" else (registry,)
        wanted = [f"{place}/{repository}" for place in places]
        best = max(
            ((prefix, credential) for prefix, credential in self.credentials if _covers(prefix, wanted)),
            key=lambda one: len(one[0]),
            default=None,
        )
        return best[1] if best else None

    def __add__(self, other: "Keyring") -> "Keyring":
        return Keyring(self.credentials + other.credentials)


def _covers(prefix: str, wanted: Iterable[str]) -> bool:
    host, slash, path = prefix.partition("/")
    pattern = re.escape(host).replace(r"\*", "[^./]+") + (re.escape(slash + path) if path else "")
    return any(re.match(pattern + "(/|$)", name) for name in wanted)


def from_secret(secret: Mapping[str, Any], name: str) -> Keyring:
    """The keyring of a Secret of type kubernetes.io/dockerconfigjson (or the older dockercfg); raises BadCredentials."""
    content = secret.get("data") or {}
    for member, wrapped in ((".dockerconfigjson", True), (".dockercfg", False)):
        if member in content:
            try:
                document = json.loads(base64.b64decode(content[member]))
            except (ValueError, binascii.Error) as error:
                raise BadCredentials(f"Secret {name}: {member} is not JSON in base64") from error
            return from_docker_config(document if wrapped else {"auths": document}, f"Secret {name}")
    raise BadCredentials(
        f"Secret {name} has no .dockerconfigjson; make it with `kubectl create secret docker-registry {name} ...`"
    )


def from_docker_config(document: Mapping[str, Any], origin: str) -> Keyring:
    """The keyring of a docker config file's content; raises BadCredentials. Credential helpers are not run."""
    found = []
    auths = document.get("auths")
    if not isinstance(auths, Mapping):
        raise BadCredentials(f"{origin}: a docker config has the member `auths`")
    for address, entry in auths.items():
        if (credential := _credential(entry, f"{origin}: {address}")) is not None:
            place = re.sub(r"^https?://", "", address).rstrip("/")
            found.append((re.sub(r"/v[12]$", "", place), credential))
    return Keyring(tuple(found))


def _credential(entry: Any, origin: str) -> Credential | None:
    if not isinstance(entry, Mapping):
        raise BadCredentials(f"{origin}: expected an object with username and password, or auth")
    if token := entry.get("identitytoken"):
        return Credential("<token>", token)
    if entry.get("username"):
        return Credential(entry["username"], entry.get("password", ""))
    if not entry.get("auth"):
        return None
    try:
        username, colon, password = base64.b64decode(entry["auth"]).decode().partition(":")
    except (ValueError, binascii.Error) as error:
        raise BadCredentials(f"{origin}: auth is not base64") from error
    if not colon:
        raise BadCredentials(f"{origin}: auth is not base64 of user:password")
    return Credential(username, password)


_PARAMETER = re.compile(r'([a-zA-Z_]+)=(?:"([^"]*)"|([^",\s]+))')


def parse_challenge(header: str) -> tuple[str, dict[str, str]]:
    """Scheme in lower case and parameters of a Www-Authenticate header (RFC 9110, 11.6.1)."""
    scheme, _, rest = header.strip().partition(" ")
    return scheme.lower(), {name.lower(): quoted or plain for name, quoted, plain in _PARAMETER.findall(rest)}
