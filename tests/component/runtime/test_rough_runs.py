"""Runs that flood the log, fill the disk or the inodes, leave processes behind, or change files under ship's hands: each
is sealed truthfully, and none hangs."""

import os
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from stoker.runtime import wire
from stoker.runtime.configure import LaunchConfig, write_config
from tests.component.runtime.pod import Cloud, Pod, eventually

#: 1 GB in 60 s, by a program that does not stop for SIGTERM.
FLOOD = """
import os, signal, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
line = b"%06d epoch, loss and accuracy of no great interest\\n"
while True:
    os.write(1, b"".join(line % n for n in range(17_000)))
    time.sleep(0.05)
"""


def peak_bytes(process: "subprocess.Popen[bytes]") -> int:
    """The most memory that a process has had."""
    status = Path(f"/proc/{process.pid}/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) * 1024


def test_a_flood_is_stopped_at_the_limit_and_every_line_until_then_is_saved(cloud_pod: Pod, cloud: Cloud) -> None:
    limit = 40_000_000
    write_config(cloud_pod.scratch, LaunchConfig(log_bytes=limit, grace_seconds=600))
    ship = cloud_pod.ship()
    cloud_pod.launch(sys.executable, "-c", FLOOD, wait=True)

    outcome = cloud_pod.await_sealed(120)

    assert outcome["complete"]
    assert "LogLimitExceeded" == cloud.seal["exit"]["reason"]
    log = cloud_pod.log
    assert limit < len(log) < limit * 1.5, "it had not the two minutes that SIGTERM's grace would have given it"
    assert log == cloud.stored[wire.LOG_PATH]
    copy = Path(cloud_pod.scratch.journal, "log.copy")
    assert copy.stat().st_size < len(log) / 4
    assert peak_bytes(ship) < 150_000_000


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Callable[[str], Path]]:
    """Mounts a small file system; make test runs as root."""
    places: list[Path] = []

    def mount(options: str) -> Path:
        place = tmp_path / f"disk{len(places)}"
        place.mkdir()
        subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(place)], check=True)
        places.append(place)
        return place

    yield mount
    for place in places:
        subprocess.run(["umount", "-l", str(place)], check=True)


FULL = {
    "disk": ("size=6m", "cat /dev/zero > outputs/zeros; echo full"),
    "inodes": ("size=64m,nr_inodes=150", "n=0; while true > outputs/$n; do n=$((n + 1)); done; echo full"),
}
#: Once full it stays: what ends the run finds no room either.
STAYS = "; trap 'exit 9' TERM; while :; do cat /dev/zero >> outputs/more; sleep 0.02; done"


@pytest.mark.parametrize("launcher", ["python", "sh"])
@pytest.mark.parametrize("what", FULL)
def test_a_full_disk_costs_what_did_not_fit_and_nothing_else(
    cloud: Cloud, small_disk: Callable[[str], Path], what: str, launcher: str
) -> None:
    options, script = FULL[what]
    pod = Pod(small_disk(options) / "pod", cloud).prepare()
    more = {"STOKER_LAUNCH_WITH": "sh"} if launcher == "sh" else {}
    try:
        ship = ready_ship(pod)
        launch = pod.launch("sh", "-c", script + "; exit 7", wait=True, **more)
        outcome = pod.await_sealed(60)
        assert launch.wait(20) == 7
        assert is_truthful(pod, cloud, outcome)
        assert outcome["complete"], outcome
        assert 7 == cloud.seal["exit"]["code"]
        assert ship.poll() is None
    finally:
        pod.close()


@pytest.mark.parametrize("what", FULL)
def test_a_run_that_keeps_the_disk_full_can_be_stopped(
    cloud: Cloud, small_disk: Callable[[str], Path], what: str
) -> None:
    options, script = FULL[what]
    pod = Pod(small_disk(options) / "pod", cloud).prepare(grace_seconds=10)
    try:
        ship = ready_ship(pod)
        launch = pod.launch("sh", "-c", "trap : TERM;" + script + STAYS, wait=True)
        eventually(lambda: is_full(Path(pod.scratch.root)), 30)
        ship.kill()
        ship.wait()
        pod.ship()
        launch.send_signal(signal.SIGTERM)
        outcome = pod.await_sealed(60)
        assert launch.wait(20) == 9
        assert (True, "Stopped") == (outcome["complete"], cloud.seal["exit"]["reason"])
        assert is_truthful(pod, cloud, outcome)
    finally:
        pod.close()


def ready_ship(pod: Pod) -> "subprocess.Popen[bytes]":
    """A ship that has what it needs on scratch: in a pod it starts before the command."""
    ship = pod.ship()
    eventually(Path(pod.scratch.journal, "log.copy").exists)
    return ship


def is_full(place: Path) -> bool:
    try:
        (place / "work/probe").write_bytes(bytes(8192))
    except OSError:
        return True
    finally:
        (place / "work/probe").unlink(missing_ok=True)
    return False


def is_truthful(pod: Pod, cloud: Cloud, outcome: dict[str, object]) -> bool:
    """Whether the seal lists exactly the files that there are, each as stored as it is."""
    found = {}
    for top in ("outputs", "logs"):
        for folder, _, names in os.walk(pod.work / top):
            for path in (Path(folder, name) for name in names):
                if path.is_file() and not path.is_symlink():
                    found[wire.storable_path(str(path.relative_to(pod.work)))] = path.read_bytes()
    assert cloud.seal is not None
    sealed = {file["path"]: cloud.stored[file["path"]] for file in cloud.seal["files"]}
    sealed.pop(wire.LOG_PATH)
    missing = {file["path"] for file in cloud.seal["missing"]}
    assert not missing & sealed.keys()
    assert {path for path in found if path not in missing} == sealed.keys()
    assert all(found[path] == body for path, body in sealed.items())
    assert bool(missing) != outcome["complete"]
    assert {} == cloud.uploads
    return True


# Processes


DAEMONS = """
for n in $(seq 40); do
    setsid sh -c 'trap "" TERM; while :; do echo x >> outputs/daemon; sleep 0.05; done' &
done
while [ ! -s outputs/daemon ]; do sleep 0.05; done
"""


def test_processes_that_left_the_group_end_with_the_container(cloud_pod: Pod, cloud: Cloud) -> None:
    """launch is the first process of a container, as it is here."""
    cloud_pod.ship()
    launch = cloud_pod._start(
        [
            "unshare",
            "--pid",
            "--fork",
            "--kill-child",
            "/bin/sh",
            cloud_pod.scratch.launcher,
            "--",
            "sh",
            "-c",
            DAEMONS,
        ],
        {},
    )

    outcome = cloud_pod.await_sealed()

    assert launch.wait(10) == 0
    assert outcome["complete"]
    assert is_truthful(cloud_pod, cloud, outcome)


def test_a_file_that_is_another_at_every_look_is_named_and_the_rest_is_saved(cloud_pod: Pod, cloud: Cloud) -> None:
    """As by a process that left the group and goes on, where no container ends it."""
    path = cloud_pod.work / "outputs/daemon"

    def goes_on(method: str, asked: str) -> None:
        if asked.endswith("outputs/daemon"):
            grow(path)

    cloud.fault = goes_on
    cloud_pod.ship()
    launch = cloud_pod.launch("sh", "-c", "echo x > outputs/daemon; echo y > outputs/still", wait=True)

    outcome = cloud_pod.await_sealed()

    assert launch.wait(10) == 125
    assert not outcome["complete"]
    assert ["outputs/daemon"] == [entry["path"] for entry in cloud.seal["missing"]]
    assert cloud.seal["missing"][0]["reason"].startswith("KeptChanging")
    assert cloud.stored["outputs/still"] == b"y\n"


# Files


def test_names_of_every_kind_are_stored_or_named(cloud_pod: Pod, cloud: Cloud) -> None:
    out = os.fsencode(cloud_pod.work / "outputs")
    names = [
        b"n" * 255,
        b"\xff" * 255,
        b"a\nb\tc",
        b"%41",
        b"~",
        b" ",
        b"-",
        "e\u0301".encode(),
        b"\xf0\x9f\x92\xbe",
        b"*?[x]",
    ]
    for name in names:
        Path(os.fsdecode(out + b"/" + name)).write_bytes(name)
    deep = Path(os.fsdecode(out + b"/" + b"\xfe" * 255 + b"/" + b"\xfd" * 255))
    deep.parent.mkdir()
    deep.write_bytes(b"deep")
    cloud_pod.ship()
    cloud_pod.launch("true", wait=True)

    outcome = cloud_pod.await_sealed()

    stored = {wire.storable_path(os.fsdecode(b"outputs/" + name)): name for name in names}
    assert stored == {path: body for path, body in cloud.stored.items() if path.startswith("outputs/")}
    assert not outcome["complete"]
    (missing,) = cloud.seal["missing"]
    assert missing["reason"] == "NameTooLong: over 800 bytes"
    assert missing["path"].endswith("%FD" * 255)


def test_a_sparse_file_is_saved_with_its_holes(cloud_pod: Pod, cloud: Cloud) -> None:
    cloud_pod.ship()
    cloud_pod.launch(
        "sh", "-c", "truncate -s 20M outputs/sparse; echo end >> outputs/sparse; : > outputs/empty", wait=True
    )

    assert cloud_pod.await_sealed()["complete"]
    assert bytes(20 << 20) + b"end\n" == cloud.stored["outputs/sparse"]
    assert b"" == cloud.stored["outputs/empty"]


def rename(path: Path) -> None:
    path.rename(path.with_name("renamed"))


def truncate(path: Path) -> None:
    os.truncate(path, 100)


def grow(path: Path) -> None:
    with open(path, "ab") as file:
        file.write(b"more")


def replace(path: Path) -> None:
    other = path.with_name("new")
    other.write_bytes(b"other" * 1_000_000)
    other.replace(path)


def overwrite(path: Path) -> None:
    with open(path, "r+b") as file:
        file.seek(4_000_000)
        file.write(b"overwritten")


def turn_into_a_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()
    (path / "inside").write_bytes(b"inside")


def turn_into_a_fifo(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def turn_into_a_link(path: Path) -> None:
    path.unlink()
    path.symlink_to("/etc/hostname")


def take_the_folder_away(path: Path) -> None:
    shutil.rmtree(path.parent)


CHANGES = (
    rename, truncate, grow, replace, overwrite, Path.unlink, turn_into_a_folder, turn_into_a_fifo, turn_into_a_link,
    take_the_folder_away,
)  # fmt: skip


@pytest.mark.parametrize("ended", [False, True], ids=["while the command runs", "after its end"])
@pytest.mark.parametrize("change", CHANGES, ids=lambda change: change.__name__)
def test_a_file_that_changes_while_it_is_sent_is_saved_as_it_ended(
    cloud_pod: Pod, cloud: Cloud, change: Callable[[Path], None], ended: bool
) -> None:
    path = cloud_pod.work / "outputs/deep/file"
    path.parent.mkdir()
    path.write_bytes(b"first" * 1_000_000)
    changed = threading.Event()

    def once(method: str, asked: str) -> None:
        if method == "PUT" and asked.endswith("outputs/deep/file") and not changed.is_set():
            change(path)
            changed.set()

    cloud.fault = once
    wait = "true" if ended else "while [ ! -e go ]; do sleep 0.05; done"
    cloud_pod.ship()
    cloud_pod.launch("sh", "-c", wait, wait=True)
    assert changed.wait(30)
    (cloud_pod.work / "go").touch()

    outcome = cloud_pod.await_sealed()

    assert outcome["complete"], outcome
    assert is_truthful(cloud_pod, cloud, outcome)
