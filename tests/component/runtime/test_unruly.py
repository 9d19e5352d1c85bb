"""Commands that do not behave: sealed truthfully, never a hang, and the grace period is shared."""

import os
import re
import signal
import stat
import sys
import time
from pathlib import Path

import pytest

from stoker.runtime import wire
from stoker.runtime.configure import LaunchConfig, write_config
from tests.component.runtime.pod import Cloud, Pod, eventually

#: Ignores SIGTERM, leaves a grandchild that ignores it too and keeps writing, and prints long binary lines.
UNRULY = """
import os, signal, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
if os.fork() == 0:
    open("outputs/grandchild", "w").write(str(os.getpid()))
    while True:
        os.write(1, b"still here\\n")
        time.sleep(0.01)
line = bytes(range(256)) * 40_000
for _ in range(2):
    view = memoryview(line + b"\\n")
    while view:
        view = view[os.write(1, view):]
os.rename("outputs/grandchild", "outputs/ready")
time.sleep(60)
"""


def test_an_unruly_command_gets_its_share_of_the_grace_and_all_it_wrote_is_saved(cloud_pod: Pod, cloud: Cloud) -> None:
    write_config(cloud_pod.scratch, LaunchConfig(grace_seconds=10))
    cloud_pod.ship()
    process = cloud_pod.launch(sys.executable, "-c", UNRULY, wait=True)
    assert process.stdout is not None
    process.stdout.close()  # nobody reads the copy of the log
    ready = cloud_pod.work / "outputs/ready"
    eventually(ready.exists)
    begun = time.monotonic()

    process.send_signal(signal.SIGTERM)
    eventually(lambda: os.path.exists(cloud_pod.scratch.exit))
    killed = time.monotonic() - begun

    assert 1.5 < killed < 5, "the command has a fifth of the grace period"
    assert cloud_pod.await_sealed()["complete"]
    assert process.wait(5) == 137
    assert time.monotonic() - begun < 10, "saving ended within the grace period too"
    assert (9, "Stopped") == (cloud.seal["exit"]["signal"], cloud.seal["exit"]["reason"])
    grandchild = int(ready.read_text())
    eventually(lambda: not os.path.exists(f"/proc/{grandchild}") or ") Z " in _stat(grandchild))
    assert cloud_pod.log == cloud.stored[wire.LOG_PATH]
    assert cloud.stored[wire.LOG_PATH].count(bytes(range(256))) > 79_000
    assert cloud.stored["outputs/ready"] == ready.read_bytes()


def test_on_a_stop_the_intervals_of_ship_shorten(cloud_pod: Pod, cloud: Cloud) -> None:
    """Between SIGTERM and the command's end its new lines and files go up, long before the ordinary interval is over."""
    cloud_pod.ship(STOKER_LOG_SECONDS="1", STOKER_SCAN_SECONDS="30")
    script = "trap 'echo saving; echo w > outputs/last' TERM; echo ready; while :; do sleep 0.05; done"
    process = cloud_pod.launch("sh", "-c", script, wait=True)
    eventually(lambda: cloud.stored.get(wire.segment_path(0)) == b"ready\n")

    process.send_signal(signal.SIGTERM)

    eventually(lambda: b"saving" in cloud.stored.get(wire.segment_path(6), b""), 4)
    eventually(lambda: "outputs/last" in cloud.stored, 4)
    assert process.poll() is None, "the command is still in its grace"


def _stat(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return ") Z "


def test_appending_to_dev_stdout_loses_nothing(cloud_pod: Pod, cloud: Cloud) -> None:
    cloud_pod.ship()
    cloud_pod.launch("sh", "-c", "echo one; echo two >> /dev/stdout; echo three >> /dev/stderr; echo four", wait=True)

    assert cloud_pod.await_sealed()["complete"]
    assert cloud.stored[wire.LOG_PATH] == b"one\ntwo\nthree\nfour\n"


EMPTIED = (
    rb"stoker: LogTruncated: the log was emptied \(`> /dev/stdout` does that, `>> /dev/stdout` does not\) after %d "
    rb"bytes, which are kept above; what was written after them, in the (\d+\.\d) s before, is lost\n"
)


def has_read(pod: Pod, words: bytes) -> bool:
    """Whether ship's copy of the log has these words (short ones stand in it as they are)."""
    copy = Path(pod.scratch.journal, "log.copy")
    return copy.exists() and words in copy.read_bytes()


def go(pod: Pod, name: str) -> None:
    """Let a command go on that waits for this file (see AWAIT)."""
    (pod.work / name).touch()


AWAIT = "await() { while [ ! -e $1 ]; do sleep 0.02; done; };"


def test_opening_dev_stdout_anew_loses_only_what_was_not_read_yet(cloud_pod: Pod, cloud: Cloud) -> None:
    cloud_pod.ship()
    script = "seq 1 1000; echo all; await a; echo x > /dev/stdout; echo four; await b; echo end"
    cloud_pod.launch("sh", "-c", AWAIT + script, wait=True)
    before = b"".join(b"%d\n" % n for n in range(1, 1001)) + b"all\n"
    eventually(lambda: cloud.stored.get(wire.segment_path(0)) == before)
    go(cloud_pod, "a")
    eventually(lambda: has_read(cloud_pod, b"four"))
    go(cloud_pod, "b")

    assert cloud_pod.await_sealed()["complete"]
    stored = cloud.stored[wire.LOG_PATH]
    found = re.fullmatch(re.escape(before) + EMPTIED % len(before) + b"x\nfour\nend\n", stored)
    assert found, stored
    assert float(found[1]) < 1
    pieces = [cloud.stored[path] for path in sorted(cloud.stored) if path.startswith(wire.SEGMENT_PREFIX)]
    assert stored.startswith(b"".join(pieces)), "who follows the log sees what is stored at the end"
    assert b"LogTruncated" in b"".join(pieces)


def test_an_emptied_log_outlives_a_kill_of_ship_and_an_outage(cloud_pod: Pod, cloud: Cloud) -> None:
    cloud.fault = lambda method, path: (503, {}, b"") if method == "PUT" else None
    ship = cloud_pod.ship()
    launch = cloud_pod.launch("sh", "-c", AWAIT + "echo one; await a; echo two > /dev/stdout; await b", wait=True)
    eventually(lambda: has_read(cloud_pod, b"one"))
    go(cloud_pod, "a")
    eventually(lambda: has_read(cloud_pod, b"two"))
    ship.kill()
    ship.wait()
    cloud.fault = lambda method, path: None

    cloud_pod.ship()
    go(cloud_pod, "b")

    assert cloud_pod.await_sealed()["complete"]
    assert launch.wait(10) == 0
    assert re.fullmatch(b"one\n" + EMPTIED % 4 + b"two\n", cloud.stored[wire.LOG_PATH])


def test_a_log_that_is_emptied_again_and_again_meets_its_limit(cloud_pod: Pod, cloud: Cloud) -> None:
    write_config(cloud_pod.scratch, LaunchConfig(log_bytes=10_000_000, grace_seconds=10))
    cloud_pod.ship()
    script = "while :; do head -c 1000000 /dev/urandom > /dev/stdout; sleep 0.3; done"
    launch = cloud_pod.launch("sh", "-c", script, wait=True)

    assert launch.wait(30) == 143
    assert "LogLimitExceeded" == cloud.seal["exit"]["reason"]
    assert cloud.seal["complete"]


@pytest.mark.parametrize("launcher", ["python", "sh"])
def test_a_second_uid_writes_to_dev_stdout(cloud_pod: Pod, cloud: Cloud, launcher: str) -> None:
    assert os.getuid() == 0, "make test runs as root: only root can start a process of another uid"
    program = (
        "import os, time; os.setgroups([]); os.setgid(4242); os.setuid(4242);"
        "print('appended', file=open('/dev/stdout', 'a'), flush=True)\n"
        "while not os.path.exists('a'): time.sleep(0.02)\n"
        "print('anew', file=open('/dev/stdout', 'w'), flush=True)"
    )
    cloud_pod.ship()
    more = {"STOKER_LAUNCH_WITH": "sh"} if launcher == "sh" else {}
    # The other uid sees the folder through its own working directory alone, as it does nothing by a path.
    cloud_pod.launch("sh", "-c", f'echo first; python3 -c "{program}"; echo last', wait=True, **more)
    eventually(lambda: has_read(cloud_pod, b"appended"))
    go(cloud_pod, "a")

    assert cloud_pod.await_sealed()["complete"]
    before = b"first\nappended\n"
    assert re.fullmatch(before + EMPTIED % len(before) + b"anew\nlast\n", cloud.stored[wire.LOG_PATH])
    log = cloud_pod.scratch.raw_log
    assert (0o666, 0o700) == (mode_of(log), mode_of(os.path.dirname(log)))


def mode_of(path: str) -> int:
    return stat.S_IMODE(os.stat(path).st_mode)
