"""A small API server in this process: real HTTP, lists in pages, watches, and faults on demand.

It knows nothing of kinds: a path is a collection, an object is what was put there.
"""

import asyncio
import json
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from aiohttp import web

from stoker.kube.access import Access
from stoker.kube.client import KubeClient

Json = dict[str, Any]


def kubeconfig(folder: Path, url: str) -> Path:
    """A kubeconfig in a folder, for an API server that asks nobody who they are."""
    file = folder / "kubeconfig"
    content = {
        "current-context": "c",
        "clusters": [{"name": "k", "cluster": {"server": url}}],
        "users": [{"name": "u", "user": {}}],
        "contexts": [{"name": "c", "context": {"cluster": "k", "user": "u"}}],
    }
    file.write_text(json.dumps(content))
    return file


@dataclass
class Fault:
    """What to answer instead of the truth. cut: end the connection in the middle of the answer."""

    status: int
    reason: str = ""
    message: str = "by request of the test"
    headers: dict[str, str] = field(default_factory=dict)
    cut: bool = False
    #: The whole answer, in the place of a Status object.
    text: str | None = None


class FakeApi:
    """Objects by path. `requests` is every request as (method, path, query), in order."""

    def __init__(self) -> None:
        self.objects: dict[str, Json] = {}
        self.requests: list[tuple[str, str, dict[str, str]]] = []
        self.bodies: list[Any] = []
        self.version = 100
        #: When new objects are made, as they say (RFC 3339).
        self.creation_timestamp = "2026-01-02T03:04:05Z"
        #: What every request is answered with, until it is None again.
        self.outage: Fault | None = None
        #: The oldest version from which a watch may go on.
        self.oldest = 0
        self._log: list[tuple[int, str, str, Json]] = []
        self._changed = asyncio.Condition()
        self._faults: dict[str, deque[Fault]] = {}
        self._runner: web.AppRunner | None = None
        self._watches: list[tuple[str, asyncio.Queue[bytes | None]]] = []
        self.url = ""
        self.port = 0

    # -- what tests do

    def fail(self, method: str, *faults: Fault) -> None:
        """Answer the next requests of a method (WATCH for watches, CONTINUE for later pages) with these."""
        self._faults.setdefault(method, deque()).extend(faults)

    async def put(self, path: str, **members: Any) -> Json:
        """Create or change an object behind everybody's back, as another client would."""
        self.version += 1
        old = self.objects.get(path)
        meta = {"name": path.rsplit("/", 1)[1], "uid": f"uid-{self.version}"} | (old or {}).get("metadata", {})
        meta.setdefault("creationTimestamp", self.creation_timestamp)
        meta |= members.pop("metadata", {}) | {"resourceVersion": str(self.version)}
        if "/namespaces/" in path:
            meta.setdefault("namespace", path.split("/namespaces/")[1].split("/")[0])
        self.objects[path] = {**(old or {}), **members, "metadata": meta}
        await self._tell("MODIFIED" if old else "ADDED", path)
        return self.objects[path]

    def vanish(self, path: str) -> None:
        """Remove an object of which no watch is told: only a list shows that it has gone."""
        self.version += 1
        del self.objects[path]

    async def remove(self, path: str) -> None:
        self.version += 1
        gone = self.objects[path]
        gone["metadata"]["resourceVersion"] = str(self.version)
        self._log.append((self.version, "DELETED", path, json.loads(json.dumps(gone))))
        del self.objects[path]
        async with self._changed:
            self._changed.notify_all()

    def forget_history(self) -> None:
        """As after a compaction: no watch can go on from before now."""
        self.oldest = self.version + 1
        self._log.clear()

    async def send_half(self, line: Json) -> None:
        """Cut every open watch in the middle of a line."""
        whole = json.dumps(line).encode()
        for _, queue in self._watches:
            queue.put_nowait(whole[: len(whole) // 2])
            queue.put_nowait(None)

    async def send(self, line: Json | None, to: str = "") -> None:
        """Put a line into every open watch, or into those of one collection; None cuts their connections."""
        for path, queue in self._watches:
            if path.endswith(to):
                queue.put_nowait(None if line is None else json.dumps(line).encode() + b"\n")

    @property
    def watching(self) -> int:
        return len(self._watches)

    def watchers(self, collection: str) -> int:
        """Open watches of one collection."""
        return sum(path.endswith(collection) for path, _ in self._watches)

    def seen(self, method: str) -> list[str]:
        """The paths of the requests of a method."""
        return [path for verb, path, _ in self.requests if verb == method]

    # -- serving

    async def start(self, port: int = 0) -> None:
        """Listen; a port that was had before makes a server that was stopped come back."""
        app = web.Application()
        app.router.add_route("*", "/{path:.*}", self._handle)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", port)
        await site.start()
        self.port = self._runner.addresses[0][1]
        self.url = f"http://127.0.0.1:{self._runner.addresses[0][1]}"

    async def stop(self) -> None:
        await self.send(None)
        if self._runner is not None:
            await self._runner.cleanup()

    def client(self, **options: Any) -> KubeClient:
        return KubeClient(Access(self.url, **options), user_agent="test/1")

    async def _tell(self, kind: str, path: str) -> None:
        self._log.append((self.version, kind, path, json.loads(json.dumps(self.objects[path]))))
        async with self._changed:
            self._changed.notify_all()

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        query = dict(request.query)
        method = "WATCH" if query.get("watch") == "true" else request.method
        body = await request.read()
        self.requests.append((method, request.path, query))
        self.bodies.append(json.loads(body) if body else None)
        if self.outage is not None:
            return await self._fault(request, self.outage)
        later = self._faults.get("CONTINUE") if "continue" in query else None
        if faults := later or self._faults.get(method):
            return await self._fault(request, faults.popleft())
        if method == "WATCH":
            return await self._watch(request)
        handler: Callable[[web.Request], Any] = getattr(self, f"_{method.lower()}")
        answer = handler(request)
        return await answer if asyncio.iscoroutine(answer) else answer

    async def _fault(self, request: web.Request, fault: Fault) -> web.StreamResponse:
        if fault.cut:
            assert request.transport is not None
            request.transport.abort()
        if fault.text is not None:
            return web.Response(text=fault.text, status=fault.status, headers=fault.headers)
        return _status(fault.status, fault.reason, fault.message, fault.headers)

    def _get(self, request: web.Request) -> web.Response:
        found = self.objects.get(request.path)
        if found is not None:
            return web.json_response(found)
        if not self._is_collection(request.path):
            return _status(404, "NotFound", f"{request.path} not found")
        items = [self.objects[path] for path in sorted(self.objects) if self._within(path, request.path)]
        items = [item for item in items if _selected(item, request.query.get("labelSelector", ""))]
        limit = int(request.query.get("limit", "0")) or len(items) or 1
        start = int(request.query.get("continue", "0"))
        meta: Json = {"resourceVersion": str(self.version)}
        if start + limit < len(items):
            meta["continue"] = str(start + limit)
        return web.json_response({"metadata": meta, "items": items[start : start + limit]})

    async def _post(self, request: web.Request) -> web.Response:
        body = self.bodies[-1]
        name = body.get("metadata", {}).get("name")
        if name is None:  # a review: the answer is what the test put there
            return web.json_response(self.objects.get(request.path, body), status=201)
        path = f"{request.path}/{name}"
        if path in self.objects:
            return _status(409, "AlreadyExists", f"{name} already exists")
        if request.query.get("dryRun") == "All":
            return web.json_response(body, status=201)
        return web.json_response(await self.put(path, **body), status=201)

    async def _patch(self, request: web.Request) -> web.Response:
        body = self.bodies[-1]
        path = request.path.removesuffix("/status")
        found = self.objects.get(path)
        if found is None:
            if request.path != path or "apply" not in request.content_type:
                return _status(404, "NotFound", f"{path} not found")
            return web.json_response(await self.put(path, **body), status=201)
        wanted = body.get("metadata", {})
        for member in ("uid", "resourceVersion"):
            if member in wanted and wanted[member] != found["metadata"][member]:
                return _status(409, "Conflict", f"{member} is {found['metadata'][member]}, not {wanted[member]}")
        merged = _merged(found, body)
        if request.path != path and "apply" in request.content_type:
            merged["status"] = body["status"]  # whole: what it leaves out is gone
        merged.pop("metadata")
        metadata = _merged(found["metadata"], {k: v for k, v in wanted.items() if k != "resourceVersion"})
        if "strategic" in request.content_type and "ownerReferences" in wanted:
            # The one list of which this server knows the key.
            owners = [*found["metadata"].get("ownerReferences", ()), *wanted["ownerReferences"]]
            metadata["ownerReferences"] = list({owner["uid"]: owner for owner in owners}.values())
        return web.json_response(await self.put(path, metadata=metadata, **merged))

    async def _delete(self, request: web.Request) -> web.Response:
        found = self.objects.get(request.path)
        if found is None:
            return _status(404, "NotFound", f"{request.path} not found")
        wanted = ((self.bodies[-1] or {}).get("preconditions") or {}).get("uid")
        if wanted is not None and wanted != found["metadata"]["uid"]:
            return _status(409, "Conflict", "the uid is another")
        await self.remove(request.path)
        return web.json_response({"kind": "Status", "status": "Success"})

    async def _watch(self, request: web.Request) -> web.StreamResponse:
        since = int(request.query["resourceVersion"])
        response = web.StreamResponse()
        await response.prepare(request)
        if since + 1 < self.oldest:  # as an API server tells it: in the stream
            expired = {"kind": "Status", "code": 410, "reason": "Expired", "message": "too old resource version"}
            await response.write(json.dumps({"type": "ERROR", "object": expired}).encode() + b"\n")
            return response
        queue: asyncio.Queue[bytes | None] = asyncio.Queue()
        entry = (request.path, queue)
        self._watches.append(entry)
        feeder = asyncio.create_task(self._feed(queue, request.path, since))
        try:
            while (line := await queue.get()) is not None:
                await response.write(line)
                if b'"ERROR"' in line:
                    return response
            if request.transport is not None:
                request.transport.abort()
        finally:
            self._watches.remove(entry)
            feeder.cancel()
        return response

    async def _feed(self, queue: asyncio.Queue[bytes | None], collection: str, since: int) -> None:
        while True:
            async with self._changed:
                news = [entry for entry in self._log if entry[0] > since and self._within(entry[2], collection)]
                if not news:
                    await self._changed.wait()
                    continue
            for version, kind, _, item in news:
                queue.put_nowait(json.dumps({"type": kind, "object": item}).encode() + b"\n")
                since = version

    @staticmethod
    def _within(path: str, collection: str) -> bool:
        """Whether an object's path lies in a collection, of one namespace or of all."""
        prefix, _, plural = collection.rpartition("/")
        parent, _, _ = path.rpartition("/")
        return parent == collection or (parent.startswith(f"{prefix}/namespaces/") and parent.endswith(f"/{plural}"))

    @staticmethod
    def _is_collection(path: str) -> bool:
        parts = path.strip("/").split("/")
        rest = parts[2:] if parts[0] == "api" else parts[3:]
        return len(rest) in (1, 3) and (len(rest) == 1 or rest[0] == "namespaces")


def _selected(item: Json, selector: str) -> bool:
    """Whether a label selector of `name=value` and `name` terms fits."""
    labels = item["metadata"].get("labels") or {}
    terms = [term.partition("=") for term in selector.split(",") if term]
    return all(name in labels and (not equals or labels[name] == value) for name, equals, value in terms)


def _merged(old: Any, new: Any) -> Any:
    if not isinstance(old, dict) or not isinstance(new, dict):
        return new
    kept = {name: value for name, value in old.items() if new.get(name, value) is not None}
    return kept | {name: _merged(old.get(name), value) for name, value in new.items() if value is not None}


def _status(code: int, reason: str, message: str, headers: dict[str, str] | None = None) -> web.Response:
    body = {"kind": "Status", "status": "Failure", "code": code, "reason": reason, "message": message}
    return web.json_response(body, status=code, headers=headers)
