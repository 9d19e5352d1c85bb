"""The routes that people's clients use: snapshots in, records, logs and files out.

Who asks is a ServiceAccount of the namespace in the URL: `stoker-editor` may do everything here, `stoker-viewer` may
read. Whoever may make tokens for them (a RoleBinding in that namespace) is in.
"""

import asyncio
import itertools
import re
from collections import OrderedDict
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, RedirectResponse, Response, StreamingResponse
from starlette.routing import Route

from stoker.core.record import SHORT_JOB, SHORT_RESULT
from stoker.runtime.wire import CLIENT_AUDIENCE
from stoker.server.audit import note
from stoker.server.config import Settings
from stoker.server.errors import Refusal
from stoker.server.limits import NAMESPACE_TIMES, Buckets
from stoker.server.requests import rank_path
from stoker.server.tokens import Caller, Tokens
from stoker.server.uploads import Uploads
from stoker.server.workspaces import Place, Workspaces
from stoker.storage import buildlogs, layout, records, removal, snapshots

EDITOR, VIEWER = "stoker-editor", "stoker-viewer"
#: Most bytes of a log in one answer; the client asks again from where it ends.
LOG_BYTES = 4 << 20
#: What of job.json and result.json a list of jobs shows.
_SHORTS_KEPT = 20_000
_AT_A_TIME = 16
_RANGE = re.compile(r"bytes=(\d*)-(\d*)\Z")


class PeopleSide:
    """The people's half of the server."""

    def __init__(self, kube: Any, settings: Settings, workspaces: Workspaces) -> None:
        self._settings, self._workspaces = settings, workspaces
        self._tokens = Tokens(kube, CLIENT_AUDIENCE)
        self._uploads = Uploads(settings)
        self._persons = Buckets("person", settings.person_rate)
        self._namespaces = Buckets("namespace's people", settings.person_rate * NAMESPACE_TIMES)
        #: Both records are written once, so what a finished job's line says never changes.
        self._shorts: OrderedDict[tuple[str, str], dict[str, Any]] = OrderedDict()

    def routes(self) -> list[Route]:
        base = "/v1/namespaces/{ns}"
        snapshot = base + "/snapshots/{hex}"
        return [
            Route(snapshot, self.snapshot, methods=["GET"]),
            Route(snapshot, self.snapshot_begin, methods=["POST"]),
            Route(snapshot + "/zip", self.snapshot_zip, methods=["PUT"]),
            Route(snapshot + "/manifest", self.snapshot_manifest, methods=["PUT"]),
            Route(snapshot + "/manifest", self.manifest, methods=["GET"]),
            Route(base + "/jobs", self.jobs, methods=["GET"]),
            Route(base + "/jobs/{key}", self.job, methods=["GET"]),
            Route(base + "/jobs/{key}", self.remove, methods=["DELETE"]),
            Route(base + "/jobs/{key}/files", self.files, methods=["GET"]),
            Route(base + "/jobs/{key}/file", self.file, methods=["GET"]),
            Route(base + "/jobs/{key}/log", self.log, methods=["GET"]),
            Route(base + "/environments/{key}/log", self.build_log, methods=["GET"]),
            Route(base + "/environments/{key}/tries", self.build_tries, methods=["GET"]),
            Route(base + "/environments/{key}/lock", self.lock, methods=["GET"]),
        ]

    async def known(self, request: Request) -> Caller:
        """Who asks, counted like every request of a person. Raises Refusal 401, 429."""
        caller = await self._tokens.caller(request)
        self._count(caller)
        return caller

    def _count(self, caller: Caller) -> None:
        self._persons.take((caller.namespace, caller.credential))
        self._namespaces.take(caller.namespace)

    async def _place(self, request: Request) -> Place:
        """The storage of the URL's namespace, for one who may do what is asked. Raises Refusal 401, 403, 429."""
        caller = await self._tokens.caller(request)
        namespace = request.path_params["ns"]
        if request.method not in ("GET", "HEAD"):
            note(request, namespace=namespace, account=f"{caller.namespace}/{caller.account}", token=caller.credential)
        self._count(caller)
        if caller.namespace != namespace or caller.account not in (EDITOR, VIEWER):
            raise Refusal(
                403, "Forbidden", f"the token is of {caller.namespace}/{caller.account}; "
                f"here a token of ServiceAccount {EDITOR} or {VIEWER} in namespace {namespace} is needed",
            )  # fmt: skip
        if request.method not in ("GET", "HEAD") and caller.account != EDITOR:
            raise Refusal(403, "Forbidden", f"{VIEWER} may only read; use a token of ServiceAccount {EDITOR}")
        request.scope["stoker.namespace"] = namespace
        request.scope["stoker.editor"] = caller.account == EDITOR
        return await self._workspaces.of(namespace)

    # -- snapshots

    async def snapshot(self, request: Request) -> Response:
        place = await self._place(request)
        return await self._uploads.present(place, _digest(request), claim=request.scope["stoker.editor"])

    async def snapshot_begin(self, request: Request) -> Response:
        note(request, "upload", action="begin", snapshot=request.path_params["hex"])
        return await self._uploads.begin(await self._place(request), _digest(request), request)

    async def snapshot_zip(self, request: Request) -> Response:
        note(request, "upload", action="zip", snapshot=request.path_params["hex"])
        return await self._uploads.zip(await self._place(request), _digest(request), request)

    async def snapshot_manifest(self, request: Request) -> Response:
        note(request, "upload", action="manifest", snapshot=request.path_params["hex"])
        return await self._uploads.manifest(await self._place(request), _digest(request), request)

    # -- jobs

    async def jobs(self, request: Request) -> Response:
        place = await self._place(request)
        queue = iter(await records.job_keys(place.store))

        async def work() -> list[dict[str, Any]]:
            return [line for key in queue if (line := await self._short(place, key)) is not None]

        found = itertools.chain.from_iterable(await asyncio.gather(*(work() for _ in range(_AT_A_TIME))))
        return JSONResponse({"jobs": sorted(found, key=lambda line: (line["job"]["submittedAt"], line["key"]))})

    async def _short(self, place: Place, key: str) -> dict[str, Any] | None:
        kept = self._shorts.get((place.store.url, key))
        if kept is not None and kept["result"] is not None:
            return kept
        job = kept["job"] if kept else await records.read_job(place.store, key)
        if job is None:
            return None
        result = await records.read_result(place.store, key)
        line = {"key": key, "job": _part(job, SHORT_JOB), "result": result and _part(result, SHORT_RESULT)}
        self._shorts[(place.store.url, key)] = line
        while len(self._shorts) > _SHORTS_KEPT:
            self._shorts.popitem(last=False)
        return line

    async def job(self, request: Request) -> Response:
        place, key = await self._place(request), _key(request)
        job, result = await asyncio.gather(records.read_job(place.store, key), records.read_result(place.store, key))
        if job is None:
            raise _no_job(request)
        url = await self._workspaces.url(request.path_params["ns"])
        storage = f"{url.rstrip('/')}/{layout.job_prefix(key)}".rstrip("/")
        return JSONResponse({"job": job, "result": result, "storage": storage})

    async def remove(self, request: Request) -> Response:
        """Remove a finished run's record, logs and outputs; one that is gone is no error, so that a lost answer may be
        asked for again."""
        note(request, "remove", job=request.path_params["key"])
        place, key = await self._place(request), _key(request)
        removing, result, job = await asyncio.gather(
            *(
                place.store.head(one)
                for one in (layout.job_removing(key), layout.job_result(key), layout.job_record(key))
            )
        )
        if removing is None and result is None and job is not None:
            raise Refusal(409, "NotFinished", f"{key} has not ended: end it first with `stoker cancel`")
        if removing is None and result is None and await records.ranks(place.store, key):
            raise Refusal(409, "NotFinished", f"{key} has files and no result: its pods may still write")
        removed = await removal.remove_run(place.store, key)
        self._shorts.pop((place.store.url, key), None)
        note(request, objects=removed.objects, bytes=removed.size)
        return JSONResponse({"key": key, "objects": removed.objects, "bytes": removed.size, "uploads": removed.uploads})

    async def files(self, request: Request) -> Response:
        place, key = await self._place(request), _key(request)
        found: list[dict[str, Any]] = []
        ranks = await records.ranks(place.store, key)
        if not ranks and await place.store.head(layout.job_record(key)) is None:
            raise _no_job(request)
        for attempt, rank in ranks:
            where = {"attempt": attempt, "rank": rank}
            seal = await records.read_seal(place.store, key, attempt, rank)
            if seal is not None:
                found += [{**file, **where, "sealed": True} for file in seal["files"]]
                continue
            prefix = layout.rank_prefix(key, attempt, rank)
            async for stored in place.store.list(prefix):
                path = stored.key[len(prefix) :]
                if layout.rank_path_problem(path) is None and not path.startswith(layout.SEGMENTS):
                    found.append({"path": path, "size": stored.size, "sha256": None, **where, "sealed": False})
        return JSONResponse({"files": found})

    async def file(self, request: Request) -> Response:
        place = await self._place(request)
        prefix = layout.rank_prefix(_key(request), _number(request, "attempt", 1), _number(request, "rank", 0))
        path = rank_path(request.query_params.get("path", ""))
        stored = await place.store.head(prefix + path)
        if stored is None:
            raise Refusal(404, "NotFound", f"{prefix}{path} is not stored; GET .../files lists what is")
        if self._settings.client_endpoint:
            signed = await asyncio.to_thread(place.signer.get, prefix + path, for_people=True)
            return RedirectResponse(signed.url, 307, {"Cache-Control": "no-store"})
        start, end = _range(request.headers.get("range"), stored.size)
        headers = {"Accept-Ranges": "bytes", "Content-Length": str(end - start), "ETag": f'"{stored.etag}"'}
        partial = end - start < stored.size
        if partial:
            headers["Content-Range"] = f"bytes {start}-{end - 1}/{stored.size}"
        return StreamingResponse(
            place.store.stream(stored.key, start, end), 206 if partial else 200, headers, "application/octet-stream"
        )

    async def log(self, request: Request) -> Response:
        place, key = await self._place(request), _key(request)
        attempt, rank = _number(request, "attempt", 1), _number(request, "rank", 0)
        piece = await records.read_log(place.store, key, attempt, rank, _number(request, "offset", 0), LOG_BYTES)
        headers = {
            "Stoker-Log-Offset": str(piece.offset),
            "Stoker-Log-Complete": "true" if piece.complete else "false",
            "Cache-Control": "no-store",
        }
        return Response(piece.content, 200, headers, "application/octet-stream")

    # -- environments

    async def build_log(self, request: Request) -> Response:
        """A build's log from an offset on; empty at its end, which may be the end for now. Another build of the same key
        has a log of its own: Stoker-Log-Size tells that it is shorter. try: the place of one in `tries`, from 1 on; 0 for
        the newest."""
        place, key = await self._place(request), request.path_params["key"]
        offset, number = _number(request, "offset", 0), _number(request, "try", 0)
        where = layout.build_log(key)
        if number:
            tries = await buildlogs.tries(place.store, key)
            if number > len(tries):
                raise Refusal(404, "NotFound", f"try={number}: the logs of {len(tries)} tries are stored of {key}")
            where = tries[number - 1].key
        stored = await place.store.head(where)
        if stored is None:
            raise Refusal(404, "NotFound", f"{where} is not stored: nothing was built here under that key, or not yet")
        content = await place.store.get(where, offset, offset + LOG_BYTES) if offset < stored.size else b""
        headers = {"Stoker-Log-Size": str(stored.size), "Cache-Control": "no-store"}
        return Response(content or b"", 200, headers, "text/plain; charset=utf-8")

    async def build_tries(self, request: Request) -> Response:
        """The tries whose logs are stored, oldest first; none where nothing was built here."""
        place = await self._place(request)
        tries = await buildlogs.tries(place.store, request.path_params["key"])
        found = [{"startedAt": one.began, "size": one.size} for one in tries]
        return JSONResponse({"tries": found}, headers={"Cache-Control": "no-store"})

    async def manifest(self, request: Request) -> Response:
        """What a snapshot holds: paths, sizes and digests."""
        place, digest = await self._place(request), _digest(request)
        content = await snapshots.manifest_text(place.store, digest)
        if content is None:
            raise Refusal(404, "NotFound", f"there is no snapshot {digest}")
        return Response(content, 200, {"Cache-Control": "no-store"}, "application/octet-stream")

    async def lock(self, request: Request) -> Response:
        """The packages of the image that was built under a specKey."""
        place, where = await self._place(request), layout.lock(request.path_params["key"])
        content = await place.store.get(where)
        if content is None:
            raise Refusal(404, "NotFound", f"{where} is not stored: nothing was built here under that key, or not yet")
        return Response(content, 200, {"Cache-Control": "no-store"}, "application/json")


def _digest(request: Request) -> str:
    digest = f"sha256:{request.path_params['hex']}"
    layout.digest_hex(digest)
    return digest


def _key(request: Request) -> str:
    key: str = request.path_params["key"]
    layout.split_job_key(key)
    return key


def _number(request: Request, name: str, default: int) -> int:
    text = request.query_params.get(name, str(default))
    if not re.fullmatch(r"[0-9]{1,15}", text):
        raise Refusal(400, "BadRequest", f"{name}={text!r}: use a whole number")
    return int(text)


def _range(header: str | None, size: int) -> tuple[int, int]:
    """[start, end) of a Range header; the whole object for none or for several ranges, which may be ignored
    (RFC 9110, 14.2). Raises Refusal 416."""
    match = _RANGE.match((header or "").strip())
    if match is None or match[1] == match[2] == "":
        return 0, size
    if match[1] == "":
        start, end = max(0, size - int(match[2])), size
    else:
        start, end = int(match[1]), min(size, int(match[2]) + 1) if match[2] else size
    if start >= size or start >= end:
        raise Refusal(416, "RangeNotSatisfiable", f"Range: {header}: the file has {size} bytes")
    return start, end


def _part(record: Any, names: tuple[str, ...]) -> dict[str, Any]:
    return {name: record[name] for name in names if name in record}


def _no_job(request: Request) -> Refusal:
    namespace, key = request.path_params["ns"], request.path_params["key"]
    return Refusal(404, "NotFound", f"namespace {namespace} has no record of {key}; GET .../jobs lists those it has")
