"""Kills, stops and cuts at random while jobs run on real and kwok nodes, then looks whether everything is as promised.

    python tools/chaos/run.py [--minutes 30] [--jobs 50] [--seed 1] [--real-nodes 3] [--kwok-nodes 24] [--lab stoker-chaos]

A lab of its own is started and ended (--keep leaves it). So many jobs are kept going: when some end, others are submitted.
The seed decides what is done and when; what it meets depends on the machine. Prints each fault, then what broke, and exits
with 1 for that.
"""

import argparse
import json
import os
import random
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "operator")]

import lab as embedded  # noqa: E402
from lab import LabError  # noqa: E402
from stoker.api.names import FINISHED  # noqa: E402
from tools.chaos import faults, invariants, work  # noqa: E402
from tools.demo import install  # noqa: E402

#: From the last fault to the end of every job, in seconds: back-offs and the patience with dead nodes are part of it.
SETTLE_SECONDS = 1200.0
#: Between two faults, in seconds.
PAUSE = (2.0, 15.0)

T = TypeVar("T")


class Chaos:
    """One run: the cluster, the jobs, and the faults that are not over yet."""

    def __init__(self, lab: embedded.Lab, seed: int, jobs: int) -> None:
        self.lab = lab
        self.jobs = jobs
        self.submitted = 0
        self.happened: Counter[str] = Counter()
        self._begun = time.monotonic()
        self._open: dict[threading.Timer, faults.Happening] = {}
        self._lock = threading.Lock()
        self._deaf = False
        #: Who plays the pods on kwok nodes: without it nothing there would end.
        self.player: subprocess.Popen[bytes] | None = None
        # One for the jobs, one for the faults: how fast jobs end must not decide which faults come.
        self._work, self._chance = random.Random(seed), random.Random(seed + 1)

    def say(self, line: str) -> None:
        print(f"{time.monotonic() - self._begun:7.1f} s  {line}", flush=True)

    def kubectl(self, *arguments: str, input: str | None = None) -> str:
        """As an administrator; gives up on an API server that does not answer. Raises LabError."""
        return self.lab.kubectl("--request-timeout=10s", *arguments, input=input)

    def items(self, kind: str, *selector: str) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = json.loads(self.kubectl("get", kind, "-n", "default", "-o", "json", *selector))[
            "items"
        ]
        return found

    def unfinished(self) -> list[dict[str, Any]]:
        return [job for job in self.items("trainingjobs") if job.get("status", {}).get("phase") not in FINISHED]

    def submit(self) -> None:
        """Bring the number of unfinished jobs up to what was asked for."""
        missing = self.jobs - len(self.unfinished())
        made = []
        for _ in range(missing):
            self.submitted += 1
            # Real nodes are few: a fifth of the jobs is for them.
            made.append(work.job(self.submitted, self.lab.images["base"], self._work, real=self.submitted % 5 == 0))
        if made:
            self.kubectl("apply", "-f", "-", input=json.dumps({"apiVersion": "v1", "kind": "List", "items": made}))

    def strike(self) -> None:
        """One fault, if there is something that it can hit."""
        weights, ways = zip(*faults.FAULTS, strict=True)
        way = self._chance.choices(ways, weights)[0]
        happening = way(self, self._chance)
        if happening is None:
            return
        self.happened[way.__name__] += 1
        self.say(happening.told)
        if happening.undo is not None:
            # Not in this thread: it may be waiting for an API server that is stopped.
            timer = threading.Timer(happening.seconds, lambda: self._mend(timer))
            with self._lock:
                self._open[timer] = happening
            timer.start()

    def mend(self) -> None:
        """End every fault that goes on."""
        with self._lock:
            timers = list(self._open)
        for timer in timers:
            timer.cancel()
            self._mend(timer)

    def _mend(self, timer: threading.Timer) -> None:
        """Once for each, whoever comes first."""
        with self._lock:
            happening = self._open.pop(timer, None)
        if happening is not None and happening.undo is not None:
            happening.undo()

    def rage(self, seconds: float) -> None:
        """Faults at random moments for so long. While the API server does not answer, what needs it is tried again."""
        until = time.monotonic() + seconds
        next_fault = time.monotonic()
        try:
            while (now := time.monotonic()) < until:
                self.check_player()
                self.tried(self.submit)
                if now >= next_fault:
                    self.tried(self.strike)
                    next_fault = now + self._chance.uniform(*PAUSE)
                time.sleep(0.5)
        finally:
            self.mend()

    def settle(self) -> None:
        """Wait until every job has ended and every pod of theirs, or the patience is over: the rules tell which has not."""
        until = time.monotonic() + SETTLE_SECONDS
        told = 0.0
        while time.monotonic() < until:
            self.check_player()
            left = self.tried(self.going_on)
            if left == (0, 0):
                return
            if left is not None and time.monotonic() > told + 30:
                told = time.monotonic()
                self.say(f"{left[0]} jobs and {left[1]} pods go on")
            time.sleep(1)

    def check_player(self) -> None:
        """Raises LabError when the sealer has ended: what is broken then is the play."""
        if self.player is not None and self.player.poll() is not None:
            log = self.lab.state_dir / "logs" / "sealer.log"
            raise LabError(f"the sealer ended before its time, and no rule could be tried: {log.read_text()[-3000:]}")

    def going_on(self) -> tuple[int, int]:
        """How many jobs and pods have not ended."""
        ended = "--field-selector=status.phase!=Succeeded,status.phase!=Failed"
        return len(self.unfinished()), len(self.items("pods", "-l", "stoker.dev/job", ended))

    def tried(self, act: Callable[[], T]) -> T | None:
        """What it returns; None, and a line for people the first time, when the cluster did not answer."""
        try:
            result = act()
        except LabError as error:
            if not self._deaf:
                self.say(f"the cluster does not answer: {' '.join(str(error).split())[-120:]}")
            self._deaf = True
            return None
        self._deaf = False
        return result

    def broken(self, offset: int) -> Iterator[str]:
        """What is not as promised."""
        jobs, objects = self.items("trainingjobs"), stored(self.lab)
        yield from invariants.true_ends(jobs, objects)
        yield from invariants.no_doubled_child(invariants.creates_of_children(self.lab.audit_log, offset), jobs)
        yield from invariants.sealed_truthfully(objects)
        yield from invariants.goes_on(jobs, objects)
        yield from invariants.nothing_left(
            self.items("jobs.batch"),
            self.items("pods", "-l", "stoker.dev/job"),
            self.items("persistentvolumeclaims"),
            objects,
            self.lab.state_dir / "s3",
        )


def stored(lab: embedded.Lab) -> dict[str, bytes]:
    """Every object of the default namespace's workspace, by key, read past Stoker."""
    import boto3

    s3 = lab.s3
    client = boto3.client(
        "s3",
        endpoint_url=s3.endpoint,
        region_name=s3.region,
        aws_access_key_id=s3.access_key,
        aws_secret_access_key=s3.secret_key,
    )
    pages = client.get_paginator("list_objects_v2").paginate(Bucket=s3.bucket, Prefix="default/jobs/")
    keys = [item["Key"] for page in pages for item in page.get("Contents", ())]
    return {key: client.get_object(Bucket=s3.bucket, Key=key)["Body"].read() for key in keys}


@contextmanager
def played(lab: embedded.Lab, hold_seconds: float) -> Iterator[subprocess.Popen[bytes]]:
    """The sealer plays the pods on kwok nodes while the block runs. It reaches the server by its Service, as pods do."""
    address = lab.kubectl(
        "get",
        "service",
        "stoker-server",
        "-n",
        "stoker-system",
        "-o",
        "jsonpath={.spec.clusterIP}:{.spec.ports[0].port}",
    )
    log = (lab.state_dir / "logs" / "sealer.log").open("ab")
    process = subprocess.Popen(
        [
            sys.executable, "-m", "lab.sealer", "--kubeconfig", str(lab.kubeconfig), "--server", f"http://{address}",
            "--hold-seconds", str(hold_seconds),
        ],
        cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT / "operator")}, stderr=log,
    )  # fmt: skip
    try:
        yield process
    finally:
        process.terminate()
        process.wait(20)
        log.close()


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--minutes", type=float, default=30.0, help="how long faults are made")
    parser.add_argument("--jobs", type=int, default=50, help="unfinished jobs that are kept going")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--real-nodes", type=int, default=3)
    parser.add_argument("--kwok-nodes", type=int, default=24)
    parser.add_argument("--hold-seconds", type=float, default=10.0, help="how long a pod on a kwok node runs")
    parser.add_argument("--lab", default="stoker-chaos", help="name of the lab")
    parser.add_argument("--keep", action="store_true", help="leave the lab running at the end")
    options = parser.parse_args()
    try:
        lab = embedded.up(options.lab, nodes=1)
        install(lab, operators=2)
        chaos = Chaos(lab, options.seed, options.jobs)
        offset = lab.audit_log.stat().st_size
        manifests = work.pools(options.real_nodes, options.kwok_nodes)
        lab.kubectl("apply", "-f", "-", input=json.dumps({"apiVersion": "v1", "kind": "List", "items": manifests}))
        with played(lab, options.hold_seconds) as chaos.player:
            chaos.rage(options.minutes * 60)
            chaos.say("no more faults; waiting for the end of every job")
            chaos.settle()
        broken = list(chaos.broken(offset))
        return report(chaos, broken, options)
    finally:
        if not options.keep:
            embedded.down(options.lab)


def report(chaos: Chaos, broken: list[str], options: argparse.Namespace) -> int:
    jobs = chaos.items("trainingjobs")
    ends = Counter(job["status"].get("phase") for job in jobs)
    attempts = sum(len(job["status"].get("attempts", ())) for job in jobs)
    print(f"\nseed {options.seed}, {options.minutes:g} min: {sum(chaos.happened.values())} faults")
    for name, count in sorted(chaos.happened.items()):
        print(f"  {name.replace('_', ' '):24} {count:4}")
    print(f"{chaos.submitted} jobs submitted, {len(jobs)} not deleted: {dict(ends)}, {attempts} attempts")
    for line in broken:
        print(f"BROKEN: {line}")
    print(f"{len(broken)} broken promises")
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
