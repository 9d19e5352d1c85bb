"""Kueue itself and an operator that works with it, on a lab of their own: its webhooks are asked about every Job."""

import json
import os
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from lab import kueue
from stoker.api.kueue import CHECK_CONTROLLER, PRIORITY_CLASSES
from stoker.api.names import assignees
from tests.apiserver.controller.conftest import POOL, Cluster, Json, Operator, control_plane, until
from tests.support import labs

NAME = "stoker-kueue"
GROUP = "kueue.x-k8s.io/v1beta2"
CHECK = "stoker"
#: What a run of these tests asks for, and quota for one of them: its two agents ask for a little too.
REQUESTS, FOR_ONE = {"cpu": "1", "memory": "1Gi"}, {"cpu": "1500m", "memory": "4Gi"}


@dataclass
class Queues:
    """A control plane with Kueue, and a namespace that Kueue manages."""

    cluster: Cluster
    namespace: str

    def make(self, name: str, *, local: str = "", checks: tuple[str, ...] = (CHECK,), **spec: Any) -> None:
        """A ClusterQueue with quota for one run, and a LocalQueue that points to it."""
        quota = [{"name": resource, "nominalQuota": amount} for resource, amount in FOR_ONE.items()]
        group = {"coveredResources": list(FOR_ONE), "flavors": [{"name": "std", "resources": quota}]}
        strategy = {"admissionChecksStrategy": {"admissionChecks": [{"name": check} for check in checks]}}
        self.cluster.apply(
            _object(
                "ClusterQueue",
                f"{self.namespace}-{name}",
                {"namespaceSelector": {}, "resourceGroups": [group]} | (strategy if checks else {}) | spec,
            ),
            _object(
                "LocalQueue", local or name, {"clusterQueue": f"{self.namespace}-{name}"}, namespace=self.namespace
            ),
        )

    def submit(self, name: str, into: str = "", *, priority: str = "Medium", **spec: Any) -> None:
        """A run that asks for `REQUESTS`."""
        named = {"queue": {"name": into, "priority": priority}} if into else {}
        self.cluster.job(self.namespace, name, command={"resources": {"requests": REQUESTS}}, **named, **spec)

    def change(self, name: str, **spec: Any) -> None:
        """Patch a run's spec."""
        body = json.dumps({"spec": spec})
        self.cluster.lab.kubectl("patch", "trainingjob", name, "-n", self.namespace, "--type=merge", "-p", body)

    def status(self, name: str) -> Json:
        found: Json = self.cluster.get("trainingjob", name, "-n", self.namespace).get("status", {})
        return found

    def waits(self, name: str, reason: str) -> Json:
        """What a run says of why it waits, once that is this."""

        def told() -> Json | None:
            waiting = self.status(name).get("waiting") or {}
            return waiting if waiting.get("reason") == reason else None

        found: Json = until(f"{name} says {reason}, not {self.status(name).get('waiting')}", told)
        return found

    def runs(self, name: str) -> None:
        until(f"{name} runs", lambda: self.status(name).get("phase") == "Running")

    def child(self, name: str) -> Json:
        """The Job of a run's newest attempt."""
        children = self.cluster.items("jobs", "-n", self.namespace, "-l", f"stoker.dev/job={name}")
        return max(children, key=lambda child: int(child["metadata"]["labels"]["stoker.dev/attempt"]))

    def pod(self, name: str) -> Json:
        """The pod of a run that is not being deleted."""
        pods = self.cluster.items("pods", "-n", self.namespace, "-l", f"stoker.dev/job={name}")
        (found,) = (pod for pod in pods if "deletionTimestamp" not in pod["metadata"])
        return found

    def assigned(self) -> dict[str, str]:
        """Nodes that carry an attempt's label, by the job's uid."""
        nodes = self.cluster.items("nodes")
        return {
            uid: node["metadata"]["name"] for node in nodes for uid, _ in assignees(node["metadata"].get("labels", {}))
        }


def _object(kind: str, name: str, spec: Json, *, namespace: str = "") -> Json:
    metadata = {"name": name} | ({"namespace": namespace} if namespace else {})
    return {"apiVersion": GROUP, "kind": kind, "metadata": metadata, "spec": spec}


@pytest.fixture(scope="session")
def kueue_cluster(repository: Path, tmp_path_factory: pytest.TempPathFactory) -> Cluster:
    """A control plane with our kinds, Kueue, an operator, and what the chart makes for Kueue."""
    cluster = control_plane(os.environ.get("STOKER_KUEUE_LAB", NAME), repository)
    living = ExitStack()
    # As long as the lab, which may end before the session does.
    labs.before_end(cluster.lab.name, living.close)
    living.enter_context(kueue.running(cluster.lab, tmp_path_factory.mktemp("kueue")))
    cluster.apply(
        _object("ResourceFlavor", "std", {}),
        _object("AdmissionCheck", CHECK, {"controllerName": CHECK_CONTROLLER}),
        *(
            {"apiVersion": GROUP, "kind": "WorkloadPriorityClass", "metadata": {"name": name}, "value": value}
            for name, value in zip(PRIORITY_CLASSES.values(), (-1000, 0, 1000), strict=True)
        ),
    )
    operator = Operator(cluster, tmp_path_factory.mktemp("operator"), more={"STOKER_KUEUE": "true"})

    def end() -> None:
        assert operator.end() == 0, operator.log

    living.callback(end)
    operator.start()
    return cluster


@pytest.fixture
def queues(kueue_cluster: Cluster, request: pytest.FixtureRequest) -> Iterator[Queues]:
    """A namespace of the test's own that Kueue manages; its end ends its runs and frees their nodes and quota."""
    name, lab = f"q-{abs(hash(request.node.name)) % 10**8}", kueue_cluster.lab
    metadata = {"name": name, "labels": kueue.MANAGED}
    kueue_cluster.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": metadata})
    yield Queues(kueue_cluster, name)
    lab.kubectl("delete", "trainingjobs", "--all", "-n", name)
    lab.kubectl("delete", "pods", "--all", "-n", name, "--grace-period=0", "--force")
    lab.kubectl("delete", "namespace", name, "--wait=false")
    until("its nodes are free", lambda: not Queues(kueue_cluster, name).assigned())


__all__ = ["POOL", "Queues"]
