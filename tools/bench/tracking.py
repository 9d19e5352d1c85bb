#!/usr/bin/env python3
"""What a call of mlflow's own client costs a training script, and whether every point is kept.

    python tools/bench/tracking.py [--points 100000] [-o json]

Needs mlflow-skinny. A tracking server as it stands beside every run, a script in a process of its own that logs points one by
one and is killed with SIGKILL at the end; then what its last answered call was is compared with what the files hold.
"""

import argparse
import json
import resource
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
sys.path[:0] = [str(ROOT / "operator"), str(ROOT)]

from stoker.runtime.layout import Scratch  # noqa: E402
from stoker.runtime.tracking.pieces import read  # noqa: E402
from stoker.runtime.tracking.serve import Tracking  # noqa: E402

_SCRIPT = """
import os, signal, sys, time
import mlflow
points, client = int(sys.argv[1]), mlflow.MlflowClient()
run = client.create_run("0").info.run_id
took = []
for step in range(points):
    begun = time.perf_counter()
    client.log_metric(run, "loss", 1.0 / (step + 1), step=step)
    took.append(time.perf_counter() - begun)
took.sort()
said = [took[len(took) // 2], took[int(len(took) * 0.95)], took[int(len(took) * 0.99)]]
print(*(f"{one * 1000:.3f}" for one in said), flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--points", type=int, default=100_000)
    parser.add_argument("-o", "--output", choices=("text", "json"), default="text")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        scratch = Scratch(folder)
        scratch.make()
        tracking = Tracking(scratch, 0, print)
        done = subprocess.run(
            [sys.executable, "-c", _SCRIPT, str(options.points)], stdout=subprocess.PIPE, text=True, check=False,
            env={"MLFLOW_TRACKING_URI": tracking.url, "PATH": "/usr/bin:/bin", "HOME": folder},
        )  # fmt: skip
        tracking.close()
        kept = sum(1 for line in read(scratch) if line.get("t") == "metric")
        size = sum(file.stat().st_size for file in Path(scratch.work).rglob("*.jsonl"))
    p50, p95, p99 = map(float, done.stdout.split())
    told = {
        "points": options.points, "kept": kept, "killed": done.returncode == -signal.SIGKILL, "p50Ms": p50, "p95Ms": p95,
        "p99Ms": p99, "bytes": size, "peakMiB": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, 1),
    }  # fmt: skip
    if options.output == "json":
        print(json.dumps(told, indent=2))
    else:
        print(f"{kept:,} of {options.points:,} points kept through SIGKILL, {size / 1e6:.1f} MB in files")
        print(
            f"log_metric p50 {p50:.2f} ms, p95 {p95:.2f} ms, p99 {p99:.2f} ms; the server's process {told['peakMiB']} MiB at most"
        )
    return 0 if kept == options.points and told["killed"] else 1


if __name__ == "__main__":
    raise SystemExit(main())
