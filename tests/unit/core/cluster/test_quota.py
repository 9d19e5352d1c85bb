"""What a namespace may have at a time: its gangs wait for its own jobs, and nobody waits for them."""

from dataclasses import replace
from typing import Any, cast

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stoker.api.workspace import Workspace
from stoker.controller.ledger import Ledger
from stoker.controller.pools import Pools
from stoker.core import cluster as pools
from stoker.core.cluster.view import ClusterPlan, ClusterView, Demand, Holding, Quota, ScaleView
from stoker.kube.store import Store
from tests.support import build

GPU = {"cpu": "4", "nvidia.com/gpu": "2"}


def demand(name: str, count: int, namespace: str = "team") -> Demand:
    return Demand(f"uid-{name}", namespace, name, 1, count, float(ord(name)))


def pool(*demands: Demand, held: int = 0, quota: Quota | None = None, **spec: Any) -> ClusterView:
    """Six nodes, of which `team` has the first `held`."""
    resources = spec.pop("resources", {"cpu": "4", "memory": "16Gi"})
    nodes = {f"n{n}": build.node(f"n{n}", allocatable=resources) for n in range(6)}
    holdings = tuple(Holding(f"h{n}", 1, (f"n{n}",), namespace="team") for n in range(held))
    return ClusterView(
        build.cluster(most=6, resources=resources, **spec), nodes, demands, holdings, scale=ScaleView(6),
        quotas={"team": quota} if quota is not None else {},
    )  # fmt: skip


def reason(plan: ClusterPlan, name: str) -> str | None:
    wait = plan.waits.get((f"uid-{name}", 1))
    return wait.reason if wait is not None else None


@pytest.mark.parametrize(
    ("quota", "held", "expected"),
    [
        (Quota(max_nodes=3), 2, "QuotaReached"),
        (Quota(max_nodes=4), 2, None),
        (Quota(max_nodes=4, nodes_elsewhere=1), 2, "QuotaReached"),
        (Quota(max_nodes=1), 0, "LargerThanQuota"),
        (Quota(max_gpus=7), 2, "QuotaReached"),
        (Quota(max_gpus=8), 2, None),
        (Quota(max_gpus=8, gpus_elsewhere=1), 2, "QuotaReached"),
        (Quota(max_gpus=3), 0, "LargerThanQuota"),
        (Quota(), 4, None),
    ],
)
def test_a_gang_beyond_its_namespaces_quota_waits(quota: Quota, held: int, expected: str | None) -> None:
    plan = pools.plan(pool(demand("a", 2), held=held, quota=quota, resources=GPU), build.T0)

    assert reason(plan, "a") == expected
    assert ("uid-a", 1) in plan.assignments or expected


def test_others_do_not_wait_for_a_namespace_that_has_its_quota() -> None:
    plan = pools.plan(
        pool(demand("a", 2), demand("b", 1), demand("c", 4, "other"), held=1, quota=Quota(max_nodes=2)), build.T0
    )

    assert [reason(plan, name) for name in "abc"] == ["QuotaReached", None, None]
    assert "spec.quota.maxNodes of Workspace/default in team" in plan.waits["uid-a", 1].fix
    assert plan.plan.wake_at == build.T0 + 5


@given(
    st.lists(st.tuples(st.sampled_from(["team", "other"]), st.integers(1, 3)), max_size=8), st.integers(0, 5),
    st.integers(0, 3),
)  # fmt: skip
def test_no_plan_gives_a_namespace_more_than_its_quota(jobs: list[tuple[str, int]], most: int, held: int) -> None:
    demands = tuple(demand(chr(97 + n), count, namespace) for n, (namespace, count) in enumerate(jobs))
    plan = pools.plan(pool(*demands, held=held, quota=Quota(max_nodes=most)), build.T0)

    given_to = {one.uid: one.namespace for one in demands}
    taken = sum(len(nodes) for (uid, _), nodes in plan.assignments.items() if given_to[uid] == "team")
    assert taken == 0 or held + taken <= most


def test_what_was_given_and_has_no_child_yet_counts() -> None:
    view = pool(demand("a", 2), demand("b", 1), quota=Quota(max_nodes=2))
    loose = Holding("uid-b", 1, ("n5",), bound=False, namespace="team")

    plan = pools.plan(replace(view, holdings=(loose,)), build.T0)

    assert (plan.assignments, reason(plan, "a")) == ({("uid-b", 1): ("n5",)}, "QuotaReached")


async def test_a_pool_knows_the_quota_of_a_workspace_and_what_other_pools_give() -> None:
    store = Store()
    ledger = Ledger(store, lambda _: None)
    metadata = {"name": "default", "namespace": "team", "uid": "ws", "resourceVersion": "1"}
    quota = {"maxNodes": 5, "maxGPUs": 9}
    store.put("Workspace", msgspec.convert({"metadata": metadata, "spec": {"quota": quota}}, Workspace))
    store.put("ComputeCluster", build.cluster("cpu", provider="Static"))
    store.put("ComputeCluster", build.cluster("gpu", provider="Static", resources=GPU))
    ledger.want("uid-a", "gpu", demand("a", 2))
    given_nodes = pools.plan(pool(demand("a", 2)), build.T0)
    ledger.planned("gpu", given_nodes)

    view = await Pools(store, ledger, cast(Any, None)).view("cpu")

    assert view is not None
    assert view.quotas == {"team": Quota(5, 9, nodes_elsewhere=2, gpus_elsewhere=4)}
