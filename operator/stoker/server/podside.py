"""The routes that a run's pods use: /v1/grant, then everything else under the grant."""

import contextlib
import time
from collections.abc import Iterator, Mapping
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from stoker.runtime import distribution
from stoker.runtime.wire import POD_AUDIENCE
from stoker.server.audit import note, note_grant
from stoker.server.config import Settings
from stoker.server.errors import Refusal
from stoker.server.grants import DEFAULT_TIMEOUT_SECONDS, MARGIN_SECONDS, PROTOCOLS, Grant, gang_key, sign
from stoker.server.identity import Rank, Reader, rank_of
from stoker.server.keys import KeyRing
from stoker.server.limits import Buckets
from stoker.server.ranks import JobRecords, multipart, read_urls, refuse_sealed, write_urls
from stoker.server.requests import (
    SEAL_BYTES,
    Abort,
    Complete,
    Create,
    GrantBody,
    Granted,
    MultipartBody,
    ReadsBody,
    SealBody,
    SignParts,
    WritesBody,
    body,
)
from stoker.server.seals import Sealer
from stoker.server.tokens import Reviewer, Tokens
from stoker.server.workspaces import Place, Workspaces
from stoker.storage import records
from stoker.storage.objects import StoreRefused

#: Types of distribution whose pods start something in each other.
_WITH_GANG_KEY = distribution.LED
_ACTIONS = {Create: "create", SignParts: "sign", Complete: "complete", Abort: "abort"}
#: To sign for so many objects is as much work as one request more.
_OBJECTS_PER_REQUEST = 50
#: What a store says of an upload in parts that can never be completed: the pod starts the file anew.
_LOST_UPLOAD = frozenset({"NoSuchUpload", "InvalidPart", "InvalidPartOrder", "EntityTooSmall", "BadDigest"})


class PodSide:
    """The pods' half of the server."""

    def __init__(
        self, kube: Any, settings: Settings, keys: KeyRing, workspaces: Workspaces, sealer: Sealer | None = None
    ) -> None:
        reviewer: Reviewer = kube
        self._reader: Reader = kube
        self._settings, self._keys, self._workspaces = settings, keys, workspaces
        self._tokens = Tokens(reviewer, POD_AUDIENCE)
        self._buckets = Buckets("pod", settings.pod_rate)
        self._jobs = JobRecords()
        self._sealer = sealer or Sealer()

    def routes(self) -> list[Route]:
        return [
            Route("/v1/grant", self.grant, methods=["POST"]),
            Route("/v1/reads", self.reads, methods=["POST"]),
            Route("/v1/writes", self.writes, methods=["POST"]),
            Route("/v1/multipart", self.multipart, methods=["POST"]),
            Route("/v1/seal", self.seal, methods=["POST"]),
        ]

    async def grant(self, request: Request) -> Response:
        note(request, "grant")
        asked: GrantBody = await body(request, GrantBody)
        if asked.protocol not in PROTOCOLS:
            spoken = ", ".join(map(str, PROTOCOLS))
            raise Refusal(400, "ProtocolUnknown", f"protocol {asked.protocol} is not spoken here, but: {spoken}")
        caller = await self._tokens.caller(request)
        note(request, namespace=caller.namespace, pod=caller.pod_name, podUid=caller.pod_uid)
        self._buckets.take(caller.pod_uid or caller.credential)
        rank = await rank_of(self._reader, caller)
        url = await self._workspaces.url(rank.namespace)
        place = self._workspaces.at(url)
        job = await self._jobs.get(place, rank.key)
        _check_record(job, rank)
        seconds = (
            (job["limits"]["timeoutSeconds"] or DEFAULT_TIMEOUT_SECONDS)
            + job["limits"]["graceSeconds"]
            + MARGIN_SECONDS
        )
        now = time.time()
        grant = Grant(
            asked.protocol, rank.namespace, url, rank.key, rank.attempt, rank.rank, rank.pod_uid, int(now + seconds)
        )
        note_grant(request, grant)
        await refuse_sealed(place, grant)
        keys = await self._keys.keys()
        note(request, expires=grant.expires)
        answer = {"grant": sign(grant, keys), "expiresSeconds": seconds, "job": job, "attempt": rank.attempt}
        spread = job.get("distribution")
        if isinstance(spread, Mapping) and spread.get("type") in _WITH_GANG_KEY:
            answer["gangKey"] = gang_key(grant, keys)
        return JSONResponse({**answer, "rank": rank.rank})

    async def reads(self, request: Request) -> Response:
        note(request, "read")
        asked: ReadsBody = await body(request, ReadsBody)
        note(request, objects=len(asked.keys))
        grant, place = await self._granted(request, asked, len(asked.keys))
        return JSONResponse({"urls": await read_urls(place, grant, asked.keys, self._jobs)})

    async def writes(self, request: Request) -> Response:
        note(request, "upload", action="sign")
        asked: WritesBody = await body(request, WritesBody)
        note(request, objects=len(asked.objects), bytes=sum(file.size for file in asked.objects))
        grant, place = await self._granted(request, asked, len(asked.objects))
        with _refusals():
            objects = await write_urls(place, grant, asked.objects, self._settings.conditional_writes)
        return JSONResponse({"objects": objects})

    async def multipart(self, request: Request) -> Response:
        note(request, "upload")
        asked: MultipartBody = await body(request, MultipartBody)
        parts = len(asked.parts) if isinstance(asked, SignParts | Complete) else 0
        note(request, action=_ACTIONS[type(asked)], path=asked.path, parts=parts)
        grant, place = await self._granted(request, asked, parts)
        with _refusals():
            return JSONResponse(await multipart(place, grant, asked))

    async def seal(self, request: Request) -> Response:
        note(request, "seal")
        asked: SealBody = await body(request, SealBody, SEAL_BYTES)
        grant, place = await self._granted(request, asked)
        with _refusals():
            outcome = await self._sealer.seal(place, grant, asked)
        seal = outcome.seal
        note(
            request, ours=outcome.ours, complete=seal["complete"], reason=seal["reason"],
            files=len(seal["files"]), missing=len(seal["missing"]), bytes=sum(file["size"] for file in seal["files"]),
        )  # fmt: skip
        if not outcome.ours:
            message = "the rank is sealed already, with another content: the seal that stands is in this answer"
            raise Refusal(409, "Sealed", message, {"seal": seal})
        return JSONResponse({"seal": seal})

    async def _granted(self, request: Request, asked: Granted, objects: int = 0) -> tuple[Grant, Place]:
        """The grant of the request and its storage; raises Refusal 401, and 429 by the work that so many objects make."""
        grant = await self._keys.verify(asked.grant, time.time())
        request.scope["stoker.namespace"] = grant.namespace
        note_grant(request, grant)
        self._buckets.take(grant.pod_uid, 1 + objects // _OBJECTS_PER_REQUEST)
        return grant, self._workspaces.at(grant.storage)


@contextlib.contextmanager
def _refusals() -> Iterator[None]:
    """A no of the store is told as one to a pod that saves, so that it can give up after its patience with refusals; as
    a 5xx it would count as an outage, which has no end."""
    try:
        yield
    except StoreRefused as error:
        if error.code in _LOST_UPLOAD:
            raise Refusal(404, error.code, f"{error}: start the file anew") from error
        raise Refusal(424, "StoreRefused", str(error)) from error


def _check_record(job: records.JobRecord, rank: Rank) -> None:
    """The record under the job's key must be this very job's (eight digits of a uid are not the uid) and have the rank."""
    if (job["namespace"], job["name"], job["uid"]) != (rank.namespace, rank.name, rank.uid):
        raise Refusal(
            403,
            "NotARank",
            f"no grant: job.json of {rank.key} is of {job['namespace']}/{job['name']} ({job['uid']}), another job",
        )
    # A child has as many ranks as its job; the name of a salvage Job says any number.
    if rank.rank >= job["instanceCount"]:
        raise Refusal(403, "NotARank", f"no grant: rank {rank.rank} of {rank.key}, which has {job['instanceCount']}")
