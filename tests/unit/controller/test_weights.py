"""A Workspace's weight reaches the plan of every pool, and a change of it wakes them."""

from typing import Any, cast

import msgspec

from stoker.api.workspace import Workspace
from stoker.controller.ledger import Ledger, cluster_key
from stoker.controller.pools import Pools
from stoker.controller.routes import Routes
from stoker.kube.store import Key, Store
from tests.support import build


def workspace(weight: int, namespace: str = "team") -> Workspace:
    metadata = {
        "name": "default", "namespace": namespace, "uid": f"ws-{namespace}", "resourceVersion": str(weight),
    }  # fmt: skip
    return msgspec.convert({"metadata": metadata, "spec": {"weight": weight}}, Workspace)


async def test_a_pool_is_planned_with_the_weights_of_the_workspaces() -> None:
    store = Store()
    pools = Pools(store, Ledger(store, lambda _: None), cast(Any, None))
    store.put("ComputeCluster", build.cluster(provider="Static"))
    store.put("Workspace", workspace(3))
    store.put("Workspace", workspace(2, "other"))

    view = await pools.view("cpu")

    assert view is not None
    assert view.weights == {"team": 3, "other": 2}


def test_a_changed_weight_wakes_the_pools() -> None:
    store, woken = Store(), list[Key]()
    Routes(store, Ledger(store, woken.append), woken.append, lambda _: ())
    store.put("ComputeCluster", build.cluster(provider="Static"))
    store.put("Workspace", workspace(1))
    woken.clear()

    store.put("Workspace", workspace(5))

    assert cluster_key("cpu") in woken
