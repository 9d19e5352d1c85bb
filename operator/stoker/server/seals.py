"""Closing a rank: its list of files is checked against the store, then written once.

Each listed file must be there with its size. Its SHA-256 is compared with the one that the store keeps (HEAD, a few at
a time); the answer is remembered by etag, so that a list too long for one request goes on where it stopped when the
pod asks again. For a file in several parts, or where a store keeps no checksums, there is none to compare: then the list rests
on the checksum that was signed for each PUT or part, which the store checked when it took the bytes.
"""

import asyncio
import logging
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from typing import Any, NamedTuple

from stoker.runtime import wire
from stoker.server.errors import Refusal
from stoker.server.grants import Grant
from stoker.server.requests import SealBody, rank_path
from stoker.server.threads import STORE_CALLS, ask_store
from stoker.server.workspaces import Place
from stoker.storage import layout, records
from stoker.storage.objects import Stored, StoreError
from stoker.storage.signing import is_of

_log = logging.getLogger(__name__)

#: How long one request checks before it says "ask again" (seconds): well below what a pod waits for an answer.
CHECK_SECONDS = 30.0
_REMEMBERED = 200_000
_MESSAGE_CHARACTERS = 4096


class Outcome(NamedTuple):
    """The seal that stands, and whether this request (or the same one before) wrote it."""

    seal: dict[str, Any]
    ours: bool


class Sealer:
    """Writes seals. Remembers which objects it has checked: (storage URL, key, etag) -> hex sha256, None if unknown."""

    def __init__(self, now: Callable[[], float] = time.monotonic, clock: Callable[[], float] = time.time) -> None:
        self._now, self._clock = now, clock
        self._checked: OrderedDict[tuple[str, str, str], str | None] = OrderedDict()

    async def seal(self, place: Place, grant: Grant, asked: SealBody) -> Outcome:
        """Close the rank. Raises Refusal 400, 422 with the absent files, 503 when the check needs another request."""
        wanted = await asyncio.to_thread(self._document, grant, asked)
        standing = await records.read_seal(place.store, grant.key, grant.attempt, grant.rank)
        listed: dict[str, Stored] | None = None
        if standing is None:
            listed = await self._listed(place, grant)
            await self._check(place, [wire.StoredFile(**file) for file in wanted["files"]], listed)
            if not await records.write_seal(place.store, wanted):  # type: ignore[arg-type]
                standing = await records.read_seal(place.store, grant.key, grant.attempt, grant.rank)
        seal: dict[str, Any] = wanted if standing is None else dict(standing)
        ours = standing is None or wire.same_seal(wanted, seal)
        if ours and layout.STD_LOG in {file["path"] for file in _files(seal)}:
            await self._drop_segments(place, grant, listed)
        if ours:
            await records.drop_unfinished(place.store, grant.key, grant.attempt, grant.rank)
        return Outcome(seal, ours)

    def _document(self, grant: Grant, asked: SealBody) -> dict[str, Any]:
        try:
            exit_record = None if asked.exit is None else _bounded(wire.exit_record(asked.exit)).document()
        except wire.WireError as error:
            raise Refusal(400, "BadRequest", f"exit: {error}") from None
        files = [wire.StoredFile(rank_path(file.path), file.size, file.sha256) for file in asked.files]
        if len({file.path for file in files}) < len(files):
            raise Refusal(400, "BadRequest", "files: a path stands twice")
        if any(file.path.startswith(layout.SEGMENTS) for file in files):
            raise Refusal(
                400, "BadRequest", f"files: the live pieces below {layout.SEGMENTS} are not sealed, {layout.STD_LOG} is"
            )
        # A path that may not be stored can be the very reason why a file is missing: any text will do.
        missing = [wire.MissingFile(file.path, file.size, file.reason) for file in asked.missing]
        stamp = datetime.fromtimestamp(self._clock(), UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        return wire.seal_document(
            grant.key, grant.attempt, grant.rank, exit_record, files, missing, asked.skipped,
            sealed_at=stamp, sealed_by="server",
        )  # fmt: skip

    async def _listed(self, place: Place, grant: Grant) -> dict[str, Stored]:
        prefix = layout.rank_prefix(grant.key, grant.attempt, grant.rank)
        return {stored.key[len(prefix) :]: stored async for stored in place.store.list(prefix)}

    async def _check(self, place: Place, files: Sequence[wire.StoredFile], listed: dict[str, Stored]) -> None:
        deadline = self._now() + CHECK_SECONDS
        absent = [file.path for file in files if file.path not in listed or listed[file.path].size != file.size]
        if not absent:
            queue = iter(files)  # shared: each worker takes the next one
            found = await asyncio.gather(*(self._worker(place, queue, listed, deadline) for _ in range(STORE_CALLS)))
            absent = sorted(path for paths in found for path in paths)
        if absent:
            raise Refusal(
                422,
                "FilesAbsent",
                f"{len(absent)} of {len(files)} files are not in the store as listed: {', '.join(absent[:5])}; send them again",
                {"absent": absent},
            )

    async def _worker(
        self, place: Place, files: Iterator[wire.StoredFile], listed: dict[str, Stored], deadline: float
    ) -> list[str]:
        """The paths among these files whose stored SHA-256 is another one."""
        different = []
        for file in files:
            if self._now() > deadline:
                raise Refusal(503, "StillChecking", "the files are many and still being checked: ask again")
            checksum = await self._checksum(place, listed[file.path])
            if checksum is not None and not is_of(checksum, file.sha256):
                different.append(file.path)
        return different

    async def _checksum(self, place: Place, stored: Stored) -> str | None:
        known = (place.store.url, stored.key, stored.etag)
        if stored.etag and known in self._checked:
            return self._checked[known]
        checksum = await ask_store(place.signer.checksum, stored.key)
        if stored.etag:
            self._checked[known] = checksum
            while len(self._checked) > _REMEMBERED:
                self._checked.popitem(last=False)
        return checksum

    async def _drop_segments(self, place: Place, grant: Grant, listed: dict[str, Stored] | None) -> None:
        """The whole log is stored and checked: its live pieces have done their work."""
        try:
            listed = await self._listed(place, grant) if listed is None else listed
            pieces = [stored.key for path, stored in listed.items() if path.startswith(layout.SEGMENTS)]
            if pieces:
                await place.store.delete(pieces)
        except StoreError as error:
            # The seal stands; a repeated request comes by here again, and pieces that stay are only bytes.
            _log.warning("cannot remove the log's live pieces of %s: %s", grant.key, error)


def _files(seal: dict[str, Any]) -> list[dict[str, Any]]:
    files: list[dict[str, Any]] = seal["files"]
    return files


def _bounded(record: wire.ExitRecord) -> wire.ExitRecord:
    tail = record.log_tail.encode("utf-8", "replace")[-wire.LOG_TAIL_BYTES :].decode("utf-8", "ignore")
    return record._replace(message=record.message[:_MESSAGE_CHARACTERS], log_tail=tail)
