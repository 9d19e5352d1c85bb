"""The operator as a process of its own beside the lab's control plane, with kwok nodes for its jobs."""

import json
import os
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pytest

from lab import Lab
from lab.host import free_port
from tests.support import labs

#: The lab that the tests of the API server share; no chart is installed there.
NAME = "stoker-api"
POOL = "wide"
#: Where the operators' Lease is.
SYSTEM = "stoker-system"
Json = dict[str, Any]


def until(what: str, true: Callable[[], Any], seconds: float = 60.0) -> Any:
    """What `true` returns as soon as it is not false; fails the test after `seconds`."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if found := true():
            return found
        time.sleep(0.1)
    return pytest.fail(f"not within {seconds:.0f} s: {what}")


@dataclass
class Cluster:
    """The lab as these tests see it."""

    lab: Lab

    def apply(self, *manifests: Json) -> None:
        self.lab.kubectl("apply", "-f", "-", input=json.dumps({"apiVersion": "v1", "kind": "List", "items": manifests}))

    def get(self, *what: str) -> Any:
        return json.loads(self.lab.kubectl("get", *what, "-o", "json"))

    def items(self, *what: str) -> list[Json]:
        found: list[Json] = self.get(*what)["items"]
        return found

    def phase(self, namespace: str, name: str) -> str:
        return str(self.get("trainingjob", name, "-n", namespace).get("status", {}).get("phase", ""))

    def job(self, namespace: str, name: str, **spec: Any) -> None:
        """Submit a job of one line of inline code."""
        command: Json = {
            "code": {"inline": {"train.py": "print('hello')\n"}},
            "command": "python train.py",
            "environment": {"spec": {"image": self.lab.images["base"]}},
        } | spec.pop("command", {})
        self.apply(
            {
                "apiVersion": "stoker.dev/v1alpha1",
                "kind": "TrainingJob",
                "metadata": {"name": name, "namespace": namespace},
                "spec": {"compute": POOL, "command": command} | spec,
            }
        )

    def writes(self, since: int, about: str, by: str = "") -> list[tuple[str, str, str]]:
        """The operators' writes on objects whose name has `about`, from the audit log: verb, resource, subresource.

        by: only those of one replica, as the Lease names it.
        """
        events = (event for event in self.audited(since, about) if by in event["userAgent"])
        targets = [(event["verb"], event["objectRef"]) for event in events]
        return [(verb, target["resource"], target.get("subresource", "")) for verb, target in targets]

    def audited(self, since: int, about: str) -> list[Json]:
        """The audit log's entries of those writes, from byte `since` on."""
        found = []
        with self.lab.audit_log.open() as log:
            log.seek(since)
            for line in log:
                event = json.loads(line)
                if (
                    not event.get("userAgent", "").startswith("stoker-operator/")
                    or event["stage"] != "ResponseComplete"
                ):
                    continue
                if event["verb"] in ("create", "update", "patch", "delete") and about in _names(event):
                    found.append(event)
        return found


def _libfaketime() -> Path:
    (found,) = Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1")
    return found


def _names(event: Json) -> str:
    target = event.get("objectRef") or {}
    return f"{target.get('name', '')} {event['requestURI']}"


class Operator:
    """One operator process; its probes are on a port that was free when it was thought of.

    kubeconfig, storage_endpoint: other ways to the API server and to the object store than the lab's own. clock_off: by
    how much its clock is wrong, as libfaketime says it ("+20m"). more: other settings, as the chart sets them.
    """

    def __init__(
        self,
        cluster: Cluster,
        folder: Path,
        *,
        kubeconfig: Path | None = None,
        storage_endpoint: str = "",
        clock_off: str = "",
        more: Mapping[str, str] = MappingProxyType({}),
    ) -> None:
        self._more = more
        self._cluster, self._folder, self._port = cluster, folder, free_port()
        self._kubeconfig = kubeconfig or cluster.lab.kubeconfig
        self._storage_endpoint = storage_endpoint or cluster.lab.s3.endpoint
        # Not by the program faketime: that forks, and signals would not reach the operator.
        self._clock = {"LD_PRELOAD": str(_libfaketime()), "FAKETIME": clock_off} if clock_off else {}
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        lab = self._cluster.lab
        env = {
            **os.environ,
            "STOKER_AGENT_IMAGE": lab.images["base"],
            "STOKER_SERVER_URL": "http://stoker-server.stoker-system.svc:8080",
            "STOKER_STORAGE_URL": f"s3://{lab.s3.bucket}",
            "STOKER_STORAGE_ENDPOINT": self._storage_endpoint,
            "STOKER_STORAGE_REGION": lab.s3.region,
            "AWS_ACCESS_KEY_ID": lab.s3.access_key,
            "AWS_SECRET_ACCESS_KEY": lab.s3.secret_key,
            "STOKER_INSECURE_REGISTRIES": lab.registry,
            "STOKER_REGISTRY_URL": f"{lab.registry}/built",
            "STOKER_BUILDER_IMAGE": lab.images["base"],
            "STOKER_BUILDS_PER_NAMESPACE": "2",
            "STOKER_NAMESPACE": SYSTEM,
            "STOKER_PROBE_ADDRESS": f"127.0.0.1:{self._port}",
            **self._clock,
            **self._more,
        }
        log = (self._folder / "operator.log").open("ab")
        self._process = subprocess.Popen(
            [sys.executable, "-m", "stoker.controller", "--kubeconfig", str(self._kubeconfig)],
            env=env,
            stderr=log,
        )
        log.close()
        until("the operator is ready", lambda: self.probe("readyz") == "ok")

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._port}"

    def probe(self, path: str) -> str:
        assert self._process is not None
        assert self._process.poll() is None, self.log
        try:
            with urllib.request.urlopen(f"{self.url}/{path}", timeout=5) as answer:
                return str(answer.read().decode())
        except OSError:
            return ""

    @property
    def leads(self) -> bool:
        return "stoker_leader 1.0" in self.probe("metrics")

    @property
    def processor(self) -> tuple[float, float]:
        """Seconds that it has had a processor, and that it has waited for one."""
        assert self._process is not None
        had, waited, _ = Path(f"/proc/{self._process.pid}/schedstat").read_text().split()
        return int(had) / 1e9, int(waited) / 1e9

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def send(self, number: int) -> None:
        """Send a signal."""
        assert self._process is not None
        self._process.send_signal(number)

    def end(self, number: int = signal.SIGTERM) -> int:
        """Send a signal and wait; returns the exit code."""
        if self._process is None:
            return 0
        process, self._process = self._process, None
        process.send_signal(number)
        process.send_signal(signal.SIGCONT)  # one that a test has stopped could not end
        return process.wait(30)

    @property
    def log(self) -> str:
        return (self._folder / "operator.log").read_text()


@pytest.fixture(scope="session")
def cluster(repository: Path) -> Cluster:
    """A control plane with our kinds, and a static pool of four kwok nodes."""
    return control_plane(os.environ.get("STOKER_API_LAB", NAME), repository)


def control_plane(name: str, repository: Path) -> Cluster:
    """The lab of this name, with our kinds, and a static pool of four kwok nodes."""
    lab = labs.running(name, nodes=0)
    found = Cluster(lab)
    lab.kubectl("apply", "-f", str(repository / "crds"))
    lab.established("-f", str(repository / "crds"))
    found.apply(
        {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": SYSTEM}},
        {
            "apiVersion": "lab.stoker.dev/v1",
            "kind": "NodePool",
            "metadata": {"name": POOL},
            "spec": {
                "replicas": 4,
                "kind": "Kwok",
                "labels": {"pool": POOL},
                "capacity": {"cpu": "8", "memory": "32Gi"},
            },
        },
        {
            "apiVersion": "stoker.dev/v1alpha1",
            "kind": "ComputeCluster",
            "metadata": {"name": POOL},
            "spec": {
                "provider": {"type": "Static", "static": {"nodeSelector": {"pool": POOL}}},
                "maxInstances": 4,
                "allowedNamespaces": {},
                "instanceTypes": [{"name": "std", "resources": {"cpu": "8", "memory": "32Gi"}}],
            },
        },
    )
    until("four nodes are ready", lambda: _ready_nodes(found) == 4)
    return found


def _ready_nodes(cluster: Cluster) -> int:
    nodes = cluster.items("nodes", "-l", f"pool={POOL}")
    ready = (one for node in nodes for one in node["status"].get("conditions", ()) if one["type"] == "Ready")
    return sum(one["status"] == "True" for one in ready)


@pytest.fixture(scope="session")
def operator(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Operator:
    """The operator that the tests share; it ends in good order before its control plane does."""
    process = Operator(cluster, tmp_path_factory.mktemp("operator"))

    def end() -> None:
        code = process.end()
        assert code == 0, f"exit {code}\n{process.log}"

    labs.before_end(cluster.lab.name, end)
    process.start()
    return process


@pytest.fixture
def namespace(cluster: Cluster, request: pytest.FixtureRequest) -> Iterator[str]:
    """A namespace of the test's own; its end ends its jobs and frees their nodes."""
    name = f"t-{abs(hash(request.node.name)) % 10**8}"
    cluster.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})
    yield name
    cluster.lab.kubectl("delete", "trainingjobs", "--all", "-n", name)
    cluster.lab.kubectl("delete", "pods", "--all", "-n", name, "--grace-period=0", "--force")
    cluster.lab.kubectl("delete", "namespace", name, "--wait=false")


@pytest.fixture
def sealer(cluster: Cluster) -> Iterator[None]:
    """Plays the pods' part on kwok nodes: seals each and lets it end."""
    lab = cluster.lab
    env = {
        **os.environ,
        "AWS_ACCESS_KEY_ID": lab.s3.access_key,
        "AWS_SECRET_ACCESS_KEY": lab.s3.secret_key,
        "AWS_ENDPOINT_URL": lab.s3.endpoint,
        "AWS_REGION": lab.s3.region,
    }
    command = [sys.executable, "-m", "lab.sealer", "--kubeconfig", str(lab.kubeconfig), "--direct"]
    process = subprocess.Popen([*command, "--store-url", f"s3://{lab.s3.bucket}"], env=env)
    yield
    process.terminate()
    process.wait(10)
