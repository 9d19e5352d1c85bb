"""A real registry (Debian's docker-registry, as the lab has it) on loopback, alone."""

import socket
import subprocess
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

from lab.host import require_packages, wait_until, write_json
from stoker.images.auth import Credential, Keyring

USER, PASSWORD = "pusher", "secret"
#: htpasswd's line for USER and PASSWORD (bcrypt, cost 5).
_HTPASSWD = "pusher:$2b$05$LPGP7nLxoSIY7LAQdjVGvuSzDqQop/H1mPLs5QZcSk/WtpKmxWOHm\n"


@dataclass(frozen=True)
class RunningRegistry:
    """address: `host:port`, http. folder: where it keeps its blobs."""

    address: str
    folder: Path
    keyring: Keyring


@contextmanager
def registry(
    folder: Path, *, password: bool = False, host: str = "127.0.0.1", port: int = 0, deletes: bool = True
) -> Iterator[RunningRegistry]:
    """Runs while the block does. password: it asks for USER and PASSWORD. host: loopback, or a lab's bridge. port: 0
    takes a free one. deletes: whether it lets manifests be deleted."""
    require_packages(lambda line: None)
    if not port:
        with closing(socket.create_server((host, 0))) as probe:
            port = probe.getsockname()[1]
    address = f"{host}:{port}"
    config = {
        "version": 0.1,
        "log": {"level": "error", "accesslog": {"disabled": True}},
        "storage": {"filesystem": {"rootdirectory": str(folder / "blobs")}, "delete": {"enabled": deletes}},
        "http": {"addr": address},
    }
    if password:
        (folder / "htpasswd").write_text(_HTPASSWD)
        config["auth"] = {"htpasswd": {"realm": "here", "path": str(folder / "htpasswd")}}
    write_json(folder / "registry.json", config)
    log = folder / "registry.log"
    with open(log, "wb") as out:
        process = subprocess.Popen(["docker-registry", "serve", str(folder / "registry.json")], stdout=out, stderr=out)
    try:
        wait_until(lambda: _listens(host, port), what="a registry", seconds=20, log=log)
        keyring = Keyring(((address, Credential(USER, PASSWORD)),)) if password else Keyring()
        yield RunningRegistry(address, folder, keyring)
    finally:
        process.terminate()
        process.wait(10)


def _listens(host: str, port: int) -> bool:
    try:
        socket.create_connection((host, port), timeout=1).close()
    except OSError:
        return False
    return True
