"""Real server processes behind one address, as a Service has them: a cluster that is a dict, over HTTP, and a balancer
that gives each request to the next replica."""

import contextlib
import http.client
import json
import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from stoker.storage.objects import StoreOptions
from tests.support.serving import SYSTEM, FakeKube

_REVIEWS = "/apis/authentication.k8s.io/v1/tokenreviews"


class _Quiet(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *arguments: object) -> None:
        """Nothing: the test's output is the test's."""

    def body(self) -> bytes:
        return self.rfile.read(int(self.headers.get("Content-Length") or 0))

    def answer(self, status: int, headers: dict[str, str], body: bytes) -> None:
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(body))}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that was killed is no error here."""
        if not isinstance(sys.exc_info()[1], ConnectionError):
            super().handle_error(request, client_address)


@contextlib.contextmanager
def _listening(handler: type[BaseHTTPRequestHandler]) -> Iterator[str]:
    server = _Server(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()


class _Kube(_Quiet):
    kube: FakeKube
    lock: threading.Lock

    def do_GET(self) -> None:
        path = self.path.split("?")[0]
        with self.lock:
            found = self.kube.objects.get(path)
            plural = path.rsplit("/", 1)[-1]
            items = [body for name, body in self.kube.objects.items() if name.split("/")[-2] == plural]
        if found is None and plural != "workspaces":
            self.say(404, {"kind": "Status", "code": 404, "reason": "NotFound", "message": f"{path} not found"})
        else:
            self.say(200, found or {"metadata": {"resourceVersion": "1"}, "items": items})

    def do_POST(self) -> None:
        asked, path = json.loads(self.body()), self.path.split("?")[0]
        if path == _REVIEWS:
            known = self.kube.tokens.get(asked["spec"]["token"])
            both = [one for one in asked["spec"]["audiences"] if known and one in known.audiences]
            user = {"username": known.user.username, "extra": known.user.extra} if known and both else {}
            self.say(201, {**asked, "status": {"authenticated": bool(both), "user": user, "audiences": both}})
            return
        name = f"{path}/{asked['metadata']['name']}"
        with self.lock:
            taken = self.kube.objects.setdefault(name, asked) is not asked
        if taken:
            self.say(409, {"kind": "Status", "code": 409, "reason": "AlreadyExists", "message": "already exists"})
        else:
            self.say(201, asked)

    def say(self, status: int, document: Any) -> None:
        self.answer(status, {"Content-Type": "application/json"}, json.dumps(document).encode())


class Replica:
    """A server process. url: where it answers; None while it does not run."""

    def __init__(self, kubeconfig: Path, env: dict[str, str], log: Path) -> None:
        self._kubeconfig, self._env, self._log = kubeconfig, env, log
        self.process: subprocess.Popen[bytes] | None = None
        self.url = ""
        self.served = 0

    def start(self) -> None:
        """Start it, and come back at once."""
        command = [sys.executable, "-m", "stoker.server", "--host", "127.0.0.1", "--port", "0"]
        with self._log.open("ab") as log:
            self.process = subprocess.Popen(
                [*command, "--kubeconfig", str(self._kubeconfig)], env=self._env, stdout=log, stderr=log
            )

    def await_ready(self, seconds: float = 60.0) -> None:
        """Until it says that it is ready."""
        assert self.process is not None
        pause = threading.Event()
        for _ in range(int(seconds / 0.1)):
            told = re.findall(r"running on http://127.0.0.1:(\d+)", self._log.read_text(errors="replace"))
            assert self.process.poll() is None, self._log.read_text(errors="replace")
            if told:
                self.url = f"http://127.0.0.1:{told[-1]}"
                with contextlib.suppress(OSError):
                    if _ask(self.url, "GET", "/readyz", b"", {})[0] == 200:
                        return
            pause.wait(0.1)
        raise AssertionError(f"a replica did not come up: {self._log.read_text(errors='replace')[-2000:]}")

    def kill(self) -> None:
        """End it as a power cut does."""
        if self.process is not None:
            self.process.send_signal(signal.SIGKILL)
            self.process.wait()
            self.process, self.url = None, ""
            self._log.write_bytes(b"")

    @property
    def log(self) -> str:
        return self._log.read_text(errors="replace")


def _ask(url: str, method: str, path: str, body: bytes, headers: dict[str, str]) -> tuple[int, dict[str, str], bytes]:
    connection = http.client.HTTPConnection(url.removeprefix("http://"), timeout=30)
    try:
        connection.request(method, path, body, headers)
        answer = connection.getresponse()
        dropped = ("content-length", "transfer-encoding", "connection")
        kept = {name: value for name, value in answer.getheaders() if name.lower() not in dropped}
        return answer.status, kept, answer.read()
    finally:
        connection.close()


class _Balancer(_Quiet):
    replicas: "Replicas"

    def _serve(self) -> None:
        body, replica = self.body(), self.replicas.next()
        try:
            if replica is None or not replica.url:
                raise ConnectionRefusedError
            answer = _ask(replica.url, self.command, self.path, body, dict(self.headers.items()))
        except OSError:
            # A Service whose endpoint is gone: the connection ends without an answer.
            self.close_connection = True
            return
        replica.served += 1
        self.answer(*answer)

    do_GET = do_PUT = do_POST = do_DELETE = _serve


class Replicas:
    """Server processes that share one cluster and one store. url: of all of them together."""

    def __init__(self, kube: FakeKube, storage_url: str, options: StoreOptions) -> None:
        self.kube, self.storage_url, self.options = kube, storage_url, options
        self.all: list[Replica] = []
        self.url = ""
        self._turn, self._lock = 0, threading.Lock()

    def next(self) -> Replica | None:
        with self._lock:
            self._turn += 1
            return self.all[self._turn % len(self.all)] if self.all else None


@contextlib.contextmanager
def replicas(
    folder: Path, kube: FakeKube, storage_url: str, options: StoreOptions, count: int = 2, **settings: str
) -> Iterator[Replicas]:
    """So many replicas, started together, until the block ends. settings: more variables of theirs."""
    found = Replicas(kube, storage_url, options)
    api = type("Kube", (_Kube,), {"kube": kube, "lock": threading.Lock()})
    with _listening(api) as kube_url, _listening(type("Balancer", (_Balancer,), {"replicas": found})) as found.url:
        config = {
            "current-context": "c", "clusters": [{"name": "k", "cluster": {"server": kube_url}}],
            "users": [{"name": "u", "user": {"token": "server"}}],
            "contexts": [{"name": "c", "context": {"cluster": "k", "user": "u"}}],
        }  # fmt: skip
        kubeconfig = folder / "kubeconfig"
        kubeconfig.write_text(json.dumps(config))
        env = {
            "PATH": os.environ["PATH"], "PYTHONPATH": os.pathsep.join(sys.path), "STOKER_NAMESPACE": SYSTEM,
            "STOKER_STORAGE_URL": storage_url, "STOKER_STORAGE_ENDPOINT": options.endpoint,
            "AWS_ACCESS_KEY_ID": options.access_key, "AWS_SECRET_ACCESS_KEY": options.secret_key, **settings,
        }  # fmt: skip
        found.all = [Replica(kubeconfig, env, folder / f"server-{number}.log") for number in range(count)]
        try:
            for replica in found.all:
                replica.start()
            for replica in found.all:
                replica.await_ready()
            yield found
        finally:
            for replica in found.all:
                replica.kill()
