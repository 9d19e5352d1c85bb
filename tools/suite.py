"""`make test`: every test, in two streams side by side. What runs on a whole cluster mostly waits, so both cores have work.

    python tools/suite.py [PYTEST-ARGUMENT...]

The first stream is shown as it goes, the second one's output when it has ended. Exit code: 0 when all tests passed.
"""

import re
import signal
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import IO

ROOT = Path(__file__).resolve().parent.parent
# About as long as each other. A folder of tests that neither stream names would never run, and a lab that both start
# would be ended under the other's tests: tests/unit/tools/test_suite.py looks.
FIRST = ("tests/e2e", "tests/lab", "tests/unit")
SECOND = ("tests/apiserver", "tests/chart", "tests/component")
_COUNT = re.compile(r"(\d+) (passed|failed|errors?|skipped|xfailed|xpassed)\b")


def counted(closing_lines: Iterable[str]) -> Counter[str]:
    """What pytest's closing lines say in all. An error counts as a failure: its test did not pass."""
    total: Counter[str] = Counter()
    for line in closing_lines:
        for number, what in _COUNT.findall(line):
            total["failed" if what.startswith("error") else what] += int(number)
    return total


def closing_line(output: str) -> str:
    """pytest's last line that counts tests; empty when it never came so far."""
    return next((line for line in reversed(output.splitlines()) if line.startswith("=") and _COUNT.search(line)), "")


def _start(folders: Iterable[str], arguments: list[str], out: IO[str] | int) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "pytest", *folders, *arguments]
    return subprocess.Popen(command, cwd=ROOT, stdout=out, stderr=subprocess.STDOUT, text=True)


def main(arguments: list[str]) -> int:
    """Run both streams to their ends. Ctrl-C reaches both, for they share our terminal; each ends its labs."""
    signal.signal(signal.SIGINT, lambda *_: None)
    with tempfile.TemporaryFile("w+") as kept:
        quiet = _start(SECOND, arguments, kept)
        shown = _start(FIRST, arguments, subprocess.PIPE)
        # Told to stop, each stream gets what Ctrl-C sends: it ends its labs and says how far it came.
        signal.signal(signal.SIGTERM, lambda *_: [one.send_signal(signal.SIGINT) for one in (quiet, shown)])
        assert shown.stdout is not None
        lines = []
        for line in shown.stdout:
            lines.append(line)
            print(line, end="", flush=True)
        codes = [shown.wait(), quiet.wait()]
        kept.seek(0)
        other = kept.read()
    print(other, end="", flush=True)
    closing = [closing_line("".join(lines)), closing_line(other)]
    total = counted(closing)
    print(*closing, sep="\n")
    print(f"{total['passed']} passed, {total['failed']} failed, {total['skipped']} skipped", flush=True)
    return max(codes) if all(code >= 0 for code in codes) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
