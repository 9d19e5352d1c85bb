"""Programs in the forms of Azure's documentation for command(), with the import lines and the client's constructor changed and
nothing else: against a cluster that the test plays, and the command itself for real on this machine."""

import re
from pathlib import Path
from typing import Any

import pytest

from stoker import Client, Command
from tests.support.apiserver import JOBS, POOL
from tests.support.played_cluster import PlayedCluster

EXAMPLES = Path(__file__).resolve().parents[2] / "support" / "azure_sdk"
MAIN = """import argparse, pathlib
parser = argparse.ArgumentParser()
for name in ("--iris-csv", "--learning-rate", "--boosting", "--data", "--ratio", "--model", "--epochs"):
    parser.add_argument(name)
given = vars(parser.parse_args())
if given["iris_csv"]:
    print(pathlib.Path(given["iris_csv"]).read_text())
print("given", {name: value for name, value in given.items() if value})
"""


@pytest.fixture
def corpus(project: Path) -> Path:
    """The files that the examples stand beside."""
    for path, text in {
        "src/main.py": MAIN, "data/iris.csv": "5.1,3.5\n", "dependencies/conda.yaml": "dependencies: [python=3.11, pip]\n",
    }.items():  # fmt: skip
        (project / path).parent.mkdir(exist_ok=True)
        (project / path).write_text(text)
    return project


def changed(name: str) -> str:
    """An example with its import lines and its client's constructor changed."""
    text = (EXAMPLES / f"{name}.py").read_text()
    text = re.sub(r"^from (azure|azureml)\.", r"from stoker.\1.", text, flags=re.MULTILINE)
    text, count = re.subn(r"= MLClient(\.from_config)?\((.|\n)*?\)\n(?=\n)", "= MLClient()\n", text)
    assert count == (0 if name == "version_1" else 1)
    return text


@pytest.mark.parametrize("name", [path.stem for path in sorted(EXAMPLES.glob("*.py"))])
def test_an_example_runs(name: str, corpus: Path, played: PlayedCluster, capfd: pytest.CaptureFixture[str]) -> None:
    pool = played.api.objects[POOL]
    played.api.put(f"{POOL}-cluster", {**pool, "metadata": {"name": "cpu-cluster"}})

    with played.finishing_jobs():
        exec(compile(changed(name), name, "exec"), {"__name__": "__main__"})

    ended = [one for path, one in played.api.objects.items() if path.startswith(f"{JOBS}/")]
    assert ended
    assert {"Completed"} == {one["status"]["phase"] for one in ended}
    assert "epoch 1" in capfd.readouterr().out


def test_an_example_with_azures_constructor_as_it_is_says_once_what_is_not_used(
    corpus: Path, played: PlayedCluster
) -> None:
    text = (EXAMPLES / "compute_and_distribution.py").read_text()
    text = text.replace("from azure.", "from stoker.azure.")

    with played.finishing_jobs(), pytest.warns(UserWarning, match="the kubeconfig says") as told:
        exec(compile(text, "example", "exec"), {})

    assert 1 == len(told)


@pytest.mark.parametrize("name", ["first_job", "compute_and_distribution"])
def test_its_job_runs_here_when_compute_says_local(
    name: str, corpus: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    job = _job(name, monkeypatch)
    job.environment, job.compute = "system", "local"
    client = Client(quiet=True)

    run = client.jobs.create_or_update(job)
    client.jobs.stream(run)

    assert "given" in capfd.readouterr().out
    assert "Completed" == client.jobs.get(run).status


class _Stop(Exception):
    """The example has come to its first job."""


def _job(name: str, monkeypatch: pytest.MonkeyPatch) -> Command:
    """The first job that an example starts."""
    from stoker.sdk.mlclient import ComputeOperations, JobOperations

    started: list[Command] = []

    def take(_: Any, job: Command, **__: Any) -> None:
        started.append(job)
        raise _Stop

    class Pool:
        name = "there"

    with monkeypatch.context() as patched:
        patched.setattr(JobOperations, "create_or_update", take)
        patched.setattr(ComputeOperations, "get", lambda *_: Pool())
        code = compile(changed(name), name, "exec")
        with pytest.raises(_Stop):
            exec(code, {})
    return started[0]
