"""The objects of an attempt, whole: compared with files that a person can read.

`STOKER_UPDATE_GOLDEN=1 pytest tests/unit/core/test_podspec.py` writes the files anew; read the diff before committing.
"""

import os
from pathlib import Path
from typing import Any

import pytest
import yaml

from stoker.api.common import PodShape
from stoker.api.trainingjob import TrainingJob
from stoker.core import podspec, salvagespec
from stoker.core.podspec import ChildPlan
from stoker.core.trainingjob import preparation
from stoker.core.trainingjob.plan import look
from tests.support import build

GOLDEN = Path(__file__).parent / "golden"


def child_of(job: TrainingJob, **members: Any) -> ChildPlan:
    cluster = members.pop("cluster", build.cluster())
    seen = look(build.view(job, on=cluster), build.T0)
    return ChildPlan(
        job=job,
        record=preparation.job_json(
            seen.view, seen.key, "cpu", build.SNAPSHOT, build.PINNED, seen.preparation.inputs
        ),
        attempt=members.pop("attempt", 1),
        cluster=cluster,
        agent_image="registry.example.com/stoker-agent:1",
        server_url="http://stoker-server.stoker-system.svc:8080",
        nodes=members.pop("nodes", ("n0",)),
        **members,
    )  # fmt: skip


def matches(name: str, manifest: dict[str, Any]) -> None:
    file = GOLDEN / f"{name}.yaml"
    if os.environ.get("STOKER_UPDATE_GOLDEN"):
        file.write_text(yaml.safe_dump(manifest, sort_keys=True, width=120))
    assert yaml.safe_load(file.read_text()) == manifest


def pod_of(job: TrainingJob, **members: Any) -> dict[str, Any]:
    spec: dict[str, Any] = podspec.make_child(child_of(job, **members))["spec"]["template"]["spec"]
    return spec


def main_of(job: TrainingJob, **members: Any) -> dict[str, Any]:
    main: dict[str, Any] = pod_of(job, **members)["containers"][0]
    return main


def env_of(job: TrainingJob, **members: Any) -> dict[str, str]:
    return {entry["name"]: entry.get("value", "") for entry in main_of(job, **members)["env"]}


def test_a_job_of_one_node() -> None:
    matches("one-node", podspec.make_child(child_of(build.job())))


def test_a_gang_of_two_with_everything_said() -> None:
    job = build.job(
        nodes=2,
        command={
            "command": "torchrun --lr ${{inputs.lr}} --data ${{inputs.data}} --csv ${{inputs.csv}}"
            " --out ${{outputs.model}} $STOKER_RANK $(hostname)",
            "env": [{"name": "PRICE", "value": "$5 $(HOME)"}, {"name": "MASTER_PORT", "value": "1234"}],
            "resources": {"instanceCount": 2, "requests": {"cpu": "2", "nvidia.com/gpu": "1"}, "shmSize": "2Gi"},
            "serviceAccountName": "trainer",
            "pod": {
                "labels": {"team": "vision", "stoker.dev/job": "forged"},
                "annotations": {"note": "mine"},
                "nodeSelector": {"disk": "fast"},
                "tolerations": [{"key": "gpu", "operator": "Exists"}],
                "volumes": [{"name": "cache", "emptyDir": {}}],
                "volumeMounts": [{"name": "cache", "mountPath": "/cache"}],
                "imagePullSecrets": [{"name": "mine"}],
                "priorityClassName": "low",
            },
        },
        inputs={
            "lr": {"value": "0.1"},
            "data": {"path": f"{build.STORAGE}/data/"},
            "csv": {"type": "uri_file", "path": f"{build.STORAGE}/data/a.csv"},
        },
        outputs={"model": {}},
        limits={"graceSeconds": 120},
    )
    cluster = build.cluster(
        podDefaults={"annotations": {"note": "platform"}, "priorityClassName": "high", "runtimeClassName": "nvidia"}
    )
    child = child_of(job, cluster=cluster, attempt=2, nodes=("n1", "n0"), pull_secrets=("team-pull", "mine"))

    matches("gang", podspec.make_child(child))
    matches("gang-service", podspec.make_service(child))


def test_secrets_reach_the_command_alone_and_by_reference() -> None:
    job = build.job(
        command={
            "command": 'train --token "${{inputs.token}}" --lr ${{inputs.lr}}',
            "env": [
                {"name": "A", "value": "1"},
                {"name": "WANDB", "valueFrom": {"secretKeyRef": {"name": "wandb", "key": "api-key", "optional": True}}},
                {"name": "URL", "valueFrom": {"configMapKeyRef": {"name": "urls", "key": "main"}}},
            ],
            "envFrom": [
                {"secretRef": {"name": "more", "optional": True}, "prefix": "MORE_"},
                {"configMapRef": {"name": "urls"}},
            ],
        },
        inputs={"lr": {"value": "0.1"}, "token": {"secretRef": {"name": "hf", "key": "token"}}},
    )
    pod = pod_of(job)
    references = [{**container, "name": ""} for container in pod["initContainers"]]

    matches("secrets", podspec.make_child(child_of(job)))
    assert "secretKeyRef" not in str(references)
    assert "envFrom" not in str(references)
    # Kubernetes turns `$$` into `$`; the user's own quotes hold.
    assert pod["containers"][0]["command"][-1] == 'train --token "$${STOKER_INPUT_token}" --lr 0.1'


def test_what_comes_from_a_secret_replaces_no_variable_of_ours_in_a_gang() -> None:
    job = build.job(
        nodes=2,
        command={
            "env": [{"name": "NODE_RANK", "valueFrom": {"configMapKeyRef": {"name": "c", "key": "k"}}}],
            "envFrom": [{"secretRef": {"name": "s"}}],
        },
    )
    main = main_of(job, nodes=("n0", "n1"))
    told = [entry["name"] for entry in main["env"]]

    ours = {"STOKER_JOB", "STOKER_ATTEMPT", "STOKER_RANK", "STOKER_NODE_COUNT", "STOKER_HOSTS", "STOKER_CHECKPOINT_DIR"}
    assert ours <= set(told)
    assert len(told) == len(set(told)), "a variable that the user draws from elsewhere replaces ours"
    assert main["command"][2:4] == ["--dir", "/stoker"]


def test_a_pool_that_owns_no_nodes_gives_a_selector_and_no_names() -> None:
    job = build.job(nodes=2)
    matches("external", podspec.make_child(child_of(job, cluster=build.cluster(provider="External"), nodes=())))


def test_a_whole_node_is_its_type_less_the_reserve_and_what_ship_needs() -> None:
    cluster = build.cluster(resources={"cpu": "8", "memory": "32Gi", "nvidia.com/gpu": "4", "pods": "110"})

    asked = main_of(build.job(), cluster=cluster)["resources"]

    assert asked["requests"] == {"cpu": "7750m", "memory": "32448Mi", "nvidia.com/gpu": "4"}
    assert asked["limits"] == asked["requests"]


def test_said_requests_are_taken_exactly() -> None:
    job = build.job(command={"resources": {"requests": {"cpu": "500m"}}})

    assert main_of(job)["resources"] == {"requests": {"cpu": "500m"}, "limits": {"cpu": "500m"}}


def test_kubernetes_does_not_expand_what_belongs_to_the_shell() -> None:
    job = build.job(command={"command": "echo $(date) $$ $STOKER_RANK"})

    # Kubernetes turns `$$` into `$`, and leaves it alone.
    assert main_of(job)["command"][-1] == "echo $$(date) $$$$ $$STOKER_RANK"


@pytest.mark.parametrize(
    ("limits", "told"), [({}, None), ({"saveStallSeconds": 3600}, None), ({"saveStallSeconds": 90}, "90")]
)
def test_ship_is_told_how_long_saving_may_stall_where_it_is_not_an_hour(
    limits: dict[str, Any], told: str | None
) -> None:
    """The variable is left out where ship knows it by itself: each costs the API server work at every write to the pod."""
    ship, fetch = pod_of(build.job(limits=limits))["initContainers"]

    assert told == {entry["name"]: entry.get("value") for entry in ship["env"]}.get("STOKER_SAVE_STALL_SECONDS")
    assert "STOKER_SAVE_STALL_SECONDS" not in str(fetch)


def test_the_token_is_for_ship_and_fetch_alone() -> None:
    pod = pod_of(build.job())

    assert [[m["name"] for m in c["volumeMounts"]] for c in pod["initContainers"]] == [
        ["stoker-scratch", "stoker-token"],
        ["stoker-scratch", "stoker-token"],
    ]
    assert [m["name"] for m in pod["containers"][0]["volumeMounts"]] == ["stoker-scratch"]
    assert pod["automountServiceAccountToken"] is False


@pytest.mark.parametrize("container", [0, 1, 2])
def test_every_container_meets_the_restricted_level(container: int) -> None:
    pod = pod_of(build.job())
    security = [*pod["initContainers"], *pod["containers"]][container]["securityContext"]

    assert security == {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}


def test_where_root_is_asked_for_and_allowed_ship_is_root_too() -> None:
    job = build.job(command={"pod": {"securityContext": {"runAsUser": 0}}})

    pod = pod_of(job, cluster=build.cluster(allowRootPods=True))

    assert pod["securityContext"]["runAsUser"] == 0
    assert pod["securityContext"]["runAsNonRoot"] is False
    for container in (*pod["initContainers"], *pod["containers"]):
        assert container["securityContext"] == {"allowPrivilegeEscalation": False}


def test_the_platforms_word_wins_and_the_users_other_words_stay() -> None:
    job = build.job(
        command={
            "pod": {
                "nodeSelector": {"disk": "slow", "zone": "a"},
                "volumes": [{"name": "cache", "emptyDir": {}}, {"name": "own", "emptyDir": {}}],
                "securityContext": {"runAsUser": 2000, "fsGroup": 3000},
            }
        }
    )
    defaults = {
        "nodeSelector": {"disk": "fast"},
        "volumes": [{"name": "cache", "persistentVolumeClaim": {"claimName": "c"}}],
        "securityContext": {"fsGroup": 4000},
    }

    pod = pod_of(job, cluster=build.cluster(podDefaults=defaults))

    assert pod["nodeSelector"] == {"disk": "fast", "zone": "a"}
    assert {v["name"]: set(v) - {"name"} for v in pod["volumes"]}["cache"] == {"persistentVolumeClaim"}
    assert "own" in {v["name"] for v in pod["volumes"]}
    assert (pod["securityContext"]["runAsUser"], pod["securityContext"]["fsGroup"]) == (2000, 4000)


def scratch_of(job: TrainingJob) -> dict[str, Any]:
    """The volume that is mounted at the agent's folder."""
    found: dict[str, Any] = next(v for v in pod_of(job)["volumes"] if v["name"] == podspec.SCRATCH)
    return found


def with_scratch(**scratch: Any) -> TrainingJob:
    return build.job(command={"resources": {"scratch": scratch}})


@pytest.mark.parametrize(
    ("resources", "told"),
    [
        ({"requests": {"cpu": "1", "ephemeral-storage": "11Gi"}}, str(10 << 30)),
        ({"requests": {"cpu": "1"}}, None),
        ({}, str(20 << 30)),
    ],
)
def test_launch_stops_a_run_before_its_pods_disk_limit_is_reached(resources: dict[str, Any], told: str | None) -> None:
    """With no requests a pod is limited to the whole node, and that may be a limit on its disk too."""
    cluster = build.cluster(resources={"cpu": "4", "memory": "16Gi", "ephemeral-storage": "22Gi"})

    fetch = pod_of(build.job(command={"resources": resources}), cluster=cluster)["initContainers"][1]

    assert told == {entry["name"]: entry.get("value") for entry in fetch["env"]}.get("STOKER_SCRATCH_BYTES")


def test_launch_stops_a_run_at_its_scratch_size_before_the_kubelet_would() -> None:
    job = with_scratch(size="100Gi")

    assert scratch_of(job)["emptyDir"] == {"sizeLimit": "110Gi"}
    assert child_of(job).record["limits"]["scratchBytes"] == 100 << 30
    assert scratch_of(build.job())["emptyDir"] == {}
    assert child_of(build.job()).record["limits"]["scratchBytes"] is None


def test_scratch_with_a_class_is_a_claim_that_the_operator_finds() -> None:
    job = with_scratch(size="100Gi", storageClassName="fast")

    template = scratch_of(job)["ephemeral"]["volumeClaimTemplate"]

    assert template["metadata"]["labels"] == podspec.make_child(child_of(job))["metadata"]["labels"]
    assert template["spec"] == {
        "accessModes": ["ReadWriteOnce"],
        "storageClassName": "fast",
        "resources": {"requests": {"storage": "100Gi"}},
    }
    assert child_of(job).record["limits"]["scratchBytes"] == 100 << 30


def test_the_salvage_of_a_rank() -> None:
    job = build.job(
        nodes=2,
        command={
            "resources": {"instanceCount": 2, "scratch": {"size": "100Gi", "storageClassName": "fast"}},
            "serviceAccountName": "trainer",
            "pod": {"tolerations": [{"key": "gpu", "operator": "Exists"}], "imagePullSecrets": [{"name": "mine"}]},
        },
        limits={"graceSeconds": 120},
    )
    plan = salvagespec.SalvagePlan(
        job=job, attempt=3, rank=1, claim="iris-0c0ffee0-3-1-abcde-stoker-scratch", reason="NodeLost",
        message="node $(n1) is not ready", compute="cpu", shape=podspec.podshape.merged(job.spec.command.pod, None),
        seconds=600.0, agent_image="registry.example.com/stoker-agent:1",
        server_url="http://stoker-server.stoker-system.svc:8080", pull_secrets=("team-pull", "mine"),
    )  # fmt: skip

    matches("salvage", salvagespec.make_salvage(plan))


def test_a_users_variable_replaces_ours_but_never_a_stoker_one() -> None:
    env = env_of(build.job(nodes=2, command={"env": [{"name": "MASTER_ADDR", "value": "elsewhere"}]}))

    assert env["MASTER_ADDR"] == "elsewhere"
    assert env["STOKER_HOSTS"] == "iris-0c0ffee0-1-0.iris-0c0ffee0-1,iris-0c0ffee0-1-1.iris-0c0ffee0-1"


def test_a_list_of_hosts_that_no_variable_can_hold_is_left_out() -> None:
    assert "STOKER_HOSTS" in env_of(build.job(nodes=1000), nodes=())
    assert "STOKER_HOSTS" not in env_of(build.job(nodes=1001), nodes=())


@pytest.mark.parametrize(
    ("reference", "pinned"),
    [
        ("ml/iris", f"ml/iris@{build.DIGEST}"),
        ("ml/iris:1", f"ml/iris@{build.DIGEST}"),
        ("registry:5000/ml/iris", f"registry:5000/ml/iris@{build.DIGEST}"),
        ("registry:5000/ml/iris:1@sha256:0", f"registry:5000/ml/iris@{build.DIGEST}"),
    ],
)
def test_an_image_is_pinned_whatever_its_reference_says(reference: str, pinned: str) -> None:
    assert pinned == podspec.pinned_image(reference, build.DIGEST)


def test_the_same_values_give_the_same_manifest() -> None:
    assert podspec.make_child(child_of(build.job())) == podspec.make_child(child_of(build.job()))


def test_a_shape_of_nothing_is_nothing() -> None:
    assert podspec.podshape.merged(None, None) == PodShape()


@pytest.mark.parametrize(("limits", "told"), [({}, None), ({"noProgressSeconds": 900}, "900")])
@pytest.mark.parametrize("nodes", [1, 2])
def test_only_the_command_is_told_how_long_it_may_stand_still(
    limits: dict[str, int], told: str | None, nodes: int
) -> None:
    name = "STOKER_NO_PROGRESS_SECONDS"
    made = pod_of(build.job(nodes=nodes, limits=limits))

    assert told == {entry["name"]: entry.get("value") for entry in made["containers"][0]["env"]}.get(name)
    assert name not in str(made["initContainers"])


def test_pods_name_the_request_whose_room_they_use() -> None:
    """Without both annotations the autoscaler takes the room away as unused."""
    pool = build.cluster(provider="ProvisioningRequest", podDefaults={"annotations": {"note": "platform"}})
    child = child_of(build.job(), cluster=pool, nodes=())
    template = podspec.make_child(child)["spec"]["template"]

    assert {
        "note": "platform",
        "autoscaling.x-k8s.io/consume-provisioning-request": child.name,
        "autoscaling.x-k8s.io/provisioning-class-name": "check-capacity.autoscaling.x-k8s.io",
    } == template["metadata"]["annotations"]
    assert {"kubernetes.io/arch": "amd64", "pool": "cpu"} == template["spec"]["nodeSelector"]
    assert "affinity" not in template["spec"]
