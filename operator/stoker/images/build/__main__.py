"""`python3 -m stoker.images.build`: makes what the variable STOKER_BUILD asks for.

Exit code 0: made; 1: the definition's fault; 2: another try may help. The answer goes to the termination message file,
the log to standard output.
"""

import asyncio
import errno
import os
import signal
import sys
import tempfile
from pathlib import Path

import msgspec
import uvloop

from stoker.core.environment.request import MOST_RESULT_BYTES, REQUEST_VARIABLE, BuildRequest, BuildResult
from stoker.images.build.log import Log
from stoker.images.build.run import run
from stoker.images.failure import BuildFailed, disk_full

MADE, WRONG, AGAIN = 0, 1, 2


def main() -> int:
    log = Log()
    try:
        request = msgspec.json.decode(os.environ.get(REQUEST_VARIABLE, ""), type=BuildRequest)
    except msgspec.MsgspecError as error:
        print(f"{REQUEST_VARIABLE} holds no build request: {error}", file=sys.stderr)
        return WRONG
    try:
        with (
            tempfile.TemporaryDirectory(prefix="build-") as scratch,
            asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner,
        ):
            result = runner.run(_run(request, Path(scratch), log))
    except BuildFailed as error:
        result = failed(error)
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        result = failed(disk_full("the builder's scratch folder is full"))
    if result.reason:
        told = f"{result.reason}: {result.message}" + (f"; {result.fix}" if result.fix else "")
        log.fact("failed", told + (f"\nat {result.where}" if result.where else ""))
    answer(result)
    if not result.reason:
        return MADE
    return AGAIN if result.transient else WRONG


async def _run(request: BuildRequest, scratch: Path, log: Log) -> BuildResult:
    """Ends in order when the pod is asked to end: a half-sent blob is dropped by the registry, and no tag is set."""
    task = asyncio.ensure_future(run(request, scratch, log))
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    try:
        return await task
    except asyncio.CancelledError:
        raise BuildFailed("Cancelled", "the builder was asked to end", transient=True) from None


def failed(error: BuildFailed) -> BuildResult:
    """The answer of a build that came to nothing."""
    return BuildResult(
        reason=error.reason, message=error.message, where=error.where, transient=error.transient, fix=error.fix
    )


def answer(result: BuildResult) -> None:
    """Writes the result where the kubelet reads it, shortened to what it keeps."""
    path = os.environ.get("STOKER_TERMINATION_LOG", "/dev/termination-log")
    try:
        Path(path).write_bytes(shortened(result))
    except OSError as error:
        print(f"cannot write {path}: {error}", file=sys.stderr)


def shortened(result: BuildResult) -> bytes:
    """JSON of at most MOST_RESULT_BYTES. The end of a message is kept with its beginning: solvers conclude last."""
    if len(content := msgspec.json.encode(result)) <= MOST_RESULT_BYTES:
        return content
    words = result.message

    def cut(keep: int) -> bytes:
        text = f"{words[: keep // 3]} [...] {words[len(words) - (keep - keep // 3) :]}"
        return msgspec.json.encode(msgspec.structs.replace(result, message=text, where=result.where[:500]))

    # Characters take one byte to six in JSON: the most that fits is looked for.
    lowest, highest = 0, min(len(words), MOST_RESULT_BYTES)
    while lowest < highest:
        middle = (lowest + highest + 1) // 2
        lowest, highest = (middle, highest) if len(cut(middle)) <= MOST_RESULT_BYTES else (lowest, middle - 1)
    return cut(lowest)


if __name__ == "__main__":
    sys.exit(main())
