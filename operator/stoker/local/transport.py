"""Any object store as the place where a rank's files go: what the server does for a pod, done by the local run itself."""

import asyncio
import hashlib
import os
import tempfile
import threading
from collections.abc import Callable, Coroutine, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

from stoker.runtime import wire
from stoker.runtime.layout import utc_now
from stoker.runtime.transport import Absent, Content, Part, Sealed
from stoker.runtime.web import Refused, Transient
from stoker.storage import layout
from stoker.storage.objects import ObjectStore, StoreRefused, StoreUnavailable

T = TypeVar("T")

#: Content up to this size (bytes) is sent from memory, more from a file on disk.
_IN_MEMORY = 8 << 20


class StoreTransport:
    """Stores a rank's files below `jobs/<job>/attempts/<attempt>/<rank>/` of a store. Safe to share between threads."""

    single_bytes = 1 << 62
    part_bytes = 1 << 62

    def __init__(self, store: ObjectStore, loop: "LoopThread", job: str, attempt: int, rank: int) -> None:
        self._store, self._loop = store, loop
        self._job, self._attempt, self._rank = job, attempt, rank
        self._prefix = layout.rank_prefix(job, attempt, rank)

    def put(
        self, files: Sequence[wire.StoredFile], content: Callable[[wire.StoredFile], Content]
    ) -> Iterator[wire.StoredFile]:
        for file in files:
            self._put(file, content(file))
            yield file

    def _put(self, file: wire.StoredFile, content: Content) -> None:
        problem = layout.rank_path_problem(file.path)
        if problem:
            raise Refused(f"{file.path}: {problem}", 400, "BadPath")
        with tempfile.TemporaryFile() if file.size <= _IN_MEMORY else tempfile.NamedTemporaryFile(delete=False) as copy:
            try:
                digest, size = hashlib.sha256(), 0
                for chunk in content():
                    digest.update(chunk)
                    size += len(chunk)
                    copy.write(chunk)
                if (size, digest.hexdigest()) != (file.size, file.sha256):
                    raise Refused(f"{file.path} changed while it was saved", 400, "BadDigest")
                copy.flush()
                if file.size <= _IN_MEMORY:
                    copy.seek(0)
                    body: bytes | Path = copy.read()
                else:
                    body = Path(copy.name)
                self._do(self._store.put(self._prefix + file.path, body))
            finally:
                if file.size > _IN_MEMORY:
                    copy.close()
                    os.unlink(copy.name)

    def begin(self, path: str) -> str:
        raise AssertionError("the store's own client sends large files in parts")

    def put_part(self, path: str, upload: str, part: Part, content: Content) -> str:
        raise AssertionError("the store's own client sends large files in parts")

    def complete(self, path: str, upload: str, parts: Sequence[Part], etags: Sequence[str]) -> None:
        raise AssertionError("the store's own client sends large files in parts")

    def abort(self, path: str, upload: str) -> None:
        raise AssertionError("the store's own client sends large files in parts")

    def seal(
        self, exit: dict[str, Any] | None, files: Sequence[wire.StoredFile], missing: list[dict[str, Any]],
        skipped: list[dict[str, str]],
    ) -> Sealed:  # fmt: skip
        return self._do(self._seal(exit, files, missing, skipped))

    async def _seal(
        self, exit: dict[str, Any] | None, files: Sequence[wire.StoredFile], missing: list[dict[str, Any]],
        skipped: list[dict[str, str]],
    ) -> Sealed:  # fmt: skip
        from stoker.storage import records

        stored = {one.key[len(self._prefix) :]: one.size async for one in self._store.list(self._prefix)}
        absent = [file.path for file in files if stored.get(file.path) != file.size]
        if absent:
            raise Absent(absent)
        lost = [wire.MissingFile(one["path"], one["size"], one["reason"]) for one in missing]
        document = wire.seal_document(
            self._job, self._attempt, self._rank, exit, files, lost, skipped, sealed_at=utc_now(), sealed_by="server"
        )
        ours = await self._store.put(
            layout.seal(self._job, self._attempt, self._rank), wire.json_bytes(document), only_if_absent=True
        )
        if not ours:
            standing = await records.read_seal(self._store, self._job, self._attempt, self._rank)
            assert standing is not None
            ours = wire.same_seal(dict(standing), document)
            document = dict(standing)
        if wire.LOG_PATH in stored:
            await self._store.delete([self._prefix + path for path in stored if path.startswith(layout.SEGMENTS)])
        return Sealed(document["complete"], document["reason"], document["message"], ours)

    def _do(self, work: Coroutine[Any, Any, T]) -> T:
        try:
            return self._loop.run(work)
        except StoreUnavailable as error:
            raise Transient(str(error)) from error
        except StoreRefused as error:
            raise Refused(str(error), 403, error.code or "StoreRefused") from error


class LoopThread:
    """An event loop in a thread of its own, for code without one. Use as a context manager."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="store", daemon=True)

    def __enter__(self) -> "LoopThread":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        # After a Ctrl-C there may be work that nobody waits for any more.
        self.run(_cancel_others())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Do the work on the loop and wait for it; from any other thread."""
        return asyncio.run_coroutine_threadsafe(work, self._loop).result()


async def _cancel_others() -> None:
    others = asyncio.all_tasks() - {asyncio.current_task()}
    for task in others:
        task.cancel()
    await asyncio.gather(*others, return_exceptions=True)
