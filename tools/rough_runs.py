"""Runs that write much: 100,000 files at once, a file of 5 GiB, a log of 1 GB in 60 s; each saved by real launch and ship.

    python tools/rough_runs.py [files] [file] [log] [--scale 1.0] [--folder DIR]

Server and store are the ones of the tests, and keep digests in place of bytes. Prints one line per run: what was
written and saved, the seconds from the command's end to the seal, and the most memory that ship had. Exits with 1 when
something was not saved.
"""

import argparse
import hashlib
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT / "operator"), str(ROOT)]

from tests.component.runtime.pod import Cloud, Pod, eventually  # noqa: E402

FILES = """
import sys
for n in range(int(sys.argv[1])):
    with open("outputs/%06d" % n, "w") as file:
        file.write("file %d\\n" % n)
"""
FILE = """
import sys
with open("outputs/sparse", "wb") as file:
    file.truncate(int(sys.argv[1]) - 4)
    file.seek(0, 2)
    file.write(b"end\\n")
"""
LOG = """
import os, sys, time
size, seconds, begun, written, n = int(sys.argv[1]), float(sys.argv[2]), time.monotonic(), 0, 0
binary = bytes(range(256)) * 40_000 + b"\\n"
while written < size:
    if n % 40 == 39:
        chunk = binary
    else:
        chunk = b"".join(b"step %d of %d, loss 0.%d\\n" % (n, i, i * 7919 % 9973) for i in range(20_000))
    n += 1
    view = memoryview(chunk)
    while view:
        view = view[os.write(1, view):]
    written += len(chunk)
    time.sleep(max(0, begun + seconds * written / size - time.monotonic()))
"""
RUNS = {
    "files": lambda scale: (FILES, [str(round(100_000 * scale))]),
    "file": lambda scale: (FILE, [str(round((5 << 30) * scale))]),
    "log": lambda scale: (LOG, [str(round(1_000_000_000 * scale)), str(60 * scale)]),
}


class Counting(Cloud):
    """Keeps the digest of what it is given, and how many bytes that were."""

    def __init__(self) -> None:
        super().__init__()
        self.bytes = 0
        self.digests: dict[str, str] = {}
        self.running: dict[str, Any] = {}

    def take(self, key: str, body: bytes) -> None:
        self.bytes += len(body)
        self.objects[key], self.digests[key] = b"", hashlib.sha256(body).hexdigest()

    def take_part(self, upload: str, number: int, body: bytes) -> None:
        parts = self.uploads[upload]
        if number in parts:
            return  # sent again: its answer was lost
        assert len(parts) == number - 1, "ship sends parts in their order"
        self.bytes += len(body)
        parts[number] = b""
        self.running.setdefault(upload, hashlib.sha256()).update(body)

    def join(self, key: str, upload: str, parts: list[bytes]) -> None:
        self.objects[key], self.digests[key] = b"", self.running.pop(upload).hexdigest()

    def digest(self, path: str) -> str | None:
        return self.digests.get(self.prefix + path)


def run(name: str, scale: float, folder: Path) -> bool:
    script, arguments = RUNS[name](scale)
    cloud = Counting()
    pod = Pod(folder / "pod", cloud).prepare()
    try:
        # The intervals of a real pod, not the short ones of the tests.
        ship = pod.ship(STOKER_SCAN_SECONDS="1", STOKER_LOG_SECONDS="1")
        begun = time.monotonic()
        launch = pod.launch(sys.executable, "-c", script, *arguments, wait=True)
        eventually(lambda: os.path.exists(pod.scratch.exit), 3600)
        ended = time.monotonic()
        outcome = pod.await_sealed(3600)
        sealed = time.monotonic()
        code = launch.wait(60)
        copy = Path(pod.scratch.journal, "log.copy").stat().st_size
        peak = peak_bytes(ship)
    finally:
        pod.close()
        cloud.close()
    seal = cloud.seal
    assert seal is not None
    size = sum(file["size"] for file in seal["files"])
    good = bool(outcome["complete"]) and code == 0 and not cloud.uploads
    print(
        f"{name:6} {len(seal['files']):>7,} files  {size:>13,} bytes  command {ended - begun:6.1f} s  sealed "
        f"{sealed - ended:6.1f} s later  sent {cloud.bytes:>13,} bytes in {len(cloud.requests):>7,} requests  "
        f"ship's memory {peak / 1e6:4.0f} MB  copy of the log {copy / 1e6:5.1f} MB  {'complete' if good else outcome}",
        flush=True,
    )
    return good


def peak_bytes(process: "subprocess.Popen[bytes]") -> int:
    status = Path(f"/proc/{process.pid}/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) * 1024


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("runs", nargs="*", choices=[*RUNS, []], help="default: all")
    parser.add_argument("--scale", type=float, default=1.0, help="this part of the full numbers")
    parser.add_argument("--folder", help="where the runs' files are made; default: the folder for temporary files")
    options = parser.parse_args()
    good = True
    for name in options.runs or RUNS:
        with tempfile.TemporaryDirectory(dir=options.folder) as folder:
            good = run(name, options.scale, Path(folder)) and good
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
