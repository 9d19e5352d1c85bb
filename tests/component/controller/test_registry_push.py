"""The test image gets into a real registry, and what keeps it out is told with a cause and a fix."""

import base64
import json
import socket
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from stoker.controller.config import Config
from stoker.controller.pull_secrets import PullSecrets
from stoker.controller.registry_check import CannotPush
from stoker.controller.registry_push import cannot_push, checked, pushing
from stoker.images.errors import Refused
from stoker.images.registry import Registry
from stoker.images.selftest import self_test
from tests.support.fake_api import FakeApi
from tests.support.registries import PASSWORD, USER, RunningRegistry, registry

NAME = "registry.example.com:5000"
URL = f"{NAME}/ml"
SECRET = "/api/v1/namespaces/stoker-system/secrets/push"
CONFIG = Config(
    agent_image="a",
    server_url="s",
    checked_registries=(URL, "127.0.0.1:5035/stoker"),
    registry_addresses={"127.0.0.1:5035": "registry.svc:5000"},
    insecure_registries=frozenset({"127.0.0.1:5035"}),
)


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningRegistry]:
    with registry(tmp_path_factory.mktemp("registry"), password=True) as found:
        yield found


def secret(registry: str) -> dict[str, Any]:
    auths = {"auths": {registry: {"username": USER, "password": PASSWORD}}}
    return {".dockerconfigjson": base64.b64encode(json.dumps(auths).encode()).decode()}


async def push(address: str, *, insecure: bool = True, **secrets: dict[str, Any]) -> str:
    """With the registry under a name that only an address leads to."""
    api = FakeApi()
    await api.start()
    for name, content in secrets.items():
        await api.put(f"/api/v1/namespaces/stoker-system/secrets/{name}", data=content)
    speaks_http = frozenset({NAME}) if insecure else frozenset[str]()
    try:
        async with (
            api.client() as client,
            Registry(insecure=speaks_http, addresses={NAME: address}, user_agent="test/1") as known,
        ):
            reference = await pushing(known, PullSecrets(client), "stoker-system", ("push", "nothing"))(URL)
            for platform in ("linux/amd64", "linux/arm64"):
                keyring = await PullSecrets(client).keyring("stoker-system", tuple(secrets))
                assert (await known.resolve(reference, platform, keyring)).startswith(f"{URL}/stoker-selftest@sha256:")
            return reference
    finally:
        await api.stop()


async def test_it_is_pushed_at_the_address_under_the_name(running: RunningRegistry) -> None:
    """Twice: the second time all of it is there."""
    expected = f"{URL}/stoker-selftest@{self_test().digest}"

    assert expected == await push(running.address, push=secret(NAME))
    assert expected == await push(running.address, push=secret(NAME))


async def test_without_credentials_the_fix_names_the_value(running: RunningRegistry) -> None:
    with pytest.raises(CannotPush, match="401 without credentials") as told:
        await push(running.address)

    assert "PushUnauthorized" == told.value.reason
    assert f"credentials that may push to {NAME}" in told.value.fix
    assert "registry.secretName" in told.value.fix


async def test_http_where_https_was_expected_is_told_so(running: RunningRegistry) -> None:
    with pytest.raises(CannotPush) as told:
        await push(running.address, insecure=False, push=secret(NAME))

    assert ("NoTls", True) == (told.value.reason, "insecureRegistries" in told.value.fix)


async def test_a_registry_that_is_not_there_is_told_so() -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        with pytest.raises(CannotPush) as told:
            await push(f"127.0.0.1:{unused.getsockname()[1]}")

    assert ("RegistryUnreachable", True) == (told.value.reason, "inClusterAddress" in told.value.fix)


async def test_a_secret_that_cannot_be_read_is_named(running: RunningRegistry) -> None:
    with pytest.raises(CannotPush, match="Secret push") as told:
        await push(running.address, push={".dockerconfigjson": "e30K"})

    assert "BadCredentials" == told.value.reason


def test_https_where_http_was_expected_is_told_so() -> None:
    error = cannot_push(NAME, Refused("answered 400: Client sent an HTTP request to an HTTPS server."))

    assert ("SpeaksHttps", f"take {NAME} out of insecureRegistries") == (error.reason, error.fix)


def test_the_chart_s_own_registry_is_known_by_the_nodes_loopback() -> None:
    other, own = checked(CONFIG, ("pull",), "1")

    assert [(URL, False), ("127.0.0.1:5035/stoker", True)] == [(other.url, other.own), (own.url, own.own)]
    moved = checked(replace(CONFIG, registry_addresses={}), ("pull",), "1")
    assert [True, False] == [one.settings == two.settings for one, two in zip((other, own), moved, strict=True)]
