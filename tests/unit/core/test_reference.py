"""Every way to write an image has one normal form."""

import pytest

from stoker.core.reference import BadReference, mirrored, parse

HEX = "0123456789abcdef" * 4


@pytest.mark.parametrize(
    ("text", "normal"),
    [
        ("python", "docker.io/library/python:latest"),
        ("python:3.12", "docker.io/library/python:3.12"),
        ("team/train", "docker.io/team/train:latest"),
        ("docker.io/python", "docker.io/library/python:latest"),
        ("index.docker.io/team/a:1", "docker.io/team/a:1"),
        ("localhost/a", "localhost/a:latest"),
        ("localhost:5000/a/b:t", "localhost:5000/a/b:t"),
        ("10.0.0.1:5000/a:t", "10.0.0.1:5000/a:t"),
        ("[::1]:5000/a", "[::1]:5000/a:latest"),
        ("registry.example.com/team/deep/er/train:v1.2_3-x", "registry.example.com/team/deep/er/train:v1.2_3-x"),
        (f"gcr.io/a/b@sha256:{HEX}", f"gcr.io/a/b@sha256:{HEX}"),
        (f"gcr.io/a/b:1@sha256:{HEX}", f"gcr.io/a/b:1@sha256:{HEX}"),
        ("a__b/c-d.e", "docker.io/a__b/c-d.e:latest"),
        ("  python ", "docker.io/library/python:latest"),
    ],
)
def test_the_normal_form(text: str, normal: str) -> None:
    assert normal == str(parse(text))


@pytest.mark.parametrize(
    ("text", "about"),
    [
        ("", "not a repository"),
        ("Python", "not a repository"),
        ("a b", "not a repository"),
        ("team//train", "not a repository"),
        ("a:", "not a tag"),
        ("a:b:c", "not a tag"),
        ("a@sha256:12", "not a digest"),
        ("a:" + "x" * 129, "not a tag"),
        ("-bad-.example.com/a", "not a registry"),
        ("x" * 256, "not a repository"),
    ],
)
def test_what_names_no_image_is_told_apart(text: str, about: str) -> None:
    with pytest.raises(BadReference, match=about):
        parse(text)


def test_a_digest_decides_over_a_tag() -> None:
    assert parse(f"a:1@sha256:{HEX}").target == f"sha256:{HEX}"


def test_a_pinned_reference_has_no_tag() -> None:
    assert parse("team/a:1").pinned(f"sha256:{HEX}") == f"docker.io/team/a@sha256:{HEX}"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("python:3.11", "mirror.example.com/hub/library/python:3.11"),
        ("quay.io/team/train@sha256:" + "0" * 64, "other.example.com:5000/team/train@sha256:" + "0" * 64),
        ("ghcr.io/team/train:1", "ghcr.io/team/train:1"),
    ],
)
def test_a_mirror_has_a_registry_s_repositories_below_its_path(text: str, expected: str) -> None:
    mirrors = {"docker.io": "mirror.example.com/hub/", "quay.io": "other.example.com:5000"}

    assert expected == str(mirrored(parse(text), mirrors))
