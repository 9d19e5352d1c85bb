"""Compiles modules for their places in an image. Runs by itself and serves one job after the other, each in a fork of its own.

A job is a line of JSON on stdin: {"archive": zip or "", "out": file, "modules": [[source, path in the image], ...]}; a source is
a path, or [start, size, whether deflated] of bytes in the zip. The answer is a line of JSON on stdout: {"sizes": [...]}, bytes of
each module's code as they lie in `out` one after the other, 0 for what does not compile (Python 2, templates: pip leaves it out
too); or {"error": "..."}, with "code", the exit code, of a fork that died.

`marshal` writes whether an object is shared with anything else that is alive: the same module compiled in a busy process has
other bytes. So each job begins in the same process, which has done nothing yet: it only waits and forks. The bytecode says
that its source is not to be looked at (unchecked-hash, PEP 552): sources in an image do not change, and their times are all one.
"""

import importlib._bootstrap_external as loader
import importlib.util
import json
import os
import sys
import warnings
import zlib


def compile_all(archive: str, out: str, modules: "list[tuple[str | tuple[int, int, bool], str]]") -> "list[int]":
    """Returns the sizes."""
    zipped = os.open(archive, os.O_RDONLY) if archive else -1
    sizes = []
    with open(out, "wb") as compiled:
        for place, path in modules:
            source = read(zipped, place)
            try:
                code = compile(source, path, "exec", dont_inherit=True, optimize=0)
            except (SyntaxError, ValueError, UnicodeDecodeError, RecursionError, MemoryError):
                sizes.append(0)
                continue
            content = loader._code_to_hash_pyc(  # type: ignore[attr-defined]
                code, importlib.util.source_hash(source), False
            )
            sizes.append(compiled.write(content))
    return sizes


def read(zipped: int, place: "str | tuple[int, int, bool]") -> bytes:
    """A module's source."""
    if isinstance(place, str):
        with open(place, "rb") as file:
            return file.read()
    start, size, deflated = place
    packed = os.pread(zipped, size, start)
    return zlib.decompress(packed, -zlib.MAX_WBITS) if deflated else packed


def do(line: bytes) -> None:
    """One job, in a process of its own."""
    answer: dict[str, object]
    try:
        job = json.loads(line)
        answer = {"sizes": compile_all(job["archive"], job["out"], job["modules"])}
    except Exception as error:  # whatever it is, the builder says it
        answer = {"error": f"{type(error).__name__}: {error}"}
    print(json.dumps(answer), flush=True)


def serve() -> None:
    warnings.simplefilter("ignore")
    for line in sys.stdin.buffer:
        if (child := os.fork()) == 0:
            do(line)
            os._exit(0)
        _, status = os.waitpid(child, 0)
        if status:
            # It died and said nothing.
            code = os.waitstatus_to_exitcode(status)
            print(json.dumps({"error": f"ended with {code}", "code": code}), flush=True)


if __name__ == "__main__":
    serve()
