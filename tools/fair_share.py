"""Two thousand jobs of one namespace and ten of another on one full pool: how soon the ten take the nodes that fall free.

    python tools/fair_share.py [--many 2000] [--few 10] [--nodes 24] [--pace 2] [--after 100] [--lab stoker-fair]

Root, Linux. A real control plane and the operator as a process of its own; kwok plays the nodes, and this script lets one
pod after the other end. Exits with 1 when one of the ten waited longer than 10 s for the next node that fell free.
"""

import argparse
import asyncio
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.apiserver.controller.fair_share import Contest, Seen

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT / "operator"), str(ROOT)]

#: The longest that a job of the small namespace may wait for the next node that falls free, in seconds.
ALLOWED = 10.0


def main() -> int:
    import lab as embedded
    from tests.apiserver.controller import fair_share
    from tests.apiserver.controller.conftest import SYSTEM, Cluster, Operator, until

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--many", type=int, default=2000)
    parser.add_argument("--few", type=int, default=10)
    parser.add_argument("--nodes", type=int, default=24)
    parser.add_argument("--pace", type=float, default=2.0, help="nodes that fall free a second")
    parser.add_argument("--after", type=int, default=100, help="nodes that must be taken after the few have theirs")
    parser.add_argument("--lab", default="stoker-fair")
    options = parser.parse_args()
    contest = fair_share.Contest(
        "big", "small", options.many, options.few, options.nodes, options.pace, options.after
    )  # fmt: skip
    lab = embedded.up(options.lab, nodes=0, progress=lambda line: print(line, file=sys.stderr, flush=True))
    try:
        cluster = Cluster(lab)
        lab.kubectl("apply", "-f", str(ROOT / "crds"))
        lab.established("-f", str(ROOT / "crds"))
        names = (SYSTEM, contest.big, contest.small)
        cluster.apply(*({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}} for name in names))
        cluster.apply(*fair_share.pool(contest.nodes))
        pool = f"nodepools.lab.stoker.dev/{fair_share.POOL}"
        lab.kubectl("wait", pool, f"--for=jsonpath={{.status.readyReplicas}}={contest.nodes}", "--timeout=300s")
        with tempfile.TemporaryDirectory() as folder:
            operator = Operator(cluster, Path(folder))
            operator.start()
            until("the operator leads", lambda: operator.leads)
            try:
                had, waited = operator.processor
                began = time.monotonic()
                seen = asyncio.run(fair_share.play(lab, contest))
                had, waited = (now - before for now, before in zip(operator.processor, (had, waited), strict=True))
                lasted = time.monotonic() - began
            except Exception:
                print(operator.log[-4000:], file=sys.stderr)
                raise
            finally:
                operator.end()
    finally:
        embedded.down(options.lab)
    code = report(contest, seen)
    print(f"the operator had a processor for {had:.0f} s of {lasted:.0f}, and waited for one for {waited:.0f} s")
    return code


def report(contest: "Contest", seen: "Seen") -> int:
    """Print what was seen; the exit code."""
    delays, last = seen.delays(contest.small), seen.last(contest.small)
    first = min(at for job, at in seen.submitted.items() if job[0] == contest.small)
    end = max(seen.taken.values())
    submitting = max(seen.submitted.values()) - sorted(seen.submitted.values())[contest.nodes]
    before, after = seen.taken_by(contest.big, first, last), seen.taken_by(contest.big, last)
    print(
        f"{contest.many:,} jobs of {contest.big}, then {contest.few} of {contest.small}, submitted in {submitting:.0f} s"
    )
    print(f"{contest.nodes} nodes, all taken by {contest.big}; {contest.pace:g} a second are let go")
    print(f"the {len(delays)} of {contest.small} took a node after the next one fell free in: "
          f"{', '.join(f'{delay:.1f}' for delay in delays)} s")  # fmt: skip
    bound = [seen.bound[job] - at for job, at in seen.taken.items() if job in seen.bound]
    print(f"  median {statistics.median(delays):.1f} s, longest {max(delays):.1f} s (allowed {ALLOWED:g} s)")
    print(
        f"  from there to the pod on its node, all jobs: median {statistics.median(bound):.1f} s, longest {max(bound):.1f} s"
    )
    print(f"meanwhile {before} of {contest.big} took a node; after that {after} in {end - last:.0f} s")
    return 0 if len(delays) == contest.few and max(delays) <= ALLOWED else 1


if __name__ == "__main__":
    sys.exit(main())
