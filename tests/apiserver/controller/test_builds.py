"""Builds on a real API server: one for all who want an image, whatever becomes of the operator; no container runs here, so
the tests say what a build's pod came to."""

import asyncio
import json
import signal
import time
from typing import Any

import msgspec
import pytest

from stoker.core.environment.request import BuildRequest, BuildResult
from stoker.images.client import MANIFEST_TYPES, digest_of
from stoker.images.recordnames import LOCK_TYPE, RECORD_TYPE
from stoker.images.registry import Registry
from tests.apiserver.controller.conftest import Cluster, Json, Operator, until

pytestmark = pytest.mark.lab

LABEL = "stoker.dev/environment-build"
UNSOLVABLE = BuildResult(reason="PipUnsatisfiable", message="there is no numpy 99", where="pip[0]: numpy==99")


def environment(cluster: Cluster, namespace: str, name: str, **spec: Any) -> None:
    cluster.apply(
        {
            "apiVersion": "stoker.dev/v1alpha1",
            "kind": "Environment",
            "metadata": {"name": name, "namespace": namespace},
            "spec": {"image": cluster.lab.images["base"], **spec},
        }
    )


def builds(cluster: Cluster, namespace: str) -> list[Json]:
    return cluster.items("jobs", "-n", namespace, "-l", LABEL)


def one_build(cluster: Cluster, namespace: str) -> Json:
    return until("a build", lambda: next(iter(builds(cluster, namespace)), None))


def finish(cluster: Cluster, namespace: str, job: Json, result: BuildResult) -> None:
    """The build's pod ends with this report."""
    name = job["metadata"]["name"]
    pod = until(
        "the build's pod", lambda: next(iter(cluster.items("pods", "-n", namespace, "-l", f"job-name={name}")), None)
    )
    code = int(bool(result.reason))
    ended = {
        "exitCode": code, "reason": "Error" if code else "Completed", "startedAt": "2026-01-01T00:00:00Z",
        "finishedAt": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()), "message": msgspec.json.encode(result).decode(),
    }  # fmt: skip
    status = {
        "phase": "Failed" if code else "Succeeded",
        "containerStatuses": [
            {
                "name": "build",
                "image": "x",
                "imageID": "x",
                "ready": False,
                "restartCount": 0,
                "state": {"terminated": ended},
            }
        ],
    }
    cluster.lab.kubectl(
        "patch", "pod", pod["metadata"]["name"], "-n", namespace, "--subresource=status", "--type=merge",
        "-p", json.dumps({"status": status}),
    )  # fmt: skip


def push(cluster: Cluster, job: Json) -> str:
    """What a builder would leave in the registry; the image, pinned."""
    text = job["spec"]["template"]["spec"]["containers"][0]["env"][0]["value"]
    request = msgspec.json.decode(text, type=BuildRequest)

    async def pushed() -> str:
        async with Registry(insecure=frozenset((cluster.lab.registry,)), user_agent="test") as registry:
            client, place = registry.client(), f"{request.registry}/environments"
            blobs = {"config": b"{}", "lock": b'{"packages": []}'}
            for content in blobs.values():
                await client.push_blob(place, digest_of(content), len(content), content)
            config = {"mediaType": "application/vnd.oci.image.config.v1+json", "digest": digest_of(b"{}"), "size": 2}
            image = msgspec.json.encode(
                {"schemaVersion": 2, "mediaType": MANIFEST_TYPES[0], "config": config, "layers": []}
            )
            digest = await client.put_manifest(place, "lock-x", image, MANIFEST_TYPES[0])
            layer = {"mediaType": LOCK_TYPE, "digest": digest_of(blobs["lock"]), "size": len(blobs["lock"])}
            told = {
                "dev.stoker.spec-key": request.spec_key, "dev.stoker.definition-key": request.definition_key,
                "dev.stoker.lock-key": "c" * 64, "dev.stoker.image-digest": digest, "dev.stoker.image-size": "7",
                "dev.stoker.refresh": request.refresh,
            }  # fmt: skip
            record = msgspec.json.encode(
                {"schemaVersion": 2, "mediaType": MANIFEST_TYPES[0], "artifactType": RECORD_TYPE, "config": config,
                 "layers": [layer], "annotations": told}
            )  # fmt: skip
            from stoker.core.environment.keys import short

            await client.put_manifest(place, f"spec-{short(request.spec_key)}", record, MANIFEST_TYPES[0])
            return f"{place}@{digest}"

    return asyncio.run(pushed())


def image_of(cluster: Cluster, namespace: str, name: str) -> Json:
    status: Json = cluster.get("trainingjob", name, "-n", namespace).get("status", {}).get("environment") or {}
    return status


def ready_reason(cluster: Cluster, namespace: str, name: str) -> str:
    found = cluster.get("environment", name, "-n", namespace).get("status", {}).get("conditions", ())
    return str(next((one["reason"] for one in found if one["type"] == "Ready"), ""))


def test_twenty_jobs_and_a_killed_operator_have_one_build(cluster: Cluster, operator: Operator, namespace: str) -> None:
    names = [f"b-{number}" for number in range(20)]
    spec = {"environment": {"spec": {"image": cluster.lab.images["base"], "pip": ["numpy==2.1"]}}}
    for name in names:
        cluster.job(namespace, name, command=spec)
    job = one_build(cluster, namespace)
    until("they say so", lambda: all(_waits(cluster, namespace, name) == "Building" for name in names))

    operator.end(signal.SIGKILL)
    operator.start()
    until("the new operator leads", lambda: operator.leads)
    image = push(cluster, job)
    finish(cluster, namespace, job, BuildResult(image=image, lock_key="c" * 64))

    children = until("each has its pods", lambda: _children(cluster, namespace, len(names)), seconds=90)
    assert {image} == {
        next(one["image"] for one in child["spec"]["template"]["spec"]["containers"] if one["name"] == "main")
        for child in children
    }
    assert [job["metadata"]["uid"]] == [one["metadata"]["uid"] for one in builds(cluster, namespace)]
    told = until(
        "it is told",
        lambda: image_of(cluster, namespace, names[0]).get("source") and image_of(cluster, namespace, names[0]),
    )
    assert ("built", image) == (told["source"], told["image"])


def _waits(cluster: Cluster, namespace: str, name: str) -> str:
    return str(
        (cluster.get("trainingjob", name, "-n", namespace).get("status", {}).get("waiting") or {}).get("reason", "")
    )


def _children(cluster: Cluster, namespace: str, count: int) -> list[Json] | None:
    # The pool has four nodes: who got none waits for one, with the same image.
    found = cluster.items("jobs", "-n", namespace, "-l", "stoker.dev/attempt")
    return found if len(found) >= min(count, 4) else None


def test_a_fault_of_the_definition_is_remembered_until_it_is_edited(
    cluster: Cluster, operator: Operator, namespace: str
) -> None:
    environment(cluster, namespace, "torch", pip=["numpy==99"])
    job = one_build(cluster, namespace)
    finish(cluster, namespace, job, UNSOLVABLE)
    until("it is told", lambda: ready_reason(cluster, namespace, "torch") == "PipUnsatisfiable")

    operator.end()
    operator.start()
    until("the new operator leads", lambda: operator.leads)
    time.sleep(3.0)
    assert 1 == len(builds(cluster, namespace))
    environment(cluster, namespace, "torch", pip=["numpy==2.1"])
    until("another build", lambda: len(builds(cluster, namespace)) == 2)


def test_a_fault_of_the_ground_is_tried_again(cluster: Cluster, operator: Operator, namespace: str) -> None:
    environment(cluster, namespace, "torch", pip=["numpy==2.1"])
    lost = BuildResult(reason="RegistryUnreachable", message="no route", transient=True)
    finish(cluster, namespace, one_build(cluster, namespace), lost)

    second = until("a second try", lambda: next((one for one in builds(cluster, namespace)
                                                 if one["metadata"]["name"].endswith("-2")), None))  # fmt: skip
    push(cluster, second)
    finish(cluster, namespace, second, BuildResult(image="x"))
    until("it is made", lambda: ready_reason(cluster, namespace, "torch") == "Built")


def test_what_nobody_wants_is_ended(cluster: Cluster, operator: Operator, namespace: str) -> None:
    environment(cluster, namespace, "torch", pip=["numpy==2.1"])
    one_build(cluster, namespace)
    cluster.lab.kubectl("delete", "environment", "torch", "-n", namespace)

    until("the build goes", lambda: not builds(cluster, namespace), seconds=90)


def test_so_many_builds_run_at_a_time(cluster: Cluster, operator: Operator, namespace: str) -> None:
    for number in range(3):
        environment(cluster, namespace, f"e-{number}", pip=[f"numpy==2.{number}"])
    until("two builds", lambda: len(builds(cluster, namespace)) == 2)
    until("one waits", lambda: "BuildQueued" in [ready_reason(cluster, namespace, f"e-{n}") for n in range(3)])

    finish(cluster, namespace, builds(cluster, namespace)[0], UNSOLVABLE)
    until("the third", lambda: len(builds(cluster, namespace)) == 3)


def test_a_service_account_of_builds_that_is_not_there_is_named(
    cluster: Cluster, operator: Operator, namespace: str
) -> None:
    """And the build begins by itself once it is there."""
    registry = {"url": f"{cluster.lab.registry}/{namespace}", "insecure": True, "serviceAccountName": "pusher"}
    cluster.apply({
        "apiVersion": "stoker.dev/v1alpha1", "kind": "Workspace", "metadata": {"name": "default", "namespace": namespace},
        "spec": {"registry": registry},
    })  # fmt: skip
    environment(cluster, namespace, "torch", pip=["numpy==2.1"])

    until("it is told", lambda: ready_reason(cluster, namespace, "torch") == "ServiceAccountNotFound")
    cluster.lab.kubectl("create", "serviceaccount", "pusher", "-n", namespace)
    until("the build's pod", lambda: cluster.items("pods", "-n", namespace, "-l", LABEL), seconds=90)


def test_an_image_of_another_architecture_starts_on_no_pool(
    cluster: Cluster, operator: Operator, namespace: str
) -> None:
    """The lab's images are for amd64, and have no index that says so."""
    name = f"arm-{namespace}"
    cluster.apply({
        "apiVersion": "stoker.dev/v1alpha1", "kind": "ComputeCluster", "metadata": {"name": name},
        "spec": {
            "provider": {"type": "Static", "static": {"nodeSelector": {"pool": name}}}, "maxInstances": 1,
            "allowedNamespaces": {"matchNames": [namespace]},
            "instanceTypes": [{"name": "std", "architecture": "arm64", "resources": {"cpu": "8", "memory": "32Gi"}}],
        },
    })  # fmt: skip
    try:
        cluster.job(namespace, "one", compute=name)

        until("it is told", lambda: _waits(cluster, namespace, "one") == "ArchitectureMismatch")
        waiting = cluster.get("trainingjob", "one", "-n", namespace)["status"]["waiting"]
        assert "it is there for linux/amd64, and not for linux/arm64" in waiting["message"]
        assert [] == cluster.items("jobs", "-n", namespace)
    finally:
        cluster.lab.kubectl("delete", "trainingjob", "one", "-n", namespace)
        cluster.lab.kubectl("delete", "computecluster", name)


def test_a_quota_that_refuses_the_pod_is_told_in_its_words(
    cluster: Cluster, operator: Operator, namespace: str
) -> None:
    cluster.apply({
        "apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "none", "namespace": namespace},
        "spec": {"hard": {"pods": "0"}},
    })  # fmt: skip
    until("the quota holds", lambda: "hard" in cluster.get("resourcequota", "none", "-n", namespace).get("status", {}))
    environment(cluster, namespace, "torch", pip=["numpy==2.1"])

    until("it is told", lambda: ready_reason(cluster, namespace, "torch") == "PodsRejected")
    found = cluster.get("environment", "torch", "-n", namespace)["status"]["conditions"]
    assert "exceeded quota: none" in next(one["message"] for one in found if one["type"] == "Ready")
