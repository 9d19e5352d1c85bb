"""`make test`: every test, in two streams side by side. What runs on a whole cluster mostly waits, so both cores have work.

    python tools/suite.py [PYTEST-ARGUMENT...]

The first stream is shown as it goes, the second one's output when it has ended. A few tests that failed run once more,
alone: one that passes then is named as flaky, with its first failure in full above. It is a defect to mend, of the test
or of Stoker, but it is told apart from a promise that is broken. Exit code: 0 when all tests passed.
"""

import json
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
#: More failures than these are no accident of a busy machine.
MOST_AGAIN = 4
_COUNT = re.compile(r"(\d+) (passed|failed|errors?|skipped|xfailed|xpassed)\b")
_TESTS_FAILED = 1  # pytest's exit code when it ran to its end


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


def again(codes: Iterable[int], failed: list[str], total: Counter[str]) -> list[str]:
    """The tests to run once more: those that failed, if they are few, known by name, and each stream came to its end."""
    ended = all(code in (0, _TESTS_FAILED) for code in codes)
    return failed if ended and len(failed) == total["failed"] <= MOST_AGAIN else []


def _failed(cache: Path) -> list[str]:
    """The tests that failed, by what pytest keeps for its --last-failed."""
    kept = cache / "v/cache/lastfailed"
    return sorted(json.loads(kept.read_text())) if kept.exists() else []


def _start(tests: Iterable[str], arguments: list[str], cache: Path, out: IO[str] | int | None) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "pytest", *tests, *arguments, "-o", f"cache_dir={cache}"]
    return subprocess.Popen(command, cwd=ROOT, stdout=out, stderr=subprocess.STDOUT, text=True)


def main(arguments: list[str]) -> int:
    """Run both streams to their ends. Ctrl-C reaches both, for they share our terminal; each ends its labs."""
    signal.signal(signal.SIGINT, lambda *_: None)
    running: list[subprocess.Popen[str]] = []
    # Told to stop, each stream gets what Ctrl-C sends: it ends its labs and says how far it came.
    signal.signal(signal.SIGTERM, lambda *_: [one.send_signal(signal.SIGINT) for one in running])
    with tempfile.TemporaryFile("w+") as kept, tempfile.TemporaryDirectory() as folder:
        caches = [Path(folder, name) for name in ("second", "first", "again")]
        running.append(quiet := _start(SECOND, arguments, caches[0], kept))
        running.append(shown := _start(FIRST, arguments, caches[1], subprocess.PIPE))
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
        print(*closing, sep="\n", flush=True)
        flaky = again(codes, [*_failed(caches[0]), *_failed(caches[1])], total)
        if flaky:
            print(f"once more, alone: {' '.join(flaky)}", flush=True)
            running.append(once_more := _start(flaky, arguments, caches[2], None))
            codes = [once_more.wait()]
            flaky = [test for test in flaky if test not in _failed(caches[2])] if codes[0] in (0, _TESTS_FAILED) else []
            total += Counter(passed=len(flaky), failed=-len(flaky))
    for test in flaky:
        print(f"FLAKY {test}: failed, and passed alone; see its failure above")
    print(f"{total['passed']} passed, {total['failed']} failed, {total['skipped']} skipped", flush=True)
    return max(codes) if all(code >= 0 for code in codes) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
