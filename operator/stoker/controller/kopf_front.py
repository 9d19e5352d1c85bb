"""The front door: kopf watches our own kinds and hands every event on. The only module that knows kopf.

Handlers of a few lines, no state in annotations, no finalizers, no handlers that kopf would retry: what it would keep or
write for us costs API writes and memory, and its caches miss deletions (docs/decisions/0001).
"""

import asyncio
import logging
import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import aiohttp
import kopf
import msgspec

from stoker.api.names import GROUP, VERSION
from stoker.controller.sweep import OWN_KINDS, Sweeper
from stoker.kube.client import KubeClient
from stoker.kube.resources import Resource
from stoker.kube.store import Store

LOG = logging.getLogger(__name__)

#: How often kopf is told to end, a second apart.
STOP_TRIES = 10
_KOPF = str(Path(kopf.__file__).parent)


class _NoDiffBase(kopf.DiffBaseStorage):
    """kopf compares nothing: building the copies to compare was two thirds of an event's cost."""

    def build(self, **_: Any) -> Any:
        return {}

    def fetch(self, **_: Any) -> Any:
        return None

    def store(self, **_: Any) -> None:
        return None


class _NoProgress(kopf.ProgressStorage):
    """kopf remembers nothing about handlers on the objects."""

    def fetch(self, **_: Any) -> Any:
        return None

    def store(self, **_: Any) -> None:
        return None

    def purge(self, **_: Any) -> None:
        return None

    def touch(self, **_: Any) -> None:
        return None

    def clear(self, *, essence: Any) -> Any:
        return essence


class _ForEver:
    """Pauses between tries, without end: an outage of the API server must not end this process."""

    def __iter__(self) -> Iterator[float]:
        pause = 1.0
        while True:
            yield pause * random.uniform(0.5, 1.5)
            pause = min(pause * 2, 30.0)


def settings() -> kopf.OperatorSettings:
    """kopf as a plain watcher."""
    chosen = kopf.OperatorSettings()
    chosen.posting.enabled = False
    chosen.peering.standalone = True
    chosen.scanning.disabled = True
    chosen.watching.server_timeout = 290
    chosen.watching.connect_timeout = 5
    chosen.watching.reconnect_backoff = 1
    chosen.watching.chunk_size = 500
    chosen.queueing.idle_timeout = 0.2
    chosen.queueing.error_delays = (1, 2, 5, 10, 30)
    chosen.queueing.worker_limit = None
    chosen.networking.request_timeout = 30
    chosen.networking.connect_timeout = 5
    chosen.networking.error_backoffs = _ForEver()
    chosen.persistence.diffbase_storage = _NoDiffBase()
    chosen.persistence.progress_storage = _NoProgress()
    chosen.persistence.finalizer = f"{GROUP}/kopf"
    chosen.process.ultimate_exiting_timeout = 25
    return chosen


def registry(client: KubeClient, store: Store, sweeper: Sweeper) -> kopf.OperatorRegistry:
    """Handlers of our kinds that put each event into the store."""
    handlers = kopf.OperatorRegistry()

    @kopf.on.login(registry=handlers)
    async def login(**_: Any) -> kopf.AiohttpSession:
        session = client.session(_lists_told(sweeper))
        return kopf.AiohttpSession(server=client.access.server, aiohttp_session=session)

    for resource in OWN_KINDS:
        kopf.on.event(GROUP, VERSION, resource.plural, id=f"seen-{resource.plural}", registry=handlers)(
            _seen(resource, store)
        )
    return handlers


def _lists_told(sweeper: Sweeper) -> aiohttp.ClientMiddlewareType:
    """Have a kind swept when kopf lists it: what went while kopf did not look, it will never tell. Its events tell of a
    list only where something is on it."""
    plurals = {resource.plural: resource.kind for resource in OWN_KINDS}

    async def told(request: aiohttp.ClientRequest, send: aiohttp.ClientHandlerType) -> aiohttp.ClientResponse:
        response = await send(request)
        kind = plurals.get(request.url.name)
        if kind is not None and request.method == "GET" and "watch" not in request.url.query:
            sweeper.request(kind)
        return response

    return told


def _seen(resource: Resource, store: Store) -> Callable[..., Any]:
    async def seen(event: Any, **_: Any) -> None:
        kind, body = event["type"], event["object"]
        try:
            item = msgspec.convert(body, resource.shape)
        except msgspec.ValidationError as error:
            name = body.get("metadata", {}).get("name")
            LOG.error("%s %s is not of this version and is left alone: %s", resource.kind, name, error)
            return
        if kind == "DELETED":
            store.remove(resource.kind, item)
        else:
            store.put(resource.kind, item)

    return seen


class KopfEnded(Exception):
    """A part of kopf has ended without an error; none may, as long as this process runs."""


async def watch(
    client: KubeClient,
    store: Store,
    sweeper: Sweeper,
    namespaces: tuple[str, ...],
    ready: asyncio.Event,
    spawned: Callable[[], None],
) -> None:
    """Run kopf until cancelled; raises what ended it. ready: set once it has started. spawned: called as soon as kopf has
    put its own signal handlers, before any signal can reach them.

    Not kopf.operator: when a part of kopf ends, that cancels every task of the loop that began after it, ours too, and
    the first of ours to end would be taken for the cause.
    """
    tasks = await kopf.spawn_tasks(
        registry=registry(client, store, sweeper),
        settings=settings(),
        clusterwide=not namespaces,
        namespaces=namespaces,
        ready_flag=ready,
    )
    spawned()
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        await _stop()
    for task in done:
        await task
    raise KopfEnded(f"kopf has ended, and nobody told it to: {', '.join(task.get_name() for task in done)}")


async def _stop() -> None:
    """End every task of kopf. A watch of it that waits for new credentials takes the first cancellation for a pause."""
    for _ in range(STOP_TRIES):
        left = [task for task in asyncio.all_tasks() if _is_kopfs(task)]
        if not left:
            return
        for task in left:
            task.cancel()
        await asyncio.wait(left, timeout=1.0)
    LOG.warning("kopf does not end: %s", ", ".join(sorted(task.get_name() for task in left)))


def _is_kopfs(task: asyncio.Task[Any]) -> bool:
    code = getattr(task.get_coro(), "cr_code", None)
    return code is not None and bool(code.co_filename.startswith(_KOPF))
