"""The first process of the training container: starts the command, keeps its log, tells how it ended.

The command's stdout and stderr are the log file itself, opened for appending: with a pipe in between, lines that the
command has written die with the reader. A FIFO that launch holds open tells ship that launch lives; the kernel closes
it whatever way launch dies, so nothing has to be written by a victim of SIGKILL.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import queue
import signal
import subprocess
import sys
import threading
import time
from typing import Any, Callable, Dict, List, NamedTuple, Optional, Tuple, Union

from stoker.runtime import distribution, held, mpi, ourselves, ray, userlogs, wire
from stoker.runtime.command import Command, Ended
from stoker.runtime.configure import LaunchConfig, complete, read_config
from stoker.runtime.diagnose import diagnose, log_tail
from stoker.runtime.layout import Scratch, human_bytes, read_json, utc_now, write_json, write_termination_message
from stoker.runtime.processes import Blamed, Processes
from stoker.runtime.progress import ProgressWatch, limit_of
from stoker.runtime.scratchwatch import ScratchWatch
from stoker.runtime.tail import LogTail

_TICK_SECONDS = 0.25
_PASSED_ON = [
    getattr(signal, name) for name in ("SIGUSR1", "SIGUSR2", "SIGCONT", "SIGWINCH", "SIGURG") if hasattr(signal, name)
]


class Options(NamedTuple):
    """directory: the scratch folder. wait: whether to stay until ship has sealed the rank. echo: whether the log is
    copied to our own stdout. installs_handlers: only a process of its own may take the signals. lifeline: a descriptor
    whose end of file says that who started us is gone, or None."""

    directory: str
    wait: bool = True
    echo: bool = True
    installs_handlers: bool = True
    lifeline: Optional[int] = None


class _Stop(NamedTuple):
    """Why the command has to end before its time."""

    reason: str
    message: str


class Launch:
    """One run of one command in a scratch folder."""

    def __init__(self, options: Options, command: List[str], work: Optional[str] = None) -> None:
        self._options = options
        self._scratch = Scratch(options.directory)
        self._arguments = command
        self._work = work or self._scratch.work
        self._config = LaunchConfig()
        # The one thing the main thread waits on. put() of a SimpleQueue may be called by a signal handler.
        self._events: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
        self._command: Union[Command, Processes, None] = None
        self._blamed: Optional[Blamed] = None
        self._ended: Optional[Ended] = None
        self._stop: Optional[_Stop] = None
        self._kill_at = float("inf")
        self._tail: Optional[LogTail] = None

    def run(self) -> int:
        """Run the command to its end and return the exit code for our own process: the command's, or 125 when it
        could not run or its outputs were not saved."""
        scratch = self._scratch
        os.makedirs(os.path.dirname(scratch.raw_log), mode=0o700, exist_ok=True)
        alive = _hold(scratch.alive)
        started_at = utc_now()
        write_json(scratch.started, {"version": 1, "startedAt": started_at, "pid": os.getpid()})
        log = _open_log(scratch.raw_log)
        if self._options.echo:
            self._tail = LogTail(scratch.raw_log, _stdout_descriptor())
            self._tail.start()
        if self._options.lifeline is not None:
            threading.Thread(target=self._outlive, args=(self._options.lifeline,), name="lifeline", daemon=True).start()
        with self._signals():
            try:
                record = self._record(self._attempt(log), started_at, log)
            finally:
                os.close(log)
            write_json(scratch.exit, record.document())
            # From here on ship sees the end. It reads the exit record after the end-of-file, so the order matters.
            if alive is not None:
                os.close(alive)
            if self._tail is not None:
                self._tail.finish()
            _tell_kubelet(record)
            return self._finish(record)

    def stop(self, reason: str = "Stopped", message: str = "the run was told to stop") -> None:
        """End the command early, from any thread: SIGTERM, the command's share of the grace period, SIGKILL."""
        self._events.put(lambda: self._end_early(_Stop(reason, message), signal.SIGTERM))

    def _outlive(self, lifeline: int) -> None:
        """End the command when nobody is left to save what it writes, or to stop it. The kernel closes the other end
        whatever way its holder dies."""
        while os.read(lifeline, 1):
            pass
        self.stop(message="stoker was killed, so nobody would save what the command writes")

    # The command

    def _attempt(self, log: int) -> wire.ExitRecord:
        try:
            self._config = read_config(self._scratch)
        except (ValueError, OSError) as error:
            return _not_run("BadLaunchConfig", "launch.json cannot be used: %s" % error)
        environment = complete(self._config, os.environ)
        environment.pop("STOKER_LAUNCH_WITH", None)
        lacking = _packages_missing(self._config.pip, environment, self._work)
        if lacking:
            message = "the image lacks %s; add it to the image, or name an image that has it" % ", ".join(lacking)
            _say(log, message)
            return _not_run("PackagesNotInImage", message)
        self._drain_events()
        if self._stop is not None:
            return _not_run(self._stop.reason, "told to stop before the command had started")
        try:
            plan = self._plan(environment)
        except ValueError as error:
            _say(log, str(error))
            return _not_run("BadDistribution", str(error))
        try:
            self._start(plan, environment, log)
        except OSError as error:
            return self._not_started(error, log)
        assert self._command is not None
        self._supervise(log, limit_of(environment))
        self._command.end_group()
        if isinstance(self._command, Processes):
            self._blamed = self._command.blamed()
            self._command.close()
        return self._outcome()

    def _plan(self, environment: Dict[str, str]) -> List[distribution.Process]:
        """The processes to start, of a command that is distributed; one without variables of its own for any other."""
        if self._config.distribution is None:
            return [distribution.Process(0, {})]
        return distribution.processes(self._config.distribution, distribution.node_of(environment))

    def _start(self, plan: List[distribution.Process], environment: Dict[str, str], log: int) -> None:
        if plan[1:]:
            self._command = together = Processes(self._arguments, self._work, environment, plan, log)
            if self._work == self._scratch.work:
                userlogs.show(self._work, [process.number for process in plan])
            together.watch(self._hear_end, lambda: self._events.put(self._wind_down))
            return
        own, arguments, spread = {**environment, **plan[0].variables}, self._arguments, self._config.distribution
        if spread is not None and spread.type in distribution.LED:
            own["STOKER_DIR"] = self._scratch.root
            arguments = self._led(spread, distribution.node_of(environment))
        self._command = single = Command(arguments, self._work, own, log)
        single.watch(self._hear_end)

    def _led(self, spread: distribution.Distribution, node: distribution.Node) -> List[str]:
        """The command of a rank where rank 0 leads: there what leads, elsewhere what does as it is asked."""
        if node.rank:
            return ourselves.words("serve")
        if spread.type == "ray":
            return ray.words(spread, self._arguments)
        return mpi.words(spread.per_node, self._config.training_grace_seconds, self._arguments)

    def _hear_end(self, ended: Ended) -> None:
        self._events.put(lambda: self._set_ended(ended))

    def _wind_down(self) -> None:
        """One process has failed, or only such as serve others are left: the rest gets its share of the grace period."""
        self._kill_at = min(self._kill_at, time.monotonic() + self._config.training_grace_seconds)
        if self._command is not None:
            self._command.signal_group(signal.SIGTERM)

    def _not_started(self, error: OSError, log: int) -> wire.ExitRecord:
        program = self._arguments[0]
        if isinstance(error, FileNotFoundError) and os.path.isdir(self._work):
            code, reason, message = 127, "CommandNotFound", "the image has no %r" % program
        elif isinstance(error, (PermissionError, FileNotFoundError)) or error.errno == errno.ENOEXEC:
            code, reason, message = 126, "CommandNotExecutable", "%r cannot be run: %s" % (program, error)
        else:
            raise error
        _say(log, message)
        return wire.ExitRecord(code=code, reason=reason, message=message)

    def _supervise(self, log: int, no_progress_seconds: Optional[float]) -> None:
        """Until the command has ended: pass on signals, keep the limits."""
        assert self._command is not None
        config, started = self._config, time.monotonic()
        printed = _Printed(log)
        scratch = ScratchWatch(
            self._scratch.root, config.scratch_bytes, lambda used: self._events.put(lambda: self._over_scratch(used))
        )
        progress = ProgressWatch(
            self._work,
            no_progress_seconds,
            lambda: self._events.put(lambda: self._no_progress(no_progress_seconds or 0.0, log)),
        )
        try:
            while self._ended is None:
                with contextlib.suppress(queue.Empty):
                    self._events.get(timeout=_TICK_SECONDS)()
                now = time.monotonic()
                if config.timeout_seconds is not None and now - started > config.timeout_seconds:
                    self._end_early(
                        _Stop(
                            "TimedOut",
                            "the command ran longer than limits.timeoutSeconds = %g" % config.timeout_seconds,
                        ),
                        signal.SIGTERM,
                        log,
                    )
                size = printed.size()
                progress.printed(size)
                if size > config.log_bytes:
                    self._end_early(
                        _Stop(
                            "LogLimitExceeded",
                            "the log has %s and may have %s; print less"
                            % (human_bytes(size), human_bytes(config.log_bytes)),
                        ),
                        signal.SIGTERM,
                        log,
                    )
                    # A flood does not stop for SIGTERM's grace: the disk is what is being protected.
                    if size > config.log_bytes + config.log_bytes // 8:
                        self._command.signal_group(_kill_signal())
                if now > self._kill_at:
                    self._command.signal_group(_kill_signal())
                    self._kill_at = now + 1.0
        finally:
            scratch.close()
            progress.close()

    def _no_progress(self, seconds: float, log: int) -> None:
        self._end_early(
            _Stop(
                "NoProgress",
                "no new log line and no new file for %g s (limits.noProgressSeconds)" % seconds,
            ),
            signal.SIGTERM,
            log,
        )

    def _over_scratch(self, used: int) -> None:
        self._end_early(
            _Stop(
                "ScratchLimitExceeded",
                "the run's files take %s and may take %s; write less, or ask "
                "for more resources.scratch.size and requests.ephemeral-storage, where they are set"
                % (human_bytes(used), human_bytes(self._config.scratch_bytes or 0)),
            ),
            signal.SIGTERM,
        )

    def _end_early(self, stop: _Stop, number: int, log: Optional[int] = None) -> None:
        if self._stop is None:
            self._stop = stop
            # Tells ship to hurry: it gets its own SIGTERM only when this container is gone.
            write_json(self._scratch.stopping, {"version": 1, "reason": stop.reason, "at": utc_now()})
            self._kill_at = time.monotonic() + self._config.training_grace_seconds
            if log is not None:
                _say(log, stop.message)
        elif stop.reason != "Stopped":
            return
        if self._command is not None:
            self._command.signal_group(number)

    def _outcome(self) -> wire.ExitRecord:
        assert self._ended is not None
        code, number = self._ended.code, self._ended.signal
        if self._stop is not None:
            return wire.ExitRecord(code=code, signal=number, reason=self._stop.reason, message=self._stop.message)
        return wire.ExitRecord(code=code, signal=number)

    def _set_ended(self, ended: Ended) -> None:
        self._ended = ended

    def _record(self, record: wire.ExitRecord, started_at: str, log: int) -> wire.ExitRecord:
        size, tail = _read_tail(log)
        blamed = self._blamed if record.reason is None else None
        if blamed is not None:
            tail = blamed.log_tail
        if record.reason is None and record.code:
            found = diagnose(record.code, tail, self._work)
            record = record._replace(reason=found.reason, message=found.message)
        if blamed is not None:
            message = "%s: %s" % (blamed.words, record.message) if record.message else blamed.words
            record = record._replace(message=message)
        return record._replace(
            started_at=started_at, finished_at=utc_now(), log_bytes=size, log_tail=log_tail(tail.encode("utf-8"))
        )

    # The end

    def _finish(self, record: wire.ExitRecord) -> int:
        code = wire.PLATFORM_EXIT_CODE if record.code is None else record.code
        if not self._options.wait:
            return code
        outcome = self._await_sealed()
        if outcome.get("complete"):
            return code
        message = "the outputs were not saved: %s: %s" % (outcome.get("reason"), outcome.get("message"))
        print("stoker: " + message, file=sys.stderr, flush=True)
        _tell_kubelet(record._replace(reason="OutputsNotSaved", message=message))
        return wire.PLATFORM_EXIT_CODE

    def _await_sealed(self) -> Dict[str, Any]:
        wait = 0.01
        while True:
            # Told to stop now, launch still waits: the container's end would only start ship's own clock earlier.
            with contextlib.suppress(ValueError):
                outcome = read_json(self._scratch.sealed)
                if isinstance(outcome, dict):
                    return outcome
            with contextlib.suppress(queue.Empty):
                self._events.get(timeout=wait)()
            wait = min(0.05, wait * 1.5)

    # Signals

    @contextlib.contextmanager
    def _signals(self) -> Any:
        former: Dict[int, Any] = {}
        if self._options.installs_handlers:
            for number in [*held.STOPS, *_PASSED_ON]:
                former[number] = signal.signal(number, self._on_signal)
            held.release()
        try:
            yield
        finally:
            for number, handler in former.items():
                signal.signal(number, handler)

    def _on_signal(self, number: int, _frame: object) -> None:
        if number in held.STOPS:
            name = signal.Signals(number).name
            stop = _Stop("Stopped", "the run was told to stop (%s)" % name)
            self._events.put(lambda: self._end_early(stop, number))
        else:
            self._events.put(lambda: self._pass_on(number))

    def _pass_on(self, number: int) -> None:
        if self._command is not None:
            self._command.signal_group(number)

    def _drain_events(self) -> None:
        with contextlib.suppress(queue.Empty):
            while True:
                self._events.get_nowait()()


class _Printed:
    """How much a command has printed, also when it empties its log again and again: ship keeps all of it."""

    def __init__(self, log: int) -> None:
        self._log, self._before, self._last, self._mark = log, 0, 0, b""

    def size(self) -> int:
        size, mark = os.fstat(self._log).st_size, self._first_bytes()
        # As ship tells it (logcopy.py): by now it may be longer than before.
        if size < self._last or not mark.startswith(self._mark):
            self._before += self._last
        self._last, self._mark = size, mark
        return self._before + size

    def _first_bytes(self) -> bytes:
        # Without pread there is no /dev/stdout that could be opened anew either.
        return os.pread(self._log, 512, 0) if hasattr(os, "pread") else b""


def _open_log(path: str) -> int:
    """The log, for appending. A process of another uid that the command started can open it anew by its own
    /dev/stdout, as it can a terminal or a pipe; by its path it cannot, because the folder is ours alone."""
    log = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o666)
    if hasattr(os, "fchmod"):
        os.fchmod(log, 0o666)
    return log


def _hold(fifo: str) -> Optional[int]:
    """The FIFO opened so that we count as its writer, or None on a system without FIFOs. Not passed to the command:
    Python opens with close-on-exec."""
    if not hasattr(os, "mkfifo"):
        return None
    with contextlib.suppress(FileExistsError):
        os.mkfifo(fifo, 0o660)
    # For reading too: opening only for writing would wait for a reader, and ship may be starting again.
    return os.open(fifo, os.O_RDWR)


def _packages_missing(pip: List[str], environment: Dict[str, str], work: str) -> List[str]:
    """What the command's own Python lacks of the list. That is the `python` on its PATH, not the one that runs us."""
    import shutil

    if not pip:
        return []
    path = environment.get("PATH")
    python = shutil.which("python", path=path) or shutil.which("python3", path=path)
    if python is None:
        return ["any Python on its PATH, so none of %s" % ", ".join(pip)]
    archive = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
    command = [python, archive] if os.path.isfile(archive) else [sys.executable, "-m", "stoker.runtime"]
    if not os.path.isfile(archive):
        environment = {**environment, "PYTHONPATH": archive}
    done = subprocess.run(
        [*command, "check-packages", json.dumps(pip)],
        env=environment,
        cwd=work,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        check=False,
    )
    try:
        return [str(problem) for problem in json.loads(done.stdout.decode("utf-8"))]
    except ValueError:
        words = done.stderr.decode("utf-8", "replace").strip().rsplit("\n", 1)[-1]
        return ["a Python 3.8 or later to look for %s (%s answered: %s)" % (", ".join(pip), python, words)]


def _not_run(reason: str, message: str) -> wire.ExitRecord:
    return wire.ExitRecord(reason=reason, message=message)


def _kill_signal() -> int:
    return int(getattr(signal, "SIGKILL", signal.SIGTERM))


def _say(log: int, message: str) -> None:
    with contextlib.suppress(OSError):
        os.write(log, ("stoker: %s\n" % message).encode("utf-8", "replace"))


def _read_tail(log: int) -> Tuple[int, str]:
    # By the descriptor that we hold: the command may have moved the file or put something in its place.
    with open(os.dup(log), "rb") as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(max(0, size - 4 * wire.LOG_TAIL_BYTES))
        return size, file.read().decode("utf-8", "replace")


def _stdout_descriptor() -> int:
    return sys.stdout.fileno()


def _tell_kubelet(record: wire.ExitRecord) -> None:
    head = "%s: %s\n" % (record.reason, record.message) if record.reason else ""
    write_termination_message(head[:1500] + record.log_tail)


def main(arguments: List[str]) -> int:
    """`launch [--dir DIR] [--no-wait] [--lifeline DESCRIPTOR] -- COMMAND [ARGUMENT...]`."""
    directory, wait = os.environ.get("STOKER_DIR") or "/stoker", True
    lifeline: Optional[int] = None
    rest = list(arguments)
    while rest and rest[0] != "--":
        flag = rest.pop(0)
        if flag == "--dir" and rest:
            directory = rest.pop(0)
        elif flag == "--no-wait":
            wait = False
        elif flag == "--lifeline" and rest and rest[0].isdecimal():
            lifeline = int(rest.pop(0))
        else:
            print(
                "stoker launch: %s is no option; usage: launch [--dir DIR] [--no-wait] [--lifeline DESCRIPTOR] "
                "-- COMMAND" % flag,
                file=sys.stderr,
            )
            return 2
    if not rest[1:]:
        print("stoker launch: no command after --", file=sys.stderr)
        return 2
    work = os.getcwd() if "STOKER_WORK_HERE" in os.environ else None
    launch = Launch(Options(directory, wait, lifeline=lifeline), rest[1:], work)
    told = os.environ.pop(held.TOLD, "")
    if told:
        launch.stop(message="the run was told to stop (SIG%s)" % told)
    return launch.run()
