"""Objects are decoded as the API server returns them, and encoded as it takes them."""

from typing import Any

import msgspec
import pytest

from stoker.api import resources
from stoker.api.common import Condition, PodShape
from stoker.api.computecluster import ComputeCluster, ComputeClusterSpec
from stoker.api.trainingjob import Input, JobResources, TrainingJob, TrainingJobStatus, Waiting
from tests.support.manifests import training_job


def returned(**spec: Any) -> dict[str, Any]:
    """A job as the API server returns it: with members that nobody of ours has asked for."""
    job = training_job(**spec)
    job["metadata"] |= {
        "uid": "7f3c0a52-0000-4000-8000-000000000000",
        "resourceVersion": "17",
        "generation": 2,
        "creationTimestamp": "2026-01-02T03:04:05Z",
        "managedFields": [{"manager": "kubectl", "operation": "Update"}],
        "ownerReferences": [{"apiVersion": "v1", "kind": "A", "name": "a", "uid": "u", "blockOwnerDeletion": True}],
    }
    return job


def test_members_that_we_do_not_know_are_dropped() -> None:
    job = msgspec.convert(returned(ofALaterVersion={"a": 1}), TrainingJob)

    assert job.metadata.uid.startswith("7f3c")
    assert job.metadata.owner_references[0].kind == "A"
    assert job.spec.compute == "cpu"
    assert not hasattr(job.spec, "of_a_later_version")


def test_a_value_cannot_be_changed() -> None:
    job = msgspec.convert(returned(inputs={"lr": {"value": "1"}}), TrainingJob)

    with pytest.raises(AttributeError):
        job.spec.compute = "other"  # type: ignore[misc]
    assert job.spec.inputs["lr"] == Input(value="1")


@pytest.mark.parametrize(("written", "expected"), [(2, "2"), ("500m", "500m"), ("1.5", "1.5")])
def test_a_quantity_is_text_however_it_was_written(written: Any, expected: str) -> None:
    asked = msgspec.convert({"requests": {"cpu": written}, "shmSize": written}, JobResources)

    assert asked == JobResources(requests={"cpu": expected}, shm_size=expected)


def test_the_pools_quantities_are_text_too() -> None:
    spec = msgspec.convert(
        {
            "provider": {"type": "External"},
            "maxInstances": 1,
            "allowedNamespaces": {},
            "instanceTypes": [{"name": "a", "resources": {"cpu": 4}}],
            "nodeReserve": {"cpu": 1},
        },
        ComputeClusterSpec,
    )

    assert spec.instance_types[0].resources == {"cpu": "4"}
    assert spec.node_reserve == {"cpu": "1"}


def test_kubernetes_own_fields_are_passed_on_as_they_are() -> None:
    volume = {"name": "cache", "csi": {"driver": "d", "volumeAttributes": {"a": "b"}}}
    pod = msgspec.convert({"volumes": [volume], "securityContext": {"runAsUser": 7}}, PodShape)

    assert pod.volumes == (volume,)
    assert pod.security_context == {"runAsUser": 7}


def test_a_status_has_one_form() -> None:
    """Equal statuses are equal bytes, or an unchanged one would be written again."""
    status = TrainingJobStatus(
        phase="Queued",
        conditions=(Condition(type="Ready", status="False", reason="Queued"),),
        waiting=Waiting(reason="NodesBooting"),
    )
    text = msgspec.json.encode(status)

    assert msgspec.json.encode(msgspec.json.decode(text, type=TrainingJobStatus)) == text
    assert list(msgspec.to_builtins(status)) == ["phase", "conditions", "waiting"]
    assert list(msgspec.to_builtins(status)["conditions"][0]) == [
        "type",
        "status",
        "reason",
        "message",
        "lastTransitionTime",
        "observedGeneration",
    ]


def test_the_status_that_the_api_server_fills_in_is_one_of_ours() -> None:
    first = resources.kind_named("TrainingJob").first_status

    status = msgspec.convert(first, TrainingJobStatus)

    assert status.phase == "Pending"
    assert status.conditions[0].reason == "WaitingForController"


def test_defaults_are_the_same_with_and_without_the_api_server() -> None:
    bare = {
        "metadata": {"name": "cpu"},
        "spec": {
            "provider": {"type": "External"},
            "maxInstances": 1,
            "allowedNamespaces": {},
            "instanceTypes": [{"name": "a"}],
        },
    }
    cluster = msgspec.convert(bare, ComputeCluster)

    assert cluster.spec.idle_seconds_before_scale_down == 120
    assert cluster.spec.node_reserve == {"cpu": "200m", "memory": "256Mi"}
    assert cluster.spec.instance_types[0].architecture == "amd64"
