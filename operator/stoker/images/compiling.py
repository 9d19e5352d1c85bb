"""Runs images/bytecode.py: modules of a package in groups, several groups at once."""

import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import msgspec

from stoker.images import bytecode
from stoker.images.failure import BuildFailed, disk_full, killed, out_of_memory
from stoker.images.layers import File

_MINOR = f"{sys.version_info.major}.{sys.version_info.minor}"
#: Threads and compilers at once. A pod's share of the node's processors is the operator's business.
CPUS = max(1, min(4, len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1))
#: Modules that are compiled one after the other. Bytecode depends on it (see bytecode.py): with another number go another
#: layer format and other layers. It must not depend on the machine.
GROUP = 150
#: Folders whose modules are left as sources: half of what scientific packages bring, and nothing that a run imports. What is
#: imported from there nevertheless is compiled then, as anywhere without bytecode.
TESTS = frozenset({"test", "tests"})
_MOST_LINE = 1 << 22


def compiles_for(python: str) -> bool:
    """Whether this Python's bytecode is that of the target's: CPython changes it with minor versions only."""
    return sys.implementation.name == "cpython" and ".".join(python.split(".")[:2]) == _MINOR


def is_of_tests(path: str) -> bool:
    """Whether a module, by its path, belongs to a package's own tests."""
    return not TESTS.isdisjoint(path.split("/")[:-1])


#: Where a module's source is: a path, or start and size of its bytes in a zip, and whether they are deflated.
Source = str | tuple[int, int, bool]


class Compiler:
    """Compiles modules into files of a scratch folder. Close it."""

    def __init__(self, scratch: Path) -> None:
        self._scratch = scratch
        self._started: list[asyncio.subprocess.Process] = []
        self._free = asyncio.Queue[asyncio.subprocess.Process | None]()
        for _ in range(CPUS):
            self._free.put_nowait(None)  # started when first needed
        self._count = 0

    async def compile(self, archive: Path | None, modules: Sequence[tuple[Source, str]]) -> Mapping[str, File]:
        """modules: (source, path in the image). Returns path in the image ->
        bytecode; modules of tests and those that do not compile are left out. Raises BuildFailed when the compiler itself fails.
        """
        wanted = [(source, path) for source, path in modules if not is_of_tests(path)]
        groups = [wanted[start : start + GROUP] for start in range(0, len(wanted), GROUP)]
        tasks = [asyncio.ensure_future(self._group(archive, group)) for group in groups]
        try:
            compiled = await asyncio.gather(*tasks)
        finally:
            for task in tasks:
                task.cancel()
        return {path: file for found in compiled for path, file in found.items()}

    async def close(self) -> None:
        """Ends the compilers, in the midst of their work too."""
        for compiler in self._started:
            await _end(compiler)

    async def _group(self, archive: Path | None, modules: Sequence[tuple[Source, str]]) -> Mapping[str, File]:
        self._count += 1
        out = self._scratch / f"bytecode-{self._count}"
        job = msgspec.json.encode({"archive": str(archive or ""), "out": str(out), "modules": modules})
        compiler = await self._free.get()
        try:
            if compiler is None:
                compiler = await _start()
                self._started.append(compiler)
            answer = await _ask(compiler, job)
        except BaseException:
            # Its answer would be taken for that of the next one who asks.
            if compiler is not None:
                await _end(compiler)
            compiler = None
            raise
        finally:
            self._free.put_nowait(compiler)
        if words := answer.get("error"):
            if "No space left" in words:
                raise disk_full(f"the builder's scratch folder is full: {words}")
            if killed(answer.get("code"), words):
                raise out_of_memory("the compiler of bytecode")
            raise BuildFailed("Internal", f"the compiler of bytecode: {words}", transient=True)
        found, start = {}, 0
        for (_, path), size in zip(modules, answer["sizes"], strict=True):
            if size:
                found[path] = File(partial(_part, out, start, size), size)
            start += size
        return found


def _part(path: Path, start: int, size: int) -> tuple[bytes, ...]:
    with open(path, "rb") as file:
        return (os.pread(file.fileno(), size, start),)


async def _start() -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        sys.executable,
        # No site: nothing but the compiler may be alive in this process (see bytecode.py).
        *("-S", "-s", "-P", "-B", bytecode.__file__),
        env={"PYTHONHASHSEED": "0"},
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        limit=_MOST_LINE,
        # A group of its own, so that what it forked ends with it.
        start_new_session=True,
    )


async def _ask(compiler: asyncio.subprocess.Process, job: bytes) -> Mapping[str, Any]:
    assert compiler.stdin is not None
    assert compiler.stdout is not None
    compiler.stdin.write(job + b"\n")
    try:
        await compiler.stdin.drain()
        line = await compiler.stdout.readline()
    except ConnectionError:
        line = b""
    if not line:
        code = await compiler.wait()
        return {"error": f"ended with {code}", "code": code}
    answer: Mapping[str, Any] = msgspec.json.decode(line)
    return answer


async def _end(compiler: asyncio.subprocess.Process) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(compiler.pid, signal.SIGKILL)
    await compiler.wait()
