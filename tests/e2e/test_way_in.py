"""A kubeconfig is enough: with the API server's port and nothing else in reach, and only the chart's editor role."""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import yaml

from tests.support.installed import Stoker, training_job

pytestmark = pytest.mark.lab

HOST, INSIDE = "10.213.77.1", "10.213.77.2"


class Cell:
    """A network namespace in which only one address and port exist, with a kubeconfig for it."""

    def __init__(self, name: str, kubeconfig: Path, state: Callable[[], str]) -> None:
        self.name, self.kubeconfig, self._state = name, kubeconfig, state

    def stoker(self, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        return self.run(sys.executable, "-m", "stoker.cli", *arguments, check=check)

    def run(self, *command: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        environment = {name: value for name, value in os.environ.items() if "proxy" not in name.lower()}
        try:
            done = subprocess.run(
                ["ip", "netns", "exec", self.name, *command], capture_output=True, text=True, timeout=300,
                env={**environment, "KUBECONFIG": str(self.kubeconfig)},
            )  # fmt: skip
        except subprocess.TimeoutExpired as late:
            raise AssertionError(
                f"{command} did not end in {late.timeout} s\n{late.stderr!r}\n{self._state()}"
            ) from None
        if check and done.returncode:
            raise AssertionError(f"{command}: exit {done.returncode}\n{done.stdout}\n{done.stderr}")
        return done


@pytest.fixture
def cell(stoker: Stoker, tmp_path: Path) -> Iterator[Cell]:
    name = "stoker-cell"
    admin = yaml.safe_load(stoker.lab.kubeconfig.read_text())
    address, _, port = admin["clusters"][0]["cluster"]["server"].removeprefix("https://").rstrip("/").partition(":")
    kubeconfig = _editor_kubeconfig(stoker, admin, tmp_path)

    def ip(*arguments: str, check: bool = True) -> None:
        subprocess.run(["ip", *arguments], check=check, capture_output=True)

    ip("netns", "del", name, check=False)
    ip("netns", "add", name)
    try:
        ip("link", "add", "stk-host", "type", "veth", "peer", "name", "stk-in", "netns", name)
        ip("addr", "add", f"{HOST}/30", "dev", "stk-host")
        ip("link", "set", "stk-host", "up")
        ip("-n", name, "addr", "add", f"{INSIDE}/30", "dev", "stk-in")
        ip("-n", name, "link", "set", "stk-in", "up")
        ip("-n", name, "link", "set", "lo", "up")
        ip("-n", name, "route", "add", "default", "via", HOST)
        rules = (
            "table inet only { chain out { type filter hook output priority 0; policy drop; oif lo accept; "
            f"ip daddr {address} tcp dport {port} accept; }}; }}\n"
        )
        subprocess.run(["ip", "netns", "exec", name, "nft", "-f", "-"], input=rules, text=True, check=True)
        yield Cell(name, kubeconfig, stoker.state)
    finally:
        ip("netns", "del", name, check=False)
        ip("link", "del", "stk-host", check=False)


def _editor_kubeconfig(stoker: Stoker, admin: dict, folder: Path) -> Path:
    """A kubeconfig of a person who has the chart's editor role in namespace default and nothing else."""
    stoker.apply(
        {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "person", "namespace": "default"}},
        {
            "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding", "metadata": {"name": "person", "namespace": "default"},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "stoker-editor"},
            "subjects": [{"kind": "ServiceAccount", "name": "person", "namespace": "default"}],
        },
    )  # fmt: skip
    token = stoker.lab.kubectl("create", "token", "person", "-n", "default", "--duration=1h").strip()
    cluster = {key: admin["clusters"][0]["cluster"][key] for key in ("server", "certificate-authority-data")}
    file = folder / "kubeconfig"
    file.write_text(
        yaml.safe_dump(
            {
                "apiVersion": "v1", "kind": "Config", "current-context": "c",
                "clusters": [{"name": "c", "cluster": cluster}], "users": [{"name": "u", "user": {"token": token}}],
                "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u", "namespace": "default"}}],
            }
        )
    )  # fmt: skip
    return file


def test_the_api_servers_port_and_the_editor_role_are_enough(
    stoker: Stoker, cpu: str, cell: Cell, tmp_path: Path
) -> None:
    """Submit, follow, pull, and read the logs after the pods are gone."""
    blocked = cell.run(
        "timeout",
        "2",
        "bash",
        "-c",
        f"exec 3<>/dev/tcp/{stoker.lab.bridge_address}/{stoker.lab.registry.rpartition(':')[2]}",
        check=False,
    )
    assert blocked.returncode != 0, "the cell reaches more than the API server, so this test proves nothing"

    done = cell.stoker(
        "run",
        str(stoker.root / "examples/hello"),
        "--compute",
        cpu,
        "--environment",
        stoker.lab.images["base"],
        "-y",
        "-o",
        "json",
    )

    record = json.loads(done.stdout)
    assert record["phase"] == "Completed"
    stoker.lab.kubectl("delete", "job", "-l", f"stoker.dev/job={record['name']}", "--wait=true")
    logs = cell.stoker("logs", record["name"]).stdout
    assert logs.strip()
    cell.stoker("pull", record["name"], str(tmp_path / "got"))
    assert {output["path"] for output in record["outputs"]} == {
        path.relative_to(tmp_path / "got").as_posix() for path in (tmp_path / "got").rglob("*") if path.is_file()
    }


def test_the_editor_role_gives_nothing_elsewhere(stoker: Stoker, cell: Cell) -> None:
    refused = cell.stoker("ls", "-n", "kube-system", check=False)

    assert refused.returncode != 0
    assert "kube-system" in refused.stderr


def test_a_kubeconfig_is_enough_to_be_told_the_operators_plan(stoker: Stoker, cpu: str, cell: Cell) -> None:
    """From the CLI by the server to the operator that leads, and back, with the facts that the plan rests on."""
    name = "nine-wide"
    stoker.apply(training_job(name, "true", image=stoker.lab.images["base"], compute=cpu, nodes=9))
    stoker.until("trainingjob", name, lambda job: bool(job["status"].get("waiting")))

    told = json.loads(cell.stoker("why", name, "--plan", "-o", "json").stdout)
    shown = cell.stoker("why", name, "--plan").stdout
    stoker.lab.kubectl("delete", "trainingjob", name)

    holder = stoker.get("lease", "stoker-operator", "stoker-system")["spec"]["holderIdentity"]
    assert (told["name"], told["leader"], told["waiting"]["reason"]) == (name, holder, "GangLargerThanPool")
    assert (told["facts"]["pool"]["name"], told["facts"]["pool"]["maxInstances"]) == (cpu, 2)
    for line in (
        f"plan of {name}, made at ",
        "waits  GangLargerThanPool: the job needs 9 nodes",
        f"pool {cpu} (Scale)",
    ):
        assert line in shown
