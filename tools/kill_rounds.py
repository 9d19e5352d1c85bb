"""Kills parts of a pod with SIGKILL while it writes numbered lines, and looks in the store for every one of them.

    python tools/kill_rounds.py [--rounds 20] [--lines 1000000] [--seconds 300] [--seed 0]

Real launch and ship processes on this machine; server and store are the ones of the tests. Prints one line per round
and the sum; stops early, and says so, when the time is over. Exits with 1 when anything was lost.
"""

import argparse
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT / "operator"), str(ROOT)]


def main() -> int:
    from tests.component.runtime.rounds import KINDS, kill_round

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--lines", type=int, default=1_000_000, help="lines that the command writes in each round")
    parser.add_argument("--seconds", type=float, default=300, help="no new round is begun after so long")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    begun, written, lost, done = time.monotonic(), 0, 0, 0
    for number in range(options.rounds):
        if time.monotonic() - begun > options.seconds:
            break
        kind = KINDS[number % len(KINDS)]
        with tempfile.TemporaryDirectory() as folder:
            try:
                result = kill_round(Path(folder) / "pod", kind, options.seed + number, options.lines, 120)
            except AssertionError as error:
                lost += 1
                print(f"{number + 1:3}  {kind:8} LOST: {error}", flush=True)
            else:
                written += result.written
                print(
                    f"{number + 1:3}  {kind:8} killed at line {result.killed_at:>9,}  written {result.written:>9,}"
                    f"  stored {result.stored:>9,}  complete files {result.files:>4}",
                    flush=True,
                )
        done += 1
    print(
        f"{done} of {options.rounds} rounds of up to {options.lines:,} lines in {time.monotonic() - begun:.0f} s: "
        f"{written:,} lines written, rounds with a loss: {lost}"
    )
    return 1 if lost or not done else 0


if __name__ == "__main__":
    sys.exit(main())
