"""The init container: brings code, inputs and checkpoints, and lays out what launch needs.

It does all or nothing: what went wrong is said in one sentence on stderr, in the termination message, and in the
exit record, so that ship seals it as the reason of the attempt.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import signal
import sys
import time
from typing import Any, Callable, Dict, List, Mapping, NamedTuple, Optional, Tuple

from stoker.runtime import build, held, userlogs, wire
from stoker.runtime.configure import pod_config, write_config
from stoker.runtime.download import Downloads, Wanted
from stoker.runtime.grants import Server
from stoker.runtime.layout import Scratch, human_bytes, utc_now, write_atomic, write_json, write_termination_message
from stoker.runtime.unpack import UnpackRefused, check_manifest, largest_archive, unpack
from stoker.runtime.web import Refused, Transient, patiently

CHECKPOINTS = "outputs/checkpoints/"
#: How long the server or the store may be away before the attempt ends.
_PATIENCE_SECONDS = 3600.0


class FetchFailed(Exception):
    """The attempt cannot start. reason: CamelCase."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


class Fetched(NamedTuple):
    """What came: files and bytes in all."""

    files: int
    size: int


class Fetch:
    """One attempt's start. patience: seconds that server and store may be away in all. say: takes one line.
    disk_bytes: what the run may put on disk, besides what its record says; None: no more than that."""

    def __init__(
        self,
        scratch: Scratch,
        server: Server,
        attempt: int,
        rank: int,
        patience: float = _PATIENCE_SECONDS,
        say: Callable[[str], None] = lambda line: None,
        disk_bytes: Optional[int] = None,
    ) -> None:
        self._disk_bytes = disk_bytes
        self._scratch, self._server, self._attempt, self._rank, self._say = scratch, server, attempt, rank, say
        self._deadline = time.monotonic() + patience
        self._downloads = Downloads(server, self._deadline, say)
        self._count, self._bytes = 0, 0

    def run(self) -> Fetched:
        """Make the scratch folder ready. Raises FetchFailed."""
        try:
            return self._run()
        except UnpackRefused as error:
            raise FetchFailed(error.reason, str(error)) from None
        except Transient as error:
            raise FetchFailed("ServerUnavailable", "gave up after trying for long: %s" % error) from None
        except Refused as error:
            raise FetchFailed(error.reason or "Refused", str(error)) from None
        except wire.WireError as error:
            raise FetchFailed("BadAnswer", str(error)) from None
        except OSError as error:
            raise FetchFailed("ScratchUnusable", "scratch at %s: %s" % (self._scratch.root, error)) from None

    def _run(self) -> Fetched:
        scratch = self._scratch
        scratch.make()
        granted = patiently(self._server.grant, self._deadline, self._say)
        if (granted["attempt"], granted["rank"]) != (self._attempt, self._rank):
            raise FetchFailed(
                "WrongGrant",
                "the grant is for attempt %s rank %s, this pod is attempt %d rank %d"
                % (granted["attempt"], granted["rank"], self._attempt, self._rank),
            )
        job = granted["job"]
        write_json(scratch.job, job)
        entries = self._snapshot(job["snapshot"], scratch.work) if job.get("snapshot") else ()
        single_files = self._inputs(job.get("inputs") or {})
        restored = self._checkpoints(job["key"]) if self._attempt > 1 and job.get("restore") != "Nothing" else {}
        make_output_folders(scratch.work, job.get("outputs") or {})
        write_json(scratch.carried, {**carried_by_snapshot(entries), **restored})
        config = pod_config(job, scratch, single_files, self._attempt)
        if self._disk_bytes is not None:
            config = config._replace(scratch_bytes=min(self._disk_bytes, config.scratch_bytes or self._disk_bytes))
        write_config(scratch, config)
        if granted.get("gangKey"):
            write_atomic(scratch.gang_key, str(granted["gangKey"]).encode("ascii"), 0o600)
        build.install(scratch.agent, scratch.launcher)
        return Fetched(self._count, self._bytes)

    # Snapshots

    def _snapshot(self, digest: str, destination: str) -> Tuple[wire.Entry, ...]:
        kind, _, hexadecimal = digest.partition(":")
        stem = "snapshots/%s/%s" % (kind, hexadecimal)
        manifest = self._downloads.content(stem + ".manifest")
        entries = check_manifest(manifest, digest)
        archive = os.path.join(self._scratch.tmp, hexadecimal + ".zip")
        try:
            self._downloads.file(stem + ".zip", archive, most=largest_archive(entries))
            unpack(manifest, archive, destination, digest)
        finally:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(archive)
        self._count += len(entries)
        self._bytes += sum(entry.size for entry in entries)
        return entries

    # Inputs

    def _inputs(self, inputs: Mapping[str, Mapping[str, Any]]) -> Dict[str, str]:
        """Bring every input; the paths of those that are one file."""
        single: Dict[str, str] = {}
        for name, given in sorted(inputs.items()):
            # A secret the kubelet hands to the command itself.
            if given.get("type") in ("literal", "secret"):
                continue
            if wire.path_problem(name) or "/" in name:
                raise FetchFailed("BadInput", "inputs: %r cannot name a folder" % name)
            folder = os.path.join(self._scratch.inputs, name)
            os.makedirs(folder, exist_ok=True)
            if given.get("snapshot"):
                paths = [entry.path for entry in self._snapshot(given["snapshot"], folder)]
            else:
                paths = self._input_files(name, given.get("files") or [], folder)
            if given.get("type") == "uri_file":
                if len(paths) != 1:
                    raise FetchFailed(
                        "BadInput",
                        "inputs.%s: a uri_file is one file, %s has %d; make it a uri_folder"
                        % (name, given.get("source"), len(paths)),
                    )
                single[name] = os.path.join(folder, paths[0])
        return single

    def _input_files(self, name: str, files: List[Mapping[str, Any]], folder: str) -> List[str]:
        for file in files:
            problem = wire.path_problem(file["path"])
            if problem:
                raise FetchFailed("BadInput", "inputs.%s: %r: %s" % (name, file["path"], problem))
        self._bring(
            [Wanted(file["key"], _below(folder, file["path"]), int(file["size"])) for file in files], "inputs.%s" % name
        )
        return [file["path"] for file in files]

    def _bring(self, wanted: List[Wanted], what: str) -> None:
        size = sum(one.size for one in wanted)
        self._downloads.require_space(size, self._scratch.root, what)
        self._downloads.files(wanted)
        self._count += len(wanted)
        self._bytes += size

    # Checkpoints

    def _checkpoints(self, job: str) -> Dict[str, Dict[str, Any]]:
        """Bring back `outputs/checkpoints` of the newest former attempt that saved any, and return what lies there
        on another rank's account (so that this rank does not save it again)."""
        for attempt in range(self._attempt - 1, 0, -1):
            own = self._sealed_checkpoints(job, attempt, self._rank)
            # Most scripts save on rank 0 alone and load on every rank.
            first = self._sealed_checkpoints(job, attempt, 0) if self._rank else {}
            chosen = {**first, **own}
            if not chosen:
                continue
            work = self._scratch.work
            self._bring([one._replace(path=_below(work, path)) for path, one in chosen.items()], "checkpoints")
            self._say("restored %d checkpoint files of attempt %d" % (len(chosen), attempt))
            return {path: {"size": one.size, "sha256": one.sha256} for path, one in first.items() if path not in own}
        return {}

    def _sealed_checkpoints(self, job: str, attempt: int, rank: int) -> Dict[str, Wanted]:
        prefix = "jobs/%s/attempts/%d/%d/" % (job, attempt, rank)
        content = self._downloads.content_or_none(prefix + "seal.json")
        if content is None:
            return {}
        sealed = wire.stored_files(wire.json_object(content).get("files") or [])
        return {
            file.path: Wanted(prefix + file.path, "", file.size, file.sha256)
            for file in sealed
            if file.path.startswith(CHECKPOINTS)
        }


def _below(folder: str, path: str) -> str:
    return os.path.join(folder, *path.split("/"))


def make_output_folders(work: str, outputs: Mapping[str, Mapping[str, Any]]) -> None:
    """Make outputs/ and logs/ in the working directory, and what the named outputs need: a folder has to be there, a file's
    folder too. outputs: as job.json has them. Raises FetchFailed when the code has a file in such a place."""
    wanted = ["outputs", "logs"]
    wanted += ["outputs/" + name for name, one in sorted(outputs.items()) if one.get("type") != "uri_file"]
    for name in wanted:
        try:
            os.makedirs(_below(work, name), exist_ok=True)
        except FileExistsError:
            raise FetchFailed(
                "BadSnapshot",
                "the code has a file called %r, where the folder ./%s has to be; rename it" % (name, name),
            ) from None
    userlogs.show(work)


def carried_by_snapshot(entries: Tuple[wire.Entry, ...]) -> Dict[str, Dict[str, Any]]:
    """What a snapshot brings into outputs/ and logs/, as run/carried.json has it: unchanged it is no output."""
    return {
        entry.path: {"size": entry.size, "sha256": entry.sha256}
        for entry in entries
        if not entry.is_link and entry.path.startswith(("outputs/", "logs/"))
    }


def main(arguments: List[str]) -> int:
    """`fetch`: exit code 0 when launch can start."""
    env = os.environ
    parser = argparse.ArgumentParser(prog="fetch", description="Bring code, inputs and checkpoints of a run.")
    parser.add_argument("--dir", default=env.get("STOKER_DIR") or "/stoker", help="the scratch folder")
    parser.add_argument("--attempt", type=int, default=int(env.get("STOKER_ATTEMPT") or 1))
    parser.add_argument("--rank", type=int, default=int(env.get("STOKER_RANK") or 0))
    parser.add_argument("--server", default=env.get("STOKER_SERVER"), help="URL of the server")
    parser.add_argument("--token-file", default=env.get("STOKER_TOKEN_FILE") or "/var/run/stoker/token")
    options = parser.parse_args(arguments)
    if not options.server:
        parser.error("give the server's URL: STOKER_SERVER or --server")
    # The first process of a container has no default actions: without a handler SIGTERM does nothing at all, and a pod
    # that is deleted while it fetches stays for the whole grace period. What is half brought is nobody's.
    signal.signal(signal.SIGTERM, lambda number, _frame: os._exit(128 + number))
    held.release()
    scratch, begun = Scratch(options.dir), time.monotonic()
    patience = float(env.get("STOKER_FETCH_PATIENCE_SECONDS") or _PATIENCE_SECONDS)
    server = Server(options.server, options.token_file)
    disk_bytes = int(env["STOKER_SCRATCH_BYTES"]) if env.get("STOKER_SCRATCH_BYTES") else None
    try:
        fetched = Fetch(scratch, server, options.attempt, options.rank, patience, _say, disk_bytes).run()
    except FetchFailed as error:
        _say("%s: %s" % (error.reason, error))
        record_failure(scratch, error.reason, str(error))
        return 1
    _say("%d files, %s in %.1f s" % (fetched.files, human_bytes(fetched.size), time.monotonic() - begun))
    return 0


def record_failure(scratch: Scratch, reason: str, message: str) -> None:
    """Say why the command never starts, where ship and the kubelet look."""
    record = wire.ExitRecord(reason=reason, message=message, finished_at=utc_now())
    with contextlib.suppress(OSError):
        write_json(scratch.exit, record.document())
    write_termination_message("%s: %s" % (reason, message))


def _say(line: str) -> None:
    print("%s fetch: %s" % (time.strftime("%H:%M:%S"), line), file=sys.stderr, flush=True)
