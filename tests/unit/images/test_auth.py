"""Which credentials go to which registry."""

import base64
import json
from typing import Any

import pytest

from stoker.images.auth import BadCredentials, Credential, Keyring, from_docker_config, from_secret, parse_challenge


def encoded(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


def keyring(**places: str) -> Keyring:
    auths = {place: {"username": user, "password": "p"} for place, user in places.items()}
    return from_docker_config({"auths": auths}, "test")


def user(ring: Keyring, registry: str, repository: str = "team/train") -> str | None:
    found = ring.find(registry, repository)
    return found.username if found else None


@pytest.mark.parametrize(
    ("address", "registry", "found"),
    [
        ("registry.example.com", "registry.example.com", True),
        ("https://registry.example.com/v2/", "registry.example.com", True),
        ("registry.example.com:5000", "registry.example.com", False),
        ("registry.example.com.evil", "registry.example.com", False),
        ("https://index.docker.io/v1/", "docker.io", True),
        ("*.example.com", "registry.example.com", True),
        ("*.example.com", "a.b.example.com", False),
        ("registry.example.com/team", "registry.example.com", True),
        ("registry.example.com/tea", "registry.example.com", False),
    ],
)
def test_an_address_covers_a_registry(address: str, registry: str, found: bool) -> None:
    assert found == (user(keyring(**{address: "me"}), registry) == "me")


def test_the_longest_match_wins() -> None:
    ring = keyring(**{"r.io": "all", "r.io/team": "team", "r.io/team/train": "one"})

    assert ("all", "team", "one") == (user(ring, "r.io", "x"), user(ring, "r.io", "team/y"), user(ring, "r.io"))


def test_auth_is_user_and_password_in_base64() -> None:
    ring = from_docker_config({"auths": {"r.io": {"auth": encoded("me:pa:ss")}}}, "test")

    assert ring.find("r.io", "a") == Credential("me", "pa:ss")


def test_a_password_is_not_shown() -> None:
    assert "hunter2" not in repr(Credential("me", "hunter2"))


@pytest.mark.parametrize(
    ("secret", "message"),
    [
        ({}, "has no .dockerconfigjson"),
        ({"data": {".dockerconfigjson": "%%%"}}, "not JSON in base64"),
        ({"data": {".dockerconfigjson": encoded("{}")}}, "member `auths`"),
        ({"data": {".dockerconfigjson": encoded(json.dumps({"auths": {"r": {"auth": "%"}}}))}}, "auth is not base64"),
    ],
)
def test_a_secret_that_cannot_be_read_is_named(secret: dict[str, Any], message: str) -> None:
    with pytest.raises(BadCredentials, match=message):
        from_secret(secret, "pull")


def test_an_old_dockercfg_is_understood() -> None:
    content = encoded(json.dumps({"r.io": {"username": "me", "password": "p"}}))

    assert user(from_secret({"data": {".dockercfg": content}}, "pull"), "r.io") == "me"


def test_a_challenge_is_taken_apart() -> None:
    header = 'Bearer realm="https://auth.example/token",service=reg,scope="repository:a/b:pull,push"'

    assert parse_challenge(header) == (
        "bearer",
        {"realm": "https://auth.example/token", "service": "reg", "scope": "repository:a/b:pull,push"},
    )
