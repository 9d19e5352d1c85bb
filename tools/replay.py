"""Replay a trace of jobs in virtual time through the pool's own decision, beside the exact offline optimum.

    python tools/replay.py --trace tools/data/philly-4vc.csv --boot-seconds 300 --idle auto|SECONDS
                           [--max-job-seconds N] [--cap NODES|PERCENT%] [--pool machines|scale] [-o json|text]

Each value of the trace's column `user` is one pool. --idle auto: idlePolicy Learned; a number: a fixed timer. --cap: most
nodes of each pool, or that part of what it would need if every job started at once. --pool: whether a boot that nobody
waits for any more can be ended (a provider of single machines) or not (type Scale).
costRatio: node-seconds of idling and booting over those of the optimum, which knows the trace beforehand; the boots that
any policy pays (the first of each level of the demand) are left out on both sides. starved: jobs that never started.
"""

import argparse
import json
import math
import statistics
import sys
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT / "operator"), str(ROOT)]

from tools.replaying import optimum, trace  # noqa: E402
from tools.replaying.pool import Outcome, Replay, cluster  # noqa: E402

HOUR = 3600.0


@dataclass(frozen=True, slots=True)
class Cap:
    """nodes: of each pool; part: of what a pool would need. Neither: as many as it needs."""

    nodes: int | None = None
    part: float | None = None

    def of(self, jobs: list[trace.Job]) -> int:
        if self.nodes is not None:
            return self.nodes
        # Without a cap: a job that waits for its boot ends later, so more nodes than the peak may be wanted.
        return max(1, math.floor(trace.peak(jobs) * self.part)) if self.part is not None else 10_000


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--trace", type=Path, default=ROOT / "tools/data/philly-4vc.csv")
    parser.add_argument("--boot-seconds", type=float, required=True)
    parser.add_argument("--idle", type=_idle, default=None, help="auto, or seconds", metavar="auto|SECONDS")
    parser.add_argument("--max-job-seconds", type=float)
    parser.add_argument("--cap", type=_cap, default=Cap(), metavar="NODES|PERCENT%")
    parser.add_argument("--pool", choices=("machines", "scale"), default="machines")
    parser.add_argument("-o", "--output", choices=("json", "text"), default="text")
    options = parser.parse_args()
    report = replay(
        options.trace,
        options.boot_seconds,
        options.idle,
        options.max_job_seconds,
        options.cap,
        cancels=options.pool == "machines",
    )
    if options.output == "json":
        print(json.dumps(report))
    else:
        print("\n".join(f"{name:20} {value:,.3f}" for name, value in report.items()))
    return 0


def replay(
    path: Path,
    boot: float,
    idle: float | None,
    most_seconds: float | None = None,
    cap: Cap | None = None,
    pools: Collection[str] = (),
    *,
    cancels: bool = True,
) -> dict[str, float]:
    """The figures of a trace; see the head of this file. pools: those to look at; none: all."""
    every = trace.read(path, most_seconds)
    wanted = {name: jobs for name, jobs in every.items() if not pools or name in pools}
    outcomes = []
    for name, jobs in wanted.items():
        most = (cap or Cap()).of(jobs)
        if (largest := max(job.nodes for job in jobs)) > most:
            raise SystemExit(f"--cap: {name} has a job of {largest} nodes, more than the {most} that it may have")
        outcomes.append(Replay(cluster(name, most, idle), jobs, boot, cancels=cancels).run())
    return summed([optimum.levels(jobs) for jobs in wanted.values()], outcomes, boot)


def summed(parts: list[optimum.Levels], outcomes: list[Outcome], boot: float) -> dict[str, float]:
    paid = sum(outcome.node_seconds for outcome in outcomes)
    busy = sum(part.busy for part in parts)
    first = sum(part.first for part in parts) * boot
    least = sum(optimum.least_waste(part, boot) for part in parts)
    waits = [wait for outcome in outcomes for wait in outcome.waits]
    return {
        "costRatio": round((paid - busy - first) / least, 4) if least else 1.0,
        "meanWaitSeconds": round(statistics.fmean(waits), 1) if waits else 0.0,
        "nodeHours": round(paid / HOUR, 2),
        "optimumNodeHours": round((busy + least + first) / HOUR, 2),
        "busyNodeHours": round(busy / HOUR, 2),
        "starved": sum(outcome.unstarted for outcome in outcomes),
        "overHeldNodeHours": round(sum(outcome.over_held for outcome in outcomes) / HOUR, 2),
    }


def _idle(text: str) -> float | None:
    return None if text == "auto" else float(text)


def _cap(text: str) -> Cap:
    return Cap(part=float(text[:-1]) / 100) if text.endswith("%") else Cap(nodes=int(text))


if __name__ == "__main__":
    sys.exit(main())
