"""Which keys have to be looked at again when something in the store changes."""

from collections.abc import Callable, Iterable
from typing import Any

from stoker.api.environment import Environment
from stoker.api.kube import Claim, Node, Pod
from stoker.api.kueue import Workload
from stoker.api.names import LABEL_COMPUTE, LABEL_JOB_UID, LABEL_SCRUB, assignees
from stoker.api.trainingjob import FINISHED, TrainingJob
from stoker.controller.ledger import Ledger, cluster_key
from stoker.kube.store import Key, Store

#: Told of a key, and whether it may wait a moment for more to come together.
Wake = Callable[[Key], None]


class Routes:
    """Listens to the store. pools_of: the names of the pools that a node belongs to."""

    def __init__(self, store: Store, ledger: Ledger, wake: Wake, pools_of: Callable[[Node], Iterable[str]]) -> None:
        self._store = store
        self._ledger = ledger
        self._wake = wake
        self._pools_of = pools_of
        self._ways: dict[str, Callable[[Any, Any], None]] = {
            "TrainingJob": self._training_job,
            "Environment": self._environment,
            "ComputeCluster": self._cluster,
            "Workspace": self._workspace,
            "Job": self._part_of_job,
            "Pod": self._pod,
            "PersistentVolumeClaim": self._claim,
            "Event": self._event,
            "Node": self._node,
            "Workload": self._workload,
            "LocalQueue": self._queue,
            "ClusterQueue": self._queue,
            "AdmissionCheck": self._queue,
            "WorkloadPriorityClass": self._queue,
        }
        store.listen(self._changed)

    def _changed(self, kind: str, old: Any, new: Any) -> None:
        way = self._ways.get(kind)
        if way is not None:
            way(old, new)

    def _own(self, old: Any, new: Any) -> None:
        meta = (new or old).metadata
        self._wake(Key("TrainingJob", meta.namespace, meta.name))

    def _training_job(self, old: TrainingJob | None, new: TrainingJob | None) -> None:
        self._own(old, new)
        command = new.spec.command if new is not None else None
        # It has used its Environment from its start on.
        begun = new is not None and (old is None or old.status.started_at != new.status.started_at)
        if begun and new is not None and new.status.started_at and command is not None and command.environment.name:
            self._wake(Key("Environment", new.metadata.namespace, command.environment.name))

    def _part_of_job(self, old: Any, new: Any) -> None:
        """A child or pod: its job, and its pool, whose nodes it takes or gives back."""
        if old is not new and old is not None and new is not None and _same_part(old, new):
            return
        labels = (new or old).metadata.labels
        uid = labels.get(LABEL_JOB_UID)
        if uid is None:
            return
        self._ledger.objects_changed(uid, labels.get(LABEL_COMPUTE) if _matters_to_pool(old, new) else None)
        job = self._store.by_uid(uid)
        if isinstance(job, TrainingJob):
            self._wake(Key("TrainingJob", job.metadata.namespace, job.metadata.name))

    def _pod(self, old: Pod | None, new: Pod | None) -> None:
        pod = new or old
        pool = pod.metadata.labels.get(LABEL_SCRUB) if pod is not None else None
        if pool is not None:
            self._wake(cluster_key(pool))
        else:
            self._part_of_job(old, new)

    def _claim(self, old: Claim | None, new: Claim | None) -> None:
        """A scratch claim: its job."""
        claim = new or old
        job = self._store.by_uid(claim.metadata.labels.get(LABEL_JOB_UID, "")) if claim is not None else None
        if isinstance(job, TrainingJob):
            self._wake(Key("TrainingJob", job.metadata.namespace, job.metadata.name))

    def _event(self, old: Any, new: Any) -> None:
        if new is None:
            return
        child = self._store.by_uid(new.involved_object.uid)
        if child is not None:
            self._part_of_job(child, child)

    def _workload(self, old: Workload | None, new: Workload | None) -> None:
        """Kueue's record of a child: its job."""
        workload = new or old
        owners = workload.metadata.owner_references if workload is not None else ()
        for child in (self._store.by_uid(owner.uid) for owner in owners):
            if child is not None and LABEL_JOB_UID in child.metadata.labels:
                self._part_of_job(child, child)

    def _queue(self, old: Any, new: Any) -> None:
        """What decides whether jobs may go to their queues, and why they wait there."""
        if _same_spec(old, new) and _same_facts(old, new):
            return
        for job in self._unfinished(self._store.all("TrainingJob")):
            self._own(None, job)

    def _node(self, old: Node | None, new: Node | None) -> None:
        if old is not None and new is not None and _same_node(old, new):
            return
        pools = {name for node in (old, new) if node is not None for name in self._pools_of(node)}
        self._assigned(old, new, pools)
        for name in pools:
            self._wake(cluster_key(name))
        if old is not None:
            for pod in self._store.on_node(old.metadata.name):
                self._part_of_job(pod, pod)

    def _assigned(self, old: Node | None, new: Node | None, pools: Iterable[str]) -> None:
        """A node that was labelled as an attempt's, or is no more: its job, and who has what."""
        before, after = (assignees(node.metadata.labels) if node is not None else frozenset() for node in (old, new))
        for uid in {uid for uid, _ in before ^ after}:
            for pool in pools:
                self._ledger.objects_changed(uid, pool)
            job = self._store.by_uid(uid)
            if isinstance(job, TrainingJob):
                self._own(None, job)

    def _environment(self, old: Any, new: Any) -> None:
        meta = (new or old).metadata
        self._wake(Key("Environment", meta.namespace, meta.name))
        # Its base is found once for all its jobs, and stands in its status.
        if _same_spec(old, new) and _bases(old) == _bases(new):
            return
        for job in self._unfinished(self._store.within("TrainingJob", meta.namespace)):
            command = job.spec.command
            if command is not None and command.environment.name == meta.name:
                self._own(None, job)

    def _cluster(self, old: Any, new: Any) -> None:
        meta = (new or old).metadata
        self._wake(cluster_key(meta.name))
        if _same_spec(old, new):
            return
        # Also the jobs that name another: what they may choose from is part of their messages.
        for job in self._unfinished(self._store.all("TrainingJob")):
            self._own(None, job)
        for environment in self._store.all("Environment"):
            self._wake(Key("Environment", environment.metadata.namespace, environment.metadata.name))

    def _workspace(self, old: Any, new: Any) -> None:
        meta = (new or old).metadata
        self._wake(Key("Workspace", meta.namespace, meta.name))
        if _same_spec(old, new):
            return
        for job in self._unfinished(self._store.within("TrainingJob", meta.namespace)):
            self._own(None, job)
        for environment in self._store.within("Environment", meta.namespace):
            self._wake(Key("Environment", meta.namespace, environment.metadata.name))
        # Whose storage a URL is may have changed for the other Workspaces.
        for workspace in self._store.all("Workspace"):
            self._wake(Key("Workspace", workspace.metadata.namespace, workspace.metadata.name))
        # Its weight may have changed who comes next, on every pool.
        for cluster in self._store.all("ComputeCluster"):
            self._wake(cluster_key(cluster.metadata.name))

    @staticmethod
    def _unfinished(jobs: Iterable[TrainingJob]) -> list[TrainingJob]:
        return [job for job in jobs if job.status.phase not in FINISHED]


def _same_spec(old: Any, new: Any) -> bool:
    if old is None or new is None:
        return False
    return bool(getattr(old, "spec", None) == getattr(new, "spec", None))


def _same_facts(old: Any, new: Any) -> bool:
    """Whether what conditions say is the same; some kinds have no status that we read."""
    before, after = (getattr(one, "status", None) for one in (old, new))
    return before is None or after is None or bool(before.conditions == after.conditions)


def _bases(environment: Environment) -> tuple[tuple[str, str], ...]:
    return tuple((image.platform, image.base) for image in environment.status.images)


def _same_node(old: Node, new: Node) -> bool:
    """Whether a node's change is a heartbeat only."""
    before, after = old.metadata, new.metadata
    return (
        old.spec == new.spec
        and old.status == new.status
        and before.labels == after.labels
        and before.annotations == after.annotations
        and before.deletion_timestamp == after.deletion_timestamp
    )


def _same_part(old: Any, new: Any) -> bool:
    """Whether nothing has changed that a plan looks at: a Job's counters and a pod's annotations are not."""
    before, after = old.metadata, new.metadata
    if before.deletion_timestamp != after.deletion_timestamp or before.labels != after.labels:
        return False
    if hasattr(new.spec, "node_name"):
        return bool(old.spec == new.spec and old.status == new.status)
    return bool(old.spec == new.spec and old.status.conditions == new.status.conditions)


def _matters_to_pool(old: Any, new: Any) -> bool:
    """Whether a change of a child or pod may change who has which nodes: coming, going, ending, being placed."""
    if old is None or new is None:
        return True
    if old.metadata.deletion_timestamp != new.metadata.deletion_timestamp:
        return True
    if hasattr(new.spec, "node_name"):
        return bool(old.spec.node_name != new.spec.node_name or old.status.phase != new.status.phase)
    return bool(old.status.conditions != new.status.conditions or old.spec.suspend != new.spec.suspend)
