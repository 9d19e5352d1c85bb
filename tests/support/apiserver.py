"""An API server for the command line: a few kinds in a dict, watches that wait, a pod's log that is followed."""

import json
import queue
import threading
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

JOBS = "/apis/stoker.dev/v1alpha1/namespaces/team/trainingjobs"
PODS = "/api/v1/namespaces/team/pods"
POOL = "/apis/stoker.dev/v1alpha1/computeclusters/cpu"
_ENVIRONMENTS = JOBS.replace("trainingjobs", "environments")
#: A real one lists what is in a namespace that is not there too: nothing.
_LISTS = (JOBS, PODS, POOL.rpartition("/")[0], _ENVIRONMENTS, _ENVIRONMENTS.replace("/team/", "/nons/"))

_STOKER = POOL.rpartition("/")[0].rpartition("/")[0]
_EVERYWHERE = (
    *(f"{_STOKER}/{plural}" for plural in ("trainingjobs", "environments", "workspaces")),
    "/apis/batch/v1/jobs", "/api/v1/pods",
)  # fmt: skip


class ApiServer:
    """Objects by path; all of a kind are listed in all namespaces too. `refuse` answers a POST with a Status object, `refuse_token` is the
    status of every TokenRequest unless 0; `logs` are what pods print, None at their end."""

    def __init__(self) -> None:
        self.objects: dict[str, dict[str, Any]] = {
            "/api/v1/namespaces/team": {"metadata": {"name": "team"}},
            POOL: {"metadata": {"name": "cpu"}, "spec": {"maxInstances": 2}, "status": {"currentNodes": 1}},
        }
        self.refuse: dict[str, Any] | None = None
        self.refuse_token = 0
        #: Paths that may not be read.
        self.forbidden: set[str] = set()
        self.created: queue.Queue[dict[str, Any]] = queue.Queue()
        self.logs: queue.Queue[bytes | None] = queue.Queue()
        self.requests: list[str] = []
        self.agents: set[str] = set()
        self._watchers: list[tuple[str, queue.Queue[dict[str, Any]]]] = []
        self._lock = threading.Lock()
        self._version = 0

    def put(self, path: str, body: dict[str, Any], kind: str = "MODIFIED") -> None:
        """Store an object and tell the watchers of its collection."""
        with self._lock:
            self._version += 1
            body.setdefault("metadata", {})["resourceVersion"] = str(self._version)
            if kind == "DELETED":
                self.objects.pop(path, None)
            else:
                self.objects[path] = body
            for prefix, watcher in self._watchers:
                if path.rpartition("/")[0] == prefix:
                    watcher.put({"type": kind, "object": json.loads(json.dumps(body))})

    def status(self, name: str, **status: Any) -> None:
        """Write a TrainingJob's status."""
        path = f"{JOBS}/{name}"
        job = self.objects[path]
        self.put(path, {**job, "status": {**job.get("status", {}), **status}})

    def page(self, path: str, after: str) -> dict[str, Any]:
        """Of a list of all namespaces: one object a page, so that who reads only the first one is found out."""
        group, _, plural = path.rpartition("/")
        found = sorted(
            name for name in self.objects
            if name.startswith(f"{group}/namespaces/") and name.split("/")[-2] == plural and name > after
        )  # fmt: skip
        more = {"continue": found[0]} if len(found) > 1 else {}
        return {"metadata": more, "items": [self.objects[name] for name in found[:1]]}

    def watcher(self, path: str) -> "queue.Queue[dict[str, Any]]":
        with self._lock:
            found: queue.Queue[dict[str, Any]] = queue.Queue()
            for name, body in self.objects.items():
                if name.rpartition("/")[0] == path:
                    found.put({"type": "ADDED", "object": body})
            self._watchers.append((path, found))
            return found


def _merged(there: dict[str, Any], patch: dict[str, Any]) -> dict[str, Any]:
    """A JSON merge patch (RFC 7396)."""
    merged = dict(there)
    for key, value in patch.items():
        if isinstance(value, dict):
            merged[key] = _merged(there[key] if isinstance(there.get(key), dict) else {}, value)
        elif value is None:
            merged.pop(key, None)
        else:
            merged[key] = value
    return merged


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    api: ApiServer

    def log_message(self, *_: Any) -> None:
        """Nothing: the test's output is the test's."""

    def do_GET(self) -> None:
        parts = urlsplit(self.path)
        query = parse_qs(parts.query)
        self.note()
        if parts.path in self.api.forbidden:
            self.answer(403, {"message": f"you may not read {parts.path}", "reason": "Forbidden"})
        elif "watch" in query:
            self.watch(parts.path)
        elif parts.path.startswith(PODS) and parts.path.endswith("/log"):
            self.stream(iter(self.api.logs.get, None))
        elif parts.path in self.api.objects:
            self.answer(200, self.api.objects[parts.path])
        elif parts.path in _LISTS:
            items = [body for name, body in self.api.objects.items() if name.rpartition("/")[0] == parts.path]
            self.answer(200, {"items": items})
        elif parts.path in _EVERYWHERE:
            self.answer(200, self.api.page(parts.path, query.get("continue", [""])[0]))
        else:
            self.answer(404, {"message": f"{parts.path} not found", "reason": "NotFound"})

    def do_POST(self) -> None:
        self.note()
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        path = urlsplit(self.path).path
        if self.api.refuse_token and path.endswith("/token"):
            self.answer(self.api.refuse_token, {"message": "token requests are refused", "reason": "Forbidden"})
        elif path.endswith("/serviceaccounts/stoker-editor/token"):
            self.answer(201, {"status": {"token": "people"}})
        elif self.api.refuse is not None:
            self.answer(self.api.refuse["code"], self.api.refuse)
        elif f"{path}/{body['metadata']['name']}" in self.api.objects:
            self.answer(409, {"message": f"{body['metadata']['name']} already exists", "reason": "AlreadyExists"})
        else:
            body["metadata"] |= {"uid": str(uuid.uuid4()), "creationTimestamp": "2026-01-02T03:04:05Z"}
            body["status"] = {"phase": "Pending"}
            self.api.put(f"{path}/{body['metadata']['name']}", body, "ADDED")
            self.api.created.put(body)
            self.answer(201, body)

    def do_PATCH(self) -> None:
        self.note()
        patch = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        path = urlsplit(self.path).path
        job = self.api.objects[path]
        self.api.put(path, _merged(job, patch))
        self.answer(200, self.api.objects[path])

    def do_DELETE(self) -> None:
        self.note()
        options = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        path = urlsplit(self.path).path
        job = self.api.objects.get(path)
        if job is None:
            self.answer(404, {"message": f"{path} not found", "reason": "NotFound"})
        elif options.get("preconditions", {"uid": job["metadata"].get("uid")})["uid"] != job["metadata"].get("uid"):
            self.answer(409, {"message": "the uid in the precondition does not match", "reason": "Conflict"})
        else:
            self.api.put(path, job, "DELETED")
            self.answer(200, {"status": "Success"})

    def note(self) -> None:
        self.api.requests.append(f"{self.command} {urlsplit(self.path).path}")
        self.api.agents.add(self.headers["User-Agent"])

    def answer(self, status: int, body: Any) -> None:
        content = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def watch(self, path: str) -> None:
        events = self.api.watcher(path)
        self.stream(json.dumps(event).encode() + b"\n" for event in iter(events.get, None))

    def stream(self, pieces: Iterator[bytes | None]) -> None:
        self.send_response(200)
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        try:
            for piece in pieces:
                assert piece is not None
                self.wfile.write(b"%x\r\n%s\r\n" % (len(piece), piece))
                self.wfile.flush()
            self.wfile.write(b"0\r\n\r\n")
        except OSError:
            self.close_connection = True


@contextmanager
def api_server(folder: Path) -> Iterator[tuple[ApiServer, Path]]:
    """An API server that runs, and a kubeconfig for it."""
    api = ApiServer()
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"api": api}))
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    kubeconfig = folder / "kubeconfig"
    kubeconfig.write_text(
        json.dumps(
            {
                "current-context": "c",
                "clusters": [{"name": "k", "cluster": {"server": f"http://127.0.0.1:{server.server_address[1]}"}}],
                "users": [{"name": "u", "user": {"token": "me"}}],
                "contexts": [{"name": "c", "context": {"cluster": "k", "user": "u", "namespace": "team"}}],
            }
        )
    )
    try:
        yield api, kubeconfig
    finally:
        server.shutdown()
        server.server_close()
