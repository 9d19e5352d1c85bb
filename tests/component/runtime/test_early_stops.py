"""A part that is told to stop before it can act on it. The first process of a container ignores a signal that it has no
handler for, so one that came then would be lost, and the pod would stay for its whole grace period.

Each part runs as the first process of a process namespace here, as in a container.
"""

import itertools
import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.component.runtime.pod import Cloud, Pod, eventually

#: In the masks that /proc shows.
TERM = 1 << (signal.SIGTERM - 1)


WAITS = """#!/usr/bin/python3 -IS
import os, sys, time
if {words!r} in " ".join(sys.argv):
    open("{reached}", "w").close()
    while not os.path.exists("{let}"):
        time.sleep(0.02)
os.execv("{program}", ["{program}"] + sys.argv[1:])
"""


def states(pid: int) -> Iterator[tuple[str, str]]:
    """What a process runs, and what becomes of a SIGTERM to it (waits, caught, lost), as often as can be looked until it
    ends."""
    while True:
        try:
            text = Path(f"/proc/{pid}/status").read_text()
        except (FileNotFoundError, ProcessLookupError):
            return
        told = dict(line.split(":\t", 1) for line in text.splitlines())
        fate = "waits" if int(told["SigBlk"], 16) & TERM else "caught" if int(told["SigCgt"], 16) & TERM else "lost"
        yield told["Name"], fate


def before_the_end(pod: Pod, launch: int) -> Iterator[tuple[str, str]]:
    """Its states until its exit record is there: after that there is nothing to stop."""
    return itertools.takewhile(lambda _: not os.path.exists(pod.scratch.exit), states(launch))


class Held:
    """A program that waits, when its arguments have `words`, until it is let go: the moment in which a part is stopped."""

    def __init__(self, folder: Path, program: str, words: str) -> None:
        folder.mkdir()
        self.path = folder / Path(program).name
        self._reached, self._let = folder / "reached", folder / "let"
        # Not a shell: dash lets blocked signals come whenever it waits.
        self.path.write_text(WAITS.format(words=words, reached=self._reached, let=self._let, program=program))
        self.path.chmod(0o755)

    @property
    def environment(self) -> dict[str, str]:
        """In which it is found before the real one."""
        return {"PATH": f"{self.path.parent}:{os.environ['PATH']}"}

    def stop(self, pid: int) -> None:
        """SIGTERM to a process that has come to here, which then goes on."""
        eventually(self._reached.exists)
        os.kill(pid, signal.SIGTERM)
        self._let.touch()


@pytest.mark.parametrize(
    ("program", "words", "environment"),
    [
        ("/usr/bin/python3", "-S", {}),
        ("/usr/bin/python3", "stoker-agent.pyz", {}),
        ("/usr/bin/chmod", "std_log", {"STOKER_LAUNCH_WITH": "sh"}),
    ],
    ids=["before-python", "before-its-first-line", "sh-alone"],
)
def test_a_launch_that_is_told_to_stop_at_once_never_starts_its_command(
    pod: Pod, tmp_path: Path, program: str, words: str, environment: dict[str, str]
) -> None:
    held = Held(tmp_path / "bin", program, words)
    parent, launch = pod.launch_as_first_process("touch", "outputs/started", **environment, **held.environment)

    held.stop(launch)
    parent.communicate(timeout=20)

    assert (pod.exit["reason"], pod.exit["message"]) == ("Stopped", "told to stop before the command had started")
    assert not (pod.work / "outputs" / "started").exists()


def test_a_launch_loses_no_signal_from_its_shells_first_line_to_its_commands_end(pod: Pod) -> None:
    """But for the half millisecond that env takes to block them."""
    parent, launch = pod.launch_as_first_process("true")

    seen = [state for state in before_the_end(pod, launch) if state[0] not in ("unshare", "env")]
    parent.communicate(timeout=20)

    begun = seen.index(("sh", "caught"))
    assert [state for state in seen[begun:] if state[1] == "lost"] == []
    assert any(name.startswith("python") for name, _ in seen)


def test_without_an_env_that_blocks_signals_python_does_so_in_its_first_lines(pod: Pod, tmp_path: Path) -> None:
    env = tmp_path / "bin" / "env"
    env.parent.mkdir()
    env.write_text("#!/bin/sh\nexit 125\n")
    env.chmod(0o755)
    parent, launch = pod.launch_as_first_process("true", PATH=f"{env.parent}:/usr/bin:/bin")

    seen = [fate for name, fate in before_the_end(pod, launch) if name.startswith("python")]
    parent.communicate(timeout=20)

    # The start of the interpreter, the imports, the handlers; a fork holds signals back too, for a moment.
    fates = [fate for fate, _ in itertools.groupby(seen)]
    assert fates[:3] == ["lost", "waits", "caught"]
    assert fates.count("lost") == 1


def test_a_ship_that_is_told_to_stop_at_once_seals_its_rank_as_never_started(
    cloud_pod: Pod, cloud: Cloud, tmp_path: Path
) -> None:
    held = Held(tmp_path / "bin", sys.executable, "ship")
    parent, ship = cloud_pod.as_first_process("ship", python=str(held.path))

    held.stop(ship)
    parent.communicate(timeout=20)

    assert cloud.seal is not None
    assert (parent.returncode, cloud.seal["exit"]["reason"]) == (0, "NotStarted")


def test_a_fetch_that_is_told_to_stop_at_once_ends(cloud_pod: Pod, cloud: Cloud, tmp_path: Path) -> None:
    cloud.fault = lambda method, path: (500, {}, b"")
    held = Held(tmp_path / "bin", sys.executable, "fetch")
    parent, fetch = cloud_pod.as_first_process("fetch", python=str(held.path))

    held.stop(fetch)
    parent.communicate(timeout=20)

    assert parent.returncode == 128 + signal.SIGTERM
