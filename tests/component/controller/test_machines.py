"""Orders to a provider of single machines are carried out, and what came of them is in the next view of the pool."""

from collections.abc import AsyncIterator, Collection
from typing import Any

import pytest

from stoker.api.computecluster import ComputeCluster
from stoker.api.kube import Node, NodeSpec, ObjectMeta
from stoker.api.names import API_VERSION, LABEL_COMPUTE, LABEL_MACHINE
from stoker.controller.answers import Answers
from stoker.controller.executor import Executor, Outcome
from stoker.controller.gate import AlwaysOpen, NotLeading
from stoker.controller.ledger import Ledger
from stoker.controller.machines import BUSY_LIST_SECONDS, LIST_SECONDS
from stoker.controller.pools import Pools
from stoker.core.cluster.machines import LaunchFailure, Machine
from stoker.core.cluster.view import ClusterView, Holding, RoomsView
from stoker.core.plan import (
    HandOver,
    HoldCluster,
    LaunchMachines,
    Plan,
    ReleaseCluster,
    ScaleTo,
    TaintLeaving,
    TaintPreempted,
    TakeBack,
    TerminateMachines,
)
from stoker.kube.events import Recorder
from stoker.kube.resources import COMPUTE_CLUSTERS
from stoker.kube.store import Key, Store
from stoker.nodepools.pool import PoolError
from tests.support.fake_api import FakeApi, Fault

KEY = Key("ComputeCluster", "", "cpu")
PATH = COMPUTE_CLUSTERS.path(name="cpu")
NODES = "/api/v1/nodes"
LAUNCH = LaunchMachines("cpu", "cpu-1", 2, "std", "Dedicated", atomic=False)


class Closed(AlwaysOpen):
    @property
    def open(self) -> bool:
        return False


class Bench:
    """Pools and an executor over a fake API server with one ComputeCluster of type Kwok."""

    def __init__(self, api: FakeApi, gate: Any = None) -> None:
        self.api, self.now = api, 1000.0
        self.store, self.client = Store(), api.client()
        self.answers = Answers(self._answer, lambda key: None, AlwaysOpen(), self.clock)
        self.pools = Pools(self.store, Ledger(self.store, lambda key: None), self.client, self.clock)
        self.executor = Executor(
            self.client, self.store, self.answers, self.pools, Recorder(self.client, "test", self.clock),
            gate or AlwaysOpen(), lambda key: None, self.clock,
        )  # fmt: skip

    def clock(self) -> float:
        return self.now

    @staticmethod
    async def _answer(question: Any) -> Any:
        raise AssertionError(f"nobody asks {question}")

    async def cluster(self, provider: dict[str, Any], *, meant: bool = True) -> None:
        """meant: the launch stands in the status."""
        spec = {
            "provider": provider, "maxInstances": 5, "allowedNamespaces": {},
            "instanceTypes": [{"name": "std", "resources": {"cpu": "8"}}],
        }  # fmt: skip
        intent = {"token": "cpu-1", "kind": "Launch", "count": 2, "instanceType": "std"}
        await self.api.put(
            PATH, apiVersion=API_VERSION, kind="ComputeCluster", spec=spec, status={"intents": [intent] * meant}
        )
        self.store.put("ComputeCluster", await self.client.get(PATH, ComputeCluster))

    async def do(self, *actions: Any) -> Outcome:
        return await self.executor.do(KEY, self.store.get(*KEY), Plan(actions))

    async def view(self) -> ClusterView:
        found = await self.pools.view("cpu")
        assert found is not None
        return found

    async def machines(self) -> list[str]:
        found = (await self.view()).machines
        assert found is not None
        return [machine.id for machine in found.machines]

    def lists(self) -> int:
        return self.api.requests.count(
            ("GET", NODES, {"labelSelector": "stoker.dev/compute=cpu,stoker.dev/machine", "limit": "500"})
        )


@pytest.fixture
async def bench(api: FakeApi) -> AsyncIterator[Bench]:
    found = Bench(api)
    await found.cluster({"type": "Kwok", "kwok": {}})
    yield found
    await found.answers.close()
    await found.client.close()


async def test_what_was_launched_is_in_the_next_view(bench: Bench) -> None:
    assert [] == await bench.machines()
    outcome = await bench.do(LAUNCH)

    assert bench.now + BUSY_LIST_SECONDS == outcome.look_again_at
    assert ["cpu-1-0", "cpu-1-1"] == await bench.machines()
    view = await bench.view()
    assert view.scale is None
    assert view.machines is not None
    assert view.machines.capabilities.atomic


async def test_a_launch_that_fails_is_told_to_the_next_plan_at_once(bench: Bench) -> None:
    faults = [{"instanceType": "std", "fault": "Quota", "message": "no more than 0 of these"}]
    await bench.cluster({"type": "Kwok", "kwok": {"launchFaults": faults}})
    outcome = await bench.do(LAUNCH)

    expected = LaunchFailure("cpu-1", "Quota", "SimulatedQuota", "no more than 0 of these", bench.now, 0)
    assert bench.now == outcome.look_again_at
    assert (expected,) == (await bench.view()).launch_failures


async def test_a_failure_is_kept_while_the_launch_is_meant_and_survives_another_spec(bench: Bench) -> None:
    await bench.cluster({"type": "Kwok", "kwok": {"capacity": 1}})
    await bench.do(LAUNCH)
    await bench.cluster({"type": "Kwok", "kwok": {"capacity": 2}})
    assert [("cpu-1", 1)] == [(one.token, one.launched) for one in (await bench.view()).launch_failures]

    await bench.do(LAUNCH)
    assert () == (await bench.view()).launch_failures, "it has come whole meanwhile"


async def test_a_failure_is_forgotten_when_its_launch_stands_in_the_status_no_more(bench: Bench) -> None:
    await bench.cluster({"type": "Kwok", "kwok": {"capacity": 1}})
    await bench.do(LAUNCH)
    await bench.cluster({"type": "Kwok", "kwok": {"capacity": 1}}, meant=False)

    assert () == (await bench.view()).launch_failures


async def test_what_was_terminated_is_gone_from_the_next_view(bench: Bench) -> None:
    await bench.do(LAUNCH)
    await bench.machines()
    await bench.do(TerminateMachines("cpu", "cpu-2", ("cpu-1-0",)))

    assert ["cpu-1-1"] == await bench.machines()


async def test_a_steady_pool_is_listed_now_and_then(bench: Bench) -> None:
    await bench.machines()
    await bench.machines()
    assert 1 == bench.lists()
    assert bench.now + LIST_SECONDS == bench.pools.due("cpu")

    bench.now += LIST_SECONDS
    await bench.machines()
    assert 2 == bench.lists()


async def test_a_pool_with_machines_that_boot_is_listed_soon(bench: Bench) -> None:
    await bench.cluster({"type": "Kwok", "kwok": {"bootSeconds": 86400}})
    await bench.do(LAUNCH)
    bench.api.objects[f"{NODES}/cpu-1-0"]["metadata"]["creationTimestamp"] = "2999-01-01T00:00:00Z"
    await bench.machines()

    assert bench.now + BUSY_LIST_SECONDS == bench.pools.due("cpu")


async def test_a_pool_that_cannot_be_listed_says_why(bench: Bench) -> None:
    bench.api.fail("GET", Fault(403, "Forbidden", "nodes is forbidden"))
    found = (await bench.view()).machines

    assert found is not None
    assert ("Forbidden", "nodes is forbidden") == found.problem


async def test_a_pool_that_is_counted_launches_no_machines(bench: Bench) -> None:
    await bench.cluster({"type": "Static", "static": {"nodeSelector": {"a": "b"}}})
    with pytest.raises(PoolError, match="type Static launches and terminates no single machines"):
        await bench.do(LAUNCH)
    assert (await bench.view()).machines is None
    assert bench.pools.due("cpu") is None


async def test_a_pool_of_machines_has_no_number_to_set(bench: Bench) -> None:
    with pytest.raises(PoolError, match="type Kwok has no number of nodes to set"):
        await bench.do(ScaleTo("cpu", 0, 1))


async def test_a_machine_is_found_by_its_nodes_label_or_provider_id(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A provider that knows instances only: the Node says which one it is."""
    pool = bench.pools.pool(bench.store.get(*KEY))
    instances = ("i-1", "i-2", "i-3")

    async def listed() -> tuple[Machine, ...]:
        return tuple(Machine(id, "std", "Dedicated", "Running", 0.0) for id in instances)

    monkeypatch.setattr(pool, "list", listed)
    labels = {LABEL_COMPUTE: "cpu", LABEL_MACHINE: "i-1"}
    bench.store.put("Node", Node(metadata=ObjectMeta(name="one", uid="1", labels=labels)))
    labels = {LABEL_COMPUTE: "cpu", LABEL_MACHINE: "?"}
    spec = NodeSpec(provider_id="aws:///eu-west-1a/i-2")
    bench.store.put("Node", Node(metadata=ObjectMeta(name="two", uid="2", labels=labels), spec=spec))

    found = (await bench.view()).machines
    assert found is not None
    assert {"i-1": "one", "i-2": "two", "i-3": ""} == {one.id: one.node for one in found.machines}


@pytest.fixture
def held(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> list[set[str]]:
    """What the provider was told to hold, each time, while a job has the node of machine cpu-1-0."""
    told: list[set[str]] = []
    pool = bench.pools.pool(bench.store.get(*KEY))

    async def hold(ids: Collection[str]) -> None:
        told.append(set(ids))

    monkeypatch.setattr(pool, "hold", hold)
    holding = Holding("job", 1, ("cpu-1-0",), namespace="n")
    monkeypatch.setattr(Ledger, "holdings", lambda self, cluster: (holding,) if cluster == "cpu" else ())
    return told


async def test_machines_with_jobs_are_held_when_they_change(bench: Bench, held: list[set[str]]) -> None:
    await bench.view()
    await bench.do(LAUNCH)
    for _ in range(3):
        await bench.view()

    assert [set(), {"cpu-1-0"}] == held


async def test_what_cannot_be_held_is_told_and_stops_nothing(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    pool = bench.pools.pool(bench.store.get(*KEY))

    async def hold(ids: Collection[str]) -> None:
        raise PoolError("AccessDenied", "not authorized to protect")

    monkeypatch.setattr(pool, "hold", hold)
    await bench.do(LAUNCH)
    found = (await bench.view()).machines

    assert found is not None
    assert 2 == len(found.machines)
    ((reason, message),) = found.warnings
    assert "AccessDenied" == reason
    assert "machines with jobs are not protected from others: not authorized to protect" == message


async def test_room_that_is_asked_for_is_in_the_next_view_and_taken_back(bench: Bench) -> None:
    block = {"className": "check-capacity.autoscaling.x-k8s.io"}
    await bench.cluster({"type": "ProvisioningRequest", "provisioningRequest": block})
    view = await bench.view()
    assert (None, None, RoomsView()) == (view.machines, view.scale, view.rooms)
    assert bench.pools.due("cpu") is None

    outcome = await bench.do(HandOver("cpu", "team", "gang", "uid-of-gang", 1, 2))
    assert outcome.look_again_at is not None
    rooms = (await bench.view()).rooms
    assert rooms is not None
    (found,) = rooms.requests.values()
    assert "Waiting" == found.answer
    due = bench.pools.due("cpu")
    assert due is not None, "nobody tells of an answer"
    assert bench.now < due <= bench.now + 5

    await bench.do(TakeBack("cpu", found.namespace, found.name, found.uid))
    assert RoomsView() == (await bench.view()).rooms


async def test_requests_that_cannot_be_listed_say_why(bench: Bench) -> None:
    block = {"className": "check-capacity.autoscaling.x-k8s.io"}
    await bench.cluster({"type": "ProvisioningRequest", "provisioningRequest": block})
    bench.api.fail("GET", Fault(403, "Forbidden", "provisioningrequests is forbidden"))
    rooms = (await bench.view()).rooms

    assert rooms is not None
    assert rooms.problem is not None
    assert "Forbidden" == rooms.problem[0]


async def test_a_pool_without_anybody_to_ask_is_asked_for_no_room(bench: Bench) -> None:
    with pytest.raises(PoolError, match="type Kwok has nobody to ask for room"):
        await bench.do(HandOver("cpu", "team", "gang", "uid-of-gang", 1, 2))


async def test_who_does_not_lead_orders_nothing(api: FakeApi) -> None:
    closed = Bench(api, Closed())
    await closed.cluster({"type": "Kwok", "kwok": {}})
    with pytest.raises(NotLeading):
        await closed.do(LAUNCH)

    assert [] == closed.api.seen("POST")
    await closed.answers.close()
    await closed.client.close()


async def test_a_cluster_that_has_gone_is_forgotten(bench: Bench) -> None:
    await bench.do(LAUNCH)
    bench.store.remove("ComputeCluster", bench.store.get(*KEY))
    bench.pools.forget("cpu")

    assert await bench.pools.view("cpu") is None
    assert bench.pools.due("cpu") is None


async def test_a_cluster_is_held_while_it_has_machines_and_only_the_one_that_was_meant(bench: Bench) -> None:
    uid = bench.store.get(*KEY).metadata.uid
    await bench.api.put(PATH, metadata={"finalizers": ["other.example/x"]})
    finalizers = lambda: bench.api.objects[PATH]["metadata"]["finalizers"]  # noqa: E731

    await bench.do(HoldCluster("cpu", "another"))
    assert ["other.example/x"] == finalizers()
    await bench.do(HoldCluster("cpu", uid))
    await bench.do(HoldCluster("cpu", uid))
    assert ["other.example/x", "stoker.dev/machines"] == finalizers()
    await bench.do(ReleaseCluster("cpu", uid))
    assert ["other.example/x"] == finalizers()


async def test_a_node_that_is_taken_back_ends_its_pods(bench: Bench) -> None:
    await bench.do(LAUNCH)
    await bench.do(TaintPreempted("cpu", "cpu-1-0"))
    await bench.do(TaintPreempted("cpu", "cpu-1-0"))

    taints = bench.api.objects[f"{NODES}/cpu-1-0"]["spec"]["taints"]
    assert [{"key": "stoker.dev/preempted", "effect": "NoExecute"}] == [
        taint for taint in taints if taint["effect"] == "NoExecute"
    ]


async def test_the_time_of_a_node_that_leaves_counts_from_its_taint(bench: Bench) -> None:
    """However long others had their turn before it: until then pods may land there."""
    await bench.do(LAUNCH)
    bench.now += 9.0
    await bench.do(TaintLeaving("cpu", "cpu-1-0", int(bench.now) - 9))

    taints = bench.api.objects[f"{NODES}/cpu-1-0"]["spec"]["taints"]
    assert [str(int(bench.now))] == [taint["value"] for taint in taints if taint["key"] == "stoker.dev/leaving"]
