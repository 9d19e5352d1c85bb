"""Gathers what a plan rests on: everything comes out of the store and the answers, at one moment."""

from collections.abc import Iterable
from typing import TypeVar

from stoker.api.computecluster import ComputeCluster
from stoker.api.environment import Environment
from stoker.api.kube import BatchJob, Claim, Event, Node, Pod
from stoker.api.kueue import CHECK_CONTROLLER, AdmissionCheck, LocalQueue, Workload
from stoker.api.names import LABEL_COMPUTE, LABEL_SALVAGE, SERVERLESS, assignees, job_key
from stoker.api.trainingjob import TrainingJob
from stoker.controller.answers import Answers
from stoker.controller.builds import Builds
from stoker.controller.config import Config
from stoker.controller.ledger import Ledger
from stoker.controller.workspaces import Workspaces
from stoker.core import times
from stoker.core.environment.view import EnvironmentView
from stoker.core.plan import Answers as Known
from stoker.core.plan import Found, Recorded
from stoker.core.serverless import settled
from stoker.core.trainingjob.attempts import attempt_of, planned_nodes
from stoker.core.trainingjob.view import JobView, QueueView, Settings
from stoker.kube.store import Key, Store

T = TypeVar("T", BatchJob, Pod)


class Views:
    def __init__(
        self, store: Store, answers: Answers, ledger: Ledger, workspaces: Workspaces, builds: Builds, config: Config
    ) -> None:
        self._store = store
        self._answers = answers
        self._ledger = ledger
        self._workspaces = workspaces
        self._builds = builds
        self._kueue = config.kueue
        self._settings = Settings(
            agent_image=config.agent_image,
            server_url=config.server_url,
            pods_after_seconds=config.pods_after_seconds,
            image_pull_secrets=config.image_pull_secrets,
        )
        self._clusters: dict[str, tuple[str, ...]] = {}
        self._environments: dict[str, tuple[str, ...]] = {}
        store.listen(self._changed)

    def _changed(self, kind: str, old: object, new: object) -> None:
        if kind == "ComputeCluster":
            self._clusters.clear()
        elif kind == "Environment" and (old is None or new is None):
            self._environments.clear()

    def job(self, key: Key) -> JobView | None:
        """What the plan of a TrainingJob rests on; None if there is no such job."""
        job: TrainingJob | None = self._store.get("TrainingJob", key.namespace, key.name)
        if job is None:
            return None
        uid = job.metadata.uid
        workspace = self._workspaces.view(key.namespace)
        children, salvages = _apart(self._store.of_job("Job", uid))
        pods, salvage_pods = _apart(self._store.of_job("Pod", uid))
        claims: list[Claim] = self._store.of_job("PersistentVolumeClaim", uid)
        compute = job.spec.compute or workspace.defaults.compute
        command = job.spec.command
        named = command.environment.name if command is not None else None
        environment: Environment | None = self._store.get("Environment", key.namespace, named) if named else None
        answers = self._answers.known_to(key)
        choice = None
        if compute == SERVERLESS:
            begun = _begun(job, answers, (*children, *pods))
            choice = settled(job, self._store.all("ComputeCluster"), _platforms(job, environment), begun)
            compute = choice.compute
        return JobView(
            job=job,
            settings=self._settings,
            workspace=workspace,
            cluster=self._store.get("ComputeCluster", "", compute) if compute else None,
            choice=choice,
            environment=environment,
            clusters=self._cluster_names(key.namespace),
            environments=self._environment_names(key.namespace),
            placement=self._ledger.placement(uid, children),
            children=tuple(children),
            pods=tuple(pods),
            nodes=self._nodes(pods, children),
            events=self._events(children, pods),
            answers=answers,
            claims=tuple(claims),
            salvages=tuple(salvages),
            salvage_pods=tuple(salvage_pods),
            builds=self._builds.of(key.namespace),
            queues=self._queues(key.namespace, children) if self._kueue else None,
            assigned=self._assigned(uid),
        )

    def _queues(self, namespace: str, children: list[BatchJob]) -> QueueView:
        """What Kueue has that matters to a job: its namespace's queues, and the Workloads of its children."""
        local: list[LocalQueue] = self._store.within("LocalQueue", namespace)
        checks: list[AdmissionCheck] = list(self._store.all("AdmissionCheck"))
        workloads: dict[str, Workload] = {}
        for child in children:
            for workload in self._store.owned_by("Workload", child.metadata.uid):
                workloads[child.metadata.uid] = workload
        return QueueView(
            local={queue.metadata.name: queue for queue in local},
            cluster={queue.metadata.name: queue for queue in self._store.all("ClusterQueue")},
            checks=frozenset(one.metadata.name for one in checks if one.spec.controller_name == CHECK_CONTROLLER),
            classes=frozenset(one.metadata.name for one in self._store.all("WorkloadPriorityClass")),
            workloads=workloads,
        )

    def _assigned(self, uid: str) -> dict[int, tuple[str, ...]]:
        """Nodes that carry the label of an attempt of a job, by attempt."""
        found: dict[int, tuple[str, ...]] = {}
        for node in self._store.assigned_to(uid):
            for attempt in (number for owner, number in assignees(node.metadata.labels) if owner == uid):
                found[attempt] = (*found.get(attempt, ()), node.metadata.name)
        return found

    def environment(self, key: Key) -> EnvironmentView | None:
        """What the plan of an Environment rests on; None if there is no such environment."""
        environment: Environment | None = self._store.get("Environment", key.namespace, key.name)
        if environment is None:
            return None
        own = tuple(secret.name for secret in environment.spec.image_pull_secrets)
        workspace = self._workspaces.view(key.namespace)
        return EnvironmentView(
            environment=environment,
            platforms=self._platforms(key.namespace),
            pull_secrets=tuple(dict.fromkeys((*own, *workspace.image_pull_secrets))),
            answers=self._answers.known_to(key),
            default_image=workspace.defaults.image,
            means=workspace.means,
            builds=self._builds.of(key.namespace),
            used_at=self._used_at(key),
        )

    def _used_at(self, key: Key) -> float | None:
        """When a job that is there last started with an Environment."""
        jobs: list[TrainingJob] = self._store.within("TrainingJob", key.namespace)
        named = (job for job in jobs if job.spec.command and job.spec.command.environment.name == key.name)
        moments = (times.seconds(job.status.started_at) for job in named)
        return max((moment for moment in moments if moment is not None), default=None)

    def _nodes(self, pods: list[Pod], children: list[BatchJob]) -> dict[str, Node]:
        """The nodes of these pods, and while one has none yet those that its attempt was given."""
        names = {pod.spec.node_name for pod in pods if pod.spec.node_name}
        unplaced = {attempt_of(pod.metadata.labels) for pod in pods if not pod.spec.node_name}
        names |= {
            name for child in children if attempt_of(child.metadata.labels) in unplaced for name in planned_nodes(child)
        }
        found = ((name, self._store.get("Node", "", name)) for name in names)
        return {name: node for name, node in found if node is not None}

    def _events(self, children: list[BatchJob], pods: list[Pod]) -> tuple[Event, ...]:
        """The FailedCreate events of children that have no pod; others are of no interest."""
        with_pods = {owner.uid for pod in pods if (owner := pod.metadata.controller) is not None}
        bare = (child for child in children if child.metadata.uid not in with_pods)
        return tuple(event for child in bare for event in self._store.about(child.metadata.uid))

    def _allowed(self, namespace: str) -> list[ComputeCluster]:
        def open_to(cluster: ComputeCluster) -> bool:
            names = cluster.spec.allowed_namespaces.match_names
            return not names or namespace in names

        return [cluster for cluster in self._store.all("ComputeCluster") if open_to(cluster)]

    def _cluster_names(self, namespace: str) -> tuple[str, ...]:
        found = self._clusters.get(namespace)
        if found is None:
            found = tuple(sorted(cluster.metadata.name for cluster in self._allowed(namespace)))
            self._clusters[namespace] = found
        return found

    def _environment_names(self, namespace: str) -> tuple[str, ...]:
        found = self._environments.get(namespace)
        if found is None:
            every = self._store.within("Environment", namespace)
            found = self._environments[namespace] = tuple(sorted(one.metadata.name for one in every))
        return found

    def _platforms(self, namespace: str) -> tuple[str, ...]:
        kinds = (kind for cluster in self._allowed(namespace) for kind in cluster.spec.instance_types)
        return tuple(sorted({f"linux/{kind.architecture}" for kind in kinds})) or ("linux/amd64",)


def _begun(job: TrainingJob, answers: Known, parts: Iterable[BatchJob | Pod]) -> str:
    """The pool in which a job has an attempt, or for which its record was written; empty before."""
    newest = max(parts, key=lambda part: attempt_of(part.metadata.labels), default=None)
    if newest is not None:
        return newest.metadata.labels.get(LABEL_COMPUTE, "")
    if job.status.attempts:
        return job.status.compute
    recorded = answers.get(Recorded(job.metadata.namespace, job_key(job.metadata.name, job.metadata.uid)))
    return str(recorded.value.get("compute") or "") if isinstance(recorded, Found) else ""


def _platforms(job: TrainingJob, environment: Environment | None) -> tuple[str, ...]:
    """What the environment of a job says it is for; empty where it does not say."""
    own = job.spec.command.environment.spec if job.spec.command is not None else None
    spec = own or (environment.spec if environment is not None else None)
    return tuple(spec.platforms) if spec is not None else ()


def _apart(items: list[T]) -> tuple[list[T], list[T]]:
    """What belongs to attempts, and what saves the remains of one."""
    salvages = [item for item in items if LABEL_SALVAGE in item.metadata.labels]
    return [item for item in items if LABEL_SALVAGE not in item.metadata.labels], salvages
