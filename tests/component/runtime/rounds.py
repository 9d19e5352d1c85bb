"""One round of the promise that a kill loses nothing: a command that writes numbered lines as fast as it can, a kill
at a line that the seed decides, and what then stands in the store."""

import mmap
import os
import random
import re
import signal
import struct
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from stoker.runtime import wire
from tests.component.runtime.pod import Cloud, Pod, eventually

#: Two counters in a shared file: the kernel keeps what was put there when the writer is killed.
_COUNTERS = struct.Struct("=QQ")
_FILE_EVERY = 5_000
_WRITER = """
import mmap, os, struct, sys
path, lines, every = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
with open(path, "r+b") as file:
    shared = mmap.mmap(file.fileno(), 16)
files = 0
for n in range(lines):
    os.write(1, b"%d\\n" % n)
    struct.pack_into("=Q", shared, 0, n + 1)
    if n % every == every - 1:
        with open("outputs/.new", "wb") as file:
            file.write(b"%d." % files * 1000)
        os.replace("outputs/.new", "outputs/f%d" % files)
        files += 1
        struct.pack_into("=Q", shared, 8, files)
"""
#: What is killed: the command's whole group; launch (the kernel then takes the rest of its container); ship, twice,
#: each time started again; the container as a group OOM kill does it; every process of the pod, with its scratch kept:
#: then ship is started again, or the pod is gone and its claim is salvaged.
KINDS = ("command", "launch", "ship", "main", "pod", "claim")


class Round(NamedTuple):
    """written: lines whose write() had returned; stored: lines in the stored log; files: complete before the kill."""

    kind: str
    killed_at: int
    written: int
    stored: int
    files: int


def kill_round(folder: Path, kind: str, seed: int, lines: int, seconds: float = 30) -> Round:
    """Run one round in a new folder; an AssertionError says what was lost."""
    chance = random.Random(f"{kind} {seed}")
    cloud = Cloud()
    pod = Pod(folder, cloud).prepare()
    try:
        return _round(pod, cloud, kind, chance, lines, seconds)
    finally:
        pod.close()
        cloud.close()


def _round(pod: Pod, cloud: Cloud, kind: str, chance: random.Random, lines: int, seconds: float) -> Round:
    counters = pod.folder / "counters"
    counters.write_bytes(bytes(_COUNTERS.size))
    with open(counters, "r+b") as file, mmap.mmap(file.fileno(), _COUNTERS.size) as shared:

        def reached(line: int) -> Callable[[], bool]:
            return lambda: _COUNTERS.unpack_from(shared)[0] >= line

        ship = pod.ship()
        launch = pod.launch(sys.executable, "-c", _WRITER, str(counters), str(lines), str(_FILE_EVERY), wait=True)
        at = chance.randrange(1, lines)
        if kind == "ship":
            first, at = sorted((at, chance.randrange(1, lines)))
            eventually(reached(first), seconds)
            ship = _started_again(pod, ship)
        eventually(reached(at), seconds)
        _kill(pod, kind, launch, ship)
        outcome = pod.await_sealed(seconds)
        written, files = _COUNTERS.unpack_from(shared)
    assert outcome["complete"], outcome
    return Round(kind, at, written, _stored_lines(cloud, written), _stored_files(cloud, files))


def _kill(pod: Pod, kind: str, launch: "subprocess.Popen[bytes]", ship: "subprocess.Popen[bytes]") -> None:
    if kind == "ship":
        _started_again(pod, ship)
        return
    # Who has ended already (the seed may name one of the last lines) cannot be killed, and need not be.
    command = _children(launch.pid)
    if kind in ("pod", "claim"):
        ship.kill()
    if kind == "launch":
        launch.kill()
    for process in command:
        try:
            os.killpg(process, signal.SIGKILL)
        except ProcessLookupError:
            continue
    if kind in ("main", "pod", "claim"):
        launch.kill()
    if kind == "pod":
        _started_again(pod, ship)
    if kind == "claim":
        ship.wait()
        pod.salvage()


def _started_again(pod: Pod, ship: "subprocess.Popen[bytes]") -> "subprocess.Popen[bytes]":
    ship.kill()
    ship.wait()
    return pod.ship()


def _children(pid: int) -> list[int]:
    try:
        return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except OSError:
        return []


def _stored_lines(cloud: Cloud, written: int) -> int:
    """Every line, once and in order; the last one may be half of one whose write() never returned."""
    log = cloud.stored[wire.LOG_PATH]
    numbers = log.split(b"\n")[:-1]
    assert [b"%d" % n for n in range(len(numbers))] == numbers, "a line is missing, doubled or torn"
    assert len(numbers) >= written, f"{written - len(numbers)} of {written} written lines are missing"
    assert re.fullmatch(rb"\d*", log[log.rfind(b"\n") + 1 :])
    return len(numbers)


def _stored_files(cloud: Cloud, files: int) -> int:
    assert cloud.seal is not None
    sealed = {file["path"] for file in cloud.seal["files"]}
    for n in range(files):
        assert f"outputs/f{n}" in sealed
        assert cloud.stored[f"outputs/f{n}"] == b"%d." % n * 1000
    return files
