"""What every provider promises, whatever it is; each provider's test file only says how to make one.

`Contract` is for every pool, `MachineContract` for those that launch and terminate single machines.
"""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, get_args

import pytest

from stoker.api.kube import Node, ObjectMeta
from stoker.api.names import LABEL_COMPUTE
from stoker.core.cluster.machines import LaunchFault, Machine
from stoker.nodepools.pool import CountedPool, LaunchError, MachinePool, NodePool, PoolError

Json = dict[str, Any]


def node(**labels: str) -> Node:
    return Node(metadata=ObjectMeta(name="n", labels={name.replace("_", "/"): value for name, value in labels.items()}))


class Contract:
    """Subclasses give `pool`: a pool called `cpu` whose nodes carry `pool: cpu`."""

    #: Whether it owns nodes, and whether it can be scaled.
    owns_nodes = True
    scales = False

    def test_it_owns_the_nodes_of_its_selector_only(self, pool: NodePool) -> None:
        assert pool.owns(node(pool="cpu")) is self.owns_nodes
        assert not pool.owns(node(pool="gpu"))
        assert not pool.owns(node())

    def test_a_node_that_another_pool_has_taken_is_not_its_own(self, pool: NodePool) -> None:
        taken = Node(metadata=ObjectMeta(name="n", labels={"pool": "cpu", LABEL_COMPUTE: "other"}))

        assert not pool.owns(taken)

    async def test_scaling_where_nothing_scales_is_told(self, pool: CountedPool) -> None:
        if self.scales:
            await pool.scale_to(0, 0)
            return
        assert await pool.scale() is None
        with pytest.raises(PoolError, match="fixed number of nodes"):
            await pool.scale_to(0, 1)


@dataclass
class Provider:
    """A provider for the tests of the promise: a simulated cloud, and pools in it.

    pool: a new object for the pool of a name (`cpu`, `gpu`), as a process that has just started makes it. refuse: from
    now on launches are refused for this reason. only: there are so many machines left to be had; None where the
    provider's double cannot run out. settle: let the cloud do what it does by itself. stranger: have somebody else make
    a machine beside the pools, if there can be such a one. faults: the provider's errors, and what kind each is.
    """

    pool: Callable[[str], MachinePool]
    refuse: Callable[[LaunchFault], Awaitable[None]]
    stranger: Callable[[], Awaitable[None]]
    only: Callable[[int], Awaitable[None]] | None = None
    settle: Callable[[], Awaitable[None]] | None = None
    faults: Sequence[tuple[Exception, LaunchFault]] = ()
    #: Faults that the provider cannot have at a launch.
    impossible: frozenset[LaunchFault] = field(default_factory=frozenset)


async def launch(pool: MachinePool, token: str, count: int, *, atomic: bool = False, kind: str = "std") -> None:
    await pool.launch(count=count, instance_type=kind, tier="Dedicated", zone="", atomic=atomic, token=token)


class MachineContract:
    """Subclasses give `provider`. The pools have the instance type `std` and room for ten machines."""

    async def there(self, provider: Provider, pool: MachinePool) -> list[Machine]:
        """The machines that are there to stay."""
        if provider.settle is not None:
            await provider.settle()
        return sorted((one for one in await pool.list() if one.state != "Terminating"), key=lambda one: one.id)

    async def launched(self, provider: Provider, pool: MachinePool, token: str, count: int) -> None:
        """What is known of a launch in the end: some clouds take the order and say only later that they cannot."""
        await launch(pool, token, count)
        if provider.settle is not None:
            await provider.settle()
        await launch(pool, token, count)

    async def test_a_launch_shows_in_the_list(self, provider: Provider) -> None:
        pool = provider.pool("cpu")
        assert [] == await self.there(provider, pool)

        await launch(pool, "cpu-1", 2)

        found = await self.there(provider, pool)
        assert 2 == len({one.id for one in found})
        assert {("std", "Dedicated", "cpu-1")} == {(one.instance_type, one.tier, one.token) for one in found}
        assert {one.state for one in found} <= {"Booting", "Running"}
        assert all(one.launched_at > 1.5e9 for one in found)

    async def test_the_same_token_launches_once(self, provider: Provider) -> None:
        pool = provider.pool("cpu")
        for _ in range(3):
            await launch(pool, "cpu-1", 2)

        assert 2 == len(await self.there(provider, pool))

    async def test_a_new_process_knows_what_the_former_one_launched(self, provider: Provider) -> None:
        await launch(provider.pool("cpu"), "cpu-1", 2)
        before = await self.there(provider, provider.pool("cpu"))

        await launch(provider.pool("cpu"), "cpu-1", 2)

        assert before == await self.there(provider, provider.pool("cpu"))

    async def test_another_token_launches_more(self, provider: Provider) -> None:
        pool = provider.pool("cpu")
        await launch(pool, "cpu-1", 2)
        before = await self.there(provider, pool)
        await launch(pool, "cpu-2", 1)

        found = await self.there(provider, pool)
        assert ["cpu-1", "cpu-1", "cpu-2"] == sorted(one.token for one in found)
        assert {one.id for one in before} < {one.id for one in found}

    async def test_the_machine_that_is_named_goes(self, provider: Provider) -> None:
        pool = provider.pool("cpu")
        await launch(pool, "cpu-1", 3)
        first, second, third = await self.there(provider, pool)

        await pool.terminate([second.id], token="cpu-2")

        assert [first.id, third.id] == [one.id for one in await self.there(provider, pool)]

    async def test_terminating_what_is_gone_is_fine(self, provider: Provider) -> None:
        pool = provider.pool("cpu")
        await launch(pool, "cpu-1", 2)
        first, second = await self.there(provider, pool)
        for _ in range(2):
            await pool.terminate([first.id], token="cpu-2")
        await provider.pool("cpu").terminate([first.id, "never-was"], token="cpu-3")

        assert [second.id] == [one.id for one in await self.there(provider, pool)]

    async def test_nothing_comes_back_by_itself(self, provider: Provider) -> None:
        pool = provider.pool("cpu")
        await launch(pool, "cpu-1", 2)
        await pool.terminate([one.id for one in await self.there(provider, pool)], token="cpu-2")

        assert [] == await self.there(provider, pool)
        await launch(pool, "cpu-3", 1)
        assert ["cpu-3"] == [one.token for one in await self.there(provider, pool)]

    async def test_a_pool_lists_and_terminates_nothing_of_another(self, provider: Provider) -> None:
        cpu, gpu = provider.pool("cpu"), provider.pool("gpu")
        await launch(cpu, "cpu-1", 1)
        await launch(gpu, "gpu-1", 1)
        (of_cpu,), (of_gpu,) = await self.there(provider, cpu), await self.there(provider, gpu)
        assert of_cpu.id != of_gpu.id

        await cpu.terminate([of_gpu.id], token="cpu-2")

        assert [of_gpu.id] == [one.id for one in await self.there(provider, gpu)]

    async def test_what_somebody_else_made_is_left_alone(self, provider: Provider) -> None:
        await provider.stranger()
        pool = provider.pool("cpu")

        assert [] == await self.there(provider, pool)

    @pytest.mark.parametrize("fault", get_args(LaunchFault))
    async def test_a_refused_launch_says_of_what_kind_it_is(self, provider: Provider, fault: LaunchFault) -> None:
        if fault in provider.impossible:
            assert fault not in {kind for _, kind in provider.faults}
            return
        await provider.refuse(fault)
        pool = provider.pool("cpu")
        with pytest.raises(LaunchError) as caught:
            await self.launched(provider, pool, "cpu-1", 1)

        assert (fault, 0) == (caught.value.fault, caught.value.launched)
        assert caught.value.reason
        assert caught.value.message
        assert [] == await self.there(provider, pool)

    async def test_each_error_of_the_provider_has_its_kind(self, provider: Provider) -> None:
        assert provider.faults
        found = [(error, provider.pool("cpu").classify(error)) for error, _ in provider.faults]

        assert list(provider.faults) == found

    async def test_an_atomic_launch_brings_all_or_none(self, provider: Provider) -> None:
        if not (await provider.pool("cpu").describe()).atomic:
            return
        assert provider.only is not None, "a provider that can do it has a double that shows it"
        await provider.only(2)
        pool = provider.pool("cpu")
        with pytest.raises(LaunchError) as caught:
            await launch(pool, "cpu-1", 3, atomic=True)

        assert ("Capacity", 0) == (caught.value.fault, caught.value.launched)
        assert [] == await self.there(provider, pool)

    async def test_a_launch_that_comes_in_part_says_how_much_came(self, provider: Provider) -> None:
        if provider.only is None:
            return
        await provider.only(2)
        pool = provider.pool("cpu")
        with pytest.raises(LaunchError) as caught:
            await self.launched(provider, pool, "cpu-1", 3)

        assert ("Capacity", 2) == (caught.value.fault, caught.value.launched)
        assert 2 == len(await self.there(provider, pool))

    async def test_holding_machines_may_be_repeated(self, provider: Provider) -> None:
        pool = provider.pool("cpu")
        await launch(pool, "cpu-1", 2)
        first, second = await self.there(provider, pool)
        for ids in ([first.id], [first.id, second.id], [], [second.id, "never-was"], [second.id, "never-was"]):
            await pool.hold(ids)

        await pool.terminate([second.id], token="cpu-2")
        assert [first.id] == [one.id for one in await self.there(provider, pool)]
