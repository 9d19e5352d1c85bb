"""What ship has had accepted, on the scratch volume, so that a ship that was killed goes on where it was.

One JSON object per line, only ever appended; a last line that was cut off by a kill is dropped. Loss of a line costs
a second upload of the same bytes and nothing else, so nothing is synced.
"""

from __future__ import annotations

import contextlib
import json
import os
import threading
from typing import Any, Dict, List, NamedTuple, Optional, Tuple

from stoker.runtime.wire import StoredFile

Stamp = Tuple[int, int, int]


class Saved(NamedTuple):
    """A file as it was when the store accepted it. carried: it lay there before the command and is not an output."""

    stamp: Stamp
    file: StoredFile
    carried: bool = False


class Upload(NamedTuple):
    """A file in parts that is under way: etags and digests of the parts that were accepted, by part number."""

    stamp: Stamp
    upload: str
    part_bytes: int
    done: Dict[int, Tuple[str, str]]


class Journal:
    """The journal of one rank in a folder. Safe to share between threads."""

    def __init__(self, folder: str) -> None:
        os.makedirs(folder, exist_ok=True)
        self._path = os.path.join(folder, "journal.jsonl")
        self._lock = threading.Lock()
        self.saved: Dict[str, Saved] = {}
        self.uploads: Dict[str, Upload] = {}
        #: Uploads in parts that are to be aborted: the file changed or went.
        self.stale_uploads: List[Tuple[str, str]] = []
        #: Bytes of the log that are stored in pieces.
        self.log_offset = 0
        self._read()
        self._file = open(self._path, "ab", buffering=0)  # noqa: SIM115 - kept open as long as the journal is used

    def close(self) -> None:
        self._file.close()

    def save(self, path: str, saved: Saved) -> None:
        with self._lock:
            self._take(path, saved)
            self._write(
                {
                    "saved": path,
                    "stamp": saved.stamp,
                    "size": saved.file.size,
                    "sha256": saved.file.sha256,
                    "carried": saved.carried,
                }
            )

    def forget(self, path: str) -> None:
        """The store does not have the file after all."""
        with self._lock:
            if self.saved.pop(path, None) is not None:
                self._write({"forgotten": path})

    def log_stored(self, offset: int) -> None:
        with self._lock:
            self.log_offset = offset
            self._write({"log": offset})

    def begin(self, path: str, upload: Upload) -> None:
        with self._lock:
            self.uploads[path] = upload
            self._write({"begun": path, "stamp": upload.stamp, "upload": upload.upload, "part": upload.part_bytes})

    def part(self, path: str, number: int, etag: str, sha256: str) -> None:
        with self._lock:
            self.uploads[path].done[number] = (etag, sha256)
            self._write({"part": path, "number": number, "etag": etag, "sha256": sha256})

    def drop(self, path: str) -> None:
        """The upload in parts is of no use any more; it has to be aborted."""
        with self._lock:
            upload = self.uploads.pop(path, None)
            if upload is not None:
                self.stale_uploads.append((path, upload.upload))
                self._write({"dropped": path, "upload": upload.upload})

    def aborted(self, path: str, upload: str) -> None:
        with self._lock:
            with contextlib.suppress(ValueError):
                self.stale_uploads.remove((path, upload))
            self._write({"aborted": path, "upload": upload})

    def _take(self, path: str, saved: Saved) -> None:
        self.saved[path] = saved
        upload = self.uploads.pop(path, None)
        if upload is not None and upload.stamp != saved.stamp:
            # The parts were of another state of the file.
            self.stale_uploads.append((path, upload.upload))

    def _write(self, entry: Dict[str, Any]) -> None:
        # A full disk must not stop the saving: what cannot be noted is only sent twice.
        with contextlib.suppress(OSError):
            self._file.write(json.dumps(entry).encode("ascii") + b"\n")

    def _read(self) -> None:
        try:
            with open(self._path, "rb") as file:
                for line in file:
                    entry = _parse(line)
                    if entry is not None:
                        with contextlib.suppress(KeyError, TypeError, ValueError):
                            self._apply(entry)
        except FileNotFoundError:
            return
        # Ends a line that was cut off, so that the next one stands by itself; on a full disk both are lost.
        with contextlib.suppress(OSError), open(self._path, "ab") as file:
            file.write(b"\n")

    def _apply(self, entry: Dict[str, Any]) -> None:
        if "saved" in entry:
            path = entry["saved"]
            saved = Saved(
                _stamp(entry["stamp"]),
                StoredFile(path, int(entry["size"]), str(entry["sha256"])),
                bool(entry["carried"]),
            )
            self._take(path, saved)
        elif "forgotten" in entry:
            self.saved.pop(entry["forgotten"], None)
        elif "log" in entry:
            self.log_offset = int(entry["log"])
        elif "begun" in entry:
            self.uploads[entry["begun"]] = Upload(_stamp(entry["stamp"]), entry["upload"], int(entry["part"]), {})
        elif "part" in entry:
            self.uploads[entry["part"]].done[int(entry["number"])] = (entry["etag"], entry["sha256"])
        elif "dropped" in entry:
            self.uploads.pop(entry["dropped"], None)
            self.stale_uploads.append((entry["dropped"], entry["upload"]))
        elif "aborted" in entry:
            self.stale_uploads.remove((entry["aborted"], entry["upload"]))


def _stamp(value: Any) -> Stamp:
    size, modified, inode = value
    return int(size), int(modified), int(inode)


def _parse(line: bytes) -> Optional[Dict[str, Any]]:
    try:
        entry = json.loads(line.decode("ascii"))
    except ValueError:
        return None
    return entry if isinstance(entry, dict) else None
