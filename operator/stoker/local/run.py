"""One training job on this machine: the same snapshot, launcher, saving and record as in a cluster, no cluster.

The command runs in a folder of its own, unpacked from the snapshot, so that what works here works there. What it leaves is
saved while it runs and sealed at its end, whichever way it ends.
"""

import asyncio
import getpass
import os
import shlex
import shutil
import tempfile
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, closing, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from stoker.api.trainingjob import TrainingJobSpec
from stoker.core import command as placeholders
from stoker.core import record as records
from stoker.core import units
from stoker.core.inputdigest import listing_digest
from stoker.errors import BadInput, StokerError
from stoker.local import containers, processes, secret_values
from stoker.local.environments import prepare as environments
from stoker.local.interpreter import Interpreter, this_python
from stoker.local.job import Listener, LocalInput, LocalJob, LocalResult
from stoker.local.kept import running
from stoker.local.transport import LoopThread, StoreTransport
from stoker.runtime import contract, distribution, wire
from stoker.runtime.configure import LaunchConfig, complete, write_config
from stoker.runtime.fetch import carried_by_snapshot, make_output_folders
from stoker.runtime.layout import Scratch, human_bytes, utc_now, write_json
from stoker.runtime.ship import Settings, Ship
from stoker.runtime.tracking.serve import Tracking
from stoker.runtime.transport import Transport
from stoker.runtime.unpack import unpack
from stoker.storage import layout, snapshots
from stoker.storage.archive import write_zip
from stoker.storage.objects import ObjectStore, StoreError, open_store

#: Ctrl-C gives the command a fifth of this (seconds) before it is killed; a second Ctrl-C does not wait.
MOST_GRACE_SECONDS = 50
_CANCELLED = "Canceled"


class LocalRun:
    """One run. Use `run`, once."""

    def __init__(self, job: LocalJob, listener: Listener) -> None:
        self._job, self._listener = job, listener
        self._spec = msgspec.convert(job.spec, TrainingJobSpec)
        assert self._spec.command is not None
        self._command = self._spec.command
        self._store = open_store(job.store_url)
        self._key = layout.job_key(job.name, job.uid)
        self._identity = records.Identity(job.name, "local", job.uid, self._key, utc_now(), _user())
        self._timings: dict[str, float] = {}
        self._stack = ExitStack()

    def _check(self) -> None:
        """Refuse what this machine cannot do, before anything is made. Raises BadInput."""
        spread, nodes = self._command.distribution, self._command.resources.instance_count
        if spread is not None and spread.type in distribution.LED and nodes > 1:
            fix = "take one node here, or name a cluster with --compute"
            raise BadInput(
                "distribution", f"{spread.type} has one node on this machine, and the job asks for {nodes}", fix
            )

    def run(self) -> LocalResult:
        """Run to the end, store the result and return it. Raises StokerError before the command starts; after that every
        end, also Ctrl-C, is a result."""
        self._check()
        cancelling = processes.Cancelling(self._listener)
        with self._stack:
            # Entered when the command starts, left last: no second Ctrl-C may cut off the record of a run that ended.
            self._stack.push(cancelling)
            self._stack.enter_context(processes.stopped_as_by_ctrl_c())
            self._stack.enter_context(running(self._key, self._listener.warn))
            kept = self._stack.enter_context(_Scratches(self._listener))
            folder = kept.folder
            loop = self._stack.enter_context(LoopThread())
            begun = time.monotonic()
            ready = self._prepare_environment()
            scratches = self._make_ready(folder, loop)
            record = self._write_job(loop, scratches[0], ready)
            self._timings["Preparing"] = round(time.monotonic() - begun, 3)
            for line in (secret_values.unread(self._job.spec), not_for_local_runs(self._job.spec)):
                if line:
                    self._listener.note(line)
            # In this order: who is told that it runs may ask at once that it ends.
            cancelling.take()
            self._listener.step("run", self._job.name, "Ctrl-C cancels and keeps what was written")
            kept.hold(self._command.resources.instance_count)
            ended = self._train(record, scratches, ready.interpreter, loop, cancelling)
            return self._finish(ended, loop, kept)

    # -- Before the command.

    def _prepare_environment(self) -> "_Runs":
        begun, container = time.monotonic(), self._job.container
        if container is not None:
            digest = containers.bring(container, self._listener.note)
            said = f"{container.tool}, {digest.removeprefix('sha256:')[:12]}"
            self._listener.step("image", container.image, said, time.monotonic() - begun)
            return _Runs(this_python(), container.record(), (container.image, digest))
        ready = environments.prepare(self._job.wanted, self._listener.note, fresh=self._job.fresh)
        if self._job.lock_key and ready.record.get("lockKey") != self._job.lock_key:
            raise BadInput(
                "environment",
                f"its packages are {_short(ready.record.get('lockKey'))} here and were {_short(self._job.lock_key)}",
                "see what differs: stoker diff; run again without --exact to take these",
            )
        self._stack.enter_context(ready.in_use())
        self._listener.step("python", ready.interpreter.words, ready.detail, time.monotonic() - begun)
        return _Runs(ready.interpreter, ready.record)

    @property
    def _texts(self) -> dict[str, str]:
        """What stands for each input in the command's text: of a secret the shell's reference to its variable."""
        return {
            name: processes.reference(f"STOKER_INPUT_{name}") if self._job.inputs[name].secret is not None else text
            for name, text in self._inputs.items()
        }

    def _make_ready(self, folder: Path, loop: LoopThread) -> list[Scratch]:
        """One scratch folder for each rank, with code, inputs and folders for outputs."""
        scratches = [Scratch(str(folder / f"r{rank}")) for rank in range(self._command.resources.instance_count)]
        for scratch in scratches:
            scratch.make()
        entries = self._unpack_code(folder, scratches, loop)
        for scratch in scratches:
            make_output_folders(
                scratch.work, {name: {"type": output.type} for name, output in self._spec.outputs.items()}
            )
            write_json(scratch.carried, carried_by_snapshot(entries))
        self._digests: dict[str, str] = {}
        self._inputs = {name: self._bring(name, one, folder, loop) for name, one in self._job.inputs.items()}
        return scratches

    def _unpack_code(self, folder: Path, scratches: list[Scratch], loop: LoopThread) -> tuple[wire.Entry, ...]:
        code = self._job.code
        self._digest: str | None = None
        if code.hashed is not None and code.root is not None:
            hashed, packed = code.hashed, folder / "snapshot.zip"
            with packed.open("w+b") as out:
                write_zip(code.root, hashed.entries, out)
        elif code.kept:
            self._digest = code.kept
            entries: tuple[wire.Entry, ...] = ()
            for scratch in scratches:
                entries = loop.run(snapshots.unpack_to(self._store, code.kept, Path(scratch.work)))
            return entries
        elif code.inline:
            hashed, content = snapshots.inline_snapshot(code.inline)
            packed = folder / "snapshot.zip"
            packed.write_bytes(content)
        else:
            return ()
        self._digest = hashed.digest
        for scratch in scratches:
            unpack(hashed.manifest, str(packed), scratch.work, hashed.digest)
        loop.run(_keep_snapshot(self._store, hashed.digest, hashed.manifest, packed))
        packed.unlink()
        return hashed.entries

    def _bring(self, name: str, one: LocalInput, folder: Path, loop: LoopThread) -> str:
        """The text that an input's variable has: its literal, its secret, or its place on this machine."""
        if one.secret is not None:
            return one.secret
        if one.value is not None:
            return one.value
        if one.path is not None:
            if one.expected and one.expected != one.digest:
                raise _changed(name, _printable(one.path), one.digest, one.expected)
            self._digests[name] = one.digest
            return str(one.path)
        assert one.url is not None
        begun = time.monotonic()
        target = folder / "inputs" / name
        count, size, digest = loop.run(_download(one.url, target, single=one.kind == "uri_file"))
        if one.expected and one.expected != digest:
            raise _changed(name, one.url, digest, one.expected)
        self._digests[name] = digest
        detail = f"{count} file{'s' * (count != 1)}, {human_bytes(size)}"
        self._listener.step("input", f"{name}: {one.url}", detail, time.monotonic() - begun)
        return str(next(target.iterdir()) if one.kind == "uri_file" else target)

    def _write_job(self, loop: LoopThread, scratch: Scratch, ready: "_Runs") -> dict[str, Any]:
        outputs = {name: str(Path(scratch.work, "outputs", name)) for name in self._spec.outputs}
        pinned = records.Pinned(
            compute="local", command=placeholders.resolve(self._command.command, self._texts, outputs),
            timeout_seconds=self._spec.limits.timeout_seconds, snapshot=self._digest, pip=self._job.wanted.pip,
            environment=ready.record, image=ready.image, git=self._job.code.git,
            inputs={name: self._input_record(name, one) for name, one in self._job.inputs.items()},
        )  # fmt: skip
        record = records.job_record(self._identity, self._spec, pinned)
        loop.run(self._store.put(layout.job_record(self._key), records.encode(record).encode(), only_if_absent=True))
        return record

    def _input_record(self, name: str, one: LocalInput) -> dict[str, Any]:
        reference = self._spec.inputs[name].secret_ref if name in self._spec.inputs else None
        return (
            records.secret_input(reference)
            if reference is not None
            else _input_record(one, self._digests.get(name, ""))
        )

    # -- The command.

    def _train(
        self, record: Mapping[str, Any], scratches: list[Scratch], python: Interpreter, loop: LoopThread,
        cancelling: processes.Cancelling,
    ) -> "_Ended":  # fmt: skip
        limits = record["limits"]
        config = LaunchConfig(
            grace_seconds=min(limits["graceSeconds"], MOST_GRACE_SECONDS), timeout_seconds=limits["timeoutSeconds"],
            log_bytes=limits["logBytes"], scratch_bytes=self._scratch_bytes, aliases=contract.aliases(record),
            distribution=distribution.read(record.get("distribution")),
        )  # fmt: skip
        port, shim = processes.free_port(), processes.python_on_path(python, Path(scratches[0].root).parent)
        tracking = [
            self._stack.enter_context(closing(Tracking(scratch, 0, self._listener.note))) for scratch in scratches
        ]
        ranks = []
        for rank, scratch in enumerate(scratches):
            told = {"PYTHONUNBUFFERED": "1", **contract.texts(record, scratch)}
            here = config._replace(default_env=told)
            write_json(scratch.job, record)
            write_config(scratch, here)
            env = self._environment(record, rank, scratch, port, [*map(str, python.folders), *shim], python)
            if self._job.container is not None:
                # launch is outside of it: what it would set, the container would not have.
                env = self._in_container(here, env)
            else:
                # A container has a loopback of its own.
                env.setdefault("MLFLOW_TRACKING_URI", tracking[rank].url)
            ranks.append(self._rank(rank, scratch, env, record))
        saving = Settings(stall_seconds=self._spec.limits.save_stall_seconds)
        ships = [
            Ship(scratch, self._transport(rank, loop), saving, self._listener.note)
            for rank, scratch in enumerate(scratches)
        ]
        savers = [threading.Thread(target=ship.run, name=f"ship-{rank}") for rank, ship in enumerate(ships)]
        for saver in savers:
            saver.start()
        begun, started_at = time.monotonic(), utc_now()
        try:
            processes.run_all(ranks, self._listener, cancelling, ended=lambda rank: ships[rank].command_ended())
        finally:
            if self._job.container is not None:
                names = [self._container_name(rank) for rank in range(len(ranks))]
                containers.remove(self._job.container, names, self._listener.warn)
            self._timings["Running"] = round(time.monotonic() - begun, 3)
            begun = time.monotonic()
            cancelling.saving([ship.give_up for ship in ships])
            for ship in ships:
                ship.command_ended()
            for saver in savers:
                while saver.is_alive():
                    saver.join(0.5)  # with a limit, so that a Ctrl-C which another thread takes is seen
            self._timings["Finalizing"] = round(time.monotonic() - begun, 3)
        return _Ended(cancelling.asked, started_at)

    def _in_container(self, config: LaunchConfig, env: Mapping[str, str]) -> dict[str, str]:
        """The variables of a rank's one process. Raises BadInput where it would have several."""
        found = complete(config, env)
        if config.distribution is None:
            return found
        if config.distribution.type in distribution.LED:
            fix = "leave --local-runtime out, or start the processes in `command`"
            raise BadInput("distribution", f"{config.distribution.type} is not started in containers", fix)
        first, *others = distribution.processes(config.distribution, distribution.node_of(found))
        if others:
            fix = "leave --local-runtime out, or write one process for each node"
            problem = (
                f"a container has one process, and {config.distribution.type} asks for {1 + len(others)} on a node"
            )
            raise BadInput("distribution", problem, fix)
        return {**found, **first.variables}

    def _rank(self, rank: int, scratch: Scratch, env: Mapping[str, str], record: Mapping[str, Any]) -> processes.Rank:
        """A rank with its words: the text for the shell, here or in a container."""
        text, container = self._text_for(scratch), self._job.container
        if container is None:
            return processes.Rank(rank, scratch, processes.shell(text), env)
        told = containers.variables(env, {*map(str, record["env"]), *self._job.drawn}, scratch)
        inputs = {Path(self._inputs[name]) for name, one in self._job.inputs.items() if one.path or one.url}
        shared = self._command.resources.shm_size
        words = containers.command(
            container, self._container_name(rank), scratch, text, told, inputs=inputs,
            shared_memory_bytes=int(units.parse(shared)) if shared else None,
            # Ranks find each other at this machine's loopback.
            host_network=self._command.resources.instance_count > 1,
        )  # fmt: skip
        return processes.Rank(rank, scratch, words, containers.inherited(told))

    def _container_name(self, rank: int) -> str:
        return f"stoker-{self._key}-r{rank}"

    @property
    def _scratch_bytes(self) -> int | None:
        """The disk that each rank may use; None for all there is."""
        scratch = self._command.resources.scratch
        return int(units.parse(scratch.size)) if scratch else None

    def _text_for(self, scratch: Scratch) -> str:
        outputs = {name: str(Path(scratch.work, "outputs", name)) for name in self._spec.outputs}
        return placeholders.resolve(self._command.command, self._texts, outputs)

    def _transport(self, rank: int, loop: LoopThread) -> Transport:
        if self._job.store_url.startswith("file:"):
            from stoker.runtime.folder import FolderTransport, folder_of_url

            return FolderTransport(folder_of_url(self._job.store_url), self._key, 1, rank)
        return StoreTransport(self._store, loop, self._key, 1, rank)

    def _environment(
        self, record: Mapping[str, Any], rank: int, scratch: Scratch, port: int, first: list[str],
        python: Interpreter,
    ) -> dict[str, str]:  # fmt: skip
        """The command's variables: the user's shell, Stoker's own as in a pod, then what the job sets."""
        dropped = ("PYTHONHOME", "VIRTUAL_ENV", "CONDA_PREFIX", "__PYVENV_LAUNCHER__", "STOKER_TOKEN_FILE")
        env = {name: value for name, value in os.environ.items() if name not in dropped}
        count = self._command.resources.instance_count
        env |= {
            "PATH": os.pathsep.join([*first, env.get("PATH", os.defpath)]),
            "STOKER_DIR": scratch.root, "STOKER_JOB": self._key, "STOKER_ATTEMPT": "1", "STOKER_RANK": str(rank),
            "STOKER_NODE_COUNT": str(count), "STOKER_HOSTS": ",".join(["localhost"] * count), "NODE_RANK": str(rank),
            "MASTER_ADDR": "localhost", "MASTER_PORT": str(port),
            "STOKER_CHECKPOINT_DIR": str(Path(scratch.work, "outputs", "checkpoints")),
        }  # fmt: skip
        if watched := self._spec.limits.no_progress_seconds:
            env["STOKER_NO_PROGRESS_SECONDS"] = str(watched)
        env |= python.variables
        env |= {f"STOKER_INPUT_{name}": text for name, text in self._inputs.items()}
        env |= {f"STOKER_OUTPUT_{name}": str(Path(scratch.work, "outputs", name)) for name in self._spec.outputs}
        # The secret inputs by the names that the shell gave them are not the command's.
        for name in [name for name in env if name.startswith(secret_values.FRONT)]:
            del env[name]
        return env | {str(name): str(value) for name, value in record["env"].items()} | dict(self._job.drawn)

    # -- After it.

    def _finish(self, ended: "_Ended", loop: LoopThread, kept: "_Scratches") -> LocalResult:
        seals: list[dict[str, Any] | None] = []
        try:
            seals += [loop.run(_seal(self._store, self._key, rank)) for rank in range(kept.ranks)]
            result = self._store_end(ended, seals, loop, kept)
        except StoreError as error:
            raise StokerError(_not_stored(self._job.name, error, seals, kept)) from error
        if is_saved(seals):
            kept.release()
        url = self._job.store_url.rstrip("/")
        folder = None
        if url.startswith("file:"):
            from stoker.storage.objects import split_file_url

            folder = split_file_url(url) / "jobs" / self._key
            _point_at(folder, self._job.name)
        return LocalResult(result, f"{url}/jobs/{self._key}", f"{url}/{layout.std_log(self._key, 1, 0)}", folder)

    def _store_end(
        self, ended: "_Ended", seals: Sequence[dict[str, Any] | None], loop: LoopThread, kept: "_Scratches"
    ) -> dict[str, Any]:
        phase, reason, message, code = verdict(seals, ended.cancelled)
        if not is_saved(seals):
            first, *rest = message.split("\n", 1)
            message = "\n".join([f"{first}; {kept.where}", *rest])
        ending = records.Ending(
            phase, reason, message, code, ended.started_at, utc_now(), self._timings,
            [(1, reason, [records.RankEnd(rank, seal) for rank, seal in enumerate(seals)])],
        )  # fmt: skip
        result = records.result_record(self._identity, ending)
        loop.run(self._store.put(layout.job_result(self._key), records.encode(result).encode(), only_if_absent=True))
        return result


@dataclass(frozen=True)
class _Runs:
    """What the commands run in. image: reference and digest of a container's, None without one."""

    interpreter: Interpreter
    record: Mapping[str, str]
    image: tuple[str, str] | None = None


class _Scratches:
    """The ranks' scratch folders, below a temporary one; as a context manager it removes them at its end, unless they
    are held: then they have the only copy of what a command wrote."""

    def __init__(self, listener: Listener) -> None:
        self._listener = listener
        self.folder = Path(tempfile.mkdtemp(prefix="stoker-"))
        self.ranks = 0
        self._held = False

    def hold(self, ranks: int) -> None:
        """Commands start: from now on what they write is here alone."""
        self.ranks, self._held = ranks, True

    def release(self) -> None:
        """All is stored."""
        self._held = False

    @property
    def where(self) -> str:
        """What to do about the files that are not stored."""
        places = " and ".join(
            shlex.quote(str(self.folder / f"r{rank}" / "work" / "outputs")) for rank in range(self.ranks)
        )
        return (
            f"the files are still on this machine: copy them from {places}, then remove {shlex.quote(str(self.folder))}"
        )

    def __enter__(self) -> "_Scratches":
        return self

    def __exit__(self, *_: object) -> None:
        if self._held:
            self._listener.warn(f"not all is saved; {self.where}")
        else:
            _remove(self.folder)


def _remove(folder: Path) -> None:
    """Remove a folder with all in it, also what a command wrote without the right to change it."""
    for base, names, _ in os.walk(folder):
        for place in (Path(base, name) for name in names):
            if not place.is_symlink():
                with suppress(OSError):
                    place.chmod(0o700)
    shutil.rmtree(folder, ignore_errors=True)


class _Ended:
    def __init__(self, cancelled: bool, started_at: str) -> None:
        self.cancelled, self.started_at = cancelled, started_at


def not_for_local_runs(spec: Mapping[str, Any]) -> str:
    """What a local run says of the fields that only a cluster honours; empty when none is set. spec: a TrainingJob's."""
    named = [f"spec.{name}" for name in ("retry", "suspend", "runPolicy", "queue", "cleanup") if spec.get(name)]
    if spec.get("limits", {}).get("queueTimeoutSeconds"):
        named.append("spec.limits.queueTimeoutSeconds")
    return f"not for local runs: {', '.join(named)}" if named else ""


def is_saved(seals: Sequence[Mapping[str, Any] | None]) -> bool:
    """Whether every rank's seal is there and says that all of the rank's files are stored."""
    return all(seal is not None and bool(seal.get("complete")) for seal in seals)


def _not_stored(name: str, error: StoreError, seals: Sequence[Mapping[str, Any] | None], kept: "_Scratches") -> str:
    """The message of a run whose end no store took. seals: of the ranks that could be asked for."""
    unsaved = [
        f"rank {rank}: {seal.get('message') or 'not all was saved' if seal is not None else 'nothing is sealed'}"
        for rank, seal in enumerate(seals)
        if not is_saved([seal])
    ]
    if len(seals) < kept.ranks:
        unsaved.append("whether the outputs are saved could not be read")
    what = "; ".join(unsaved) or "its outputs are saved, result.json is not"
    return f"the end of {name} is not stored ({error}): {what}; {kept.where}; mend the store (free space, rights) before the next run"


def verdict(seals: Sequence[dict[str, Any] | None], cancelled: bool) -> tuple[str, str, str, int | None]:
    """Phase, reason, message and exit code of a run from the seals of its ranks."""
    ends = [(seal or {}).get("exit") or {} for seal in seals]
    codes = [end.get("code") for end in ends]
    failed = _first_failed(ends)
    incomplete = next((seal for seal in seals if not (seal or {}).get("complete")), None)
    if cancelled:
        said = "cancelled by Ctrl-C; what was written is kept"
        if incomplete is not None or None in seals:
            said = (
                f"cancelled by Ctrl-C; not all was saved: {(incomplete or {}).get('message') or 'a rank has no seal'}"
            )
        return "Canceled", _CANCELLED, said, codes[0]
    if failed is not None:
        code = failed.get("code")
        reason = failed.get("reason") or "CommandFailed"
        said = failed.get("message") or (
            f"the command ended with exit code {code}" if code is not None else "it never ran"
        )
        tail = str(failed.get("logTail") or "").rstrip()
        return "Failed", str(reason), f"{said}\n{tail}" if tail else str(said), code
    if incomplete is not None or None in seals:
        return "Failed", "OutputsNotSaved", str((incomplete or {}).get("message") or "a rank has no seal"), 0
    return "Completed", "Completed", "", 0


def _first_failed(ends: Sequence[Mapping[str, Any]]) -> Mapping[str, Any] | None:
    """The end of the rank that failed first: the others are stopped because of it. Ranks without a word come last."""
    failed = [end for end in ends if end.get("code") != 0]
    return min(failed, key=lambda end: (end.get("reason") == "Stopped", end.get("finishedAt") or "~"), default=None)


async def _seal(store: ObjectStore, key: str, rank: int) -> dict[str, Any] | None:
    from stoker.storage.records import read_seal

    found = await read_seal(store, key, 1, rank)
    return None if found is None else dict(found)


async def _keep_snapshot(store: ObjectStore, digest: str, manifest: bytes, packed: Path) -> None:
    if await snapshots.claim(store, digest):
        return
    await store.put(layout.snapshot_zip(digest), packed, only_if_absent=True)
    await snapshots.put_manifest(store, digest, manifest)


async def _download(url: str, target: Path, *, single: bool) -> tuple[int, int, str]:
    """Copy what lies under a storage URL into a folder; how many files and bytes, and their digest. Raises BadInput when there is nothing."""
    base, _, name = url.rstrip("/").rpartition("/")
    store, prefix = (open_store(base), name) if single else (open_store(url), "")
    found = [one async for one in store.list(prefix)] if not single else [await store.head(prefix)]
    wanted = [one for one in found if one is not None]
    if not wanted:
        raise BadInput("inputs", f"there is nothing at {url}", "check the path")
    for one in wanted:
        place = target.joinpath(*one.key.split("/"))
        place.parent.mkdir(parents=True, exist_ok=True)
        with place.open("wb") as file:
            async for piece in store.stream(one.key):
                await asyncio.to_thread(file.write, piece)
    listed = [(one.key, one.key, one.size, one.etag) for one in wanted]
    return len(wanted), sum(one.size for one in wanted), listing_digest(listed)


def _changed(name: str, where: str, digest: str, expected: str) -> BadInput:
    fix = "put back what was there, or run again without --exact"
    return BadInput(f"inputs.{name}", f"the data at {where} is {_short(digest)} and was {_short(expected)}", fix)


def _short(digest: str | None) -> str:
    return f"{digest[:19]}…" if digest and digest.startswith("sha256:") else (digest or "none")[:12]


def _input_record(one: LocalInput, digest: str) -> dict[str, Any]:
    if one.value is not None:
        return {"type": "literal", "value": one.value}
    told = {"type": one.kind, "mode": "download", "source": one.url or _printable(one.path)}
    return {**told, "digest": digest} if digest else told


def _printable(path: Path | None) -> str:
    """A path for the record; names on disk may be any bytes."""
    return str(path).encode("utf-8", "backslashreplace").decode()


def _point_at(folder: Path, name: str) -> None:
    """`.stoker/jobs/<name>` leads to the newest run of that name: a person looks for outputs there."""
    link = folder.parent / name
    # Windows gives links to few; the plan names the real place in any case.
    with suppress(OSError, NotImplementedError):
        if link.is_symlink():
            link.unlink()
        link.symlink_to(Path(folder.name, "attempts", "1", "0"), target_is_directory=True)


def _user() -> str | None:
    with suppress(KeyError, OSError, ImportError):
        return getpass.getuser()
    return None


__all__ = ["LocalRun", "verdict"]
