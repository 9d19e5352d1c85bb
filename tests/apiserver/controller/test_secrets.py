"""A canary in a Secret of a job: the operator makes the pods that use it, and tells it to nobody."""

import asyncio
import base64
import json
from typing import Any

import pytest

from stoker.storage.objects import StoreOptions, open_store
from tests.apiserver.controller.conftest import Cluster, Operator, until

pytestmark = pytest.mark.lab

CANARY = "canary-e4b1-77d0"
FORMS = (CANARY, base64.b64encode(CANARY.encode()).decode())


def stored(cluster: Cluster, namespace: str) -> dict[str, bytes]:
    """What a namespace has in the lab's bucket, by key."""
    s3 = cluster.lab.s3
    options = StoreOptions(
        endpoint=s3.endpoint, region=s3.region, access_key=s3.access_key, secret_key=s3.secret_key
    )  # fmt: skip

    async def read() -> dict[str, bytes]:
        store = open_store(f"s3://{s3.bucket}", options)
        return {one.key: await store.get(one.key) or b"" async for one in store.list(f"{namespace}/")}

    return asyncio.run(read())


def reads_of_secrets(cluster: Cluster, since: int, namespace: str) -> list[Any]:
    """The operator's requests for Secrets of a namespace, from the audit log."""
    with cluster.lab.audit_log.open() as log:
        log.seek(since)
        events = [json.loads(line) for line in log]
    return [
        event["requestURI"]
        for event in events
        if event["userAgent"].startswith("stoker-operator/")
        and f"/namespaces/{namespace}/secrets" in event["requestURI"]
    ]


@pytest.mark.usefixtures("sealer")
def test_a_secret_is_in_nothing_that_the_operator_writes(cluster: Cluster, operator: Operator, namespace: str) -> None:
    since = cluster.lab.audit_log.stat().st_size
    cluster.apply(
        {
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {"name": "hf", "namespace": namespace},
            "stringData": {"token": CANARY, "STOKER_RANK": CANARY},
        }
    )
    cluster.job(
        namespace, "iris",
        inputs={"token": {"secretRef": {"name": "hf", "key": "token"}}},
        command={
            "command": 'python train.py "${{inputs.token}}"',
            "env": [{"name": "WANDB", "valueFrom": {"secretKeyRef": {"name": "hf", "key": "token"}}}],
            "envFrom": [{"secretRef": {"name": "hf"}, "prefix": "HF_"}],
        },
    )  # fmt: skip
    until("the job is done", lambda: cluster.phase(namespace, "iris") == "Completed")

    main = cluster.items("jobs", "-n", namespace)[0]["spec"]["template"]["spec"]["containers"][0]
    reference = {"secretKeyRef": {"name": "hf", "key": "token"}}
    drawn = {entry["name"]: entry["valueFrom"] for entry in main["env"] if "valueFrom" in entry}
    assert drawn == {"STOKER_INPUT_token": reference, "WANDB": reference}
    assert main["envFrom"] == [{"prefix": "HF_", "secretRef": {"name": "hf"}}]
    key = cluster.get("trainingjob", "iris", "-n", namespace)["status"]["key"]
    kept = stored(cluster, namespace)
    assert {f"{key}/job.json", f"{key}/result.json"} <= {"/".join(name.rsplit("/", 2)[-2:]) for name in kept}
    objects = cluster.get("trainingjobs,jobs,pods,services,events,configmaps", "-n", namespace)
    for form in FORMS:
        assert form not in json.dumps(objects)
        assert form not in operator.log
        assert [name for name, body in kept.items() if form.encode() in body] == []
    assert reads_of_secrets(cluster, since, namespace) == []
