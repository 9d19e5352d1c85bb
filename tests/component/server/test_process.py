"""The server as a process: what it says when it cannot start, and that it ends when told to."""

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.serving import Answer, Served

ENV = {
    "PATH": os.environ["PATH"], "STOKER_NAMESPACE": "stoker-system", "STOKER_STORAGE_URL": "s3://bucket/stoker",
    "AWS_ACCESS_KEY_ID": "id", "AWS_SECRET_ACCESS_KEY": "secret", "PYTHONPATH": os.pathsep.join(sys.path),
}  # fmt: skip

KUBECONFIG = """
apiVersion: v1
kind: Config
current-context: none
clusters: [{name: none, cluster: {server: "http://127.0.0.1:9"}}]
contexts: [{name: none, context: {cluster: none, user: none}}]
users: [{name: none, user: {token: t}}]
"""


def start(*arguments: str, **env: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "stoker.server", "--host", "127.0.0.1", "--port", "0", *arguments]
    return subprocess.Popen(command, env={**ENV, **env}, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


@pytest.fixture
def process(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """A server whose API server does not answer."""
    file = tmp_path / "kubeconfig"
    file.write_text(KUBECONFIG)
    process = start("--kubeconfig", str(file))
    yield process
    process.kill()
    process.communicate()


@pytest.mark.parametrize(("env", "named"), [({"STOKER_NAMESPACE": ""}, "STOKER_NAMESPACE"), ({}, "--kubeconfig")])
def test_what_cannot_start_says_why(env: dict[str, str], named: str) -> None:
    process = start(**env)

    _, errors = process.communicate(timeout=30)

    assert 2 == process.returncode
    assert named in errors
    assert "Traceback" not in errors


def test_it_answers_without_an_api_server_and_ends_on_sigterm(process: subprocess.Popen[str], tmp_path: Path) -> None:
    assert process.stdout is not None
    port = next(match[1] for line in process.stdout if (match := re.search(r"running on http://127.0.0.1:(\d+)", line)))
    served = Served(tmp_path)
    served.url = f"http://127.0.0.1:{port}"

    live: Answer = served.call("GET", "/livez")
    ready = served.call("GET", "/readyz")
    process.send_signal(signal.SIGTERM)

    assert (200, 503) == (live.status, ready.status)
    assert process.wait(15) in (0, -signal.SIGTERM)
