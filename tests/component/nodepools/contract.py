"""What every provider promises, whatever it is; each provider's test file only says how to make one."""

from typing import Any

import pytest

from stoker.api.kube import Node, ObjectMeta
from stoker.api.names import LABEL_COMPUTE
from stoker.nodepools.pool import NodePool, PoolError


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

    async def test_scaling_where_nothing_scales_is_told(self, pool: NodePool) -> None:
        if self.scales:
            await pool.scale_to(0, 0)
            return
        assert await pool.scale() is None
        with pytest.raises(PoolError, match="fixed number of nodes"):
            await pool.scale_to(0, 1)


Json = dict[str, Any]
