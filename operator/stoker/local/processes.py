"""The launchers of a local run, one process for each rank: started, listened to, cancelled as one."""

import os
import queue
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from stoker.local.interpreter import Interpreter
from stoker.local.job import Listener
from stoker.runtime import held, waiting
from stoker.runtime.layout import Scratch

#: Found by path and isolated: nothing in the user's folder or variables may stand in for our modules, or for Python's.
_LAUNCH = (
    "import sys; sys.path.insert(0, {root!r}); from stoker.runtime import launch; sys.exit(launch.main(sys.argv[1:]))"
)
_WINDOWS = sys.platform == "win32"
_ASKS = (signal.SIGINT, signal.SIGTERM)


@dataclass(frozen=True)
class Rank:
    """What one rank runs. words: a program and its arguments."""

    number: int
    scratch: Scratch
    words: Sequence[str]
    env: Mapping[str, str]


def run_all(ranks: list[Rank], listener: Listener, cancelling: "Cancelling", ended: Callable[[int], None]) -> None:
    """Run every rank to its end. ended: called once per rank. Raises OSError when a rank cannot be started; the others
    are ended then.

    With `cancelling` the first Ctrl-C (or SIGTERM) asks the commands to stop, the second one kills them.
    When a rank fails, the others are asked to stop: they would wait for it for ever. When we are killed, all are.
    """
    with _lifeline() as lifeline:
        _run_all(ranks, listener, cancelling, ended, lifeline)


def _run_all(
    ranks: list[Rank], listener: Listener, cancelling: "Cancelling", ended: Callable[[int], None], lifeline: int | None
) -> None:
    landed: queue.Queue[tuple[int, int]] = queue.Queue()
    started: list[_Started] = []
    try:
        for rank in ranks:
            started.append(_Started(rank, len(ranks) > 1, listener, lifeline))  # noqa: PERF401 - what was started must be known
    except BaseException:
        for one in started:
            send(one.process, signal.SIGTERM)
            one.process.wait()
        raise
    cancelling.watch([one.process for one in started])
    for one in started:
        threading.Thread(target=one.wait, args=(landed,), name=f"rank-{one.rank.number}", daemon=True).start()
    for _ in ranks:
        number, code = waiting.next_of(landed)
        ended(number)
        if code != 0 and len(ranks) > 1:
            for other in started:
                if other.process.poll() is None:
                    send(other.process, signal.SIGTERM)


@contextmanager
def _lifeline() -> Iterator[int | None]:
    """What a launcher inherits to notice our end: the one end of a pipe whose other end we alone hold. None on Windows,
    where a process inherits no descriptor by its number."""
    if _WINDOWS:
        yield None
        return
    theirs, ours = os.pipe()
    try:
        yield theirs
    finally:
        os.close(ours)
        os.close(theirs)


class _Started:
    def __init__(self, rank: Rank, prefixed: bool, listener: Listener, lifeline: int | None) -> None:
        self.rank = rank
        self._reader: threading.Thread | None = None
        out: int = subprocess.PIPE if prefixed else listener.log_descriptor()
        options: dict[str, Any] = {"start_new_session": True}
        if _WINDOWS:
            options = {"creationflags": getattr(subprocess, "CREATE_NEW_PROCESS_GROUP", 0)}
        watch: list[str] = []
        if lifeline is not None:
            options["pass_fds"], watch = (lifeline,), ["--lifeline", str(lifeline)]
        root = str(Path(__file__).resolve().parents[2])
        with _held_back():
            self.process = subprocess.Popen(
                [sys.executable, "-I", "-S", "-c", _LAUNCH.format(root=root), "--dir", rank.scratch.root, "--no-wait", *watch, "--",
                 *rank.words],
                cwd=rank.scratch.work, env=dict(rank.env), stdin=subprocess.DEVNULL, stdout=out,
                **options,
            )  # fmt: skip
        if prefixed:
            assert self.process.stdout is not None
            self._reader = threading.Thread(
                target=_copy, args=(self.process.stdout, rank.number, listener.log_descriptor()), daemon=True
            )
            self._reader.start()

    def wait(self, landed: "queue.Queue[tuple[int, int]]") -> None:
        code = self.process.wait()
        if self._reader is not None:
            self._reader.join()
        landed.put((self.rank.number, code))


def shell(text: str) -> list[str]:
    """The program that runs a command's text: `sh`, and on a Windows without one `cmd`."""
    if _WINDOWS:
        import shutil

        if shutil.which("sh") is None:
            return ["cmd", "/d", "/s", "/c", text]
    return ["sh", "-c", text]


def reference(variable: str) -> str:
    """How the program of `shell` names a variable in a command's text."""
    return f"%{variable}%" if shell("")[0] == "cmd" else f"${{{variable}}}"


def _copy(source: IO[bytes], number: int, descriptor: int) -> None:
    front = b"[r%d] " % number
    for line in source:
        os.write(descriptor, front + line)


def send(process: "subprocess.Popen[bytes]", number: int) -> None:
    """A signal to a launcher, which passes it on to its command."""
    with suppress(ProcessLookupError, OSError):
        if _WINDOWS:
            process.send_signal(getattr(signal, "CTRL_BREAK_EVENT", signal.SIGTERM))
        else:
            process.send_signal(number)


@contextmanager
def stopped_as_by_ctrl_c() -> Iterator[None]:
    """While inside, SIGTERM ends us as Ctrl-C does, so that folders and notes are cleared away."""

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    former = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, former)


@contextmanager
def _held_back() -> Iterator[None]:
    """A launcher starts with its signals held back until it can take them: the first Ctrl-C may come before."""
    if _WINDOWS:
        yield
        return
    former = signal.pthread_sigmask(signal.SIG_BLOCK, held.STOPS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, former)


class Cancelling:
    """Takes Ctrl-C and SIGTERM from `take` on, while commands run and while what they wrote is saved; as a context
    manager it gives them back at its end."""

    def __init__(self, listener: Listener) -> None:
        self._listener, self._processes = listener, []  # type: Listener, list[subprocess.Popen[bytes]]
        self._former: dict[int, Any] = {}
        self._count = 0
        self._saves: list[Callable[[], None]] | None = None
        self._times_while_saving = 0

    @property
    def asked(self) -> bool:
        """Whether the user cancelled the commands. Who gives up saving cancels nothing: the commands have ended."""
        return self._count > 0

    def watch(self, processes: "list[subprocess.Popen[bytes]]") -> None:
        """These are to be stopped; at once if the user asked while they were being started."""
        self._processes = processes
        if self.asked:
            self._pass_on(signal.SIGINT)

    def saving(self, give_up: list[Callable[[], None]]) -> None:
        """The commands have ended. give_up: what ends the saving of each rank; the second Ctrl-C from now on calls it."""
        self._saves = give_up

    def take(self) -> None:
        """From now on a signal asks the commands to stop; before, it ended everything."""
        for number in _ASKS:
            self._former[number] = signal.signal(number, self._on_signal)

    def __enter__(self) -> "Cancelling":
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._former.items():
            signal.signal(number, handler)

    def _on_signal(self, number: int, _frame: object) -> None:
        if self._saves is not None:
            self._while_saving(self._saves)
            return
        self._count += 1
        if self._count == 1:
            self._listener.note("cancelling; what was written is kept (Ctrl-C again to kill the command)")
            self._pass_on(number)
        else:
            self._kill()

    def _while_saving(self, give_up: list[Callable[[], None]]) -> None:
        self._times_while_saving += 1
        if self._times_while_saving == 1:
            self._listener.note("the command has ended; saving what it wrote (Ctrl-C again to leave the rest unsaved)")
            return
        if self._times_while_saving > 2:
            raise KeyboardInterrupt
        for one in give_up:
            one()

    def _pass_on(self, number: int) -> None:
        for process in self._processes:
            send(process, number)

    def _kill(self) -> None:
        for process in self._processes:
            # The launcher's children are a group of their own; without the launcher the group is found by its session.
            if _WINDOWS:
                with suppress(OSError):
                    process.kill()
                continue
            for child in _children(process.pid):
                with suppress(OSError):
                    os.killpg(child, signal.SIGKILL)


def _children(pid: int) -> list[int]:
    """The processes that a launcher started; each leads a group of its own."""
    if os.path.isdir("/proc/self"):
        # Small images have no ps.
        return [int(name) for name in os.listdir("/proc") if name.isdecimal() and _parent(name) == pid]
    listed = subprocess.run(["ps", "-A", "-o", "pid=,ppid="], capture_output=True, text=True, check=False).stdout
    pairs = (line.split() for line in listed.splitlines())
    return [int(pair[0]) for pair in pairs if len(pair) == 2 and int(pair[1]) == pid]


def _parent(pid: str) -> int | None:
    with suppress(OSError, ValueError, IndexError):
        # The program's name stands in brackets and may hold anything, brackets too.
        return int(Path("/proc", pid, "stat").read_bytes().rpartition(b")")[2].split()[1])
    return None


def free_port() -> int:
    """A port of this machine that nobody listens on now: ranks of two local runs must not meet on 29500."""
    with socket.socket() as probe:
        probe.bind(("localhost", 0))
        return int(probe.getsockname()[1])


def python_on_path(python: Interpreter, folder: Path) -> list[str]:
    """Folders to put on PATH after the interpreter's own, so that `python` means it even where only `python3` exists."""
    if _WINDOWS or any((folder / "python").exists() for folder in python.folders):
        return []
    shims = folder / "shims"
    shims.mkdir()
    shim = shims / "python"
    # Not a link: a venv is found by the place of the program that was called.
    shim.write_text(f'#!/bin/sh\nexec "{python.python}" "$@"\n')
    shim.chmod(0o755)
    return [str(shims)]
