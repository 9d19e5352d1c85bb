"""How many nodes and GPUs a namespace may have at a time, over all pools, as its Workspace says."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from stoker.api.computecluster import ComputeCluster
from stoker.core import units
from stoker.core.cluster.view import ClusterView, Demand, Wait

#: The reason of whoever waits for jobs of its own namespace.
REACHED = "QuotaReached"


@dataclass(slots=True)
class Taken:
    """What namespaces have in this pool, by namespace, while gangs are served."""

    gpus_of: Mapping[str, int]
    nodes: dict[str, int] = field(default_factory=dict)
    gpus: dict[str, int] = field(default_factory=dict)

    def take(self, namespace: str, count: int, kind: str) -> None:
        self.nodes[namespace] = self.nodes.get(namespace, 0) + count
        self.gpus[namespace] = self.gpus.get(namespace, 0) + count * self.gpus_of.get(kind, 0)


def gpus_of(cluster: ComputeCluster) -> Mapping[str, int]:
    """GPUs of one node, by type: what resources whose name ends with `/gpu` come to."""
    return {
        kind.name: sum(int(units.parse(amount)) for name, amount in kind.resources.items() if name.endswith("/gpu"))
        for kind in cluster.spec.instance_types
    }


def exceeded(view: ClusterView, demand: Demand, taken: Taken, kind: str) -> Wait | None:
    """Why a gang's namespace may not have its nodes now; those behind it do not wait for that."""
    quota = view.quotas.get(demand.namespace)
    if quota is None:
        return None
    gpus = demand.count * taken.gpus_of.get(kind, 0)
    for what, member, most, has, wants in (
        (
            "nodes",
            "maxNodes",
            quota.max_nodes,
            quota.nodes_elsewhere + taken.nodes.get(demand.namespace, 0),
            demand.count,
        ),
        ("GPUs", "maxGPUs", quota.max_gpus, quota.gpus_elsewhere + taken.gpus.get(demand.namespace, 0), gpus),
    ):
        if most is None or not wants or has + wants <= most:
            continue
        fix = f"raise spec.quota.{member} of Workspace/default in {demand.namespace}"
        if wants > most:
            return Wait(
                "LargerThanQuota", f"the job needs {wants} {what} and {demand.namespace} may have {most}",
                f"{fix}, or submit again with fewer nodes",
            )  # fmt: skip
        return Wait(
            REACHED, f"{demand.namespace} has {has} of its {most} {what}, and the job needs {wants} more",
            f"wait until a job of {demand.namespace} ends, or {fix}",
        )  # fmt: skip
    return None
