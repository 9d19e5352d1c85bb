"""A local run in a process of its own, so that whoever started it is free: to follow it, to cancel it, or to end."""

import json
import os
import pickle
import subprocess
import sys
import threading
from contextlib import suppress
from typing import IO, Any

from stoker.errors import BadInput, BadInputs, StokerError
from stoker.local.job import LocalJob
from stoker.sdk.session import Listener


def start(job: LocalJob, listener: Listener) -> None:
    """Start a run and return when its record is written and its command starts. Raises what stopped it before that."""
    words = [sys.executable, "-P", "-m", "stoker.sdk.background"]
    options: dict[str, Any] = {"start_new_session": True}
    if sys.platform == "win32":
        options = {"creationflags": subprocess.CREATE_NEW_PROCESS_GROUP}
    process = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, **options)
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        # A process that died does not read: what it told before, or that it told nothing, says more than a broken pipe.
        with suppress(BrokenPipeError), process.stdin as given:
            # Its own values, from one Python to the same Python: nothing is hashed or looked up twice.
            pickle.dump(job, given)
        begun = _listen(process.stdout, listener)
    except BaseException:
        process.terminate()
        raise
    finally:
        process.stdout.close()
        # Who waits for it keeps it from staying behind as a zombie.
        threading.Thread(target=process.wait, name="stoker-run", daemon=True).start()
    if not begun:
        raise StokerError(f"the process of {job.name} ended before its command began; standard error may say why")


def _listen(told: IO[bytes], listener: Listener) -> bool:
    """Pass on what the process tells until the command starts; False when it ended before."""
    for line in told:
        kind, *rest = json.loads(line)
        if kind == "begun":
            return True
        if kind == "bad":
            raise BadInput(*rest)
        if kind == "several":
            raise BadInputs(tuple(BadInput(*one) for one in rest))
        if kind == "error":
            raise StokerError(*rest)
        if kind == "step":
            listener.step(*rest)
        elif kind == "note":
            listener.note(*rest)
        else:
            listener.warn(*rest)
    return False


class _Telling:
    """The listener of the run's process. It tells its parent until the command starts; after that only warnings are said,
    on standard error."""

    def __init__(self, told: IO[bytes]) -> None:
        self._told: IO[bytes] | None = told
        self._nowhere = os.open(os.devnull, os.O_WRONLY)

    def step(self, label: str, what: str, detail: str = "", seconds: float | None = None) -> None:
        if label == "run":
            # Ctrl-C, of which a run in a terminal speaks here, does not reach this one.
            self.tell("step", label, what, "goes on by itself; jobs.stream follows it", None)
            self.tell("begun")
            self._told = None
            return
        self.tell("step", label, what, detail, seconds)

    def note(self, line: str) -> None:
        self.tell("note", line)

    def warn(self, line: str) -> None:
        if self._told is None:
            print(f"  warning     {line}", file=sys.stderr, flush=True)
        self.tell("warn", line)

    def log_descriptor(self) -> int:
        """Nowhere: the log is read from where the run is kept."""
        return self._nowhere

    def tell(self, *words: Any) -> None:
        if self._told is not None:
            self._told.write(json.dumps(words).encode() + b"\n")
            self._told.flush()


def main() -> int:
    """The run's own process. Its exit code tells nobody anything: the record does."""
    from stoker.local.run import LocalRun

    told = os.fdopen(os.dup(1), "wb")
    # What other programs print must not come between.
    os.dup2(2, 1)
    job = pickle.load(sys.stdin.buffer)
    telling = _Telling(told)
    try:
        LocalRun(job, telling).run()
    except BadInput as problem:
        telling.tell("bad", problem.field, problem.message, problem.fix, problem.where)
    except BadInputs as several:
        problems = [[one.field, one.message, one.fix, one.where] for one in several.problems]
        telling.tell("several", *problems)
    except StokerError as error:
        telling.tell("error", str(error))
        telling.warn(str(error))
    except KeyboardInterrupt:
        telling.tell("error", "cancelled before the command began")
    return 0


if __name__ == "__main__":
    sys.exit(main())
