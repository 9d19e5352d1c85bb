"""The lab's certificate authority: one small file pair per party, made with openssl."""

from __future__ import annotations

import base64
import json
from dataclasses import dataclass
from pathlib import Path

from lab.host import run


@dataclass(frozen=True)
class Pair:
    certificate: Path
    key: Path


class Authority:
    """Issues certificates below `folder`; the user name and groups that Kubernetes reads are CN and O."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.pair = Pair(folder / "ca.crt", folder / "ca.key")

    def create(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        new_key(self.pair.key)
        # fmt: off
        run("openssl", "req", "-x509", "-new", "-key", self.pair.key, "-subj", "/CN=stoker-lab", "-days", "365",
            "-addext", "keyUsage=critical,keyCertSign,digitalSignature", "-out", self.pair.certificate)
        # fmt: on

    def issue(self, name: str, *, user: str, group: str = "", addresses: tuple[str, ...] = ()) -> Pair:
        """A certificate for client and server use, valid for `addresses` (IP:... and DNS:... as openssl writes them)."""
        pair = Pair(self.folder / f"{name}.crt", self.folder / f"{name}.key")
        request, extensions = self.folder / f"{name}.csr", self.folder / f"{name}.ext"
        new_key(pair.key)
        subject = (f"/O={group}" if group else "") + f"/CN={user}"
        run("openssl", "req", "-new", "-key", pair.key, "-subj", subject, "-out", request)
        lines = ["basicConstraints=CA:FALSE", "extendedKeyUsage=clientAuth,serverAuth"]
        if addresses:
            lines.append(f"subjectAltName={','.join(addresses)}")
        extensions.write_text("\n".join(lines) + "\n")
        # fmt: off
        run("openssl", "x509", "-req", "-in", request, "-CA", self.pair.certificate, "-CAkey", self.pair.key,
            "-CAcreateserial", "-CAserial", self.folder / f"{name}.srl", "-days", "365", "-extfile", extensions,
            "-out", pair.certificate)
        # fmt: on
        return pair

    def kubeconfig(self, path: Path, server: str, pair: Pair) -> Path:
        """A kubeconfig that needs no other file. JSON is YAML."""

        def encoded(file: Path) -> str:
            return base64.b64encode(file.read_bytes()).decode()

        cluster = {"server": server, "certificate-authority-data": encoded(self.pair.certificate)}
        user = {"client-certificate-data": encoded(pair.certificate), "client-key-data": encoded(pair.key)}
        config = {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "lab", "cluster": cluster}],
            "users": [{"name": "lab", "user": user}],
            "contexts": [{"name": "lab", "context": {"cluster": "lab", "user": "lab"}}],
            "current-context": "lab",
        }
        path.touch(mode=0o600)
        path.write_text(json.dumps(config, indent=1))
        return path


def new_key(path: Path) -> None:
    path.touch(mode=0o600)
    # Not genpkey: the API server reads the service account key as SEC 1 only.
    run("openssl", "ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out", path)
