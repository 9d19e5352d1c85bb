"""Runs on this machine, for real: started, followed, cancelled, fetched; from plain code and from within an event loop."""

import asyncio
import threading
from pathlib import Path

import pytest

from stoker import AsyncClient, BadInput, Client, Job, JobFailed, Output, ScriptRunConfig, StokerError, command
from stoker.sdk import Command

#: Ends when a file appears beside the project: the test says when.
_LONG = (
    "python -c \"import os,time; print('begun', flush=True)\nwhile not os.path.exists(r'{gate}'): time.sleep(0.02)\""
)


def job(**more: object) -> Command:
    given: dict[str, object] = {
        "code": "src", "command": "python train.py --lr ${{inputs.lr}}", "inputs": {"lr": 0.5}, "environment": "python:3.12",
        "compute": "cpu",
    }  # fmt: skip
    made = command(**(given | more))  # type: ignore[arg-type]
    made.compute = "local"
    return made


def test_a_run_here_differs_by_its_compute_alone(project: Path, capfd: pytest.CaptureFixture[str]) -> None:
    client = Client()

    run = client.jobs.create_or_update(job())
    client.jobs.stream(run.name)

    assert "lr 0.5" in capfd.readouterr().out.splitlines()
    ended = client.jobs.get(run.name)
    assert ("Completed", 0, "local") == (ended.status, ended.exit_code, ended.compute)
    assert ["model.txt"] == [one["path"] for one in ended.outputs]
    assert [run.name] == [one.name for one in client.jobs.list()]


def test_what_it_saved_comes_as_artifacts_and_named_outputs(project: Path) -> None:
    client = Client(quiet=True)
    made = job(
        command="echo a > outputs/a.txt; echo m > ${{outputs.model}}/m.bin", outputs={"model": Output()}, inputs={}
    )
    run = client.jobs.create_or_update(made)
    client.jobs.stream(run)

    client.jobs.download(run.name, download_path="all", all=True)
    client.jobs.download(run.name, download_path="one", output_name="model")

    def files(folder: str) -> list[str]:
        return sorted(path.relative_to(folder).as_posix() for path in Path(folder).rglob("*") if path.is_file())

    assert ["artifacts/logs/std_log.txt", "artifacts/outputs/a.txt", "named-outputs/model/m.bin"] == files("all")
    assert ["named-outputs/model/m.bin"] == files("one")
    with pytest.raises(BadInput, match=r'output_name: "modle": .* this run has: model'):
        client.jobs.download(run.name, output_name="modle")


def test_a_run_that_fails_fails_its_stream_with_its_own_code(project: Path) -> None:
    client = Client(quiet=True)
    run = client.jobs.create_or_update(job(command="exit 7", inputs={}))

    with pytest.raises(JobFailed, match="exit code 7") as told:
        client.jobs.stream(run)

    assert (7, "Failed") == (told.value.exit_code, told.value.job.status)


def test_a_run_is_cancelled_while_another_process_runs_it(project: Path, tmp_path: Path) -> None:
    client = Client(quiet=True)
    run = client.jobs.create_or_update(job(command=_LONG.format(gate=tmp_path / "gate"), inputs={}))
    assert "Running" == run.status

    client.jobs.cancel(run)
    client.jobs.stream(run)

    assert "Canceled" == client.jobs.get(run).status


def test_it_goes_on_when_nobody_follows(project: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """Ctrl-C in a stream is the caller's own business."""
    gate = tmp_path / "gate"
    first = Client(quiet=True)
    run = first.jobs.create_or_update(job(command=_LONG.format(gate=gate), inputs={}))
    del first

    gate.touch()
    Client(quiet=True).jobs.stream(run.name)

    assert "begun" in capfd.readouterr().out


def test_what_stops_a_run_before_it_begins_is_raised_here(project: Path) -> None:
    bad = job(environment={"image": "python:3.12", "docker_steps": ["RUN true"]})
    with pytest.raises(BadInput) as told:
        Client(quiet=True).jobs.create_or_update(bad)
    assert "environment.dockerSteps" == told.value.field

    lost = job(command="echo", inputs={"d": {"type": "uri_folder", "path": (project / "no").as_uri()}})
    with pytest.raises(BadInput, match="there is nothing at"):
        Client(quiet=True).jobs.create_or_update(lost)


@pytest.mark.parametrize("size", [1, 1_000_000])
def test_a_process_that_dies_before_its_command_is_told(
    project: Path, monkeypatch: pytest.MonkeyPatch, size: int
) -> None:
    """Also one that dies before it has read the whole job, which a pipe does not hold."""
    made = job(environment_variables={"LONG": "x" * size})
    monkeypatch.setattr("sys.executable", "/bin/true")

    with pytest.raises(StokerError, match="ended before its command began"):
        Client(quiet=True).jobs.create_or_update(made)


async def test_the_plain_client_works_inside_an_event_loop(project: Path) -> None:
    client = Client(quiet=True)

    run = client.jobs.create_or_update(job())
    client.jobs.stream(run)

    assert "Completed" == client.jobs.get(run).status


async def test_calls_of_the_asyncio_client_overlap(project: Path, tmp_path: Path) -> None:
    client, gate = AsyncClient(quiet=True), tmp_path / "gate"
    runs = [await client.jobs.create_or_update(job(command=_LONG.format(gate=gate), inputs={})) for _ in range(2)]
    streams = [asyncio.create_task(client.jobs.stream(run)) for run in runs]

    assert ["Running"] * 2 == [(await client.jobs.get(run)).status for run in runs]
    gate.touch()
    await asyncio.gather(*streams)

    assert ["Completed"] * 2 == [(await client.jobs.get(run)).status for run in runs]


async def test_a_cancelled_stream_ends_and_leaves_the_run(project: Path, tmp_path: Path) -> None:
    client = AsyncClient(quiet=True)
    run = await client.jobs.create_or_update(job(command=_LONG.format(gate=tmp_path / "gate"), inputs={}))
    task = asyncio.create_task(client.jobs.stream(run))
    await asyncio.sleep(0)  # the task has begun its call

    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task

    assert "Running" == (await client.jobs.get(run)).status
    assert "stoker-log" not in {one.name for one in threading.enumerate()}
    await client.jobs.cancel(run)
    await client.jobs.stream(run)


def test_version_1s_job_runs_here(project: Path, capfd: pytest.CaptureFixture[str]) -> None:
    client = Client(quiet=True)

    run = client.jobs.create_or_update(ScriptRunConfig("src", "train.py", ["--lr", 0.25], compute_target="local"))
    client.jobs.stream(run)

    assert "lr 0.25" in capfd.readouterr().out


def test_a_folder_left_in_between_is_not_mixed_up(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Paths, settings and local runs are of the folder that is current at the call."""
    client = Client(quiet=True)
    client.jobs.stream(client.jobs.create_or_update(job()))
    other = project.parent / "other"
    other.mkdir()

    monkeypatch.chdir(other)

    assert [] == client.jobs.list()


def test_a_run_without_a_page_has_no_link() -> None:
    run = Job(name="a", key="a-12345678", status="Running", compute="local")

    assert (None, None) == (run.studio_url, run.services["Studio"].endpoint)
    assert "Job(name='a', status='Running', compute='local')" == repr(run)
    assert "Running" in run._repr_html_()
