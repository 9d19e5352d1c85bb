"""Runs images/bytecode.py for one package after the other, several at once."""

import asyncio
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import msgspec

from stoker.images import bytecode
from stoker.images.failure import BuildFailed, disk_full, killed, out_of_memory

_MINOR = f"{sys.version_info.major}.{sys.version_info.minor}"
#: Threads and compilers at once. A pod's share of the node's processors is the operator's business.
CPUS = max(1, min(4, len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1))


def compiles_for(python: str) -> bool:
    """Whether this Python's bytecode is that of the target's: CPython changes it with minor versions only."""
    return sys.implementation.name == "cpython" and ".".join(python.split(".")[:2]) == _MINOR


class Compiler:
    """Compiles modules into files of a scratch folder."""

    def __init__(self, scratch: Path) -> None:
        self._scratch = scratch
        self._slots = asyncio.Semaphore(CPUS)
        self._count = 0

    async def compile(self, archive: Path | None, modules: Sequence[tuple[str, str]]) -> Mapping[str, Path]:
        """modules: (name in the archive, or path without one; path in the image). Returns path in the image ->
        bytecode; modules that do not compile are left out. Raises BuildFailed when the compiler itself fails."""
        if not modules:
            return {}
        self._count += 1
        out = self._scratch / f"bytecode-{self._count}"
        out.mkdir(parents=True)
        job = msgspec.json.encode({"archive": str(archive or ""), "out": str(out), "modules": modules})
        async with self._slots:
            child = await asyncio.create_subprocess_exec(
                sys.executable,
                # No site: nothing but the compiler may be alive in this process (see bytecode.py).
                *("-S", "-s", "-P", "-B", bytecode.__file__),
                env={"PYTHONHASHSEED": "0"},
                stdin=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.PIPE,
            )
            try:
                _, err = await child.communicate(job)
            finally:
                if child.returncode is None:
                    child.kill()
                    await child.wait()
        if child.returncode != 0:
            words = err.decode(errors="replace")[-500:]
            if "No space left" in words:
                raise disk_full(f"the builder's scratch folder is full: {words}")
            if killed(child.returncode):
                raise out_of_memory("the compiler of bytecode")
            raise BuildFailed(
                "Internal", f"the compiler of bytecode ended with {child.returncode}: {words}", transient=True
            )
        found = ((index, path) for index, (_, path) in enumerate(modules))
        return {path: file for index, path in found if (file := out / f"{index}.pyc").exists()}
