"""Jobs that are made in Python ask for what their files ask for."""

from pathlib import Path
from typing import Any

import pytest

from stoker import (
    BadInput,
    BadInputs,
    Command,
    Environment,
    Input,
    MpiDistribution,
    Output,
    PyTorchDistribution,
    TensorFlowDistribution,
    command,
    load_job,
)
from stoker.core.yaml12 import Document, parse
from stoker.sdk import AmlCompute, BuildContext, ComputeCluster, JobResourceConfiguration, ask, manifest
from stoker.sdk.azureml import compute, environment, kinds
from stoker.sdk.draft import Draft
from stoker.sdk.prepare import prepare
from tests.support import azure_goldens


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with code and data; the current one."""
    for path, text in {
        "src/train.py": "print(1)\n", "data/a.csv": "1\n", "data/b.csv": "2\n", "conda.yaml": "dependencies: [python=3.11]\n",
        "docker/Dockerfile": "FROM python:3.12\nRUN true\n", "requirements.txt": "tqdm==4.66.1\n",
    }.items():  # fmt: skip
        (tmp_path / path).parent.mkdir(exist_ok=True)
        (tmp_path / path).write_text(text)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def written(draft: Draft) -> dict[str, Any]:
    """The TrainingJob of a draft."""
    prepared = prepare(draft, with_inputs=True)
    digests = {name: tree.digest for name, tree in prepared.inputs.items()}
    found: dict[str, Any] = manifest.plain_data(
        manifest.write(prepared.draft, draft.name or "job", None, prepared.snapshot, digests)
    )
    return found


_FRONT = {"command": "python train.py", "environment": "python:3.12", "compute": "cpu"}
#: (what command() is given beyond that, what its file says beyond that)
FORMS: dict[str, tuple[dict[str, Any], str]] = {
    "literals": (
        {"inputs": {"lr": 0.1, "epochs": 3, "flag": True, "text": "a b"}},
        "inputs: {lr: 0.1, epochs: 3, flag: true, text: a b}",
    ),
    "typed literals": ({"inputs": {"lr": Input(type="number", default=0.1)}}, "inputs: {lr: 0.1}"),
    "code": ({"code": "./src"}, "code: ./src"),
    "code as a Path": ({"code": Path("src")}, "code: src"),
    "folder": ({"inputs": {"d": Input(type="uri_folder", path="data")}}, "inputs: {d: {type: uri_folder, path: data}}"),
    "file": ({"inputs": {"d": Input(type="uri_file", path=Path("data/a.csv"))}}, "inputs: {d: {type: uri_file, path: data/a.csv}}"),
    "bucket and mode": (
        {"inputs": {"d": Input(path="s3://b/x/", mode="download")}}, "inputs: {d: {path: 's3://b/x/', mode: download}}",
    ),
    "text of a URL": (
        {"inputs": {"d": Input(path="https://a/b", mode="direct")}}, "inputs: {d: {path: 'https://a/b', mode: direct}}",
    ),
    "a secret": (
        {"inputs": {"t": {"secret_ref": {"name": "s", "key": "k"}}}}, "inputs: {t: {secret_ref: {name: s, key: k}}}",
    ),
    "outputs": (
        {"outputs": {"m": Output(type="uri_file", mode="upload"), "n": None, "o": Output()}},
        "outputs: {m: {type: uri_file, mode: upload}, n: , o: {}}",
    ),
    "places": (
        {"instance_count": 2, "instance_type": "g5", "shm_size": "2g", "timeout": 60, "priority": "high"},
        "resources: {instance_count: 2, instance_type: g5, shm_size: 2g}\nlimits: {timeout: 60}\nqueue_settings: {priority: high}",
    ),
    "resources whole": (
        {"resources": {"instance_count": 2, "requests": {"cpu": 1}}, "limits": {"timeout": "2h"}},
        "resources: {instance_count: 2, requests: {cpu: 1}}\nlimits: {timeout: 2h}",
    ),
    "names": (
        {"name": "n-1", "display_name": "D", "experiment_name": "e", "description": "w", "tags": {"a": "b"}},
        "name: n-1\ndisplay_name: D\nexperiment_name: e\ndescription: w\ntags: {a: b}",
    ),
    "variables": ({"environment_variables": {"A": "1"}}, "environment_variables: {A: '1'}"),
    "pytorch": (
        {"distribution": PyTorchDistribution(), "instance_count": 2}, "distribution: {type: pytorch}\nresources: {instance_count: 2}",
    ),
    "mpi": ({"distribution": MpiDistribution(process_count_per_instance=1)}, "distribution: {type: mpi, process_count_per_instance: 1}"),
    "tensorflow": ({"distribution": TensorFlowDistribution(worker_count=1)}, "distribution: {type: tensorflow, worker_count: 1}"),
    "distribution as a mapping": ({"distribution": {"type": "pytorch"}}, "distribution: {type: pytorch}"),
    "image and conda file": (
        {"environment": Environment(image="python:3.12", conda_file="conda.yaml")},
        "environment: {image: 'python:3.12', conda_file: conda.yaml}",
    ),
    "conda in place": (
        {"environment": Environment(image="a:1", conda_file={"dependencies": ["python=3.11"]}, name="e", version="1")},
        "environment: {image: 'a:1', conda_file: {dependencies: [python=3.11]}, name: e, version: 1}",
    ),
    "pip": ({"environment": Environment(image="a:1", pip=["tqdm==4.66.1"])}, "environment: {image: 'a:1', pip: [tqdm==4.66.1]}"),
    "build": ({"environment": Environment(build=BuildContext(path="docker"))}, "environment: {build: {path: docker}}"),
    "an Environment by its name": ({"environment": "torch"}, "environment: torch"),
}  # fmt: skip


@pytest.mark.parametrize("form", FORMS)
def test_a_job_in_python_is_the_training_job_of_its_file(form: str, project: Path) -> None:
    given, text = FORMS[form]
    keys = {"environment": "python:3.12", "command": "python train.py", "compute": "cpu"}
    front = "".join(f"{key}: {value}\n" for key, value in keys.items() if not text.startswith(f"{key}:"))
    (project / "job.yaml").write_text(front + text + "\n")

    assert written(load_job("job.yaml").draft(project)) == written(command(**(_FRONT | given)).draft(project))


def _jobs() -> list[str]:
    """Look-alikes of Azure ML's examples that are command jobs in one file."""
    found = []
    for name, path in azure_goldens.files().items():
        document = ask.load_one(path, path.parent)
        if kinds.kind_of(document, path.name) == "command" and "component" not in document.value:
            found.append(name)
    return found


@pytest.mark.parametrize("name", _jobs())
def test_every_look_alike_can_be_written_in_python(name: str) -> None:
    path = azure_goldens.files()[name]
    value = ask.load_one(path, path.parent).value
    value = {key: item for key, item in value.items() if key not in ("$schema", "type")}

    assert written(load_job(path).draft(path.parent)) == written(command(**value).draft(path.parent))


def test_only_compute_changes_for_a_run_here(project: Path) -> None:
    job = command(**_FRONT)
    there = job.draft(project)

    job.compute = "local"

    assert ("cpu", "local") == (there.compute, job.draft(project).compute)


def test_called_with_inputs_it_is_a_copy_that_has_them() -> None:
    job = command(**_FRONT, inputs={"lr": 0.1, "data": Input(path="data")})

    other = job(lr=0.2)

    assert (0.1, 0.2) == (job.inputs.lr, other.inputs["lr"])
    other.inputs.data.path = "elsewhere"
    assert "data" == job.inputs.data.path


@pytest.mark.parametrize(
    ("act", "words"),
    [
        (lambda job: setattr(job, "comput", "local"), "Command.comput: \"local\": no such attribute; did you mean compute?"),
        (lambda job: setattr(job.resources, "instance_cout", 2), "did you mean instance_count?"),
        (lambda job: job(lrr=1), "inputs.lrr: the job declares no such input; did you mean lr?"),
        (lambda job: job.set_limits(timeot=1), "did you mean timeout?"),
        (lambda job: job.sweep(), "sweeps are not supported yet"),
        (lambda job: command(resources={"instance": 2}), "resources.instance: unknown key"),
        (lambda job: command(inputs={"a": Input(type="number")}).as_mapping(), "type number has no value"),
    ],
)  # fmt: skip
def test_what_cannot_be_meant_is_told_with_what_was(act: Any, words: str) -> None:
    with pytest.raises(BadInput) as told:
        act(command(**_FRONT, inputs={"lr": 0.1}))

    assert words in str(told.value)


def test_an_input_that_is_not_there_is_an_attribute_that_is_not_there() -> None:
    job = command(**_FRONT, inputs={"lr": 0.1})

    with pytest.raises(AttributeError, match="did you mean lr"):
        _ = job.inputs.lrr


def test_problems_come_all_at_once_with_their_fields(project: Path) -> None:
    job = command(command="", code="./nowhere", inputs={"d": Input(path="missing")}, environment="python:3.12")

    with pytest.raises(BadInputs) as told:
        job.draft(project)

    assert {"command", "code", "inputs.d.path"} <= {one.field for one in told.value.problems}
    assert all("command()" == one.where for one in told.value.problems)


def test_it_shows_what_was_said_and_nothing_else() -> None:
    job = command(**_FRONT, inputs={"lr": 0.1})

    assert "inputs={'lr': 0.1}" in repr(job)
    assert "display_name" not in repr(job)
    assert "<table>" in job._repr_html_()
    assert "&lt;script&gt;" in command(command="<script>")._repr_html_()


def test_resources_are_there_to_be_set() -> None:
    job = command(**_FRONT)
    job.resources.instance_count = 2
    job.set_resources(instance_type="g5")

    assert JobResourceConfiguration(instance_count=2, instance_type="g5") == job.resources
    assert isinstance(job, Command)


def test_an_environment_is_the_manifest_of_its_file(project: Path) -> None:
    made = Environment(name="iris", version="2", image="python:3.12", conda_file="conda.yaml", description="of irises")
    text = "name: iris\nversion: 2\nimage: python:3.12\nconda_file: conda.yaml\ndescription: of irises\n"

    ours, _ = environment.read(Document(made.as_file(), "Environment()"), project, "")
    theirs, _ = environment.read(parse(text, "e.yaml")[0], project, "")

    assert (theirs, "iris-v2") == (ours, ours["metadata"]["name"])


def test_a_pool_is_the_manifest_of_its_file() -> None:
    made = AmlCompute(name="cpu-cluster", size="Standard_DS3_v2", max_instances=4, tier="low_priority")
    text = "type: amlcompute\nname: cpu-cluster\nsize: Standard_DS3_v2\nmax_instances: 4\ntier: low_priority\n"

    assert compute.read(parse(text, "c.yaml")[0], Path())[0] == made.manifest()[0]


def test_a_pool_in_our_words_is_checked_as_the_cluster_would() -> None:
    pool = ComputeCluster(name="p", provider={"type": "Static"}, instance_types=[], max_instances=-1)

    with pytest.raises(BadInputs, match=r"spec\.maxInstances"):
        pool.manifest()
