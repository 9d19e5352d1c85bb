"""The registry that the chart brings takes the configuration that the chart gives it: the real binary, on loopback."""

import base64
import http.client
import json
import os
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from lab import binaries, images
from lab.host import wait_until
from tests.chart.conftest import Render, Values, one

pytestmark = pytest.mark.lab

HTPASSWD = "pusher:$2b$05$LPGP7nLxoSIY7LAQdjVGvuSzDqQop/H1mPLs5QZcSk/WtpKmxWOHm\n"  # the password is `secret`
QUIET = {**os.environ, "OTEL_TRACES_EXPORTER": "none"}


class Bundled:
    """The StatefulSet's containers as processes, with folders of the test in place of its volumes."""

    def __init__(self, text: str, folder: Path) -> None:
        self.binary = binaries.ensure(lambda line: None)["registry"]
        self.pod: dict[str, Any] = one(text, "StatefulSet", "stoker-registry")["spec"]["template"]["spec"]
        with socket.create_server(("127.0.0.1", 0)) as probe:
            self.host = f"127.0.0.1:{probe.getsockname()[1]}"
        self.data = folder / "data"
        (folder / "htpasswd").write_text(HTPASSWD)
        config = one(text, "ConfigMap", "stoker-registry")["data"]["config.yaml"]
        for inside, outside in (
            ("/data", str(self.data)),
            ("/etc/stoker/htpasswd/htpasswd", str(folder / "htpasswd")),
            ('":5000"', f'"{self.host}"'),
        ):
            config = config.replace(inside, outside)
        (folder / "config.yaml").write_text(config)
        self.places = {"/etc/stoker/registry/config.yaml": str(folder / "config.yaml"), "/data/": f"{self.data}/"}

    def words(self, words: list[str]) -> list[str]:
        for inside, outside in self.places.items():
            words = [word.replace(inside, outside) for word in words]
        return words

    def init(self) -> None:
        """The containers before the server, in their order."""
        for container in self.pod.get("initContainers", ()):
            command = container.get("command") or [str(self.binary), *container["args"]]
            subprocess.run(self.words(command), check=True, env=QUIET, capture_output=True)

    @contextmanager
    def serving(self) -> Iterator[None]:
        self.init()
        (container,) = self.pod["containers"]
        process = subprocess.Popen(
            [self.binary, *self.words(container["args"])],
            env=QUIET,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            wait_until(lambda: self.listens(), what="the registry", seconds=20)
            yield
        finally:
            process.terminate()
            process.wait(10)

    def listens(self) -> bool:
        try:
            return self.ask("GET", "/") == 200
        except OSError:
            return False

    def ask(self, method: str, path: str, password: str = "") -> int:
        connection = http.client.HTTPConnection(self.host, timeout=10)
        token = base64.b64encode(f"pusher:{password}".encode()).decode()
        # Without the first header it denies that it has any OCI manifest.
        headers = {"Accept": "application/vnd.oci.image.manifest.v1+json", "Authorization": f"Basic {token}"}
        connection.request(method, path, headers=headers if password else {"Accept": headers["Accept"]})
        status = connection.getresponse().status
        connection.close()
        return status


@pytest.fixture
def bundled(render: Render, tmp_path: Path) -> Any:
    return lambda values: Bundled(render({"bundledRegistry": values}), tmp_path)


@pytest.mark.parametrize(
    ("values", "without", "wrong", "right"),
    [({}, 200, 200, 200), ({"htpasswdSecret": "users"}, 401, 401, 200)],
    ids=["open", "with users"],
)
def test_it_serves_and_asks_for_a_password_when_told_to(
    bundled: Any, values: Values, without: int, wrong: int, right: int
) -> None:
    registry = bundled(values)

    with registry.serving():
        answers = [registry.ask("GET", "/v2/", password) for password in ("", "nope", "secret")]

    assert [without, wrong, right] == answers


def test_a_restart_frees_what_was_deleted_and_keeps_the_rest(bundled: Any, tmp_path: Path) -> None:
    registry = bundled({})
    layers = []
    for name in ("kept", "gone"):
        file = tmp_path / name
        file.write_bytes(name.encode())
        digest = images._digest(name.encode())
        layers.append(images.Layer(file, digest, digest))
    with registry.serving():
        pushed = [images.push(registry.host, "team/train", layer.file.name, layer, {}) for layer in layers]
        deleted = registry.ask("DELETE", f"/v2/team/train/manifests/{pushed[1].partition('@')[2]}")

    with registry.serving():
        left = [registry.ask("HEAD", f"/v2/team/train/blobs/{layer.digest}") for layer in layers]
        tags = [registry.ask("HEAD", f"/v2/team/train/manifests/{name}") for name in ("kept", "gone")]
    blobs = {path.parent.name for path in registry.data.rglob("blobs/sha256/*/*/data")}

    assert (202, [200, 404], [200, 404]) == (deleted, left, tags)
    assert layers[0].digest.removeprefix("sha256:") in blobs
    assert layers[1].digest.removeprefix("sha256:") not in blobs


def test_cleaning_can_be_switched_off(render: Render) -> None:
    spec = one(render({"bundledRegistry": {"cleanAtStart": False}}), "StatefulSet", "stoker-registry")["spec"]

    assert "initContainers" not in spec["template"]["spec"]
    assert json.dumps(spec).count("garbage-collect") == 0
