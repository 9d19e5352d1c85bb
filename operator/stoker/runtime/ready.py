"""Readiness of ship's container: ready while the command runs. That is how Finalizing is seen from outside."""

from __future__ import annotations

import socket
import socketserver
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Callable


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    # The kubelet asks the pod's address, of either family.
    address_family = socket.AF_INET6 if socket.has_dualstack_ipv6() else socket.AF_INET

    def server_bind(self) -> None:
        if self.address_family == socket.AF_INET6:
            self.socket.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        # Not HTTPServer's: that asks DNS for our own name, which may take seconds in a pod.
        socketserver.TCPServer.server_bind(self)


class ReadyServer:
    """Answers GET /ready with 200 while the command has not ended, and 503 afterwards. port 0: any free one."""

    def __init__(self, port: int, has_ended: Callable[[], bool]) -> None:
        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                known = self.path == "/ready"
                body = b"the command has ended\n" if has_ended() else b"ready\n"
                self.send_response(404 if not known else 503 if has_ended() else 200)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *arguments: object) -> None:
                """The kubelet asks every few seconds: nothing to say."""

        self._server = _Server(("", port), Handler)
        self.port = self._server.server_address[1]
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 60}, daemon=True).start()

    def close(self) -> None:
        self._server.server_close()
