"""The provider of a ComputeCluster."""

from stoker.api.computecluster import ComputeCluster
from stoker.nodepools.external import ExternalPool
from stoker.nodepools.pool import NodePool, ObjectApi
from stoker.nodepools.scale import ScalePool
from stoker.nodepools.static import StaticPool


def pool_of(cluster: ComputeCluster, api: ObjectApi) -> NodePool:
    """The pool that a cluster's spec describes. The CRD's rules see to it that the block of the type is there."""
    provider, name = cluster.spec.provider, cluster.metadata.name
    if provider.type == "Static" and provider.static is not None:
        return StaticPool(name, provider.static)
    if provider.type == "Scale" and provider.scale is not None:
        return ScalePool(name, provider.scale, api)
    return ExternalPool()
