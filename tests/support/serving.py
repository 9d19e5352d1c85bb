"""The real server in this process, on a real port, with an API server that is a dict and a store that is a folder.

The folder's signer makes URLs into the same port that hold their holder to what was signed, as an S3 store does:
length, SHA-256, condition and time. Tests of what a real store enforces use versitygw instead.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import functools
import hashlib
import hmac
import http.client
import json
import secrets
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import parse_qs, quote, urlencode, urlsplit

import msgspec
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

from stoker.api import names
from stoker.kube.client import Listing, ReviewedUser, TokenReviewStatus
from stoker.kube.errors import Conflict, KubeError, NotFound
from stoker.runtime.wire import GRANT_PROTOCOL
from stoker.server.app import make_app
from stoker.server.config import Settings
from stoker.server.workspaces import Place
from stoker.storage.file_store import FileStore
from stoker.storage.objects import StoreOptions
from stoker.storage.signing import Part, Signed

T = TypeVar("T")

SYSTEM = "stoker-system"
CHART_URL = "s3://bucket/stoker"
JOB_UID = "0123abcd-1111-4222-8333-444455556666"


# -- Kubernetes


class FakeKube:
    """Objects by path and tokens by text. `away` is raised by every call while it is set."""

    def __init__(self) -> None:
        self.objects: dict[str, dict[str, Any]] = {}
        self.tokens: dict[str, TokenReviewStatus] = {}
        self.away: KubeError | None = None
        self.reviews = 0

    async def get(self, path: str, shape: Any = dict, **query: str) -> Any:
        self._answer()
        if path not in self.objects:
            raise NotFound(f"{path} not found", status=404)
        return msgspec.convert(self.objects[path], shape)

    async def list(self, path: str, shape: Any = dict, **query: str) -> Listing[Any]:
        self._answer()
        plural = path.rsplit("/", 1)[-1]
        found = [body for name, body in sorted(self.objects.items()) if name.split("/")[-2] == plural]
        return Listing([msgspec.convert(body, shape) for body in found], "1")

    async def create(self, path: str, body: Any, shape: Any = dict, **more: Any) -> Any:
        self._answer()
        name = f"{path}/{body['metadata']['name']}"
        if name in self.objects:
            raise Conflict("already exists", reason="AlreadyExists", status=409)
        self.objects[name] = body
        return msgspec.convert(body, shape)

    async def review_token(self, token: str, audiences: list[str]) -> TokenReviewStatus:
        self._answer()
        self.reviews += 1
        known = self.tokens.get(token, TokenReviewStatus())
        both = tuple(one for one in audiences if one in known.audiences)
        return msgspec.structs.replace(known, audiences=both, authenticated=known.authenticated and bool(both))

    def _answer(self) -> None:
        if self.away is not None:
            raise self.away

    # What a cluster would hold

    def add(self, path: str, **metadata: Any) -> dict[str, Any]:
        body = self.objects[path] = {
            "metadata": {"name": path.rsplit("/", 1)[-1], **metadata},
            "spec": {},
            "status": {},
        }
        return body

    def account(self, token: str, namespace: str, name: str, audience: str = "stoker", **pod: str) -> None:
        """A token of a ServiceAccount; pod_name and pod_uid bind it to a pod."""
        extra = {f"authentication.kubernetes.io/{key.replace('_', '-')}": (value,) for key, value in pod.items()}
        user = ReviewedUser(username=f"system:serviceaccount:{namespace}:{name}", extra=extra)
        self.tokens[token] = TokenReviewStatus(authenticated=True, user=user, audiences=(audience,))

    def workspace(self, namespace: str, url: str, created: str = "2026-01-01T00:00:00Z") -> None:
        path = f"/apis/stoker.dev/v1alpha1/namespaces/{namespace}/workspaces/default"
        self.add(path, namespace=namespace, creationTimestamp=created)["spec"] = {"storage": {"url": url}}

    def run(self, namespace: str = "team", name: str = "iris", uid: str = JOB_UID, *, attempt: int = 1, ranks: int = 1,
            rank: int = 0, token: str = "pod-token", salvages: int | None = None) -> str:  # fmt: skip
        """A TrainingJob with its child and one pod, and the pod's token. Returns the pod's path. salvages: the rank
        whose remains the pod saves, as rank 0 of a Job for that."""
        child = names.child_name(name, uid, attempt)
        if salvages is not None:
            child = names.salvage_name(name, uid, attempt, salvages)
        child_uid, pod_uid = f"child-{attempt}-{uid}", f"pod-{attempt}-{rank}-{uid}"
        pod = f"{child}-{rank}-x7k2p"
        owner = {"controller": True, "blockOwnerDeletion": True}
        self.add(f"/apis/stoker.dev/v1alpha1/namespaces/{namespace}/trainingjobs/{name}", uid=uid, namespace=namespace)
        self.add(
            f"/apis/batch/v1/namespaces/{namespace}/jobs/{child}", uid=child_uid, namespace=namespace,
            ownerReferences=[{**owner, "apiVersion": names.API_VERSION, "kind": "TrainingJob", "name": name, "uid": uid}],
        )["spec"] = {"completions": ranks}  # fmt: skip
        path = f"/api/v1/namespaces/{namespace}/pods/{pod}"
        self.add(
            path, uid=pod_uid, namespace=namespace, finalizers=["batch.kubernetes.io/job-tracking"],
            labels={"batch.kubernetes.io/controller-uid": child_uid, names.LABEL_RANK: str(rank)},
            ownerReferences=[{**owner, "apiVersion": "batch/v1", "kind": "Job", "name": child, "uid": child_uid}],
        )["status"] = {"phase": "Running"}  # fmt: skip
        self.account(token, namespace, "default", "stoker-run", pod_name=pod, pod_uid=pod_uid)
        return path


def job_record(namespace: str = "team", name: str = "iris", uid: str = JOB_UID, **more: Any) -> dict[str, Any]:
    """A job.json of the ordinary kind."""
    return {
        "version": 1, "name": name, "namespace": namespace, "uid": uid, "key": names.job_key(name, uid),
        "submittedAt": "2026-01-02T03:04:05Z", "submittedBy": None, "compute": "cpu", "command": "python train.py",
        "snapshot": None, "image": None, "pip": [], "instanceCount": 1, "env": {}, "inputs": {}, "outputs": {},
        "limits": {"timeoutSeconds": 3600, "graceSeconds": 600, "logBytes": 1 << 30, "scratchBytes": None}, **more,
    }  # fmt: skip


# -- the store


@dataclass
class FolderSigner:
    """Signs URLs into `base` for objects of one folder. Uploads in parts live in memory."""

    name: str
    store: FileStore
    base: str = ""
    expires: float = 900
    secret: bytes = b"folder"
    uploads: dict[str, dict[int, bytes]] = field(default_factory=dict)

    def get(self, key: str, *, for_people: bool = False) -> Signed:
        return Signed(self._url("GET", key, {}), {})

    def put(
        self,
        key: str,
        size: int,
        sha256: str,
        *,
        only_if_absent: bool = False,
        if_match: str = "",
        for_people: bool = False,
    ) -> Signed:
        headers = {"Content-Length": str(size), "x-sha256": sha256}
        if only_if_absent:
            headers["If-None-Match"] = "*"
        return Signed(self._url("PUT", key, headers), headers)

    def put_part(self, key: str, upload_id: str, number: int, size: int, sha256: str) -> Signed:
        headers = {"Content-Length": str(size), "x-sha256": sha256}
        return Signed(self._url("PUT", key, headers, upload=upload_id, part=str(number)), headers)

    def create_upload(self, key: str) -> str:
        upload = f"upload-{len(self.uploads)}"
        self.uploads[upload] = {}
        return upload

    def complete_upload(self, key: str, upload_id: str, parts: list[Part]) -> None:
        pieces = self.uploads.pop(upload_id)
        path = self.store.path(key)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"".join(pieces[part.number] for part in sorted(parts)))

    def abort_upload(self, key: str, upload_id: str) -> None:
        self.uploads.pop(upload_id, None)

    def checksum(self, key: str) -> str | None:
        path = self.store.path(key)
        return hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else None

    def _url(self, method: str, key: str, headers: Mapping[str, str], **more: str) -> str:
        query = {"until": str(time.time() + self.expires), "headers": json.dumps(dict(headers)), **more}
        query["mac"] = self._mac(method, key, query)
        return f"{self.base}/store/{self.name}/{quote(key)}?{urlencode(query)}"

    def _mac(self, method: str, key: str, query: Mapping[str, str]) -> str:
        text = json.dumps([method, key, sorted((name, value) for name, value in query.items() if name != "mac")])
        return hmac.new(self.secret, text.encode(), "sha256").hexdigest()

    async def serve(self, request: Request) -> Response:
        key, query = (
            request.path_params["key"],
            {name: values[0] for name, values in parse_qs(request.url.query).items()},
        )
        headers = json.loads(query["headers"])
        body = await request.body()
        signed = hmac.compare_digest(query.get("mac", ""), self._mac(request.method, key, query))
        if not signed or float(query["until"]) < time.time():
            return Response("SignatureDoesNotMatch", 403)
        if any(request.headers.get(name) != value for name, value in headers.items()):
            return Response("SignatureDoesNotMatch", 403)
        if request.method == "GET":
            found = await self.store.head(key)
            return Response("NoSuchKey", 404) if found is None else StreamingResponse(self.store.stream(key))
        if hashlib.sha256(body).hexdigest() != headers["x-sha256"]:
            return Response("BadDigest", 400)
        if "part" in query:
            if query["upload"] not in self.uploads:
                return Response("NoSuchUpload", 404)
            self.uploads[query["upload"]][int(query["part"])] = body
        elif not await self.store.put(key, body, only_if_absent="If-None-Match" in headers):
            return Response("PreconditionFailed", 412)
        return Response(headers={"ETag": base64.b16encode(hashlib.md5(body).digest()).decode().lower()})


# -- the server


@dataclass
class Answer:
    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def reason(self) -> str:
        return str(self.json["error"]["reason"])


class Served:
    """A server that runs. Its folders are below `folder`, one per storage URL."""

    def __init__(self, folder: Path, **settings: Any) -> None:
        self.kube, self.folder = FakeKube(), folder
        self.settings = Settings(
            **{"namespace": SYSTEM, "storage_url": CHART_URL, "options": StoreOptions(), **settings}
        )
        self.signers: dict[str, FolderSigner] = {}
        self.url = ""

    def place(self, url: str) -> Place:
        name = quote(url.removeprefix("s3://"), safe="").replace("%", "_")
        if url not in self.signers:
            self.signers[url] = FolderSigner(name, FileStore(self.folder / name), self.url)
        return Place(self.signers[url].store, self.signers[url])

    def store(self, namespace: str = "team") -> FileStore:
        return self.place(f"{CHART_URL}/{namespace}").store  # type: ignore[return-value]

    def app(self) -> Starlette:
        app = make_app(self.kube, self.settings, opener=self.place)

        async def serve(request: Request) -> Response:
            by_name = {signer.name: signer for signer in self.signers.values()}
            return await by_name[request.path_params["name"]].serve(request)

        app.router.routes.append(Route("/store/{name}/{key:path}", serve, methods=["GET", "PUT"]))
        return app

    def call(self, method: str, path: str, body: Any = None, token: str = "", **headers: str) -> Answer:
        """One request. body: bytes as they are, anything else as JSON. path may be a whole URL."""
        parts = urlsplit(path if path.startswith("http") else self.url + path)
        content = body if isinstance(body, bytes) or body is None else json.dumps(body).encode()
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        if token:
            named["Authorization"] = f"Bearer {token}"
        connection = http.client.HTTPConnection(parts.netloc, timeout=30)
        try:
            connection.request(method, parts.path + (f"?{parts.query}" if parts.query else ""), content, named)
            answer = connection.getresponse()
            return Answer(answer.status, {name.lower(): value for name, value in answer.getheaders()}, answer.read())
        finally:
            connection.close()

    def grant(self, token: str = "pod-token") -> Answer:
        return self.call("POST", "/v1/grant", {"protocol": GRANT_PROTOCOL}, token)

    def granted(self, token: str = "pod-token") -> str:
        answer = self.grant(token)
        assert answer.status == 200, answer.body
        return str(answer.json["grant"])

    def send(self, grant: str, path: str, content: bytes) -> Answer:
        """Store a file as ship does; the answer is the store's, or the server's no."""
        digest = hashlib.sha256(content).hexdigest()
        asked = {"path": path, "size": len(content), "sha256": digest}
        answer = self.call("POST", "/v1/writes", {"grant": grant, "objects": [asked]})
        if answer.status != 200 or answer.json["objects"][0].get("stored"):
            return answer
        return self.store_as(grant, answer.json["objects"][0], content)

    def store_as(self, grant: str, entry: Mapping[str, Any], content: bytes) -> Answer:
        """Send a file as an entry says, and complete the upload by which it replaces another one."""
        answer = self.put(entry, content)
        if answer.status != 200 or "uploadId" not in entry:
            return answer
        part = {"number": 1, "etag": answer.headers["etag"], "sha256": hashlib.sha256(content).hexdigest()}
        asked = {"grant": grant, "action": "complete", "path": entry["path"], "uploadId": entry["uploadId"]}
        return self.call("POST", "/v1/multipart", {**asked, "parts": [part]})

    def put(self, entry: Mapping[str, Any], content: bytes) -> Answer:
        headers = {
            name.replace("-", "_"): value for name, value in entry["headers"].items() if name != "Content-Length"
        }
        return self.call("PUT", entry["url"], content, **headers)


def listed(path: str, content: bytes) -> dict[str, Any]:
    """A file as requests to write or to seal name it."""
    return {"path": path, "size": len(content), "sha256": hashlib.sha256(content).hexdigest()}


class _Host:
    """One listening server for all tests of a session: each test's application has a path prefix of its own. Starting
    and ending uvicorn for every test would take most of the time."""

    def __init__(self) -> None:
        self.apps: dict[str, Starlette] = {}
        self.loop = asyncio.new_event_loop()
        config = uvicorn.Config(
            self._app, interface="asgi3", host="127.0.0.1", port=0, log_config=None, access_log=False, lifespan="off"
        )
        self._server = uvicorn.Server(config)
        started = threading.Event()
        original = self._server.startup

        async def startup(*arguments: Any, **more: Any) -> None:
            await original(*arguments, **more)
            started.set()

        self._server.startup = startup  # type: ignore[method-assign]
        threading.Thread(target=self.loop.run_until_complete, args=(self._server.serve(),), daemon=True).start()
        assert started.wait(10), "the server did not start"
        self.url = f"http://127.0.0.1:{self._server.servers[0].sockets[0].getsockname()[1]}"

    async def _app(self, scope: Any, receive: Any, send: Any) -> None:
        _, name, rest = scope["path"].split("/", 2)
        raw = scope["raw_path"].removeprefix(f"/{name}".encode())
        await self.apps[name](dict(scope, path=f"/{rest}", raw_path=raw), receive, send)

    def run(self, work: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(work, self.loop).result(10)


@functools.cache
def _host() -> _Host:
    return _Host()


@contextlib.contextmanager
def serving(served: Served) -> Iterator[Served]:
    """Run the server until the block ends."""
    host, app, name = _host(), served.app(), secrets.token_hex(4)
    host.apps[name] = app
    served.url = f"{host.url}/{name}"
    for signer in served.signers.values():
        signer.base = served.url
    lifespan = app.router.lifespan_context(app)
    host.run(lifespan.__aenter__())
    try:
        yield served
    finally:
        del host.apps[name]
        host.run(lifespan.__aexit__(None, None, None))
