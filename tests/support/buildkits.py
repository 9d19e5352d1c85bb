"""A real BuildKit of the lab's binaries: on loopback, alone, under namespaces that end with it; or as an image."""

import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from lab import Lab, binaries
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


def image(lab: Lab) -> str:
    """BuildKit as an image in a lab's registry, made of the lab's own binaries."""
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "Dockerfile").write_text(
            f"FROM {lab.images['base']}\nCOPY --from=bin buildkitd buildctl /usr/bin/\nCOPY --from=sbin runc /usr/bin/\n"
            'ENTRYPOINT ["buildkitd"]\n'
        )
        contexts = {"bin": (lab.bin / "buildkitd").resolve().parent, "sbin": Path("/usr/sbin")}
        return lab.build(Path(folder), tag="stoker/buildkit:1", contexts=contexts)


def _listens(port: int) -> bool:
    socket.create_connection(("127.0.0.1", port), timeout=1).close()
    return True
