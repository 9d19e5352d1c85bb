"""`compute: serverless`: which pool a job gets that names none, and why.

The cheapest machine of a pool that the namespace may use and that fits what the job asks for. Never one with devices, a Spot
machine or another architecture unless that is asked for: by resources.requests, by naming the instanceType, by the
environment's platforms.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from fractions import Fraction

from stoker.api.common import PodShape
from stoker.api.computecluster import ComputeCluster, InstanceType
from stoker.api.names import FINISHED, SERVERLESS
from stoker.api.trainingjob import CommandJob, TrainingJob
from stoker.core import podrequests, podshape, podspec, units
from stoker.core.cluster.stock import kinds_for
from stoker.core.cluster.usage import amount

#: Pools that a message names; the rest are counted.
_MOST_NAMED = 12
_ARCH = "kubernetes.io/arch"
#: Where nobody asks any more why a run is not elsewhere.
_UNDER_WAY = frozenset({"Running", "Finalizing", *FINISHED})


@dataclass(frozen=True, slots=True)
class Choice:
    """The pool and the type of its machines; empty where none fits. message: why this one. rejected: the other pools, and
    why not, by name."""

    compute: str = ""
    instance_type: str = ""
    message: str = ""
    rejected: Mapping[str, str] = field(default_factory=dict)

    def why_none(self) -> str:
        """Each pool with what it lacks, for people."""
        named = [f"{name}: {why}" for name, why in self.rejected.items()][:_MOST_NAMED]
        more = len(self.rejected) - len(named)
        return "; ".join([*named, *([f"and {more} more"] if more > 0 else [])]) or "there is none"


@dataclass(frozen=True, slots=True)
class _Offer:
    """A type of a pool that fits. price: of all the job's nodes, an hour. place: among the pool's types."""

    price: float
    cluster: ComputeCluster
    place: int
    kind: InstanceType

    @property
    def order(self) -> tuple[float, str, int]:
        return self.price, self.cluster.metadata.name, self.place


def choose(
    command: CommandJob, namespace: str, clusters: Iterable[ComputeCluster], platforms: Iterable[str] = ()
) -> Choice:
    """The cheapest of these pools that fits. platforms: what the job's environment is for; none: linux/amd64."""
    offers: list[_Offer] = []
    rejected: dict[str, str] = {}
    wanted = tuple(platforms) or ("linux/amd64",)
    for cluster in sorted(clusters, key=lambda one: one.metadata.name):
        why = closed_to(cluster, namespace) or _unfit(cluster, command)
        if why is None:
            found, why = _offers(cluster, command, wanted)
            offers += found
            if found:
                continue
        rejected[cluster.metadata.name] = why
    if not offers:
        return Choice(rejected=rejected)
    best, *others = sorted(offers, key=lambda one: one.order)
    fitting = {_name(one) for one in offers}
    for other in others:
        if _name(other) not in (_name(best), *rejected):
            rejected[_name(other)] = (
                f"costs {_cost(other)}"
                if other.price > best.price
                else f"costs the same; {_name(best)} is first by name"
            )
    words = f"{_name(best)} with type {best.kind.name}, {_cost(best)}: {_rank(len(fitting), len(rejected) + 1)}"
    return Choice(_name(best), best.kind.name, words, dict(sorted(rejected.items())))


def settled(
    job: TrainingJob, clusters: Iterable[ComputeCluster], platforms: Iterable[str] = (), begun: str = ""
) -> Choice:
    """What was chosen for a job, or is now. begun: the pool in which it has an attempt or for which its record was written:
    it stays there. Before that it stays where its status says, as long as that pool takes it."""
    if job.spec.command is None:
        return Choice()
    every, namespace, told = list(clusters), job.metadata.namespace, job.status.compute_choice
    kept = begun or (job.status.compute if told is not None else "")
    own = next((one for one in every if one.metadata.name == kept), None)
    if not begun and (own is None or closed_to(own, namespace) is not None):
        return choose(job.spec.command, namespace, every, platforms)
    if told is not None and job.status.compute != kept:
        told = None
    if told is not None and job.status.phase in _UNDER_WAY:
        return Choice(kept, told.instance_type, told.message)
    now = choose(job.spec.command, namespace, every, platforms)
    if told is None and now.compute == kept:
        return now
    rejected = {name: why for name, why in now.rejected.items() if name != kept}
    if now.compute not in ("", kept):
        rejected[now.compute] = "it would be chosen by now, and the run stays where it is"
    if told is not None:
        return Choice(kept, told.instance_type, told.message, rejected)
    kind = choose(job.spec.command, namespace, [own] if own is not None else (), platforms).instance_type
    return Choice(kept, kind, f"{kept} was chosen when the run was recorded", rejected)


def closed_to(cluster: ComputeCluster, namespace: str) -> str | None:
    """Why a pool takes nobody of a namespace."""
    names = cluster.spec.allowed_namespaces.match_names
    if names and namespace not in names:
        return f"namespace {namespace} may not use it"
    if cluster.metadata.deletion_timestamp is not None:
        return "it is being deleted"
    return "it is paused" if cluster.spec.paused else None


def _unfit(cluster: ComputeCluster, command: CommandJob) -> str | None:
    """What keeps every machine of a pool from a job."""
    count, most = command.resources.instance_count, cluster.spec.max_instances
    if count > most:
        return f"it may have {most} nodes and the job needs {count}"
    shape = podshape.merged(command.pod, cluster.spec.pod_defaults)
    if podshape.wants_root(shape) and not cluster.spec.allow_root_pods:
        return "it does not allow root"
    return None


def _offers(cluster: ComputeCluster, command: CommandJob, platforms: tuple[str, ...]) -> tuple[list[_Offer], str]:
    """The types of a pool that fit, and why the others do not."""
    found, reasons = [], []
    for place, kind in enumerate(cluster.spec.instance_types):
        if (why := next(_against(cluster, kind, command, platforms), None)) is None:
            price = (amount(kind.price_per_hour) or 0.0) * command.resources.instance_count
            found.append(_Offer(price, cluster, place, kind))
        else:
            reasons.append(f"type {kind.name} {why}")
    return found, ", ".join(dict.fromkeys(reasons))


def _against(
    cluster: ComputeCluster, kind: InstanceType, command: CommandJob, platforms: tuple[str, ...]
) -> Iterator[str]:
    """What speaks against a type, the first first."""
    asked = command.resources.instance_type
    if asked is not None and kind.name != asked:
        yield f"is not {asked}"
    wanted = _architectures(command.pod, cluster, platforms)
    if kind.architecture not in wanted:
        yield f"is {kind.architecture}, not {' or '.join(wanted)}"
    if over := _over(cluster, kind, command):
        yield f"offers less than the pods ask for: {over}"
    # Where its machines cannot be had, a pool may take others of its own instead.
    for one in (kind, *_instead(cluster, kind)):
        role = "" if one is kind else f"may become {one.name}, which "
        if one.tier == "Spot" and not (asked is not None and kind.tier == "Spot"):
            yield f"{role}is Spot, which nobody asked for"
        if devices := _devices(one, command):
            yield f"{role}has {', '.join(devices)}, which nobody asked for"


def _instead(cluster: ComputeCluster, kind: InstanceType) -> Iterator[InstanceType]:
    """The types that a job which was given this one may end up on."""
    return (one for one in kinds_for(cluster, kind.name, float("inf")) if one.name != kind.name)


def _devices(kind: InstanceType, command: CommandJob) -> list[str]:
    """Devices of a type that nobody asked for. Who asks for one, or names the type, takes what comes with it."""
    resources = command.resources
    if resources.instance_type is not None or any(map(units.is_extended, resources.requests)):
        return []
    return sorted(name for name in kind.resources if units.is_extended(name))


def _over(cluster: ComputeCluster, kind: InstanceType, command: CommandJob) -> str:
    """What a pod asks for beyond what a node of a type offers."""
    requests = command.resources.requests
    if not requests:
        return ""
    shared = cluster.spec.sharing == "Requests" and cluster.spec.provider.owns_nodes
    reserve = podrequests.amounts(cluster.spec.node_reserve) if shared else {}
    offered = podrequests.amounts(kind.resources)
    pod = podspec.pod_requests(requests)
    # What runs beside the command asks for a little that a type may not list.
    parts = []
    for name in sorted(requests):
        most = offered.get(name, Fraction(0)) - reserve.get(name, Fraction(0))
        if pod[name] > most:
            parts.append(f"{name} {units.quantity(name, max(most, Fraction(0)))} of {units.quantity(name, pod[name])}")
    return ", ".join(parts)


def _architectures(pod: PodShape | None, cluster: ComputeCluster, platforms: tuple[str, ...]) -> tuple[str, ...]:
    selected = podshape.merged(pod, cluster.spec.pod_defaults).node_selector.get(_ARCH)
    return (selected,) if selected is not None else tuple(one.rpartition("/")[2] for one in platforms)


def _rank(fitting: int, there: int) -> str:
    if there == 1:
        return "the only pool there is"
    return (
        f"the only one of {there} pools that fits"
        if fitting == 1
        else f"the cheapest of {fitting} of {there} pools that fit"
    )


def _cost(offer: _Offer) -> str:
    if offer.kind.price_per_hour is None:
        return "without a price"
    return f"{offer.price:.2f} an hour"


def _name(offer: _Offer) -> str:
    return offer.cluster.metadata.name


__all__ = ["SERVERLESS", "Choice", "choose", "closed_to"]
