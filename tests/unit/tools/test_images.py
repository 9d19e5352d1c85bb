"""What the images hold, and how they are built."""

import re
import shutil
import tomllib
from pathlib import Path

import pytest

from tools import images


@pytest.fixture(scope="module")
def locked(repository: Path) -> dict[str, str]:
    """Versions of the lock by package."""
    text = (repository / "operator/requirements-operator.txt").read_text()
    return dict(re.findall(r"^([a-z0-9.-]+)==([^ \\;]+)", text, re.MULTILINE))


def test_the_operators_image_lacks_the_kubernetes_package(locked: dict[str, str]) -> None:
    assert "kopf" in locked
    assert "kubernetes" not in locked


def test_the_lock_holds_all_that_pyproject_asks_for(locked: dict[str, str], repository: Path) -> None:
    """A version range that changed in pyproject.toml and not in the lock: run `python tools/images.py lock`."""
    from packaging.requirements import Requirement

    for line in images.requirements(tomllib.loads((repository / "pyproject.toml").read_text())):
        wanted = Requirement(line)
        assert wanted.specifier.contains(locked[wanted.name.lower()]), line


def test_every_package_is_locked_by_hash_and_no_index_is_named(repository: Path) -> None:
    lines = (repository / "operator/requirements-operator.txt").read_text().splitlines()

    assert not [line for line in lines if "://" in line or line.startswith("-")]
    for number, line in enumerate(lines):
        if "==" in line:
            assert "--hash=sha256:" in lines[number + 1]


def test_the_agent_is_made_of_the_runtime_alone() -> None:
    below = [source for source in images.TARGETS["agent"] if source.startswith("stoker")]

    assert below == ["stoker/__init__.py", "stoker/runtime"]


def test_a_hash_changes_with_a_source_and_not_with_what_python_compiled(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(images, "CONTEXT", tmp_path)
    source = tmp_path / "stoker" / "a.py"
    (source.parent / "__pycache__").mkdir(parents=True)
    source.write_text("a = 1\n")
    before = images._hash([tmp_path / "stoker"], ["base"])

    (source.parent / "__pycache__" / "a.pyc").write_bytes(b"x")
    assert images._hash([tmp_path / "stoker"], ["base"]) == before
    assert images._hash([tmp_path / "stoker"], ["other base"]) != before
    source.write_text("a = 2\n")
    assert images._hash([tmp_path / "stoker"], ["base"]) != before


BUILDERS = ("buildkit", "docker", "podman")


def words(tool: str, name: str, how: images.Building) -> list[str]:
    return [word for command in images._commands(tool, name, "r.example.com/x:1", how) for word in command]


@pytest.mark.parametrize(("tool", "pushes"), [("buildkit", "push=true"), ("docker", "--push"), ("podman", "push")])
def test_each_builder_builds_the_target_and_pushes_it(tool: str, pushes: str) -> None:
    said = words(tool, "agent", images.Building(platform="linux/arm64"))

    assert any(word.endswith("target=agent") for word in said)
    assert any("linux/arm64" in word for word in said)
    assert any(pushes in word for word in said)
    assert not any("insecure" in word or "tls-verify" in word for word in said)


@pytest.mark.parametrize("tool", BUILDERS)
def test_an_offline_build_names_its_base_images_and_folders(tool: str, tmp_path: Path) -> None:
    how = images.Building.of({"PYTHON_IMAGE": "own/python:1", "GOLANG_IMAGE": "", "WHEELS": str(tmp_path)})

    said = " ".join(words(tool, "stoker", how))

    assert "PYTHON_IMAGE=own/python:1" in said
    assert "GOLANG_IMAGE" not in said
    assert f"wheels={tmp_path}" in said


@pytest.mark.parametrize(
    ("tool", "option"),
    [("buildkit", "registry.insecure=true"), ("docker", "registry.insecure=true"), ("podman", "--tls-verify=false")],
)
def test_a_registry_without_tls_is_pushed_to_when_asked(tool: str, option: str) -> None:
    how = images.Building.of({"INSECURE_REGISTRY": "1"})

    assert any(option in word for word in words(tool, "store", how))
    assert not images.Building.of({"INSECURE_REGISTRY": "0"}).insecure


@pytest.mark.parametrize("tool", BUILDERS)
def test_the_examples_image_has_a_folder_of_its_own(tool: str, repository: Path) -> None:
    said = words(tool, "example", images.Building())

    assert any(str(repository / "examples" / "iris") in word for word in said)
    assert not any("target=" in word for word in said)


def test_a_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(images.ImageError, match=r"WHEELS=.*is no folder"):
        images.Building.of({"WHEELS": str(tmp_path / "none")})


def test_the_tag_changes_with_the_base_image() -> None:
    plain = images.tag_of_sources(images.Building())

    assert plain == images.tag_of_sources(images.Building(insecure=True))
    assert plain != images.tag_of_sources(images.Building(build_args={"PYTHON_IMAGE": "own/python:1"}))


@pytest.mark.parametrize(("host", "tool"), [("", "docker"), ("tcp://127.0.0.1:1234", "buildkit")])
def test_who_names_a_buildkit_gets_it(host: str, tool: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda name: f"/usr/bin/{name}")
    monkeypatch.setenv("BUILDKIT_HOST", host)

    assert images._builder("auto") == tool


def test_without_a_builder_the_message_names_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda name: None)

    with pytest.raises(images.ImageError, match="docker, podman or buildctl is not on PATH"):
        images._builder("auto")


def test_an_empty_registry_names_the_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert images.main(["build", "--registry", ""]) == 1
    assert "make images REGISTRY=" in capsys.readouterr().err
