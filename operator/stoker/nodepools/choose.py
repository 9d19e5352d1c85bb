"""The provider of a ComputeCluster: one line for each type."""

from collections.abc import Callable
from typing import Any

from stoker.api.computecluster import ComputeCluster
from stoker.nodepools.aws import AwsPool, Clients
from stoker.nodepools.external import ExternalPool
from stoker.nodepools.karpenter import KarpenterPool
from stoker.nodepools.kwok import KwokPool
from stoker.nodepools.pool import NodePool, ObjectApi
from stoker.nodepools.provisioning_request import ProvisioningRequestPool
from stoker.nodepools.scale import ScalePool
from stoker.nodepools.static import StaticPool

#: Makes a pool of a cluster, the block of its type, and the API server. The CRD's rules see to it that the block is there.
POOLS: dict[str, Callable[[ComputeCluster, Any, ObjectApi], NodePool]] = {
    "Static": lambda cluster, block, api: StaticPool(cluster.metadata.name, block),
    "Kwok": KwokPool,
    "Scale": lambda cluster, block, api: ScalePool(cluster.metadata.name, block, api),
    "AWS": lambda cluster, block, api: AwsPool(cluster, block, lambda: Clients.of(block.region)),
    "Karpenter": KarpenterPool,
    "ProvisioningRequest": ProvisioningRequestPool,
    "External": lambda cluster, block, api: ExternalPool(),
}


def pool_of(cluster: ComputeCluster, api: ObjectApi) -> NodePool:
    """The pool that a cluster's spec describes."""
    provider = cluster.spec.provider
    return POOLS[provider.type](cluster, provider.block, api)
