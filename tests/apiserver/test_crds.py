"""The CRDs and their rules on a real API server."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from lab import Lab, LabError
from stoker.api import resources
from stoker.api.common import Kind
from tests.support import azure_goldens, labs
from tests.support.cli import Cli
from tests.support.manifests import BadManifest, bad_manifests, training_job

pytestmark = pytest.mark.lab

KINDS = resources.kinds()
BAD = list(bad_manifests())
NAME, NAMESPACE = "stoker-crds", "crds"


@pytest.fixture(scope="module")
def cluster(repository: Path) -> Iterator[Lab]:
    """A control plane without nodes, with our CRDs by client-side apply. Not the lab on which the chart is installed: Helm
    refuses CRDs that it did not bring."""
    lab = labs.running(NAME, nodes=0)
    lab.kubectl("apply", "-f", str(repository / "crds"))
    lab.established("-f", str(repository / "crds"))
    lab.kubectl("create", "namespace", NAMESPACE)
    yield lab
    lab.kubectl("delete", "namespace", NAMESPACE, "--wait=false")
    lab.kubectl("delete", "-f", str(repository / "crds"))
    labs.end(NAME)


def send(lab: Lab, verb: str, document: dict[str, Any], *flags: str) -> str:
    return lab.kubectl(verb, "-n", NAMESPACE, "-f", "-", *flags, input=json.dumps(_homeless(document)))


def refusal(lab: Lab, verb: str, document: dict[str, Any], *flags: str) -> str:
    """What the API server says against a manifest; map keys as dots, as everywhere else in Stoker."""
    with pytest.raises(LabError) as refused:
        send(lab, verb, document, *flags)
    return re.sub(r"\[([A-Za-z_]\w*)\]", r".\1", str(refused.value))


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.kind)
def test_create_accepts_the_crd(cluster: Lab, repository: Path, kind: Kind) -> None:
    crd = yaml.safe_load((repository / "crds" / f"{kind.plural}.yaml").read_text())
    found = json.loads(cluster.kubectl("get", "crd", crd["metadata"]["name"], "-o", "json"))
    conditions = {one["type"]: one["status"] for one in found["status"]["conditions"]}

    assert conditions["Established"] == "True"
    assert "NonStructuralSchema" not in conditions
    cluster.kubectl("replace", "--dry-run=server", "-f", str(repository / "crds" / f"{kind.plural}.yaml"))


@pytest.mark.parametrize("bad", [bad for bad in BAD if bad.former is None], ids=lambda bad: bad.name)
def test_a_bad_manifest_is_refused_at_admission(cluster: Lab, bad: BadManifest) -> None:
    told = refusal(cluster, "create", bad.document, "--dry-run=server")

    assert bad.field.split("[")[0] in told
    assert bad.server in told


@pytest.mark.parametrize("bad", [bad for bad in BAD if bad.former is not None], ids=lambda bad: bad.name)
def test_a_bad_change_is_refused_at_admission(cluster: Lab, bad: BadManifest) -> None:
    assert bad.former is not None
    former = _named(bad.former, bad.name)
    send(cluster, "create", former)

    told = refusal(cluster, "replace", _named(bad.document, bad.name))

    assert bad.field in told
    assert bad.server in told


def test_what_may_change_may_change(cluster: Lab) -> None:
    send(cluster, "apply", training_job("changing"))

    changed = training_job(
        "changing",
        suspend=True,
        cancel=True,
        limits={"timeoutSeconds": 60},
        cleanup={"podsAfterSeconds": 60},
        tags={"a": "b"},
        displayName="Iris",
        description="x",
    )

    assert "configured" in send(cluster, "apply", changed)


def test_the_queue_may_change_until_the_run_has_its_nodes(cluster: Lab) -> None:
    send(cluster, "create", training_job("queued"))
    assert "replaced" in send(cluster, "replace", training_job("queued", queue={"priority": "High"}))

    cluster.kubectl(
        "patch", "stj", "queued", "-n", NAMESPACE, "--subresource=status", "--type=merge", "-p", '{"status": {"phase": "Starting"}}'
    )  # fmt: skip
    told = refusal(cluster, "replace", training_job("queued", queue={"priority": "Low"}))

    assert "spec.queue" in told
    assert "queue is immutable once a run has its nodes" in told
    assert "replaced" in send(cluster, "replace", training_job("queued", queue={"priority": "High"}, cancel=True))


def test_a_new_job_is_pending_and_listed_with_what_people_ask_for(cluster: Lab) -> None:
    send(cluster, "create", training_job("listed"))
    ready = {"type": "Ready", "status": "False", "reason": "CommandFailed"}
    status = {
        "phase": "Failed",
        "compute": "cpu",
        "reason": "CommandFailed",
        "duration": "1m12s",
        "conditions": [ready],
    }

    header, row = cluster.kubectl("get", "trainingjobs", "listed", "-n", NAMESPACE).splitlines()
    assert header.split() == ["NAME", "PHASE", "COMPUTE", "REASON", "DURATION", "AGE"]
    assert row.split()[:3] == ["listed", "Pending", "WaitingForController"]

    cluster.kubectl(
        "patch", "stj", "listed", "-n", NAMESPACE, "--subresource=status", "--type=merge", "-p", json.dumps({"status": status})
    )  # fmt: skip
    _, row = cluster.kubectl("get", "trainingjobs", "listed", "-n", NAMESPACE).splitlines()
    assert row.split()[:-1] == ["listed", "Failed", "cpu", "CommandFailed", "1m12s"]


def test_nobody_has_seen_a_new_job_and_its_status_says_so(cluster: Lab) -> None:
    send(cluster, "create", training_job("unseen"))

    status = json.loads(cluster.kubectl("get", "stj", "unseen", "-n", NAMESPACE, "-o", "json"))["status"]

    assert [(one["type"], one["status"], one["reason"]) for one in status["conditions"]] == [
        ("Ready", "Unknown", "WaitingForController")
    ]


def test_short_names_and_the_category_find_our_kinds(cluster: Lab) -> None:
    send(cluster, "create", training_job("found"))

    for kind in KINDS:
        cluster.kubectl("get", kind.short, "-n", NAMESPACE)
    assert "trainingjob.stoker.dev/found" in cluster.kubectl("get", "stoker", "-n", NAMESPACE, "-o", "name")


def test_numbers_are_quantities_too(cluster: Lab) -> None:
    job = training_job("numbers")
    job["spec"]["command"]["resources"] = {"requests": {"cpu": 2, "memory": "1Gi"}, "shmSize": 1024}

    send(cluster, "create", job, "--dry-run=server")


def test_the_largest_inline_code_is_taken(cluster: Lab) -> None:
    """The rules' cost is bounded at run time too: the largest allowed job must not exceed it."""
    job = training_job("large", inputs={f"input_{number}": {"value": "1"} for number in range(64)})
    job["spec"]["command"]["code"] = {"inline": {f"file_{number}.py": "x" * 3200 for number in range(64)}}
    job["spec"]["command"]["command"] = ("python train.py " + "${{inputs.input_7}} " * 1600)[:32000].rsplit("$", 1)[0]

    send(cluster, "create", job)
    send(cluster, "replace", {**job, "spec": {**job["spec"], "cancel": True}})


@pytest.mark.parametrize("name", azure_goldens.names())
def test_what_is_made_of_azure_mls_files_is_taken(cluster: Lab, name: str) -> None:
    cluster.kubectl("create", "-n", NAMESPACE, "--dry-run=server", "-f", "-", input=azure_goldens.expected(name))


def test_an_environments_file_is_created_and_a_version_keeps_its_content(cluster: Lab, tmp_path: Path) -> None:
    cli = Cli(tmp_path, tmp_path, {"KUBECONFIG": str(cluster.kubeconfig)})
    create = ("job", "create", "-n", NAMESPACE, "-f", "env.yml")

    def result(text: str) -> str:
        cli.write(env__yml=text)
        return str(cli.json(*create)["result"])

    conda = "conda_file: {channels: [conda-forge], dependencies: [python=3.11]}\n"
    assert "created" == result("name: base\nversion: 1\nimage: 'a:1'\n" + conda)
    assert "is there already, the same" == result("name: base\nversion: 1\nimage: 'a:1'\n" + conda)
    cli.write(env__yml="name: base\nversion: 1\nimage: 'a:2'\n")
    refused = cli(*create, code=2)
    assert "Environment base-v1 is there with another content" in refused.stderr
    assert "created" == result("name: free\nimage: 'a:1'\n" + conda)
    assert "changed" == result("name: free\nimage: 'a:2'\npip: [six]\n")
    found = cluster.kubectl("get", "environments.stoker.dev", "free", "-n", NAMESPACE, "-o", "json")
    assert {"image": "a:2", "pip": ["six"]}.items() <= json.loads(found)["spec"].items()
    assert "conda" not in json.loads(found)["spec"]


def _named(document: dict[str, Any], name: str) -> dict[str, Any]:
    return {**document, "metadata": {**document["metadata"], "name": name}}


def _homeless(document: dict[str, Any]) -> dict[str, Any]:
    """Without a namespace: these tests have one of their own."""
    metadata = {key: value for key, value in document["metadata"].items() if key != "namespace"}
    return {**document, "metadata": metadata}
