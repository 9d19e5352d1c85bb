"""The API server as a person's client: a kubeconfig in, objects out, in the API server's own words when it refuses."""

import json
import logging
import os
import sys
import urllib.request
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlencode, urlsplit

from stoker.errors import BadInput, BadInputs, StokerError
from stoker.kube.access import Access, AccessError, from_kubeconfig, in_cluster
from stoker.sdk.http import TIMEOUT, Answer, Http, TlsConnection, Unreachable


class NoCluster(StokerError):
    """There is no kubeconfig, or it cannot be used."""


class NoKubeconfig(NoCluster):
    """No cluster was ever set up here: no kubeconfig, or one without a context."""


class Refused(StokerError):
    """The API server said no. status: HTTP's; reason: its CamelCase word."""

    def __init__(self, status: int, reason: str, message: str) -> None:
        super().__init__(message)
        self.status, self.reason = status, reason


class Kube:
    """The API server of one context. namespace: the context's own, `default` without one."""

    def __init__(self, access: Access, namespace: str, context: str) -> None:
        self.access, self.namespace, self.context = access, namespace, context
        parts = urlsplit(access.server)
        self._host, self._port = parts.hostname or "", parts.port or (443 if parts.scheme == "https" else 80)
        self._prefix, self._is_tls = parts.path.rstrip("/"), parts.scheme == "https"
        self._http = Http(f"the API server {access.server}", self._connect, self._auth)

    @classmethod
    def connect(cls, context: str | None, namespace: str | None) -> "Kube":
        """The API server that the kubeconfig (KUBECONFIG, ~/.kube/config) or the pod we run in names. Sends nothing.
        Raises NoCluster."""
        named = [Path(part).expanduser() for part in os.environ.get("KUBECONFIG", "").split(os.pathsep) if part]
        paths = [path for path in named or [Path.home() / ".kube" / "config"] if path.exists()]
        try:
            if not paths:
                if os.environ.get("KUBERNETES_SERVICE_HOST") and not named:
                    return cls(in_cluster(), namespace or _own_namespace(), "in-cluster")
                looked = ", ".join(map(str, named)) or "~/.kube/config"
                raise NoKubeconfig(f"no kubeconfig at {looked}; set KUBECONFIG, or train here with --compute local")
            chosen, its_namespace = _context(paths, context)
            if len(paths) == 1:
                try:
                    return cls(from_kubeconfig(paths[0], chosen), namespace or its_namespace, chosen)
                except AccessError as error:
                    # Logging in by a program or over several files is the kubernetes package's work: it takes half a
                    # second to load, so that only those who need it wait for it.
                    if " logs in by " not in str(error):
                        raise
            return cls(_by_package(paths, chosen), namespace or its_namespace, chosen)
        except AccessError as error:
            raise NoCluster(str(error)) from error
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise NoCluster(f"{', '.join(map(str, paths))} is not a usable kubeconfig: {error}") from error

    def _connect(self, timeout: float = TIMEOUT) -> Any:
        import http.client

        proxy = self.access.proxy or self._proxy_from_environment()
        host, port = self._host, self._port
        if proxy:
            parts = urlsplit(proxy if "://" in proxy else f"http://{proxy}")
            host, port = parts.hostname or "", parts.port or 3128
        connection: http.client.HTTPConnection
        if self._is_tls:
            assert self.access.tls is not None
            connection = TlsConnection(host, port, self.access.tls, self.access.server_name, timeout)
        else:
            connection = http.client.HTTPConnection(host, port, timeout=timeout)
        if proxy:
            connection.set_tunnel(self._host, self._port)
        return connection

    def _proxy_from_environment(self) -> str | None:
        if urllib.request.proxy_bypass(f"{self._host}:{self._port}"):
            return None
        return urllib.request.getproxies().get("https" if self._is_tls else "http")

    def _auth(self) -> dict[str, str]:
        try:
            token = self.access.bearer()
        except AccessError as error:
            raise NoCluster(str(error)) from error
        return {"Authorization": f"Bearer {token}"} if token else {}

    # -- Requests.

    def get(self, path: str, **query: str) -> Any:
        """An object or a list. Raises Refused, Unreachable."""
        return self._do("GET", path, query)

    def create(self, path: str, document: Mapping[str, Any], **query: str) -> Any:
        """POST an object; raises BadInputs with the API server's words for one that is not valid."""
        return self._do("POST", path, query, document)

    def patch(self, path: str, document: Mapping[str, Any]) -> Any:
        """A JSON merge patch."""
        return self._do("PATCH", path, {"fieldManager": "stoker-cli"}, document, "application/merge-patch+json")

    def delete(self, path: str, options: Mapping[str, Any]) -> None:
        """Delete an object with these DeleteOptions."""
        self._do("DELETE", path, {}, {"apiVersion": "v1", "kind": "DeleteOptions", **options})

    def _do(
        self, method: str, path: str, query: Mapping[str, str], document: Any = None, kind: str = "application/json"
    ) -> Any:
        body = None if document is None else json.dumps(document).encode()
        headers = {"Accept": "application/json", **({"Content-Type": kind} if body else {})}
        answer = self._http.call(method, self._url(path, query), body, headers)
        if answer.status >= 400:
            raise refusal(answer)
        return answer.json()

    def _url(self, path: str, query: Mapping[str, str]) -> str:
        return self._prefix + path + (f"?{urlencode(query)}" if query else "")

    def watch(self, path: str, **query: str) -> Iterator[tuple[str, dict[str, Any]]]:
        """(ADDED|MODIFIED|DELETED, object) as they happen, until the API server ends the watch (after some minutes: ask
        again). Raises Refused (410 when the resourceVersion is too old) and Unreachable."""
        query = {**query, "watch": "true", "allowWatchBookmarks": "true", "timeoutSeconds": "240"}
        # The API server sends bookmarks about once a minute; twice that in silence means that the connection is dead.
        stream = Http(f"the API server {self.access.server}", lambda: self._connect(150.0), self._auth)
        with stream.stream("GET", self._url(path, query), {"Accept": "application/json"}) as response:
            if response.status >= 400:
                raise refusal(Answer(response.status, response.headers, response.read()))
            try:
                for line in response:
                    event = json.loads(line)
                    if event["type"] == "ERROR":
                        found = event["object"]
                        raise Refused(int(found.get("code") or 500), found.get("reason", ""), found.get("message", ""))
                    if event["type"] != "BOOKMARK":
                        yield event["type"], event["object"]
            except (OSError, ValueError) as error:
                raise Unreachable(f"the API server {self.access.server}: the watch broke off: {error}") from error

    def lines_of(self, path: str, **query: str) -> Any:
        """A stream of bytes (a pod's log): a context manager that gives the response."""
        stream = Http(f"the API server {self.access.server}", lambda: self._connect(3600.0), self._auth)
        return stream.stream("GET", self._url(path, query))

    def websocket(self, path: str, subprotocol: str, **query: str) -> Any:
        """A websocket to the API server, opened. Raises Unreachable and Refused."""
        import websocket

        scheme = "wss" if self._is_tls else "ws"
        proxy = self.access.proxy or self._proxy_from_environment()
        options: dict[str, Any] = {}
        if proxy:
            parts = urlsplit(proxy if "://" in proxy else f"http://{proxy}")
            options = {"http_proxy_host": parts.hostname, "http_proxy_port": parts.port or 3128, "proxy_type": "http"}
        else:
            options = {"http_no_proxy": ["*"]}
        if self._is_tls:
            options["sslopt"] = {"context": self.access.tls, "server_hostname": self.access.server_name or self._host}
        try:
            return websocket.create_connection(
                f"{scheme}://{self._host}:{self._port}{self._url(path, query)}", timeout=TIMEOUT, suppress_origin=True,
                header=[f"{name}: {value}" for name, value in self._auth().items()], subprotocols=[subprotocol], **options,
            )  # fmt: skip
        except websocket.WebSocketBadStatusException as error:
            words = _message_of(error.resp_body)
            raise Refused(error.status_code, "", words or f"the API server answered {error.status_code}") from error
        except (OSError, websocket.WebSocketException) as error:
            raise Unreachable(f"the API server {self.access.server}: {error}; check the network") from error


def refusal(answer: Answer) -> StokerError:
    """The error that an answer of the API server means: one line for each field that it names."""
    document = answer.json()
    message = str(document.get("message") or answer.body[:300].decode("utf-8", "replace") or f"HTTP {answer.status}")
    reason = str(document.get("reason") or "")
    causes = (document.get("details") or {}).get("causes") or []
    if answer.status in (400, 422) and causes:
        return BadInputs(tuple(BadInput(one.get("field", ""), one.get("message", "")) for one in causes))
    if answer.status == 401:
        return Refused(401, reason, "the API server does not know you (401): log in again, or choose another --context")
    return Refused(answer.status, reason, message)


def _message_of(body: Any) -> str:
    try:
        return str(json.loads(body).get("message", ""))
    except (ValueError, TypeError, AttributeError):
        return ""


def _context(paths: list[Path], wanted: str | None) -> tuple[str, str]:
    """Name and namespace of the chosen context; the first file that says something wins, as kubectl has it."""
    import yaml

    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    current, contexts = "", dict[str, dict[str, str]]()
    for path in paths:
        try:
            document = yaml.load(path.read_text(encoding="utf-8"), Loader=loader) or {}
        except (OSError, yaml.YAMLError) as error:
            raise NoCluster(f"cannot read the kubeconfig {path}: {error}") from error
        if not isinstance(document, dict):
            raise NoCluster(f"the kubeconfig {path} is not a mapping")
        current = current or document.get("current-context") or ""
        for entry in document.get("contexts") or ():
            contexts.setdefault(entry.get("name"), entry.get("context") or {})
    name = wanted or current
    if not name:
        raise NoKubeconfig(
            f"{paths[0]} has no current-context; name one with --context ({', '.join(contexts) or 'it has none'})"
        )
    if name not in contexts:
        raise NoCluster(f"--context: no context {name!r}; {paths[0]} has: {', '.join(sorted(contexts)) or 'none'}")
    return name, contexts[name].get("namespace") or "default"


def _by_package(paths: list[Path], context: str) -> Access:
    """Access through the kubernetes package: exec plugins, auth providers, several files."""
    import ssl

    from kubernetes import client, config

    configuration, troubles = client.Configuration(), _Troubles()
    logging.getLogger().addHandler(troubles)
    try:
        config.load_kube_config(os.pathsep.join(map(str, paths)), context, configuration, persist_config=False)  # type: ignore[no-untyped-call]
    except config.ConfigException as error:
        raise NoCluster(f"the kubeconfig {paths[0]} cannot be used: {error}") from error
    finally:
        logging.getLogger().removeHandler(troubles)
    if troubles.words:
        # The package only logs that its login program failed, and would go on as nobody.
        raise NoCluster(f"the login that the kubeconfig {paths[0]} names failed: {'; '.join(troubles.words)}")
    tls = None
    if configuration.host.startswith("https:"):
        tls = ssl.create_default_context(cafile=configuration.ssl_ca_cert)
        if not configuration.verify_ssl:
            tls.check_hostname, tls.verify_mode = False, ssl.CERT_NONE
        if configuration.cert_file:
            tls.load_cert_chain(configuration.cert_file, configuration.key_file)
    token = (configuration.get_api_key_with_prefix("authorization") or "").removeprefix("Bearer ").strip()
    return Access(
        configuration.host, tls, token=token or None, proxy=configuration.proxy,
        server_name=getattr(configuration, "tls_server_name", None),
    )  # fmt: skip


class _Troubles(logging.Handler):
    """Keeps what is logged as an error."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.words: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.words.append(record.getMessage())


def _own_namespace() -> str:
    path = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")
    return path.read_text().strip() if sys.platform != "win32" and path.exists() else "default"
