"""What the chart installs."""

import json
import os
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from stoker.api.validate import problems
from stoker.server.__main__ import GRACEFUL_SECONDS
from tests.chart.conftest import Refused, Render, Values, objects, one

pytestmark = pytest.mark.lab

GOLDENS = Path(__file__).parent / "goldens"
POOL = {
    "name": "cpu",
    "spec": {
        "provider": {"type": "Static", "static": {"nodeSelector": {"pool": "cpu"}}},
        "maxInstances": 2,
        "allowedNamespaces": {},
        "instanceTypes": [{"name": "standard", "resources": {"cpu": "4", "memory": "8Gi"}}],
    },
}
EVERYTHING: Values = {
    "image": {
        "tag": "1.2.3",
        "references": {"agent": "registry.example.com/agent@sha256:" + "0" * 64},
        "pullSecrets": ["pull"],
    },
    "storage": {
        "url": "s3://runs/team",
        "endpoint": "https://s3.example.com",
        "clientEndpoint": "https://s3.example.com",
        "region": "eu-1",
        "existingSecret": "s3-keys",
    },
    "jobNamespaces": ["team-a", "team-b"],
    "insecureRegistries": ["registry.local:5000"],
    "registry": {"url": "registry.example.com/ml", "inClusterAddress": "registry.ml.svc:5000"},
    "jobImagePullSecrets": ["pull"],
    "defaults": {"compute": "cpu", "image": "registry.example.com/base:1", "timeoutSeconds": 3600},
    "computeClusters": [POOL],
    "kueue": {"enabled": True},
    "operator": {"nodeSelector": {"system": "true"}, "priorityClassName": "high"},
    "server": {
        "replicas": 2,
        "publicUrl": "https://stoker.example.com",
        "tolerations": [{"key": "system", "operator": "Exists"}],
        "serviceAccountAnnotations": {"cloud.example.com/role": "stoker"},
    },
    "rbac": {
        "readPools": False,
        "aggregate": False,
        "scaleResources": [{"apiGroup": "lab.stoker.dev", "resources": ["nodepools"]}],
        "providers": ["Kwok", "Karpenter", "ProvisioningRequest"],
        "pullSecrets": [{"namespace": "team-a", "names": ["pull"]}],
    },
    "metrics": {
        "serviceMonitor": {"enabled": True, "labels": {"release": "prometheus"}},
        "rules": {"enabled": True},
    },
}


def pod_templates(text: str) -> dict[str, dict[str, Any]]:
    return {
        f"{found['kind']}/{found['metadata']['name']}": found["spec"]["template"]["spec"]
        for found in objects(text)
        if "template" in found.get("spec", {})
    }


def rules(text: str) -> list[tuple[str, dict[str, Any]]]:
    """Every rule with the kind and name of its role."""
    return [
        (f"{found['kind']}/{found['metadata']['name']}", rule)
        for found in objects(text)
        if found["kind"] in ("ClusterRole", "Role")
        for rule in found["rules"]
    ]


@pytest.mark.parametrize(
    ("name", "values"),
    [("try-out", {"crds": {"install": False}}), ("everything", {**EVERYTHING, "crds": {"install": False}})],
)
def test_the_chart_renders_as_it_is_kept(render: Render, name: str, values: Values) -> None:
    """UPDATE_GOLDENS=1 writes them anew; look at the difference before you commit it."""
    golden = GOLDENS / f"{name}.yaml"
    text = render(values)
    if os.environ.get("UPDATE_GOLDENS"):
        golden.parent.mkdir(exist_ok=True)
        golden.write_text(text)

    assert text == golden.read_text()


def test_two_renders_are_the_same_bytes(render: Render) -> None:
    assert render(EVERYTHING) == render(EVERYTHING)
    assert render() == render()


def test_no_template_asks_for_chance_or_for_the_cluster(chart: Path) -> None:
    forbidden = re.compile(
        r"\b(rand\w+|genCA\w*|gen\w+Cert\w*|genPrivateKey|uuidv4|now|lookup|derivePassword|htpasswd)\b"
    )
    for path in chart.glob("templates/**/*"):
        if path.is_file():
            actions = " ".join(re.findall(r"\{\{.*?\}\}", path.read_text(), re.DOTALL))
            assert forbidden.findall(re.sub(r'"[^"]*"|/\*.*?\*/', "", actions)) == [], path


def test_helm_lint_has_nothing_to_say(helm: Path, chart: Path) -> None:
    done = subprocess.run(
        [
            helm,
            "lint",
            "--strict",
            chart,
            "-n",
            "stoker-system",
            "--set",
            "image.repository=registry.example.com/stoker",
        ],
        capture_output=True,
        text=True,
    )

    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("values", [{}, EVERYTHING], ids=["try-out", "everything"])
def test_every_pod_of_ours_is_restricted(render: Render, values: Values) -> None:
    """As Pod Security's level `restricted` has it, and with a root file system that cannot be written. The registry's
    proxy is on the node's network, and that is all."""
    templates = pod_templates(render(values))

    assert {"Deployment/stoker-operator", "StatefulSet/stoker-server", "Job/stoker-test-ready"} <= templates.keys()
    for name, pod in templates.items():
        security = pod["securityContext"]
        assert (security["runAsNonRoot"], security["runAsUser"]) == (True, 1000), name
        assert security["seccompProfile"] == {"type": "RuntimeDefault"}, name
        beyond = {"hostNetwork"} if name == "DaemonSet/stoker-registry-proxy" else set()
        assert beyond == pod.keys() & {"hostNetwork", "hostPID", "hostIPC"}, name
        assert all(not volume.keys() & {"hostPath"} for volume in pod.get("volumes", ())), name
        for container in [*pod["containers"], *pod.get("initContainers", ())]:
            assert container["securityContext"] == {
                "allowPrivilegeEscalation": False,
                "readOnlyRootFilesystem": True,
                "capabilities": {"drop": ["ALL"]},
            }, name
            assert {"requests", "limits"} <= container["resources"].keys(), name


def test_no_right_is_a_wildcard_and_no_secret_is_read_by_everyone(render: Render) -> None:
    text = render({**EVERYTHING, "rbac": {}})

    for name, rule in rules(text):
        assert "*" not in [*rule["apiGroups"], *rule["resources"], *rule["verbs"]], name
        if "secrets" in rule["resources"]:
            assert rule.get("resourceNames") or rule["verbs"] == ["create"], name
            assert name.startswith("Role/"), name


def test_rights_to_write_are_given_in_the_named_namespaces_alone(render: Render) -> None:
    everywhere = [found for found in objects(render()) if found["metadata"]["name"] == "stoker-operator-jobs"]
    named = [found for found in objects(render(EVERYTHING)) if found["metadata"]["name"] == "stoker-operator-jobs"]

    assert [found["kind"] for found in everywhere] == ["ClusterRole", "ClusterRoleBinding"]
    assert [(found["kind"], found["metadata"].get("namespace")) for found in named] == [
        ("ClusterRole", None),
        ("RoleBinding", "team-a"),
        ("RoleBinding", "team-b"),
    ]


@pytest.mark.parametrize(("kind", "part"), [("Deployment", "operator"), ("StatefulSet", "server")])
@pytest.mark.parametrize(("replicas", "budgets"), [(1, []), (2, [1]), (3, [1])])
def test_a_drain_leaves_one_where_there_are_several(
    render: Render, kind: str, part: str, replicas: int, budgets: list[int]
) -> None:
    text = render({part: {"replicas": replicas}})

    name = f"stoker-{part}"
    assert replicas == one(text, kind, name)["spec"]["replicas"]
    found = [
        budget["spec"]
        for budget in objects(text)
        if budget["kind"] == "PodDisruptionBudget" and budget["metadata"]["name"] == name
    ]
    assert budgets == [spec["minAvailable"] for spec in found]
    template = one(text, kind, name)["spec"]["template"]
    pods = template["metadata"]["labels"]
    assert all(spec["selector"]["matchLabels"].items() <= pods.items() for spec in found)
    (spread,) = template["spec"]["topologySpreadConstraints"]
    assert spread["labelSelector"]["matchLabels"].items() <= pods.items()
    assert ("kubernetes.io/hostname", "ScheduleAnyway") == (spread["topologyKey"], spread["whenUnsatisfiable"])


def test_two_servers_serve_and_one_that_goes_answers_what_still_comes(render: Render) -> None:
    spec = one(render(), "StatefulSet", "stoker-server")["spec"]
    (server,) = spec["template"]["spec"]["containers"]

    assert 2 == spec["replicas"]
    waits = int(re.findall(r"sleep\((\d+)\)", server["lifecycle"]["preStop"]["exec"]["command"][-1])[0])
    assert spec["template"]["spec"]["terminationGracePeriodSeconds"] > waits + GRACEFUL_SECONDS


def test_an_update_brings_a_new_operator_before_it_takes_one_away(render: Render) -> None:
    spec = one(render(), "Deployment", "stoker-operator")["spec"]

    assert 2 == spec["replicas"]
    assert {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}} == spec["strategy"]
    (spread,) = spec["template"]["spec"]["topologySpreadConstraints"]
    assert ("kubernetes.io/hostname", "ScheduleAnyway") == (spread["topologyKey"], spread["whenUnsatisfiable"])


def test_the_operator_may_change_no_lease_but_its_own(render: Render) -> None:
    text = render()
    found = [(name, rule) for name, rule in rules(text) if "leases" in rule["resources"]]

    assert [
        ("Role/stoker-operator-lease", ["stoker-operator"], ["get", "patch"]),
        ("Role/stoker-operator-lease", None, ["create"]),
    ] == [(name, rule.get("resourceNames"), rule["verbs"]) for name, rule in found]
    binding = one(text, "RoleBinding", "stoker-operator-lease")
    assert "stoker-operator" == binding["subjects"][0]["name"]


def test_people_may_reach_the_servers_pods_by_name_and_nothing_else_there(render: Render) -> None:
    role = one(render(EVERYTHING), "Role", "stoker-public")

    assert [(rule["resources"], rule["resourceNames"], rule["verbs"]) for rule in role["rules"]] == [
        (["configmaps"], ["stoker-public", "stoker-registry-check"], ["get"]),
        (["pods/portforward"], ["stoker-server-0", "stoker-server-1"], ["get", "create"]),
    ]


def test_an_editor_asks_for_tokens_of_one_account(render: Render) -> None:
    for account in ("stoker-editor", "stoker-viewer"):
        role = one(render(), "ClusterRole", account)
        tokens = [rule for rule in role["rules"] if rule["resources"] == ["serviceaccounts/token"]]
        assert tokens == [
            {"apiGroups": [""], "resources": ["serviceaccounts/token"], "resourceNames": [account], "verbs": ["create"]}
        ]


def test_pools_are_readable_by_all_unless_switched_off(render: Render) -> None:
    assert one(render(), "ClusterRoleBinding", "stoker-pools")["subjects"][0]["name"] == "system:authenticated"
    assert "stoker-pools" not in render(EVERYTHING)


def test_the_values_pools_are_good_computeclusters(render: Render) -> None:
    config = one(render({"computeClusters": [POOL]}), "ConfigMap", "stoker-compute-clusters")
    cluster = yaml.safe_load(config["data"]["cpu.yaml"])

    assert problems("ComputeCluster", cluster) == []
    assert cluster["spec"] == POOL["spec"]


@pytest.mark.parametrize(
    ("crds", "expected"),
    [
        ({}, {"helm.sh/resource-policy": "keep"}),
        ({"keep": False}, None),
    ],
)
def test_crds_come_with_the_release_and_stay_after_it(
    render: Render, repository: Path, crds: Values, expected: dict[str, str] | None
) -> None:
    found = [one for one in objects(render({"crds": crds})) if one["kind"] == "CustomResourceDefinition"]

    assert len(found) == 4
    for crd in found:
        assert crd["metadata"].pop("annotations", None) == expected
        plural = crd["spec"]["names"]["plural"]
        assert crd == yaml.safe_load((repository / "crds" / f"{plural}.yaml").read_text())


def test_crds_may_be_left_to_others(render: Render) -> None:
    assert "CustomResourceDefinition" not in render({"crds": {"install": False}})


def test_without_a_url_the_chart_brings_a_store(render: Render) -> None:
    text = render({"store": {"persistence": {"enabled": False}}})
    server = one(text, "StatefulSet", "stoker-server")["spec"]["template"]["spec"]["containers"][0]
    env = {variable["name"]: variable.get("value") for variable in server["env"]}

    assert env["STOKER_STORAGE_URL"] == "s3://stoker"
    assert env["STOKER_STORAGE_ENDPOINT"] == "http://stoker-store.stoker-system.svc:9000"
    assert "volumeClaimTemplates" not in one(text, "StatefulSet", "stoker-store")["spec"]
    assert one(text, "NetworkPolicy", "stoker-store")["spec"]["policyTypes"] == ["Ingress"]


def test_with_a_url_it_does_not(render: Render) -> None:
    text = render(EVERYTHING)

    assert "stoker-store" not in text
    assert [found for found in objects(text) if found["kind"] == "Secret"] == []


def operator_env(text: str) -> dict[str, str]:
    container = one(text, "Deployment", "stoker-operator")["spec"]["template"]["spec"]["containers"][0]
    return {variable["name"]: variable.get("value", "") for variable in container["env"]}


REGISTRY_ENV = ("STOKER_REGISTRY_URL", "STOKER_REGISTRY_ADDRESSES", "STOKER_CHECKED_REGISTRIES")
OWN_ADDRESS = "127.0.0.1:5035=stoker-registry.stoker-system.svc:5000"


@pytest.mark.parametrize(
    ("values", "url", "addresses", "checked", "insecure"),
    [
        ({}, "127.0.0.1:5035/stoker", OWN_ADDRESS, "127.0.0.1:5035/stoker", "127.0.0.1:5035"),
        ({"bundledRegistry": {"mode": "Never"}}, "", "", "", ""),
        ({"registry": {"url": "r.example.com/ml"}}, "r.example.com/ml", "", "r.example.com/ml", ""),
        (
            {"registry": {"url": "r.example.com/ml", "inClusterAddress": "r.ml.svc"}, "bundledRegistry": {"mode": "Always"}},
            "r.example.com/ml",
            f"r.example.com=r.ml.svc,{OWN_ADDRESS}",
            "r.example.com/ml,127.0.0.1:5035/stoker",
            "127.0.0.1:5035",
        ),
    ],
    ids=["none configured", "none wanted", "configured", "both"],
)  # fmt: skip
def test_the_operator_knows_each_registry_by_the_nodes_name_and_its_own_address(
    render: Render, values: Values, url: str, addresses: str, checked: str, insecure: str
) -> None:
    env = operator_env(render(values))

    assert [url, addresses, checked] == [env[name] for name in REGISTRY_ENV]
    assert insecure == env["STOKER_INSECURE_REGISTRIES"]


def test_every_node_reaches_the_chart_s_registry_at_its_own_loopback(render: Render) -> None:
    text = render({"bundledRegistry": {"port": 5999}})
    proxy = one(text, "DaemonSet", "stoker-registry-proxy")
    pod = proxy["spec"]["template"]["spec"]

    assert "stoker-privileged" == proxy["metadata"]["namespace"]
    assert (
        "privileged"
        == one(text, "Namespace", "stoker-privileged")["metadata"]["labels"]["pod-security.kubernetes.io/enforce"]
    )
    (container,) = pod["containers"]
    assert ["nodeproxy", "--listen=127.0.0.1:5999", "--to=stoker-registry.stoker-system.svc:5000"] == container["args"]
    assert {"host": "127.0.0.1", "path": "/", "port": 5999} == container["readinessProbe"]["httpGet"]
    assert [{"operator": "Exists"}] == pod["tolerations"]
    assert {"port": 5000, "targetPort": "registry"}.items() <= one(text, "Service", "stoker-registry")["spec"]["ports"][
        0
    ].items()


@pytest.mark.parametrize("values", [{"registry": {"url": "r.example.com/ml"}}, {"bundledRegistry": {"mode": "Never"}}])
def test_without_the_bundled_registry_nothing_is_privileged(render: Render, values: Values) -> None:
    text = render(values)

    assert [] == [
        found["kind"]
        for found in objects(text)
        if found["metadata"]["name"] in ("stoker-registry", "stoker-registry-proxy")
    ]
    assert "stoker-privileged" not in text


def test_the_operator_may_try_registries_in_its_own_namespace_and_nowhere_else(render: Render) -> None:
    text = render({"jobImagePullSecrets": ["pull"], "registry": {"url": "r.example.com/ml", "secretName": "push"}})
    role = one(text, "Role", "stoker-operator-registry-check")

    assert "stoker-system" == role["metadata"]["namespace"]
    assert [
        (["configmaps"], ["stoker-registry-check"], ["get", "patch"]),
        (["pods"], None, ["list", "watch", "create", "delete"]),
        (["secrets"], ["push", "pull"], ["get"]),
    ] == [(rule["resources"], rule.get("resourceNames"), rule["verbs"]) for rule in role["rules"]]
    assert "data" not in one(text, "ConfigMap", "stoker-registry-check")


def test_someone_else_may_make_the_privileged_namespace(render: Render) -> None:
    text = render({"privilegedNamespace": {"create": False}})

    assert "Namespace" not in {found["kind"] for found in objects(text)}
    assert one(text, "DaemonSet", "stoker-registry-proxy")


def test_users_of_the_bundled_registry_come_from_a_secret(render: Render) -> None:
    text = render({"bundledRegistry": {"htpasswdSecret": "users", "persistence": {"enabled": False}}})
    config = yaml.safe_load(one(text, "ConfigMap", "stoker-registry")["data"]["config.yaml"])
    spec = one(text, "StatefulSet", "stoker-registry")["spec"]

    assert {"htpasswd": {"realm": "stoker", "path": "/etc/stoker/htpasswd/htpasswd"}} == config["auth"]
    volumes = {volume["name"]: volume for volume in spec["template"]["spec"]["volumes"]}
    assert "users" == volumes["htpasswd"]["secret"]["secretName"]
    assert {} == volumes["data"]["emptyDir"]
    assert "volumeClaimTemplates" not in spec
    assert "auth" not in yaml.safe_load(one(render(), "ConfigMap", "stoker-registry")["data"]["config.yaml"])


@pytest.mark.parametrize(
    ("values", "said"),
    [
        (
            {"storage": {"endpoint": "http://s3.example.com"}},
            "storage.url is empty but other storage settings are given",
        ),
        ({"storage": {"url": "s3://bucket", "accessKey": "a"}}, "storage.secretKey is empty"),
        (
            {"storage": {"url": "s3://bucket", "accessKey": "a", "secretKey": "b", "existingSecret": "c"}},
            "storage.existingSecret and storage.accessKey are both set",
        ),
        ({"registry": {"inClusterAddress": "registry.ml.svc:5000"}}, "registry.url is empty"),
        (
            {"registry": {"url": "127.0.0.1:5035/ml"}, "bundledRegistry": {"mode": "Always"}},
            "registry.url is the address of the bundled registry",
        ),
        ({"nope": 1}, "additional properties 'nope' not allowed"),
    ],
)
def test_values_that_cannot_be_meant_are_refused_with_the_fix(render: Render, values: Values, said: str) -> None:
    with pytest.raises(Refused, match=re.escape(said)):
        render(values)


def test_without_an_image_the_message_says_how_to_make_one(render: Render) -> None:
    with pytest.raises(Refused, match="make images REGISTRY="):
        render(repository=None)


def test_another_namespace_is_refused(render: Render) -> None:
    with pytest.raises(Refused, match="-n stoker-system --create-namespace"):
        render(namespace="default")


def test_whole_references_are_enough(render: Render) -> None:
    references = {
        target: f"registry.example.com/{target}@sha256:{'1' * 64}"
        for target in ("stoker", "agent", "store", "registry")
    }
    text = render({"image": {"references": references}}, repository=None)

    assert set(re.findall(r"registry\.example\.com/(\w+)@", text)) == set(references)


def buildkit_of(text: str) -> tuple[dict[str, Any], str]:
    """What the operator is told of BuildKit: its settings, and the address."""
    (container,) = one(text, "Deployment", "stoker-operator")["spec"]["template"]["spec"]["containers"]
    told = {variable["name"]: variable.get("value") for variable in container["env"]}
    return json.loads(told["STOKER_BUILDKIT"]), told["STOKER_BUILDKIT_ADDRESS"]


def test_nobody_gets_buildkit_unasked(render: Render) -> None:
    text = render({"registry": {"url": "r.example.com/ml"}})

    assert buildkit_of(text)[0]["enabled"] is False
    assert "stoker-privileged" not in text


@pytest.mark.parametrize(
    ("isolation", "image"),
    [
        ("UserNamespace", "docker.io/moby/buildkit:v0.31.2"),
        ("Rootless", "docker.io/moby/buildkit:v0.31.2-rootless"),
    ],
)
def test_the_operator_makes_buildkit_where_it_is_asked_to(render: Render, isolation: str, image: str) -> None:
    text = render({"registry": {"url": "r.example.com/ml"}, "buildkit": {"enabled": True, "isolation": isolation}})

    assert (image, isolation) == (buildkit_of(text)[0]["image"], buildkit_of(text)[0]["isolation"])
    assert {"StatefulSet", "NetworkPolicy"}.isdisjoint(
        found["kind"] for found in objects(text) if "buildkit" in found["metadata"]["name"]
    )
    rights = one(text, "Role", "stoker-buildkit")
    assert "stoker-privileged" == rights["metadata"]["namespace"]
    assert {"statefulsets", "services", "configmaps", "networkpolicies"} == {
        resource for rule in rights["rules"] for resource in rule["resources"]
    }
    assert (
        "privileged"
        == one(text, "Namespace", "stoker-privileged")["metadata"]["labels"]["pod-security.kubernetes.io/enforce"]
    )


def test_a_buildkit_of_ones_own_gives_no_rights(render: Render) -> None:
    text = render(
        {"registry": {"url": "r.example.com/ml"}, "buildkit": {"enabled": True, "address": "tcp://buildkit.ci:1234"}}
    )

    assert "tcp://buildkit.ci:1234" == buildkit_of(text)[1]
    assert "stoker-privileged" not in text


def test_nodes_are_scrubbed_only_where_it_is_asked_for(render: Render) -> None:
    def told(text: str) -> str:
        (container,) = one(text, "Deployment", "stoker-operator")["spec"]["template"]["spec"]["containers"]
        return next(one["value"] for one in container["env"] if one["name"] == "STOKER_SCRATCH_SCRUB")

    registry = {"registry": {"url": "r.example.com/ml"}}
    without, with_it = render(registry), render({**registry, "scratchScrub": {"enabled": True}})

    assert (told(without), told(with_it)) == ("false", "true")
    assert "stoker-privileged" not in without
    rights = one(with_it, "Role", "stoker-scrub")
    assert "stoker-privileged" == rights["metadata"]["namespace"]
    assert [{"apiGroups": [""], "resources": ["pods"], "verbs": ["list", "watch", "create", "delete"]}] == rights[
        "rules"
    ]
    assert "stoker-operator" == one(with_it, "RoleBinding", "stoker-scrub")["subjects"][0]["name"]
    assert one(with_it, "Namespace", "stoker-privileged")


def operator_rules(render: Render, *providers: str) -> list[tuple[str, str, str]]:
    """(group, resource, verb) that the operator has."""
    text = render({"rbac": {"providers": list(providers)}})
    return [
        (group, resource, verb)
        for role in ("stoker-operator", "stoker-operator-jobs")
        for rule in one(text, "ClusterRole", role)["rules"]
        for group in rule["apiGroups"]
        for resource in rule["resources"]
        for verb in rule["verbs"]
    ]


@pytest.mark.parametrize(
    ("provider", "rights"),
    [
        ("Kwok", {("", "nodes", "create"), ("", "nodes/status", "patch")}),
        ("AWS", set()),
        (
            "ProvisioningRequest",
            {("autoscaling.x-k8s.io", "provisioningrequests", v) for v in ("list", "create", "delete")}
            | {("", "podtemplates", v) for v in ("create", "delete")},
        ),
        ("Karpenter", {("karpenter.sh", "nodeclaims", v) for v in ("get", "list", "create", "patch", "delete")}),
    ],
)
def test_a_provider_has_its_own_rights_only_where_it_is_asked_for(
    render: Render, provider: str, rights: set[tuple[str, str, str]]
) -> None:
    without, granted = operator_rules(render), operator_rules(render, provider)

    if provider != "ProvisioningRequest":  # it owns no nodes
        rights = {*rights, ("", "nodes", "delete")}
    assert not rights & set(without)
    assert rights == set(granted) - set(without)
