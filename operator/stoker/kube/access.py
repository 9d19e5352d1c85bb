"""How to reach an API server and who we are there: from a pod's ServiceAccount or from a kubeconfig file."""

import base64
import binascii
import os
import ssl
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

SERVICE_ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")

#: A ServiceAccount's token file is renewed long before its token ends; reading it once a minute is soon enough.
TOKEN_SECONDS = 60.0


class AccessError(Exception):
    """The API server's address or our identity there cannot be made out; the message names the file and the fix."""


@dataclass(slots=True)
class Access:
    """Address, TLS settings and identity.

    server: URL without a trailing slash. tls: None for plain http. token_file wins over token and is read again
    every minute and after a 401.
    """

    server: str
    tls: ssl.SSLContext | None = None
    token: str | None = None
    token_file: Path | None = None
    proxy: str | None = None
    server_name: str | None = None
    _read_at: float = field(default=float("-inf"), repr=False)

    def bearer(self, *, fresh: bool = False) -> str | None:
        """The token to send, or None with a client certificate. fresh: read the file again whatever its age."""
        if self.token_file is None:
            return self.token
        now = time.monotonic()
        if fresh or self.token is None or now - self._read_at > TOKEN_SECONDS:
            try:
                self.token = self.token_file.read_text().strip()
                self._read_at = now
            except OSError as error:
                # A kubelet swaps the file while it renews it: the token in hand still holds then.
                if self.token is None:
                    raise AccessError(f"cannot read the token file {self.token_file}: {error.strerror}") from error
        return self.token


def in_cluster(folder: Path = SERVICE_ACCOUNT) -> Access:
    """Access with the pod's own ServiceAccount; raises AccessError outside a pod."""
    host, port = os.environ.get("KUBERNETES_SERVICE_HOST"), os.environ.get("KUBERNETES_SERVICE_PORT", "443")
    if not host or not (folder / "token").exists():
        raise AccessError(
            f"not in a pod: KUBERNETES_SERVICE_HOST or {folder / 'token'} is missing; "
            "outside a cluster give --kubeconfig PATH"
        )
    host = f"[{host}]" if ":" in host else host
    tls = ssl.create_default_context(cafile=str(folder / "ca.crt"))
    return Access(f"https://{host}:{port}", tls, token_file=folder / "token")


def from_kubeconfig(path: Path | str, context: str | None = None) -> Access:
    """Access as a context of a kubeconfig file says (missing: its current-context); raises AccessError.

    Certificates, tokens and token files are understood; exec and auth-provider plugins and passwords are refused.
    """
    path = Path(path).expanduser()
    try:
        document = yaml.safe_load(path.read_text())
    except OSError as error:
        raise AccessError(f"cannot read the kubeconfig {path}: {error.strerror}") from error
    except yaml.YAMLError as error:
        raise AccessError(f"the kubeconfig {path} is not YAML: {error}") from error
    if not isinstance(document, dict):
        raise AccessError(f"the kubeconfig {path} is empty")
    name = context or document.get("current-context")
    if not name:
        raise AccessError(f"the kubeconfig {path} has no current-context; name one with --context")
    chosen = _named(document, "contexts", "context", name, path)
    cluster = _named(document, "clusters", "cluster", chosen.get("cluster", ""), path)
    user = _named(document, "users", "user", chosen["user"], path) if chosen.get("user") else {}
    return _access(cluster, user, path)


def _named(document: Mapping[str, Any], plural: str, singular: str, name: str, path: Path) -> Mapping[str, Any]:
    for entry in document.get(plural) or ():
        if entry.get("name") == name:
            return entry.get(singular) or {}
    known = ", ".join(sorted(str(entry.get("name")) for entry in document.get(plural) or ())) or "none"
    raise AccessError(f"the kubeconfig {path} has no {singular} {name!r}; it has: {known}")


def _access(cluster: Mapping[str, Any], user: Mapping[str, Any], path: Path) -> Access:
    for plugin in ("exec", "auth-provider", "username"):
        if user.get(plugin):
            raise AccessError(
                f"the kubeconfig {path} logs in by {plugin}, which this program does not do; "
                "use a context with a client certificate, a token or a token file"
            )
    server = str(cluster.get("server", "")).rstrip("/")
    if not server:
        raise AccessError(f"the kubeconfig {path} names no server for its cluster")
    return Access(
        server,
        _tls(cluster, user, path) if server.startswith("https://") else None,
        token=user.get("token"),
        token_file=path.parent / user["tokenFile"] if user.get("tokenFile") else None,
        proxy=cluster.get("proxy-url"),
        server_name=cluster.get("tls-server-name"),
    )


def _tls(cluster: Mapping[str, Any], user: Mapping[str, Any], path: Path) -> ssl.SSLContext:
    authority = _bytes(cluster, "certificate-authority", path)
    try:
        tls = ssl.create_default_context(cadata=authority.decode("ascii") if authority else None)
    except (ssl.SSLError, UnicodeDecodeError) as error:
        raise AccessError(f"certificate-authority of the kubeconfig {path} is no PEM certificate: {error}") from error
    if cluster.get("insecure-skip-tls-verify"):
        tls.check_hostname = False
        tls.verify_mode = ssl.CERT_NONE
    certificate, key = _bytes(user, "client-certificate", path), _bytes(user, "client-key", path)
    if certificate and key:
        # OpenSSL loads a client certificate from files only.
        with tempfile.TemporaryDirectory(prefix="stoker-") as folder:
            pair = Path(folder, "pair.pem")
            pair.touch(mode=0o600)
            pair.write_bytes(certificate.rstrip() + b"\n" + key)
            try:
                tls.load_cert_chain(pair)
            except ssl.SSLError as error:
                raise AccessError(f"the client certificate of the kubeconfig {path} cannot be used: {error}") from error
    return tls


def _bytes(part: Mapping[str, Any], member: str, path: Path) -> bytes | None:
    """The content of `member`-data, or of the file that `member` names relative to the kubeconfig."""
    if inline := part.get(f"{member}-data"):
        try:
            return base64.b64decode(inline, validate=True)
        except binascii.Error as error:
            raise AccessError(f"{member}-data in the kubeconfig {path} is not base64") from error
    if not (name := part.get(member)):
        return None
    try:
        return Path(path.parent, name).read_bytes()
    except OSError as error:
        raise AccessError(
            f"{member} of the kubeconfig {path}: cannot read {path.parent / name}: {error.strerror}"
        ) from error
