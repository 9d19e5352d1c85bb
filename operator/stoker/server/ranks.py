"""What a rank may do under its grant: read its inputs, store files below its own prefix, in one piece or in parts.

Every URL carries length and SHA-256, and stores a new object only (If-None-Match). An object that is there is replaced by
an upload of one part, which the server completes while the rank has no seal: the part's URL alone changes nothing. So a
URL that was stolen or is sent twice cannot put an older content back over a newer one, and cannot touch an object that
the seal lists. What a URL that was signed before the seal and never used can still do for its quarter of an hour is to
add an object that no seal lists. Nothing is signed for a sealed rank.

To pods that speak protocol 1 a replacement is signed with If-Match instead: such a URL, kept and signed for the very
content that was sealed, can still replace it; whoever reads the file finds out by the seal.
"""

import asyncio
from collections import OrderedDict
from collections.abc import Iterable, Iterator
from typing import Any

from stoker.server.errors import Refusal
from stoker.server.grants import Grant
from stoker.server.requests import Abort, Complete, Create, FileBody, MultipartBody, SignParts, rank_path
from stoker.server.threads import ask_store
from stoker.server.workspaces import Place
from stoker.storage import layout, records
from stoker.storage.objects import Stored
from stoker.storage.signing import Part, is_of

#: From this protocol on a pod completes what replaces an object by the upload that its entry names.
REPLACES_BY_UPLOAD = 2
#: Up to so many files are looked up one by one; more, by one listing of the rank's prefix.
_FEW = 8
#: Job records are immutable; small ones are kept (bytes each, number).
_KEPT_BYTES, _KEPT_RECORDS = 256 << 10, 512


class JobRecords:
    """job.json by storage URL and key. A record never changes once it is there, so it is read once."""

    def __init__(self) -> None:
        self._kept: OrderedDict[tuple[str, str], records.JobRecord] = OrderedDict()

    async def get(self, place: Place, key: str) -> records.JobRecord:
        """Raises Refusal 404 when there is none: the operator writes it before it makes a job's first pod."""
        index = (place.store.url, key)
        if index in self._kept:
            self._kept.move_to_end(index)
            return self._kept[index]
        name = layout.job_record(key)
        content = await place.store.get(name)
        if content is None:
            raise Refusal(
                404,
                "RecordMissing",
                f"{place.store.url} holds no {name}; was the Workspace's storage.url changed since the job began?",
            )
        record = records.decode(content, records.JobRecord, name)
        if len(content) <= _KEPT_BYTES:
            self._kept[index] = record
            while len(self._kept) > _KEPT_RECORDS:
                self._kept.popitem(last=False)
        return record


async def refuse_sealed(place: Place, grant: Grant) -> None:
    """Raises Refusal 409 once the rank is sealed."""
    if await place.store.head(layout.seal(grant.key, grant.attempt, grant.rank)) is not None:
        raise sealed(grant)


def sealed(grant: Grant) -> Refusal:
    return Refusal(
        409, "Sealed", f"attempt {grant.attempt}, rank {grant.rank} of {grant.key} is sealed: nothing more is taken"
    )


async def read_urls(place: Place, grant: Grant, keys: list[str], jobs: JobRecords) -> dict[str, str]:
    """A signed URL for each key. Raises Refusal 403 that names a key which is not this job's to read."""
    own = set(readable(await jobs.get(place, grant.key)))
    former = _former(grant, [key for key in keys if key not in own])
    for (attempt, rank), asked in former.items():
        # Which files a former attempt left stands in its seal, so that may be read too, if there is one.
        asked = [(key, path) for key, path in asked if path != "seal.json"]
        if not asked:
            continue
        seal = await records.read_seal(place.store, grant.key, attempt, rank)
        files = {file["path"] for file in seal["files"]} if seal else set()
        for key, path in asked:
            if path not in files:
                raise _unreadable(key)
    return await asyncio.to_thread(lambda: {key: place.signer.get(key).url for key in keys})


def readable(record: records.JobRecord) -> Iterator[str]:
    """The keys that job.json names: snapshots of the code and of inputs, and the files of inputs."""
    digests = [record["snapshot"], *(entry.get("snapshot") for entry in record["inputs"].values())]
    for digest in digests:
        if digest:
            yield layout.snapshot_zip(digest)
            yield layout.snapshot_manifest(digest)
    for entry in record["inputs"].values():
        yield from (file["key"] for file in entry.get("files") or ())


def _former(grant: Grant, keys: Iterable[str]) -> dict[tuple[int, int], list[tuple[str, str]]]:
    """These keys by former (attempt, rank), each with its path there."""
    found: dict[tuple[int, int], list[tuple[str, str]]] = {}
    for key in keys:
        named = layout.parse_rank_key(key)
        if named is None or named.job != grant.key or named.attempt >= grant.attempt:
            raise _unreadable(key)
        found.setdefault((named.attempt, named.rank), []).append((key, named.path))
    return found


def _unreadable(key: str) -> Refusal:
    return Refusal(
        403, "NotReadable", f"key {key!r} is neither named in this job's job.json nor a sealed file of a former attempt"
    )


async def write_urls(place: Place, grant: Grant, files: list[FileBody], conditional: bool) -> list[dict[str, Any]]:
    """What to send where, in the order asked; `stored` for a file that is there already with this size and SHA-256.

    Raises Refusal 400 for a path that a rank may not write, 409 for a sealed rank.
    """
    prefix = layout.rank_prefix(grant.key, grant.attempt, grant.rank)
    keys = [prefix + rank_path(file.path) for file in files]
    if len(set(keys)) < len(keys):
        raise Refusal(400, "BadRequest", "objects: a path stands twice")
    there, _ = await asyncio.gather(_stored(place, prefix, keys), refuse_sealed(place, grant))
    same = await asyncio.gather(*(_same(place, there.get(key), file) for key, file in zip(keys, files, strict=True)))
    replaced = [key for key, done in zip(keys, same, strict=True) if not done and key in there]
    uploads: dict[str, str] = {}
    if conditional and grant.protocol >= REPLACES_BY_UPLOAD:
        ids = await asyncio.gather(*(ask_store(place.signer.create_upload, key) for key in replaced))
        uploads = dict(zip(replaced, ids, strict=True))

    def sign() -> list[dict[str, Any]]:
        return [
            {"path": file.path, "stored": True}
            if done
            else {"path": file.path, **_signed(place, key, file, there.get(key), conditional, uploads.get(key, ""))}
            for key, file, done in zip(keys, files, same, strict=True)
        ]

    return await asyncio.to_thread(sign)


def _signed(
    place: Place, key: str, file: FileBody, there: Stored | None, conditional: bool, upload: str
) -> dict[str, Any]:
    if upload:
        part = place.signer.put_part(key, upload, 1, file.size, file.sha256)
        return {"url": part.url, "headers": part.headers, "uploadId": upload}
    signed = place.signer.put(
        key,
        file.size,
        file.sha256,
        only_if_absent=conditional and there is None,
        if_match=there.etag if conditional and there is not None else "",
    )
    return {"url": signed.url, "headers": signed.headers}


async def _stored(place: Place, prefix: str, keys: list[str]) -> dict[str, Stored]:
    if len(keys) <= _FEW:
        heads = await asyncio.gather(*(place.store.head(key) for key in keys))
        return {stored.key: stored for stored in heads if stored is not None}
    wanted = set(keys)
    return {stored.key: stored async for stored in place.store.list(prefix) if stored.key in wanted}


async def _same(place: Place, there: Stored | None, file: FileBody) -> bool:
    if there is None or there.size != file.size:
        return False
    checksum = await ask_store(place.signer.checksum, there.key)
    return checksum is not None and is_of(checksum, file.sha256)


async def multipart(place: Place, grant: Grant, asked: MultipartBody) -> dict[str, Any]:
    """One step of an upload in parts. Create, complete and abort are the server's: a part's URL can only add that
    part to that upload. Raises Refusal 400, 409."""
    key = layout.rank_prefix(grant.key, grant.attempt, grant.rank) + rank_path(asked.path)
    if isinstance(asked, Abort):
        await ask_store(place.signer.abort_upload, key, asked.upload_id)
        return {}
    await refuse_sealed(place, grant)
    if isinstance(asked, Create):
        return {"uploadId": await ask_store(place.signer.create_upload, key)}
    if isinstance(asked, Complete):
        parts = [Part(part.number, part.etag, part.sha256) for part in asked.parts]
        await ask_store(place.signer.complete_upload, key, asked.upload_id, parts)
        return {}
    return {"parts": await asyncio.to_thread(_sign_parts, place, key, asked)}


def _sign_parts(place: Place, key: str, asked: SignParts) -> list[dict[str, Any]]:
    signed = [
        (part.number, place.signer.put_part(key, asked.upload_id, part.number, part.size, part.sha256))
        for part in asked.parts
    ]
    return [{"number": number, "url": one.url, "headers": one.headers} for number, one in signed]
