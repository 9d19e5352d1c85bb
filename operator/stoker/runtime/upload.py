"""Saving files: read once for the digest, sent as a stream, taken as saved only when they stood still meanwhile."""

from __future__ import annotations

import contextlib
import hashlib
import os
from typing import Callable, ContextManager, Dict, Iterator, List, Mapping, NamedTuple, Optional, Sequence

from stoker.runtime import wire
from stoker.runtime.beneath import open_file_beneath
from stoker.runtime.journal import Journal, Saved, Stamp, Upload
from stoker.runtime.scan import Found
from stoker.runtime.transport import Content, Part, Transport
from stoker.runtime.web import Refused, Transient

_CHUNK = 256 * 1024


class Failure(NamedTuple):
    """Why a file is not saved now. tries: after so many of these it is given up; 0: only time decides, because what
    is wrong (rights, quota, a bucket that is gone) is wrong for all files and someone may mend it."""

    path: str
    stamp: Stamp
    message: str
    tries: int = 0


class Changed(Exception):
    """The file is not what it was when it was found: it will be found again."""


class Uploader:
    """Saves files of one working directory to one transport. Safe to share between threads; each file is only ever
    in one call at a time. accepted: called after everything that the store has taken. carried: what lay in the working directory
    before the command started, by its path there. sending: entered for as long as a call sends content."""

    def __init__(
        self,
        work: str,
        transport: Transport,
        journal: Journal,
        carried: Callable[[], Mapping[str, wire.StoredFile]],
        accepted: Callable[[], None],
        sending: Callable[[], ContextManager[None]] = contextlib.nullcontext,
    ) -> None:
        self._sending = sending
        self._work, self._transport, self._journal = os.path.realpath(work), transport, journal
        self._read_carried, self._accepted = carried, accepted
        self._carried: Optional[Mapping[str, wire.StoredFile]] = None

    def save(self, batch: Sequence[Found]) -> List[Failure]:
        """Save files, and return those that were not. Raises Transient when the store is away (files before that
        are saved and noted), and Refused with reason `Sealed` when the rank is closed."""
        failures: List[Failure] = []
        ready: Dict[str, Found] = {}
        described: List[wire.StoredFile] = []
        for found in batch:
            try:
                if found.size > self._transport.single_bytes:
                    self._save_in_parts(found)
                    continue
                file = wire.StoredFile(found.path, found.size, self._digest(found))
            except Changed:
                continue
            except OSError as error:
                failures.append(Failure(found.path, found.stamp, "Unreadable: %s" % (error.strerror or error), 2))
                continue
            except Refused as error:
                failures.append(_refused(found, error))
                continue
            if self._was_carried().get(found.source) == file._replace(path=found.source):
                self._journal.save(found.path, Saved(found.stamp, file, carried=True))
                continue
            ready[found.path] = found
            described.append(file)
        if described:
            failures += self._save_described(described, ready)
        return failures

    def _was_carried(self) -> Mapping[str, wire.StoredFile]:
        # Not before the first file is saved: ship starts before fetch has written the list.
        if self._carried is None:
            self._carried = self._read_carried()
        return self._carried

    def _save_described(self, files: List[wire.StoredFile], ready: Dict[str, Found]) -> List[Failure]:
        try:
            with self._sending():
                for file in self._transport.put(files, lambda file: self._content(ready[file.path])):
                    self._accepted()
                    self._note(ready.pop(file.path), file)
            return []
        except Changed as error:
            ready.pop(str(error), None)
            return []
        except Refused as error:
            if error.reason == "Sealed":
                raise
            if len(ready) == 1:
                found = next(iter(ready.values()))
                # Bytes that changed between digest and sending are refused by the store: no fault of the file's.
                return [] if self._has_changed(found) else [_refused(found, error)]
            # One of many was refused: each by itself tells which.
            rest = [file for file in files if file.path in ready]
            failures: List[Failure] = []
            for file in rest:
                failures += self._save_described([file], {file.path: ready[file.path]})
            return failures

    def save_log(self, name: str, path: str, stamp: Stamp, root: str) -> wire.StoredFile:
        """Save a file below another folder (the whole log), at once; raises Transient, Refused, Changed, OSError."""
        found = Found(path, name, stamp)
        uploader = Uploader(root, self._transport, self._journal, dict, self._accepted, self._sending)
        failures = uploader.save([found])
        if failures:
            raise Refused(failures[0].message, 0)
        saved = self._journal.saved.get(path)
        if saved is None or saved.stamp != stamp:
            raise Changed(path)
        return saved.file

    # Large files

    def abort_leftovers(self) -> None:
        """Free what the store keeps of uploads in parts that will never be whole. Best effort: the bucket's rule for
        unfinished uploads takes what is left."""
        for path in list(self._journal.uploads):
            self._journal.drop(path)
        self._abort_stale()

    def _abort_stale(self) -> None:
        for path, upload in list(self._journal.stale_uploads):
            try:
                self._transport.abort(path, upload)
            except Transient:
                continue
            except Refused:
                pass  # it is gone, or the rank is sealed: there is nothing more that we could do
            self._journal.aborted(path, upload)

    def _save_in_parts(self, found: Found) -> None:
        upload = self._journal.uploads.get(found.path)
        if upload is not None and upload.stamp != found.stamp:
            self._journal.drop(found.path)
            upload = None
        if upload is None:
            self._abort_stale()
            part_bytes = max(self._transport.part_bytes, -(-found.size // wire.MAX_PARTS))
            upload = Upload(found.stamp, self._transport.begin(found.path), part_bytes, {})
            self._journal.begin(found.path, upload)
        try:
            file = self._send_parts(found, upload)
        except Changed:
            self._journal.drop(found.path)
            raise
        except Refused as error:
            if error.reason != "Sealed":
                # An upload id that the store forgot (its lifecycle rule, an abort) must not be used again.
                self._journal.drop(found.path)
            raise
        self._note(found, file)

    def _send_parts(self, found: Found, upload: Upload) -> wire.StoredFile:
        whole = hashlib.sha256()
        parts: List[Part] = []
        etags: List[str] = []
        for number in range(1, -(-found.size // upload.part_bytes) + 1):
            offset = (number - 1) * upload.part_bytes
            size = min(upload.part_bytes, found.size - offset)
            digest = hashlib.sha256()
            for chunk in self._read(found, offset, size):
                whole.update(chunk)
                digest.update(chunk)
            part = Part(number, offset, size, digest.hexdigest())
            done = upload.done.get(number)
            if done is None or done[1] != part.sha256:
                with self._sending():
                    etag = self._transport.put_part(found.path, upload.upload, part, self._part_content(found, part))
                self._accepted()
                self._journal.part(found.path, number, etag, part.sha256)
                done = (etag, part.sha256)
            parts.append(part)
            etags.append(done[0])
        if self._has_changed(found):
            raise Changed(found.path)
        self._transport.complete(found.path, upload.upload, parts, etags)
        return wire.StoredFile(found.path, found.size, whole.hexdigest())

    # Reading

    def _digest(self, found: Found) -> str:
        digest = hashlib.sha256()
        for chunk in self._read(found, 0, found.size):
            digest.update(chunk)
        return digest.hexdigest()

    def _content(self, found: Found) -> Content:
        return lambda: self._read(found, 0, found.size)

    def _read(self, found: Found, offset: int, size: int) -> Iterator[bytes]:
        """Exactly `size` bytes of the file as it was found; raises Changed when it is another or shorter by now."""
        with os.fdopen(self._open(found), "rb", buffering=0) as file:
            if _stamp_of(file.fileno()) != found.stamp:
                raise Changed(found.path)
            file.seek(offset)
            while size:
                chunk = file.read(min(_CHUNK, size))
                if not chunk:
                    raise Changed(found.path)
                size -= len(chunk)
                yield chunk

    def _part_content(self, found: Found, part: Part) -> Content:
        return lambda: self._read(found, part.offset, part.size)

    def _open(self, found: Found) -> int:
        try:
            return open_file_beneath(self._work, found.source)
        except FileNotFoundError:
            raise Changed(found.path) from None

    def _has_changed(self, found: Found) -> bool:
        try:
            descriptor = self._open(found)
        except (Changed, OSError):
            return True
        try:
            return _stamp_of(descriptor) != found.stamp
        finally:
            os.close(descriptor)

    def _note(self, found: Found, file: wire.StoredFile) -> None:
        if not self._has_changed(found):
            self._journal.save(found.path, Saved(found.stamp, file))


def _stamp_of(descriptor: int) -> Stamp:
    status = os.fstat(descriptor)
    return status.st_size, status.st_mtime_ns, status.st_ino


def _refused(found: Found, error: Refused) -> Failure:
    if error.reason == "Sealed":
        raise error
    own_fault = error.status in (400, 405, 411, 413, 414, 422)
    return Failure(found.path, found.stamp, "Refused: %s" % error, 3 if own_fault else 0)
