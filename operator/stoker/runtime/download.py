"""Getting objects by signed URLs: several at once, resumed where a connection broke, and never longer than promised."""

from __future__ import annotations

import hashlib
import io
import os
import shutil
from concurrent.futures import ThreadPoolExecutor
from typing import BinaryIO, Callable, NamedTuple, Optional, Sequence

from stoker.runtime.grants import Server
from stoker.runtime.layout import human_bytes
from stoker.runtime.unpack import UnpackRefused
from stoker.runtime.web import Refused, Transient, patiently

_LANES = 8
_MOST_MANIFEST_BYTES = 64 << 20


class Wanted(NamedTuple):
    """An object to bring: its key in the workspace, the path of the file, size in bytes, hex sha256 if known."""

    key: str
    path: str
    size: int
    sha256: Optional[str] = None


class Downloads:
    """Downloads under one grant. deadline: monotonic seconds, for all of them together."""

    def __init__(self, server: Server, deadline: float, say: Callable[[str], None]) -> None:
        self._server, self._deadline, self._say = server, deadline, say

    def content(self, key: str) -> bytes:
        """A small object; raises Refused with reason `NotStored` when it is not there."""
        buffer = io.BytesIO()
        self._get(key, _Growing(buffer, _MOST_MANIFEST_BYTES, key))
        return buffer.getvalue()

    def content_or_none(self, key: str) -> Optional[bytes]:
        """A small object, or None when there is no such object."""
        try:
            return self.content(key)
        except Refused as error:
            if error.status == 404:
                return None
            raise

    def file(self, key: str, path: str, most: int) -> int:
        """An object into a new file; raises UnpackRefused when it is longer than `most` bytes. Returns its size."""
        with open(path, "wb") as file:
            growing = _Growing(file, most, key)
            self._get(key, growing)
            return growing.received

    def files(self, wanted: Sequence[Wanted]) -> None:
        """Objects into files, several at once; raises UnpackRefused when a size or digest differs."""
        urls = patiently(lambda: self._server.read_urls([one.key for one in wanted]), self._deadline, self._say)
        for folder in {os.path.dirname(one.path) for one in wanted}:
            os.makedirs(folder, exist_ok=True)
        with ThreadPoolExecutor(min(_LANES, max(1, len(wanted)))) as lanes:
            list(lanes.map(lambda one: self._one(urls[one.key], one), wanted))

    def require_space(self, need: int, folder: str, what: str) -> None:
        """Raises UnpackRefused (`ScratchTooSmall`) when the disk has less than `need` bytes."""
        free = shutil.disk_usage(folder).free
        if need > free:
            raise UnpackRefused(
                "ScratchTooSmall",
                "%s needs %s and scratch has %s free; ask for more "
                "resources.scratch.size" % (what, human_bytes(need), human_bytes(free)),
            )

    def _one(self, url: str, wanted: Wanted) -> None:
        with open(wanted.path, "wb") as file:
            growing = _Growing(file, wanted.size, wanted.key)
            self._get(wanted.key, growing, url)
        if growing.received != wanted.size:
            raise UnpackRefused(
                "InputChanged",
                "%s has %d bytes, %d were listed" % (wanted.key, growing.received, wanted.size),
            )
        if wanted.sha256 is not None and growing.hexdigest() != wanted.sha256:
            raise UnpackRefused("CheckpointCorrupt", "%s does not have the content that its seal names" % wanted.key)

    def _get(self, key: str, growing: "_Growing", url: Optional[str] = None) -> None:
        signed = url

        def attempt() -> None:
            nonlocal signed
            if signed is None:
                signed = self._server.read_urls([key])[key]
            headers = {"Range": "bytes=%d-" % growing.received} if growing.received else {}
            try:
                self._server.web.request("GET", signed, headers, into=growing)
            except Refused as error:
                if error.status == 416 and growing.received:
                    return  # nothing is left of it
                # A URL lives for minutes, the queue before it may have been longer: a fresh one tells an old URL
                # from a no.
                if error.status not in (400, 401, 403) or growing.renewed:
                    raise
                growing.renewed, signed = True, None
                raise Transient(str(error)) from None

        patiently(attempt, self._deadline, self._say)


class _Growing:
    """Takes the bytes of one object over several requests (a web.Sink), counts and hashes them."""

    def __init__(self, target: BinaryIO, most: int, key: str) -> None:
        self._target, self._most, self._key = target, most, key
        self._digest = hashlib.sha256()
        self.received, self.renewed = 0, False

    def begin(self, status: int) -> None:
        """206 goes on where the last request broke off; anything else starts again."""
        if self.received and status != 206:
            self.received, self._digest = 0, hashlib.sha256()
            self._target.seek(0)
            self._target.truncate()

    def write(self, chunk: bytes) -> None:
        self.received += len(chunk)
        if self.received > self._most:
            raise UnpackRefused(
                "SnapshotCorrupt" if self._key.startswith("snapshots/") else "InputChanged",
                "%s has more than the %d bytes that were expected" % (self._key, self._most),
            )
        self._digest.update(chunk)
        self._target.write(chunk)

    def hexdigest(self) -> str:
        return self._digest.hexdigest()
