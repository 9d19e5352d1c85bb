"""The tracking server: HTTP on loopback, for the processes of one pod or of one local run."""

from __future__ import annotations

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Callable, Dict
from urllib.parse import parse_qsl, urlsplit

from stoker.runtime.layout import Scratch, read_json
from stoker.runtime.tracking.book import Book, Refused
from stoker.runtime.tracking.mlflow import Api

_FRONT = "/api/2.0/mlflow/"
#: MLflow 3's client asks some things under this one.
_FRONTS = (_FRONT, "/ajax-api/2.0/mlflow/")
_MOST_BODY = 8 << 20
_CODES = {"RESOURCE_DOES_NOT_EXIST": 404, "ENDPOINT_NOT_FOUND": 404, "RESOURCE_EXHAUSTED": 429}


class Tracking:
    """Serves until it is closed. port: 0 for any; `url` says which it was. Raises OSError for a port that is taken."""

    def __init__(self, scratch: Scratch, port: int, say: Callable[[str], None]) -> None:
        self._book = Book(scratch)
        api = Api(self._book, scratch.work + "/outputs", lambda: _experiment(scratch))
        try:
            self._server = _Server(port, api, say)
        except OSError:
            self._book.close()
            raise
        self.url = "http://127.0.0.1:%d" % self._server.server_address[1]
        self._thread = threading.Thread(target=self._server.serve_forever, name="tracking", daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._book.close()


def _experiment(scratch: Scratch) -> str:
    """The job's experiment, else its name; until fetch has brought its record it is called as MLflow calls its own."""
    try:
        job = read_json(scratch.job) or {}
    except (OSError, ValueError):
        return "Default"
    return str(job.get("experiment") or job.get("name") or "Default")


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def __init__(self, port: int, api: Api, say: Callable[[str], None]) -> None:
        self.api, self.say = api, say
        super().__init__(("127.0.0.1", port), _Handler)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that went away in the middle is no event."""


class _Handler(BaseHTTPRequestHandler):
    server: _Server
    protocol_version = "HTTP/1.1"
    # Answers are small and clients wait for each: Nagle's pause would be most of a call's time.
    disable_nagle_algorithm = True
    timeout = 600

    def do_GET(self) -> None:
        self._do(lambda: dict(parse_qsl(urlsplit(self.path).query)))

    def do_POST(self) -> None:
        self._do(self._body)

    do_PATCH = do_PUT = do_DELETE = do_POST  # noqa: N815 - the names that http.server looks for

    def _do(self, asked: Callable[[], Dict[str, Any]]) -> None:
        path = urlsplit(self.path).path
        front = next((one for one in _FRONTS if path.startswith(one)), None)
        try:
            # Read first, also where it is refused: what is left of a body would be taken for the next request.
            content = asked()
            if front is None:
                raise Refused("ENDPOINT_NOT_FOUND", "%s is not served beside a job" % path)
            self._answer(200, self.server.api.answer(self.command, path[len(front) :], content))
        except Refused as error:
            self._answer(_CODES.get(error.code, 400), {"error_code": error.code, "message": str(error)})
        except OSError as error:
            self.server.say("tracking: not written: %s" % error)
            self._answer(500, {"error_code": "INTERNAL_ERROR", "message": "not written: %s" % error})

    def _body(self) -> Dict[str, Any]:
        length = int(self.headers.get("Content-Length") or 0)
        if length > _MOST_BODY:
            self.close_connection = True
            raise Refused("INVALID_PARAMETER_VALUE", "a request has at most %d bytes" % _MOST_BODY)
        content = self.rfile.read(length)
        try:
            document = json.loads(content.decode("utf-8") or "{}")
        except ValueError:
            raise Refused("INVALID_PARAMETER_VALUE", "the body is not JSON") from None
        if not isinstance(document, dict):
            raise Refused("INVALID_PARAMETER_VALUE", "the body is not a JSON object")
        return document

    def _answer(self, status: int, document: Dict[str, Any]) -> None:
        content = json.dumps(document).encode("utf-8")
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        # One write with the headers: two would be two packets, and the client waits for both.
        self._headers_buffer.append(b"\r\n" + content)  # type: ignore[attr-defined]
        self.flush_headers()

    def log_message(self, format: str, *args: Any) -> None:
        """Nobody reads a line per metric."""
