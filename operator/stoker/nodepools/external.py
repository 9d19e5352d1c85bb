"""External: the cluster's own autoscaler brings nodes for our pods; we own none."""

from stoker.api.kube import Node
from stoker.nodepools.pool import cannot_scale


class ExternalPool:
    def owns(self, node: Node) -> bool:
        return False

    async def scale(self) -> None:
        return None

    async def scale_to(self, from_replicas: int, replicas: int) -> None:
        raise cannot_scale("External")
