"""The client in front of a cluster that the test plays: the same way in as the command line's, call by call."""

import asyncio
import gc
import warnings
from pathlib import Path
from typing import Any

import pytest

from stoker import (
    AmlCompute,
    AsyncClient,
    BadInput,
    BadInputs,
    Client,
    Command,
    ComputeCluster,
    Environment,
    JobFailed,
    Output,
    StokerError,
    command,
    load_job,
)
from stoker.storage import layout
from tests.support.apiserver import JOBS
from tests.support.played_cluster import LOG, PlayedCluster

ENVIRONMENTS = JOBS.replace("trainingjobs", "environments")


def job(**more: Any) -> Command:
    given = {"code": "src", "command": "python train.py", "environment": "python:3.12", "compute": "cpu"}
    return command(**(given | more))


def test_create_sends_the_code_and_returns_the_run(played: PlayedCluster) -> None:
    run = Client(quiet=True).jobs.create_or_update(job(), tags={"a": "b"}, experiment_name="e", description="d")

    made = played.api.objects[f"{JOBS}/{run.name}"]
    assert ("Pending", "cpu", "team", "e") == (run.status, run.compute, run.namespace, run.experiment_name)
    assert ({"a": "b"}, "d") == (made["spec"]["tags"], made["spec"]["description"])
    digest = made["spec"]["command"]["code"]["snapshot"]
    assert asyncio.run(played.served.store().head(layout.snapshot_manifest(digest)))


def test_stream_follows_to_the_end(played: PlayedCluster, capfd: pytest.CaptureFixture[str]) -> None:
    client = Client(quiet=True)
    with played.finishing_jobs():
        run = client.jobs.create_or_update(job())
        client.jobs.stream(run.name)

    assert ["epoch 1", "epoch 2"] == capfd.readouterr().out.splitlines()
    ended = client.jobs.get(run.name)
    assert ("Completed", 0, ["model.bin"]) == (ended.status, ended.exit_code, [one["path"] for one in ended.outputs])

    client.jobs.stream(run)  # after its end: what is stored
    assert ["epoch 1", "epoch 2"] == capfd.readouterr().out.splitlines()


def test_a_failed_run_is_raised_by_its_stream(played: PlayedCluster) -> None:
    client = Client(quiet=True)
    run = client.jobs.create_or_update(job())
    made = played.api.created.get(timeout=20)
    played.start_pod(made, LOG)
    played.finish(made, "Failed", 3, {})

    with pytest.raises(JobFailed) as told:
        client.jobs.stream(run)

    assert (3, 3) == (told.value.exit_code, told.value.job.exit_code)


def test_download_takes_artifacts_and_named_outputs_apart(played: PlayedCluster, project: Path) -> None:
    client = Client(quiet=True)
    with played.finishing_jobs({"a.txt": b"a", "model/m.bin": b"m"}):
        run = client.jobs.create_or_update(job(outputs={"model": Output()}))
        client.jobs.stream(run)
    # The job's record, which the operator writes, has the outputs' names.
    key = run.key
    record = {**_record(played, key), "outputs": {"model": {"type": "uri_folder", "mode": "upload"}}}
    played.put(layout.job_record(key), _json(record))

    client.jobs.download(run, download_path="got", all=True)

    assert ["artifacts/logs/std_log.txt", "artifacts/outputs/a.txt", "named-outputs/model/m.bin"] == sorted(
        path.relative_to("got").as_posix() for path in Path("got").rglob("*") if path.is_file()
    )


def _record(played: PlayedCluster, key: str) -> dict[str, Any]:
    import json

    async def read() -> bytes:
        return b"".join([piece async for piece in played.served.store().stream(layout.job_record(key))])

    found: dict[str, Any] = json.loads(asyncio.run(read()))
    return found


def _json(value: Any) -> bytes:
    import json

    return json.dumps(value).encode()


def test_cancel_asks_the_operator(played: PlayedCluster) -> None:
    client = Client(quiet=True)
    run = client.jobs.create_or_update(job())

    assert run.name == client.jobs.cancel(run).name
    assert played.api.objects[f"{JOBS}/{run.name}"]["spec"]["cancel"] is True


def test_an_archived_run_is_left_out_of_lists_until_it_is_restored(played: PlayedCluster) -> None:
    client = Client(quiet=True)
    kept, hidden = (client.jobs.create_or_update(job()) for _ in range(2))

    client.jobs.archive(hidden.name)

    assert [kept.name] == [one.name for one in client.jobs.list()]
    assert [hidden.name] == [one.name for one in client.jobs.list(list_view_type="ArchivedOnly")]
    assert {kept.name, hidden.name} == {one.name for one in client.jobs.list(list_view_type="All")}
    assert client.jobs.get(hidden.name).archived
    client.jobs.restore(hidden.name)
    assert 2 == len(client.jobs.list())
    with pytest.raises(BadInput, match="list_view_type"):
        client.jobs.list(list_view_type="Active")


def test_a_run_that_is_given_back_changes_its_tags(played: PlayedCluster) -> None:
    client = Client(quiet=True)
    run = client.jobs.create_or_update(job(tags={"a": "b"}))

    run.tags["c"] = "d"
    run.display_name = "shown"
    changed = client.jobs.create_or_update(run)

    spec = played.api.objects[f"{JOBS}/{run.name}"]["spec"]
    assert ({"a": "b", "c": "d"}, "shown") == (spec["tags"], spec["displayName"])
    assert (spec["tags"], "shown") == (changed.tags, changed.display_name)


def test_what_the_run_names_must_be_there(played: PlayedCluster) -> None:
    with pytest.raises(BadInput, match=r'no ComputeCluster named "gpu"; this cluster has: cpu') as told:
        Client(quiet=True).jobs.create_or_update(job(compute="gpu"))
    assert "compute" == told.value.field
    with pytest.raises(BadInput, match="is missing, and a cluster needs an image"):
        Client(quiet=True).jobs.create_or_update(job(environment=None))
    assert not [path for path in played.api.objects if path.startswith(JOBS)]


def test_the_api_servers_own_words_come_through(played: PlayedCluster) -> None:
    cause = {"field": "spec.compute", "message": "must be something else"}
    played.api.refuse = {"code": 422, "message": "invalid", "details": {"causes": [cause]}}

    with pytest.raises(BadInputs, match=r"spec\.compute: must be something else"):
        Client(quiet=True).jobs.create_or_update(job())


def test_without_a_cluster_it_says_so(project: Path) -> None:
    with pytest.raises(StokerError, match="no kubeconfig"):
        Client(quiet=True).jobs.create_or_update(job())


def test_a_file_is_a_job_too(played: PlayedCluster, project: Path) -> None:
    (project / "job.yaml").write_text("command: python train.py\ncode: src\nenvironment: python:3.12\ncompute: local\n")
    given = load_job("job.yaml")
    given.compute = "cpu"

    run = Client(quiet=True).jobs.create_or_update(given)

    assert "cpu" == played.api.objects[f"{JOBS}/{run.name}"]["spec"]["compute"]


def test_environments_are_created_found_and_named_by_jobs(played: PlayedCluster, project: Path) -> None:
    client = Client(quiet=True)

    made = client.environments.create_or_update(Environment(name="iris", version="1", image="python:3.12"))
    again = client.environments.create_or_update(Environment(name="iris", version="1", image="python:3.12"))

    assert ("iris", "1", "iris-v1") == (made.name, made.version, again.reference)
    assert ["iris"] == [one.name for one in client.environments.list()]
    for found in (client.environments.get("iris", version=1), client.environments.get("iris", label="latest")):
        run = client.jobs.create_or_update(job(environment=found))
        assert {"name": "iris-v1"} == played.api.objects[f"{JOBS}/{run.name}"]["spec"]["command"]["environment"]
    with pytest.raises(BadInput, match="a version has one content"):
        client.environments.create_or_update(Environment(name="iris", version="1", image="python:3.13"))
    with pytest.raises(BadInput, match=r'no Environment named "irs".*iris-v1'):
        client.environments.get("irs")


def test_an_archived_environment_is_left_out_of_lists(played: PlayedCluster) -> None:
    client = Client(quiet=True)
    client.environments.create_or_update(Environment(name="iris", image="python:3.12"))

    client.environments.archive("iris")

    assert [] == client.environments.list()
    client.environments.restore("iris")
    assert ["iris"] == [one.name for one in client.environments.list()]


def test_pools_are_created_looked_at_and_deleted(played: PlayedCluster, capfd: pytest.CaptureFixture[str]) -> None:
    client = Client(quiet=True)

    made = client.compute.begin_create_or_update(
        AmlCompute(name="cpu-cluster", size="Standard_DS3_v2", max_instances=4, idle_time_before_scale_down=120)
    ).result()

    assert isinstance(made, ComputeCluster)
    assert ("cpu-cluster", 4) == (made.name, client.compute.get("cpu-cluster").max_instances)
    assert "provider External is written" in capfd.readouterr().err
    assert {"cpu", "cpu-cluster"} == {one.name for one in client.compute.list()}
    client.compute.begin_delete("cpu-cluster").wait()
    with pytest.raises(BadInput, match="no ComputeCluster named"):
        client.compute.get("cpu-cluster")


async def test_the_asyncio_client_makes_the_same_calls(played: PlayedCluster) -> None:
    client = AsyncClient(quiet=True)
    with played.finishing_jobs():
        first, second = await asyncio.gather(*(client.jobs.create_or_update(job()) for _ in range(2)))
        await asyncio.gather(client.jobs.stream(first), client.jobs.stream(second))

    assert {"Completed"} == {one.status for one in await client.jobs.list()}
    await client.jobs.archive(first)
    assert [second.name] == [one.name for one in await client.jobs.list()]
    assert ["cpu"] == [one.name for one in await client.compute.list()]


async def test_a_cancelled_stream_stops_following(played: PlayedCluster) -> None:
    client = AsyncClient(quiet=True)
    run = await client.jobs.create_or_update(job())
    played.start_pod(played.api.created.get(timeout=20), LOG)
    task = asyncio.create_task(client.jobs.stream(run))
    await asyncio.sleep(0)  # the task has begun its call

    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task

    assert "Running" == (await client.jobs.get(run)).status
    played.api.logs.put(None)


def test_a_client_that_is_dropped_closes_its_connections(played: PlayedCluster) -> None:
    client = Client(quiet=True)
    client.jobs.create_or_update(job())  # speaks to the API server and to Stoker's
    del client

    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always", ResourceWarning)
        gc.collect()

    assert [] == [str(one.message) for one in told]
