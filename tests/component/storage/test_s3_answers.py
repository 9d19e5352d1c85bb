"""What the S3 store makes of each answer, with a server that answers by a script."""

import asyncio
import os
import sys
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from stoker.storage import s3_store
from stoker.storage.objects import ObjectStore, StoreError, StoreOptions, StoreRefused, StoreUnavailable, open_store


def error(code: str) -> bytes:
    return f"<?xml version='1.0'?><Error><Code>{code}</Code><Message>m</Message></Error>".encode()


class Script:
    """Answers to come, by method; and what was asked."""

    def __init__(self) -> None:
        self.answers: dict[str, list[tuple[int, bytes]]] = {}
        self.objects: dict[str, bytes] = {}
        self.asked: list[str] = []

    def will(self, method: str, *answers: tuple[int, str]) -> None:
        self.answers[method] = [(status, error(code) if code else b"") for status, code in answers]

    def answer(self, method: str, path: str, body: bytes) -> tuple[int, bytes]:
        self.asked.append(method)
        if planned := self.answers.get(method):
            return planned.pop(0)
        if method == "PUT":
            self.objects[path] = body
            return 200, b""
        return (200, self.objects[path]) if path in self.objects else (404, error("NoSuchKey"))


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> Script:
    monkeypatch.setattr(s3_store, "_FIRST_WAIT", 0.001)
    return Script()


@pytest.fixture
def options(script: Script) -> Iterator[StoreOptions]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def handle_any(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            status, text = script.answer(self.command, self.path, body)
            if status == 0:  # hang up without a word
                self.close_connection = True
                return
            self.send_response(status)
            for name, value in (
                ("Content-Length", len(text)),
                ("ETag", '"e"'),
                ("Last-Modified", "Wed, 21 Oct 2015 07:28:00 GMT"),
            ):
                self.send_header(name, str(value))
            if status == 206:
                self.send_header("Content-Range", f"bytes 0-{len(text) - 1}/{len(text)}")
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(text)

        do_GET = do_PUT = do_HEAD = do_POST = do_DELETE = handle_any

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield StoreOptions(f"http://127.0.0.1:{server.server_port}", access_key="a", secret_key="s")
        server.shutdown()
        thread.join()


@pytest.fixture
def store(options: StoreOptions) -> ObjectStore:
    return open_store("s3://bucket/p", options)


async def test_412_says_that_another_was_first(store: ObjectStore, script: Script) -> None:
    script.will("PUT", (412, "PreconditionFailed"))

    assert not await store.put("k", b"mine", only_if_absent=True)
    assert script.asked == ["PUT"]


async def test_409_is_asked_again(store: ObjectStore, script: Script) -> None:
    script.will("PUT", (409, "ConditionalRequestConflict"), (409, "ConditionalRequestConflict"))

    assert await store.put("k", b"mine", only_if_absent=True)
    assert script.asked == ["PUT"] * 3


async def test_409_then_412_is_anothers(store: ObjectStore, script: Script) -> None:
    script.objects["/bucket/p/k"] = b"mine"
    script.will("PUT", (409, "ConditionalRequestConflict"), (412, "PreconditionFailed"))

    assert not await store.put("k", b"mine", only_if_absent=True)


@pytest.mark.parametrize("lost", [(0, ""), (500, "InternalError"), (503, "SlowDown"), (400, "RequestTimeout")])
@pytest.mark.parametrize(("there", "expected"), [(b"mine", True), (b"your", False), (b"longer", False)])
@pytest.mark.parametrize("as_file", [False, True])
async def test_a_412_after_a_lost_answer_is_our_own_if_the_content_is(
    store: ObjectStore,
    script: Script,
    tmp_path: Path,
    lost: tuple[int, str],
    there: bytes,
    expected: bool,
    as_file: bool,
) -> None:
    script.objects["/bucket/p/k"] = there
    script.will("PUT", lost, (412, "PreconditionFailed"))
    script.answers["GET"] = [(206, there)]
    (tmp_path / "f").write_bytes(b"mine")

    assert expected == await store.put("k", tmp_path / "f" if as_file else b"mine", only_if_absent=True)


async def test_a_store_that_stays_busy_is_unavailable(store: ObjectStore, script: Script) -> None:
    script.will("PUT", *[(503, "SlowDown")] * 9)

    with pytest.raises(StoreUnavailable, match="k: the store answered 503 SlowDown"):
        await store.put("k", b"", only_if_absent=True)
    assert len(script.asked) == s3_store._TRIES


async def test_a_refusal_is_not_asked_again(store: ObjectStore, script: Script) -> None:
    script.will("PUT", (403, "AccessDenied"), (403, "AccessDenied"))

    with pytest.raises(StoreRefused, match="k: the store answered 403 AccessDenied; check the credentials") as caught:
        await store.put("k", b"", only_if_absent=True)
    assert (caught.value.code, script.asked) == ("AccessDenied", ["PUT"])


CALLS: list[tuple[str, Callable[[ObjectStore], object]]] = [
    ("PUT", lambda store: store.put("k", b"")),
    ("PUT", lambda store: store.put("k", b"", only_if_absent=True)),
    ("GET", lambda store: store.get("k")),
    ("GET", lambda store: store.folders("x/")),
    ("POST", lambda store: store.delete(["k"])),
]


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize(
    ("status", "code", "kind"),
    [
        (403, "AccessDenied", StoreRefused),
        (401, "Unauthorized", StoreRefused),
        (404, "NoSuchBucket", StoreRefused),
        (403, "QuotaExceeded", StoreRefused),
        (507, "InsufficientStorage", StoreRefused),
        (400, "InvalidRequest", StoreRefused),
    ],
)
async def test_what_only_a_person_can_mend_is_refused(
    store: ObjectStore,
    script: Script,
    call: tuple[str, Callable[[ObjectStore], object]],
    status: int,
    code: str,
    kind: type[StoreError],
) -> None:
    method, ask = call
    script.will(method, *[(status, code)] * 20)

    with pytest.raises(kind) as caught:
        await ask(store)  # type: ignore[misc]
    assert code == getattr(caught.value, "code", code)


async def test_a_stream_that_breaks_off_is_unavailable(store: ObjectStore) -> None:
    async def broken(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for_head = (await reader.readuntil(b"\r\n\r\n")).startswith(b"HEAD")
        kind = b"200 OK" if for_head else b"206 Partial Content"
        writer.write(b"HTTP/1.1 " + kind + b'\r\nContent-Length: 100\r\nContent-Range: bytes 0-99/100\r\nETag: "e"\r\n')
        writer.write(b"Last-Modified: Wed, 21 Oct 2015 07:28:00 GMT\r\nConnection: close\r\n\r\n")
        writer.write(b"" if for_head else b"half")
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(broken, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    store = open_store("s3://bucket/p", StoreOptions(f"http://127.0.0.1:{port}", access_key="a", secret_key="s"))
    with pytest.raises(StoreUnavailable, match=r"s3://bucket/p: k: "):
        [piece async for piece in store.stream("k")]
    server.close()
    await server.wait_closed()


async def test_the_environment_does_not_move_a_store_that_was_told_where_it_is(
    script: Script, options: StoreOptions, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    elsewhere = open_store("s3://bucket/p", options)

    await elsewhere.put("k", b"v")

    assert {"/bucket/p/k": b"v"} == script.objects


async def test_a_process_may_end_right_after_an_answer(options: StoreOptions) -> None:
    """obstore's asynchronous calls aborted one process in eight here."""
    program = (
        "import sys; from stoker.storage.objects import StoreOptions, open_store, run; "
        "print(run(open_store('s3://bucket/p', StoreOptions(sys.argv[1], access_key='a', secret_key='s')).get('k')))"
    )
    for _ in range(12):
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-c", program, options.endpoint,
            stdout=asyncio.subprocess.PIPE, env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        )  # fmt: skip
        answer, _ = await process.communicate()
        assert (0, b"None") == (process.returncode, answer.strip())
