"""How long one decision of a pool takes: 10,000 gangs that wait, 1,000 nodes.

python tools/bench/decision.py [--gangs 10000] [--nodes 1000] [--runs 5]
"""

import argparse
import statistics
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
sys.path[:0] = [str(ROOT / "operator"), str(ROOT)]


def main() -> int:
    from stoker.core import cluster as pools
    from tests.support import crowd

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--gangs", type=int, default=10_000)
    parser.add_argument("--nodes", type=int, default=1_000)
    parser.add_argument("--runs", type=int, default=5)
    options = parser.parse_args()
    for name, view in crowd.views(options.gangs, options.nodes).items():
        took = []
        for _ in range(options.runs):
            began = time.perf_counter()
            pools.plan(view, crowd.NOW)
            took.append(time.perf_counter() - began)
        print(f"{name:34} median {statistics.median(took):.3f} s, longest {max(took):.3f} s")
    return 0


if __name__ == "__main__":
    sys.exit(main())
