"""Credentials that a cloud gives to whoever runs as one of its identities, for that cloud's own registries.

Nothing is configured here: the variables are those that the clouds' webhooks and SDKs set and read. A place without
such an identity has no credentials. Asked only where no Secret has any, and after a registry said 401.

- AWS ECR: boto3's chain, so AWS_ROLE_ARN with AWS_WEB_IDENTITY_TOKEN_FILE is changed at STS, then GetAuthorizationToken.
- Google: the metadata server (GCE_METADATA_HOST), which serves workload identity too.
- Azure: AZURE_CLIENT_ID, AZURE_TENANT_ID and AZURE_FEDERATED_TOKEN_FILE at AZURE_AUTHORITY_HOST, then the registry's own
  /oauth2/exchange.
"""

import asyncio
import base64
import os
import re
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import msgspec

from stoker.images.auth import Credential

#: What is left of a credential's life when it is asked for anew, in seconds.
MARGIN_SECONDS = 60.0
#: An identity's answer is waited for so long, in seconds.
ANSWER_SECONDS = 10.0
#: How long an Azure refresh token is used, in seconds; it lives for three hours.
AZURE_SECONDS = 3600.0
_ECR = re.compile(r"\d{12}\.dkr[.-]ecr(?:-fips)?\.([a-z0-9-]+)\.(?:amazonaws\.com(?:\.cn)?|on\.aws)")
_GOOGLE = re.compile(r"(?:[a-z0-9-]+\.)?gcr\.io|[a-z0-9-]+-docker\.pkg\.dev|docker\.pkg\.dev")
_AZURE = re.compile(r"[a-z0-9-]+\.azurecr\.io")


class IdentityUnavailable(Exception):
    """There is an identity, and whoever vouches for it did not answer now; the message says who and how."""


class IdentityRefused(Exception):
    """There is an identity, and it was told no; the message says by whom and why."""


@dataclass(frozen=True, slots=True)
class Given:
    """credential: user and password, or `<token>`. until: seconds since the epoch. whose: for messages."""

    credential: Credential
    until: float
    whose: str


class CloudIdentity:
    """This process's identity. environ: where its variables are read, anew for each credential."""

    def __init__(self, environ: Mapping[str, str] = os.environ, clock: Callable[[], float] = time.time) -> None:
        self._environ = environ
        self._clock = clock
        self._given: dict[str, Given] = {}
        self._flights: dict[str, asyncio.Task[Given | None]] = {}

    async def find(
        self, registry: str, root: str, session: aiohttp.ClientSession, *, renew: bool = False
    ) -> Given | None:
        """The credential for a registry (`host[:port]`), kept while it lasts; None where no identity is meant for it.

        root: the registry's URL. renew: the one given before was refused. Raises IdentityUnavailable, IdentityRefused.
        """
        given = self._given.get(registry)
        if given is not None and not renew and given.until - MARGIN_SECONDS > self._clock():
            return given
        flight = self._flights.get(registry)
        if flight is None:
            if (asked := self._asked(registry, root, session)) is None:
                return None
            flight = self._flights[registry] = asyncio.ensure_future(asked)
            flight.add_done_callback(lambda _: self._flights.pop(registry, None))
        # Shielded: one who gives up must not end the flight of the others.
        found = await asyncio.shield(flight)
        if found is not None:
            self._given[registry] = found
        return found

    def _asked(self, registry: str, root: str, session: aiohttp.ClientSession) -> Awaitable[Given | None] | None:
        host = registry.partition(":")[0]
        if (ecr := _ECR.fullmatch(host)) is not None:
            return asyncio.to_thread(_aws, ecr[1])
        if _GOOGLE.fullmatch(host):
            return self._google(session)
        if _AZURE.fullmatch(host):
            return self._azure(host, root, session)
        return None

    async def _google(self, session: aiohttp.ClientSession) -> Given | None:
        host = self._environ.get("GCE_METADATA_HOST") or "metadata.google.internal"
        url = f"http://{host}/computeMetadata/v1/instance/service-accounts/default/token"
        try:
            answer = await _answer(session, "GET", url, "Google's metadata server", {"Metadata-Flavor": "Google"})
        except IdentityUnavailable:
            if "GCE_METADATA_HOST" in self._environ:
                raise
            return None  # no machine of Google's
        until = self._clock() + float(answer.get("expires_in") or 0)
        return Given(Credential("oauth2accesstoken", str(answer["access_token"])), until, "the pod's Google identity")

    async def _azure(self, host: str, root: str, session: aiohttp.ClientSession) -> Given | None:
        wanted = ("AZURE_CLIENT_ID", "AZURE_TENANT_ID", "AZURE_FEDERATED_TOKEN_FILE")
        client, tenant, file = (self._environ.get(name, "") for name in wanted)
        if not (client and tenant and file):
            return None
        try:
            assertion = await asyncio.to_thread(Path(file).read_text)
        except OSError as error:
            raise IdentityRefused(f"AZURE_FEDERATED_TOKEN_FILE cannot be read: {error}") from error
        authority = (self._environ.get("AZURE_AUTHORITY_HOST") or "https://login.microsoftonline.com").rstrip("/")
        form = {
            "grant_type": "client_credentials",
            "client_id": client,
            "client_assertion_type": "urn:ietf:params:oauth:client-assertion-type:jwt-bearer",
            "client_assertion": assertion.strip(),
            "scope": "https://containerregistry.azure.net/.default",
        }
        url = f"{authority}/{tenant}/oauth2/v2.0/token"
        entra = await _answer(session, "POST", url, "Microsoft Entra ID", form=form)
        form = {
            "grant_type": "access_token",
            "service": host,
            "tenant": tenant,
            "access_token": str(entra["access_token"]),
        }
        exchanged = await _answer(session, "POST", f"{root}/oauth2/exchange", f"{host}/oauth2/exchange", form=form)
        until = self._clock() + AZURE_SECONDS
        return Given(Credential("<token>", str(exchanged["refresh_token"])), until, "the pod's Azure identity")


def _aws(region: str) -> Given | None:
    """ECR's password, as the identity that boto3 finds; blocks."""
    import boto3
    from botocore.config import Config
    from botocore.exceptions import BotoCoreError, ClientError, NoCredentialsError
    from botocore.parsers import ResponseParserError

    limits = Config(connect_timeout=ANSWER_SECONDS, read_timeout=ANSWER_SECONDS, retries={"total_max_attempts": 2})
    try:
        # A session of its own: boto3's default one is not for several threads.
        client = boto3.session.Session(region_name=region).client("ecr", config=limits)
        (given,) = client.get_authorization_token()["authorizationData"]
    except NoCredentialsError:
        return None
    except ClientError as error:
        status = int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode") or 0)
        kind = IdentityUnavailable if status == 429 or status >= 500 or _throttled(error) else IdentityRefused
        raise kind(f"AWS: {error}") from error
    except (BotoCoreError, ResponseParserError) as error:  # the latter: a proxy's page
        raise IdentityUnavailable(f"AWS: {error}") from error
    except OSError as error:  # the web identity's token file
        raise IdentityRefused(f"AWS: {error}") from error
    username, _, password = base64.b64decode(given["authorizationToken"]).decode().partition(":")
    return Given(Credential(username, password), given["expiresAt"].timestamp(), "the pod's AWS identity")


def _throttled(error: Any) -> bool:
    return "Throttl" in error.response.get("Error", {}).get("Code", "")


async def _answer(
    session: aiohttp.ClientSession,
    method: str,
    url: str,
    who: str,
    headers: Mapping[str, str] | None = None,
    form: Mapping[str, str] | None = None,
) -> dict[str, Any]:
    timeout = aiohttp.ClientTimeout(total=ANSWER_SECONDS)
    try:
        async with session.request(method, url, headers=headers, data=form, timeout=timeout) as response:
            content = await response.read()
    except (aiohttp.ClientError, OSError, TimeoutError) as error:
        raise IdentityUnavailable(f"{who} did not answer: {error or type(error).__name__}") from error
    if response.status == 429 or response.status >= 500:
        raise IdentityUnavailable(f"{who} answered {response.status}")
    if response.status != 200:
        raise IdentityRefused(f"{who} answered {response.status}: {content[:300].decode(errors='replace')}")
    try:
        return msgspec.json.decode(content, type=dict[str, Any])
    except msgspec.DecodeError as error:
        raise IdentityUnavailable(f"{who} sent an answer that cannot be read") from error
