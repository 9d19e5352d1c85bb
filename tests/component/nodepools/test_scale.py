"""Scale keeps the contract over any object that has a scale subresource."""

from collections.abc import Mapping
from typing import Any

import pytest

from stoker.api.providers import ScaleProvider
from stoker.nodepools.pool import PoolError, ReplicasChanged
from stoker.nodepools.scale import ScalePool
from tests.component.nodepools.contract import Contract, Json

GROUP = "/apis/cluster.x-k8s.io/v1beta1"
OBJECT = f"{GROUP}/namespaces/machines/machinedeployments/cpu"


class Objects:
    """An API server with one scalable object and its group's discovery."""

    def __init__(self, replicas: int = 0) -> None:
        self.replicas, self.version = replicas, 1
        self.patches: list[Mapping[str, Any]] = []
        self.discovered = 0
        self.generation, self.status = 1, dict[str, Any]()

    async def get(self, path: str) -> Json:
        if path == GROUP:
            self.discovered += 1
            return {
                "resources": [
                    {"name": "machinedeployments", "kind": "MachineDeployment", "namespaced": True},
                    {"name": "machinedeployments/scale", "kind": "Scale", "namespaced": True},
                    {"name": "machines", "kind": "Machine", "namespaced": True},
                ]
            }
        if path == f"{OBJECT}/scale":
            return {"metadata": {"resourceVersion": str(self.version)}, "spec": {"replicas": self.replicas}}
        if path == OBJECT:
            return {"metadata": {"generation": self.generation}, "status": self.status}
        raise PoolError("NotFound", f"{path} not found")

    async def merge(self, path: str, body: Mapping[str, Any]) -> Json:
        assert path == f"{OBJECT}/scale"
        self.patches.append(body)
        if body["metadata"]["resourceVersion"] != str(self.version):
            raise PoolError("Conflict", "the object has been modified")
        self.replicas, self.version = body["spec"]["replicas"], self.version + 1
        return {}


def scale_pool(objects: Objects, kind: str = "MachineDeployment", name: str = "cpu", **given: Any) -> ScalePool:
    provider = ScaleProvider(
        api_version="cluster.x-k8s.io/v1beta1", kind=kind, name=name, node_selector={"pool": "cpu"},
        **{"namespace": "machines", **given},
    )  # fmt: skip
    return ScalePool("cpu", provider, objects)


class TestScale(Contract):
    scales = True

    @pytest.fixture
    def pool(self) -> ScalePool:
        return scale_pool(Objects())


async def test_it_reads_and_sets_the_replicas() -> None:
    objects = Objects(2)
    pool = scale_pool(objects)
    await pool.scale_to(2, 5)

    view = await pool.scale()
    assert (5, None) == (view.replicas, view.problem)


async def test_setting_twice_has_its_effect_once() -> None:
    objects = Objects(2)
    pool = scale_pool(objects)
    await pool.scale_to(2, 3)
    await pool.scale_to(2, 3)

    assert (3, 1) == (objects.replicas, len(objects.patches))


async def test_a_number_that_somebody_else_set_is_left_alone() -> None:
    objects = Objects(7)
    with pytest.raises(ReplicasChanged, match="MachineDeployment machines/cpu has 7 replicas, not 2"):
        await scale_pool(objects).scale_to(2, 3)

    assert objects.patches == []


async def test_a_change_between_reading_and_setting_is_noticed() -> None:
    class Racing(Objects):
        async def merge(self, path: str, body: Mapping[str, Any]) -> Json:
            self.version += 1
            return await super().merge(path, body)

    with pytest.raises(ReplicasChanged):
        await scale_pool(Racing(2)).scale_to(2, 3)


@pytest.mark.parametrize(
    ("given", "reason", "message"),
    [
        ({"kind": "Nothing"}, "ScaleKindUnknown", "has no kind 'Nothing'"),
        ({"kind": "Machine"}, "NotScalable", "Machine has no scale subresource"),
        ({"namespace": None}, "ScaleKindUnknown", "provider.scale.namespace: give it"),
        ({"name": "gone"}, "NotFound", "gone/scale not found"),
    ],
)
async def test_what_cannot_be_scaled_is_a_problem_of_the_pool(given: Json, reason: str, message: str) -> None:
    view = await scale_pool(Objects(), **given).scale()

    assert view.problem is not None
    assert view.problem[0] == reason
    assert message in view.problem[1]


async def test_the_plural_is_looked_up_once() -> None:
    objects = Objects()
    pool = scale_pool(objects)
    for _ in range(3):
        await pool.scale()

    assert objects.discovered == 1


@pytest.mark.parametrize("counted", ["updatedReplicas", "upToDateReplicas"])
async def test_nothing_is_lowered_during_a_rollout(counted: str) -> None:
    objects = Objects(3)
    objects.status = {"replicas": 4, counted: 1}
    pool = scale_pool(objects)
    words = "MachineDeployment machines/cpu replaces its machines (1 of 4 are new): no node is removed until it is done"

    assert words == (await pool.scale()).rollout
    with pytest.raises(PoolError) as caught:
        await pool.scale_to(3, 2)
    assert ("RolloutUnderWay", words) == (caught.value.reason, caught.value.message)
    assert 3 == objects.replicas
    await pool.scale_to(3, 4)
    assert 4 == objects.replicas, "growing takes nobody's node"

    objects.status = {"replicas": 4, counted: 4}
    assert "" == (await pool.scale()).rollout
    await pool.scale_to(4, 3)
    assert 3 == objects.replicas


async def test_a_change_that_its_controller_has_not_seen_may_begin_a_rollout() -> None:
    objects = Objects(3)
    objects.status = {"replicas": 3, "updatedReplicas": 3, "observedGeneration": 1}
    objects.generation = 2
    with pytest.raises(ReplicasChanged, match="has not been acted on yet"):
        await scale_pool(objects).scale_to(3, 2)

    assert 3 == objects.replicas


async def test_an_object_that_knows_no_rollouts_is_lowered() -> None:
    objects = Objects(3)
    objects.status = {"replicas": 3}
    await scale_pool(objects).scale_to(3, 2)

    assert 2 == objects.replicas
