"""Opening files that the training process may swap under our hands, without ever leaving a folder.

The agent's containers can read things that the training container cannot (their token). A link or a renamed folder
must not make them send those, so every name on the way is opened by itself, relative to its folder and without
following links; links are followed by hand and only inside the folder (what Linux' openat2 calls RESOLVE_BENEATH).
"""

from __future__ import annotations

import errno
import os
import stat
from typing import List

_HAS_DIR_FD = os.open in os.supports_dir_fd and hasattr(os, "O_NOFOLLOW")
_READ = os.O_RDONLY | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0) | getattr(os, "O_NONBLOCK", 0)
_MAX_LINKS = 40


class LeavesFolder(OSError):
    """The path leads out of the folder by `..` or by a link."""


def open_beneath(root: str, path: str, follow: bool = False) -> int:
    """A descriptor, for reading, of `path` (with `/`) below the folder `root`.

    follow: whether links are followed, as long as they stay below root; otherwise a link anywhere in the path is
    an OSError (ELOOP). Never blocks on a FIFO. Raises OSError; LeavesFolder when the path leads out of root.
    """
    if not _HAS_DIR_FD:
        return _open_checked(root, path, follow)
    folders = [os.open(root, _READ | os.O_DIRECTORY)]
    pending, links = path.split("/")[::-1], 0
    try:
        while pending:
            part = pending.pop()
            if part in ("", "."):
                continue
            if part == "..":
                if len(folders) == 1:
                    raise LeavesFolder(errno.EXDEV, "leads out of %s" % root, path)
                os.close(folders.pop())
                continue
            try:
                folders.append(os.open(part, _READ | os.O_NOFOLLOW, dir_fd=folders[-1]))
            except OSError as error:
                if error.errno not in (errno.ELOOP, errno.EMLINK) or not follow:
                    raise
                links += 1
                if links > _MAX_LINKS:
                    raise
                pending.extend(_target(root, os.readlink(part, dir_fd=folders[-1]), folders, path))
        return folders.pop()
    finally:
        for folder in folders:
            os.close(folder)


def open_file_beneath(root: str, path: str) -> int:
    """Like `open_beneath` without following links, and only for a regular file; anything else is an OSError."""
    descriptor = open_beneath(root, path)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(errno.EINVAL, "is no regular file", path)
    return descriptor


def _target(root: str, target: str, folders: List[int], path: str) -> List[str]:
    """The parts of a link's target, last first; an absolute target below root starts again at root."""
    if target.startswith("/"):
        inside = os.path.normpath(target)
        if inside != root and not inside.startswith(root.rstrip("/") + "/"):
            raise LeavesFolder(errno.EXDEV, "links to %s, outside of %s" % (target, root), path)
        while len(folders) > 1:
            os.close(folders.pop())
        target = inside[len(root) :]
    return target.split("/")[::-1]


def _open_checked(root: str, path: str, follow: bool) -> int:
    """For systems without directory descriptors: the resolved path is compared, as well as that can be done."""
    full = os.path.join(root, *path.split("/"))
    resolved = os.path.realpath(full)
    base = os.path.realpath(root)
    if os.path.commonpath([base, resolved]) != base:
        raise LeavesFolder(errno.EXDEV, "leads out of %s" % root, path)
    if not follow and os.path.normcase(resolved) != os.path.normcase(os.path.join(base, *path.split("/"))):
        raise OSError(errno.ELOOP, "is a link", path)
    return os.open(resolved, _READ)
