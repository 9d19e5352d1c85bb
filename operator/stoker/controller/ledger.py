"""Who wants nodes of which pool, who has them, and what the pool's plan last said. In memory only.

What is durable is the child: its affinity names the nodes of its attempt. So after a restart everything here comes back
from children and pods, and from planning each job once.
"""

from collections.abc import Callable, Iterable
from dataclasses import replace

from stoker.api.kube import BatchJob, Pod
from stoker.api.names import assignees
from stoker.api.trainingjob import TrainingJob
from stoker.core.cluster import quota, usage
from stoker.core.cluster.assign import AHEAD, TURN
from stoker.core.cluster.view import ClusterPlan, Demand, Holding
from stoker.core.trainingjob import holdings
from stoker.core.trainingjob.attempts import attempt_of
from stoker.core.trainingjob.queue import stands_in_queue
from stoker.core.trainingjob.view import Placement
from stoker.kube.store import Key, Store


def cluster_key(name: str) -> Key:
    """The key under which a ComputeCluster is planned: one for all its jobs."""
    return Key("ComputeCluster", "", name)


#: Reasons whose words tell figures that change all the time.
_GROWING = frozenset({TURN, quota.REACHED, usage.REACHED})


class Ledger:
    """wake: told which key has something new to look at. later: the same, for news that may wait (missing: wake)."""

    def __init__(self, store: Store, wake: Callable[[Key], None], later: Callable[[Key], None] | None = None) -> None:
        self._store = store
        self._wake = wake
        self._later = later or wake
        self._demands: dict[str, dict[str, Demand]] = {}
        self._wanted_of: dict[str, str] = {}  # uid -> cluster
        self._placements: dict[str, tuple[int, str, Placement]] = {}  # uid -> attempt, cluster, placement
        self._held: dict[str, dict[str, tuple[Holding, ...]]] = {}  # cluster -> uid -> holdings
        self._held_of: dict[str, tuple[str, ...]] = {}  # uid -> clusters
        self._asked: dict[str, tuple[tuple[str, str], ...]] = {}  # uid -> requests, of jobs that have nodes
        self._queued: dict[str, set[int]] = {}  # uid -> attempts whose child waits in a queue
        self._stale: set[str] = set()
        self._last: dict[str, ClusterPlan] = {}

    # -- told by the planning of jobs

    def want(self, uid: str, cluster: str, demand: Demand | None) -> None:
        """What a job wants now; None ends its wish, and gives back nodes that it has not used."""
        former = self._wanted_of.get(uid)
        if former is not None and (demand is None or former != cluster):
            del self._wanted_of[uid]
            del self._demands[former][uid]
            self._placements.pop(uid, None)
            self._wake(cluster_key(former))
        if demand is None or not cluster:
            return
        demands = self._demands.setdefault(cluster, {})
        if demands.get(uid) != demand:
            demands[uid] = demand
            self._wanted_of[uid] = cluster
            self._wake(cluster_key(cluster))

    def forget(self, uid: str) -> None:
        """The job has gone; its pods may still be there and keep their nodes."""
        self.want(uid, "", None)

    def placement(self, uid: str, children: Iterable[BatchJob]) -> Placement | None:
        """What the pool's plan said of the job's next attempt, if it spoke already. children: the job's."""
        found = self._placements.get(uid)
        if found is None:
            return None
        attempt, cluster, placement = found
        demand = self._demands.get(cluster, {}).get(uid)
        # An attempt that has its child, or is not the one wanted, must not lend its nodes to the next.
        stale = demand is None or demand.attempt != attempt
        return None if stale or _used(attempt, children) else placement

    # -- told by the store

    def objects_changed(self, uid: str, cluster: str | None) -> None:
        """A child or pod of this job came, changed or went."""
        self._stale.add(uid)
        if cluster is not None:
            self._wake(cluster_key(cluster))

    # -- told and asked by the planning of clusters

    def demands(self, cluster: str) -> tuple[Demand, ...]:
        return tuple(self._demands.get(cluster, {}).values())

    def last(self, cluster: str) -> ClusterPlan | None:
        """What the pool's last plan said; None before its first."""
        return self._last.get(cluster)

    def holdings(self, cluster: str) -> tuple[Holding, ...]:
        """Nodes that attempts have: by children, by pods, and by assignments that have no child yet."""
        self._refresh()
        held = self._held.get(cluster, {})
        # Of a child that waits in a queue and still asks for nodes, what is labelled so far is not given yet.
        asking = {
            uid
            for uid, attempts in self._queued.items()
            if (demand := self._demands.get(cluster, {}).get(uid)) is not None and demand.attempt in attempts
        }
        found = [
            replace(holding, requests=self._requests(uid))
            for uid, one in held.items()
            for holding in one
            if uid not in asking or holding.attempt not in self._queued[uid]
        ]
        for uid, (attempt, of, placement) in self._placements.items():
            if of != cluster or not placement.granted:
                continue
            if uid in asking or not any(holding.attempt == attempt for holding in held.get(uid, ())):
                demand = self._demands[cluster][uid]
                found.append(
                    Holding(
                        uid,
                        attempt,
                        placement.nodes,
                        bound=False,
                        count=demand.count,
                        namespace=demand.namespace,
                        ahead=placement.message,
                        requests=demand.requests,
                    )
                )
        return tuple(found)

    def planned(self, cluster: str, plan: ClusterPlan) -> None:
        """Take over what the plan of a pool says, and wake the jobs for which it says something new."""
        self._last[cluster] = plan
        for uid, demand in self._demands.get(cluster, {}).items():
            placement = _placement(plan, uid, demand.attempt)
            if placement is None:
                continue
            told = (demand.attempt, cluster, placement)
            former = self._placements.get(uid)
            if former != told:
                self._placements[uid] = told
                # Each job that starts moves the whole line: two thousand plans for one node would keep all others waiting.
                wake = self._later if _still_waits(former, told) else self._wake
                wake(Key("TrainingJob", demand.namespace, demand.name))

    def drop_cluster(self, cluster: str) -> None:
        """The pool has gone: nobody is placed there any more. The wishes stay, should it come again."""
        self._last.pop(cluster, None)
        for uid in self._demands.get(cluster, {}):
            self._placements.pop(uid, None)

    def _refresh(self) -> None:
        for uid in self._stale:
            children: list[BatchJob] = self._store.of_job("Job", uid)
            pods: list[Pod] = self._store.of_job("Pod", uid)
            for cluster in self._held_of.pop(uid, ()):
                self._held[cluster].pop(uid, None)
            self._queued.pop(uid, None)
            if queued := {attempt_of(one.metadata.labels) for one in children if stands_in_queue(one)}:
                self._queued[uid] = queued
            found = holdings(children, pods, self._assigned(uid))
            if found:
                self._held_of[uid] = tuple(found)
            else:
                self._asked.pop(uid, None)
            for cluster, held in found.items():
                self._held.setdefault(cluster, {})[uid] = held
            self._drop_used(uid, children)
        self._stale.clear()

    def _requests(self, uid: str) -> tuple[tuple[str, str], ...]:
        """What a job with nodes asks for; a job that has gone may still have pods."""
        job: TrainingJob | None = self._store.by_uid(uid)
        if job is None or job.spec.command is None:
            return self._asked.get(uid, ())
        self._asked[uid] = asked = tuple(sorted(job.spec.command.resources.requests.items()))
        return asked

    def _assigned(self, uid: str) -> dict[tuple[str, int], tuple[str, ...]]:
        """The nodes that carry the label of an attempt of this job."""
        nodes: dict[tuple[str, int], tuple[str, ...]] = {}
        for node in self._store.assigned_to(uid):
            for key in assignees(node.metadata.labels):
                nodes[key] = (*nodes.get(key, ()), node.metadata.name)
        return nodes

    def _drop_used(self, uid: str, children: list[BatchJob]) -> None:
        """An assignment whose child is there has done its work: the child says it from now on."""
        placed = self._placements.get(uid)
        if placed is not None and _used(placed[0], children):
            del self._placements[uid]


def _still_waits(former: tuple[int, str, Placement] | None, told: tuple[int, str, Placement]) -> bool:
    """Whether a job waits as before, and only a figure is another: its place in the line, or what was spent."""
    if former is None or former[:2] != told[:2]:
        return False
    return former[2].reason == told[2].reason and told[2].reason in _GROWING


def _used(attempt: int, children: Iterable[BatchJob]) -> bool:
    return any(
        number > attempt or (number == attempt and not stands_in_queue(child))
        for child in children
        if (number := attempt_of(child.metadata.labels))
    )


def _placement(plan: ClusterPlan, uid: str, attempt: int) -> Placement | None:
    nodes = plan.assignments.get((uid, attempt))
    if nodes is not None:
        ahead = plan.ahead.get((uid, attempt), "")
        return Placement(granted=True, nodes=nodes, reason=AHEAD if ahead else "", message=ahead)
    wait = plan.waits.get((uid, attempt))
    return Placement(reason=wait.reason, message=wait.message, fix=wait.fix) if wait is not None else None
