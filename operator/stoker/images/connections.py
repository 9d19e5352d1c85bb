"""One registry request: the address, the credentials, the tokens, tries and their pauses (OCI distribution specification).

Tokens and sockets are shared by everybody who talks to registries in this process.
"""

import asyncio
import random
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode, urlsplit

import aiohttp
import msgspec

from stoker.images.auth import Credential, Keyring, parse_challenge
from stoker.images.cloud import CloudIdentity, IdentityRefused, IdentityUnavailable
from stoker.images.errors import PushDenied, RegistryUnreachable, Unauthorized

#: A request without a body of its own is given up after so long. Bodies may take as long as they move.
REQUEST_SECONDS = 20.0
SILENT_SECONDS = 60.0
TRIES = 3
BACKOFF_SECONDS = 0.3
#: How soon a registry that could not be reached is worth another try.
RETRY_SECONDS = 20.0
#: The longest that a registry's own Retry-After keeps a request waiting here.
LONGEST_WAIT_SECONDS = 5.0
TOKEN_MARGIN_SECONDS = 10.0
#: What docker.io's registry is called.
_DOCKER_HUB = "registry-1.docker.io"

#: Makes the body anew for every try.
Body = Callable[[], Any]


@dataclass(frozen=True, slots=True)
class Place:
    """A repository. registry: `host[:port]` as in references; repository: the path in it."""

    registry: str
    repository: str

    @classmethod
    def of(cls, name: str) -> "Place":
        """From `host[:port]/path`."""
        registry, _, repository = name.partition("/")
        return cls(registry, repository)

    def __str__(self) -> str:
        return f"{self.registry}/{self.repository}"


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a request may do: pull, or push too; and pull from `source`, another repository of the registry."""

    place: Place
    push: bool = False
    source: str = ""

    @property
    def scopes(self) -> tuple[str, ...]:
        own = f"repository:{self.place.repository}:pull{',push' if self.push else ''}"
        return (own, f"repository:{self.source}:pull") if self.source else (own,)


class Connections:
    """Sockets and tokens for all registries.

    insecure: `host:port` that speak http. addresses: host as in references -> `host:port` that is connected to instead.
    identity: what a cloud's registry is signed in to with where the keyring has nothing; default: this process's own.
    silences: so many tries of one request may bring no answer in REQUEST_SECONDS; one, for whoever asks again anyway and
    has somebody to tell meanwhile.
    """

    def __init__(
        self,
        *,
        user_agent: str,
        insecure: frozenset[str] = frozenset(),
        addresses: Mapping[str, str] | None = None,
        clock: Callable[[], float] = time.time,
        identity: CloudIdentity | None = None,
        silences: int = TRIES,
    ) -> None:
        self._identity = identity or CloudIdentity()
        self._silences = silences
        self._insecure = insecure
        self._addresses = dict(addresses or {})
        self._user_agent = user_agent
        self._session: aiohttp.ClientSession | None = None
        self._tokens: dict[tuple[str, tuple[str, ...], Keyring], tuple[str, float]] = {}
        #: Registries that take the plain credentials, by registry and keyring: they need no question first.
        self._basic: set[tuple[str, Keyring]] = set()
        #: Registries that a cloud identity signed in to, and whose it is, for messages.
        self._whose: dict[str, str] = {}
        self.clock = clock

    async def close(self) -> None:
        if self._session is not None:
            await self._session.close()
            self._session = None

    def url(self, place: Place, path: str) -> str:
        return f"{self._root(place)}/v2/{place.repository}/{path}"

    def _root(self, place: Place) -> str:
        scheme = "http" if place.registry in self._insecure else "https"
        host = _DOCKER_HUB if place.registry == "docker.io" else place.registry
        return f"{scheme}://{self._addresses.get(place.registry, host)}"

    def unreachable(self, place: Place, problem: str, seconds: float = RETRY_SECONDS) -> RegistryUnreachable:
        return RegistryUnreachable(f"the registry {place.registry} {problem}", self.clock() + seconds)

    @asynccontextmanager
    async def request(
        self,
        wanted: Wanted,
        keyring: Keyring,
        method: str,
        url: str,
        *,
        headers: Mapping[str, str] | None = None,
        body: Body | None = None,
        streams: bool = False,
        once: bool = False,
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        """One request, signed in; yields any answer below 500 but 401, 403 and 429.

        streams: the answer's or the body's bytes may take their time. once: a repeated request would mean another one.
        Raises Unauthorized, PushDenied, RegistryUnreachable.
        """
        place = wanted.place
        if url.startswith("/"):
            url = self._root(place) + url
        problem, wait, challenged, attempt, silences = "did not answer", 0.0, False, 0, 0
        timeout = aiohttp.ClientTimeout(
            total=None if streams else REQUEST_SECONDS, sock_connect=5, sock_read=SILENT_SECONDS
        )
        while attempt < (1 if once else TRIES):
            if attempt:
                await asyncio.sleep(max(wait, BACKOFF_SECONDS * 2.0 ** (attempt - 1) * random.uniform(0.5, 1.5)))
            sent = dict(headers or {}) | self._signed_in(wanted, keyring, url)
            yielded = False
            try:
                response = await self._http().request(
                    method, url, headers=sent, data=body() if body else None, timeout=timeout
                )
                async with response:
                    if response.status == 401 and not challenged:
                        challenged = True
                        await self._sign_in(wanted, keyring, response.headers)
                        continue
                    if response.status in (401, 403):
                        raise self._unauthorized(wanted, keyring, response.status)
                    if response.status != 429 and response.status < 500:
                        yielded = True
                        yield response
                        return
                    wait = _retry_after(response.headers)
                    problem = f"answered {response.status} to {method} of {place.repository}"
            except (aiohttp.ClientError, OSError, TimeoutError, msgspec.DecodeError) as error:
                if yielded and not isinstance(error, (aiohttp.ClientError, TimeoutError)):
                    raise  # the reader's own, such as a full disk
                if yielded:  # the answer broke off in the reader's hands
                    raise self.unreachable(place, f"broke off: {error or type(error).__name__}") from error
                problem, silent = _trouble(error, SILENT_SECONDS if streams else REQUEST_SECONDS)
                silences += silent
            if wait > LONGEST_WAIT_SECONDS or silences >= self._silences:
                break
            attempt += 1
        raise self.unreachable(place, problem, max(wait, RETRY_SECONDS))

    # -- signing in

    def _signed_in(self, wanted: Wanted, keyring: Keyring, url: str) -> dict[str, str]:
        place = wanted.place
        if urlsplit(url).netloc != urlsplit(self._root(place)).netloc:
            return {}  # a store that the registry sent us to: its URL is signed, and our secret is not for it
        value, until = self._tokens.get((place.registry, wanted.scopes, keyring), ("", 0.0))
        if until > self.clock():
            return {"Authorization": value}
        if (place.registry, keyring) in self._basic:
            credential = keyring.find(place.registry, place.repository)
            return {"Authorization": credential.basic} if credential else {}
        return {}

    async def _sign_in(self, wanted: Wanted, keyring: Keyring, headers: Mapping[str, str]) -> None:
        """Do what a 401's challenge asks for; raises Unauthorized where we cannot."""
        place = wanted.place
        scheme, parameters = parse_challenge(headers.get("Www-Authenticate", ""))
        credential, until = await self._credential(wanted, keyring)
        if scheme == "basic" and credential is not None and until is not None:
            self._tokens[place.registry, wanted.scopes, keyring] = (credential.basic, until - TOKEN_MARGIN_SECONDS)
            return
        if scheme == "basic" and credential is not None and (place.registry, keyring) not in self._basic:
            self._basic.add((place.registry, keyring))
            return
        if scheme != "bearer" or "realm" not in parameters:
            raise self._unauthorized(wanted, keyring, 401)
        query = [("scope", scope) for scope in wanted.scopes]
        if "service" in parameters:
            query.append(("service", parameters["service"]))
        if credential is not None and credential.username == "<token>":
            answer = await self._refresh(wanted, keyring, parameters["realm"], dict(query), credential.password)
        else:
            sent = {"Authorization": credential.basic} if credential is not None else {}
            async with self._http().get(
                f"{parameters['realm']}{'&' if '?' in parameters['realm'] else '?'}{urlencode(query)}", headers=sent
            ) as response:
                answer = await self._token_answer(wanted, keyring, response)
        token = answer.get("token") or answer.get("access_token")
        if not token:
            raise self.unreachable(place, "sent no token")
        now = self.clock()
        self._tokens = {key: kept for key, kept in self._tokens.items() if kept[1] > now}
        until = now + float(answer.get("expires_in") or 60) - TOKEN_MARGIN_SECONDS
        self._tokens[place.registry, wanted.scopes, keyring] = (f"Bearer {token}", until)

    async def _credential(self, wanted: Wanted, keyring: Keyring) -> tuple[Credential | None, float | None]:
        """What to sign in with, and until when it lasts: the keyring's for ever, else a cloud identity's."""
        place = wanted.place
        if (credential := keyring.find(place.registry, place.repository)) is not None:
            return credential, None
        # What was sent with this request and refused is not to be had from memory once more.
        sent = self._tokens.pop((place.registry, wanted.scopes, keyring), ("", 0.0))[1] > self.clock()
        try:
            given = await self._identity.find(place.registry, self._root(place), self._http(), renew=sent)
        except IdentityUnavailable as error:
            raise self.unreachable(place, f"needs a cloud identity: {error}") from error
        except IdentityRefused as error:
            kind = PushDenied if wanted.push else Unauthorized
            fix = "see that the pod's ServiceAccount is bound to a cloud identity that may use the registry"
            raise kind(f"the registry {place.registry} needs a cloud identity: {error}", fix) from error
        if given is None:
            return None, None
        self._whose[place.registry] = given.whose
        return given.credential, given.until

    async def _refresh(
        self, wanted: Wanted, keyring: Keyring, realm: str, query: Mapping[str, str], identity: str
    ) -> dict[str, Any]:
        """Change an identity token (what `docker login` keeps for some registries) for an access token (OAuth2)."""
        form = {
            "grant_type": "refresh_token",
            "refresh_token": identity,
            "client_id": "stoker",
            "scope": " ".join(wanted.scopes),
            "service": query.get("service", ""),
        }
        async with self._http().post(realm, data=form) as response:
            return await self._token_answer(wanted, keyring, response)

    async def _token_answer(self, wanted: Wanted, keyring: Keyring, response: aiohttp.ClientResponse) -> dict[str, Any]:
        if response.status in (400, 401, 403):
            raise self._unauthorized(wanted, keyring, response.status)
        if response.status != 200:
            raise self.unreachable(wanted.place, f"answered {response.status} when asked for a token")
        answer: dict[str, Any] = msgspec.json.decode(await response.read())
        return answer

    def _unauthorized(self, wanted: Wanted, keyring: Keyring, status: int) -> Unauthorized:
        place = wanted.place
        known = keyring.find(place.registry, place.repository) is not None
        whose = "" if known else self._whose.get(place.registry, "")
        who = f" with {whose}" if whose else " with the given credentials" if known else " without credentials"
        if wanted.push:
            where = f"name a Secret with credentials for {place.registry} in the Workspace's registry.secretRef"
        else:
            where = f"name a pull secret for {place.registry} in imagePullSecrets"
        doing, verb = ("push to", "write") if wanted.push else ("pull from", "read")
        kind = PushDenied if wanted.push else Unauthorized
        if whose:
            asked = f"the registry {place.registry} answered {status}{who} when asked to {doing} {place.repository}"
            return kind(asked, f"check the name, and that {whose} may {verb} the repository")
        return kind(
            f"the registry {place.registry} answered {status}{who} when asked to {doing} {place.repository}",
            f"check the name, and that the Secret's user may {verb} the repository"
            if known
            else f"check the name, or {where}",
        )

    def _http(self) -> aiohttp.ClientSession:
        if self._session is None:
            self._session = aiohttp.ClientSession(
                headers={"User-Agent": self._user_agent},
                timeout=aiohttp.ClientTimeout(total=REQUEST_SECONDS, sock_connect=5),
                trust_env=True,
                # Layers are stored as they are; a body that is packed once more would not hash to its digest.
                auto_decompress=False,
            )
        return self._session


def _trouble(error: Exception, seconds: float) -> tuple[str, bool]:
    """What to say of a request that came to nothing, and whether it is that nobody answered for so long."""
    if isinstance(error, TimeoutError) and not isinstance(error, aiohttp.ConnectionTimeoutError):
        return f"did not answer within {seconds:.0f} s", True
    return f"cannot be reached: {error or type(error).__name__}", False


def _retry_after(headers: Mapping[str, str]) -> float:
    """Seconds of a Retry-After header; 0 for none, and for a date."""
    text = headers.get("Retry-After", "")
    return float(text) if text.isdecimal() else 0.0
