"""What ship needs from the place where a rank's files go: one small promise, kept by the server and by a folder."""

from __future__ import annotations

from typing import Any, Callable, Dict, Iterator, List, NamedTuple, Optional, Protocol, Sequence

from stoker.runtime.wire import StoredFile

#: Yields the bytes of an object from its start, at every call afresh.
Content = Callable[[], Iterator[bytes]]


class Part(NamedTuple):
    """A part of a large file: number from 1, offset and size in bytes, hex sha256."""

    number: int
    offset: int
    size: int
    sha256: str


class Sealed(NamedTuple):
    """The answer to a request to seal. complete: what seal.json says; ours: whether it is the seal asked for; stands:
    whether there is any."""

    complete: bool
    reason: Optional[str]
    message: str
    ours: bool
    stands: bool = True


class Absent(Exception):
    """A seal was asked for files that are not in the store as described. paths: these files."""

    def __init__(self, paths: Sequence[str]) -> None:
        super().__init__("not in the store: %s" % ", ".join(paths))
        self.paths = tuple(paths)


class Transport(Protocol):
    """The store of one rank. Every call may be repeated. All raise web.Transient and web.Refused; a Refused with
    reason `Sealed` means that nothing will be taken any more. Safe to share between threads."""

    #: Files above this size go in parts.
    single_bytes: int
    part_bytes: int

    def put(self, files: Sequence[StoredFile], content: Callable[[StoredFile], Content]) -> Iterator[StoredFile]:
        """Store small files, and yield each as soon as the store has accepted it."""
        ...

    def begin(self, path: str) -> str:
        """Start a file in parts; returns its upload id."""
        ...

    def put_part(self, path: str, upload: str, part: Part, content: Content) -> str:
        """Store one part and return its etag."""
        ...

    def complete(self, path: str, upload: str, parts: Sequence[Part], etags: Sequence[str]) -> None:
        """Make the file out of its parts."""
        ...

    def abort(self, path: str, upload: str) -> None:
        """Forget a file in parts; an unknown upload is no error."""
        ...

    def seal(
        self,
        exit: Optional[Dict[str, Any]],
        files: Sequence[StoredFile],
        missing: List[Dict[str, Any]],
        skipped: List[Dict[str, str]],
    ) -> Sealed:
        """Close the rank. Raises Absent when a file is not in the store as described."""
        ...
