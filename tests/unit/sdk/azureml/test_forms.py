"""Forms in which real files of Azure ML say things, each read to what it means."""

from pathlib import Path
from typing import Any

import pytest

from stoker.sdk import ask
from stoker.sdk.azureml import labels, sizes
from stoker.sdk.azureml.labels import NOBODY_ASKED, Label, resolved
from stoker.sdk.draft import Draft, LocalInput


@pytest.fixture
def project(tmp_path: Path) -> Path:
    for name in ("train.py", "data/x.csv", "src/fit.py"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("1\n")
    (tmp_path / "conda.yml").write_text("dependencies: [python=3.11]\n")
    return tmp_path


def read(
    project: Path, text: str, *, name: str = "job.yml", front: str = "command: python train.py\ncode: .\n"
) -> Draft:
    (project / name).write_text(front + text)
    return ask.ask(project / name, (), ask.Flags(), project)


def test_a_schema_of_another_host_and_form_is_a_hint_only(project: Path) -> None:
    for schema in (
        "https://azuremlschemas.azureedge.net/latest/commandJob.schema.json",
        "http://azureml/sdk-2-0/CommandJob.json",
        "https://example.com/COMMANDJOB.SCHEMA.JSON#",
    ):
        assert () == read(project, f"$schema: {schema}\n").warnings


@pytest.mark.parametrize("code", [".", "./", "src", "file:src", "./src/"])
def test_a_code_folder_in_its_forms(project: Path, code: str) -> None:
    draft = read(project, "", front=f"command: x\ncode: {code}\n")

    assert draft.code == (project / ("src" if "src" in code else "")).resolve()


def test_code_may_be_one_file(project: Path) -> None:
    assert (project / "train.py").resolve() == read(project, "", front="command: x\ncode: train.py\n").code


@pytest.mark.parametrize(
    ("written", "expected"),
    [("0.10", "0.10"), ("1e-3", "1e-3"), ("12", "12"), ("true", "true"), ("'true'", "true"), ("yes", "yes"), ("off", "off"), ("'off'", "off"), ("a b", "a b"), ("1_000", "1_000"), ("007", "007")],
)  # fmt: skip
def test_a_literal_is_the_text_that_is_written(project: Path, written: str, expected: str) -> None:
    assert {"x": {"value": expected}} == read(project, f"inputs: {{x: {written}}}\n").spec["inputs"]


def test_an_input_named_type_is_a_literal(project: Path) -> None:
    draft = read(project, "inputs: {type: uri_folder}\n")

    assert {"type": {"value": "uri_folder"}} == draft.spec["inputs"]


@pytest.mark.parametrize(
    ("lines", "kind", "warned"),
    [
        ("path: data", "uri_folder", ""),
        ("path: data/x.csv", "uri_file", "uri_folder, which a missing type means, but data/x.csv is a file"),
        (
            "{type: uri_folder, path: data/x.csv}",
            "uri_file",
            '"uri_folder", but data/x.csv is a file: taken as uri_file',
        ),
        ("{type: URI_File, path: data/x.csv}", "uri_file", ""),
        ("{type: custom_model, path: data}", "uri_folder", ""),
        ("{type: custom_model, path: data/x.csv}", "uri_file", ""),
        ("{type: mlflow_model, path: 'file:data'}", "uri_folder", ""),
        ("{type: path, path: data}", "uri_folder", "early files"),
    ],
)
def test_local_data_is_what_its_path_is(project: Path, lines: str, kind: str, warned: str) -> None:
    draft = read(project, f"inputs:\n  d:\n    {lines}\n")

    assert {
        "d": LocalInput((project / ("data/x.csv" if "x.csv" in lines else "data")).resolve(), kind)
    } == draft.local_inputs
    assert (1 if warned else 0) == len(draft.warnings)
    assert warned in "".join(draft.warnings)


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        ("{path: 's3://b/x/'}", {"type": "uri_folder", "path": "s3://b/x/", "mode": "download"}),
        ("{path: 'azureml:s3://b/x.csv', type: uri_file}", {"type": "uri_file", "path": "s3://b/x.csv", "mode": "download"}),
        ("{path: 's3://b/m.pkl', type: custom_model}", {"type": "uri_file", "path": "s3://b/m.pkl", "mode": "download"}),
        ("{path: 's3://b/m/', type: custom_model}", {"type": "uri_folder", "path": "s3://b/m/", "mode": "download"}),
        ("{path: 'https://e.com/x.csv', type: uri_file, mode: direct}", {"value": "https://e.com/x.csv"}),
        ("{path: 'azureml:https://e.com/x.csv', mode: Direct}", {"value": "https://e.com/x.csv"}),
        ("{path: 'wasbs://c@a.blob.core.windows.net/x', mode: direct}", {"value": "wasbs://c@a.blob.core.windows.net/x"}),
    ],
)  # fmt: skip
def test_data_elsewhere_is_its_url(project: Path, lines: str, expected: dict[str, str]) -> None:
    assert {"d": expected} == read(project, f"inputs: {{d: {lines}}}\n").spec["inputs"]


@pytest.mark.parametrize(
    ("lines", "expected"),
    [("", "uri_folder"), ("{}", "uri_folder"), ("{type: uri_file}", "uri_file"), ("{type: mlflow_model}", "uri_folder"), ("{mode: rw_mount}", "uri_folder"), ("{type: URI_FILE, mode: Upload}", "uri_file")],
)  # fmt: skip
def test_an_output_in_its_forms(project: Path, lines: str, expected: str) -> None:
    assert {"m": {"type": expected, "mode": "upload"}} == read(project, f"outputs:\n  m: {lines}\n").spec["outputs"]


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        ("", None), ("compute: local\n", "local"), ("compute: cpu-cluster\n", "cpu-cluster"), ("compute: azureml:cpu-cluster\n", "cpu-cluster"),
        ("compute: azureml:serverless\n", "serverless"), ("compute: serverless\n", "serverless"), ("compute: azureml:Big_Pool\n", "big-pool"),
        ("compute: azureml:/subscriptions/s/resourceGroups/r/providers/p/workspaces/w/computes/cpu\n", "cpu"),
    ],
)  # fmt: skip
def test_a_compute_in_its_forms(project: Path, lines: str, expected: str | None) -> None:
    assert expected == read(project, lines).compute


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("azureml:base:3", Label("", "base", "3")),
        ("azureml:base@latest", Label("", "base", "")),
        ("azureml:AzureML-sklearn-1.0-ubuntu20.04-py38-cpu:44", Label("", "AzureML-sklearn-1.0-ubuntu20.04-py38-cpu", "44")),
        ("AzureML-sklearn-1.5", Label("", "AzureML-sklearn-1.5", "")),
        ("azureml://registries/azureml/environments/sklearn-1.5/labels/latest", Label("azureml", "sklearn-1.5", "")),
        ("azureml://registries/ours/environments/base/versions/0.2.1", Label("ours", "base", "0.2.1")),
        ("azureml:/subscriptions/s/resourceGroups/r/providers/p/workspaces/w/environments/base/versions/2", Label("", "base", "2")),
    ],
)  # fmt: skip
def test_a_reference_to_an_environment_in_its_forms(project: Path, text: str, expected: Label) -> None:
    asked = read(project, f"environment: {text}\n").environment

    assert asked is not None
    assert ("label", text) == (asked.kind, asked.name)
    assert expected == labels.parse(text)


@pytest.mark.parametrize(
    ("name", "image", "package"),
    [
        ("sklearn-1.5", "python:3.10-slim", "scikit-learn==1.5.*"),
        ("AzureML-sklearn-1.0-ubuntu20.04-py38-cpu", "python:3.8-slim", "scikit-learn==1.0.*"),
        ("AzureML-acpt-pytorch-1.13-py38-cuda11.7-gpu", "python:3.8-slim", "torch==1.13.*"),
        ("AzureML-pytorch-1.10-ubuntu18.04-py38-cuda11-gpu", "python:3.8-slim", "torch==1.10.*"),
        ("AzureML-ACPT-pytorch-2.2-cuda12.1", "python:3.10-slim", "torch==2.2.*"),
        ("AzureML-lightgbm-3.2-ubuntu18.04-py37-cpu", "python:3.7-slim", "lightgbm==3.2.*"),
    ],
)
def test_a_curated_name_is_an_image_and_packages(project: Path, name: str, image: str, package: str) -> None:
    registry = f"azureml://registries/azureml/environments/{name}/labels/latest"

    asked, told = resolved(read(project, f"environment: {registry}\n").environment, NOBODY_ASKED)

    assert asked is not None
    assert (image, package) == (asked.spec["image"], asked.spec["pip"][0])
    assert [f"job.yml:3: environment: {registry} is taken as {image} with {package}"] == [
        line.partition(" and ")[0] for line in told
    ]


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        ("image: 'a:1'", {"image": "a:1"}),
        ("{image: 'a:1', conda_file: conda.yml}", {"image": "a:1", "conda": {"dependencies": ["python=3.11"]}}),
        ("{image: 'a:1', conda_file: ./conda.yml}", {"image": "a:1", "conda": {"dependencies": ["python=3.11"]}}),
        ("{image: 'a:1', conda_file: {name: x, dependencies: [pip]}}", {"image": "a:1", "conda": {"dependencies": ["pip"]}}),
        ("{name: x, version: 1, image: 'a:1'}", {"image": "a:1"}),
    ],
)  # fmt: skip
def test_an_environment_in_place_in_its_forms(project: Path, lines: str, expected: dict[str, Any]) -> None:
    asked = read(project, f"environment:\n  {lines}\n").environment

    assert asked is not None
    assert expected == asked.spec


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        ("resources: {instance_count: 2}", {"instanceCount": 2}),
        ("resources: {instance_type: STANDARD_NC4AS_T4_V3}", {"instanceType": "Standard_NC4as_T4_v3"}),
        ("resources: {instance_type: g5.xlarge}", {"instanceType": "g5.xlarge"}),
        ("resources: {shm_size: 512m}", {"shmSize": "512Mi"}),
        ("resources: {shm_size: 2G}", {"shmSize": "2Gi"}),
        ("resources: {shm_size: 1048576b}", {"shmSize": "1048576"}),
    ],
)
def test_resources_in_their_forms(project: Path, lines: str, expected: dict[str, Any]) -> None:
    assert expected == read(project, f"{lines}\n").spec["command"]["resources"]


def test_commands_keep_their_folds_blanks_and_ampersands(project: Path) -> None:
    draft = read(project, "", front="command: >-\n  echo a  b &&\n  python train.py & wait\n")

    assert "echo a  b && python train.py & wait" == draft.command


def test_a_file_may_be_json(project: Path) -> None:
    draft = read(
        project, '{"command": "python train.py", "code": ".", "inputs": {"lr": 0.10}}', name="job.json", front=""
    )

    assert {"lr": {"value": "0.10"}} == draft.spec["inputs"]


def test_optional_parts_of_a_components_command_stay_where_their_inputs_have_values(project: Path) -> None:
    (project / "c.yml").write_text(
        "inputs: {a: {type: string, optional: true}, b: {type: string, optional: true}}\n"
        "command: x $[[--a ${{inputs.a}}]] $[[--b ${{ inputs.b }}]] $[[--both ${{inputs.a}} ${{inputs.b}}]]\n"
    )

    assert "x --a ${{inputs.a}}" == " ".join(
        read(project, "inputs: {a: 1}\n", front="component: c.yml\n").command.split()
    )
    assert "x" == read(project, "", front="component: c.yml\n").command.strip()


def test_a_components_paths_are_relative_to_itself(project: Path) -> None:
    (project / "parts").mkdir()
    (project / "parts/code").mkdir()
    (project / "parts/code/a.py").write_text("")
    (project / "parts/packages.yml").write_text("dependencies: [pip]\n")
    (project / "parts/c.yml").write_text(
        "command: python a.py\ncode: ./code\nenvironment: {image: 'a:1', conda_file: packages.yml}\n"
    )

    draft = read(project, "", front="component: ./parts/c.yml\n")

    assert (project / "parts/code").resolve() == draft.code
    assert draft.environment is not None
    assert {"image": "a:1", "conda": {"dependencies": ["pip"]}} == draft.environment.spec


def test_a_job_goes_before_its_component(project: Path) -> None:
    (project / "c.yml").write_text("command: x\nenvironment: {image: 'a:1'}\nresources: {instance_count: 3}\n")

    draft = read(project, "environment: {image: 'a:2'}\nresources: {instance_count: 1}\n", front="component: c.yml\n")

    assert draft.environment is not None
    assert ("a:2", 1) == (draft.environment.image, draft.spec["command"]["resources"]["instanceCount"])


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("Standard_DS3_v2", ("Standard_DS3_v2", {"cpu": "3740m", "memory": "11468Mi"})),
        ("STANDARD_D4S_V3", ("Standard_D4s_v3", {"cpu": "3740m", "memory": "13107Mi"})),
        ("Standard_E8ds_v5", ("Standard_E8ds_v5", {"cpu": "7740m", "memory": "52428Mi"})),
        ("standard_nc24ads_a100_v4", ("Standard_NC24ads_A100_v4", {"cpu": "23740m", "memory": "180224Mi", "nvidia.com/gpu": "1"})),
    ],
)  # fmt: skip
def test_a_size_in_any_letters_is_what_its_nodes_offer(name: str, expected: tuple[str, dict[str, str]]) -> None:
    size = sizes.known(name)

    assert size is not None
    assert expected == (sizes.canonical(name), sizes.offered(size))


def test_version_1_with_the_users_own_python_is_this_python(project: Path) -> None:
    text = "script: train.py\nenvironment: {python: {userManagedDependencies: true, interpreterPath: python3}}\n"

    draft = read(project, text, name="local.runconfig", front="")

    assert draft.environment is not None
    assert ("local", "system", "python3 train.py") == (draft.compute, draft.environment.kind, draft.command)


def test_version_1_says_processes_of_all_nodes(project: Path) -> None:
    text = "script: train.py\nframework: PyTorch\nnodeCount: 2\npytorch: {processCount: 2}\ntarget: gpu\n"

    draft = read(project, text, name="a.runconfig", front="")

    assert 2 == draft.spec["command"]["resources"]["instanceCount"]
    assert {"type": "pytorch", "processCountPerInstance": 1} == draft.spec["command"]["distribution"]
