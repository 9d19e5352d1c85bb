"""How many nodes and GPUs a namespace may have at a time, and what they may cost in a month, over all pools, as its
Workspace says."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from stoker.api.computecluster import ComputeCluster
from stoker.core import times, units
from stoker.core.cluster import share
from stoker.core.cluster.view import ClusterView, Demand, Quota, Wait

#: The reason of whoever waits for jobs of its own namespace, or for the next month.
REACHED = "QuotaReached"


@dataclass(slots=True)
class Taken:
    """What namespaces have in this pool, by namespace, while gangs are served. prices: of one node, by type. spent: what
    they cost here this month. now: seconds since the epoch."""

    cluster: ComputeCluster
    prices: Mapping[str, float] = field(default_factory=dict)
    spent: Mapping[str, float] = field(default_factory=dict)
    now: float = 0.0
    nodes: dict[str, int] = field(default_factory=dict)
    gpus: dict[str, int] = field(default_factory=dict)

    def take(self, namespace: str, count: int, kind: str, requests: tuple[tuple[str, str], ...] = ()) -> None:
        """requests: of the job whose nodes they are."""
        self.nodes[namespace] = self.nodes.get(namespace, 0) + count
        gpus = count * gpus_of(self.cluster, kind, requests)
        self.gpus[namespace] = self.gpus.get(namespace, 0) + gpus


def gpus_of(cluster: ComputeCluster, kind: str, requests: tuple[tuple[str, str], ...] = ()) -> int:
    """GPUs that a job has on one node of a type: what it asks for where it may share, else all of the node's. Resources
    whose name ends with `/gpu` are GPUs."""
    own = next((one.resources for one in cluster.spec.instance_types if one.name == kind), {})
    amounts = dict(requests) if share.shares(cluster, requests) else own
    return sum(int(units.parse(amount)) for name, amount in amounts.items() if name.endswith("/gpu"))


def exceeded(view: ClusterView, demand: Demand, taken: Taken, kind: str) -> Wait | None:
    """Why a gang's namespace may not have its nodes now; those behind it do not wait for that."""
    quota = view.quotas.get(demand.namespace)
    if quota is None:
        return None
    if (wait := _spent(quota, demand, taken, taken.prices.get(kind, 0.0))) is not None:
        return wait
    gpus = demand.count * gpus_of(view.cluster, kind, demand.requests)
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


def _spent(quota: Quota, demand: Demand, taken: Taken, price: float) -> Wait | None:
    """Why a gang whose nodes cost something gets none any more this month."""
    namespace, most = demand.namespace, quota.cost_per_month
    if most is None or not price:
        return None
    fix = f"raise spec.quota.costPerMonth of Workspace/default in {namespace}"
    if most <= 0:
        words = f"the job's nodes cost {demand.count * price:.2f} an hour and {namespace} may spend nothing"
        return Wait("LargerThanQuota", words, f"{fix}, or submit again to a pool without prices")
    spent = quota.cost_elsewhere + taken.spent.get(namespace, 0.0)
    if spent < most:
        return None
    until = times.rfc3339(times.month(taken.now)[1])
    return Wait(
        REACHED, f"jobs of {namespace} have cost {spent:.2f} of the {most:.2f} of this month (UTC); it ends at {until}",
        f"wait until {until}, or {fix}",
    )  # fmt: skip
