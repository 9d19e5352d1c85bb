"""`stoker convert`, and Azure ML's files on a cluster, on an API server that the test plays."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.component.cli.test_cluster_run import World
from tests.component.cli.test_cluster_run import world as world
from tests.support.apiserver import JOBS
from tests.support.azure_goldens import FOLDER
from tests.support.cli import Cli

ENVIRONMENTS = JOBS.replace("trainingjobs", "environments")
WORKSPACE = JOBS.replace("trainingjobs", "workspaces/default")


@pytest.fixture
def examples(cli: Cli) -> Cli:
    shutil.copytree(FOLDER, cli.folder / "examples")
    return cli


def environment(world: World, name: str, created: str) -> None:
    metadata = {"name": name, "creationTimestamp": created}
    world.api.put(f"{ENVIRONMENTS}/{name}", {"metadata": metadata, "spec": {"image": "a:1"}})


def submitted(world: World, text: str, *flags: str) -> dict[str, Any]:
    world.cli.write(job__yml=f"command: python t.py\ncode: .\ncompute: azureml:cpu\n{text}")
    world.cli("job", "create", "-f", "job.yml", *flags)
    created: dict[str, Any] = world.api.created.get(timeout=10)
    return created["spec"]["command"]["environment"]


# -- stoker convert.


def test_convert_prints_a_manifest_and_nothing_else(examples: Cli) -> None:
    done = examples("convert", "examples/two-nodes/job.yml")

    document = yaml.safe_load(done.stdout)
    assert ("TrainingJob", "two-nodes", "gpu-cluster") == (
        document["kind"], document["metadata"]["name"], document["spec"]["compute"],
    )  # fmt: skip
    warned = [line for line in done.stderr.splitlines() if line.startswith("  warning")]
    assert ["services", "identity", "queue_settings.job_tier", "compute", "environment"] == [
        line.split(": ")[1] for line in warned
    ]
    assert (
        f"nothing was sent: before kubectl apply, stoker snapshot {examples.folder}/examples/two-nodes --push"
        in done.stderr
    )


def test_convert_says_the_same_in_every_form(examples: Cli) -> None:
    as_yaml = examples("convert", "examples/compute/cluster.yml", "-o", "yaml").stdout

    assert yaml.safe_load(as_yaml) == examples.json("convert", "examples/compute/cluster.yml")
    assert "ComputeCluster/cpu-cluster\n" == examples("convert", "examples/compute/cluster.yml", "-o", "name").stdout
    assert as_yaml == examples("convert", "examples/compute/cluster.yml").stdout
    assert "team" == examples.json("convert", "examples/literal/job.yml", "-n", "team")["metadata"]["namespace"]


def test_code_stands_in_the_manifest_when_asked(examples: Cli) -> None:
    done = examples("convert", "examples/code-folder/job.yml", "--code", "inline")

    code = yaml.safe_load(done.stdout)["spec"]["command"]["code"]
    assert {"inline": {"say.py": (FOLDER / "code-folder/src/say.py").read_text()}} == code
    assert "nothing was sent" not in done.stderr


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("examples/code-folder/job.yml", "--code", "git"), "--code: git is not supported yet"),
        (("examples/with-component/train.yml",), "is a component, and no job"),
        (("bad.yml",), "bad.yml:2:1: comand: unknown key"),
        (("manifest.yaml",), "manifest.yaml: is a manifest already"),
        (("large/job.yml", "--code", "inline"), "spec.command.code.inline.text.txt: has 300000 characters"),
        (("binary/job.yml", "--code", "inline"), "inline, and model.bin is no UTF-8 text"),
        (("label.yml",), "add azureml/minimal to spec.environmentAliases of the Workspace"),
        (("label.yml", "--workspace", "manifest.yaml"), "is no Workspace"),
    ],
)
def test_what_is_refused_ends_with_2_and_prints_nothing(examples: Cli, arguments: tuple[str, ...], said: str) -> None:
    examples.write(
        bad__yml="command: x\ncomand: y\n",
        label__yml="command: x\nenvironment: azureml://registries/azureml/environments/minimal/labels/latest\n",
        manifest__yaml=yaml.safe_dump({
            "apiVersion": "stoker.dev/v1alpha1", "kind": "TrainingJob", "metadata": {"name": "a"},
            "spec": {"type": "command", "command": {"command": "x", "environment": {"name": "a"}}},
        }),
    )  # fmt: skip
    for folder, file, content in (("large", "text.txt", b"x" * 300_000), ("binary", "model.bin", b"\xff\xfe\x00")):
        Path(examples.folder, folder).mkdir()
        Path(examples.folder, folder, file).write_bytes(content)
        Path(examples.folder, folder, "job.yml").write_text("command: x\ncode: .\nenvironment: {image: 'a:1'}\n")

    done = examples("convert", *arguments, code=2)

    assert said in done.stderr
    assert "" == done.stdout


def test_the_workspaces_own_table_comes_first(examples: Cli) -> None:
    spec = {"environmentAliases": {"azureml/sklearn-1.5": "our-sklearn"}}
    workspace = {
        "apiVersion": "stoker.dev/v1alpha1",
        "kind": "Workspace",
        "metadata": {"name": "default"},
        "spec": spec,
    }
    examples.write(workspace__yaml=yaml.safe_dump(workspace))

    done = examples("convert", "examples/code-folder/job.yml", "--workspace", "workspace.yaml")

    assert {"name": "our-sklearn"} == yaml.safe_load(done.stdout)["spec"]["command"]["environment"]
    assert "warning" not in done.stderr


# -- On a cluster.


@pytest.mark.parametrize(
    ("reference", "expected"),
    [
        ("azureml:base:3", {"name": "base-v3"}),
        ("azureml:base@latest", {"name": "base-v2"}),
        ("azureml:AzureML-sklearn-1.5@latest", {"name": "curated"}),
        ("azureml://registries/azureml/environments/sklearn-1.5/versions/7", {"name": "seventh"}),
        ("azureml://registries/azureml/environments/sklearn-1.5/labels/latest", {"name": "newest"}),
    ],
)
def test_a_reference_is_looked_up_in_the_namespace(world: World, reference: str, expected: dict[str, str]) -> None:
    aliases = {"AzureML-sklearn-1.5": "curated", "azureml/sklearn-1.5:7": "seventh", "azureml/sklearn-1.5": "newest"}
    world.api.put(WORKSPACE, {"metadata": {"name": "default"}, "spec": {"environmentAliases": aliases}})
    environment(world, "base-v2", "2026-01-03T00:00:00Z")
    for name in ("base-v3", "base-vision-v9", "curated", "seventh", "newest"):
        environment(world, name, "2026-01-02T00:00:00Z")

    assert expected == submitted(world, f"environment: {reference}\n")


def test_a_curated_name_without_an_alias_is_made_of_packages(world: World) -> None:
    found = submitted(world, "environment: azureml:AzureML-lightgbm-3.3@latest\n")

    assert "python:3.10-slim" == found["spec"]["image"]
    assert "lightgbm==3.3.*" == found["spec"]["pip"][0]


def test_an_environments_file_is_created(world: World) -> None:
    shutil.copytree(FOLDER / "environments", world.cli.folder / "files")

    dry = world.cli("job", "create", "-f", "files/conda.yml", "--dry-run", "-o", "json")
    assert world.api.created.empty()
    done = world.cli("job", "create", "-f", "files/conda.yml")

    made = world.api.created.get(timeout=10)
    assert f"{ENVIRONMENTS}/with-packages" in world.api.objects
    assert json.loads(dry.stdout)["spec"] == made["spec"]
    assert "with-packages\n" == done.stdout


def test_a_computes_file_is_created(world: World) -> None:
    shutil.copy(FOLDER / "compute/cluster.yml", world.cli.folder)

    found = world.cli.json("run", "cluster.yml")

    assert ("ComputeCluster", "cpu-cluster", "created") == (found["kind"], found["name"], found["result"])
    assert "/apis/stoker.dev/v1alpha1/computeclusters/cpu-cluster" in world.api.objects
