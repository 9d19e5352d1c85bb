"""Look-alikes of Azure ML's examples trained on this machine, as they are."""

import json
import shutil
from pathlib import Path

import pytest

from tests.support.azure_goldens import FOLDER
from tests.support.cli import Cli

LOCAL = ("--compute", "local", "--environment", "system")


@pytest.fixture
def example(cli: Cli) -> Cli:
    """The look-alikes in a folder of the user's."""
    shutil.copytree(FOLDER, cli.folder / "examples")
    return cli


def output(cli: Cli, name: str) -> str:
    cli("pull", "@last", "got")
    return (cli.folder / "got" / name).read_text()


def test_hello_world_needs_no_code(example: Cli) -> None:
    done = example("run", "examples/hello-world/hello.yml", *LOCAL)

    assert "greetings from a job" in done.stdout.splitlines()


def test_variables_reach_the_command(example: Cli) -> None:
    done = example("run", "examples/env-var/job.yml", *LOCAL)

    assert "good morning" in done.stdout.splitlines()
    assert {"RETRIES=3", "VERBOSE=true"} <= set(output(example, "variables.txt").splitlines())


def test_a_folder_of_code_is_where_the_command_runs(example: Cli) -> None:
    done = example("run", "examples/code-folder/job.yml", *LOCAL)

    assert "said" in done.stdout.splitlines()
    assert "said by say.py\n" == output(example, "said.txt")


def test_literals_are_said_as_they_are_written(example: Cli) -> None:
    example("run", "examples/literal/job.yml", *LOCAL)

    assert "--rate 0.10 --steps 12 --shuffle true --type linear\n" == output(example, "arguments.txt")


def test_a_literal_of_the_command_line_goes_before_the_files(example: Cli) -> None:
    example("run", "examples/literal/job.yml", "--set", "inputs.rate=0.2", *LOCAL)

    assert output(example, "arguments.txt").startswith("--rate 0.2 ")


def test_a_file_comes_in_and_a_file_goes_out(example: Cli) -> None:
    done = example("run", "examples/uri-file/job.yml", "--environment", "system")

    assert "length,width,kind" in done.stdout.splitlines()
    warned = [line for line in done.stderr.splitlines() if line.startswith("  warning")]
    assert ["inputs.table.mode", "outputs.copy.mode"] == [line.split(": ")[1] for line in warned]
    pulled = {one["path"]: one for one in example.json("show", "@last")["outputs"]}
    assert 1 == len(pulled)
    assert output(example, next(iter(pulled))) == (FOLDER / "uri-file/flowers.csv").read_text()


def test_a_component_of_a_job_trains(example: Cli) -> None:
    done = example("run", "examples/with-component/job.yml", *LOCAL)

    assert "trained" in done.stdout.splitlines()


def test_a_run_configuration_of_version_1_trains(example: Cli) -> None:
    example("run", "examples/version-1/.azureml/ridge.runconfig", *LOCAL)

    assert "--alpha 0.50 --name two words\n" == output(example, "alpha.txt")


@pytest.fixture(scope="module")
def learner(tmp_path_factory: pytest.TempPathFactory) -> Cli:
    """The look-alikes that learn something, in the environments that their curated names mean: from the package index, and
    made once for all of them."""
    folder = tmp_path_factory.mktemp("learner")
    shutil.copytree(FOLDER, folder / "examples")
    return Cli(folder, tmp_path_factory.mktemp("learner-cache"))


@pytest.mark.parametrize("project", ["sklearn-iris", "lightgbm-iris"])
def test_a_classifier_of_a_curated_environment_learns_here(learner: Cli, project: str) -> None:
    done = learner("run", f"examples/{project}/job.yml", "--compute", "local")

    (line,) = (line for line in done.stdout.splitlines() if line.startswith("accuracy "))
    assert float(line.split()[1]) > 0.8


def test_a_model_goes_into_a_named_output_here(learner: Cli) -> None:
    learner("run", "examples/sklearn-diabetes/job.yml", "--compute", "local")

    learner("pull", "@last", "got")
    assert (learner.folder / "got/model/model.joblib").stat().st_size > 0


def test_every_process_of_pytorch_has_its_rank(example: Cli) -> None:
    done = example("run", "examples/two-nodes/job.yml", *LOCAL)

    assert ["0 2 0", "1 2 0"] == sorted(line[-5:] for line in done.stdout.splitlines() if line.endswith((" 2 0",)))


def test_conda_in_place_is_a_local_environment(conda: Cli) -> None:
    text = (conda.folder / "conda.yaml").read_text()
    (conda.folder / "conda.yaml").unlink()
    inline = "".join(f"    {line}\n" for line in text.splitlines())
    conda.write(
        job__yml=f"code: .\ncommand: python train.py\nenvironment:\n  image: python:3.11\n  conda_file:\n{inline}"
    )

    done = conda("run", "job.yml")

    assert done.stdout.splitlines()[-1].startswith("2.0 42 ")


def test_the_record_of_a_refused_file_is_nothing(example: Cli) -> None:
    Path(example.folder, "pipeline.yml").write_text("type: pipeline\njobs: {}\n")

    done = example("run", "pipeline.yml", "-o", "json", code=2)

    assert "" == done.stdout
    assert done.stderr.startswith('stoker: pipeline.yml:1:1: type: "pipeline": pipelines are not supported yet; ')
    assert [] == example.json("ls")


def test_a_converted_manifest_with_its_code_trains(example: Cli) -> None:
    written = example("convert", "examples/literal/job.yml", "--code", "inline").stdout
    example.write(trainingjob__yaml=written)

    example("run", "trainingjob.yaml", *LOCAL)

    assert output(example, "arguments.txt").startswith("--rate 0.10 ")
    assert json.loads(example("convert", "examples/literal/job.yml", "-o", "json").stdout)["kind"] == "TrainingJob"
