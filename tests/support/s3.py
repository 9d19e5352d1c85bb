"""A real S3 server for one test session: versitygw on loopback over a folder, as the chart's try-out store runs it."""

import contextlib
import http.client
import secrets
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

from lab import binaries
from stoker.storage.objects import StoreOptions

BUCKET = "stoker"
_STARTS_WITHIN_SECONDS = 30.0


@contextlib.contextmanager
def versitygw(folder: Path) -> Iterator[tuple[str, StoreOptions]]:
    """URL of an empty bucket, and how to reach it, until the block ends. The program is built first if it is not there."""
    program = binaries.ensure(lambda line: None)["versitygw"]
    # To the server a folder is a bucket.
    (folder / "s3" / BUCKET).mkdir(parents=True)
    options = StoreOptions(f"http://127.0.0.1:{_free_port()}", "us-east-1", "stoker", secrets.token_hex(16))
    command = [str(program), f"--port={options.endpoint.removeprefix('http://')}", f"--region={options.region}"]
    command += ["--health=/healthz", "--quiet", "posix", str(folder / "s3")]
    env = {"ROOT_ACCESS_KEY": options.access_key, "ROOT_SECRET_KEY": options.secret_key}
    with (folder / "versitygw.log").open("wb") as log:
        process = subprocess.Popen(command, env=env, stdout=log, stderr=subprocess.STDOUT)
        try:
            _await(process, options.endpoint, folder / "versitygw.log")
            yield f"s3://{BUCKET}", options
        finally:
            process.kill()
            process.wait()


def _free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def _await(process: subprocess.Popen[bytes], endpoint: str, log: Path) -> None:
    """Until it answers; its log is in the error when it does not."""
    deadline = time.monotonic() + _STARTS_WITHIN_SECONDS
    while process.poll() is None and time.monotonic() < deadline:
        connection = http.client.HTTPConnection(endpoint.removeprefix("http://"), timeout=5)
        with contextlib.suppress(OSError):
            connection.request("GET", "/healthz")
            if connection.getresponse().status == 200:
                return
        connection.close()
        time.sleep(0.05)
    raise AssertionError(f"versitygw did not start: {log.read_text(errors='replace')[-2000:]}")
