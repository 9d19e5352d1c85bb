"""What the operator removes from a namespace's registry, and what keeps it from removing anything."""

from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from stoker.api.kube import ObjectMeta
from stoker.api.workspace import GlobalRegistry, Workspace
from stoker.controller.config import Config
from stoker.controller.gate import AlwaysOpen, NotLeading
from stoker.controller.image_retention import ImageRetention
from stoker.controller.pull_secrets import PullSecrets
from stoker.controller.registries import Registries
from stoker.core.environment.cleaning import Report
from stoker.core.environment.means import Means
from stoker.core.plan import Answer, Found, Refused, RegistryPlace, Unavailable
from stoker.core.trainingjob.view import WorkspaceView
from stoker.images.registry import Registry
from stoker.kube.client import KubeClient
from stoker.kube.store import Store
from stoker.storage import layout
from stoker.storage.objects import BadStoreUrl, ObjectStore, open_store
from tests.component.images.test_cleaning import Ground, job
from tests.support.fake_api import FakeApi, Fault
from tests.support.registries import RunningRegistry, registry

JOBS = "/apis/stoker.dev/v1alpha1/trainingjobs"


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningRegistry]:
    with registry(tmp_path_factory.mktemp("registry")) as found:
        yield found


class World:
    """Namespaces `team` and `other`, the first with a registry in which one image is old and unused."""

    def __init__(self, api: FakeApi, client: KubeClient, sockets: Registry, ground: Ground) -> None:
        self.api, self.ground, self.objects = api, ground, Store()
        self.means = {"team": Means(registry=RegistryPlace(ground.url, "", True))}
        self.stores: dict[str, ObjectStore] = {"team": ground.store}
        self.leads = True
        self.secrets, self.client = PullSecrets(client), client
        self.registries = Registries(sockets, "test", frozenset(), {})

    def view(self, namespace: str) -> WorkspaceView:
        return WorkspaceView("", means=self.means.get(namespace, Means()))

    def open(self, namespace: str) -> ObjectStore:
        if namespace not in self.stores:
            raise BadStoreUrl("no store")
        return self.stores[namespace]

    async def clean(self, **config: Any) -> Answer:
        gate = AlwaysOpen() if self.leads else SimpleNamespace(open=False)
        told = SimpleNamespace(**{"global_registries": (), "registry_url": "", "job_namespaces": (), **config})
        retention = ImageRetention(
            self.client,
            self.objects,
            cast(Any, self),
            self.registries,
            self.secrets,
            cast(Config, told),
            cast(Any, gate),
        )
        return await retention.clean("team", 30)


@pytest.fixture
async def world(tmp_path: Path, running: RunningRegistry) -> AsyncIterator[World]:
    (tmp_path / "store").mkdir()
    api = FakeApi()
    await api.start()
    async with api.client() as client, Registry(insecure=frozenset({running.address}), user_agent="test") as sockets:
        url = f"{running.address}/{tmp_path.name.replace('_', '-').lower()}"
        yield World(api, client, sockets, Ground(sockets.client(), url, tmp_path / "store"))
    await api.stop()


async def unused(world: World) -> str:
    digest = await world.ground.image("unused", "layer")
    await world.ground.used(digest, days=40)
    return digest


async def test_an_unused_image_goes_and_is_told(world: World) -> None:
    digest = await unused(world)
    kept = await world.ground.image("kept")
    await world.ground.used(kept, days=40)
    named = job("iris", kept)
    await world.api.put(f"{JOBS}/iris", **{**named, "metadata": dict(named["metadata"])})

    answer = await world.clean()

    assert isinstance(answer, Found), answer
    report: Report = answer.value
    assert (1, 2) == (len(report.images), report.units), "the image and the list of its papers"
    assert report.images[0].startswith("lock-")
    assert [False, True] == [await world.ground.has(digest), await world.ground.has(kept)]
    again = await world.clean()
    assert isinstance(again, Found)
    assert () == again.value.images


async def test_nothing_goes_while_the_api_server_does_not_say_who_needs_what(world: World) -> None:
    digest = await unused(world)
    world.api.outage = Fault(403, "Forbidden")

    answer = await world.clean()

    assert isinstance(answer, Unavailable), answer
    assert "ApiServerUnavailable" == answer.reason
    assert await world.ground.has(digest)


async def test_nothing_goes_once_another_operator_leads(world: World) -> None:
    digest = await unused(world)
    world.leads = False

    with pytest.raises(NotLeading):
        await world.clean()
    assert await world.ground.has(digest)


async def test_nothing_goes_of_what_every_namespace_may_run(world: World) -> None:
    digest = await unused(world)

    answer = await world.clean(global_registries=(GlobalRegistry(url=world.ground.url + "/"),))

    assert isinstance(answer, Refused), answer
    assert "SharedByAll" == answer.reason
    assert await world.ground.has(digest)


async def test_runs_of_who_shares_the_registry_count_or_nothing_goes(world: World, tmp_path: Path) -> None:
    digest = await unused(world)
    world.objects.put(
        "Workspace", Workspace(metadata=ObjectMeta(name="default", namespace="other", resource_version="1"))
    )
    world.means["other"] = Means(trusted=(RegistryPlace(world.ground.url, "", True),))

    answer = await world.clean()
    assert isinstance(answer, Unavailable), answer
    assert "what the runs of namespace other need is not known" in answer.message

    (tmp_path / "other").mkdir()
    world.stores["other"] = open_store((tmp_path / "other").as_uri())
    await world.stores["other"].put(layout.job_record("iris-0123abcd"), f'{{"image": "{digest}"}}'.encode())
    assert isinstance(await world.clean(), Found)
    assert await world.ground.has(digest)

    world.means["other"] = Means()
    await world.clean()
    assert not await world.ground.has(digest), "it shares nothing any more"


async def test_a_default_registry_belongs_to_the_namespace_of_its_name(world: World) -> None:
    digest = await unused(world)
    parent, _, name = world.ground.url.rpartition("/")
    world.means[name] = world.means["team"]

    answer = await world.clean(registry_url=parent)

    assert isinstance(answer, Unavailable), answer
    assert f"namespace {name} " in answer.message
    assert await world.ground.has(digest)


async def test_only_the_namespaces_that_the_operator_looks_after_are_asked(world: World) -> None:
    await unused(world)

    assert isinstance(await world.clean(job_namespaces=("team",)), Found)

    assert JOBS.replace("/trainingjobs", "/namespaces/team/trainingjobs") in world.api.seen("GET")
    assert JOBS not in world.api.seen("GET")
