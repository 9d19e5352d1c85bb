"""Asks a registry what an image reference means on a platform (OCI distribution specification, v2 API).

Three outcomes besides the digest: the registry says there is no such image (404, and only that), it does not let us
look, or it cannot be asked now.
"""

import asyncio
import hashlib
import random
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Any, Self

import aiohttp
import msgspec

from stoker.core.reference import Reference, parse
from stoker.images.auth import Keyring, parse_challenge

INDEX_TYPES = (
    "application/vnd.oci.image.index.v1+json",
    "application/vnd.docker.distribution.manifest.list.v2+json",
)
MANIFEST_TYPES = (
    "application/vnd.oci.image.manifest.v1+json",
    "application/vnd.docker.distribution.manifest.v2+json",
)
ACCEPT = ", ".join(INDEX_TYPES + MANIFEST_TYPES)

REQUEST_SECONDS = 20.0
TRIES = 3
BACKOFF_SECONDS = 0.3
#: How soon a registry that could not be reached is worth another try.
RETRY_SECONDS = 20.0
#: A manifest is at most 4 MiB by the specification's advice.
MOST_MANIFEST_BYTES = 4 << 20
#: What a tag meant is good for so long; what a digest means never changes.
TAG_SECONDS = 60.0
MOST_CACHED = 4096
TOKEN_MARGIN_SECONDS = 10.0


class ImageError(Exception):
    """The reference has no digest for us. The message names the reference and, where there is one, the fix."""


class BaseImageNotFound(ImageError):
    """The registry answered 404, or the image has nothing for the platform."""


class BaseImageUnauthorized(ImageError):
    """The registry answered 401 or 403. fix: what a person can do."""

    def __init__(self, message: str, fix: str) -> None:
        super().__init__(message)
        self.fix = fix


class RegistryUnreachable(ImageError):
    """Anything else. retry_at: when it is worth asking again (seconds since the epoch)."""

    def __init__(self, message: str, retry_at: float) -> None:
        super().__init__(message)
        self.retry_at = retry_at


class Registry:
    """A client for all registries, with a cache and one flight per question.

    insecure: `host:port` of registries that speak http. Close it, or use it as an async context manager.
    """

    def __init__(
        self, *, insecure: frozenset[str] = frozenset(), user_agent: str, clock: Callable[[], float] = time.time
    ) -> None:
        self._insecure = insecure
        self._user_agent = user_agent
        self._clock = clock
        self._session: aiohttp.ClientSession | None = None
        self._tokens: dict[tuple[str, str, Keyring], tuple[str, float]] = {}
        self._cache: OrderedDict[tuple[str, str, Keyring], tuple[str, float]] = OrderedDict()
        self._flights: dict[tuple[str, str, Keyring], asyncio.Task[str]] = {}

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        if self._session is not None:
            await self._session.close()
            self._session = None

    async def resolve(self, text: str, platform: str, keyring: Keyring = Keyring()) -> str:  # noqa: B008 (immutable)
        """The reference pinned to the platform's manifest: `registry/repository@sha256:...`.

        platform: `os/architecture[/variant]`. An index is resolved to the platform's manifest even where it was given
        by digest: the digest that a job records is the one that its nodes run. Raises BadReference and ImageError.
        """
        reference = parse(text)
        question = (str(reference), platform, keyring)
        cached = self._cache.get(question)
        if cached is not None and cached[1] > self._clock():
            return reference.pinned(cached[0])
        flight = self._flights.get(question)
        if flight is None:
            flight = self._flights[question] = asyncio.create_task(self._resolve(reference, platform, keyring))
            flight.add_done_callback(lambda _: self._flights.pop(question, None))
        # Shielded: one who gives up must not end the flight of the others.
        digest = await asyncio.shield(flight)
        lasting = float("inf") if reference.digest else TAG_SECONDS
        self._cache[question] = (digest, self._clock() + lasting)
        while len(self._cache) > MOST_CACHED:
            self._cache.popitem(last=False)
        return reference.pinned(digest)

    async def _resolve(self, reference: Reference, platform: str, keyring: Keyring) -> str:
        content, media_type = await self._manifest(reference, keyring)
        digest = "sha256:" + hashlib.sha256(content).hexdigest()
        if reference.digest and reference.digest.startswith("sha256:") and digest != reference.digest.lower():
            raise self._unreachable(reference, f"sent a manifest that hashes to {digest}")
        try:
            manifest = msgspec.json.decode(content)
            if media_type in INDEX_TYPES or "manifests" in manifest:
                return _pick(manifest, reference, platform)
        except (msgspec.DecodeError, TypeError, KeyError) as error:
            raise self._unreachable(reference, "sent a manifest that cannot be read") from error
        if media_type not in MANIFEST_TYPES and "config" not in manifest:
            raise BaseImageNotFound(
                f"image {reference}: the registry offers it only as {media_type or 'an unknown type'}; "
                "push it again with a current tool"
            )
        return digest

    async def _manifest(self, reference: Reference, keyring: Keyring) -> tuple[bytes, str]:
        """The manifest's bytes and media type."""
        url = f"{self._address(reference)}/v2/{reference.repository}/manifests/{reference.target}"
        authorization = self._remembered(reference, keyring)
        problem = "did not answer"
        challenged = False
        attempt = 0
        while attempt < TRIES:
            if attempt:
                await asyncio.sleep(BACKOFF_SECONDS * 2.0 ** (attempt - 1) * random.uniform(0.5, 1.5))
            headers = {"Accept": ACCEPT} | ({"Authorization": authorization} if authorization else {})
            try:
                async with self._http().get(url, headers=headers) as response:
                    if response.status == 200:
                        content = await response.content.read(MOST_MANIFEST_BYTES + 1)
                        while not response.content.at_eof() and len(content) <= MOST_MANIFEST_BYTES:
                            content += await response.content.read(MOST_MANIFEST_BYTES + 1 - len(content))
                        if len(content) > MOST_MANIFEST_BYTES:
                            raise self._unreachable(reference, f"sent a manifest of over {MOST_MANIFEST_BYTES} bytes")
                        return content, response.content_type
                    if response.status == 401 and not challenged:
                        challenged = True
                        authorization = await self._authorize(reference, keyring, response.headers)
                        continue
                    problem = self._refused(reference, response.status, keyring)
            except (aiohttp.ClientError, OSError, msgspec.DecodeError) as error:
                problem = f"cannot be reached: {error or type(error).__name__}"
            attempt += 1
        raise self._unreachable(reference, problem)

    def _refused(self, reference: Reference, status: int, keyring: Keyring) -> str:
        """Raises what a status means; returns the problem's text where another try may help."""
        if status == 404:
            raise BaseImageNotFound(f"image {reference}: the registry {reference.registry} has no such image")
        if status in (401, 403):
            raise self._unauthorized(reference, status, keyring)
        return f"answered {status}"

    def _unauthorized(self, reference: Reference, status: int, keyring: Keyring) -> BaseImageUnauthorized:
        known = keyring.find(reference.registry, reference.repository) is not None
        return BaseImageUnauthorized(
            f"image {reference}: the registry {reference.registry} answered {status}"
            + (" with the pull secret's credentials" if known else " without credentials"),
            "check the name, and that the pull secret's user may read the repository"
            if known
            else f"check the name, or name a pull secret for {reference.registry} in imagePullSecrets",
        )

    async def _authorize(self, reference: Reference, keyring: Keyring, headers: Mapping[str, str]) -> str:
        """The Authorization header that answers a 401's challenge; raises BaseImageUnauthorized where there is none."""
        scheme, parameters = parse_challenge(headers.get("Www-Authenticate", ""))
        credential = keyring.find(reference.registry, reference.repository)
        if scheme == "basic" and credential is not None:
            return credential.basic
        if scheme != "bearer" or "realm" not in parameters:
            raise self._unauthorized(reference, 401, keyring)
        query = {"scope": parameters.get("scope") or f"repository:{reference.repository}:pull"}
        if "service" in parameters:
            query["service"] = parameters["service"]
        sent = {"Authorization": credential.basic} if credential is not None else {}
        async with self._http().get(parameters["realm"], params=query, headers=sent) as response:
            if response.status in (400, 401, 403):
                raise self._unauthorized(reference, response.status, keyring)
            if response.status != 200:
                raise self._unreachable(reference, f"answered {response.status} when asked for a token")
            answer: Any = msgspec.json.decode(await response.read())
        token = answer.get("token") or answer.get("access_token")
        if not token:
            raise self._unreachable(reference, "sent no token")
        value = f"Bearer {token}"
        now = self._clock()
        self._tokens = {key: kept for key, kept in self._tokens.items() if kept[1] > now}
        until = now + float(answer.get("expires_in") or 60) - TOKEN_MARGIN_SECONDS
        self._tokens[self._token_key(reference, keyring)] = (value, until)
        return value

    def _remembered(self, reference: Reference, keyring: Keyring) -> str | None:
        value, until = self._tokens.get(self._token_key(reference, keyring), (None, 0.0))
        return value if until > self._clock() else None

    @staticmethod
    def _token_key(reference: Reference, keyring: Keyring) -> tuple[str, str, Keyring]:
        return reference.registry, reference.repository, keyring

    def _unreachable(self, reference: Reference, problem: str) -> RegistryUnreachable:
        return RegistryUnreachable(
            f"image {reference}: the registry {reference.registry} {problem}", self._clock() + RETRY_SECONDS
        )

    def _address(self, reference: Reference) -> str:
        host = "registry-1.docker.io" if reference.registry == "docker.io" else reference.registry
        return f"{'http' if reference.registry in self._insecure else 'https'}://{host}"

    def _http(self) -> aiohttp.ClientSession:
        if self._session is None:
            self._session = aiohttp.ClientSession(
                headers={"User-Agent": self._user_agent},
                timeout=aiohttp.ClientTimeout(total=REQUEST_SECONDS, sock_connect=5),
                trust_env=True,
            )
        return self._session


def _pick(index: Mapping[str, Any], reference: Reference, platform: str) -> str:
    """The digest of the platform's manifest in an index; raises BaseImageNotFound with what there is instead."""
    wanted = tuple(platform.split("/"))
    offered = []
    for entry in index["manifests"]:
        place = entry.get("platform") or {}
        have = (place.get("os", ""), place.get("architecture", ""), place.get("variant", ""))
        if have[: len(wanted)] == wanted:
            return str(entry["digest"])
        if have[0] not in ("", "unknown"):  # attestations are listed as unknown/unknown
            offered.append("/".join(filter(None, have)))
    raise BaseImageNotFound(
        f"image {reference}: it has no {platform}, only {', '.join(sorted(set(offered))) or 'nothing that runs'}; "
        "use an image for that platform, or a pool of another architecture"
    )
