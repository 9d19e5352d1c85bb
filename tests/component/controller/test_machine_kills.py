"""Whoever dies at whichever step of launch and removal: nothing is launched twice, and nothing is left on either side.

The operator's own parts (pools, executor, providers, the pool's plan) work over a fake API server, at a time of the test's
own; before each change that they make outside, one run of the scenario has them killed.
"""

from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import ExitStack
from typing import Any, Protocol

import pytest

from stoker.api.computecluster import ComputeCluster
from stoker.api.kube import Node
from stoker.api.names import API_VERSION
from stoker.controller.answers import Answers
from stoker.controller.executor import Executor
from stoker.controller.gate import AlwaysOpen
from stoker.controller.ledger import Ledger
from stoker.controller.pools import PlainObjects, Pools
from stoker.core import cluster as cluster_core
from stoker.core import times
from stoker.core.cluster.view import Demand
from stoker.kube.access import Access
from stoker.kube.client import KubeClient
from stoker.kube.events import Recorder
from stoker.kube.resources import COMPUTE_CLUSTERS
from stoker.kube.store import Key, Store
from stoker.nodepools.aws import AwsPool
from stoker.nodepools.aws_groups import TOKEN
from stoker.nodepools.choose import POOLS
from stoker.nodepools.karpenter import CLAIMS
from stoker.nodepools.kwok import BOOTS_UNTIL, KwokPool
from tests.component.nodepools.claims import Karpenter
from tests.support.aws import REGION, Aws, aws
from tests.support.fake_api import FakeApi

KEY = Key("ComputeCluster", "", "cpu")
PATH = COMPUTE_CLUSTERS.path(name="cpu")
NODES = "/api/v1/nodes"
GANG = 2
#: Passes that are enough for the scenario, whatever goes wrong on the way.
MOST_PASSES = 120
READY = [{"type": "Ready", "status": "True"}]


class Killed(BaseException):
    """The process ends here."""


class Cloud(Protocol):
    """What the world does by itself, and what it has seen."""

    provider: dict[str, Any]

    async def settle(self, made: KubeClient) -> None: ...

    def launched(self) -> set[str]: ...

    def there(self) -> set[str]: ...


class World:
    """A fake API server with one pool; time; and how many changes may be made until somebody dies."""

    def __init__(self, api: FakeApi) -> None:
        self.api = api
        self.now = 1_767_322_800.0
        self.left: int | None = None
        self.client = api.client()

    def count(self) -> None:
        """Before a change of the operator's."""
        if self.left is not None:
            if self.left == 0:
                raise Killed
            self.left -= 1

    def nodes(self) -> list[str]:
        return [path.rpartition("/")[2] for path in self.api.objects if path.startswith(f"{NODES}/")]

    async def ready(self, name: str) -> None:
        amounts = {"cpu": "8", "pods": "110"}
        status = {"conditions": READY, "capacity": amounts, "allocatable": amounts}
        await self.api.put(f"{NODES}/{name}", status=status)


class KwokCloud:
    provider: dict[str, Any] = {"type": "Kwok", "kwok": {"bootSeconds": 20}}  # noqa: RUF012

    def __init__(self, world: World) -> None:
        self._world = world
        self._seen: set[str] = set()

    async def settle(self, made: KubeClient) -> None:
        for name in self._world.nodes():
            self._seen.add(name)
            found = self._world.api.objects[f"{NODES}/{name}"]
            boots_until = times.seconds(found["metadata"]["annotations"][BOOTS_UNTIL])
            if boots_until is not None and self._world.now >= boots_until and "conditions" not in found["status"]:
                await self._world.ready(name)

    def launched(self) -> set[str]:
        return self._seen

    def there(self) -> set[str]:
        return set(self._world.nodes())


class KarpenterCloud:
    provider: dict[str, Any] = {"type": "Karpenter", "karpenter": {"nodeClass": {"name": "default"}}}  # noqa: RUF012

    def __init__(self, world: World) -> None:
        self._world = world
        self._karpenter = Karpenter(PlainObjects(world.client))
        self._seen: set[str] = set()

    async def settle(self, made: KubeClient) -> None:
        self._seen |= self.there()
        await self._karpenter.settle()
        for name in self._world.nodes():
            if name.removeprefix("ip-") not in self.there():
                await self._world.api.remove(f"{NODES}/{name}")  # Karpenter's finalizer takes it along
            elif "status" not in self._world.api.objects[f"{NODES}/{name}"]:
                await self._world.ready(name)

    def launched(self) -> set[str]:
        return self._seen

    def there(self) -> set[str]:
        return {path.rpartition("/")[2] for path in self._world.api.objects if path.startswith(f"{CLAIMS}/")}


class AwsCloud:
    def __init__(self, world: World, account: Aws, source: dict[str, Any]) -> None:
        self.provider = {"type": "AWS", "aws": {"region": REGION, "sources": [{"instanceType": "std", **source}]}}
        self._world, self._account = world, account
        self._seen: set[str] = set()

    async def settle(self, made: KubeClient) -> None:
        there = self.there()
        self._seen |= there
        for one in sorted(there):
            if f"ip-{one}" not in self._world.nodes():
                spec = {"providerID": f"aws:///{REGION}a/{one}"}
                await self._world.api.put(f"{NODES}/ip-{one}", spec=spec)
                await self._world.ready(f"ip-{one}")
        for name in self._world.nodes():
            if name.removeprefix("ip-") not in there:
                await self._world.api.remove(f"{NODES}/{name}")  # as AWS's node controller does it

    def launched(self) -> set[str]:
        return self._seen

    def there(self) -> set[str]:
        states = [{"Name": "instance-state-name", "Values": ["pending", "running"]}]
        found = self._account.ec2.describe_instances(Filters=[*states, {"Name": "tag-key", "Values": [TOKEN]}])
        return {one["InstanceId"] for group in found["Reservations"] for one in group["Instances"]}


class Operator:
    """One process: it knows nothing but what it reads."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._store = Store()
        self._client = KubeClient(Access(world.api.url), user_agent="test/1", before_write=world.count)
        self._ledger = Ledger(self._store, lambda key: None)
        self._answers = Answers(self._answer, lambda key: None, AlwaysOpen(), self._clock)
        self._pools = Pools(self._store, self._ledger, self._client, self._clock)
        self._executor = Executor(
            self._client, self._store, self._answers, self._pools, Recorder(self._client, "test", self._clock),
            AlwaysOpen(), lambda key: None, self._clock,
        )  # fmt: skip

    def _clock(self) -> float:
        return self._world.now

    @staticmethod
    async def _answer(question: Any) -> Any:
        raise AssertionError(f"nobody asks {question}")

    async def one_pass(self, demand: Demand | None) -> bool:
        """Look, plan, do. Whether the gang has its nodes."""
        listing = await self._client.list(NODES, Node)
        self._store.replace("Node", listing.items, listing.resource_version)
        self._store.put("ComputeCluster", await self._client.get(PATH, ComputeCluster))
        self._ledger.want("job", "cpu", demand)
        view = await self._pools.view("cpu")
        assert view is not None
        made = cluster_core.plan(view, self._world.now)
        self._ledger.planned("cpu", made)
        await self._executor.do(KEY, view.cluster, made.plan)
        return len(made.assignments.get(("job", 1), ())) == GANG

    async def close(self) -> None:
        await self._answers.close()
        await self._client.close()


@pytest.fixture
async def world() -> AsyncIterator[World]:
    api = FakeApi()
    await api.start()
    found = World(api)
    yield found
    await found.client.close()
    await api.stop()


@pytest.fixture(scope="module")
def account() -> Iterator[Aws]:
    with aws() as found:
        yield found


@pytest.fixture(params=["Kwok", "Karpenter", "AWS group", "AWS template"])
def make(
    request: pytest.FixtureRequest, world: World, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[[], Cloud]]:
    """A cloud with nothing in it."""
    with ExitStack() as stack:
        if request.param == "Kwok":
            monkeypatch.setitem(POOLS, "Kwok", lambda *given: KwokPool(*given, lambda: world.now))
            yield lambda: KwokCloud(world)
        elif request.param == "Karpenter":
            yield lambda: KarpenterCloud(world)
        else:
            account: Aws = request.getfixturevalue("account")
            account.before_change = world.count
            monkeypatch.setitem(POOLS, "AWS", lambda cluster, block, api: AwsPool(cluster, block, account.clients))

            def empty() -> Cloud:
                account.empty()
                account.group("cpu-group")
                template = {"id": account.template, "subnets": [account.subnets[0]]}
                named = {"autoScalingGroup": "cpu-group"} if "group" in request.param else {"launchTemplate": template}
                return AwsCloud(world, account, named)

            yield empty
            account.before_change = lambda: None
            account.empty()
        stack.close()


async def play(world: World, cloud: Cloud, killed_before: int | None) -> bool:
    """A gang comes, has its machines, ends; its machines go. Whether somebody was killed on the way."""
    world.left = killed_before
    spec = {
        "provider": cloud.provider, "maxInstances": 4, "allowedNamespaces": {}, "idleSecondsBeforeScaleDown": 10,
        "instanceTypes": [{"name": "std", "resources": {"cpu": "8"}}],
    }  # fmt: skip
    for path in list(world.api.objects):
        world.api.vanish(path)
    await world.api.put(PATH, apiVersion=API_VERSION, kind="ComputeCluster", spec=spec)
    gang = Demand("job", "team", "gang", 1, GANG, world.now)
    operator, killed, had, ended_at = Operator(world), False, False, 0.0
    for _ in range(MOST_PASSES):
        world.now += 2
        world.api.creation_timestamp = times.rfc3339(world.now)
        await cloud.settle(world.client)
        ended = had and world.now >= ended_at
        try:
            if await operator.one_pass(None if ended else gang) and not had:
                had, ended_at = True, world.now + 10
        except Killed:
            killed, world.left = True, None
            await operator.close()
            operator = Operator(world)
        status = world.api.objects[PATH].get("status", {})
        if ended and not cloud.there() and not world.nodes() and not status.get("intents"):
            break
    await operator.close()
    assert had, "the gang got its machines"
    assert set() == cloud.there(), "no machine is left"
    assert [] == world.nodes(), "and no Node"
    assert GANG == len(cloud.launched()), "nothing was launched twice"
    assert not world.api.objects[PATH]["status"].get("intents")
    return killed


async def test_an_operator_that_dies_at_any_step_leaves_nothing_and_launches_nothing_twice(
    world: World, make: Callable[[], Cloud]
) -> None:
    step = 0
    while await play(world, make(), step):
        step += 1

    assert step >= 6, "launch and removal are several changes each"
