"""What the command line costs on this machine: `stoker --version` against `python -c pass`, a local run against plain python.

    python tools/bench_local.py [--runs 10]

Prints medians, in milliseconds, of runs that take turns, so that other load hits all of them alike; and the CPU time of all
processes of a run, which other load hardly changes. Exits with 1 when a
figure is over its bound (version: 8 times; overhead: 500 ms).
"""

import argparse
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

MOST_TIMES, MOST_OVERHEAD = 8.0, 0.5
HELLO = Path(__file__).resolve().parent.parent / "examples" / "hello"


def seconds(command: Sequence[str], folder: Path) -> tuple[float, float]:
    """Wall and CPU time of one run; raises CalledProcessError when it fails."""
    environment = {**os.environ, "XDG_CACHE_HOME": str(folder / "cache")}
    begun, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(
        command, cwd=folder, env=environment, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return time.perf_counter() - begun, cpu


def measure(commands: dict[str, Sequence[str]], folder: Path, runs: int) -> dict[str, tuple[float, float]]:
    """Median wall and CPU seconds of each command."""
    taken: dict[str, list[tuple[float, float]]] = {name: [] for name in commands}
    for round_ in range(runs + 1):
        for name, command in commands.items():
            took = seconds(command, folder)
            if round_:  # the first round fills caches
                taken[name].append(took)
    return {
        name: (statistics.median(w for w, _ in all_), statistics.median(c for _, c in all_))
        for name, all_ in taken.items()
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=10)
    runs = parser.parse_args().runs
    stoker = shutil.which("stoker", path=os.path.dirname(sys.executable)) or "stoker"
    script = [str(HELLO / "train.py"), "--epochs", "5"]
    with tempfile.TemporaryDirectory() as name:
        found = measure(
            {
                "python -c pass": [sys.executable, "-c", "pass"],
                "stoker --version": [stoker, "--version"],
                "python train.py": [sys.executable, *script],
                "stoker run": [stoker, "run", str(HELLO)],
            },
            Path(name),
            runs,
        )
    for what, (wall, cpu) in found.items():
        print(f"{what:<18} {wall * 1000:7.0f} ms  {cpu * 1000:7.0f} ms of CPU")
    times = found["stoker --version"][0] / found["python -c pass"][0]
    overhead = found["stoker run"][0] - found["python train.py"][0]
    print(f"version: {times:.1f} times plain python (at most {MOST_TIMES:.0f})")
    print(f"local run: {overhead * 1000:.0f} ms more than plain python (at most {MOST_OVERHEAD * 1000:.0f})")
    return int(times > MOST_TIMES or overhead > MOST_OVERHEAD)


if __name__ == "__main__":
    sys.exit(main())
