"""A very small Kubernetes client on the standard library, for the lab's own controller."""

from __future__ import annotations

import http.client
import json
import ssl
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

Json = dict[str, Any]


class ApiError(RuntimeError):
    """The API server's answer was not a success."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(f"{status}: {text}")
        self.status = status


class Api:
    """Requests with one client certificate. Each thread has a connection of its own."""

    def __init__(self, server: str, folder: Path, identity: str) -> None:
        self._host, _, port = server.removeprefix("https://").partition(":")
        self._port = int(port)
        self._tls = ssl.create_default_context(cafile=str(folder / "ca.crt"))
        self._tls.load_cert_chain(folder / f"{identity}.crt", folder / f"{identity}.key")
        self._agent = f"lab-{identity}"
        self._local = threading.local()

    def _connect(self) -> http.client.HTTPSConnection:
        return http.client.HTTPSConnection(self._host, self._port, context=self._tls, timeout=60)

    def request(self, method: str, path: str, body: Json | None = None) -> Json:
        """One request, tried once more on a connection that the server had closed meanwhile."""
        headers = {"User-Agent": self._agent, "Accept": "application/json"}
        headers["Content-Type"] = "application/merge-patch+json" if method == "PATCH" else "application/json"
        content = None if body is None else json.dumps(body)
        for last in (False, True):
            connection: http.client.HTTPSConnection | None = getattr(self._local, "connection", None)
            if connection is None:
                connection = self._local.connection = self._connect()
            try:
                connection.request(method, path, content, headers)
                answer = connection.getresponse()
                text = answer.read().decode()
                break
            except (OSError, http.client.HTTPException):
                connection.close()
                self._local.connection = None
                if last:
                    raise
        if answer.status >= 300:
            raise ApiError(answer.status, text[:500])
        found: Json = json.loads(text)
        return found

    def watch(self, path: str, selector: str = "") -> Iterator[tuple[str, Json]]:
        """Every object as ("ADDED", ...), then ("SYNCED", {}), then changes, until the server ends the stream."""
        query = f"?labelSelector={selector}&" if selector else "?"
        found = self.request("GET", f"{path}{query}")
        for item in found["items"]:
            yield "ADDED", item
        yield "SYNCED", {}
        connection = self._connect()
        try:
            version = found["metadata"]["resourceVersion"]
            # The server ends the stream before our socket's time is up.
            tail = f"{query}watch=true&timeoutSeconds=50&resourceVersion={version}"
            connection.request("GET", f"{path}{tail}", headers={"User-Agent": self._agent})
            answer = connection.getresponse()
            if answer.status >= 300:
                raise ApiError(answer.status, answer.read().decode()[:500])
            while line := answer.readline():
                event = json.loads(line)
                if event["type"] == "ERROR":
                    return
                yield event["type"], event["object"]
        finally:
            connection.close()
