"""What the environment says becomes the operator's settings."""

import json

import pytest

from stoker.controller.config import ConfigError, read_config
from stoker.core.environment.buildkit import Daemons

LEAST = {"STOKER_AGENT_IMAGE": "r.io/agent:1", "STOKER_SERVER_URL": "http://server:8080"}


def test_lists_are_split_and_blanks_dropped() -> None:
    config = read_config([], LEAST | {"STOKER_JOB_NAMESPACES": "a, b,,", "STOKER_INSECURE_REGISTRIES": "h:5000"})

    assert (("a", "b"), frozenset({"h:5000"})) == (config.job_namespaces, config.insecure_registries)


def test_no_namespaces_means_all() -> None:
    assert read_config([], LEAST | {"STOKER_JOB_NAMESPACES": ""}).job_namespaces == ()


def test_a_storage_url_has_no_slash_at_its_end() -> None:
    assert read_config([], LEAST | {"STOKER_STORAGE_URL": "s3://runs/a/"}).storage_url == "s3://runs/a"


@pytest.mark.parametrize("name", sorted(LEAST))
def test_what_must_be_set_is_named(name: str) -> None:
    with pytest.raises(ConfigError, match=f"{name} is not set"):
        read_config([], {key: value for key, value in LEAST.items() if key != name})


def test_a_number_that_is_none_is_named() -> None:
    with pytest.raises(ConfigError, match="STOKER_DEFAULT_TIMEOUT_SECONDS='1h' is not a whole number"):
        read_config([], LEAST | {"STOKER_DEFAULT_TIMEOUT_SECONDS": "1h"})


def test_registries_may_have_another_address_inside_the_cluster() -> None:
    config = read_config(
        [],
        LEAST
        | {
            "STOKER_REGISTRY_URL": "127.0.0.1:5035/stoker/",
            "STOKER_REGISTRY_ADDRESSES": "127.0.0.1:5035=registry.svc:5000, r.io=r.svc",
            "STOKER_CHECKED_REGISTRIES": "127.0.0.1:5035/stoker",
        },
    )

    assert "127.0.0.1:5035/stoker" == config.registry_url
    assert {"127.0.0.1:5035": "registry.svc:5000", "r.io": "r.svc"} == config.registry_addresses
    assert ("127.0.0.1:5035/stoker",) == config.checked_registries


@pytest.mark.parametrize("text", ["r.io", "r.io=", "=r.svc"])
def test_half_an_address_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match=r"STOKER_REGISTRY_ADDRESSES: .* is not host=address"):
        read_config([], LEAST | {"STOKER_REGISTRY_ADDRESSES": text})


def test_buildkit_is_as_the_chart_says() -> None:
    told = {
        "enabled": True, "idleSeconds": 30, "image": "r/b:1", "isolation": "Rootless", "pullSecrets": ["p"],
        "storage": {"size": "1Gi", "storageClassName": "fast"}, "resources": {"limits": {"cpu": 2}},
        "nodeSelector": {"a": "b"}, "tolerations": [{"key": "k", "tolerationSeconds": 3}],
    }  # fmt: skip
    env = {
        "STOKER_BUILDKIT": json.dumps(told),
        "STOKER_INSECURE_REGISTRIES": "a:1,b:2",
        "STOKER_REGISTRY_ADDRESSES": "b:2=b.svc:5000",
    }

    found = read_config([], {**LEAST, **env}).buildkit

    assert found == Daemons(
        enabled=True, idle_seconds=30, image="r/b:1", isolation="Rootless", size="1Gi", storage_class="fast",
        resources={"limits": {"cpu": "2"}}, pull_secrets=("p",), node_selector={"a": "b"},
        tolerations=({"key": "k", "tolerationSeconds": 3},), registries={"a:1": ("", True), "b:2": ("b.svc:5000", True)},
    )  # fmt: skip
    assert found.made


def test_a_buildkit_of_ones_own_is_not_made() -> None:
    env = {"STOKER_BUILDKIT": '{"enabled": true, "image": "x"}', "STOKER_BUILDKIT_ADDRESS": "tcp://b:1"}

    found = read_config([], {**LEAST, **env}).buildkit

    assert ("tcp://b:1", False) == (found.address, found.made)
    assert read_config([], LEAST).buildkit == Daemons()


@pytest.mark.parametrize("text", ["[", '{"isolation": "None"}', '{"nope": 1}', '{"enabled": true}'])
def test_buildkit_that_cannot_be_read_is_named(text: str) -> None:
    with pytest.raises(ConfigError, match="STOKER_BUILDKIT"):
        read_config([], {**LEAST, "STOKER_BUILDKIT": text})
