"""A real BuildKit on loopback, alone: the lab's binaries, under namespaces that end with it."""

import shutil
import socket
import subprocess
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from lab import binaries
from lab.control_plane import namespaces
from lab.host import require_packages, wait_until


@contextmanager
def buildkit(folder: Path, *, plain: tuple[str, ...] = ()) -> Iterator[str]:
    """Its address, while the block runs. plain: `host:port` of registries that speak http. Needs root."""
    require_packages(lambda line: None)
    programs = binaries.ensure(lambda line: None)
    with closing(socket.create_server(("127.0.0.1", 0))) as probe:
        port = probe.getsockname()[1]
    config = folder / "buildkitd.toml"
    lines = [
        f'root = "{folder}/state"',
        "[grpc]",
        f'address = ["tcp://127.0.0.1:{port}"]',
        '[frontend."gateway.v0"]',
        "enabled = false",
        "[worker.oci]",
        "enabled = true",
        'snapshotter = "overlayfs"',
        'networkMode = "host"',
        "[worker.containerd]",
        "enabled = false",
    ]
    for host in plain:
        lines += [f'[registry."{host}"]', "http = true", "insecure = true"]
    config.write_text("\n".join(lines) + "\n")
    log = folder / "buildkitd.log"
    script = f"mount --make-rshared / && exec {programs['buildkitd']} --config {config}"
    with open(log, "wb") as out:
        process = subprocess.Popen([*namespaces(), "sh", "-c", script], stdout=out, stderr=out)
    try:
        wait_until(lambda: _listens(port), what="BuildKit", seconds=30, log=log)
        yield f"tcp://127.0.0.1:{port}"
    finally:
        # unshare takes everything in its namespaces with it, however it ends.
        process.kill()
        process.wait(20)
        shutil.rmtree(folder / "state", ignore_errors=True)


def buildctl() -> Path:
    """The lab's own."""
    return binaries.ensure(lambda line: None)["buildctl"]


def _listens(port: int) -> bool:
    socket.create_connection(("127.0.0.1", port), timeout=1).close()
    return True
