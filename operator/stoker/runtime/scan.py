"""Which files there are to save: one walk over outputs/ and logs/ of the working directory.

Nothing here follows a link out of the working directory, opens a file, or fails because a file is odd.
"""

from __future__ import annotations

import os
import stat
from typing import Dict, List, NamedTuple, Set, Tuple

from stoker.runtime import wire

#: Folders that never go up, wherever they lie.
_NEVER = frozenset((".git", ".stoker"))
#: Names under logs/ that belong to the run's own log; a file of the user's with such a name goes to logs/_user/.
_RESERVED = frozenset(("std_log.txt", ".segments", "_user"))
#: What the tracking server writes; it has a folder of its own in the store.
_METRICS = "logs/.metrics/"
_KINDS = (
    (stat.S_ISFIFO, "a FIFO"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISBLK, "a block device"),
    (stat.S_ISCHR, "a character device"),
)


class Found(NamedTuple):
    """A regular file. path: where it is stored, relative to the rank's prefix; source: where it is, relative to the
    working directory; stamp: size in bytes, modification time in ns, inode: alike twice = unchanged meanwhile."""

    path: str
    source: str
    stamp: Tuple[int, int, int]

    @property
    def size(self) -> int:
        return self.stamp[0]


class Scan(NamedTuple):
    """What one walk found. files: by stored path. skipped: what is no file, by path, with the reason. unsaved: files
    that cannot be saved, by path, with size and reason."""

    files: Dict[str, Found]
    skipped: Dict[str, str]
    unsaved: Dict[str, Tuple[int, str]]


def scan(work: str, roots: Tuple[str, ...] = ("outputs", "logs")) -> Scan:
    """Walk the folders `roots` below `work`. Missing folders are empty ones."""
    walk = _Walk(os.path.realpath(work), work, roots)
    for root in roots:
        walk.folder(root)
    return walk.result


class _Walk:
    def __init__(self, real: str, work: str, roots: Tuple[str, ...]) -> None:
        self._real, self._work, self._roots = real, work, roots
        self._followed: Set[str] = set()
        self.result = Scan({}, {}, {})

    def folder(self, top: str, real_top: str = "") -> None:
        """Walk one folder; `real_top` is where it is when `top` is a link to it."""
        pending: List[Tuple[str, str]] = [(top, real_top or top)]
        while pending:
            shown, real = pending.pop()
            try:
                with os.scandir(os.path.join(self._work, *real.split("/"))) as entries:
                    for entry in entries:
                        self._entry(entry, shown + "/" + entry.name, real + "/" + entry.name, pending)
            except FileNotFoundError:
                continue
            except OSError as error:
                self.result.unsaved[wire.storable_path(shown)] = (0, "Unreadable: %s" % error.strerror)

    def _entry(self, entry: "os.DirEntry[str]", shown: str, real: str, pending: List[Tuple[str, str]]) -> None:
        try:
            if entry.is_symlink():
                self._link(shown, real, pending)
            elif not entry.is_dir(follow_symlinks=False):
                self._file(shown, real, entry.stat(follow_symlinks=False))
            elif entry.name in _NEVER:
                self.result.skipped[wire.storable_path(shown)] = "%s folders are never saved" % entry.name
            else:
                pending.append((shown, real))
        except FileNotFoundError:
            return
        except OSError as error:
            self.result.unsaved[wire.storable_path(shown)] = (0, "Unreadable: %s" % error.strerror)

    def _link(self, shown: str, real: str, pending: List[Tuple[str, str]]) -> None:
        skipped, path = self.result.skipped, wire.storable_path(shown)
        full = os.path.join(self._work, *real.split("/"))
        try:
            status = os.stat(full)
        except OSError:
            skipped[path] = "a link that leads nowhere (%s)" % os.readlink(full)
            return
        target = os.path.realpath(full)
        if not target.startswith(self._real + os.sep):
            skipped[path] = "a link that leads out of the working directory (%s)" % os.readlink(full)
        elif stat.S_ISREG(status.st_mode):
            self._file(shown, os.path.relpath(target, self._real).replace(os.sep, "/"), status)
        elif stat.S_ISDIR(status.st_mode):
            inside = os.path.relpath(target, self._real).replace(os.sep, "/")
            if inside.split("/")[0] in self._roots or target in self._followed or self._holds_a_root(inside):
                skipped[path] = "a link to the folder %s" % inside
            else:
                self._followed.add(target)
                pending.append((shown, inside))
        else:
            skipped[path] = "a link to what is no file"

    def _holds_a_root(self, folder: str) -> bool:
        return folder == "." or any(root.startswith(folder + "/") for root in self._roots)

    def _file(self, shown: str, real: str, status: os.stat_result) -> None:
        path = _stored_path(shown)
        for is_kind, words in _KINDS:
            if is_kind(status.st_mode):
                self.result.skipped[path] = words
                return
        if len(path.encode("utf-8")) > wire.MAX_PATH_BYTES:
            self.result.unsaved[path] = (status.st_size, "NameTooLong: over %d bytes" % wire.MAX_PATH_BYTES)
        elif path in self.result.files and self.result.files[path].source != real:
            self.result.unsaved[path + "%2"] = (status.st_size, "NameClash: another file is stored as %s" % path)
        else:
            self.result.files[path] = Found(path, real, (status.st_size, status.st_mtime_ns, status.st_ino))


def _stored_path(shown: str) -> str:
    path = wire.storable_path(shown)
    if path.startswith(_METRICS):
        return "metrics/" + path[len(_METRICS) :]
    root, _, rest = path.partition("/")
    if root == "logs" and rest.split("/")[0].casefold() in _RESERVED:
        return "logs/_user/" + rest
    return path
