"""Look-alikes of Azure ML's example projects, trained on a cluster from their own files.

What differs from Azure is what a cluster's owner decides: what the curated environments' names mean here, and, for files that
name an image of a registry that the lab does not reach, the base image.
"""

import json
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.support.azure_goldens import FOLDER
from tests.support.installed import Stoker
from tests.support.lab_environments import environment, image, workspace

pytestmark = pytest.mark.lab

#: The pool that the files name.
POOL = "cpu-cluster"
CURATED = {
    "azureml/sklearn-1.5": "science", "AzureML-sklearn-1.5": "science", "azureml/lightgbm-3.3": "science",
}  # fmt: skip
SCIENCE = ["lightgbm", "numpy", "pandas", "scikit-learn"]
#: For a build that fetches and compiles 80 MB of packages.
BUILD_SECONDS = 180


@dataclass(frozen=True)
class Team:
    """A namespace whose workspace knows what Azure's names mean, and the projects in a folder."""

    stoker: Stoker
    namespace: str
    projects: Path

    def submit(self, file: str, *flags: str) -> str:
        """`job create -f` of a file as it is: the run's name."""
        done = self.stoker.cli(
            "job", "create", "-f", str(self.projects / file), "-n", self.namespace, "-y", "-o", "name", *flags
        )
        return done.stdout.strip().rpartition("/")[2]

    def rewrite(self, file: str, **words: str) -> None:
        """Put the lab's own registry and channel in the place of public ones."""
        text = (self.projects / file).read_text()
        for word, instead in words.items():
            assert word.replace("__", ":") in text
            text = text.replace(word.replace("__", ":"), instead)
        (self.projects / file).write_text(text)


@dataclass(frozen=True)
class Ended:
    """A run at its end: its phase and reason, log and outputs."""

    phase: str
    reason: str
    log: str
    outputs: Path

    def output(self, name: str) -> str:
        return (self.outputs / name).read_text()


@pytest.fixture(scope="module")
def team(stoker: Stoker, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Team]:
    stoker.lab.packages(lambda line: None)
    stoker.pool(POOL, most=2, idle=60)
    projects = tmp_path_factory.mktemp("azure") / "projects"
    shutil.copytree(FOLDER, projects)
    with stoker.namespace("azure") as namespace:
        stoker.apply(workspace(namespace, environmentAliases=CURATED))
        stoker.apply(environment(stoker, "science", namespace=namespace, pip=SCIENCE))
        image(stoker, "science", namespace, BUILD_SECONDS)
        yield Team(stoker, namespace, projects)


@pytest.fixture(scope="module")
def ended(team: Team, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Ended]:
    """Every project's run at its end, by the project's name: all are sent before the first is waited for."""
    base = team.stoker.lab.images["base"]
    team.rewrite("docker-context/image/Dockerfile", **{"python__3.11-slim": base})
    team.rewrite("conda-inline/job.yml", **{"conda-forge": "lab", "six": "stoker-tiny"})
    on_base, on_science, anywhere = ("--environment", base), ("--environment", "science"), ("--compute", POOL)
    runs = {
        "hello-world": team.submit("hello-world/hello.yml", *on_base, *anywhere),
        "env-var": team.submit("env-var/job.yml", *on_base),
        "code-folder": team.submit("code-folder/job.yml", *anywhere),
        "literal": team.submit("literal/job.yml", *on_science, *anywhere),
        "one-file": team.submit("one-file/job.yml", *on_science, *anywhere),
        "uri-file": team.submit("uri-file/job.yml", *on_base, *anywhere),
        "conda-inline": team.submit("conda-inline/job.yml", *on_base, *anywhere),
        "docker-context": team.submit("docker-context/job.yml"),
        "sklearn-iris": team.submit("sklearn-iris/job.yml"),
        "sklearn-diabetes": team.submit("sklearn-diabetes/job.yml"),
        "lightgbm-iris": team.submit("lightgbm-iris/job.yml"),
        "ridge": team.submit("ridge/train.runconfig", *on_science),
    }
    return {project: _end(team, run, tmp_path_factory.mktemp(project)) for project, run in runs.items()}


def _end(team: Team, run: str, folder: Path) -> Ended:
    status = team.stoker.finished(run, team.namespace)
    log = team.stoker.cli("logs", run, "-n", team.namespace).stdout
    if status.get("outputs"):
        team.stoker.cli("pull", run, str(folder / "got"), "-n", team.namespace)
    return Ended(status["phase"], f"{status.get('reason')}: {status.get('message')}", log, folder / "got")


def test_every_project_trains(ended: dict[str, Ended]) -> None:
    assert {} == {project: run.reason for project, run in ended.items() if run.phase != "Completed"}


@pytest.mark.parametrize(
    ("project", "line"),
    [
        ("hello-world", "greetings from a job"),
        ("env-var", "good morning"),
        ("code-folder", "said"),
        ("uri-file", "length,width,kind"),
        ("conda-inline", "which"),
        ("docker-context", "built in"),
    ],
)
def test_a_project_says_on_a_cluster_what_it_says_on_azure(ended: dict[str, Ended], project: str, line: str) -> None:
    assert line in ended[project].log.splitlines()


@pytest.mark.parametrize("project", ["sklearn-iris", "lightgbm-iris"])
def test_a_classifier_learns_from_a_file_that_went_up_with_the_job(ended: dict[str, Ended], project: str) -> None:
    (line,) = (line for line in ended[project].log.splitlines() if line.startswith("accuracy "))

    assert float(line.split()[1]) > 0.8


def test_a_model_goes_into_a_named_output(ended: dict[str, Ended]) -> None:
    assert (ended["sklearn-diabetes"].outputs / "model" / "model.joblib").stat().st_size > 0


def test_a_run_configuration_of_version_1_saves_its_model_below_outputs(ended: dict[str, Ended]) -> None:
    assert (ended["ridge"].outputs / "ridge_0.50.pkl").stat().st_size > 0


def test_a_project_is_repeated_exactly(team: Team, ended: dict[str, Ended]) -> None:
    """Code, data and image of a repeat are those of the run, by digest."""
    runs = json.loads(team.stoker.cli("ls", "-n", team.namespace, "-o", "json").stdout)
    (former,) = (one["name"] for one in runs if one["experiment"] == "sklearn-iris")

    team.stoker.cli("rerun", former, "--exact", "--detach", "--name", "iris-again", "-n", team.namespace)

    status = team.stoker.finished("iris-again", team.namespace)
    assert "Completed" == status["phase"], status
    shown = team.stoker.cli("diff", former, "iris-again", "-n", team.namespace, "-o", "json").stdout
    assert [] == json.loads(shown)["differences"]


def test_literals_and_variables_arrive_as_written(ended: dict[str, Ended]) -> None:
    assert "--rate 0.10 --steps 12 --shuffle true --type linear\n" == ended["literal"].output("arguments.txt")
    assert {"RETRIES=3", "VERBOSE=true"} <= set(ended["env-var"].output("variables.txt").splitlines())
