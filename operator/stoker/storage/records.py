"""The record of a job as it is stored: job.json, result.json, the seals of its ranks; and its log.

Each record is written once. Reading checks the fields that Stoker itself relies on and keeps the others, so that an
older reader passes on what a newer writer added.
"""

import json
import logging
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any, Literal, NotRequired, TypedDict, TypeVar, cast

import msgspec

from stoker.storage import layout
from stoker.storage.objects import ObjectStore, StoreError

_log = logging.getLogger(__name__)

VERSION = 1
R = TypeVar("R")


class BadRecord(StoreError):
    """A stored record is not what its format says; the message names the key and the field."""


class ImageRecord(TypedDict):
    reference: str
    digest: str | None


class Limits(TypedDict):
    """All in seconds or bytes."""

    timeoutSeconds: int | None
    graceSeconds: int
    logBytes: int
    scratchBytes: int | None


class JobRecord(TypedDict):
    """job.json: what was asked and pinned, written once before the first attempt."""

    version: int
    name: str
    namespace: str
    uid: str
    key: str
    experiment: NotRequired[str | None]
    displayName: NotRequired[str | None]
    description: NotRequired[str | None]
    tags: NotRequired[dict[str, str]]
    submittedAt: str
    submittedBy: str | None
    compute: str
    command: str
    snapshot: str | None
    commit: NotRequired[str | None]
    image: ImageRecord | None
    pip: list[str]
    instanceCount: int
    env: dict[str, str]
    envReferences: NotRequired[dict[str, Any]]
    envFrom: NotRequired[list[dict[str, Any]]]
    inputs: dict[str, dict[str, Any]]
    outputs: dict[str, dict[str, Any]]
    limits: Limits
    spec: NotRequired[dict[str, Any]]


class OutputRecord(TypedDict):
    path: str
    size: int
    sha256: str
    attempt: int
    rank: int


class ResultRecord(TypedDict):
    """result.json: how a job ended, written once at the end."""

    version: int
    name: str
    namespace: str
    uid: str
    key: str
    phase: Literal["Completed", "Failed", "Canceled"]
    reason: str
    message: str
    exitCode: int | None
    startedAt: str | None
    finishedAt: str
    timings: dict[str, float]
    attempts: list[dict[str, Any]]
    outputs: list[OutputRecord]


class SealedFile(TypedDict):
    """path: relative to the rank's prefix. size: bytes."""

    path: str
    size: int
    sha256: str


class MissingFile(TypedDict):
    path: str
    size: int
    reason: str


class SealRecord(TypedDict):
    """seal.json: the checked list of what one rank of one attempt left."""

    version: int
    job: str
    attempt: int
    rank: int
    complete: bool
    reason: str | None
    message: str
    exit: dict[str, Any] | None
    files: list[SealedFile]
    missing: list[MissingFile]
    sealedAt: str
    sealedBy: Literal["server", "operator"]


def encode(record: object) -> bytes:
    """The bytes of a record: JSON, sorted keys, indented by 2, a newline at the end."""
    return (json.dumps(record, indent=2, sort_keys=True, ensure_ascii=False) + "\n").encode()


def decode(content: bytes, kind: type[R], key: str) -> R:
    """The record in these bytes; raises BadRecord that names the key and the field."""
    try:
        value = msgspec.json.decode(content)
        msgspec.convert(value, kind)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise BadRecord(f"{key}: {error}") from error
    if value["version"] != VERSION:
        raise BadRecord(f"{key}: version {value['version']}; this Stoker reads version {VERSION}")
    return cast(R, value)


async def _read(store: ObjectStore, key: str, kind: type[R]) -> R | None:
    content = await store.get(key)
    return None if content is None else decode(content, kind, key)


async def _write(store: ObjectStore, key: str, kind: type[R], record: R) -> bool:
    content = encode(record)
    decode(content, kind, key)
    return await store.put(key, content, only_if_absent=True)


async def read_job(store: ObjectStore, key: str) -> JobRecord | None:
    """job.json of a job, None if there is none; raises BadRecord and StoreError."""
    return await _read(store, layout.job_record(key), JobRecord)


async def write_job(store: ObjectStore, record: JobRecord) -> bool:
    """Write job.json once. False: there is one already, which stays. Raises BadRecord before anything is sent."""
    return await _write(store, layout.job_record(record["key"]), JobRecord, record)


async def read_result(store: ObjectStore, key: str) -> ResultRecord | None:
    return await _read(store, layout.job_result(key), ResultRecord)


async def write_result(store: ObjectStore, record: ResultRecord) -> bool:
    return await _write(store, layout.job_result(record["key"]), ResultRecord, record)


async def read_seal(store: ObjectStore, key: str, attempt: int, rank: int) -> SealRecord | None:
    """The seal of a rank, None if there is none. Raises StoreError, and BadRecord for one that is not to be believed: cut
    off, of another rank (copied there), or in contradiction with itself. A run's end rests on it."""
    name = layout.seal(key, attempt, rank)
    seal = await _read(store, name, SealRecord)
    if seal is None:
        return None
    if (seal["job"], seal["attempt"], seal["rank"]) != (key, attempt, rank):
        found = f"attempt {seal['attempt']}, rank {seal['rank']} of {seal['job']}"
        raise BadRecord(f"{name}: it is the seal of {found}: remove it, nobody of Stoker writes it there")
    if seal["complete"] != (seal["reason"] is None) or (seal["complete"] and seal["missing"]):
        reason, missing = seal["reason"], len(seal["missing"])
        raise BadRecord(
            f"{name}: complete={seal['complete']} with reason {reason} and {missing} missing files: remove it"
        )
    return seal


async def write_seal(store: ObjectStore, record: SealRecord) -> bool:
    return await _write(store, layout.seal(record["job"], record["attempt"], record["rank"]), SealRecord, record)


async def job_keys(store: ObjectStore) -> list[str]:
    """The keys of all jobs that the store knows, sorted."""
    return [name for name in await store.folders(layout.JOBS) if layout.is_job_key(name)]


async def ranks(store: ObjectStore, key: str) -> list[tuple[int, int]]:
    """(attempt, rank) of every rank of a job that left anything, sorted."""
    prefix, found = layout.attempts_prefix(key), []
    for attempt in await store.folders(prefix):
        if attempt.isdecimal():
            found += [(int(attempt), int(r)) for r in await store.folders(f"{prefix}{attempt}/") if r.isdecimal()]
    return sorted(found)


async def seals(store: ObjectStore, key: str) -> list[SealRecord]:
    """The seals of a job, by attempt and rank."""
    found = [await read_seal(store, key, attempt, rank) for attempt, rank in await ranks(store, key)]
    return [record for record in found if record is not None]


async def drop_unfinished(store: ObjectStore, key: str, attempt: int, rank: int) -> None:
    """Abort what a sealed rank began in parts and never ended: nothing can be added to it any more, and its parts are
    unseen and paid for. Best effort: the seal stands. What stays is named in our log and goes with the run."""
    prefix = layout.rank_prefix(key, attempt, rank)
    try:
        await store.drop_leftovers(prefix)
    except StoreError as error:
        _log.warning(
            "unfinished uploads below %s may be left: %s; `stoker rm` removes them with the run", prefix, error
        )


@dataclass(frozen=True, slots=True)
class LogPiece:
    """Bytes of a log as stored so far. offset: of the first byte in the whole log. complete: nothing will follow."""

    offset: int
    content: bytes
    complete: bool


async def read_log(
    store: ObjectStore, key: str, attempt: int, rank: int, offset: int = 0, most: int = 1 << 20
) -> LogPiece:
    """At most `most` bytes of a rank's log from byte `offset` on: out of std_log.txt, before that out of the pieces.

    Empty and not complete: nothing more is stored yet. Empty and complete: the log ends here.
    """
    whole = layout.std_log(key, attempt, rank)
    final = await store.head(whole)
    if final is not None:
        content = await store.get(whole, offset, offset + most) or b""
        return LogPiece(offset, content, offset + len(content) >= final.size)
    content = b""
    async for start, size, name in _segments(store, key, attempt, rank):
        position = offset + len(content)
        if start + size <= position:
            continue
        if start > position or len(content) >= most:
            break
        skip = position - start
        piece = await store.get(name, skip, skip + most - len(content))
        if piece is None:  # the pieces go away when the whole log is there: ask once more
            return await read_log(store, key, attempt, rank, offset, most)
        content += piece
    sealed = not content and await store.head(layout.seal(key, attempt, rank)) is not None
    return LogPiece(offset, content, sealed)


async def _segments(store: ObjectStore, key: str, attempt: int, rank: int) -> AsyncIterator[tuple[int, int, str]]:
    prefix = layout.rank_prefix(key, attempt, rank)
    async for stored in store.list(layout.segments_prefix(key, attempt, rank)):
        start = layout.segment_offset(stored.key[len(prefix) :])
        if start is not None:
            yield start, stored.size, stored.key
