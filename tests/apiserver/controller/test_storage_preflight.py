"""A Workspace says which promises its store keeps: a real API server, a real operator, a real S3 server."""

from typing import Any

import pytest

from stoker.storage.objects import StoreOptions, open_store
from tests.apiserver.controller.conftest import Cluster, Operator, until

pytestmark = pytest.mark.lab


def condition(cluster: Cluster, namespace: str) -> Any:
    status = cluster.get("workspace", "default", "-n", namespace).get("status", {})
    return next((one for one in status.get("conditions", ()) if one["type"] == "StoragePreflight"), None)


def make(cluster: Cluster, namespace: str, **spec: Any) -> None:
    meta = {"name": "default", "namespace": namespace}
    cluster.apply({"apiVersion": "stoker.dev/v1alpha1", "kind": "Workspace", "metadata": meta, "spec": spec})


async def test_the_condition_says_that_all_holds_and_nothing_is_left_in_the_store(
    cluster: Cluster, operator: Operator, namespace: str
) -> None:
    position = cluster.lab.audit_log.stat().st_size
    make(cluster, namespace)
    found = until("the store was tried", lambda: condition(cluster, namespace))

    s3 = cluster.lab.s3
    url = f"s3://{s3.bucket}/{namespace}"
    assert ("True", "AllHold") == (found["status"], found["reason"]), found
    assert url in found["message"]
    store = open_store(url, StoreOptions(s3.endpoint, s3.region, s3.access_key, s3.secret_key))
    assert [] == [stored async for stored in store.list(".stoker-preflight/")]
    # One before the store was tried, one after.
    writes = [one for one in cluster.writes(position, f"/namespaces/{namespace}/workspaces/") if one[2] == "status"]
    assert 2 >= len(writes)


def test_a_bucket_that_is_not_there_is_told(cluster: Cluster, operator: Operator, namespace: str) -> None:
    make(cluster, namespace, storage={"url": f"s3://no-such-bucket-{namespace}/x"})
    found = until("the store was tried", lambda: condition(cluster, namespace))

    assert ("False", "StorageUnreachable") == (found["status"], found["reason"])
    assert "no bucket" in found["message"]
