"""Static: nodes that exist already, known by their labels; never added, never removed."""

from stoker.api.kube import Node
from stoker.api.names import LABEL_COMPUTE
from stoker.api.providers import StaticProvider
from stoker.nodepools.pool import cannot_scale, has_labels


class StaticPool:
    def __init__(self, name: str, provider: StaticProvider) -> None:
        self._name = name
        self._selector = provider.node_selector

    def owns(self, node: Node) -> bool:
        # The label of another pool wins over a selector that happens to match: a node has one pool.
        return node.metadata.labels.get(LABEL_COMPUTE, self._name) == self._name and has_labels(node, self._selector)

    async def scale(self) -> None:
        return None

    async def scale_to(self, from_replicas: int, replicas: int) -> None:
        raise cannot_scale("Static")
