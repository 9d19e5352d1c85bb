"""What is shown of pools, and how they are made and scaled, on an API server that the test plays."""

from pathlib import Path
from typing import Any

import pytest

from tests.component.cli.test_cluster_run import World
from tests.component.cli.test_cluster_run import world as world
from tests.support.apiserver import JOBS, POOL

SPEC: dict[str, Any] = {
    "provider": {"type": "Kwok", "kwok": {}}, "minInstances": 0, "maxInstances": 4, "allowedNamespaces": {},
    "instanceTypes": [{"name": "g5", "tier": "Spot", "pricePerHour": "1.00", "resources": {"cpu": "4"}}],
}  # fmt: skip
MEMBERS = [
    {
        "name": "n0", "state": "Idle", "reason": "IdleTime", "message": "it is idle; it goes then unless a job takes it",
        "since": "2026-01-02T03:00:00Z", "until": "2026-01-02T03:02:00Z",
    },
    {"name": "n1", "state": "Running", "reason": "HasJob", "message": "a job has it", "since": "x", "job": "u1"},
]  # fmt: skip
STATUS: dict[str, Any] = {
    "currentNodes": 2, "targetNodes": 3, "allocationState": "Resizing", "waitingJobs": {"CapacityUnavailable": 1},
    "nodes": {"idle": 1, "running": 1, "preparing": 1, "unusable": 0, "leaving": 0, "preempted": 0}, "members": MEMBERS,
    "conditions": [{"type": "Ready", "status": "True", "reason": "Ready", "message": ""}],
    "problems": [{"reason": "CapacityUnavailable", "message": "no g5 left", "since": "2026-01-02T03:00:30Z"}],
    "usage": {
        "nodeHours": "12.5", "busyNodeHours": "11", "idleNodeHours": "1", "bootNodeHours": "0.5", "cost": "12.50",
        "todayNodeHours": "2", "todayCost": "2.00", "monthCosts": [{"namespace": "team", "cost": "9.75"}],
    },
    "intents": [{"token": "gpu-1", "kind": "Launch", "count": 1, "instanceType": "g5", "since": "2026-01-02T03:00:40Z"}],
}  # fmt: skip


@pytest.fixture
def gpu(world: World) -> World:
    """A pool `gpu` with two nodes, one job that runs and one that waits."""
    world.api.put(POOL.replace("/cpu", "/gpu"), {"metadata": {"name": "gpu"}, "spec": SPEC, "status": STATUS})
    waiting = {
        "reason": "CapacityUnavailable", "message": "the provider gives no g5", "fix": "wait, or add a type",
        "since": "2026-01-02T03:00:35Z",
    }  # fmt: skip
    for name, uid, status in (
        ("train", "u1", {"phase": "Running", "compute": "gpu"}),
        ("tune", "u2", {"phase": "Queued", "compute": "gpu", "waiting": waiting}),
        ("done", "u3", {"phase": "Completed", "compute": "gpu", "waiting": waiting}),
        ("else", "u4", {"phase": "Queued", "compute": "cpu", "waiting": waiting}),
    ):
        metadata = {"name": name, "namespace": "team", "uid": uid}
        world.api.put(f"{JOBS}/{name}", {"metadata": metadata, "spec": {}, "status": status})
    return world


def test_pools_are_listed_with_their_nodes_and_who_waits(gpu: World) -> None:
    lines = {line["name"]: line for line in gpu.cli.json("compute", "ls")}

    assert {"cpu", "gpu"} == set(lines)
    assert (2, 4, 1, ["g5"]) == tuple(lines["gpu"][name] for name in ("current", "max", "waiting", "types"))
    assert "2 of 4" in gpu.cli("compute", "ls").stdout
    assert "cpu\ngpu\n" == gpu.cli("compute", "ls", "-o", "name").stdout


def test_a_pool_is_shown_with_its_use_its_orders_and_its_problems(gpu: World) -> None:
    shown = gpu.cli("compute", "show", "gpu").stdout

    for words in (
        "1 idle, 1 running, 1 preparing", "0 to 4", "2 node-hours, cost 2.00", "12.5 node-hours (11 busy, 1 idle, 0.5 booting)",
        "cost of jobs: team 9.75", "g5: cpu 4 (Spot, 1.00 an hour)",
        "Launch 1 of g5 (gpu-1", "CapacityUnavailable: no g5 left",
    ):  # fmt: skip
        assert words in shown
    usage = gpu.cli.json("compute", "show", "gpu")["usage"]
    assert ("11", "1", "12.5") == (usage["busyNodeHours"], usage["idleNodeHours"], usage["nodeHours"])


def test_every_node_and_every_job_that_waits_is_explained(gpu: World) -> None:
    told = gpu.cli.json("compute", "explain", "gpu")

    assert [("n0", "IdleTime", ""), ("n1", "HasJob", "team/train")] == [
        (node["name"], node["reason"], node["job"]) for node in told["nodes"]
    ]
    assert [("team/tune", "CapacityUnavailable", "wait, or add a type")] == [
        (one["job"], one["reason"], one["fix"]) for one in told["waiting"]
    ]
    shown = gpu.cli("compute", "explain", "gpu").stdout
    assert "2026-01-02T03:02:00Z" in shown
    assert "team/tune waits since 2026-01-02T03:00:35Z: CapacityUnavailable" in shown
    assert "fix: wait, or add a type" in shown


def test_who_may_see_one_namespace_is_told_so(gpu: World) -> None:
    gpu.api.forbidden.add(JOBS.replace("/namespaces/team", ""))
    told = gpu.cli("compute", "explain", "gpu")

    assert "team/tune waits" in told.stdout
    assert "you may see jobs of namespace team only" in told.stderr


def test_a_pool_that_is_not_there_is_told_with_those_that_are(gpu: World) -> None:
    assert "cpu, gpu" in gpu.cli("compute", "show", "gpx", code=2).stderr


def test_a_pool_is_scaled_within_reason(gpu: World) -> None:
    gpu.cli("compute", "scale", "gpu", "--max", "8", "--min", "2")
    spec = gpu.api.objects[POOL.replace("/cpu", "/gpu")]["spec"]
    assert (2, 8) == (spec["minInstances"], spec["maxInstances"])

    assert "2 nodes at least and 1 at most" in gpu.cli("compute", "scale", "gpu", "--max", "1", code=2).stderr
    assert "give --min, --max, or both" in gpu.cli("compute", "scale", "gpu", code=2).stderr


FILE = """\
apiVersion: stoker.dev/v1alpha1
kind: ComputeCluster
metadata: {name: big}
spec:
  provider: {type: Static, static: {nodeSelector: {pool: big}}}
  maxInstances: %s
  instanceTypes: [{name: m, resources: {cpu: 4}}]
  allowedNamespaces: {}
"""


def test_a_pool_is_created_from_a_file_and_changed_only_when_asked(world: World) -> None:
    path: Path = world.cli.folder / "pool.yaml"
    path.write_text(FILE % 3)
    assert 3 == world.cli.json("compute", "create", "pool.yaml")["max"]

    path.write_text(FILE % 5)
    world.api.refuse = {"code": 409, "reason": "AlreadyExists", "message": "is there"}
    assert "use --replace" in world.cli("compute", "create", "pool.yaml", code=2).stderr
    assert 5 == world.cli.json("compute", "create", "pool.yaml", "--replace")["max"]


def test_a_file_that_is_wrong_is_refused_before_anything_is_sent(world: World) -> None:
    path: Path = world.cli.folder / "pool.yaml"
    path.write_text(FILE % "many")
    assert "spec.maxInstances" in world.cli("compute", "create", "pool.yaml", code=2).stderr
    path.write_text(FILE.replace("ComputeCluster", "TrainingJob") % 3)
    assert "has kind 'TrainingJob'" in world.cli("compute", "create", "pool.yaml", code=2).stderr
    assert [] == [line for line in world.api.requests if line.startswith("POST") and "computeclusters" in line]
