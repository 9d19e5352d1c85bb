"""The machine underneath: commands, packages, processes, cgroups and mounts.

Everything that the lab starts is noted with its process id and start time, so that a later `down` ends these
processes and no other one that happens to have got the same id.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from fcntl import LOCK_EX, flock
from pathlib import Path

Progress = Callable[[str], object]

#: Debian package -> a file that shows it is there.
PACKAGES = {
    "busybox-static": "/bin/busybox",
    "ca-certificates": "/etc/ssl/certs/ca-certificates.crt",
    "containerd": "/usr/bin/containerd",
    "containernetworking-plugins": "/usr/lib/cni/bridge",
    "docker-registry": "/usr/bin/docker-registry",
    # Gives one process a clock that is wrong.
    "faketime": "/usr/bin/faketime",
    "iproute2": "/usr/sbin/ip",
    "mmdebstrap": "/usr/bin/mmdebstrap",
    "nftables": "/usr/sbin/nft",
    "openssl": "/usr/bin/openssl",
    # containerd unpacks images with it, twice as fast as by itself.
    "pigz": "/usr/bin/unpigz",
    "runc": "/usr/sbin/runc",
    "util-linux": "/usr/bin/nsenter",
}
CGROUPS = Path("/sys/fs/cgroup")
_POLICY = Path("/usr/sbin/policy-rc.d")


class LabError(RuntimeError):
    """Something that the person who called must act on; the text names the fix."""


def environment() -> dict[str, str]:
    """This process's environment, in which no proxy stands between the parts of the lab."""
    direct = [*filter(None, [os.environ.get("NO_PROXY") or os.environ.get("no_proxy")]), "10.0.0.0/8", "127.0.0.0/8"]
    return {**os.environ, "NO_PROXY": ",".join(direct), "no_proxy": ",".join(direct)}


def run(*argv: str | Path, input: str | None = None, check: bool = True) -> str:
    """Runs a command and returns its standard output; a failure carries its standard error."""
    done = subprocess.run([str(a) for a in argv], input=input, capture_output=True, text=True, env=environment())
    if check and done.returncode != 0:
        raise LabError(
            f"{' '.join(map(str, argv))}: exit code {done.returncode}: {done.stderr.strip() or done.stdout.strip()}"
        )
    return done.stdout


def free_port() -> int:
    """A port of the loopback address that nobody listens on now."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


def wait_until(
    true: Callable[[], object], *, what: str, seconds: float, every: float = 0.05, log: Path | None = None
) -> None:
    """Looks again and again until `true()`; for what offers nothing to wait on, such as a foreign server's port."""
    end = time.monotonic() + seconds
    while True:
        with contextlib.suppress(OSError):
            if true():
                return
        if time.monotonic() > end:
            tail = ("\n" + log.read_text(errors="replace")[-2000:]) if log and log.exists() else ""
            raise LabError(f"{what} did not happen within {seconds:.0f} s" + (f"; see {log}{tail}" if log else ""))
        time.sleep(every)


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    """Holds an exclusive lock for as long as this process lives or the block lasts."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "w") as file:
        flock(file, LOCK_EX)
        yield


def require_root() -> None:
    """Mounts, bridges and cgroups need root, and half a lab would be worse than none."""
    if os.geteuid() != 0:
        raise LabError(
            "the lab needs root for its bridge, mounts and cgroups: run it with sudo, or use `make unit`, which needs none"
        )


def require_packages(progress: Progress) -> None:
    """Installs the Debian packages that are missing, without letting any of their services start."""
    missing = sorted(name for name, path in PACKAGES.items() if not Path(path).exists())
    if not missing:
        return
    if shutil.which("apt-get") is None:
        raise LabError(
            f"the lab needs {', '.join(missing)} and finds no apt-get: use Debian 12 or install them by hand"
        )
    progress(f"host       apt-get install {' '.join(missing)} (their services stay off)")
    quiet = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    own_policy = not _POLICY.exists()
    if own_policy:
        _POLICY.write_text("#!/bin/sh\nexit 101\n")
        _POLICY.chmod(0o755)
    try:
        for command in (
            ["apt-get", "update", "-q"],
            ["apt-get", "install", "-q", "-y", "--no-install-recommends", *missing],
        ):
            done = subprocess.run(command, env=quiet, capture_output=True, text=True)
            if done.returncode != 0 and command[1] == "install":
                raise LabError(f"{' '.join(command)} failed; run it by hand and look: {done.stderr[-1500:]}")
    finally:
        if own_policy:
            _POLICY.unlink()


# ---------------------------------------------------------------------------------------------- processes


@dataclass(frozen=True)
class Process:
    """One process that the lab started. `started` is the kernel's start time in clock ticks, which a reused id lacks."""

    name: str
    pid: int
    started: int

    def alive(self) -> bool:
        return _started(self.pid) == self.started

    def signal(self, number: signal.Signals) -> None:
        if self.alive():
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, number)


def _started(pid: int) -> int | None:
    """When `pid` started, or None for one that is gone or only waits to be reaped."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return None if fields[0] == "Z" else int(fields[19])


#: What this very process started; it must collect them, or they stay as zombies.
_children: list[subprocess.Popen[bytes]] = []


def reap() -> None:
    """Collects children of this process that have ended."""
    _children[:] = [child for child in _children if child.poll() is None]


class Processes:
    """The processes of one lab, as files `<folder>/<name>.json` beside their logs `<logs>/<name>.log`."""

    def __init__(self, folder: Path, logs: Path) -> None:
        self.folder, self.logs = folder, logs

    def start(
        self,
        name: str,
        argv: Sequence[str | Path],
        *,
        env: Mapping[str, str] | None = None,
        cwd: Path | None = None,
    ) -> Process:
        self.folder.mkdir(parents=True, exist_ok=True)
        self.logs.mkdir(parents=True, exist_ok=True)
        with open(self.logs / f"{name}.log", "ab") as log:
            child = subprocess.Popen(
                [str(a) for a in argv],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env={**environment(), **(env or {})},
                cwd=cwd or "/",
                start_new_session=True,
            )
        reap()
        _children.append(child)
        process = Process(name, child.pid, _started(child.pid) or 0)
        write_json(self.folder / f"{name}.json", asdict(process))
        return process

    def get(self, name: str) -> Process | None:
        try:
            return Process(**json.loads((self.folder / f"{name}.json").read_text()))
        except (OSError, ValueError):
            return None

    def all(self) -> list[Process]:
        found = (self.get(path.stem) for path in sorted(self.folder.glob("*.json")))
        return [process for process in found if process]

    def log(self, name: str) -> Path:
        return self.logs / f"{name}.log"

    def end(self, names: Iterable[str], *, grace_seconds: float = 1.0) -> None:
        """Ends these processes: asked politely first, by force after `grace_seconds`."""
        ending = [process for name in names if (process := self.get(name))]
        for process in ending:
            process.signal(signal.SIGTERM)
        deadline = time.monotonic() + grace_seconds
        while any(process.alive() for process in ending) and time.monotonic() < deadline:
            time.sleep(0.02)
        for process in ending:
            process.signal(signal.SIGKILL)
        for process in ending:
            wait_until(lambda p=process: not p.alive(), what=f"the end of {process.name}", seconds=10)  # type: ignore[misc]
            (self.folder / f"{process.name}.json").unlink(missing_ok=True)
        reap()


def write_json(path: Path, value: object) -> None:
    """Writes a file that readers see whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    new = path.with_name(f".{path.name}.{os.getpid()}.new")
    new.write_text(json.dumps(value, indent=1, default=str))
    new.replace(path)


# ---------------------------------------------------------------------------------------------- cgroups and mounts


def _hierarchies(*kinds: str) -> list[Path]:
    """The mounted cgroup trees: one per controller on version 1, a single one on version 2."""
    if (CGROUPS / "cgroup.controllers").exists():
        return [CGROUPS]
    mounts = [line.split() for line in Path("/proc/self/mountinfo").read_text().splitlines()]
    return sorted(Path(fields[4]) for fields in mounts if fields[fields.index("-") + 1] in (kinds or ("cgroup",)))


def make_cgroup(path: str) -> None:
    """Makes `path` (such as `stoker-lab/x/node-0`) in every tree and changes no group that was there before."""
    for tree in _hierarchies():
        group = tree
        for part in path.split("/"):
            parent, group = group, group / part
            group.mkdir(exist_ok=True)
            # A new cpuset is empty on version 1 and takes no process until it has both.
            for file in ("cpuset.cpus", "cpuset.mems"):
                if (group / file).exists() and tree != CGROUPS and not (group / file).read_text().strip():
                    (group / file).write_text((parent / file).read_text())
            if tree == CGROUPS:
                wanted = (parent / "cgroup.controllers").read_text().split()
                switched_on = (parent / "cgroup.subtree_control").read_text().split()
                for controller in set(wanted) - set(switched_on):
                    with contextlib.suppress(OSError):
                        (parent / "cgroup.subtree_control").write_text(f"+{controller}")


def cgroup_files(path: str) -> list[Path]:
    """The files that take the ids of processes which are to live in this group."""
    return [tree / path / "cgroup.procs" for tree in _hierarchies()]


def remove_cgroup(path: str) -> None:
    """Removes the group and what is below it, ending whatever process still sits there: the group is the lab's own."""
    # runc also makes groups in the empty version 2 tree that stands beside those of version 1.
    for tree in _hierarchies("cgroup", "cgroup2"):
        top = tree / path
        if not top.exists():
            continue
        groups = [Path(folder) for folder, _, _ in os.walk(top, topdown=False)]
        for attempt in range(100):
            groups = [group for group in groups if not _rmdir(group)]
            if not groups:
                break
            if attempt % 10 == 0:
                for group in groups:
                    with contextlib.suppress(OSError):
                        for pid in (group / "cgroup.procs").read_text().split():
                            os.kill(int(pid), signal.SIGKILL)
            time.sleep(0.05)
        _rmdir(top.parent)


def _rmdir(path: Path) -> bool:
    try:
        path.rmdir()
    except FileNotFoundError:
        return True
    except OSError:
        return False
    return True


def mounts_below(folder: Path) -> list[Path]:
    """What is mounted at or below `folder`, innermost first."""
    points = [line.split()[4] for line in Path("/proc/self/mountinfo").read_text().splitlines()]
    inside = [Path(point) for point in points if Path(point) == folder or folder in Path(point).parents]
    return sorted(inside, key=lambda point: len(point.parts), reverse=True)


def remove_tree(folder: Path) -> None:
    """Deletes a folder of the lab's, after unmounting what a killed lab left mounted there."""
    for point in mounts_below(folder):
        run("umount", "--lazy", point, check=False)
    if mounts_below(folder):
        raise LabError(f"{mounts_below(folder)[0]} stays mounted; `umount -l` it by hand, then try again")
    shutil.rmtree(folder, ignore_errors=True)
