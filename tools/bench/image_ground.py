"""What image builders are measured on: a registry behind a proxy that counts bytes, a BuildKit daemon, a base image, an index.

Everything listens on loopback, lies in one temporary folder and ends with the block. Linux, root.
"""

import contextlib
import os
import resource
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from lab import binaries, images
from lab.control_plane import namespaces
from lab.host import free_port, make_cgroup, remove_cgroup, remove_tree, wait_until, write_json

BLOCK = 1 << 20


@dataclass(frozen=True)
class Spent:
    """What one run cost. seconds: wall clock. cpu: seconds of all processes of the builder, not of the registry.
    sent: bytes sent to the registry, with their HTTP. failed: the builder's last words where it failed."""

    seconds: float
    cpu: float
    sent: int
    words: str = ""
    failed: bool = False


class Counting:
    """A TCP forwarder in front of the registry; `sent` counts what clients sent."""

    def __init__(self, target: tuple[str, int]) -> None:
        self._target = target
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.address = f"127.0.0.1:{self._listener.getsockname()[1]}"
        self.sent = 0
        self._lock = threading.Lock()
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            server = socket.create_connection(self._target)
            for one in (client, server):
                one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            threading.Thread(target=self._pump, args=(client, server, True), daemon=True).start()
            threading.Thread(target=self._pump, args=(server, client, False), daemon=True).start()

    def _pump(self, source: socket.socket, sink: socket.socket, counts: bool) -> None:
        block = bytearray(BLOCK)
        with contextlib.suppress(OSError):
            while size := source.recv_into(block):
                sink.sendall(memoryview(block)[:size])
                if counts:
                    with self._lock:
                        self.sent += size
        with contextlib.suppress(OSError):
            sink.shutdown(socket.SHUT_WR)

    def close(self) -> None:
        self._listener.close()


@dataclass(frozen=True)
class Ground:
    """folder: for what contenders keep. registry: `host:port`, counted. base: pinned reference in it."""

    folder: Path
    registry: str
    base: str
    bin: dict[str, Path]
    counting: Counting
    cgroup: str

    @property
    def buildkit(self) -> str:
        return f"unix://{self.folder}/buildkit.sock"

    def run(self, command: Sequence[str | Path], **environment: str) -> Spent:
        """One process and what it started, and what BuildKit did for it meanwhile."""
        sent, daemon = self.counting.sent, self._daemon_cpu()
        own = resource.getrusage(resource.RUSAGE_CHILDREN)
        started = time.monotonic()
        done = subprocess.run(
            [str(word) for word in command], capture_output=True, text=True, check=False, cwd=self.folder,
            # buildctl is in the builder's image, too.
            env={**os.environ, "PATH": f"{self.bin['buildctl'].parent}:{os.environ['PATH']}", **environment},
        )  # fmt: skip
        seconds = time.monotonic() - started
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        cpu = after.ru_utime + after.ru_stime - own.ru_utime - own.ru_stime + self._daemon_cpu() - daemon
        return Spent(seconds, cpu, self.counting.sent - sent, (done.stdout + done.stderr)[-4000:], done.returncode != 0)

    def _daemon_cpu(self) -> float:
        """CPU seconds of buildkitd itself and of the containers it ran."""
        ticks = 0
        for process in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                if str(self.folder / "buildkitd.toml").encode() in (process / "cmdline").read_bytes():
                    fields = (process / "stat").read_text().rpartition(")")[2].split()
                    ticks += int(fields[11]) + int(fields[12])
        usage = Path("/sys/fs/cgroup/cpuacct") / self.cgroup / "cpuacct.usage"
        containers = int(usage.read_text()) / 1e9 if usage.exists() else 0.0
        return ticks / os.sysconf("SC_CLK_TCK") + containers


@contextlib.contextmanager
def ground(progress: images.Progress) -> Iterator[Ground]:
    """Starts everything; ends it with the block."""
    programs = binaries.ensure(progress)
    layer = images.ensure(images.BASE, progress)
    folder = Path(tempfile.mkdtemp(prefix="stoker-bench-"))
    cgroup = f"stoker-lab/bench-{os.getpid()}"
    started: list[subprocess.Popen[bytes]] = []
    counting: Counting | None = None
    try:
        port = free_port()
        config = folder / "registry.json"
        write_json(
            config,
            {
                "version": 0.1,
                "log": {"level": "error", "accesslog": {"disabled": True}},
                "storage": {"filesystem": {"rootdirectory": str(folder / "registry")}, "delete": {"enabled": True}},
                "http": {"addr": f"127.0.0.1:{port}"},
            },
        )
        started.append(_start(folder, ["docker-registry", "serve", str(config)], "registry"))
        wait_until(lambda: _listens(port), what="the registry", seconds=20, log=folder / "registry.log")
        counting = Counting(("127.0.0.1", port))
        base = images.push(counting.address, "bench/base", "1", layer, {"Cmd": ["/usr/bin/python3"]})
        make_cgroup(cgroup)
        (folder / "buildkitd.toml").write_text(
            f'root = "{folder}/buildkit"\n[grpc]\naddress = ["unix://{folder}/buildkit.sock"]\n'
            f'[worker.oci]\nenabled = true\nsnapshotter = "overlayfs"\nnetworkMode = "host"\ndefaultCgroupParent = "/{cgroup}"\n'
            f'[worker.containerd]\nenabled = false\n[registry."{counting.address}"]\nhttp = true\ninsecure = true\n'
        )
        script = f"mount --make-rshared / && exec {programs['buildkitd']} --config {folder}/buildkitd.toml"
        started.append(_start(folder, [*namespaces(), "sh", "-c", script], "buildkitd"))
        wait_until((folder / "buildkit.sock").exists, what="BuildKit", seconds=30, log=folder / "buildkitd.log")
        yield Ground(folder, counting.address, base, programs, counting, cgroup)
    finally:
        for process in reversed(started):
            # unshare holds SIGTERM back; with SIGKILL its whole namespace goes, mounts and containers too.
            process.kill()
            process.wait(30)
        if counting is not None:
            counting.close()
        remove_cgroup(cgroup)
        remove_tree(folder)


def _start(folder: Path, command: list[str], name: str) -> subprocess.Popen[bytes]:
    with open(folder / f"{name}.log", "wb") as log:
        return subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)


def _listens(port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
        return True
    return False


def say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
