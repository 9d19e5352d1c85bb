"""When a namespace's BuildKit runs, where it is reached, and what it is made of."""

import json
import tomllib
from typing import Any

import pytest

from stoker.core.environment import buildkit
from stoker.core.environment.buildkit import Daemons, Need, address, configuration, name, objects, replicas, sleeps_at

ON = Daemons(enabled=True, idle_seconds=600, image="registry.example.com/buildkit:1")


@pytest.mark.parametrize(
    ("daemons", "given", "expected"),
    [
        (Daemons(), "", ""),
        (ON, "", "tcp://buildkit-team.stoker-privileged.svc:1234"),
        (ON, "tcp://mine:1", "tcp://mine:1"),
        (Daemons(enabled=True, address="tcp://ours:2"), "", "tcp://ours:2"),
        (Daemons(address="tcp://ours:2"), "tcp://mine:1", "tcp://mine:1"),
    ],
)
def test_where_a_namespace_finds_buildkit(daemons: Daemons, given: str, expected: str) -> None:
    assert expected == address("team", daemons, given)


@pytest.mark.parametrize(
    ("need", "now", "expected"),
    [
        (Need(1), 1000.0, 1),
        (Need(0, 1000.0), 1000.0, 1),
        (Need(0, 1000.0), 1599.9, 1),
        (Need(0, 1000.0), 1600.0, 0),
        (Need(2, 1000.0), 9999.0, 1),
    ],
)
def test_a_daemon_sleeps_when_no_build_has_needed_it_for_a_while(need: Need, now: float, expected: int) -> None:
    assert expected == replicas(need, ON, now)


def test_when_it_may_sleep() -> None:
    assert sleeps_at(Need(1), ON) is None
    assert sleeps_at(Need(0, 10.0), ON) == 610.0


def test_names_fit_and_differ() -> None:
    long, other = "n" * 62 + "a", "n" * 62 + "b"

    assert "buildkit-team" == name("team")
    assert name(long) != name(other)
    # A pod's label holds the name, a dash and ten more characters.
    assert len(name(long)) <= 52


def kinds(daemons: Daemons = ON, count: int = 1) -> dict[str, Any]:
    return {one["kind"]: one for one in objects("team", daemons, count)}


def test_everything_is_named_and_labelled_for_its_namespace() -> None:
    made = kinds()

    assert ["ConfigMap", "Service", "NetworkPolicy", "StatefulSet"] == list(made)
    for one in made.values():
        assert ("buildkit-team", "stoker-privileged") == (one["metadata"]["name"], one["metadata"]["namespace"])
        assert "team" == one["metadata"]["labels"]["stoker.dev/buildkit-for"]


def test_only_builds_of_the_namespace_reach_it() -> None:
    (rule,) = kinds()["NetworkPolicy"]["spec"]["ingress"]

    assert [
        {
            "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "team"}},
            "podSelector": {"matchExpressions": [{"key": "stoker.dev/environment-build", "operator": "Exists"}]},
        }
    ] == rule["from"]
    assert [{"protocol": "TCP", "port": 1234}] == rule["ports"]


def test_no_step_reaches_the_clouds_metadata() -> None:
    (rule,) = kinds()["NetworkPolicy"]["spec"]["egress"]

    assert ["169.254.169.254/32"] == rule["to"][0]["ipBlock"]["except"]


def pod(daemons: Daemons) -> dict[str, Any]:
    found: dict[str, Any] = kinds(daemons)["StatefulSet"]["spec"]["template"]["spec"]
    return found


def test_isolation_is_as_chosen() -> None:
    spaces = pod(ON)
    rootless = pod(Daemons(enabled=True, isolation="Rootless"))
    privileged = pod(Daemons(enabled=True, isolation="Privileged"))

    assert spaces["hostUsers"] is False
    assert {"privileged": True} == spaces["containers"][0]["securityContext"]
    assert "hostUsers" not in privileged
    assert "privileged" not in rootless["containers"][0]["securityContext"]
    assert 1000 == rootless["containers"][0]["securityContext"]["runAsUser"]
    assert "hostUsers" not in rootless


def test_a_pod_that_cannot_start_is_replaced_when_its_settings_are_mended() -> None:
    assert "Parallel" == kinds()["StatefulSet"]["spec"]["podManagementPolicy"]


def test_the_cache_is_on_a_claim_where_it_has_a_size() -> None:
    claimed = kinds(Daemons(enabled=True, size="50Gi", storage_class="fast"))["StatefulSet"]["spec"]

    assert "50Gi" == claimed["volumeClaimTemplates"][0]["spec"]["resources"]["requests"]["storage"]
    assert "fast" == claimed["volumeClaimTemplates"][0]["spec"]["storageClassName"]
    assert ["config"] == [volume["name"] for volume in claimed["template"]["spec"]["volumes"]]
    assert {"name": "state", "emptyDir": {}} in pod(ON)["volumes"]


@pytest.mark.parametrize("isolation", ["UserNamespace", "Rootless", "Privileged"])
def test_the_configuration_is_whole(isolation: buildkit.Isolation) -> None:
    daemons = Daemons(
        enabled=True,
        isolation=isolation,
        registries={"plain:5000": ("", True), "127.0.0.1:5035": ("stoker-registry.stoker-system.svc:5000", True)},
    )
    config = tomllib.loads(configuration(daemons))

    assert config["frontend"]["gateway.v0"]["enabled"] is False
    assert {"all", "reservedSpace", "maxUsedSpace", "minFreeSpace"} == set(config["worker"]["oci"]["gcpolicy"][0])
    assert {"http": True, "insecure": True} == config["registry"]["plain:5000"]
    assert ["stoker-registry.stoker-system.svc:5000"] == config["registry"]["127.0.0.1:5035"]["mirrors"]
    assert config["registry"]["stoker-registry.stoker-system.svc:5000"]["http"] is True
    assert (isolation == "Rootless") == config["worker"]["oci"].get("noProcessSandbox", False)


def test_another_configuration_starts_the_daemon_anew() -> None:
    def mark(daemons: Daemons) -> str:
        return str(kinds(daemons)["StatefulSet"]["spec"]["template"]["metadata"]["annotations"]["stoker.dev/config"])

    assert mark(ON) != mark(Daemons(enabled=True, registries={"a:1": ("", True)}))
    assert mark(ON) == mark(Daemons(enabled=True, idle_seconds=1))


def test_the_same_settings_make_the_same_objects() -> None:
    assert json.dumps(objects("team", ON, 1)) == json.dumps(objects("team", ON, 1))
