"""A run's pod on this machine: a scratch folder, launch and ship as real processes, and one small HTTP server that
plays both Stoker's server and the object store, and can be told to fail."""

import hashlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from stoker.runtime import build, wire
from stoker.runtime.configure import LaunchConfig, write_config
from stoker.runtime.layout import Scratch

JOB = "iris-0123abcd"
#: A fault answers a request: None = go on as usual, else (status, headers, body). It may also raise Hangup.
Fault = Callable[[str, str], tuple[int, dict[str, str], bytes] | None]


class Hangup(Exception):
    """Close the connection without an answer."""


class Cloud:
    """Server and store in one. Objects by key; uploads in parts by id; every request is listed."""

    def __init__(self) -> None:
        self.objects: dict[str, bytes] = {}
        self.uploads: dict[str, dict[int, bytes]] = {}
        self.aborted: list[str] = []
        self.completed: list[str] = []
        self.created = 0
        self.requests: list[tuple[str, str]] = []
        self.job: dict[str, Any] = {"version": 1, "key": JOB, "name": "iris"}
        self.attempt, self.rank = 1, 0
        self.gang_key = ""
        #: Answers to GET break off after so many bytes, when set; `ranges` are the ranges that were asked for.
        self.cut_after: int | None = None
        self.ranges: list[str] = []
        self.fault: Fault = lambda method, path: None
        self.lock = threading.Lock()
        cloud = self

        class Handler(_Handler):
            owner = cloud

        self._server = _Server(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()

    @property
    def prefix(self) -> str:
        return f"jobs/{JOB}/attempts/{self.attempt}/{self.rank}/"

    @property
    def stored(self) -> dict[str, bytes]:
        """Objects of the rank by path."""
        return {key[len(self.prefix) :]: body for key, body in self.objects.items() if key.startswith(self.prefix)}

    @property
    def seal(self) -> dict[str, Any] | None:
        body = self.objects.get(self.prefix + "seal.json")
        return None if body is None else json.loads(body)

    # How bytes are kept; a store for more than memory holds overrides these.

    def take(self, key: str, body: bytes) -> None:
        self.objects[key] = body

    def take_part(self, upload: str, number: int, body: bytes) -> None:
        self.uploads[upload][number] = body

    def join(self, key: str, upload: str, parts: list[bytes]) -> None:
        self.objects[key] = b"".join(parts)

    def digest(self, path: str) -> str | None:
        """The hex SHA-256 of what is stored at a path of the rank; None: nothing."""
        body = self.objects.get(self.prefix + path)
        return None if body is None else hashlib.sha256(body).hexdigest()

    def api(self, path: str, asked: dict[str, Any]) -> tuple[int, Any]:
        if path == "/v1/grant":
            return 200, {
                **({"gangKey": self.gang_key} if self.gang_key else {}),
                "grant": "g",
                "expiresSeconds": 60,
                "job": self.job,
                "attempt": self.attempt,
                "rank": self.rank,
            }
        if asked.get("grant") != "g":
            return 401, _error("GrantExpired", "ask for a new grant")
        if path == "/v1/reads":
            return 200, {"urls": {key: f"{self.url}/o/{key}" for key in asked["keys"]}}
        if path == "/v1/writes":
            if self.seal is not None:
                return 409, _error("Sealed", "the rank is sealed")
            return 200, {"objects": [self._signed(entry) for entry in asked["objects"]]}
        if path == "/v1/multipart":
            return self._multipart(asked)
        if path == "/v1/seal":
            return self._seal(asked)
        return 404, _error("NotFound", path)

    def _signed(self, entry: dict[str, Any]) -> dict[str, Any]:
        assert wire.path_problem(entry["path"]) is None
        there = self.objects.get(self.prefix + entry["path"])
        if self.digest(entry["path"]) == entry["sha256"]:
            return {"path": entry["path"], "stored": True}
        headers = {"x-sha256": entry["sha256"], "Content-Length": str(entry["size"])}
        # As the server signs: a URL works for the object that it saw, and so works once.
        headers.update({"If-None-Match": "*"} if there is None else {"If-Match": etag(there)})
        return {"path": entry["path"], "url": f"{self.url}/o/{self.prefix}{_quoted(entry['path'])}", "headers": headers}

    def _multipart(self, asked: dict[str, Any]) -> tuple[int, Any]:
        if asked["action"] == "create":
            self.created += 1
            upload = f"u{self.created - 1}"
            self.uploads[upload] = {}
            return 200, {"uploadId": upload}
        upload = asked["uploadId"]
        if asked["action"] == "abort":
            self.uploads.pop(upload, None)
            self.aborted.append(upload)
            return 200, {}
        if asked["action"] == "complete" and upload in self.completed:
            return 200, {}  # its answer was lost
        if upload not in self.uploads:
            return 404, _error("NoSuchUpload", upload)
        if asked["action"] == "sign":
            return 200, {
                "parts": [
                    {
                        "number": p["number"],
                        "url": f"{self.url}/p/{upload}/{p['number']}",
                        "headers": {"x-sha256": p["sha256"]},
                    }
                    for p in asked["parts"]
                ]
            }
        parts = self.uploads.pop(upload)
        self.completed.append(upload)
        self.join(self.prefix + asked["path"], upload, [parts[p["number"]] for p in asked["parts"]])
        return 200, {}

    def _seal(self, asked: dict[str, Any]) -> tuple[int, Any]:
        files = wire.stored_files(asked["files"])
        absent = [file.path for file in files if self.digest(file.path) != file.sha256]
        if absent:
            return 422, {**_error("Absent", "not there"), "absent": absent}
        missing = [wire.MissingFile(**entry) for entry in asked["missing"]]
        seal = wire.seal_document(
            JOB,
            self.attempt,
            self.rank,
            asked["exit"],
            files,
            missing,
            asked["skipped"],
            sealed_at="now",
            sealed_by="server",
        )
        if self.seal is not None and not wire.same_seal(self.seal, seal):
            return 409, {**_error("Sealed", "another seal is there"), "seal": self.seal}
        self.objects.setdefault(self.prefix + "seal.json", wire.json_bytes(seal))
        return 200, {"seal": seal}


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that was killed is no error here."""
        if not isinstance(sys.exc_info()[1], ConnectionError):
            super().handle_error(request, client_address)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    owner: Cloud

    def do_GET(self) -> None:
        if self._failed():
            return None
        body = self.owner.objects.get(unquote(self.path[len("/o/") :]))
        if body is None:
            return self._answer(404, b"NoSuchKey")
        wanted = self.headers.get("Range")
        if wanted is not None:
            self.owner.ranges.append(wanted)
        if wanted is None:
            return self._answer(200, body)
        start = int(wanted[len("bytes=") : -1])
        return self._answer(416, b"") if start >= len(body) else self._answer(206, body[start:])

    def do_PUT(self) -> None:
        if self._failed():
            return None
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if hashlib.sha256(body).hexdigest() != self.headers["x-sha256"]:
            return self._answer(400, b"BadDigest")
        with self.owner.lock:
            if self.path.startswith("/p/"):
                _, _, upload, number = self.path.split("/")
                self.owner.take_part(upload, int(number), body)
            else:
                key = unquote(self.path[len("/o/") :])
                there = self.owner.objects.get(key)
                seen = self.headers.get("If-Match")
                if seen != (None if there is None else etag(there)):
                    return self._answer(412, b"PreconditionFailed")
                self.owner.take(key, body)
        return self._answer(200, b"", {"ETag": etag(body)})

    def do_POST(self) -> None:
        if self._failed():
            return None
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if self.path == "/v1/grant" and self.headers.get("Authorization") != "Bearer token":
            return self._answer(401, json.dumps(_error("TokenRefused", "no such pod")).encode())
        with self.owner.lock:
            status, document = self.owner.api(self.path, asked)
        return self._answer(status, json.dumps(document).encode())

    def _failed(self) -> bool:
        with self.owner.lock:
            self.owner.requests.append((self.command, self.path))
        try:
            fault = self.owner.fault(self.command, self.path)
        except Hangup:
            self.close_connection = True
            return True
        if fault is None:
            return False
        # The body is left unread, so the connection cannot be kept.
        self.close_connection = True
        self._answer(fault[0], fault[2], {**fault[1], "Connection": "close"})
        return True

    def _answer(self, status: int, body: bytes, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.end_headers()
        if self.command == "GET" and self.owner.cut_after is not None and len(body) > self.owner.cut_after:
            body, self.close_connection = body[: self.owner.cut_after], True
        self.wfile.write(body)

    def log_message(self, format: str, *arguments: object) -> None:
        pass


def etag(body: bytes) -> str:
    """The store's name for these bytes."""
    return f'"{hashlib.md5(body, usedforsecurity=False).hexdigest()}"'


def _error(reason: str, message: str) -> dict[str, Any]:
    return {"error": {"reason": reason, "message": message}}


def _quoted(path: str) -> str:
    from urllib.parse import quote

    return quote(path)


class Pod:
    """A scratch folder with the agent in it. Its processes are killed at the end."""

    def __init__(self, folder: Path, cloud: Cloud | None = None) -> None:
        self.folder, self.cloud = folder, cloud
        self.scratch = Scratch(str(folder / "stoker"))
        self.work = Path(self.scratch.work)
        self.store = folder / "store"
        self.token = folder / "token"
        self.termination = folder / "termination-log"
        self._processes: list[subprocess.Popen[bytes]] = []
        folder.mkdir(exist_ok=True, parents=True)
        self.token.write_text("token\n")
        self.termination.touch()

    def prepare(self, **config: Any) -> "Pod":
        """What fetch does, without a server."""
        self.scratch.make()
        build.install(self.scratch.agent, self.scratch.launcher)
        for name in ("outputs", "logs"):
            (self.work / name).mkdir(exist_ok=True)
        write_config(self.scratch, LaunchConfig(**config))
        return self

    def environment(self, **more: str) -> dict[str, str]:
        mine = {
            "PATH": os.environ["PATH"],
            "HOME": os.environ.get("HOME", "/"),
            "STOKER_DIR": self.scratch.root,
            "STOKER_TERMINATION_LOG": str(self.termination),
            "STOKER_SCAN_SECONDS": "0.1",
            "STOKER_LOG_SECONDS": "0.1",
            "STOKER_TOKEN_FILE": str(self.token),
            "STOKER_READY_PORT": "0",
        }
        if self.cloud is not None:
            mine.update(
                STOKER_SERVER=self.cloud.url, STOKER_ATTEMPT=str(self.cloud.attempt), STOKER_RANK=str(self.cloud.rank)
            )
        return {**mine, **more}

    def launch(self, *command: str, wait: bool = False, **environment: str) -> subprocess.Popen[bytes]:
        flags = [] if wait else ["--no-wait"]
        return self._start(["/bin/sh", self.scratch.launcher, *flags, "--", *command], environment)

    def run(self, script: str, **environment: str) -> tuple[int, dict[str, Any], str]:
        """Run a shell command to its end without ship: exit code, exit record, launch's stdout."""
        process = self.launch("sh", "-c", script, **environment)
        output, _ = process.communicate(timeout=30)
        return process.returncode, self.exit, output.decode(errors="replace")

    def ship(self, *, local: bool = False, **environment: str) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-I", self.scratch.agent, "ship"]
        if local:
            command += ["--store", self.store.as_uri(), "--job", JOB]
            environment = {"STOKER_SERVER": "", **environment}
        return self._start(command, environment)

    def salvage(
        self, reason: str = "PodLost", message: str = "the pod is gone", **environment: str
    ) -> subprocess.Popen[bytes]:
        """What runs in a pod of its own on the scratch claim of a lost one."""
        told = ["--lost-as", reason, "--lost-message", message]
        return self._start([sys.executable, "-I", self._agent(), "salvage", *told], environment)

    def ship_from_outside(self) -> subprocess.Popen[bytes]:
        """ship as it starts in a pod: from its own image, before fetch has brought anything."""
        return self._start([sys.executable, "-I", self._agent(), "ship"], {})

    def _agent(self) -> str:
        agent = self.folder / "agent.pyz"
        agent.write_bytes(build.agent_bytes())
        return str(agent)

    def fetch(self, **environment: str) -> tuple[int, str]:
        process = self._start([sys.executable, "-I", self._agent(), "fetch"], environment)
        _, errors = process.communicate(timeout=30)
        return process.returncode, errors.decode()

    def as_first_process(self, part: str, python: str = sys.executable) -> tuple["subprocess.Popen[bytes]", int]:
        """A part of the agent's image as that starts it."""
        held = ["env", "--block-signal=TERM,INT"]
        return self.first_process(*held, python, "-I", self._agent(), part)

    def launch_as_first_process(self, *command: str, **environment: str) -> tuple["subprocess.Popen[bytes]", int]:
        return self.first_process("/bin/sh", self.scratch.launcher, "--no-wait", "--", *command, **environment)

    def first_process(self, *command: str, **environment: str) -> tuple["subprocess.Popen[bytes]", int]:
        """A command as the first process of a process namespace, as in a container: its parent here, and its own number."""
        parent = self._start(["unshare", "--pid", "--fork", "--kill-child", *command], environment)
        children = Path(f"/proc/{parent.pid}/task/{parent.pid}/children")
        eventually(lambda: bool(children.read_text().split()))
        return parent, int(children.read_text().split()[0])

    @property
    def exit(self) -> dict[str, Any]:
        return json.loads(Path(self.scratch.exit).read_text())

    @property
    def log(self) -> bytes:
        return Path(self.scratch.raw_log).read_bytes()

    def await_sealed(self, seconds: float = 60) -> dict[str, Any]:
        eventually(lambda: os.path.exists(self.scratch.sealed), seconds)
        return json.loads(Path(self.scratch.sealed).read_text())

    def close(self) -> None:
        for process in self._processes:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            for stream in (process.stdout, process.stderr):
                if stream is not None:
                    stream.close()

    def _start(self, command: list[str], environment: dict[str, str]) -> subprocess.Popen[bytes]:
        where = self.work if self.work.is_dir() else self.folder
        process = subprocess.Popen(
            command,
            cwd=where,
            env=self.environment(**environment),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )
        self._processes.append(process)
        return process


def eventually(holds: Callable[[], bool], seconds: float = 10) -> None:
    """Wait until something holds; fails the test when it does not in time."""
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, "it never came true"
        time.sleep(0.01)


@contextmanager
def failing(cloud: Cloud, fault: Fault) -> Iterator[None]:
    """The fault holds inside the block."""
    cloud.fault = fault
    try:
        yield
    finally:
        cloud.fault = lambda method, path: None
