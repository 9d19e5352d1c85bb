"""A namespace's BuildKit wakes up for its builds and goes to sleep after them."""

from collections.abc import AsyncIterator

import pytest

from stoker.api.kube import BatchJob, KubeCondition, ObjectMeta
from stoker.api.workspace import Registry, Workspace, WorkspaceSpec
from stoker.controller.buildkit import BuildKits
from stoker.controller.gate import AlwaysOpen
from stoker.core.environment.buildkit import Daemons
from stoker.kube.errors import KubeError
from stoker.kube.resources import MetaOnly
from stoker.kube.store import Store
from tests.support.fake_api import FakeApi, Fault

SETS = "/apis/apps/v1/namespaces/stoker-privileged/statefulsets"
DAEMONS = Daemons(enabled=True, idle_seconds=60, image="registry.example.com/buildkit:1")


class Bench:
    def __init__(self, api: FakeApi) -> None:
        self.api, self.store, self.now, self.version = api, Store(), 1000.0, 0
        self.client = api.client()
        self.kits = BuildKits(self.client, self.store, DAEMONS, AlwaysOpen(), lambda: self.now)

    def job(self, name: str, *, namespace: str = "team", wants: bool = True, ended: str = "") -> None:
        """What a watch tells of a build."""
        self.version += 1
        meta = ObjectMeta(
            name=name, namespace=namespace, uid=f"{namespace}-{name}", resource_version=str(self.version),
            annotations={"stoker.dev/buildkit": "true"} if wants else {},
        )  # fmt: skip
        job = BatchJob(metadata=meta)
        if ended:
            conditions = (KubeCondition(type=ended, status="True"),)
            job = BatchJob(metadata=meta, status=type(job.status)(conditions=conditions))
        self.store.put("Job", job)

    def replicas(self, namespace: str = "team") -> int | None:
        found = self.api.objects.get(f"{SETS}/buildkit-{namespace}")
        return None if found is None else int(found["spec"]["replicas"])

    async def round(self) -> None:
        await self.kits.once()


@pytest.fixture
async def bench() -> AsyncIterator[Bench]:
    api = FakeApi()
    await api.start()
    made = Bench(api)
    yield made
    await made.client.close()
    await api.stop()


async def test_a_build_that_needs_it_wakes_it(bench: Bench) -> None:
    bench.job("env-a-1")

    await bench.round()

    assert 1 == bench.replicas()
    assert {"configmaps", "services", "networkpolicies", "statefulsets"} == {
        path.split("/")[-2] for path in bench.api.seen("PATCH")
    }


async def test_other_builds_do_not(bench: Bench) -> None:
    bench.job("env-a-1", wants=False)

    await bench.round()

    assert bench.replicas() is None
    assert [] == bench.api.seen("PATCH")


@pytest.mark.parametrize("end", ["Complete", "Failed"])
async def test_it_sleeps_a_while_after_the_last_build(bench: Bench, end: str) -> None:
    bench.job("env-a-1")
    bench.job("env-b-1")
    await bench.round()
    bench.job("env-a-1", ended=end)
    bench.now = 2000.0
    await bench.round()
    assert 1 == bench.replicas()

    bench.job("env-b-1", ended=end)
    assert 60.0 == await bench.kits.once()
    assert 1 == bench.replicas()

    bench.now = 2060.0
    await bench.round()
    assert 0 == bench.replicas()


async def test_nothing_is_written_while_nothing_changes(bench: Bench) -> None:
    bench.job("env-a-1")
    await bench.round()
    written = len(bench.api.seen("PATCH"))

    for _ in range(3):
        await bench.round()

    assert written == len(bench.api.seen("PATCH"))


async def test_a_build_that_comes_back_in_time_finds_it_awake(bench: Bench) -> None:
    bench.job("env-a-1")
    await bench.round()
    bench.job("env-a-1", ended="Complete")
    bench.now = 1050.0
    bench.job("env-c-1")
    bench.now = 1100.0
    await bench.round()

    assert 1 == bench.replicas()


async def test_what_a_former_leader_left_awake_sleeps_in_time(bench: Bench) -> None:
    labels = {"app.kubernetes.io/component": "buildkit", "stoker.dev/buildkit-for": "team"}
    await bench.api.put(f"{SETS}/buildkit-team", metadata={"labels": labels}, spec={"replicas": 1})

    await bench.round()
    assert 1 == bench.replicas()
    bench.now = 1060.0
    await bench.round()

    assert 0 == bench.replicas()


async def test_it_goes_with_its_namespace(bench: Bench) -> None:
    space = MetaOnly(metadata=ObjectMeta(name="team", uid="space", resource_version="1"))
    bench.store.put("Namespace", space)
    bench.job("env-a-1")
    await bench.round()

    bench.store.remove("Namespace", space)
    await bench.round()

    assert [] == [path for path in bench.api.objects if "buildkit-team" in path]


async def test_it_knows_the_workspaces_registry_that_speaks_http(bench: Bench) -> None:
    meta = ObjectMeta(name="default", namespace="team", uid="w", resource_version="1")
    spec = WorkspaceSpec(registry=Registry(url="plain.example.com:5000/team", insecure=True))
    bench.store.put("Workspace", Workspace(metadata=meta, spec=spec))
    bench.job("env-a-1")

    await bench.round()

    config = bench.api.objects["/api/v1/namespaces/stoker-privileged/configmaps/buildkit-team"]
    assert '[registry."plain.example.com:5000"]\nhttp = true' in config["data"]["buildkitd.toml"]


async def test_it_tries_again_after_an_error(bench: Bench) -> None:
    bench.api.fail("PATCH", Fault(403, "Forbidden"))
    bench.job("env-a-1")

    with pytest.raises(KubeError):
        await bench.round()
    await bench.round()

    assert 1 == bench.replicas()
