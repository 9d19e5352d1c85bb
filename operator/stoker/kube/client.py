"""A small client of the Kubernetes API over aiohttp: what an operator needs and nothing else.

Answers are decoded from their bytes straight into the type that the caller names (`shape`); members that the type
lacks are never built. Every request may be sent twice: object names are deterministic, deletes carry a uid, applies
are whole. So all of them are retried on connection errors, 429 and 5xx.
"""

import asyncio
import math
import random
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

import aiohttp
import msgspec

from stoker.api.names import FIELD_MANAGER
from stoker.kube.access import Access, from_kubeconfig, in_cluster
from stoker.kube.errors import Gone, KubeError, Unavailable, error_for
from stoker.kube.resources import resource_of
from stoker.kube.shapes import (
    AccessReview,
    AccessReviewStatus,
    Line,
    Listing,
    Page,
    ReviewedUser,
    Status,
    TokenReview,
    TokenReviewStatus,
    Versioned,
    WatchEvent,
)

__all__ = ["AccessReviewStatus", "KubeClient", "Listing", "ReviewedUser", "TokenReviewStatus", "WatchEvent"]

T = TypeVar("T")

#: Objects per page of a list: bounds the bytes in memory at a time.
PAGE = 500
REQUEST_SECONDS = 30.0
CONNECT_SECONDS = 5.0
#: Without a byte for so long a watch is taken for dead; the API server sends a bookmark about once a minute.
SILENT_SECONDS = 100.0
TRIES = 5
BACKOFF_SECONDS = 0.2
LONGEST_BACKOFF_SECONDS = 5.0
LONGEST_RETRY_AFTER_SECONDS = 30.0

#: Told of every request: (verb, resource such as "pods", HTTP status or 0, seconds).
Observer = Callable[[str, str, int, float], None]

APPLY = "application/apply-patch+yaml"
MERGE_PATCH = "application/merge-patch+json"
STRATEGIC_MERGE_PATCH = "application/strategic-merge-patch+json"

#: What an answer becomes when the caller names no type: a plain dict.
_PLAIN: Any = dict


class KubeClient:
    """The API server, over one pool of connections. Close it, or use it as an async context manager.

    user_agent: `stoker-operator/<version> (<replica>)` or the like, as audit logs show it. observe: told of every request.
    before_write: called right before each request that changes something, repeats too; what it raises ends the call.
    tries: how often a request is sent until the API server has answered it.
    """

    def __init__(
        self,
        access: Access,
        *,
        user_agent: str,
        observe: Observer | None = None,
        before_write: Callable[[], None] | None = None,
        tries: int = TRIES,
    ) -> None:
        self.access = access
        self.user_agent = user_agent
        self._observe = observe
        self._before_write = before_write
        self._tries = tries
        self._session: aiohttp.ClientSession | None = None

    @classmethod
    def in_cluster(cls, *, user_agent: str, observe: Observer | None = None) -> Self:
        """With the pod's ServiceAccount; raises AccessError outside a pod."""
        return cls(in_cluster(), user_agent=user_agent, observe=observe)

    @classmethod
    def from_kubeconfig(
        cls, path: Path | str, context: str | None = None, *, user_agent: str, observe: Observer | None = None
    ) -> Self:
        """As a context of a kubeconfig file says; raises AccessError, also for exec plugins."""
        return cls(from_kubeconfig(path, context), user_agent=user_agent, observe=observe)

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

    # -- reading

    async def get(self, path: str, shape: type[T] = _PLAIN, **query: str) -> T:
        return _read(shape, f"GET {path}", await self._send("GET", path, query=query))

    async def pages(
        self,
        path: str,
        shape: type[T] = _PLAIN,
        *,
        label_selector: str = "",
        field_selector: str = "",
        limit: int = PAGE,
    ) -> AsyncIterator[Listing[T]]:
        """A list page by page; raises Gone when the list outlives the server's memory of it: begin anew."""
        query = _selectors(label_selector, field_selector) | {"limit": str(limit)}
        while True:
            page = _read(Page[shape], f"GET {path}", await self._send("GET", path, query=query))  # type: ignore[valid-type]
            yield Listing(page.items or [], page.metadata.resource_version)
            if not page.metadata.continue_:
                return
            query["continue"] = page.metadata.continue_

    async def list(
        self,
        path: str,
        shape: type[T] = _PLAIN,
        *,
        label_selector: str = "",
        field_selector: str = "",
        limit: int = PAGE,
    ) -> Listing[T]:
        """All objects, read in pages and consistent."""
        while True:
            whole: Listing[T] = Listing([], "")
            try:
                async for page in self.pages(
                    path, shape, label_selector=label_selector, field_selector=field_selector, limit=limit
                ):
                    whole.items += page.items
                    whole.resource_version = page.resource_version
                return whole
            except Gone:
                if not whole.items:
                    raise

    async def watch(
        self,
        path: str,
        shape: type[T] = _PLAIN,
        *,
        resource_version: str,
        label_selector: str = "",
        field_selector: str = "",
        timeout_seconds: int = 290,
        silent_seconds: float = SILENT_SECONDS,
    ) -> AsyncIterator[WatchEvent[T]]:
        """What happens after `resource_version`, until the server ends the stream (at `timeout_seconds` at the latest).

        silent_seconds: a connection without a byte for so long is taken for dead.
        Raises Gone when that version is too old, Unavailable when the connection is cut, silent or refused, and the
        error of an ERROR event.
        """
        query = _selectors(label_selector, field_selector) | {
            "watch": "true",
            "allowWatchBookmarks": "true",
            "resourceVersion": resource_version,
            "timeoutSeconds": str(timeout_seconds),
        }
        timeout = aiohttp.ClientTimeout(
            total=timeout_seconds + 30, sock_connect=CONNECT_SECONDS, sock_read=silent_seconds
        )
        try:
            async with self._http().get(
                self.access.server + path, params=query, timeout=timeout, **self._tls()
            ) as response:
                self._note("WATCH", path, response.status, 0.0)
                if response.status != 200:
                    raise _error(response, await response.read())
                async for line in _lines(response.content):
                    yield _watch_event(line, shape)
        except (aiohttp.ClientError, OSError) as error:  # TimeoutError is an OSError
            raise Unavailable(f"watch of {path}: {error or type(error).__name__}") from error

    async def pod_log(self, namespace: str, pod: str, container: str, *, limit_bytes: int) -> bytes:
        """What a container has written so far, at most so many bytes from its beginning. Raises NotFound when the pod is
        gone, and Rejected or Unavailable while there is no log."""
        path = f"/api/v1/namespaces/{namespace}/pods/{pod}/log"
        return await self._send("GET", path, query={"container": container, "limitBytes": str(limit_bytes)})

    async def review_token(self, token: str, audiences: Sequence[str]) -> TokenReviewStatus:
        """Whose token this is, and for which of the audiences."""
        body = {
            "apiVersion": "authentication.k8s.io/v1",
            "kind": "TokenReview",
            "spec": {"token": token, "audiences": list(audiences)},
        }
        return (await self.create("/apis/authentication.k8s.io/v1/tokenreviews", body, TokenReview)).status

    async def review_access(self, user: ReviewedUser, resource: Mapping[str, str]) -> AccessReviewStatus:
        """Whether a user may do something. resource: `resourceAttributes` of a SubjectAccessReview."""
        spec = {
            "user": user.username, "uid": user.uid, "groups": list(user.groups),
            "extra": {name: list(values) for name, values in user.extra.items()}, "resourceAttributes": dict(resource),
        }  # fmt: skip
        body = {"apiVersion": "authorization.k8s.io/v1", "kind": "SubjectAccessReview", "spec": spec}
        return (await self.create("/apis/authorization.k8s.io/v1/subjectaccessreviews", body, AccessReview)).status

    # -- writing

    async def create(
        self, path: str, body: Any, shape: type[T] = _PLAIN, *, strict: bool = False, trial: bool = False
    ) -> T:
        """POST to a collection; raises Conflict (name_taken) for a name in use. strict: unknown members are refused.
        trial: a dry run, which changes nothing."""
        query = {"fieldManager": FIELD_MANAGER} | ({"fieldValidation": "Strict"} if strict else {})
        query |= {"dryRun": "All"} if trial else {}
        return _read(shape, f"POST {path}", await self._send("POST", path, query=query, body=body))

    async def apply(
        self, path: str, body: Any, shape: type[T] = _PLAIN, *, force: bool = True, field_manager: str = FIELD_MANAGER
    ) -> T:
        """Server-side apply of an object: what the body leaves out and we set before, goes.

        It creates what is not there. To apply only to the object one knows, put its `metadata.uid` in the body: then
        a missing object is a Conflict.
        """
        query = {"fieldManager": field_manager} | ({"force": "true"} if force else {})
        answer = await self._send("PATCH", path, query=query, body=body, content=APPLY)
        return _read(shape, f"PATCH {path}", answer)

    async def apply_status(
        self, path: str, body: Any, shape: type[T] = _PLAIN, *, field_manager: str = FIELD_MANAGER
    ) -> T:
        """Server-side apply of `<path>/status`; raises NotFound when the object is gone."""
        return await self.apply(f"{path}/status", body, shape, field_manager=field_manager)

    async def patch(self, path: str, body: Any, shape: type[T] = _PLAIN) -> T:
        """JSON merge patch (None removes a member)."""
        query = {"fieldManager": FIELD_MANAGER}
        answer = await self._send("PATCH", path, query=query, body=body, content=MERGE_PATCH)
        return _read(shape, f"PATCH {path}", answer)

    async def add_owner(self, path: str, uid: str, owner: Mapping[str, Any], shape: type[T] = _PLAIN) -> T:
        """Add an owner reference to a core object of this uid: the others stay, and adding one twice is adding it once.
        Raises NotFound when the object is gone, Conflict when the name has another by now."""
        # Of the kinds of patch only this one adds to a list by its key without reading it first.
        body = {"metadata": {"uid": uid, "ownerReferences": [dict(owner)]}}
        query = {"fieldManager": FIELD_MANAGER}
        answer = await self._send("PATCH", path, query=query, body=body, content=STRATEGIC_MERGE_PATCH)
        return _read(shape, f"PATCH {path}", answer)

    async def delete(self, path: str, *, uid: str | None = None, propagation: str = "Background") -> None:
        """Delete; with a uid only the object that has it (Conflict otherwise). Raises NotFound when it is gone."""
        body: dict[str, Any] = {"apiVersion": "v1", "kind": "DeleteOptions", "propagationPolicy": propagation}
        if uid is not None:
            body["preconditions"] = {"uid": uid}
        await self._send("DELETE", path, body=body)

    # -- one request

    async def _send(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, str] | None = None,
        body: Any = None,
        content: str = "application/json",
    ) -> bytes:
        payload = None if body is None else msgspec.json.encode(body)
        headers = {"Content-Type": content} if payload is not None else {}
        failure: KubeError = Unavailable("not tried")
        for attempt in range(self._tries):
            if attempt:
                await asyncio.sleep(_pause(attempt, failure))
            if self._before_write is not None and method != "GET":
                self._before_write()
            started = time.monotonic()
            try:
                async with self._http().request(
                    method, self.access.server + path, params=query, data=payload,
                    headers=headers, **self._tls(),
                ) as response:  # fmt: skip
                    answer = await response.read()
                self._note(method, path, response.status, time.monotonic() - started)
            except (aiohttp.ClientError, OSError) as error:
                self._note(method, path, 0, time.monotonic() - started)
                failure = Unavailable(f"{method} {path}: {error or type(error).__name__}")
                continue
            if response.status < 300:
                return answer
            failure = _error(response, answer)
            if not isinstance(failure, Unavailable):
                raise failure
        raise failure

    def session(self, *middlewares: aiohttp.ClientMiddlewareType) -> aiohttp.ClientSession:
        """A new HTTP session with our identity, for others who speak to the API server; they close it.

        middlewares: see each of its requests.
        """
        identity = (self._identify,) if self.access.token or self.access.token_file else ()
        return aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0, ssl=self.access.tls or True, keepalive_timeout=60),
            headers={"User-Agent": self.user_agent, "Accept": "application/json"},
            timeout=aiohttp.ClientTimeout(total=REQUEST_SECONDS, sock_connect=CONNECT_SECONDS),
            middlewares=(*middlewares, *identity),
        )

    async def _identify(
        self, request: aiohttp.ClientRequest, send: Callable[[aiohttp.ClientRequest], Awaitable[aiohttp.ClientResponse]]
    ) -> aiohttp.ClientResponse:
        """Send our token, and once more the newest one if it was refused: a kubelet renews the file."""
        token = self.access.bearer()
        request.headers["Authorization"] = f"Bearer {token}"
        response = await send(request)
        if response.status == 401 and (renewed := self.access.bearer(fresh=True)) != token:
            response.release()
            request.headers["Authorization"] = f"Bearer {renewed}"
            response = await send(request)
        return response

    def _http(self) -> aiohttp.ClientSession:
        # Made at first use: aiohttp wants a running loop.
        if self._session is None:
            self._session = self.session()
        return self._session

    def _tls(self) -> dict[str, Any]:
        chosen = {"proxy": self.access.proxy, "server_hostname": self.access.server_name}
        return {name: value for name, value in chosen.items() if value}

    def _note(self, verb: str, path: str, status: int, seconds: float) -> None:
        if self._observe is not None:
            self._observe(verb, resource_of(path), status, seconds)


_DECODERS: dict[Any, msgspec.json.Decoder[Any]] = {}


def _decoder(shape: type[T]) -> msgspec.json.Decoder[T]:
    decoder = _DECODERS.get(shape)
    if decoder is None:
        decoder = _DECODERS[shape] = msgspec.json.Decoder(shape)
    return decoder


def _read(shape: type[T], request: str, answer: bytes) -> T:
    """An answer as the caller's type. One that is none, such as a proxy's page, is a trouble that passes."""
    try:
        return _decoder(shape).decode(answer)
    except msgspec.DecodeError as error:
        raise Unavailable(f"{request}: the answer cannot be read: {error}") from error


def _selectors(label_selector: str, field_selector: str) -> dict[str, str]:
    chosen = {"labelSelector": label_selector, "fieldSelector": field_selector}
    return {name: value for name, value in chosen.items() if value}


def _pause(attempt: int, failure: KubeError) -> float:
    """Seconds before the next try: what the server asked for, else exponential; jittered, so that clients spread."""
    if isinstance(failure, Unavailable) and failure.retry_after:
        return failure.retry_after * random.uniform(1.0, 1.25)
    return min(BACKOFF_SECONDS * 2.0 ** (attempt - 1), LONGEST_BACKOFF_SECONDS) * random.uniform(0.5, 1.5)


async def _lines(stream: aiohttp.StreamReader) -> AsyncIterator[bytes]:
    # Not readline(): that refuses lines over 64 KiB, and an object may have 1.5 MiB.
    parts: list[bytes] = []
    async for chunk in stream.iter_any():
        *complete, rest = chunk.split(b"\n")
        for piece in complete:
            parts.append(piece)
            if line := b"".join(parts):
                yield line
            parts.clear()
        if rest:
            parts.append(rest)


def _watch_event(line: bytes, shape: type[T]) -> WatchEvent[T]:
    try:
        event = _decoder(Line).decode(line)
        if event.type == "ERROR":
            status = _decoder(Status).decode(event.object)
            raise error_for(status.code or 500, status.reason, status.message or "the watch ended with an error")
        version = _decoder(Versioned).decode(event.object).metadata.resource_version
        if event.type == "BOOKMARK":
            return WatchEvent(event.type, version)
        return WatchEvent(event.type, version, _decoder(shape).decode(event.object))
    except msgspec.DecodeError as error:
        raise Unavailable(f"a watch event cannot be read: {error}") from error


def _error(response: aiohttp.ClientResponse, answer: bytes) -> KubeError:
    try:
        status = _decoder(Status).decode(answer)
    except msgspec.DecodeError:
        status = Status(message=answer[:500].decode(errors="replace"))
    message = status.message or f"HTTP {response.status} for {response.method} {response.url.path}"
    return error_for(response.status, status.reason, message, _retry_after(response.headers.get("Retry-After", "")))


def _retry_after(text: str) -> float:
    """Seconds that the server asked for, within bounds: nobody may silence a watch or a job for a day. 0: not told."""
    try:
        asked = float(text)
    except ValueError:  # the API server never sends a date
        return 0.0
    return 0.0 if math.isnan(asked) else min(max(asked, 0.0), LONGEST_RETRY_AFTER_SECONDS)
