"""Scratch claims on a real API server with its controllers: who owns them, when they go, and what a killed operator leaves.

No container runs on kwok nodes, so these tests play the pods' part: what salvage would have sealed they seal.
"""

import asyncio
import json
import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from lab import Lab
from stoker.api import names
from stoker.kube.access import from_kubeconfig
from stoker.runtime import wire
from stoker.storage.objects import StoreOptions, open_store
from tests.apiserver.controller.conftest import Cluster, Json, Operator, until
from tests.apiserver.controller.test_kills import kubeconfig
from tests.support.cutting_proxy import Cut, CuttingProxy, Side

pytestmark = [pytest.mark.lab, pytest.mark.timeout(300)]

NAME = "salvaged"
#: The lab's class: a claim is a folder of the node of its first pod.
SCRATCH = {"resources": {"scratch": {"size": "1Gi", "storageClassName": "local"}}}
CLAIMS = "persistentvolumeclaims"


class Run:
    """A run on a scratch claim, whose pods are played by the test."""

    def __init__(self, cluster: Cluster, namespace: str) -> None:
        self.cluster, self.namespace = cluster, namespace

    def submit(self) -> None:
        self.cluster.job(self.namespace, NAME, command=SCRATCH)

    def items(self, kind: str, label: str = "") -> list[Json]:
        return self.cluster.items(kind, "-n", self.namespace, *(["-l", label] if label else []))

    @property
    def job(self) -> Json:
        found: Json = self.cluster.get("trainingjob", NAME, "-n", self.namespace)
        return found

    def pod(self, label: str) -> Json:
        """The one running pod with this label."""

        def running() -> Json | None:
            return next((pod for pod in self.items("pods", label) if pod["status"].get("phase") == "Running"), None)

        found: Json = until(f"a pod of {label} runs", running, 90)
        return found

    def owned_claim(self) -> Json:
        """The claim of the first attempt, once the job is its owner."""

        def owned() -> Json | None:
            claims = self.items(CLAIMS, f"{names.LABEL_ATTEMPT}=1")
            return next((one for one in claims if len(one["metadata"]["ownerReferences"]) > 1), None)

        found: Json = until("the job owns its claim", owned, 90)
        return found

    def lose_the_pod(self) -> None:
        """Its container is killed, then its object goes."""
        pod = self.pod(f"{names.LABEL_ATTEMPT}=1")["metadata"]["name"]
        self.kubectl("annotate", "pod", pod, "lab.stoker.dev/exit-code=137", "lab.stoker.dev/finish=true")
        self.kubectl("wait", f"pod/{pod}", "--for=jsonpath={.status.phase}=Failed", "--timeout=60s")
        self.kubectl("delete", "pod", pod, "--wait=false")

    def seal(self, attempt: int, code: int | None, reason: str | None = None) -> None:
        now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        key = names.job_key(NAME, self.job["metadata"]["uid"])
        ended = wire.ExitRecord(code=code, reason=reason, message="", started_at=now, finished_at=now)
        seal = wire.seal_document(key, attempt, 0, ended.document(), [], sealed_at=now, sealed_by="server")
        place = f"{self.namespace}/jobs/{key}/attempts/{attempt}/0/seal.json"
        asyncio.run(_store(self.cluster.lab).put(place, wire.json_bytes(seal), only_if_absent=True))

    def finish(self, label: str) -> None:
        """Let the pod with this label end."""
        self.kubectl("annotate", "pod", self.pod(label)["metadata"]["name"], "lab.stoker.dev/finish=true")

    def let_go(self, label: str) -> None:
        """Let the pod with this label end, which was seen to run; the operator may have removed it by itself meanwhile."""
        self.kubectl("annotate", "pods", "-l", label, "lab.stoker.dev/finish=true")

    def kubectl(self, *words: str) -> None:
        self.cluster.lab.kubectl(*words, "-n", self.namespace)


def _store(lab: Lab) -> Any:
    env = {
        **os.environ,
        "AWS_ACCESS_KEY_ID": lab.s3.access_key,
        "AWS_SECRET_ACCESS_KEY": lab.s3.secret_key,
        "AWS_ENDPOINT_URL": lab.s3.endpoint,
        "AWS_REGION": lab.s3.region,
    }
    return open_store(f"s3://{lab.s3.bucket}", StoreOptions.from_env(env))


def completes(run: Run) -> None:
    """The second attempt runs and ends; nothing is left of the claims and nothing was made twice."""
    until("the claim of the lost attempt goes", lambda: not run.items(CLAIMS, f"{names.LABEL_ATTEMPT}=1"), 90)
    run.pod(f"{names.LABEL_ATTEMPT}=2")
    run.seal(2, 0)
    run.finish(f"{names.LABEL_ATTEMPT}=2")
    until("the job completes", lambda: run.cluster.phase(run.namespace, NAME) == "Completed", 90)
    until("every claim goes", lambda: not run.items(CLAIMS), 60)
    status = run.job["status"]
    assert [entry["reason"] for entry in status["attempts"]] == ["PodLost", "Completed"]
    assert (status["interruptions"], status.get("keptClaims", [])) == (1, [])
    uid = run.job["metadata"]["uid"]
    expected = {names.child_name(NAME, uid, 1), names.child_name(NAME, uid, 2), names.salvage_name(NAME, uid, 1, 0)}
    assert {job["metadata"]["name"] for job in run.items("jobs")} <= expected


@pytest.mark.usefixtures("operator", "sealer")
def test_an_ordinary_run_on_a_claim_costs_three_writes_more_and_leaves_nothing(
    cluster: Cluster, namespace: str
) -> None:
    since = cluster.lab.audit_log.stat().st_size
    run = Run(cluster, namespace)
    run.submit()
    until("the job completes", lambda: cluster.phase(namespace, NAME) == "Completed")

    until("the claim goes", lambda: not run.items(CLAIMS))
    writes = cluster.writes(since, NAME)
    assert [verb for verb, resource, _ in writes if resource == CLAIMS] == ["patch", "delete"]
    # Kubernetes keeps a deleted claim for as long as there is a pod that names it, be it one that has ended.
    made, *deleted = [verb for verb, resource, _ in writes if resource == "jobs"]
    # A child that is not yet seen to go may be deleted again, by its uid: that changes nothing.
    assert (made, set(deleted)) == ("create", {"delete"})
    timings = run.job["status"]["timings"]
    # A wait is told once it has lasted four seconds: on a busy machine the start is one.
    told = sum(timings.get(phase, 0) for phase in ("Preparing", "Queued", "Starting")) >= 4
    statuses = [verb for verb, resource, _ in writes if resource == "trainingjobs"]
    assert statuses == ["patch"] * (len(statuses) if told else 2)


@pytest.mark.usefixtures("operator")
def test_a_claim_outlives_its_pod_until_it_is_salvaged(cluster: Cluster, namespace: str) -> None:
    run = Run(cluster, namespace)
    run.submit()
    claim = run.owned_claim()["metadata"]
    assert {owner["kind"] for owner in claim["ownerReferences"]} == {"Pod", "TrainingJob"}
    run.lose_the_pod()

    saving = run.pod(f"{names.LABEL_SALVAGE}=1-0")

    assert saving["spec"]["volumes"][0]["persistentVolumeClaim"]["claimName"] == claim["name"]

    def only_ours() -> bool:
        (now,) = run.items(CLAIMS)
        return [owner["kind"] for owner in now["metadata"]["ownerReferences"]] == ["TrainingJob"]

    until("the lost pod is no owner any more", only_ours)
    assert len(run.job["status"]["attempts"]) == 1
    run.seal(1, None, "PodLost")
    run.let_go(f"{names.LABEL_SALVAGE}=1-0")
    completes(run)


@pytest.mark.usefixtures("operator")
def test_a_job_that_is_deleted_takes_its_claims_along(cluster: Cluster, namespace: str) -> None:
    run = Run(cluster, namespace)
    run.submit()
    run.owned_claim()

    run.kubectl("delete", "trainingjob", NAME, "--wait=false")

    until("nothing is left", lambda: not cluster.items(f"jobs,pods,{CLAIMS}", "-n", namespace), 90)


# -- The operator is killed around each of the writes that a salvage costs.


class Bench:
    """A run, and an operator whose writes can be held. counts: which of them are numbered."""

    def __init__(self, cluster: Cluster, proxy: CuttingProxy, operator: Operator) -> None:
        self.cluster, self.proxy, self.operator = cluster, proxy, operator
        self.counts: Callable[[str, str], bool] = lambda method, path: False

    def kill_at_the_cut(self) -> None:
        assert self.proxy.struck.wait(90), f"the write was not made, only {self.proxy.seen}"
        self.operator.end(signal.SIGKILL)
        self.proxy.cut(None)
        self.operator.start()


@pytest.fixture(scope="module")
def bench(cluster: Cluster, operator: Operator, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    """In the place of the session's operator: two would both work."""
    assert operator.end() == 0
    folder: Path = tmp_path_factory.mktemp("salvaged")
    access = from_kubeconfig(cluster.lab.kubeconfig)
    held: list[Bench] = []
    with CuttingProxy(access.server, lambda method, path: held[0].counts(method, path), tls=access.tls) as proxy:
        killed = Operator(cluster, folder, kubeconfig=kubeconfig(folder, proxy.url))
        held.append(Bench(cluster, proxy, killed))
        killed.start()
        yield held[0]
        assert killed.end() == 0, killed.log
    operator.start()


def of_the_run(_: str, path: str) -> bool:
    return f"/{NAME}" in path


def on_its_claim(method: str, path: str) -> bool:
    return f"/{CLAIMS}/" in path and of_the_run(method, path)


def a_job(method: str, path: str) -> bool:
    return method == "POST" and path.endswith("/jobs")


@pytest.mark.parametrize("side", ["before", "after"])
@pytest.mark.parametrize(
    ("counts", "number"), [(on_its_claim, 1), (a_job, 2)], ids=["the claim's second owner", "the salvage"]
)
def test_a_kill_around_a_write_before_the_salvage(
    bench: Bench, namespace: str, counts: Callable[[str, str], bool], number: int, side: Side
) -> None:
    run = Run(bench.cluster, namespace)
    bench.counts = counts
    bench.proxy.cut(Cut(number, side))
    run.submit()
    if counts is on_its_claim:
        bench.kill_at_the_cut()
    run.owned_claim()
    run.lose_the_pod()
    if counts is a_job:
        bench.kill_at_the_cut()
    run.pod(f"{names.LABEL_SALVAGE}=1-0")
    run.seal(1, None, "PodLost")
    run.let_go(f"{names.LABEL_SALVAGE}=1-0")

    completes(run)


@pytest.mark.parametrize("side", ["before", "after"])
@pytest.mark.parametrize(
    "number", [1, 2, 3, 4], ids=["the attempt's closing", "the claim's removal", "the child's", "the salvage's"]
)
def test_a_kill_around_a_write_after_the_salvage(bench: Bench, namespace: str, number: int, side: Side) -> None:
    run = Run(bench.cluster, namespace)
    bench.proxy.cut(None)
    run.submit()
    run.owned_claim()
    run.lose_the_pod()
    run.pod(f"{names.LABEL_SALVAGE}=1-0")
    # The wait is shown by now, so that what comes next is what follows from the seal.
    until("the wait is shown", lambda: "SavingRemains" in json.dumps(run.job["status"]))
    bench.counts = of_the_run
    bench.proxy.cut(Cut(number, side))
    run.seal(1, None, "PodLost")
    run.let_go(f"{names.LABEL_SALVAGE}=1-0")
    bench.kill_at_the_cut()

    completes(run)
