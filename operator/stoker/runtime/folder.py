"""A folder as the store of a rank: the local run's, with the same layout, checks and seal as on a server."""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import tempfile
import threading
from typing import Any, Callable, Dict, Iterator, List, Optional, Sequence, Tuple
from urllib.parse import unquote, urlsplit

from stoker.runtime import wire
from stoker.runtime.layout import read_json, utc_now
from stoker.runtime.transport import Absent, Content, Part, Sealed
from stoker.runtime.web import Refused, Transient

_Identity = Tuple[int, int, int]


def folder_of_url(url: str) -> str:
    """The path that a `file:` URL names; raises ValueError for any other URL."""
    parts = urlsplit(url)
    if parts.scheme != "file" or parts.netloc not in ("", "localhost"):
        raise ValueError("%r is not a file:///absolute/path URL" % url)
    path = unquote(parts.path)
    if os.name == "nt" and path[2:3] == ":":
        path = path[1:]
    return os.path.abspath(path)


class FolderTransport:
    """Stores a rank's files below `<root>/jobs/<job>/attempts/<attempt>/<rank>/`; root is the workspace's folder."""

    #: No parts: a rename makes a file of any size whole at once.
    single_bytes = 1 << 62
    part_bytes = 1 << 62

    def __init__(self, root: str, job: str, attempt: int, rank: int) -> None:
        self._job, self._attempt, self._rank = job, attempt, rank
        self.prefix = os.path.join(root, "jobs", job, "attempts", str(attempt), str(rank))
        self._seal = os.path.join(self.prefix, "seal.json")
        # What this process wrote and hashed: such a file is not read again for the seal while its stat is the same.
        self._verified: Dict[str, Tuple[_Identity, wire.StoredFile]] = {}
        self._lock = threading.Lock()

    def put(
        self, files: Sequence[wire.StoredFile], content: Callable[[wire.StoredFile], Content]
    ) -> Iterator[wire.StoredFile]:
        for file in files:
            with _as_answers():
                if os.path.exists(self._seal):
                    raise Refused("%s is there: nothing more is taken" % self._seal, 409, "Sealed")
                self._write(file, content(file))
            yield file

    def begin(self, path: str) -> str:
        raise AssertionError("files in a folder are never written in parts")

    def put_part(self, path: str, upload: str, part: Part, content: Content) -> str:
        raise AssertionError("files in a folder are never written in parts")

    def complete(self, path: str, upload: str, parts: Sequence[Part], etags: Sequence[str]) -> None:
        raise AssertionError("files in a folder are never written in parts")

    def abort(self, path: str, upload: str) -> None:
        raise AssertionError("files in a folder are never written in parts")

    def seal(
        self,
        exit: Optional[Dict[str, Any]],
        files: Sequence[wire.StoredFile],
        missing: List[Dict[str, Any]],
        skipped: List[Dict[str, str]],
    ) -> Sealed:
        with _as_answers():
            absent = [file.path for file in files if not self._is_stored(file)]
            if absent:
                raise Absent(absent)
            lost = [wire.MissingFile(entry["path"], entry["size"], entry["reason"]) for entry in missing]
            document = wire.seal_document(
                self._job,
                self._attempt,
                self._rank,
                exit,
                files,
                lost,
                skipped,
                sealed_at=utc_now(),
                sealed_by="server",
            )
            ours = self._write_seal(document)
            if not ours:
                document = read_json(self._seal)
            if any(file["path"] == wire.LOG_PATH for file in document["files"]):
                shutil.rmtree(self._place(wire.SEGMENT_PREFIX), ignore_errors=True)
            return Sealed(document["complete"], document["reason"], document["message"], ours)

    def _write_seal(self, document: Dict[str, Any]) -> bool:
        """Whether seal.json says this now. Written whole and then linked: a reader never sees half of it, and the
        first writer wins."""
        os.makedirs(self.prefix, exist_ok=True)
        handle, temporary = tempfile.mkstemp(dir=self.prefix, prefix=".seal.")
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(wire.json_bytes(document))
            os.chmod(temporary, 0o644)
            if hasattr(os, "link"):
                os.link(temporary, self._seal)
            else:
                os.rename(temporary, self._seal)
            return True
        except FileExistsError:
            return wire.same_seal(read_json(self._seal), document)
        finally:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(temporary)

    def _write(self, file: wire.StoredFile, content: Content) -> None:
        place = self._place(file.path)
        os.makedirs(os.path.dirname(place), exist_ok=True)
        handle, temporary = tempfile.mkstemp(dir=os.path.dirname(place), prefix=".stoker-")
        try:
            digest, size = hashlib.sha256(), 0
            with os.fdopen(handle, "wb") as target:
                for chunk in content():
                    target.write(chunk)
                    digest.update(chunk)
                    size += len(chunk)
            if (size, digest.hexdigest()) != (file.size, file.sha256):
                raise Refused("%s changed while it was saved" % file.path, 400, "BadDigest")
            os.chmod(temporary, 0o644)
            os.replace(temporary, place)
        finally:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(temporary)
        with self._lock:
            self._verified[file.path] = (_identity(place), file)

    def _is_stored(self, file: wire.StoredFile) -> bool:
        place = self._place(file.path)
        try:
            identity = _identity(place)
        except OSError:
            return False
        if self._verified.get(file.path) == (identity, file):
            return True
        digest = hashlib.sha256()
        with open(place, "rb") as stored:
            for chunk in iter(lambda: stored.read(1 << 20), b""):
                digest.update(chunk)
        return (identity[0], digest.hexdigest()) == (file.size, file.sha256)

    def _place(self, path: str) -> str:
        problem = wire.path_problem(path.rstrip("/"))
        if problem:
            raise Refused("%r: %s" % (path, problem), 400, "BadPath")
        return os.path.join(self.prefix, *path.rstrip("/").split("/"))


def _identity(path: str) -> _Identity:
    stat = os.stat(path)
    return stat.st_size, stat.st_mtime_ns, stat.st_ino


@contextlib.contextmanager
def _as_answers() -> Iterator[None]:
    """A full or absent disk may be there again later."""
    try:
        yield
    except OSError as error:
        raise Transient("the store's folder: %s" % error) from None
