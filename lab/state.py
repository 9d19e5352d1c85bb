"""What a lab remembers on disk: where things are and which numbers it took."""

from __future__ import annotations

import json
import os
import re
from dataclasses import asdict, dataclass
from pathlib import Path

from lab.host import LabError, Processes, write_json
from lab.network import Network

_REGION = "us-east-1"


def root() -> Path:
    return Path(os.environ.get("STOKER_LAB_STATE") or "/var/lib/stoker-lab")


@dataclass(frozen=True)
class State:
    """The folder and addresses of one lab. Every path of the lab is named here."""

    name: str
    network: Network

    @property
    def folder(self) -> Path:
        return root() / self.name

    @property
    def kubeconfig(self) -> Path:
        return self.folder / "kubeconfig"

    @property
    def bin(self) -> Path:
        return self.folder / "bin"

    @property
    def nodes(self) -> Path:
        return self.folder / "nodes"

    @property
    def certificates(self) -> Path:
        return self.folder / "certificates"

    @property
    def audit_log(self) -> Path:
        return self.folder / "audit.log"

    @property
    def processes(self) -> Processes:
        return Processes(self.folder / "processes", self.folder / "logs")

    @property
    def cgroup(self) -> str:
        return f"stoker-lab/{self.name}"

    @property
    def api_server(self) -> str:
        return f"https://{self.network.address}:6443"

    @property
    def registry(self) -> str:
        return f"{self.network.address}:5000"

    @property
    def packages(self) -> str:
        """URL of the package index and the conda channel, which run once they have been asked for."""
        return f"http://{self.network.address}:5001"

    @property
    def s3_endpoint(self) -> str:
        return f"http://{self.network.address}:9000"

    @property
    def region(self) -> str:
        return _REGION

    def save(self, *, access_key: str, secret_key: str, images: dict[str, str]) -> None:
        """Written last, so a file says that the lab came up once."""
        write_json(
            self.folder / "lab.json",
            {
                "network": asdict(self.network),
                "access_key": access_key,
                "secret_key": secret_key,
                "images": images,
            },
        )


def check_name(name: str) -> None:
    if not re.fullmatch(r"[a-z0-9]([a-z0-9-]{0,30}[a-z0-9])?", name):
        raise LabError(f"lab name {name!r}: use up to 32 of a-z, 0-9 and -, as in --name stoker-2")
    # The deepest socket below the state folder must fit into the 107 bytes that the kernel has for its path.
    if len(f"{root() / name}/nodes/{'n' * 20}/kubelet/pod-resources/kubelet.sock") > 107:
        raise LabError(f"{root() / name} is too long a path for sockets: choose a shorter STOKER_LAB_STATE or name")


def read(name: str) -> dict[str, object] | None:
    """What `State.save` wrote, or None."""
    try:
        found: dict[str, object] = json.loads((root() / name / "lab.json").read_text())
    except (OSError, ValueError):
        return None
    return found


def read_network(name: str) -> Network | None:
    """The numbers that a lab took, also of one that never came up fully."""
    try:
        return Network(**json.loads((root() / name / "network.json").read_text()))
    except (OSError, ValueError, TypeError):
        return None
