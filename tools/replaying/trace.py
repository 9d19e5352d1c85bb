"""Jobs of a trace: a CSV with columns submit_time_s, n_nodes, duration_s, user (the pool that the job ran on) and job."""

import csv
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Job:
    """Takes `nodes` nodes at once for `seconds`, from `submitted` on (seconds after the trace's start)."""

    name: str
    submitted: float
    nodes: int
    seconds: float


def read(path: Path, most_seconds: float | None = None) -> Mapping[str, list[Job]]:
    """The jobs of each pool, the earliest first; most_seconds: only those that run no longer than this."""
    pools: dict[str, list[Job]] = defaultdict(list)
    with path.open(newline="") as lines:
        for number, row in enumerate(csv.DictReader(lines)):
            try:
                job = Job(
                    row["job"] or f"job-{number}", float(row["submit_time_s"]), int(row["n_nodes"]), float(row["duration_s"])
                )  # fmt: skip
            except (KeyError, TypeError, ValueError) as error:
                raise SystemExit(
                    f"{path}, line {number + 2}: {error!r}; see tools/data/README.md for the columns"
                ) from None
            if most_seconds is None or job.seconds <= most_seconds:
                pools[row["user"]].append(job)
    return {name: sorted(jobs, key=lambda job: job.submitted) for name, jobs in sorted(pools.items())}


def busy_seconds(jobs: Iterable[Job]) -> float:
    return sum(job.nodes * job.seconds for job in jobs)


def changes(jobs: Sequence[Job]) -> list[tuple[float, int]]:
    """How many nodes more (or less) are in use from which moment on, if every job starts when it is submitted."""
    found = [(job.submitted, 1, job.nodes) for job in jobs]
    # At one moment those that end come before those that start.
    found += [(job.submitted + job.seconds, 0, -job.nodes) for job in jobs]
    return [(at, change) for at, _, change in sorted(found)]


def peak(jobs: Sequence[Job]) -> int:
    """The most nodes in use at a time."""
    used = most = 0
    for _, change in changes(jobs):
        used += change
        most = max(most, used)
    return most
