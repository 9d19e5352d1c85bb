"""Commands that do not behave: sealed truthfully, never a hang, and the grace period is shared."""

import os
import signal
import sys
import time
from pathlib import Path

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
