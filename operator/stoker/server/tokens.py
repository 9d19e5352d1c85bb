"""Whose token this is: the API server's answer (TokenReview), kept for a few seconds under the token's hash."""

import hashlib
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from starlette.requests import HTTPConnection

from stoker.kube.client import TokenReviewStatus
from stoker.server.errors import Refusal
from stoker.server.limits import STRANGERS_PER_SECOND, Buckets

_PREFIX = "system:serviceaccount:"
_POD_NAME = "authentication.kubernetes.io/pod-name"
_POD_UID = "authentication.kubernetes.io/pod-uid"
#: The token's own id; the API server's audit log has it with the name of whoever asked for the token.
_CREDENTIAL = "authentication.kubernetes.io/credential-id"

#: How long an answer counts (seconds). A token that the API server revokes works here for so long.
GOOD_SECONDS, BAD_SECONDS = 10.0, 2.0
MOST_KEPT = 10_000
MOST_TOKEN_BYTES = 16 << 10


class Reviewer(Protocol):
    async def review_token(self, token: str, audiences: list[str], /) -> TokenReviewStatus: ...


@dataclass(frozen=True, slots=True)
class Caller:
    """A ServiceAccount; with the pod that the token is bound to, both empty when it is bound to none. credential: tells
    this token from others, and nothing of what it is."""

    namespace: str
    account: str
    pod_name: str = ""
    pod_uid: str = ""
    credential: str = ""


class Tokens:
    """Checks bearer tokens for one audience. now: monotonic seconds."""

    def __init__(self, kube: Reviewer, audience: str, now: Callable[[], float] = time.monotonic) -> None:
        self._kube, self._audience, self._now = kube, audience, now
        self._kept: OrderedDict[bytes, tuple[float, Caller | None]] = OrderedDict()
        self._strangers = Buckets("address without a good token", STRANGERS_PER_SECOND, now)

    async def caller(self, request: HTTPConnection) -> Caller:
        """Who asks. Raises Refusal 401 and 429, and KubeError when the API server is away."""
        scheme, _, token = request.headers.get("authorization", "").partition(" ")
        token = token.strip()
        if scheme.lower() != "bearer" or not token or len(token) > MOST_TOKEN_BYTES:
            raise Refusal(401, "Unauthenticated", f"send Authorization: Bearer <token with audience {self._audience}>")
        # The hash, not the token, is kept: a dump of this process holds no token for longer than a request.
        key = hashlib.sha256(token.encode("utf-8", "replace")).digest()
        until, caller = self._kept.get(key, (0.0, None))
        if until <= self._now():
            # Each token that we do not know costs the API server a question: guessing must not become its load.
            address = request.client.host if request.client else ""
            self._strangers.check(address)
            caller = await self._review(token, key.hex()[:16])
            self._keep(key, caller)
            if caller is None:
                self._strangers.take(address)
        if caller is None:
            raise Refusal(
                401,
                "Unauthenticated",
                f"the token is not valid for audience {self._audience}, or it has expired: ask for a new one",
            )
        return caller

    async def _review(self, token: str, short: str) -> Caller | None:
        status = await self._kube.review_token(token, [self._audience])
        # An API server that knows nothing of audiences answers with none: then the token may be for anybody.
        if not status.authenticated or self._audience not in status.audiences:
            return None
        namespace, _, account = status.user.username.removeprefix(_PREFIX).partition(":")
        if not status.user.username.startswith(_PREFIX) or not namespace or not account:
            return None
        extra = status.user.extra
        return Caller(
            namespace,
            account,
            _only(extra.get(_POD_NAME)),
            _only(extra.get(_POD_UID)),
            _only(extra.get(_CREDENTIAL)) or f"sha256:{short}",
        )

    def _keep(self, key: bytes, caller: Caller | None) -> None:
        self._kept[key] = (self._now() + (GOOD_SECONDS if caller else BAD_SECONDS), caller)
        self._kept.move_to_end(key)
        while len(self._kept) > MOST_KEPT:
            self._kept.popitem(last=False)


def _only(values: tuple[str, ...] | None) -> str:
    return values[0] if values and len(values) == 1 else ""
