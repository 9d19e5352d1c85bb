"""Snapshots on their way in: signed for the client to send itself, or streamed through a bounded file on disk.

The zip goes first and the manifest last, each written once. A zip that is there already counts as sent: its bytes may
differ with the compressor, what it unpacks to is checked against the manifest at every fetch. So an editor can spoil a
digest that nobody of the namespace has pushed yet (a fetch then says SnapshotCorrupt), and cannot change one that is there.
"""

import asyncio
import hashlib
import tempfile
from pathlib import Path
from typing import IO

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from stoker.runtime.wire import WireError, decode_manifest, manifest_digest
from stoker.server.config import Settings
from stoker.server.errors import Refusal
from stoker.server.requests import SnapshotBody, body, content_of, pieces_of
from stoker.server.workspaces import Place
from stoker.storage import layout, snapshots

#: A manifest has about 150 bytes per file.
MANIFEST_BYTES = 64 << 20


class Uploads:
    """Takes snapshots. At most settings.uploads zips are on disk here at a time; further ones are asked to come back."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._slots = asyncio.Semaphore(settings.uploads)

    async def present(self, place: Place, digest: str, *, claim: bool) -> Response:
        """claim: whether who asks may write, and so may be about to use it."""
        ask = snapshots.claim if claim else snapshots.present
        return JSONResponse({"present": await ask(place.store, digest)})

    async def begin(self, place: Place, digest: str, request: Request) -> Response:
        asked: SnapshotBody = await body(request, SnapshotBody)
        if asked.size > self._settings.snapshot_bytes:
            raise self._too_large()
        if not self._settings.client_endpoint:
            return JSONResponse({"stream": True})
        signed = await asyncio.to_thread(
            lambda: place.signer.put(
                layout.snapshot_zip(digest), asked.size, asked.sha256, only_if_absent=True, for_people=True
            )
        )
        return JSONResponse({"url": signed.url, "headers": signed.headers})

    async def zip(self, place: Place, digest: str, request: Request) -> Response:
        declared = request.headers.get("content-length", "")
        if declared.isdecimal() and int(declared) > self._settings.snapshot_bytes:
            raise self._too_large()
        if self._slots.locked():
            raise Refusal(503, "TooManyUploads", f"{self._settings.uploads} uploads are under way: try again")
        async with self._slots:
            with tempfile.NamedTemporaryFile(dir=self._settings.scratch, prefix="stoker-zip-") as file:
                sha256, size = await self._receive(request, file)
                stored = await place.store.put(layout.snapshot_zip(digest), Path(file.name), only_if_absent=True)
        return JSONResponse({"stored": stored, "size": size, "sha256": sha256})

    async def _receive(self, request: Request, file: IO[bytes]) -> tuple[str, int]:
        """The body's SHA-256 and size, once it is in the file. Raises Refusal 400, 413, 507."""
        digest, size = hashlib.sha256(), 0
        declared = request.headers.get("content-length", "")
        try:
            async for piece in pieces_of(request):
                size += len(piece)
                if size > self._settings.snapshot_bytes:
                    raise self._too_large()
                digest.update(piece)
                await asyncio.to_thread(file.write, piece)
            await asyncio.to_thread(file.flush)
        except OSError as error:
            raise Refusal(503, "NoScratch", f"the server's scratch space: {error.strerror}; try again later") from error
        if declared.isdecimal() and int(declared) != size:
            raise Refusal(
                400, "BadRequest", f"the body has {size} bytes and Content-Length said {declared}: send it again"
            )
        if size == 0:
            raise Refusal(400, "BadRequest", "the body is empty: send the snapshot's zip")
        return digest.hexdigest(), size

    async def manifest(self, place: Place, digest: str, request: Request) -> Response:
        content = await content_of(request, MANIFEST_BYTES)
        if manifest_digest(content) != digest:
            raise Refusal(
                422,
                "DigestMismatch",
                f"the manifest hashes to {manifest_digest(content)}, not to {digest}: send it as it was hashed",
            )
        try:
            await asyncio.to_thread(decode_manifest, content)
        except WireError as error:
            raise Refusal(422, "BadManifest", str(error)) from None
        if await place.store.head(layout.snapshot_zip(digest)) is None:
            raise Refusal(
                409, "ZipMissing", f"send the zip of {digest} first: the manifest says that the snapshot is whole"
            )
        await snapshots.put_manifest(place.store, digest, content)
        return JSONResponse({"present": True})

    def _too_large(self) -> Refusal:
        most = self._settings.snapshot_bytes
        return Refusal(
            413,
            "TooLarge",
            f"a snapshot's zip has at most {most} bytes here; leave data out by .amlignore, or raise server.snapshotBytes",
        )
