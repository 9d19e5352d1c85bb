"""Runs that were kept in a store by local runs: listed, read, pulled. And which of them still runs on this machine."""

import os
import sys
from collections.abc import Callable, Iterator, Set
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

from stoker.core.retention import Plan, Policy, is_young
from stoker.local import shorts
from stoker.local.locks import try_lock
from stoker.storage import layout, records, removal, snapshots
from stoker.storage.hashing import cache_folder
from stoker.storage.objects import ObjectStore, open_store, run, split_file_url

#: How a run ended whose end nobody stored.
INTERRUPTED = "Interrupted"


class Kept:
    """The runs below one storage URL."""

    def __init__(self, url: str) -> None:
        self.url = url.rstrip("/")
        self.store: ObjectStore = open_store(self.url)

    def jobs(self, warn: Callable[[str], None]) -> list[dict[str, Any]]:
        """[{"key", "job", "result"}] in their short form (`shorts`), oldest first; as the server tells it of a cluster's runs.
        warn: takes one line for each run whose record cannot be read; the others are listed all the same."""
        known, found, ended = shorts.remembered(self.url), [], []
        for key in run(records.job_keys(self.store)):
            if (one := known.get(key)) is not None:
                found.append(one)
                continue
            try:
                record = self.job(key)
            except records.BadRecord as error:
                warn(f"{key} is not listed: {error}")
                continue
            if record is None:
                continue
            found.append(line := shorts.short(record))
            if record["result"] is not None and record["result"].get("reason") != INTERRUPTED:
                ended.append(line)
        shorts.remember(self.url, ended)
        return sorted(found, key=lambda one: (one["job"]["submittedAt"], one["key"]))

    def job(self, key: str) -> dict[str, Any] | None:
        """One run; a run without a result that no longer runs is told as Failed, Interrupted."""
        job, result = run(self._read(key))
        if job is None:
            return None
        if result is None and not is_running(key):
            result = _interrupted(job)
        return {"key": key, "job": job, "result": result, "storage": f"{self.url}/jobs/{key}"}

    async def _read(self, key: str) -> tuple[dict[str, Any] | None, dict[str, Any] | None]:
        job = await records.read_job(self.store, key)
        result = await records.read_result(self.store, key) if job is not None else None
        return (dict(job) if job is not None else None), (dict(result) if result is not None else None)

    def manifest(self, digest: str) -> bytes | None:
        """The manifest of a snapshot that a run kept; None where there is none."""
        return run(snapshots.manifest_text(self.store, digest))

    def keys(self) -> list[str]:
        """The keys of all runs, sorted by name."""
        return run(records.job_keys(self.store))

    def files(self, key: str) -> list[dict[str, Any]]:
        """Every stored file of a run, as the server tells it."""
        return run(self._files(key))

    async def _files(self, key: str) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = []
        for attempt, rank in await records.ranks(self.store, key):
            seal = await records.read_seal(self.store, key, attempt, rank)
            if seal is not None:
                found += [{**file, "attempt": attempt, "rank": rank, "sealed": True} for file in seal["files"]]
                continue
            prefix = layout.rank_prefix(key, attempt, rank)
            async for one in self.store.list(prefix):
                path = one.key[len(prefix) :]
                if layout.rank_path_problem(path) is None and not path.startswith(layout.SEGMENTS):
                    found.append(
                        {
                            "path": path,
                            "size": one.size,
                            "sha256": None,
                            "attempt": attempt,
                            "rank": rank,
                            "sealed": False,
                        }
                    )
        return found

    def log(self, key: str, attempt: int, rank: int, offset: int) -> tuple[bytes, bool]:
        """Bytes of a rank's log from an offset on, and whether it ends there."""
        piece = run(records.read_log(self.store, key, attempt, rank, offset))
        return piece.content, piece.complete

    def content(self, key: str, attempt: int, rank: int, path: str) -> bytes:
        """A stored file, whole; empty where there is none."""
        found = run(self.store.get(layout.rank_prefix(key, attempt, rank) + path))
        return found or b""

    def copy(self, key: str, attempt: int, rank: int, path: str, start: int, target: Path) -> None:
        """Append a stored file from byte `start` on to a local file."""
        run(self._copy(layout.rank_prefix(key, attempt, rank) + path, start, target))

    async def _copy(self, key: str, start: int, target: Path) -> None:
        with target.open("ab") as file:
            async for piece in self.store.stream(key, start):
                file.write(piece)

    # -- Removal.

    def contents(self) -> removal.Contents:
        """Every run and snapshot that is kept."""
        return run(removal.contents(self.store))

    def plan(self, found: removal.Contents, policy: Policy, now: float, live: Set[str], named: Set[str]) -> Plan:
        """What of the contents goes. live: keys of runs that exist elsewhere; those of this machine are found here."""
        here = {one.key for one in found.runs if is_running(one.key)}
        return run(removal.make_plan(self.store, found, policy, now, live | here, named))

    def why_not(self, key: str, now: float) -> tuple[str, str] | None:
        """Why a run may not be removed, and what to do; None when it may."""
        if is_running(key):
            return f"{key} is running", f"end it first: stoker cancel {key}"
        found = run(removal.run_of(self.store, key))
        if found is None or found[0].removing:
            return None
        namespace = found[1]
        if namespace is not None:
            return f"{key} is a run of namespace {namespace}", f"remove it there: stoker rm {key} -n {namespace}"
        if found[0].finished_at is None and not self.url.startswith("file:"):
            last = run(removal.last_written(self.store, key))
            if last is not None and is_young(last, now):
                return f"{key} has no result and may run on another machine", "ask again 24 h after its last write"
        return None

    def remove(self, key: str) -> removal.Removed:
        """Remove all of a run."""
        self._unpoint(key)
        return run(removal.remove_run(self.store, key))

    def sweep(self, digest: str, now: float) -> bool:
        """Remove a snapshot; False when it was written again and stays."""
        return run(removal.remove_snapshot(self.store, digest, now))

    def _unpoint(self, key: str) -> None:
        """`jobs/<name>` must not lead to a run that is gone."""
        if not self.url.startswith("file:"):
            return
        link = split_file_url(self.url) / "jobs" / layout.split_job_key(key)[0]
        if link.is_symlink() and link.readlink().parts[:1] == (key,):
            link.unlink()


def _interrupted(job: dict[str, Any]) -> dict[str, Any]:
    return {
        "name": job["name"], "phase": "Failed", "reason": INTERRUPTED, "exitCode": None, "startedAt": None, "finishedAt": None,
        "message": "the run has no stored end: stoker was killed, or its store could not be written; what was saved is kept",
        "timings": {}, "attempts": [], "outputs": [],
    }  # fmt: skip


# -- What runs now.


def _note(key: str) -> Path:
    return cache_folder().parent / "running" / key


@contextmanager
def running(key: str, warn: Callable[[str], None]) -> Iterator[None]:
    """While inside, `is_running` says so of this run: its note is locked, so a note that outlived its run says nothing.
    warn: takes a line when that cannot be."""
    note = _note(key)
    with ExitStack() as held:
        try:
            note.parent.mkdir(parents=True, exist_ok=True)
            _sign(note, held)
        except OSError as error:
            warn(
                f"that this run runs cannot be written to {note.parent} ({error.strerror}): `stoker ls` will call it "
                "Interrupted, `cancel` will not find it and `rm` would take it away; make that folder writable, or set "
                "XDG_CACHE_HOME"
            )
        try:
            yield
        finally:
            with suppress(OSError):
                note.unlink(missing_ok=True)


def process_of(key: str) -> int | None:
    """The process that runs this run, by the number it has here. None when nobody runs it, and when who runs it is not
    to be seen from here: a cache folder may be shared with containers, whose processes have other numbers."""
    if not is_running(key):
        return None
    try:
        pid, *start = _note(key).read_text().split()
        return int(pid) if not start or _start_of(int(pid)) == start[0] else None
    except (OSError, ValueError):
        return None


def _start_of(pid: int) -> str | None:
    """When a process started (clock ticks since the machine's start), or None without such a process or without /proc."""
    try:
        # The program's name stands in brackets and may hold anything, brackets too.
        return Path("/proc", str(pid), "stat").read_text(errors="replace").rpartition(")")[2].split()[19]
    except (OSError, IndexError):
        return None


if sys.platform == "win32":

    def _sign(note: Path, held: ExitStack) -> None:
        note.write_text(str(os.getpid()))  # not held open: an open file cannot be removed

    def is_running(key: str) -> bool:
        """Whether this run runs now, here or in a container of this machine."""
        import ctypes

        try:
            pid = int(_note(key).read_text())
        except (OSError, ValueError):
            return False
        handle = ctypes.windll.kernel32.OpenProcess(0x1000, False, pid)  # PROCESS_QUERY_LIMITED_INFORMATION
        if handle:
            ctypes.windll.kernel32.CloseHandle(handle)
        return bool(handle)

else:

    def _sign(note: Path, held: ExitStack) -> None:
        """Write who we are into a note that stays locked while `held` is."""
        file = held.enter_context(note.open("a+"))
        # Who asks just now shares it for a moment; nobody else runs this run.
        try_lock(file.fileno(), wait=True)
        file.truncate(0)
        file.write(f"{os.getpid()} {_start_of(os.getpid()) or ''}".rstrip())
        file.flush()

    def is_running(key: str) -> bool:
        """Whether this run runs now, here or in a container of this machine."""
        try:
            with _note(key).open("rb") as file:
                return not try_lock(file.fileno(), wait=False, shared=True)
        except OSError:
            return False
