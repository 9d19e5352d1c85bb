"""From `stoker run` to the first line of the user's script on the terminal, node and image warm, and where the time goes.

    python tools/bench/start.py [--runs 20] [--lab stoker-bench] [-o json]

The marks between come from the API server's audit log (microseconds) and from the script itself; kubelet and terminal share one machine and one clock.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from datetime import datetime
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "operator")]

import lab as embedded  # noqa: E402
from tools.demo import apply, install, pool_manifests  # noqa: E402

MARK = "first line at "
SCRIPT = f"import time\nprint('{MARK}' + repr(time.time()), flush=True)\n"
STEPS = ("submitted", "child", "pod", "bound", "script", "shown")
MEANING = {
    "submitted": "CLI start to TrainingJob POST (plan, snapshot, token, port-forward)",
    "child": "operator: TrainingJob to child Job POST",
    "pod": "Job controller: child to pod POST",
    "bound": "scheduler: pod to binding",
    "script": "kubelet, fetch, launch: binding to the script's first statement",
    "shown": "script's line to the terminal",
}


def one_run(lab: embedded.Lab, folder: Path, pool: str, image: str) -> dict[str, float]:
    """Seconds of each step of one run, and `total`."""
    # The pod of the run before ends about a second after its job: the node is warm when it is free.
    idle = "--for=jsonpath={.status.nodes.running}=0"
    lab.kubectl("wait", f"computecluster/{pool}", idle, "--timeout=60s")
    offset = lab.audit_log.stat().st_size
    started = time.time()
    process = subprocess.Popen(
        [sys.executable, "-m", "stoker.cli", "run", str(folder), "--compute", pool, "--environment", image, "-y", "-o", "json"],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env={**os.environ, "KUBECONFIG": str(lab.kubeconfig)},
    )  # fmt: skip
    assert process.stderr is not None
    assert process.stdout is not None
    shown = script = 0.0
    said = []
    for line in process.stderr:
        said.append(line)
        if MARK in line and not shown:
            shown, script = time.time(), float(line.rpartition(MARK)[2])
    record = process.stdout.read()
    if process.wait() != 0 or not shown:
        raise SystemExit(f"the run failed:\n{''.join(said)}{record}")
    marks = {"start": started, **_marks(lab.audit_log, offset), "script": script, "shown": shown}
    previous, steps = started, {}
    for step in STEPS:
        steps[step] = marks[step] - previous
        previous = marks[step]
    return {**steps, "total": shown - started}


def _marks(audit_log: Path, offset: int) -> dict[str, float]:
    """When the run's objects were accepted, from the audit log: seconds since the epoch."""
    found: dict[str, float] = {}
    with audit_log.open("rb") as log:
        log.seek(offset)
        for line in log:
            event: dict[str, Any] = json.loads(line)
            reference = event.get("objectRef", {})
            what = (event["verb"], reference.get("resource"), reference.get("subresource"))
            name = {
                ("create", "trainingjobs", None): "submitted", ("create", "jobs", None): "child",
                ("create", "pods", None): "pod", ("create", "pods", "binding"): "bound",
            }.get(what)  # fmt: skip
            if name and event["stage"] == "ResponseComplete" and event["responseStatus"]["code"] < 300:
                found.setdefault(
                    name, datetime.fromisoformat(event["stageTimestamp"].replace("Z", "+00:00")).timestamp()
                )
    return found


def summary(runs: list[dict[str, float]]) -> dict[str, dict[str, float]]:
    def of(step: str) -> dict[str, float]:
        taken = sorted(run[step] for run in runs)
        return {"p50": round(statistics.median(taken), 3), "p95": round(taken[max(0, round(len(taken) * 0.95) - 1)], 3)}

    return {step: of(step) for step in (*STEPS, "total")}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--runs", type=int, default=20)
    parser.add_argument("--lab", default="stoker-bench")
    parser.add_argument("--keep", action="store_true", help="leave the lab running")
    parser.add_argument("-o", "--output", choices=["text", "json"], default="text")
    arguments = parser.parse_args()
    lab = embedded.up(arguments.lab, nodes=1, progress=lambda line: print(line, file=sys.stderr))
    try:
        install(lab, progress=lambda line: print(line, file=sys.stderr))
        apply(lab, pool_manifests("start", most=1, idle_seconds=600))
        with tempfile.TemporaryDirectory() as made:
            folder = Path(made)
            (folder / "train.py").write_text(SCRIPT)
            (folder / "job.yaml").write_text("code: .\ncommand: python3 train.py\n")
            one_run(lab, folder, "start", lab.images["base"])  # boots the node and pulls the images
            runs = [one_run(lab, folder, "start", lab.images["base"]) for _ in range(arguments.runs)]
    finally:
        if not arguments.keep:
            embedded.down(arguments.lab)
    figures = summary(runs)
    if arguments.output == "json":
        print(json.dumps({"runs": runs, "summary": figures}, indent=2))
        return
    print(f"{'step':<12}{'p50 s':>8}{'p95 s':>8}")
    for step, figure in figures.items():
        print(f"{step:<12}{figure['p50']:>8.2f}{figure['p95']:>8.2f}   {MEANING.get(step, '')}")


if __name__ == "__main__":
    main()
