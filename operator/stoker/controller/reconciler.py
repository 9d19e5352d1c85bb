"""One key, once round: gather the view, make the plan, have it done, say when to look again."""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from typing import Any

from stoker.api import names
from stoker.api.trainingjob import FINISHED, TrainingJob, TrainingJobStatus
from stoker.controller.answers import Answers
from stoker.controller.builds import Builds
from stoker.controller.executor import Executor, Outcome
from stoker.controller.gate import Gate, NotLeading
from stoker.controller.ledger import Ledger
from stoker.controller.logs import WORKING_ON
from stoker.controller.metrics import Metrics
from stoker.controller.pools import Pools
from stoker.controller.views import Views
from stoker.controller.workspaces import Workspaces
from stoker.core import cluster as cluster_core
from stoker.core import trainingjob as trainingjob_core
from stoker.core import workspace as workspace_core
from stoker.core.environment import plan as environment_core
from stoker.core.environment import upkeep
from stoker.core.plan import Plan
from stoker.core.times import earliest
from stoker.core.trainingjob.attempts import finished
from stoker.core.trainingjob.queue import stands_in_queue
from stoker.core.trainingjob.view import JobView
from stoker.kube.errors import Conflict, KubeError, Unavailable
from stoker.kube.store import Key, Store
from stoker.kube.workqueue import WorkQueue
from stoker.nodepools.pool import PoolError, ReplicasChanged

LOG = logging.getLogger(__name__)

#: A pool's plan is one for all its jobs: changes that come together are planned together. The pause grows with what
#: the plan costs, so that planning pools takes at most about a tenth of the time.
CLUSTER_SECONDS, LONGEST_CLUSTER_SECONDS, CLUSTER_SHARE = 0.05, 1.0, 10
#: How long news may wait that changes nothing but words, in seconds.
LATER_SECONDS = 60.0
#: A ComputeCluster's status is written at most so often.
CLUSTER_STATUS_SECONDS = 1.0
#: A plan that learns something while it is done is made anew at once, but not for ever.
ROUNDS = 3


class Reconciler:
    """Works on keys until cancelled. Several of its `work` may run: the queue gives no key to two of them."""

    def __init__(
        self,
        store: Store,
        queue: WorkQueue,
        views: Views,
        pools: Pools,
        ledger: Ledger,
        answers: Answers,
        executor: Executor,
        workspaces: Workspaces,
        builds: Builds,
        gate: Gate,
        metrics: Metrics,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._store = store
        self._queue = queue
        self._views = views
        self._pools = pools
        self._ledger = ledger
        self._answers = answers
        self._executor = executor
        self._workspaces = workspaces
        self._builds = builds
        self._gate = gate
        self._metrics = metrics
        self._clock = clock
        self._uids: dict[Key, str] = {}
        self._cluster_status_at: dict[str, float] = {}
        self._cluster_pause = CLUSTER_SECONDS
        self._ways: dict[str, Callable[[Key], Awaitable[float | None]]] = {
            "TrainingJob": self._training_job,
            "Environment": self._environment,
            "ComputeCluster": self._compute_cluster,
            "Workspace": self._workspace,
            "Build": self._build,
        }
        self._seconds = {kind: metrics.reconcile_seconds.labels(kind) for kind in self._ways}

    def wake(self, key: Key) -> None:
        """Something new for this key."""
        self._queue.add(key, self._cluster_pause if key.kind == "ComputeCluster" else 0.0)

    def later(self, key: Key) -> None:
        """News for this key that may wait."""
        self._queue.add(key, LATER_SECONDS)

    async def work(self) -> None:
        """Take keys and work on them, for ever."""
        while True:
            # A plan that asks for nothing waits for nothing: without this, workers with much to do would let nobody in.
            await asyncio.sleep(0)
            await self._gate.wait()
            key = await self._queue.take()
            WORKING_ON.set(str(key))
            started = time.perf_counter()
            try:
                wake_at = await self._ways[key.kind](key)
            except (KubeError, PoolError, NotLeading) as error:
                self._failed(key, error)
            except Exception:
                # A defect must not stop the other jobs. It shows in the log, in the metrics, and in this job's standing.
                LOG.exception("cannot work on %s", key)
                self._metrics.reconcile_failures.labels(key.kind).inc()
                self._queue.failed(key)
            except asyncio.CancelledError:
                self._queue.done(key)
                raise
            else:
                self._queue.done(key, wake_at)
            self._seconds[key.kind].observe(time.perf_counter() - started)

    def _failed(self, key: Key, error: Exception) -> None:
        at_least = error.retry_after if isinstance(error, Unavailable) else 0.0
        delay = self._queue.failed(key, at_least)
        self._metrics.reconcile_failures.labels(key.kind).inc()
        # Someone was quicker: ordinary, and mended by looking again.
        expected = isinstance(error, (Conflict, ReplicasChanged, NotLeading))
        LOG.log(logging.INFO if expected else logging.WARNING, "%s: %s; again in %.1f s", key, error, delay)

    async def _training_job(self, key: Key) -> float | None:
        for left in reversed(range(ROUNDS)):
            view = self._views.job(key)
            if view is None:
                self._gone(key)
                return None
            uid = view.job.metadata.uid
            if self._uids.get(key) not in (None, uid):
                self._gone(key)
            self._uids[key] = uid
            now = self._clock()
            plan = trainingjob_core.plan(view, now)
            self._builds.planned(key, plan.builds, plan.actions)
            demand = trainingjob_core.demand(view, now) if may_want(view) else None
            self._ledger.want(uid, view.cluster.metadata.name if view.cluster is not None else "", demand)
            outcome = await self._executor.do(key, view.job, plan)
            if outcome.planned_anew and left:
                continue
            if outcome.status_written and plan.status is not None:
                self._note_end(view.job, plan.status)
            if self._is_finished(key):
                self._answers.forget(key)
            return _earliest(plan, outcome)
        return None

    def _is_finished(self, key: Key) -> bool:
        job: TrainingJob | None = self._store.get("TrainingJob", key.namespace, key.name)
        return job is not None and job.status.phase in FINISHED

    def _note_end(self, before: TrainingJob, status: TrainingJobStatus) -> None:
        """Count an end once: at the write that makes it. One that only shows what an earlier run came to is none."""
        if status.key and status.key != names.job_key(before.metadata.name, before.metadata.uid):
            return
        if before.status.phase in FINISHED or status.phase not in FINISHED:
            return
        self._metrics.jobs_finished.labels(status.phase, status.reason).inc()
        for phase, seconds in status.timings.items():
            self._metrics.phase_seconds.labels(phase).observe(seconds)

    async def _environment(self, key: Key) -> float | None:
        view = self._views.environment(key)
        if view is None:
            self._gone(key)
            return None
        plan = environment_core.plan(view, self._clock())
        self._builds.planned(key, plan.builds, plan.actions)
        outcome = await self._executor.do(key, view.environment, plan)
        # What was learned, such as that a Create was refused, is told at once.
        return self._clock() if outcome.planned_anew else _earliest(plan, outcome)

    async def _build(self, key: Key) -> float | None:
        view = self._builds.view(key)
        if not view.build.jobs:
            self._answers.forget(key)
            return None
        plan = upkeep.plan(view, self._clock())
        return _earliest(plan, await self._executor.do(key, None, plan))

    async def _workspace(self, key: Key) -> float | None:
        workspace = self._store.get(*key)
        if workspace is None:
            self._gone(key)
            return None
        view, answers = self._workspaces.view(key.namespace), self._answers.known_to(key)
        plan = workspace_core.plan(workspace, view, answers, self._clock())
        return _earliest(plan, await self._executor.do(key, workspace, plan))

    async def _compute_cluster(self, key: Key) -> float | None:
        view = await self._pools.view(key.name)
        if view is None:
            self._gone(key)
            self._ledger.drop_cluster(key.name)
            self._pools.forget(key.name)
            return None
        now = self._clock()
        # What it costs us, not how long it took beside others on a busy machine: those must not slow down the pools.
        started = time.thread_time()
        cluster_plan = cluster_core.plan(view, now)
        spent = time.thread_time() - started
        self._cluster_pause = min(max(CLUSTER_SECONDS, spent * CLUSTER_SHARE), LONGEST_CLUSTER_SECONDS)
        if cluster_plan.before:
            await self._executor.do(key, view.cluster, Plan(cluster_plan.before))
        self._ledger.planned(key.name, cluster_plan)
        self._metrics.pools.planned(view, cluster_plan, spent, now)
        plan = cluster_plan.plan
        due = self._cluster_status_at.get(key.name, 0.0)
        # An order to a provider waits for nothing: it is given once it stands in the status.
        orders = plan.status is not None and plan.status.intents != view.cluster.status.intents
        if plan.status is not None and now < due and not orders:
            plan = Plan(plan.actions, None, min(due, plan.wake_at or due))
        outcome = await self._executor.do(key, view.cluster, plan)
        if outcome.status_written:
            self._cluster_status_at[key.name] = self._clock() + CLUSTER_STATUS_SECONDS
        return earliest(_earliest(plan, outcome), self._pools.due(key.name))

    def _gone(self, key: Key) -> None:
        self._answers.forget(key)
        self._builds.forget(key)
        uid = self._uids.pop(key, None)
        if uid is not None:
            self._ledger.forget(uid)
            self._executor.forget(key, uid)
        self._cluster_status_at.pop(key.name, None)


def may_want(view: JobView) -> bool:
    """Whether it is worth asking what a job wants of its pool: not once it has ended or while an attempt is open.
    A child that is being deleted may take for ever where its node is dead: the next attempt does not wait for it."""
    over = (
        finished(child) or child.metadata.deletion_timestamp is not None or stands_in_queue(child)
        for child in view.children
    )
    return view.job.status.phase not in FINISHED and all(over)


def _earliest(plan: Plan[Any], outcome: Outcome) -> float | None:
    moments = [moment for moment in (plan.wake_at, outcome.look_again_at) if moment is not None]
    return min(moments, default=None)
