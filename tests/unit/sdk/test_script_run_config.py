"""Version 1's job in Python asks for what its run configuration asks for."""

from pathlib import Path

import pytest

from stoker import BadInput, Environment, ScriptRunConfig, load_job
from stoker.azureml.core import Environment as EnvironmentV1
from stoker.azureml.core.runconfig import (
    DockerConfiguration,
    MpiConfiguration,
    PyTorchConfiguration,
    RunConfiguration,
    TensorflowConfiguration,
)


@pytest.fixture
def project(tmp_path: Path) -> Path:
    (tmp_path / "src").mkdir()
    (tmp_path / "src" / "train.py").write_text("print(1)\n")
    (tmp_path / "src" / "conda.yml").write_text("dependencies: [python=3.11]\n")
    return tmp_path


def test_it_is_the_run_of_its_run_configuration(project: Path) -> None:
    (project / "src" / "r.runconfig").write_text(
        "script: train.py\narguments: [--lr, 0.1]\ntarget: cpu\nmaxRunDurationSeconds: 60\n"
    )
    config = ScriptRunConfig("src", "train.py", ["--lr", 0.1], compute_target="cpu", max_run_duration_seconds=60)

    ours, theirs = config.draft(project), load_job("src/r.runconfig").draft(project)

    assert (theirs.spec, theirs.code, theirs.compute) == (ours.spec, ours.code, ours.compute)
    assert "system" == getattr(ours.environment, "kind", "")


@pytest.mark.parametrize(
    ("distributed", "nodes"),
    [
        (MpiConfiguration(1, node_count=1), 1),
        (PyTorchConfiguration(node_count=2, process_count=2), 2),
        (TensorflowConfiguration(worker_count=1, parameter_server_count=0), 1),
    ],
)
def test_nodes_are_of_the_distribution(project: Path, distributed: MpiConfiguration, nodes: int) -> None:
    config = ScriptRunConfig("src", "train.py", distributed_job_config=distributed)

    resources = config.draft(project).spec["command"].get("resources", {})

    assert nodes == resources.get("instanceCount", 1)


def test_a_run_config_is_what_the_rest_stands_on(project: Path) -> None:
    run_config = RunConfiguration(environment="python:3.12", environment_variables={"A": "1"}, target="cpu")
    docker = DockerConfiguration(shm_size="2g")
    config = ScriptRunConfig("src", command="echo hi", run_config=run_config, docker_runtime_config=docker)

    draft = config.draft(project)

    assert draft.environment is not None
    assert ("cpu", "python:3.12", "echo hi") == (draft.compute, draft.environment.image, draft.command)
    assert [{"name": "A", "value": "1"}] == draft.spec["command"]["env"]
    assert "2g" == str(draft.spec["command"]["resources"]["shmSize"]).lower().removesuffix("i")


@pytest.mark.parametrize(
    "environment",
    [
        EnvironmentV1.from_conda_specification("e", "conda.yml"),
        EnvironmentV1.from_docker_image("e", "python:3.12", conda_specification="conda.yml"),
        Environment(conda_file="conda.yml"),
    ],
)
def test_environments_are_made_in_version_1s_ways(project: Path, environment: Environment) -> None:
    draft = ScriptRunConfig("src", "train.py", environment=environment).draft(project)

    assert draft.environment is not None
    assert "3.11.*" == draft.environment.python


@pytest.mark.parametrize(
    ("config", "field"),
    [
        (ScriptRunConfig("nowhere", "train.py"), "source_directory"),
        (ScriptRunConfig("src", "train.py", resume_from="run_1"), "resume_from"),
        (ScriptRunConfig("src", "train.py", compute_target=3), "compute_target"),
    ],
)
def test_what_cannot_be_meant_is_refused_with_its_field(project: Path, config: ScriptRunConfig, field: str) -> None:
    with pytest.raises(BadInput) as told:
        config.draft(project)

    assert field == told.value.field
